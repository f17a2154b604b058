import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { JobSpecInput } from '../../src/job/spec.js'
import type { JobHandle } from '../../src/producers/job-handle.js'
import { startDeployment, until, type Deployment } from './deployment.js'

let deployment: Deployment
beforeEach(async () => {
  deployment = await startDeployment({ limits: [3, 3] })
  await deployment.seed('acme/web', { 'README.md': 'hello\n' })
}, 300_000)
afterEach(() => deployment.close(), 120_000)

const key = 'acme/web:main'
const enqueue = (then: NonNullable<JobSpecInput['concurrency']>['then'], step: string, more: Partial<JobSpecInput> = {}) =>
  deployment.queue.enqueue({ repository: 'acme/web', steps: [step], promote: { to: 'main' }, concurrency: { key, then }, ...more })
const isInStep = (job: JobHandle) => async () => (await job.status()).step !== null
/** The end of a step that lasts until `letGo`. */
const held = 'while [ ! -e "$HOME/go" ]; do sleep 0.1; done'
async function letGo(job: JobHandle): Promise<void> {
  const { provider, sandboxId } = await job.status()
  await deployment.providers.find(({ name }) => name === provider)!.exec(sandboxId!, { script: ': > "$HOME/go"' }, { timeoutMs: 20_000 })
}
const headOf = (name: string, ephemeral: boolean) => deployment.host.branchHead('acme/web', { name, ephemeral }, { timeoutMs: 10_000 })

describe('jobs of one key', { timeout: 240_000 }, () => {
  it('never work at one branch at once, whichever consumers take them, and say what they wait for', async () => {
    await Promise.all([deployment.startConsumer(), deployment.startConsumer()])
    const first = await enqueue('wait', `echo 0 >> log; ${held}`)
    await until('the first is in its step', isInStep(first), 100_000)
    const others = await Promise.all([1, 2].map((number) => enqueue('wait', `echo ${number} >> log`)))
    const [second] = others
    const reason = `waiting for the concurrency key "${key}": job ${first.jobId} has it (1 of at most 1)`
    expect((await second?.status())?.reason).toBe(reason)
    expect((await deployment.queue.list({ state: 'waiting' })).find(({ jobId }) => jobId === second?.jobId)?.reason).toBe(reason)
    await letGo(first)
    // Each builds on what the one before has promoted: at once, they would be conflicts.
    const results = await Promise.all([first, ...others].map((job) => job.result({ timeoutMs: 200_000 })))
    expect(results.map(({ status }) => status)).toEqual(Array(3).fill('succeeded'))
    const bases = results.map(({ baseSha }) => baseSha)
    expect(new Set(bases).size).toBe(3)
    expect(results.map(({ promoted }) => promoted?.sha)).toEqual(expect.arrayContaining(bases.slice(1)))
  })

  it('are not let go by the death of a consumer, and the key goes on once the job has ended', async () => {
    const doomed = await deployment.startConsumerProcess()
    const first = await enqueue('wait', `echo 0 >> log; ${held}`)
    await until('the first is in its step', isInStep(first), 100_000)
    const second = await enqueue('wait', 'echo 1 >> log')
    doomed.kill('SIGKILL')
    await letGo(first)
    await deployment.startConsumer()
    const [before, after] = await Promise.all([first.result({ timeoutMs: 200_000 }), second.result({ timeoutMs: 200_000 })])
    expect([before.status, after.status]).toEqual(['succeeded', 'succeeded'])
    expect(after.baseSha).toBe(before.promoted?.sha)
  })
})

describe('a newer job takes the key', { timeout: 240_000 }, () => {
  it('and from then on the one before can neither push to its branch nor promote, though its consumer was frozen and has its lease', async () => {
    const frozen = await deployment.startConsumerProcess({ settings: { leaseMs: 60_000 } })
    const older = await enqueue('cancel-running', `echo older > file; ${held}`)
    await until('the older one is in its step', isInStep(older), 100_000)
    frozen.kill('SIGSTOP')
    await deployment.startConsumer({ settings: { leaseMs: 60_000 } })
    const newer = await enqueue('cancel-running', 'echo newer > file')
    const result = await newer.result({ timeoutMs: 200_000 })
    expect(result).toMatchObject({ status: 'succeeded', promoted: { to: 'main' } })
    await letGo(older)
    frozen.kill('SIGCONT')
    expect(await older.result({ timeoutMs: 200_000 })).toMatchObject({ status: 'cancelled', error: { kind: 'cancelled', message: `superseded by job ${newer.jobId}`, code: 'SWY_SUPERSEDED' }, promoted: null })
    expect(await headOf('main', false)).toBe(result.promoted?.sha)
    expect(await headOf(`agent/${older.jobId}`, true)).toBeNull()
  })

  it('from those that wait, which end at once, though no consumer is there; and one that is to be dropped ends itself', async () => {
    const [runs, waits] = [await enqueue('wait', 'echo 0 >> log'), await enqueue('wait', 'echo 1 >> log')]
    const newer = await enqueue('cancel-waiting', 'echo 2 >> log')
    for (const job of [runs, waits]) expect(await job.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'cancelled', error: { message: `superseded by job ${newer.jobId}` } })
    const dropped = await enqueue('drop', 'echo 3 >> log')
    expect(await dropped.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'cancelled', error: { code: 'SWY_SUPERSEDED', message: `dropped: job ${newer.jobId} has its concurrency key, or waits for it` } })
    expect((await dropped.status()).state).toBe('cancelled')
    const events = await deployment.queue.events.read()
    expect(events.map(({ event }) => `${event?.subject} ${event?.type}`).sort()).toEqual([runs, waits, dropped].map(({ jobId }) => `${jobId} dev.switchyard.job.cancelled`).sort())
    await deployment.startConsumer()
    expect((await newer.result({ timeoutMs: 200_000 })).status).toBe('succeeded')
    // What was cancelled while it waited is not in the queue any more, and another may be dropped in its turn, or run.
    expect((await (await enqueue('drop', 'echo 4 >> log')).result({ timeoutMs: 200_000 })).status).toBe('succeeded')
  })
})
