import { workBranch } from '../../job/names.js'
import type { RunRecord } from '../../job/run-record.js'
import type { JobSpec } from '../../job/spec.js'
import type { ExpiringBranch } from '../../store/index.js'

/** A checkpoint branch that should be gone already, because the work is on the job's own branch. */
const overdueMs = 60_000

/**
 * The branches that a run leaves behind, and when they are to go.
 * @param record as the run ends.
 * @param resultBranch the branch that the result names, which `push.keep` keeps.
 * @param checkpoints the checkpoint branches that are still there.
 */
export function expiringBranches(
  record: Pick<RunRecord, 'jobId' | 'generation' | 'restart' | 'repository' | 'finalCommit' | 'pushed'>,
  push: JobSpec['push'],
  left: { readonly resultBranch: string | null; readonly checkpoints: readonly string[] },
  time: { readonly now: number; readonly retentionMs: number },
): ExpiringBranch[] {
  if (push === false) return []
  const { repository, restart, finalCommit, pushed } = record
  const expiring = new Map<string, number>(left.checkpoints.map((name) => [name, time.now + (pushed ? overdueMs : time.retentionMs)]))
  // Of each attempt at the whole job, if it was pushed; of the last one also when the answer to its push was lost.
  const last = restart?.count ?? 0
  for (let count = 0; count <= last; count++) {
    if (count === last && finalCommit === null) continue
    const branch = workBranch({ ...record, restart: restart === null || count === 0 ? null : { ...restart, count } })
    expiring.set(branch, time.now + time.retentionMs)
  }
  if (push.keep === true && left.resultBranch !== null) expiring.delete(left.resultBranch)
  return [...expiring].map(([name, dueAtMs]) => ({ repository, name, dueAtMs }))
}
