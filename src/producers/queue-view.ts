import type { Job, JobType } from 'bullmq'
import { z } from 'zod'
import { type CompletionEvent, completionEvent } from '../events/index.js'
import { cancelCode } from '../job/cancel-code.js'
import { nothingCollected } from '../job/artifacts.js'
import { type Hook, hooksFor } from '../job/event-kinds.js'
import type { JobResult } from '../job/result.js'
import { InvalidInputError, NewerReleaseError } from '../job/errors.js'
import { parseQueuedSpec, wholeSpec, type JobSpec } from '../job/spec.js'
import type { JobStatus } from '../job/status.js'
import { nextGeneration, type QueuedFacts, type QueuedJob, type StoredRun } from '../store/index.js'

/** What BullMQ knows of a job. */
export interface QueueView {
  /** Undefined for a job that Switchyard did not put there. */
  readonly spec: JobSpec | undefined
  readonly enqueuedAtMs: number
  /** The generation that the queue runs or would run next: 1, or more after a retry of the whole job. */
  readonly generation: number
  /** By what it is told whether its last run is still the job's. */
  readonly facts: QueuedFacts
  /** Whether BullMQ holds it as completed or failed. */
  readonly finished: boolean
  /** Whether a consumer has it in hand now. */
  readonly inHand: boolean
  /** Until when it is delayed, in milliseconds since 1970; null when it is not. */
  readonly delayedUntilMs: number | null
}

/** Ends a job that never ran. */
export function cancelledWhileWaiting(
  { jobId, runId }: { readonly jobId: string; readonly runId: string },
  { spec, generation }: QueueView,
  reason: string,
  source: string | undefined,
): { result: JobResult; event: CompletionEvent & { hooks?: readonly Hook[] }; generation: number } {
  const result: JobResult = {
    jobId,
    status: 'cancelled',
    error: { kind: 'cancelled', message: reason, code: cancelCode(reason) },
    repository: spec?.repository ?? '',
    baseSha: null,
    branch: null,
    commit: null,
    promoted: null,
    pullRequest: null,
    steps: [],
    attempts: [],
    diff: null,
    unsaved: [],
    unsavedMore: 0,
    kept: [],
    ...nothingCollected,
    usage: { sandboxSeconds: 0 },
    metadata: spec?.metadata ?? {},
    tenant: spec?.tenant ?? null,
  }
  const event = completionEvent(result, { generation, runId, ...(source === undefined ? {} : { source }) })
  const hooks = hooksFor('completed', spec)
  return { result, event: hooks.length === 0 ? event : { ...event, hooks }, generation }
}

/**
 * Reads a BullMQ job.
 * @param inHand whether a consumer holds its lock.
 */
export function viewOf(job: Job<QueuedJob>, inHand: boolean): QueueView {
  const finished = job.finishedOn !== undefined
  const data = job.data as Partial<QueuedJob> | null | undefined
  // BullMQ counts an attempt when it ends, so an unfinished job stands one before its run's generation.
  return { spec: specIn(data), enqueuedAtMs: data?.enqueuedAtMs ?? job.timestamp, finished, inHand, facts: { addedAtMs: job.timestamp, finished, attemptsMade: job.attemptsMade, takenAtMs: job.processedOn ?? null, stalledCounter: job.stalledCounter }, delayedUntilMs: job.delay > 0 ? job.timestamp + job.delay : null, generation: Math.max(1, job.attemptsMade + (finished ? 0 : 1)) }
}

/**
 * Of the generation that the queue runs or would run next, where BullMQ was told to run a job again that had ended, and nobody has begun that.
 * @param stored its last run.
 */
export function asRetried(queued: QueueView, stored: Pick<StoredRun, 'last'> | null): QueueView {
  const next = stored === null ? null : nextGeneration(queued.facts, stored.last)
  return next === null ? queued : { ...queued, generation: next }
}

/** Whether that is so. */
export function isRetried(queued: Pick<QueueView, 'facts'>, stored: Pick<StoredRun, 'last'>): boolean {
  return nextGeneration(queued.facts, stored.last) !== null
}

/** What is looked at of a spec; the whole is checked by whoever runs it. */
const ownSpec = z.looseObject({
  repository: z.string(),
  setup: z.array(z.looseObject({}).or(z.string())).optional(),
  steps: z.array(z.looseObject({}).or(z.string())),
  secrets: z.array(z.string()).optional(),
  providers: z.looseObject({ allow: z.array(z.string()).optional(), prefer: z.array(z.string()), deny: z.array(z.string()) }).optional(),
  resources: z.looseObject({}).optional(),
  concurrency: z.looseObject({ key: z.string(), limit: z.number(), then: z.string() }).optional(),
  events: z.array(z.string()).optional(),
  webhooks: z.array(z.looseObject({ url: z.string(), events: z.array(z.string()).optional(), secretName: z.string() })).optional(),
})

/** Anybody can put a job with any data into a queue of BullMQ's. */
function specIn(data: unknown): JobSpec | undefined {
  return shownSpec(typeof data === 'object' && data !== null && 'spec' in data ? data.spec : undefined)
}

/** A spec as the queue, or a schedule, holds it; undefined for what is none. */
export function shownSpec(spec: unknown): JobSpec | undefined {
  return ownSpec.safeParse(spec).success ? (wholeSpec(spec as object) as JobSpec) : undefined
}

/** The spec of a job as whoever takes it reads it, and not only what is shown of it: null where it would not be run. */
export function specToRun(data: unknown): JobSpec | null {
  try {
    return parseQueuedSpec(typeof data === 'object' && data !== null && 'spec' in data ? data.spec : undefined)
  } catch (error) {
    if (error instanceof InvalidInputError || error instanceof NewerReleaseError) return null
    throw error
  }
}

/** The BullMQ states in which jobs of a state are found; each may hold others too. */
export function typesOf(state: JobStatus['state'] | undefined): JobType[] {
  switch (state) {
    case 'waiting':
      return ['prioritized', 'waiting', 'delayed', 'waiting-children']
    case 'running':
      // A job that is handed over is back in the queue for a moment.
      return ['active', 'waiting', 'prioritized', 'delayed']
    case 'parked':
      return ['delayed', 'prioritized', 'active', 'waiting']
    case 'succeeded':
      // One of whose flow's children none has ended counts as failed there.
    case 'failed':
    case 'cancelled':
      return ['failed', 'completed']
    case undefined:
      return ['active', 'waiting', 'prioritized', 'delayed', 'waiting-children', 'completed', 'failed']
  }
}
