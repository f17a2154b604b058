import { completionEvent, storedEvent } from '../../events/completion-event.js'
import { tellingOf } from '../../events/told-events.js'
import { type EventKind, hooksFor } from '../../job/event-kinds.js'
import type { JobResult } from '../../job/result.js'
import type { RunRecord } from '../../job/run-record.js'
import type { JobSpec } from '../../job/spec.js'
import type { NextJob, RunStore, Taker } from '../../store/run-store.js'
import { expiringBranches } from './expiring-branches.js'
import { usedSoFar, type Moment } from '../../job/usage.js'
import { endedAttempts, jobResult } from './job-result.js'

/** What the end of a run is written with. */
export interface Ending {
  readonly store: RunStore
  readonly deployment: string
  /** How long the branches of ended jobs are kept. */
  readonly branchRetentionMs: number
  /** Milliseconds since 1970. */
  readonly now: () => number
  /** What is told of all jobs besides their end. Default: nothing. */
  readonly eventTypes?: readonly EventKind[] | undefined
}

/** A run as it ends. */
export interface EndingRun {
  readonly record: RunRecord
  readonly spec: Pick<JobSpec, 'metadata' | 'push' | 'tenant'>
  /** The run's; whoever holds another can't end it. */
  readonly fence: number
  /** Sandboxes of it that may live, for the reaper. */
  readonly abandoned: RunRecord['abandoned']
  /** Checkpoint branches that are still there. */
  readonly checkpoints: readonly string[]
  /** Until when its sandbox is counted; until now when left out. */
  readonly at?: Moment | undefined
}

/**
 * Ends a run by its outcome: result, record, completion event and the branches to delete in one step.
 * @param jobId under which the ending's store knows the job.
 * @throws FenceLostError when another holder has the job.
 */
export async function finishRun(ending: Ending, run: EndingRun, jobId: string = run.record.jobId): Promise<JobResult> {
  const { result, record, event, branches, telling } = whatEnds(ending, run)
  await ending.store.finish(jobId, run.fence, record, result, event, branches, telling)
  return result
}

/**
 * As `finishRun`, and the job leaves this consumer's hands in the same step.
 * @param taker who would take the next job for its place; null when nobody here would.
 * @returns also that job.
 */
export async function finishAndClose(ending: Ending, run: EndingRun, taker: Taker | null): Promise<{ result: JobResult; next: NextJob | null }> {
  const { record, result, event, branches, telling } = whatEnds(ending, run)
  const next = await ending.store.finishAndClose(record.jobId, run.fence, record, result, event, branches, taker, telling)
  return { result, next }
}

function whatEnds({ deployment, branchRetentionMs, now: clock, eventTypes = [] }: Ending, run: EndingRun) {
  // One moment for all of it: the event's time is the last attempt's end.
  const endMs = clock()
  const now = () => endMs
  const { record, spec, fence, abandoned, checkpoints, at = { nowMs: endMs, meterMs: fence } } = run
  const usedMs = usedSoFar(record, at)
  const attempts = endedAttempts(record, at)
  const result = jobResult(record, spec, attempts, usedMs)
  const source = `/switchyard/${deployment}`
  return {
    record: { ...record, phase: 'ended' as const, sandbox: null, creating: null, running: null, abandoned, attempts, usedMs: Math.round(usedMs) },
    result,
    event: storedEvent(completionEvent(result, { generation: record.generation, runId: record.runId, source, now }), hooksFor('completed', record.asked)),
    telling: tellingOf(record, { source, everywhere: eventTypes, tenant: spec.tenant ?? record.tenant, now }),
    branches: expiringBranches(record, spec.push, { resultBranch: result.branch, kept: result.kept.map(({ branch }) => branch), checkpoints }, { now: endMs, retentionMs: branchRetentionMs }),
  }
}
