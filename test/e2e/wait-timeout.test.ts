import { Queue } from 'bullmq'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { inMemoryGitHost } from '../../bench/in-memory/git-host.js'
import { InfrastructureError } from '../../src/job/errors.js'
import type { Provider } from '../../src/providers/provider.js'
import { createRedis, Keys } from '../../src/store/index.js'
import { altered, until } from './deployment.js'
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
const startFull = (more: Partial<Provider> = {}) =>
  deployment.startConsumer({
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
    await Promise.all([deployment.startConsumer(), deployment.startConsumer()])
    const bull = new Queue('agents', { connection: { url: deployment.redis.url }, prefix: '{switchyard}' })
    await bull.pause()
    const jobs = await deployment.queue.enqueueMany([
      { repository: 'acme/web', steps: ['true'], waitTimeout: '10m', concurrency: { key: 'k' } },
      { repository: 'acme/web', steps: ['true'], waitTimeout: '10m' },
    ])
    const keys = new Keys()
    const commands = createRedis({ url: deployment.redis.url }, 'commands')
    for (const run of ['1', '2']) {
      // Their time is up, by both that watch it.
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
