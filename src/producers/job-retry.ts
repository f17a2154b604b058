import { setTimeout as pause } from 'node:timers/promises'
import type { Job } from 'bullmq'
import { z } from 'zod'
import { continuationOf } from '../job/continuation.js'
import { CheckpointGoneError, InvalidInputError, KeyTakenError, UnknownJobError } from '../job/errors.js'
import { type EventKind, isAsked } from '../job/event-kinds.js'
import { parseInput } from '../job/explain.js'
import type { JobSpec } from '../job/spec.js'
import { type Keys, type QueuedJob, tellRetried, wake } from '../store/index.js'
import { enqueuedEvent } from './enqueued-event.js'
import { endSuperseded } from './job-cancel.js'
import type { ListOptions } from './job-pages.js'
import type { Connected } from './producer-connection.js'
import { viewOf } from './queue-view.js'

/** How an ended job is run again. */
export interface RetryOptions {
  /**
   * Either way a run with a branch, a log, a result and an event of its own. `start` (the default): the whole job anew. `checkpoint`: it goes on from
   * the last checkpoint of the run before, from the commit that this began with; the step that did not end runs again, with its `resume` where it was
   * saved within. A job that had finished no step then begins at its first. The checkpoint is there as long as `consumer.branchRetentionMs`
   * keeps its branch.
   */
  readonly from?: 'start' | 'checkpoint' | undefined
}

/** Which run of a job is run again, where only that is meant which somebody has seen. */
export interface SeenRun {
  /** When it ended, as `JobStatus` has it; null for whichever is the last. */
  readonly endedAtMs: number | null
}

/** Which ended jobs are run again. */
export type RetryFilter = Pick<ListOptions, 'tenant' | 'repository' | 'since'> & { readonly state?: 'succeeded' | 'failed' | 'cancelled' | undefined }

const optionsSchema = z.strictObject({ from: z.enum(['start', 'checkpoint'], { error: 'must be "start" or "checkpoint"' }).optional() })

/** The queue does not hold the job any more, which has ended. */
export class NotHeldError extends InvalidInputError {}

/** How long a run that is to go on from a checkpoint may wait until it is taken: so long the checkpoint is kept for it. */
const keptMs = 30 * 24 * 60 * 60 * 1000

/** BullMQ hears of an end a moment after everybody else. */
const bullmqLagsMs = 10_000
const lookEveryMs = 50

/**
 * Runs a job again that has ended: in BullMQ (where it still waits there, in its place), in the index of what waits, and a consumer is woken.
 * @param seen the run that is meant: what somebody else has run again meanwhile is left alone, however that ended.
 * @returns `retried`, or `pending` when it waits or runs already or another run has ended, and nothing was done.
 * @throws UnknownJobError; InvalidInputError when the queue does not hold it any more; CheckpointGoneError; KeyTakenError.
 */
