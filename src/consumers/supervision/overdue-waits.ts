import { z } from 'zod'
import { completionEvent, storedEvent } from '../../events/completion-event.js'
import { timeoutSentence } from '../../job/deadlines.js'
import { hooksFor } from '../../job/event-kinds.js'
import { errorMessage } from '../../job/errors.js'
import { newRunRecord } from '../../job/run-record.js'
import { parseQueuedSpec, type JobSpec } from '../../job/spec.js'
import type { OverdueJob, WaitDeadlines } from '../../store/index.js'
import type { ConsumerContext } from '../consumer-context.js'
import { jobResult } from '../ending/job-result.js'

/** Whoever takes jobs ends those whose time is up itself, and knows better what they waited for. */
const leftToTakersMs = 3_000
const jobsPerLook = 50

const dataSchema = z.object({ spec: z.unknown() })

export interface OverdueParts {
  readonly context: Pick<ConsumerContext, 'store' | 'deployment' | 'now' | 'log' | 'metrics'>
  readonly deadlines: WaitDeadlines
  /** Why this consumer takes no job now; null when it does. */
  readonly whyIdle: () => Promise<string | null>
}

/**
 * Ends jobs whose time to wait for a sandbox is over while nobody takes any: the queue is paused, say, or every consumer's git key is
 * refused. The run is ended where it stands; the job stays in the queue, and whoever takes it later finds it ended and finishes it there.
 * Every consumer does this; the end is one step, so that a job has one.
 * @returns how many were ended.
 */
export async function endOverdueWaits({ context, deadlines, whyIdle }: OverdueParts): Promise<number> {
  const overdue = await deadlines.overdue(leftToTakersMs, jobsPerLook)
  if (overdue.length === 0) return 0
  const why = await whyIdle()
  const settled: string[] = []
  const postponed: { jobId: string; spec: Pick<JobSpec, 'waitTimeoutMs'> }[] = []
  let ended = 0
  for (const job of overdue) {
    const spec = job.taken ? null : specOf(job)
    const leftMs = spec === null ? 0 : leftByOwnClock(job, spec, context.now())
    if (spec !== null && job.delayed) postponed.push({ jobId: job.jobId, spec })
    else if (leftMs > 0) postponed.push({ jobId: job.jobId, spec: { waitTimeoutMs: leftMs } })
    else settled.push(job.jobId)
    if (spec === null || job.delayed || leftMs > 0) continue
    try {
      if (await end(context, job, spec, why)) ended += 1
    } catch (error) {
      settled.pop()
      context.log.warn({ jobId: job.jobId, message: errorMessage(error) }, 'a job that has waited for too long not ended; tried again')
    }
  }
  await deadlines.settle(settled)
  await deadlines.add(postponed)
  return ended
}

/** For how long it may wait still: Redis' clock, which says that its time is over, may have been set. */
function leftByOwnClock({ fromMs }: OverdueJob, { waitTimeoutMs = 0 }: JobSpec, nowMs: number): number {
  // Whoever enqueued it by a clock that is ahead of this one says nothing.
  return fromMs === null || fromMs > nowMs ? 0 : Math.round(fromMs + waitTimeoutMs - nowMs)
}

async function end({ store, deployment, now, metrics }: OverdueParts['context'], { jobId, generation }: OverdueJob, spec: JobSpec, why: string | null): Promise<boolean> {
  const record = newRunRecord({ jobId, generation, repository: spec.repository, startedAtMs: now() })
  const error = { kind: 'timeout', message: timeoutSentence('waitTimeout', spec, why), code: 'SWY_JOB_TIMEOUT' } as const
  const result = jobResult({ ...record, outcome: { status: 'failed', error } }, spec, [], 0)
  const event = storedEvent(completionEvent(result, { generation, runId: store.runId(jobId), source: `/switchyard/${deployment}`, now }), hooksFor('completed', spec))
  if (!(await store.endWaiting(jobId, { result, event, generation }))) return false
  metrics.add('switchyard.job.ends', [spec.tenant ?? '', result.status])
  return true
}

/** Null for a job that is not in the queue any more, or that this release can't read: a later one ends it. */
function specOf({ data }: OverdueJob): JobSpec | null {
  if (data === null) return null
  try {
    return parseQueuedSpec(dataSchema.parse(JSON.parse(data)).spec)
  } catch {
    return null
  }
}
