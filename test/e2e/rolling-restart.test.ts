import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { afterEach, expect, it } from 'vitest'
import { startDeployment, until, type Deployment } from './deployment.js'

let deployment: Deployment
afterEach(() => deployment.close())

const jobs = 20
const lines = 60
const step = `echo began; i=0; while [ $i -lt ${lines} ]; do i=$((i+1)); echo "out $i"; echo "err $i" >&2; sleep 0.5; done; echo x >> runs.txt; cat runs.txt`
const numbered = (stream: string) => Array.from({ length: lines }, (_, index) => `${stream} ${index + 1}\n`).join('')

it('a rolling restart of all consumers under load, twice, restarts nothing', async () => {
  deployment = await startDeployment({ limits: [jobs] })
  await deployment.seed('acme/web', { 'README.md': 'hello\n' })
  // A machine that is busy with everything else must not make a lease run out.
  const settings = { leaseMs: 10_000, stallCheckMs: 1_000 }
  let fleet = await Promise.all([1, 2, 3].map(() => deployment.startConsumerProcess({ settings })))
  const handles = await deployment.queue.enqueueMany(Array.from({ length: jobs }, () => ({ repository: 'acme/web', steps: [step] })))
  const inSteps = async () => (await Promise.all(handles.map((handle) => handle.status()))).filter(({ phase }) => phase === 'steps').length
  await until('most jobs in their steps', async () => (await inSteps()) > jobs / 2, 60_000)
  for (let round = 0; round < 2; round++) {
    const next: ChildProcess[] = []
    for (const consumer of fleet) {
      // The next one is there before the old one goes, as an orchestrator does it.
      next.push(await deployment.startConsumerProcess({ settings }))
      consumer.kill('SIGTERM')
      await once(consumer, 'exit')
      expect(consumer.exitCode).toBe(0)
    }
    fleet = next
  }
  for (const handle of handles) {
    expect(await handle.result({ timeoutMs: 120_000 })).toMatchObject({ status: 'succeeded', attempts: [{ outcome: 'succeeded' }], diff: { additions: 1 } })
    const text = { stdout: '', stderr: '', system: '' }
    for await (const line of handle.logs({ follow: false })) text[line.stream] += line.text
    expect(text.stdout).toBe(`began\n${numbered('out')}x\n`)
    expect(text.stderr).toBe(numbered('err'))
  }
}, 300_000)
