import { afterEach, describe, expect, it } from 'vitest'
import { InMemoryProvider } from '../../bench/in-memory/provider.js'
import { InfrastructureError } from '../../src/job/errors.js'
import { until } from './deployment.js'
import { startInMemoryDeployment, type InMemoryDeployment } from './in-memory-deployment.js'

let deployment: InMemoryDeployment
afterEach(() => deployment.close())

/** A provider whose creates fail as told, and that counts them. */
class FailingProvider extends InMemoryProvider {
  failWith: (() => InfrastructureError) | null = null
  /** When each began, in milliseconds. */
  readonly createdAt: number[] = []
  override async create(...call: Parameters<InMemoryProvider['create']>) {
    this.createdAt.push(performance.now())
    if (this.failWith !== null) throw this.failWith()
    return super.create(...call)
  }
}

async function withFailing(limits: { readonly bad: number; readonly good: number }) {
  deployment = await startInMemoryDeployment()
  const bad = new FailingProvider('bad')
  const good = new InMemoryProvider('good')
  const providers = [
    { provider: bad, limit: { sandboxes: limits.bad } },
    { provider: good, limit: { sandboxes: limits.good } },
  ]
  return { bad, good, start: () => deployment.startConsumer({ providers, policy: 'priority' }) }
}
const down = () => new InfrastructureError({ kind: 'provider-down', source: 'bad', message: 'bad: is away' })

describe('a provider that fails', () => {
  it('is left by its jobs at once, opens its breaker for all, and gets one probe when its time is up', async () => {
    // A create that may have made a sandbox keeps its place for a while, so there must be some left for the probe.
    const { bad, start } = await withFailing({ bad: 20, good: 3 })
    bad.failWith = down
    await start()
    const run = async (wave: string) => {
      const jobs = await deployment.queue.enqueueMany(Array.from({ length: 6 }, (_, index) => ({ repository: 'acme/web', steps: ['true'], push: false as const, metadata: { wave, index } })))
      for (const job of jobs) expect(await job.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded' })
    }
    await run('some of which fail there')
    const first = bad.createdAt.length
    // Three failures opened it.
    expect(first).toBeGreaterThanOrEqual(3)
    await run('which finds it open')
    // All that comes then is a probe, and one that fails keeps the next away for five seconds at least.
    const probes = bad.createdAt.slice(first)
    for (const [index, at] of probes.entries()) if (index > 0) expect(at - probes[index - 1]!).toBeGreaterThan(4_900)
    const [load] = (await deployment.queue.providers()).filter(({ provider }) => provider === 'bad')
    expect(load?.breaker).not.toBe('closed')

    bad.failWith = null
    await until('the breaker is half-open', async () => (await deployment.queue.providers()).some(({ provider, breaker }) => provider === 'bad' && breaker === 'half-open'))
    const probe = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['true'], push: false, providers: { prefer: ['bad'] } })
    expect(await probe.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded', attempts: [{ provider: 'bad' }] })
    expect(await deployment.queue.providers()).toMatchObject([{ provider: 'bad', breaker: 'closed' }, { provider: 'good' }])
  })

  it('and has nowhere else to go keeps its job waiting, with the reason, without using an attempt up', async () => {
    // As above: else the probe would wait for a place besides.
    const { bad, start } = await withFailing({ bad: 20, good: 1 })
    bad.failWith = down
    await start()
    const only = { providers: { allow: ['bad'] } }
    const jobs = await deployment.queue.enqueueMany(Array.from({ length: 2 }, (_, index) => ({ repository: 'acme/web', steps: ['true'], push: false as const, metadata: { index }, ...only })))
    await until('the breaker to open', async () => (await deployment.queue.providers()).some(({ breaker }) => breaker === 'open'))
    const later = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['true'], push: false, ...only })
    await until('the reasons', async () => (await Promise.all([...jobs, later].map(async (job) => (await job.status()).reason))).every((reason) => reason?.startsWith('waiting for capacity: bad')))
    // Between two probes; while one is under way it says that.
    await until('its reason', async () => /^waiting for capacity: bad open until \d\d:\d\d:\d\d \(down\)$/.test((await later.status()).reason ?? ''))
    bad.failWith = null
    for (const job of [...jobs, later]) {
      const result = await job.result({ timeoutMs: 150_000 })
      expect(result).toMatchObject({ status: 'succeeded' })
      expect(result.attempts.filter(({ sandboxId }) => sandboxId !== null)).toHaveLength(1)
    }
  })
})

