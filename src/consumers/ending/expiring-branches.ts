import { keptBranch, workBranch } from '../../job/names.js'
import type { RunRecord } from '../../job/run-record.js'
import type { JobSpec } from '../../job/spec.js'
import type { ExpiringBranch } from '../../store/index.js'

/** A checkpoint branch that should be gone already, because the work is on the job's own branch. */
const overdueMs = 60_000

/** The branch of the checkpoint from which another run may go on with a job that did not succeed; null when there is none, or it did. */
export function lastCheckpoint({ outcome, checkpoint }: Pick<RunRecord, 'outcome' | 'checkpoint'>): string | null {
  return outcome?.status === 'succeeded' ? null : (checkpoint?.branch ?? null)
}

/**
 * The branches that a run leaves behind, and when they are to go. Not those that it found taken: a job that had its id may have been to keep them.
 * @param record as the run ends.
 * @param left.resultBranch the branch that the result names, which `push.keep` keeps.
 * @param left.kept the kept branches that the result names, which go with it.
 * @param left.checkpoints the checkpoint branches that are still there.
 */
export function expiringBranches(
  record: Pick<RunRecord, 'jobId' | 'generation' | 'restart' | 'repository' | 'finalCommit' | 'pushed' | 'keptCounts' | 'outcome' | 'checkpoint' | 'takenBranches'>,
  push: JobSpec['push'],
  left: { readonly resultBranch: string | null; readonly kept: readonly string[]; readonly checkpoints: readonly string[] },
  time: { readonly now: number; readonly retentionMs: number },
): ExpiringBranch[] {
  if (push === false) return []
  const { repository, restart, finalCommit, pushed, keptCounts } = record
  const last = lastCheckpoint(record)
  const expiring = new Map<string, number>(left.checkpoints.map((name) => [name, time.now + (pushed && name !== last ? overdueMs : time.retentionMs)]))
  // Of each attempt at the whole job, if it was pushed; of the last one also when the answer to its push was lost.
  const restarts = restart?.count ?? 0
  for (let count = 0; count <= restarts; count++) {
    const run = { ...record, restart: restart === null || count === 0 ? null : { ...restart, count } }
    for (let number = 1; number <= (keptCounts[count] ?? 0); number++) expiring.set(keptBranch(run, number), time.now + time.retentionMs)
    if (count < restarts || finalCommit !== null) expiring.set(workBranch(run), time.now + time.retentionMs)
  }
  if (push.keep === true && left.resultBranch !== null) for (const name of [left.resultBranch, ...left.kept]) expiring.delete(name)
  return [...expiring].map(([name, dueAtMs]) => ({ repository, name, dueAtMs }))
}
