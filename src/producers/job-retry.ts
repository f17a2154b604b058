import { setTimeout as pause } from 'node:timers/promises'
import type { Job } from 'bullmq'
import { z } from 'zod'
import { InvalidInputError, UnknownJobError } from '../job/errors.js'
import { parseInput } from '../job/explain.js'
import { type Keys, type QueuedJob, queueWake } from '../store/index.js'
import type { Connected } from './producer-connection.js'
import { viewOf } from './queue-view.js'

/** How an ended job is run again. */
export interface RetryOptions {
  /** `start`: the whole job anew, on a branch of its own, with a log, a result and an event of its own. Default `start`. */
  readonly from?: 'start' | undefined
}

const optionsSchema = z.strictObject({ from: z.enum(['start'], { error: 'must be "start"' }).optional() })

/** BullMQ hears of an end a moment after everybody else. */
const bullmqLagsMs = 10_000
const lookEveryMs = 50

/**
 * Runs a job again that has ended: in BullMQ, in the index of what waits, and a consumer is woken.
 * @returns `retried`, or `pending` when it waits or runs already, and nothing was done.
 * @throws UnknownJobError; InvalidInputError when the queue does not hold it any more.
 */
export async function retryJob({ queue, redis, store, ready, waits }: Connected, keys: Keys, jobId: string, options: RetryOptions): Promise<'retried' | 'pending'> {
  parseInput(optionsSchema, options, 'retry')
  const giveUpAt = performance.now() + bullmqLagsMs
  for (;;) {
    const [job, [standing]] = await Promise.all([queue.getJob(jobId), store.standings([jobId])])
    if (job === undefined) {
      if (standing?.known !== true) throw new UnknownJobError(jobId)
      throw new InvalidInputError(`job ${jobId} can't be run again: the queue does not hold it any more, since it was cancelled while it waited, was removed, or many have ended since; enqueue it anew`)
    }
    const state = await job.getState()
    if (state === 'completed' || state === 'failed') {
      if (!(await retried(job, state))) continue
      const spec = viewOf(job, false).spec
      // Of a job that is not of Switchyard's nobody knows more than BullMQ.
      if (spec !== undefined) await ready.add([{ jobId, spec }], { strays: true })
      const pipeline = redis.pipeline()
      if (spec !== undefined) waits.queueAdd(pipeline, [{ jobId, spec }])
      queueWake(pipeline, keys, 1)
      for (const [error] of (await pipeline.exec()) ?? []) if (error !== null) throw error
      return 'retried'
    }
    if (standing?.result == null || performance.now() > giveUpAt) return 'pending'
    await pause(lookEveryMs)
  }
}

/** Whether this call did it; false when another one was first. */
async function retried(job: Job<QueuedJob>, state: 'completed' | 'failed'): Promise<boolean> {
  try {
    await job.retry(state)
    return true
  } catch (error) {
    // BullMQ says by a sentence only that it is not, or no more, in that state.
    if (error instanceof Error && /is not in the \w+ state|Missing key for job/.test(error.message)) return false
    throw error
  }
}