describe('a provider that says "too many calls"', () => {
  it('is tried by one job at a time, and its jobs say so, wait, go elsewhere where they may, and end', async () => {
    const { bad, start } = await withFailing({ bad: 40, good: 1 })
    bad.failWith = () => new InfrastructureError({ kind: 'rate-limited', source: 'bad', message: 'bad: too many calls' })
    await start()
    const step = { repository: 'acme/web', steps: ['true'], push: false as const }
    const jobs = await deployment.queue.enqueueMany(Array.from({ length: 30 }, (_, index) => ({ ...step, metadata: { index }, providers: { allow: ['bad'] } })))
    const free = await deployment.queue.enqueue(step)
    await until('the reasons', async () =>
      (await Promise.all(jobs.map(async (job) => (await job.status()).reason ?? ''))).some((reason) => /^waiting for capacity: bad open until \d\d:\d\d:\d\d \(rate-limited\)$/.test(reason)))
    expect(await free.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded', attempts: [{ provider: 'good' }] })
    // All that were given to it before it was known, and then those that tried.
    const first = bad.createdAt.length
    await until('three more', () => bad.createdAt.length >= first + 3)
    const [load] = (await deployment.queue.providers()).filter(({ provider }) => provider === 'bad')
    expect(load?.breaker).not.toBe('closed')
    const [before, last] = bad.createdAt.slice(-2)
    expect(last! - before!).toBeGreaterThan(1_400)
    bad.failWith = null
    for (const job of jobs) {
      const result = await job.result({ timeoutMs: 150_000 })
      expect(result).toMatchObject({ status: 'succeeded', attempts: [{ provider: 'bad' }] })
      expect(result.attempts).toHaveLength(1)
    }
    expect(await deployment.queue.providers()).toMatchObject([{ provider: 'bad', breaker: 'closed' }, { provider: 'good' }])
  })
})

describe('a provider that is fuller than its limit says', () => {
  it('is not asked again for a place that it has refused; what was refused is no attempt', async () => {
    const { bad, start } = await withFailing({ bad: 3, good: 1 })
    bad.failWith = () => new InfrastructureError({ kind: 'capacity', source: 'bad', message: 'bad: limit reached' })
    await start()
    const jobs = await deployment.queue.enqueueMany(Array.from({ length: 4 }, (_, index) => ({ repository: 'acme/web', steps: ['sleep 0.2'], push: false as const, metadata: { index } })))
    const load = async () => (await deployment.queue.providers()).find(({ provider }) => provider === 'bad')
    // It rises again with time.
    await until('its limit to be lowered', async () => ((await load())?.effectiveLimit ?? 3) < 3)
    for (const job of jobs) {
      const result = await job.result({ timeoutMs: 150_000 })
      expect(result).toMatchObject({ status: 'succeeded', attempts: [{ provider: 'good' }] })
      expect(result.attempts).toHaveLength(1)
    }
    // Its three places at first; then it is tried whether there is room again, every five seconds at the most.
    for (const [index, at] of bad.createdAt.entries()) if (index >= 3) expect(at - bad.createdAt[index - 3]!).toBeGreaterThan(4_900)
    expect(await load()).toMatchObject({ limit: 3, breaker: 'closed', used: 0 })
  })
})

describe('sandboxes that others run in the same account', () => {
  it('take from the limit as long as they are there', async () => {
    const { good } = await withFailing({ bad: 1, good: 2 })
    const other = await good.create({ name: 'of-somebody-else', tags: { team: 'other' }, image: undefined, resources: {}, lifetimeMs: 600_000, network: 'open', gitHosts: [] })
    await deployment.startConsumer({ providers: [{ provider: good, limit: { sandboxes: 2 } }], settings: { reapIntervalMs: 1_000 } })
    await until('them to be counted', async () => (await deployment.queue.providers()).some(({ foreign, effectiveLimit }) => foreign === 1 && effectiveLimit === 1))
    const first = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['sleep 600'], push: false })
    await until('the first to run', async () => (await first.status()).phase === 'steps')
    const second = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['true'], push: false })
    await until('the reason', async () => (await second.status()).reason === 'waiting for capacity: good full (1/1 of 2, 1 used by others)')
    await good.kill(other.id)
    expect(await second.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded' })
    await first.cancel('enough')
    await first.result({ timeoutMs: 150_000 })
  })
})

describe('jobs with constraints', () => {
  it('hold nobody up however many they are, and go first when their provider has room', async () => {
    const { start } = await withFailing({ bad: 1, good: 1 })
    const consumer = await start()
    const holder = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['sleep 600'], push: false, providers: { allow: ['bad'] } })
    await until('the place to be taken', async () => (await holder.status()).phase === 'steps')
    const bound = await deployment.queue.enqueueMany(
      Array.from({ length: 20 }, (_, index) => ({ repository: 'acme/web', steps: ['true'], push: false as const, metadata: { index }, providers: { allow: ['bad'] } })),
    )
    const free = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['true'], push: false })
    expect(await free.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded', attempts: [{ provider: 'good' }] })
    expect(await bound[0]!.status()).toMatchObject({ state: 'waiting', attempts: 0, reason: 'waiting for capacity: bad full (1/1)' })
    await holder.cancel('make room')
    expect(await bound[0]!.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded', attempts: [{ provider: 'bad' }] })
    await consumer.stop()
  })
})

describe('a tenant with a cap', () => {
  it('has no more jobs running than that, its next one says why it waits, and others go on', async () => {
    const { start, bad, good } = await withFailing({ bad: 4, good: 4 })
    expect([bad.name, good.name]).toEqual(['bad', 'good'])
    await start().then((consumer) => consumer.stop())
    await deployment.startConsumer({
      providers: [{ provider: good, limit: { sandboxes: 4 } }],
      tenants: { acme: { weight: 1, cap: 1 } },
    })
    const first = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['sleep 600'], push: false, tenant: 'acme' })
    await until('the first to run', async () => (await first.status()).phase === 'steps')
    const second = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['true'], push: false, tenant: 'acme' })
    const other = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['true'], push: false, tenant: 'initech' })
    expect(await other.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded' })
    expect(await second.status()).toMatchObject({ state: 'waiting', reason: 'waiting for tenant acme: 1 of at most 1 jobs are running' })
    await first.cancel('make room')
    expect(await second.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded' })
  })
})
