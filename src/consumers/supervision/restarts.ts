import type { JobErrorKind } from '../../job/errors.js'
import type { RunRecord } from '../../job/run-record.js'
import type { JobSpec } from '../../job/spec.js'

/**
 * Failures after which another run from the start may succeed. Not among them: what somebody must mend first (`auth`, `invalid`,
 * `conflict`), what somebody wanted (`cancelled`), and defects (`internal`).
 */
const passing: ReadonlySet<JobErrorKind> = new Set<JobErrorKind>(['step-failed', 'timeout', 'capacity', 'rate-limited', 'transient', 'sandbox-lost', 'provider-down'])

/** Whether a job that is about to end is run again from the start instead. */
export function restarts(record: Pick<RunRecord, 'outcome' | 'restart' | 'pushed' | 'stepIndex' | 'attempts'>, spec: Pick<JobSpec, 'attempts' | 'promote' | 'steps'>): boolean {
  const { outcome, restart, pushed, stepIndex } = record
  if (outcome?.status !== 'failed' || outcome.error === null || !passing.has(outcome.error.kind)) return false
  // Its time to wait for a sandbox is over: there is none to wait anew.
  if (outcome.error.kind === 'timeout' && !record.attempts.slice(restart?.attemptsBefore ?? 0).some(({ sandboxId }) => sandboxId !== null)) return false
  // All steps were done and the work pushed: the promotion was tried, and may have happened. It must not happen twice.
  if (spec.promote !== undefined && pushed && stepIndex >= spec.steps.length) return false
  return (restart?.count ?? 0) + 1 < (spec.attempts ?? 1)
}