export async function retryJob(connected: Connected, keys: Keys, jobId: string, options: RetryOptions, told: { readonly eventSource?: string | undefined; readonly eventTypes?: readonly EventKind[] | undefined } = {}, seen: SeenRun = { endedAtMs: null }): Promise<'retried' | 'pending'> {
  const { from = 'start' } = parseInput(optionsSchema, options, 'retry')
  const { queue, redis, store, ready, waits } = connected
  const giveUpAt = performance.now() + bullmqLagsMs
  for (;;) {
    const [job, [standing]] = await Promise.all([queue.getJob(jobId), store.standings([jobId])])
    if (job === undefined) {
      if (standing?.known !== true) throw new UnknownJobError(jobId)
      throw new NotHeldError(`job ${jobId} can't be run again: the queue does not hold it any more, since it was removed, or many have ended since; enqueue it anew`)
    }
    const state = await job.getState()
    const ended = state === 'completed' || state === 'failed' ? state : null
    // Its run has ended while it waited, and BullMQ hears of that from whoever takes it, which may be never: the queue may be paused.
    const unheard = ended === null && standing?.result != null && (state === 'prioritized' || state === 'waiting') && (await store.read(jobId))?.last.stalls === null
    if (ended !== null || unheard) {
      if (seen.endedAtMs !== null && (await isAnotherRun(connected, jobId, seen.endedAtMs))) return 'pending'
      const spec = viewOf(job, false).spec
      const drops = spec?.concurrency?.then === 'drop' ? spec.concurrency : undefined
      const takenBy = drops === undefined ? null : await ready.keyTakenBy(drops)
      if (drops !== undefined && takenBy !== null) throw new KeyTakenError([jobId], drops.key, takenBy)
      const wish = from === 'checkpoint' ? await continuationWish(connected, jobId, spec) : null
      // Also what a producer left that died before it could do the rest.
      const say = async (whileEnded: boolean) => (wish === null ? await store.withdrawContinuation(jobId, whileEnded) : await store.requestContinuation(jobId, wish, keptMs, whileEnded))
      const asked = await say(ended !== null)
      if (asked === 'changed') continue
      if (asked === 'gone') throw new CheckpointGoneError([jobId], `its branch "${wish?.branch?.name ?? ''}" has been deleted`)
      // Before it can be taken: nothing may be told of the run before this.
      if (spec !== undefined && isAsked('enqueued', spec, told.eventTypes ?? [])) {
        const run = Math.max(job.attemptsMade, (await store.read(jobId))?.generation ?? 0) + 1
        await tellRetried(redis, keys, jobId, enqueuedEvent(jobId, spec, { runId: keys.runId(jobId), run, source: told.eventSource, nowMs: Date.now() }))
      }
      // Where somebody else is first, the wish stays: they say theirs once more.
      if (!(ended === null ? await ready.again(jobId) : await retried(job, ended))) continue
      // Others may have said something else in between. It is taken once it is listed.
      await say(false)
      // Of a job that is not of Switchyard's nobody knows more than BullMQ.
      const { superseded, stay } = spec === undefined ? { superseded: [], stay: [] } : await ready.add([{ jobId, spec }], { strays: true, wake: 1 })
      // Another one has come since it was asked.
      const [stays] = stay
      if (drops !== undefined && stays !== undefined) throw new KeyTakenError([jobId], drops.key, stays.why)
      if (spec !== undefined) await waits.add([{ jobId, spec }])
      else await wake(redis, keys, 1)
      await endSuperseded(connected, superseded, told.eventSource)
      return 'retried'
    }
    if (standing?.result == null || performance.now() > giveUpAt) return 'pending'
    await pause(lookEveryMs)
  }
}

/** Of a record that is past its retention nobody knows, and nobody can have run it again since without one. */
async function isAnotherRun({ store }: Connected, jobId: string, endedAtMs: number): Promise<boolean> {
  const stored = await store.read(jobId)
  return stored !== null && stored.atMs !== endedAtMs
}

/**
 * What the next run is to go on with, from the last checkpoint of the one that has ended; null when that is nothing, because nothing was done.
 * @throws CheckpointGoneError; InvalidInputError for a job that has succeeded.
 */
async function continuationWish({ store }: Connected, jobId: string, spec: JobSpec | undefined): Promise<Parameters<Connected['store']['requestContinuation']>[1] | null> {
  const stored = await store.read(jobId)
  if (stored?.result == null) throw new CheckpointGoneError([jobId], 'its record is past its retention')
  const { result, record, generation } = stored
  if (result.status === 'succeeded') throw new InvalidInputError(`job ${jobId} has succeeded, so there is nothing to go on with; run it again from the start`)
  const keeps = spec !== undefined && spec.push !== false && spec.push.keep === true
  const continuation = continuationOf(record, result, keeps)
  if (continuation.kind === 'none') throw new CheckpointGoneError([jobId], continuation.why)
  if (continuation.kind === 'start') return null
  return { generation, branch: continuation.branch === null ? null : { repository: result.repository, name: continuation.branch }, kept: continuation.kept }
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
