import type { Queue } from 'bullmq'
import type { Redis } from 'ioredis'
import { expect, it } from 'vitest'
import { KeyTakenError } from '../../src/job/errors.js'
import type { JobSpecInput } from '../../src/job/spec.js'
import type { AgentQueue, JobHandle } from '../../src/producers/index.js'
import { Keys } from '../../src/store/index.js'
import { until } from './deployment.js'
import { runsQueue } from './running-queue.js'

// A job that is dropped while another has its key, and has failed before: to run it again then changes nothing of it.
let client: Redis
let bull: Queue
let queue: AgentQueue
const keys = new Keys()
const dropped: JobSpecInput = { repository: 'acme/web', push: false, idempotencyKey: 'one', concurrency: { key: 'k', then: 'drop' }, timeout: '1s', steps: ['sleep 3000'] }

runsQueue((running) => {
  ;({ client, bull, queue } = running)
})

interface Scene {
  readonly job: JobHandle
  readonly holder: JobHandle
}

/** A job that has failed, and another that has its key. */
async function scene(): Promise<Scene> {
  const job = await queue.enqueue(dropped)
  expect((await job.result({ timeoutMs: 30_000 })).status).toBe('failed')
  await until('BullMQ has heard of it', async () => (await bull.getJobState(job.jobId)) === 'failed')
  const holder = await queue.enqueue({ repository: 'acme/web', push: false, concurrency: { key: 'k' }, steps: ['sleep 3000'] })
  await until('another has its key', async () => (await holder.status()).step !== null)
  return { job, holder }
}

const sentence = ({ job, holder }: Scene) => `job ${job.jobId} can't be run again now: job ${holder.jobId} has its concurrency key "k", or waits for it, and it is to be dropped then (then: "drop"); run it again once that has ended`
const heldOf = async ({ jobId }: JobHandle) => await client.hmget(keys.job(jobId), 'failedReason', 'data')

it.each<[string, (scene: Scene) => Promise<void>]>([
  ['queue.retry', async (each) => {
    await expect(queue.retry(each.job.jobId)).rejects.toMatchObject({ name: 'KeyTakenError', code: 'SWY_KEY_TAKEN', message: sentence(each), takenBy: each.holder.jobId })
  }],
  ['queue.retry from its checkpoint', async (each) => {
    await expect(queue.retry(each.job.jobId, { from: 'checkpoint' })).rejects.toBeInstanceOf(KeyTakenError)
  }],
  ['queue.retryMany, which runs the others again', async (each) => {
    const other = await queue.enqueue({ repository: 'acme/web', push: false, timeout: '1s', steps: ['sleep 3000'] })
    await other.result({ timeoutMs: 30_000 })
    await until('BullMQ has heard of it', async () => (await bull.getJobState(other.jobId)) === 'failed')
    await expect(queue.retryMany()).rejects.toMatchObject({ code: 'SWY_KEY_TAKEN', jobIds: [each.job.jobId], retried: [other.jobId] })
  }],
  ['a bulk retry of an operator', async (each) => {
    const { failed, jobIds } = await queue.operations.retryJobs({ state: 'failed' }, { by: { id: 'anna', name: 'anna' } })
    expect({ failed, jobIds }).toEqual({ failed: [{ jobId: each.job.jobId, code: 'SWY_KEY_TAKEN', message: sentence(each) }], jobIds: [] })
  }],
  ["onFailed: 'rerun', which gives it as it is", async (each) => {
    expect((await queue.enqueue(dropped, { onFailed: 'rerun' })).jobId).toBe(each.job.jobId)
  }],
  ["BullMQ's own retry, as of a board of another's", async ({ job }) => {
    await (await bull.getJob(job.jobId))!.retry('failed')
  }],
  ["BullMQ's own retry, with its attempts counted anew", async ({ job }) => {
    await (await bull.getJob(job.jobId))!.retry('failed', { resetAttemptsMade: true })
  }],
  ['retryJobs of BullMQ', async () => {
    await bull.retryJobs({ state: 'failed' })
  }],
])('%s', async (_how, retry) => {
  const set = await scene()
  const { job, holder } = set
  const before = await heldOf(job)
  const record = await client.hgetall(keys.run(job.jobId))
  const result = await job.result()
  await retry(set)
  await until('it has failed as before', async () => (await bull.getJobState(job.jobId)) === 'failed')
  expect(await heldOf(job)).toEqual(before)
  const { stalls: _stalls, toldAtMs: _told, ...now } = await client.hgetall(keys.run(job.jobId))
  expect(record).toMatchObject(now)
  expect(await job.result()).toEqual(result)
  expect((await job.status()).state).toBe('failed')
  expect((await queue.events.read()).filter(({ event }) => event?.subject === job.jobId)).toHaveLength(1)
  // Once the other has ended it runs, and is told of.
  await holder.cancel('enough')
  await holder.result({ timeoutMs: 30_000 })
  expect(await queue.retry(job.jobId)).toBe('retried')
  await until('it has failed anew', async () => (await queue.events.read()).filter(({ event }) => event?.subject === job.jobId).length === 2)
  expect((await client.hget(keys.run(job.jobId), 'generation'))).toBe(String(Number(record['generation']) + 1))
})
