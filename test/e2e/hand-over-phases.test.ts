import { afterEach, describe, expect, it } from 'vitest'
import { InfrastructureError } from '../../src/job/errors.js'
import type { JobHandle } from '../../src/producers/job-handle.js'
import type { Provider } from '../../src/providers/provider.js'
import { createRedis, Keys, SlotLedger } from '../../src/store/index.js'
import { whole } from '../whole.js'
import { altered, git, startDeployment, unanswered, until, verbOf, type Deployment } from './deployment.js'

// A consumer is stopped while a job is in a certain phase, with no other consumer there. The job waits, with its place and its
// sandbox, and the next consumer goes on with it. CI tries four phases, `npm run test:long` each.
let deployment: Deployment
afterEach(() => deployment.close())

const steps = [{ name: 'one', run: 'echo began; echo x >> runs.txt' }, { name: 'two', run: 'echo y >> runs.txt; cat runs.txt' }]

async function place(jobId: string): Promise<string | null> {
  const redis = createRedis({ url: deployment.redis.url }, 'commands')
  try {
    return (await new SlotLedger(redis, new Keys()).leaseOf(jobId))?.provider ?? null
  } finally {
    redis.disconnect()
  }
}

async function sandboxes(): Promise<number> {
  let count = 0
  for (const provider of deployment.providers) for await (const _info of provider.list({}, { timeoutMs: 10_000 })) count++
  return count
}

async function linesOf(job: JobHandle, text: string): Promise<number> {
  let count = 0
  for await (const line of job.logs({ follow: false })) count += line.text.split(text).length - 1
  return count
}

interface Hooks {
  /** Changes what a consumer's provider does. `reached` says that the job is where it is to be stopped. */
  readonly provider?: (provider: Provider, reached: () => void) => Partial<Provider>
  readonly promote?: boolean
  readonly phase: string
  readonly sandboxes: number
}

/** Stops a consumer in the middle of the phase, and starts another one. */
async function handOver({ provider: change, promote = false, phase, sandboxes: expected }: Hooks, hostChange?: (reached: () => void) => Partial<Deployment['host']>) {
  deployment = await startDeployment({ limits: [2] })
  await deployment.seed('acme/web', { 'README.md': 'hello\n' })
  let there = false
  const reached = () => void (there = true)
  const first = await deployment.startConsumer({
    providers: deployment.providers.map((provider) => ({ provider: change === undefined ? provider : altered<Provider>(provider, change(provider, reached)), limit: { sandboxes: 2 } })),
    ...(hostChange === undefined ? {} : { git: altered(deployment.host, hostChange(reached)) }),
  })
  const job = await deployment.queue.enqueue({ repository: 'acme/web', steps, ...(promote ? { promote: { to: 'done' } } : {}) })
  await until(`the job in ${phase}`, () => there)
  await first.stop()
  expect(await job.status()).toMatchObject({ state: 'running', phase })
  expect(await place(job.jobId)).toBe('local-a')
  expect(await sandboxes()).toBe(expected)
  await deployment.startConsumer()
  const result = await job.result({ timeoutMs: 150_000 })
  expect(result).toMatchObject({ status: 'succeeded', attempts: [{ outcome: 'succeeded' }], steps: [{ exitCode: 0 }, { exitCode: 0, stdoutTail: 'x\ny\n' }], diff: { paths: ['runs.txt'] } })
  expect(await linesOf(job, 'began\n')).toBe(1)
  await until('the sandboxes to be gone', async () => (await sandboxes()) === 0)
  await until('its place to be free', async () => (await place(job.jobId)) === null)
  return { job, result }
}

/** A command whose caller is given up but which goes on in the sandbox, beside what the next consumer does there. */
function lateCommand(verb: string) {
  return (provider: Provider, reached: () => void): Partial<Provider> => ({
    exec: async (id, command, options) => {
      if (verbOf(command) !== verb) return provider.exec(id, command, options)
      reached()
      await unanswered(options.signal).catch(() => undefined)
      // Nobody waits for it any more.
      void provider.exec(id, command, { timeoutMs: 20_000 }).catch(() => undefined)
      throw new Error('given up')
    },
  })
}

