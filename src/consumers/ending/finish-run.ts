import { completionEvent } from '../../events/completion-event.js'
import type { JobResult } from '../../job/result.js'
import type { RunRecord } from '../../job/run-record.js'
import type { JobSpec } from '../../job/spec.js'
import type { RunStore } from '../../store/run-store.js'
import { expiringBranches } from './expiring-branches.js'
import { endedAttempts, jobResult, usedSoFar } from './job-result.js'

/** What the end of a run is written with. */
export interface Ending {
  readonly store: RunStore
  readonly deployment: string
  /** How long the branches of ended jobs are kept. */
  readonly branchRetentionMs: number
  /** Milliseconds since 1970. */
  readonly now: () => number
}

/**
 * Ends a run by its outcome: result, record, completion event and the branches to delete in one step.
 * @param run.fence the run's; whoever holds another can't end it.
 * @param run.abandoned sandboxes of it that may live, for the reaper.
 * @param run.checkpoints checkpoint branches that are still there.
 * @param run.usedMs sandbox-milliseconds; until now when left out.
 * @throws FenceLostError when another holder has the job.
 */
export async function finishRun(
  { store, deployment, branchRetentionMs, now }: Ending,
  run: {
    readonly record: RunRecord
    readonly spec: Pick<JobSpec, 'metadata' | 'push'>
    readonly fence: number
    readonly abandoned: RunRecord['abandoned']
    readonly checkpoints: readonly string[]
    readonly usedMs?: number
  },
): Promise<JobResult> {
  const { record, spec, fence, abandoned, checkpoints, usedMs = usedSoFar(record, now()) } = run
  const attempts = endedAttempts(record, now())
  const result = jobResult(record, spec, attempts, usedMs)
  await store.finish(
    record.jobId,
    fence,
    { ...record, phase: 'ended', sandbox: null, creating: null, running: null, abandoned, attempts, usedMs: Math.round(usedMs) },
    result,
    completionEvent(result, { generation: record.generation, source: `/switchyard/${deployment}`, now }),
    expiringBranches(record, spec.push, { resultBranch: result.branch, kept: result.kept.map(({ branch }) => branch), checkpoints }, { now: now(), retentionMs: branchRetentionMs }),
  )
  return result
}
