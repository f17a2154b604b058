import { nothingCollected } from '../../job/artifacts.js'
import { sumOf } from '../../job/cost.js'
import type { Attempt, JobResult } from '../../job/result.js'
import type { RunRecord } from '../../job/run-record.js'
import { costOf, type Moment } from '../../job/usage.js'
import { workBranch } from '../../job/names.js'
import type { JobSpec } from '../../job/spec.js'

/**
 * What the user gets, from the record of an ended run. The branch and commit are the pushed work; of a job that ended before it
 * was pushed, the last checkpoint.
 */
export function jobResult(record: RunRecord, spec: Pick<JobSpec, 'metadata' | 'tenant'>, attempts: readonly Attempt[], usedMs: number): JobResult {
  const { outcome, checkpoint } = record
  const cost = sumOf(attempts.map((attempt) => attempt.cost))
  if (outcome === null) throw new Error(`run ${record.jobId}: a result without an outcome`)
  const saved = record.pushed
    ? { branch: workBranch(record), commit: record.finalCommit }
    : { branch: checkpoint?.branch ?? null, commit: typeof checkpoint?.branch === 'string' ? checkpoint.sha : null }
  return {
    jobId: record.jobId,
    status: outcome.status,
    error: outcome.error,
    repository: record.repository,
    baseSha: record.base?.sha ?? null,
    ...saved,
    promoted: record.promoted,
    pullRequest: record.pullRequest,
    steps: record.steps,
    attempts: [...attempts],
    diff: record.diff,
    unsaved: record.unsaved,
    unsavedMore: record.unsavedMore,
    kept: record.kept,
    ...(record.collected ?? nothingCollected),
    usage: { sandboxSeconds: Math.round(usedMs) / 1000, ...(cost === null ? {} : { cost }) },
    metadata: spec.metadata,
    tenant: spec.tenant ?? record.tenant ?? null,
  }
}

/** The attempts of a run that ends now: one that was under way ends as the run does. A sandbox that was made to go on in is counted with it. */
export function endedAttempts({ outcome, attempts, sandbox, next }: Pick<RunRecord, 'outcome' | 'attempts' | 'sandbox' | 'next'>, at: Moment): Attempt[] {
  const cost = sumOf([costOf(sandbox, at), costOf(next?.sandbox ?? null, at)])
  return attempts.map((attempt) =>
    attempt.outcome === 'running'
      ? { ...attempt, endedAt: new Date(at.nowMs).toISOString(), outcome: outcome?.status ?? ('failed' as const), error: outcome?.error ?? null, ...(cost === null ? {} : { cost }) }
      : attempt,
  )
}
