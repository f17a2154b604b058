import { Queue } from 'bullmq'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { inMemoryGitHost } from '../../bench/in-memory/git-host.js'
import { InfrastructureError } from '../../src/job/errors.js'
import type { Provider } from '../../src/providers/provider.js'
import { createRedis, Keys } from '../../src/store/index.js'
import { altered, type ConsumerOverrides, until } from './deployment.js'
import { startInMemoryDeployment, type InMemoryDeployment } from './in-memory-deployment.js'

// What comes before a job's first sandbox is bounded by `waitTimeout` alone, and its `timeout` by what comes after.
let deployment: InMemoryDeployment
let full = true
beforeEach(async () => {
  full = true
  deployment = await startInMemoryDeployment({ limits: [1] })
})
afterEach(() => deployment.close())

/** A consumer whose provider has no room as long as the test says so. */
const startFull = (more: Partial<Provider> = {}, options: ConsumerOverrides = {}) =>
  deployment.startConsumer({
    ...options,
    providers: deployment.providers.map((provider) => ({
      limit: { sandboxes: 1 },
      provider: altered<Provider>(provider, {
        create: (request) => (full ? Promise.reject(new InfrastructureError({ kind: 'capacity', source: 'local-a', message: 'no room' })) : provider.create(request)),
        ...more,
      }),
    })),
  })

it('a job waits for its first sandbox for longer than its timeout, and says for what', async () => {
  await startFull()
  const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['true'], timeout: '1s', push: false })
  await until('the reason', async () => (await job.status()).reason?.startsWith('waiting for capacity: local-a') === true)
  const { enqueuedAtMs } = await job.status()
  await until('its timeout to pass', () => Date.now() > enqueuedAtMs + 1_500)
  await until('its log to say so too', async () => {
    let text = ''
    for await (const line of job.logs()) text += line.text
    return text.includes('waiting for capacity: local-a')
  })
  expect(await job.status()).toMatchObject({ state: 'running', result: null })
  await job.cancel('enough')
  expect(await job.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'cancelled' })
})

it('a job in hand that gets no sandbox in time fails with what it waited for, and is not begun again', async () => {
  await startFull()
  const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['true'], waitTimeout: '2s', attempts: 3 })
  const result = await job.result({ timeoutMs: 150_000 })
  expect(result).toMatchObject({ status: 'failed', error: { kind: 'timeout' }, usage: { sandboxSeconds: 0 } })
  expect(result.error?.message).toMatch(/^the job got no sandbox within its waitTimeout of 2 s; it was waiting for capacity: local-a/)
})

it('so does one that nobody has taken, whatever it waits for', async () => {
  full = false
  await deployment.startConsumer({ settings: { unrunnableGraceMs: 600_000 } })
  const long = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['sleep 600'] })
  await until('the place to be taken', async () => (await long.status()).sandboxId !== null)
  const [waits, lacks] = await deployment.queue.enqueueMany([
    { repository: 'acme/web', steps: ['true'], waitTimeout: '1s' },
    { repository: 'acme/web', steps: ['true'], waitTimeout: '2s', secrets: ['NOT_THERE'] },
  ])
  expect((await waits!.result({ timeoutMs: 150_000 })).error).toMatchObject({ kind: 'timeout', message: 'the job got no sandbox within its waitTimeout of 1 s; it was waiting for capacity: local-a full (1/1)' })
  expect((await lacks!.result({ timeoutMs: 150_000 })).error).toMatchObject({ kind: 'timeout', message: expect.stringContaining('NOT_THERE') as string })
  await long.cancel('done')
})

