import { Queue } from 'bullmq'
import type { Redis } from 'ioredis'
import { pino } from 'pino'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { inMemoryGitHost } from '../../bench/in-memory/git-host.js'
import { InMemoryProvider } from '../../bench/in-memory/provider.js'
import { Consumer, secretsFromEnvironment } from '../../src/consumers/index.js'
import { startRedis, type EmbeddedRedis } from '../../src/embedded/index.js'
import type { JobSpecInput } from '../../src/job/spec.js'
import { AgentQueue, type JobHandle } from '../../src/producers/index.js'
import { createRedis, Keys } from '../../src/store/index.js'
import { quickSettings, until } from './deployment.js'

// A run that waits in nobody's hands, as for its budget, hears of what ends it at once, whatever it waits for.
let redis: EmbeddedRedis
let client: Redis
let bull: Queue
let queue: AgentQueue
let consumer: Consumer | undefined
const keys = new Keys()
const by = { id: 'anna', name: 'anna' }

beforeAll(async () => {
  redis = await startRedis()
})
beforeEach(async () => {
  client = createRedis({ url: redis.url }, 'commands')
  await client.flushall()
  bull = new Queue('agents', { connection: client, prefix: keys.prefix })
  bull.on('error', () => undefined)
  queue = new AgentQueue({ redis: { url: redis.url } })
})
afterEach(async () => {
  await consumer?.stop()
  consumer = undefined
  await queue.close()
  await bull.close()
  client.disconnect()
})
afterAll(() => redis.close())

async function consume(sandboxes: number, maxJobs = 50): Promise<void> {
  consumer = new Consumer({
    deployment: 'test',
    redis: { url: redis.url },
    git: inMemoryGitHost,
    providers: [{ provider: new InMemoryProvider('a'), limit: { sandboxes }, price: { perSandboxHour: 3_600 } }],
    secrets: secretsFromEnvironment([]),
    log: pino({ level: 'silent' }),
    settings: { ...quickSettings, readWaitMs: 500, budgetPeriodMs: 1_000, reapGraceMs: 60_000, maxJobs },
  })
  await consumer.start()
}

/** A job that has begun, and waits for its budget. */
async function parked(more: Partial<JobSpecInput> = {}): Promise<JobHandle> {
  const job = await queue.enqueue({ repository: 'acme/web', tenant: 'acme', budget: { amount: 3 }, setup: ['sleep 3000'], checkpoint: { paths: ['~/.memory'] }, steps: [{ run: 'true', resume: 'true' }], ...more })
  await until('it is parked', async () => (await job.status()).state === 'parked')
  await until('it is delayed', async () => (await bull.getJobState(job.jobId)) === 'delayed')
  return job
}

/** Another that runs on and on. */
async function running(more: Partial<JobSpecInput> = {}): Promise<void> {
  const other = await queue.enqueue({ repository: 'acme/web', steps: ['sleep 3000'], push: false, ...more })
  await until('another runs', async () => (await other.status()).step !== null)
}

describe('one that is cancelled ends at once', () => {
  it.each<[string, () => Promise<JobHandle>]>([
    ['while another has its key of concurrency', async () => {
      const job = await parked({ concurrency: { key: 'k' } })
      await running({ concurrency: { key: 'k' } })
      return job
    }],
    ['while its tenant is paused', async () => {
      const job = await parked()
      await queue.operations.pauseTenant('acme', { by })
      return job
    }],
    ['while its queue is paused', async () => {
      const job = await parked()
      await bull.pause()
      return job
    }],
    ['while its queue is paused, once it was given back with its sandbox', async () => {
      const job = await parked()
      await queue.budgets.setJob(job.jobId, 1_000)
      await until('it runs', async () => (await job.status()).step !== null)
      await bull.pause()
      await consumer?.stop()
      await consume(5)
      return job
    }],
    ['while all consumers have as many jobs as they may', async () => {
      await consumer?.stop()
      await consume(5, 1)
      const job = await parked()
      await running()
      return job
    }],
    ['while another has the only place', async () => {
      await consumer?.stop()
      await consume(1)
      const job = await parked()
      await running()
      return job
    }],
    ['after its budget was raised, while another has the only place', async () => {
      await consumer?.stop()
      await consume(1)
      const job = await parked()
      await running()
      await queue.budgets.setJob(job.jobId, 1_000)
      await until('it waits for a place', async () => (await client.hget(keys.job(job.jobId), 'sy')) !== null)
      return job
    }],
  ])('%s', async (_while, begin) => {
    await consume(5)
    const job = await begin()
    expect(await job.cancel('because')).toBe('requested')
    const result = await job.result({ timeoutMs: 30_000 })
    expect(result).toMatchObject({ status: 'cancelled', error: { message: 'because' } })
    expect(result.attempts[0]).toMatchObject({ outcome: 'parked' })
  })
})

