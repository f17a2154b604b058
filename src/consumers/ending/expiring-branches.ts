import { keptBranch, workBranch } from '../../job/names.js'
import type { RunRecord } from '../../job/run-record.js'
import type { JobSpec } from '../../job/spec.js'
import type { ExpiringBranch } from '../../store/index.js'

/** A checkpoint branch that should be gone already, because the work is on the job's own branch. */
const overdueMs = 60_000

/**
 * The branches that a run leaves behind, and when they are to go.
 * @param record as the run ends.
 * @param left.resultBranch the branch that the result names, which `push.keep` keeps.
 * @param left.kept the kept branches that the result names, which go with it.
 * @param left.checkpoints the checkpoint branches that are still there.
 */
export function expiringBranches(
  record: Pick<RunRecord, 'jobId' | 'generation' | 'restart' | 'repository' | 'finalCommit' | 'pushed' | 'keptCounts'>,
  push: JobSpec['push'],
  left: { readonly resultBranch: string | null; readonly kept: readonly string[]; readonly checkpoints: readonly string[] },
  time: { readonly now: number; readonly retentionMs: number },
): ExpiringBranch[] {
  if (push === false) return []
  const { repository, restart, finalCommit, pushed, keptCounts } = record
  const expiring = new Map<string, number>(left.checkpoints.map((name) => [name, time.now + (pushed ? overdueMs : time.retentionMs)]))
  // Of each attempt at the whole job, if it was pushed; of the last one also when the answer to its push was lost.
  const last = restart?.count ?? 0
  for (let count = 0; count <= last; count++) {
    const run = { ...record, restart: restart === null || count === 0 ? null : { ...restart, count } }
    for (let number = 1; number <= (keptCounts[count] ?? 0); number++) expiring.set(keptBranch(run, number), time.now + time.retentionMs)
    if (count < last || finalCommit !== null) expiring.set(workBranch(run), time.now + time.retentionMs)
  }
  if (push.keep === true && left.resultBranch !== null) for (const name of [left.resultBranch, ...left.kept]) expiring.delete(name)
  return [...expiring].map(([name, dueAtMs]) => ({ repository, name, dueAtMs }))
}