describe('its time to wait', () => {
  /** Its sandbox is there only once the time that was up before has been noticed. */
  const slowly = () => ({ create: async (...[request]: Parameters<Provider['create']>) => await new Promise((resolve) => setTimeout(resolve, 200)).then(() => deployment.providers[0]!.create(request)) })

  it('begins when it may be run first', async () => {
    full = false
    await startFull(slowly())
    const job = await deployment.queue.enqueue({ repository: 'acme/web', push: false, steps: ['true'], delay: '2s', waitTimeout: '1s' })
    expect(await job.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded' })
  })

  it('is not over for a consumer whose clock is ahead by hours', async () => {
    full = false
    await startFull(slowly(), { now: () => Date.now() + 7_200_000 })
    const job = await deployment.queue.enqueue({ repository: 'acme/web', push: false, steps: ['true'], waitTimeout: '1h' })
    expect(await job.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded' })
  })

  it('is not over when Redis’ clock was set forward by hours', async () => {
    full = false
    await deployment.startConsumer()
    const bull = new Queue('agents', { connection: { url: deployment.redis.url }, prefix: '{switchyard}' })
    const commands = createRedis({ url: deployment.redis.url }, 'commands')
    await bull.pause()
    const jobs = await deployment.queue.enqueueMany([1, 2].map(() => ({ repository: 'acme/web', push: false as const, steps: ['true'], waitTimeout: '1h' })))
    const key = new Keys().waits()
    for (const { jobId } of jobs) await commands.zadd(key, 'XX', 1, jobId)
    await until('both to be looked at', async () => (await commands.zcount(key, '-inf', Date.now())) === 0)
    // What is left of it, and no more.
    for (const { jobId } of jobs) expect(Number(await commands.zscore(key, jobId))).toBeLessThanOrEqual(Date.now() + 3_600_000)
    await bull.resume()
    for (const job of jobs) expect(await job.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded' })
    commands.disconnect()
    await bull.close()
  })
})

describe('one that nobody can take', () => {
  it('ends while its queue is paused, once, and is finished in the queue when that goes on', async () => {
    full = false
    await Promise.all([deployment.startConsumer(), deployment.startConsumer()])
    const bull = new Queue('agents', { connection: { url: deployment.redis.url }, prefix: '{switchyard}' })
    await bull.pause()
    const [bounded, patient] = await deployment.queue.enqueueMany([
      { repository: 'acme/web', steps: ['true'], waitTimeout: '1s' },
      { repository: 'acme/web', steps: ['true'], waitTimeout: '1h' },
    ])
    const result = await bounded!.result({ timeoutMs: 150_000 })
    expect(result).toMatchObject({ status: 'failed', attempts: [], usage: { sandboxSeconds: 0 } })
    expect(result.error).toMatchObject({ kind: 'timeout', code: 'SWY_JOB_TIMEOUT', message: 'the job got no sandbox within its waitTimeout of 1 s; it was waiting: the queue is paused' })
    expect(await patient!.status()).toMatchObject({ state: 'waiting', reason: 'waiting: the queue is paused; resume it' })
    await bull.resume()
    expect(await patient!.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded' })
    await until('the queue to have finished it', async () => (await bull.getJobState(bounded!.jobId)) === 'failed')
    expect((await bull.getJob(bounded!.jobId))?.failedReason).toContain('the queue is paused')
    expect(await bounded!.result()).toEqual(result)
    await until('nothing to be left of it', async () => (await deployment.queue.providers()).every(({ used }) => used === 0))
    await bull.close()
  })

  it('that has ended so is run again when that is asked for, while its queue is paused too, and waits for as long as it may anew', async () => {
    full = false
    const now = () => Date.now() + 3_600_000
    await Promise.all([deployment.startConsumer({ now }), deployment.startConsumer({ now })])
    const bull = new Queue('agents', { connection: { url: deployment.redis.url }, prefix: '{switchyard}' })
    await bull.pause()
    const jobs = await deployment.queue.enqueueMany([
      { repository: 'acme/web', steps: ['true'], waitTimeout: '10m', concurrency: { key: 'k' } },
      { repository: 'acme/web', steps: ['true'], waitTimeout: '10m' },
    ])
    const keys = new Keys()
    const commands = createRedis({ url: deployment.redis.url }, 'commands')
    for (const run of ['1', '2']) {
      // Their time is up, by both that watch it, and by the consumers' own clock.
      const deadlines = `${keys.ready()}:q:agents:${(await commands.hget(`${keys.ready()}:epoch`, 'agents')) ?? '1'}:deadline`
      for (const { jobId } of jobs) await commands.multi().zadd(keys.waits(), 'XX', 1, jobId).zadd(deadlines, 'XX', 1, jobId).exec()
      for (const job of jobs) {
        expect((await job.result({ timeoutMs: 150_000 })).error?.kind).toBe('timeout')
        expect(await commands.hget(keys.run(job.jobId), 'generation')).toBe(run)
        expect((await Promise.all([deployment.queue.retry(job.jobId), deployment.queue.retry(job.jobId)])).sort()).toEqual(['pending', 'retried'])
        expect(await job.status()).toMatchObject({ state: 'waiting', result: null, reason: 'waiting: the queue is paused; resume it' })
        expect(Number(await commands.zscore(keys.waits(), job.jobId))).toBeGreaterThan(1)
        expect(Number(await commands.zscore(deadlines, job.jobId))).toBeGreaterThan(1)
      }
    }
    await bull.resume()
    for (const job of jobs) {
      expect(await job.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded' })
      await until('the queue to have finished it', async () => (await bull.getJobState(job.jobId)) === 'completed')
      expect(await commands.hget(keys.run(job.jobId), 'generation')).toBe('3')
    }
    commands.disconnect()
    await bull.close()
  })

  it('ends while the only consumer’s git key is refused', async () => {
    const refused = () => Promise.reject(new InfrastructureError({ kind: 'auth', owner: 'consumer-keys', source: 'git', message: 'git: the key is refused' }))
    await deployment.startConsumer({ git: altered(inMemoryGitHost, { check: refused, resolve: refused }) })
    const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['true'], waitTimeout: '1s' })
    const result = await job.result({ timeoutMs: 150_000 })
    expect(result.error).toMatchObject({ kind: 'timeout', message: expect.stringContaining('it was waiting for a consumer whose key is taken (git: ') as string })
  })
})
