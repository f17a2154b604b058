import { once } from 'node:events'
import { rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, expect, it } from 'vitest'
import { whole } from '../whole.js'
import { git, startDeployment, until, type ConsumerProcessOptions, type Deployment } from './deployment.js'
import { endingProvider } from './ending-provider.js'

type Point = NonNullable<ConsumerProcessOptions['freezeIn']>
/**
 * Where a consumer dies while a job of its moves to another sandbox: before that call, or when it was made and nobody heard the answer. CI tries it with all
 * saved and nothing restored; a creation of which nobody heard it has in hand-over-phases.test.ts, and that one is still to be killed where kills fail, in
 * reaper.test.ts and frozen-consumer.test.ts.
 */
const points: readonly Point[] = [
  { call: 'clone', nth: 2 },
  ...(whole ? [{ call: 'create', nth: 2, after: true }, { call: 'kill', nth: 1 }, { call: 'stop', nth: 1, after: true }, { call: 'push-checkpoint', nth: 1, after: true }] : []),
  ...(process.env['SWITCHYARD_SOAK'] === '1'
    ? [{ call: 'create', nth: 2 }, { call: 'probe', nth: 2 }, { call: 'stop', nth: 1 }, { call: 'checkpoint', nth: 1 }, { call: 'clone', nth: 2, after: true }]
    : []),
]

let deployment: Deployment
afterEach(async () => await deployment.close())

// Every exit code that comes after TERM is the agent's way to end, whatever it is.
const agent = {
  name: 'agent',
  run: "trap 'echo last > last.txt; exit 7' TERM; mkdir -p ~/.agent; echo \"turn 1 of attempt $SWITCHYARD_ATTEMPT\" >> ~/.agent/s.jsonl; echo one > one.txt; echo began; while :; do sleep 0.1; done",
  resume: 'echo "turn 2 of attempt $SWITCHYARD_ATTEMPT, resumed $SWITCHYARD_RESUMED" >> ~/.agent/s.jsonl; cp ~/.agent/s.jsonl session.txt',
}

it('a consumer that is killed anywhere in a planned move loses nothing of the job and leaves nothing behind', { timeout: 300_000 }, async () => {
  deployment = await startDeployment({ limits: [10, 20] })
  await deployment.seed('acme/web', { 'README.md': 'hello\n' })
  const endFile = join(deployment.dir, 'ends')
  const settings = { sandboxLifetimeMs: 3_000, readWaitMs: 500, plannedMoveMs: 240_000 }
  const doomed = await Promise.all(points.map((freezeIn) => deployment.startConsumerProcess({ freezeIn, endFile, settings: { ...settings, maxJobs: 1 } })))
  const frozen = doomed.map((child) => new Promise<void>((resolve) => child.on('message', (message: unknown) => typeof message === 'object' && message !== null && 'freezing' in message && resolve())))
  const jobs = await deployment.queue.enqueueMany(
    points.map((_point, number) => ({ repository: 'acme/web', metadata: { number }, steps: [agent, 'cat one.txt last.txt'], checkpoint: { everySeconds: 3_600, paths: ['~/.agent'] }, timeout: '10m' })),
  )
  await until('all to be at work', async () => (await Promise.all(jobs.map(async (job) => (await job.status()).step))).every((step) => step?.startsWith('1/')), 120_000)
  for (const job of jobs) for await (const line of job.logs({ follow: true })) if (line.text.includes('began')) break
  // The move begins a third of a sandbox's time before its end, and is late half of that before it.
  await writeFile(`${endFile}.new`, String(Date.now() + 120_000))
  await rename(`${endFile}.new`, endFile)
  await Promise.all(frozen)
  for (const child of doomed) {
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  const providers = deployment.providers.map((provider, index) => ({ provider: endingProvider(provider, endFile), limit: { sandboxes: [10, 20][index]! } }))
  // Nobody else reaps here: what a create has made of which nobody heard is found at once, not within minutes.
  await deployment.startConsumer({ providers, settings: { ...settings, reapIntervalMs: 1_000, reapGraceMs: 0 } })
  for (const job of jobs) {
    const result = await job.result({ timeoutMs: 120_000 })
    let log = ''
    for await (const line of job.logs()) log += line.text
    expect(result, log).toMatchObject({
      status: 'succeeded',
      error: null,
      attempts: [{ outcome: 'moved', error: null }, { outcome: 'succeeded' }],
      steps: [{ name: 'agent', exitCode: 0 }, { exitCode: 0, stdoutTail: 'one\nlast\n' }],
      unsaved: [],
    })
    const folder = await deployment.checkout('acme/web', result.branch!, true)
    expect(await git(folder, 'show', 'HEAD:session.txt')).toBe('turn 1 of attempt 1\nturn 2 of attempt 2, resumed 1')
    expect(log.split('began')).toHaveLength(2)
  }
  await until('the places are free', async () => (await deployment.queue.providers()).every(({ used }) => used === 0))
  for (const provider of deployment.providers) for await (const left of provider.list({}, { timeoutMs: 10_000 })) expect(left).toBeUndefined()
})
