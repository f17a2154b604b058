import type { Queue } from 'bullmq'
import type { Redis } from 'ioredis'
import { describe, expect, it } from 'vitest'
import { UnknownJobError } from '../../src/job/errors.js'
import type { JobSpecInput } from '../../src/job/spec.js'
import { AgentQueue, type JobHandle } from '../../src/producers/index.js'
import { Keys } from '../../src/store/index.js'
import { until } from './deployment.js'
import { runsQueue } from './running-queue.js'

// A key stands for one job, whatever has become of that, and whoever comes with it at once.
let url: string
let client: Redis
let bull: Queue
let queue: AgentQueue
const keys = new Keys()
const failing: JobSpecInput = { repository: 'acme/web', push: false, idempotencyKey: 'one', timeout: '1s', steps: ['sleep 3000'] }
const quick: JobSpecInput = { repository: 'acme/web', push: false, idempotencyKey: 'one', steps: ['sleep 0.01'] }

runsQueue((running) => {
  ;({ url, client, bull, queue } = running)
})

const eventsOf = async ({ jobId }: JobHandle) => (await queue.events.read()).filter(({ event }) => event?.subject === jobId).length
const inBullmq = async ({ jobId }: JobHandle) => await bull.getJobState(jobId)
/** As Redis leaves it once the retention is over: BullMQ drops a job only as others end. */
const expire = async ({ jobId }: JobHandle) => await client.del(keys.run(jobId), keys.claim(jobId), keys.log(jobId), keys.logAccount(jobId))

/** One that has failed, as BullMQ knows. */
async function failed(): Promise<JobHandle> {
  const job = await queue.enqueue(failing)
  expect((await job.result({ timeoutMs: 30_000 })).status).toBe('failed')
  await until('BullMQ has heard of it', async () => (await inBullmq(job)) === 'failed')
  return job
}

describe('once its record is past its retention, though BullMQ still holds it', () => {
  it.each<[string, JobSpecInput]>([
    ['with the same spec', quick],
    ['with another spec', { ...quick, steps: ['sleep 0.02'] }],
    ['delayed', { ...quick, delay: '50ms' }],
    ['with a key of concurrency', { ...quick, concurrency: { key: 'k' } }],
  ])('a job is run anew: %s', async (_how, spec) => {
    const first = await queue.enqueue(quick)
    expect((await first.result({ timeoutMs: 30_000 })).status).toBe('succeeded')
    await until('BullMQ has heard of it', async () => (await inBullmq(first)) === 'completed')
    await expire(first)
    // A result that there is no more is waited for by nobody.
    await expect(first.result({ timeoutMs: 30_000 })).rejects.toBeInstanceOf(UnknownJobError)
    await expect(first.logs()[Symbol.asyncIterator]().next()).rejects.toBeInstanceOf(UnknownJobError)
    const again = await queue.enqueue(spec)
    expect(again.jobId).toBe(first.jobId)
    expect((await again.result({ timeoutMs: 30_000 })).status).toBe('succeeded')
    expect(await eventsOf(first)).toBe(2)
  })

  it('many are, each once, whoever comes with them at once', async () => {
    const job = await failed()
    await expire(job)
    const others = Array.from({ length: 4 }, () => new AgentQueue({ redis: { url } }))
    const many = Array.from({ length: 20 }, (_each, index) => ({ ...quick, idempotencyKey: index === 0 ? 'one' : `another ${index}` }))
    const handles = await Promise.all([queue, ...others].map((each) => each.enqueueMany(many)))
    const ids = new Set(handles.flat().map(({ jobId }) => jobId))
    expect(ids.size).toBe(20)
    const results = await Promise.all(handles[0]!.map((each) => each.result({ timeoutMs: 30_000 })))
    expect(results.map(({ status }) => status)).toEqual(Array(20).fill('succeeded'))
    const events = await queue.events.read({ limit: 1_000 })
    expect(events.filter(({ event }) => ids.has(event?.subject ?? ''))).toHaveLength(21)
    await Promise.all(others.map((each) => each.close()))
  })
})

it.each<[string, (job: JobHandle) => Promise<unknown>]>([
  ['rerun by many at once', () => Promise.resolve()],
  ['that is retried at the same moment', (job) => queue.retry(job.jobId)],
  ["that is retried by BullMQ's own means at the same moment", async (job) => (await bull.getJob(job.jobId))?.retry('failed').catch(() => undefined)],
  ['that is removed at the same moment', async (job) => (await bull.getJob(job.jobId))?.remove().catch(() => undefined)],
  ['that was removed', async (job) => bull.remove(job.jobId)],
  ['that was cleaned', () => bull.clean(0, 100, 'failed')],
  ['whose queue was obliterated', () => bull.obliterate()],
])('a failed one runs once more, not twice: one %s', async (how, meanwhile) => {
  const job = await failed()
  const others = Array.from({ length: 5 }, () => new AgentQueue({ redis: { url } }))
  const before = /was/.test(how)
  if (before) await meanwhile(job)
  const asked = [queue, ...others].map((each) => each.enqueue(failing, { onFailed: 'rerun' }))
  if (!before) await meanwhile(job)
  await Promise.all(asked)
  await until('it has run again', async () => (await eventsOf(job)) === 2)
  await until('nothing is left to run', async () => (await bull.getJobCountByTypes('wait', 'prioritized', 'active', 'delayed')) === 0)
  expect(await eventsOf(job)).toBe(2)
  expect((await job.result({ timeoutMs: 30_000 })).status).toBe('failed')
  await Promise.all(others.map((each) => each.close()))
})

it('is run again after it was cancelled while it waited, by a retry and by one of BullMQ’s own', async () => {
  await bull.pause()
  const [one, two, three] = [await queue.enqueue(quick), await queue.enqueue({ ...quick, idempotencyKey: 'two' }), await queue.enqueue({ ...quick, idempotencyKey: 'three' })]
  for (const job of [one, two, three]) expect(await job.cancel('no more')).toBe('cancelled')
  expect([await inBullmq(one), await inBullmq(two), await inBullmq(three)]).toEqual(['failed', 'failed', 'failed'])
  await bull.resume()
  expect(await queue.retry(one.jobId)).toBe('retried')
  await (await bull.getJob(two.jobId))?.retry()
  await (await bull.getJob(three.jobId))?.retry('failed', { resetAttemptsMade: true })
  for (const job of [one, two, three]) {
    await until('its second run has ended', async () => (await job.status()).state === 'succeeded')
    expect(await eventsOf(job)).toBe(2)
  }
})