describe('a job is handed over in the middle of', () => {
  it.runIf(whole)('the creation of its sandbox', async () => {
    await handOver({ phase: 'placing', sandboxes: 0, provider: (_provider, reached) => ({ create: (_request, { signal }) => (reached(), unanswered(signal)) }) })
  })

  it('a creation that came to be, without an answer', async () => {
    await handOver({
      phase: 'placing',
      sandboxes: 1,
      provider: (provider, reached) => ({
        create: async (request, options) => {
          await provider.create(request, { timeoutMs: options.timeoutMs })
          reached()
          return unanswered(options.signal)
        },
      }),
    })
  })

  it.runIf(whole)('the fetch of its repository', async () => {
    await handOver({ phase: 'preparing', sandboxes: 1, provider: lateCommand('clone') })
  })

  it('the push of a checkpoint', async () => {
    const { job } = await handOver({ phase: 'steps', sandboxes: 1, provider: lateCommand('checkpoint') })
    expect((await job.status()).checkpointSha).not.toBeNull()
  })

  it.runIf(whole)('the final push', async () => {
    await handOver({ phase: 'pushing', sandboxes: 1, provider: lateCommand('push') })
  })

  it('a promotion that went through without an answer', async () => {
    const { result } = await handOver({ phase: 'promoting', sandboxes: 1, promote: true }, (reached) => ({
      promote: async (request, options) => {
        await deployment.host.promote(request, { timeoutMs: options.timeoutMs })
        reached()
        return unanswered(options.signal)
      },
    }))
    expect(result.promoted).toMatchObject({ to: 'done', sha: result.commit })
    const folder = await deployment.checkout('acme/web', 'done', false)
    expect(await git(folder, 'rev-list', '--count', `${result.baseSha ?? ''}..HEAD`)).toBe('1')
  })

  it.runIf(whole)('its closing', async () => {
    await handOver({ phase: 'closing', sandboxes: 1, provider: (_provider, reached) => ({ kill: (_id, { signal }) => (reached(), unanswered(signal)) }) })
  })

  it('the wait for a place at another provider', async () => {
    deployment = await startDeployment({ limits: [1, 1] })
    await deployment.seed('acme/web', { 'README.md': 'hello\n' })
    let broken = false
    const first = await deployment.startConsumer({
      providers: deployment.providers.map((provider) => ({
        limit: { sandboxes: 1 },
        provider: altered<Provider>(provider, {
          create: (request, options) => {
            if (broken && provider.name === 'local-a') throw new InfrastructureError({ kind: 'provider-down', source: provider.name, message: 'local-a: is down' })
            return provider.create(request, options)
          },
        }),
      })),
    })
    const wait = 'while [ ! -f go ]; do sleep 0.1; done'
    const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['echo x >> runs.txt', 'cat runs.txt; sleep 2'], providers: { prefer: ['local-a'] } })
    const other = await deployment.queue.enqueue({ repository: 'acme/web', push: false, steps: [wait], providers: { allow: ['local-b'] } })
    await until('both in their steps', async () => (await job.status()).checkpointSha !== null && (await other.status()).phase === 'steps')
    broken = true
    await deployment.providers[0]!.kill((await job.status()).sandboxId!, { timeoutMs: 10_000 })
    await until('the job to wait', async () => (await job.status()).reason?.startsWith('waiting for capacity') ?? false)
    await first.stop()
    expect(await job.status()).toMatchObject({ state: 'running', phase: 'placing', sandboxId: null })
    expect(await place(job.jobId)).toBeNull()
    await deployment.startConsumer()
    await deployment.providers[1]!.exec((await other.status()).sandboxId!, { script: 'touch ~/repository/go' }, { timeoutMs: 10_000 })
    expect(await other.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded', attempts: [{ outcome: 'succeeded' }] })
    const result = await job.result({ timeoutMs: 150_000 })
    expect(result).toMatchObject({ status: 'succeeded', steps: [{ exitCode: 0 }, { stdoutTail: 'x\n' }] })
    expect(result.attempts.map(({ outcome }) => outcome)).toContain('lost')
  })
})
