import type { JobResult } from './result.js'
import type { RunRecord } from './run-record.js'

/** What a run that has ended leaves for one that is to go on from its last checkpoint. */
export type Continuation =
  /** `branch`: the ephemeral one that holds it, null when it is the base itself; `kept`: no time is set for that one's deletion. */
  | { readonly kind: 'checkpoint'; readonly branch: string | null; readonly kept: boolean }
  /** No step had ended and nothing was saved: the start is where it stopped. */
  | { readonly kind: 'start' }
  /** `why`: a clause. */
  | { readonly kind: 'none'; readonly why: string }

/**
 * Where a run that did not succeed can be gone on with.
 * @param record null when it was cancelled before anybody took it.
 * @param keeps whether the job keeps the branch that its result names (`push.keep`).
 */
export function continuationOf(record: Pick<RunRecord, 'checkpoint' | 'base' | 'steps'> | null, result: Pick<JobResult, 'branch'>, keeps: boolean): Continuation {
  if (record === null) return { kind: 'start' }
  const { checkpoint, base, steps } = record
  if (checkpoint === null || base === null) return steps.every(({ exitCode }) => exitCode !== 0) ? { kind: 'start' } : { kind: 'none', why: 'none was saved after the steps that it has done' }
  return { kind: 'checkpoint', branch: checkpoint.branch, kept: keeps && checkpoint.branch !== null && checkpoint.branch === result.branch }
}

/**
 * The first record of a run that goes on from the last checkpoint of an earlier one: its base, its steps as far as the checkpoint holds them, with
 * their results; attempts, time and branches are its own.
 * @param fresh as if the run began from the start.
 */
export function continuedRecord(fresh: RunRecord, ended: RunRecord): RunRecord {
  const { base, checkpoint, steps, unsaved, unsavedMore, generation } = ended
  if (base === null || checkpoint === null) return fresh
  return {
    ...fresh,
    base,
    checkpoint,
    stepIndex: checkpoint.stepIndex,
    steps: steps.slice(0, checkpoint.stepIndex),
    // From now on its end sees to the branch.
    checkpointBranches: checkpoint.branch === null ? [] : [checkpoint.branch],
    unsaved,
    unsavedMore,
    continues: { generation, confirmed: false },
  }
}