it('one that was removed, under whose id another is added, ends though nobody takes that one', async () => {
  await consume(5)
  const job = await parked({ idempotencyKey: 'one' })
  await bull.pause()
  await bull.remove(job.jobId)
  const other = await queue.enqueue({ repository: 'acme/web', tenant: 'acme', budget: { amount: 3 }, setup: ['sleep 3000'], checkpoint: { paths: ['~/.memory'] }, steps: [{ run: 'true', resume: 'true' }], idempotencyKey: 'one' })
  expect(other.jobId).toBe(job.jobId)
  const told = async () => (await queue.events.read()).filter(({ event }) => event?.subject === job.jobId).map(({ event }) => event?.data.error?.message)
  await until('the run before has ended', async () => (await told()).length === 1)
  expect(await told()).toEqual(['the job was removed from the queue'])
  expect((await other.status()).state).toBe('waiting')
  await bull.resume()
  await until('the other runs', async () => (await other.status()).step !== null)
  await other.cancel('enough')
  expect(await other.result({ timeoutMs: 30_000 })).toMatchObject({ status: 'cancelled', error: { message: 'enough' } })
})

it('one that was cancelled in a paused queue can be run again at once, and BullMQ hears of its end once the queue is resumed', async () => {
  await consume(5)
  const [job, again] = [await parked({ metadata: { team: 'web' } }), await parked({})]
  await bull.pause()
  for (const each of [job, again]) {
    await each.cancel('because')
    expect((await each.result({ timeoutMs: 30_000 })).status).toBe('cancelled')
  }
  expect((await job.result()).metadata).toEqual({ team: 'web' })
  expect(await queue.retry(again.jobId)).toBe('retried')
  expect((await job.status()).state).toBe('cancelled')
  await bull.resume()
  await until('BullMQ has heard of it', async () => (await bull.getJobState(job.jobId)) === 'failed')
  await until('the other runs again', async () => (await again.status()).step !== null)
})

it('one of a paused queue that a job of another queue supersedes before it has begun ends at once', async () => {
  await consume(5)
  await bull.pause()
  const job = await queue.enqueue({ repository: 'acme/web', concurrency: { key: 'k' }, steps: ['true'], push: false })
  const others = new AgentQueue({ redis: { url: redis.url }, name: 'others' })
  const newer = await others.enqueue({ repository: 'acme/web', concurrency: { key: 'k', then: 'cancel-waiting' }, steps: ['true'], push: false })
  expect(await job.result({ timeoutMs: 30_000 })).toMatchObject({ status: 'cancelled', error: { message: `superseded by job ${newer.jobId}`, code: 'SWY_SUPERSEDED' } })
  await until('it has left the queue', async () => (await bull.getJobState(job.jobId)) === 'failed')
  await others.close()
})

it.each(['cancel-running', 'cancel-waiting'] as const)('a newer one takes its place, and it does not go on behind that once it could: %s', async (then) => {
  await consume(5)
  const job = await parked({ concurrency: { key: 'k' } })
  const newer = await queue.enqueue({ repository: 'acme/web', concurrency: { key: 'k', then }, steps: ['true'], push: false })
  expect(await job.result({ timeoutMs: 30_000 })).toMatchObject({ status: 'cancelled', error: { message: `superseded by job ${newer.jobId}`, code: 'SWY_SUPERSEDED' }, attempts: [{ outcome: 'parked' }] })
  expect(await newer.result({ timeoutMs: 30_000 })).toMatchObject({ status: 'succeeded' })
})
