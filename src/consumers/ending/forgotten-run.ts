import { cancelCode } from '../../job/cancel-code.js'
import type { RunRecord } from '../../job/run-record.js'
import type { JobSpec } from '../../job/spec.js'
import { type SlotOwners, unansweredCreateMs } from '../../store/slot-owners.js'
import type { Metrics } from '../../telemetry/metrics.js'
import { finishRun, type Ending } from './finish-run.js'
import { placeOfTheLiving } from './place-of-the-living.js'

export interface ForgottenEnding extends Ending {
  readonly owners: SlotOwners
  readonly metrics?: Metrics | undefined
  /** Something may live at that provider, which a look there finds after so long. */
  readonly onLiving?: ((provider: string, afterMs: number) => void) | undefined
}

/** What is said of a job whose end BullMQ was told by nobody of ours. */
export const endedByOthers = 'ended in the queue by something else than Switchyard'

/**
 * Ends a live run whose job was removed from the queue around Switchyard (by hand, by `obliterate`): it is in no consumer's hands and
 * can't come into any. What the job said of itself went with the job, its `metadata` and `push` too. Whoever still supervised it loses
 * its fence. What lives of it is given up, for the reaper, and has its place until then.
 * @param jobId under which the ending's store knows it.
 * @param cancelled what the job said of itself, where it is in the queue yet, was cancelled and nobody takes it: its run ends as whoever had taken it would have ended it.
 * @param why it was ended, where nobody had cancelled it.
 * @returns false when it had ended meanwhile.
 */
export async function endForgottenRun(ending: ForgottenEnding, jobId: string, cancelled?: Pick<JobSpec, 'metadata' | 'push' | 'tenant'>, why?: string): Promise<boolean> {
  const stored = await ending.store.read(jobId)
  if (stored === null || stored.result !== null || stored.record === null) return false
  const acquired = await ending.store.acquire(jobId, { holder: 'reaper', fresh: stored.record })
  if (acquired.kind === 'ended') return false
  const record = { ...acquired.record, outcome: outcomeOfForgotten(acquired.record, cancelled === undefined ? undefined : (acquired.cancel?.reason ?? why)) }
  const given = [record.sandbox, record.next?.sandbox].filter((sandbox) => sandbox != null)
  const runId = ending.store.runId(jobId)
  const living = placeOfTheLiving(acquired.record, runId, given, ending.now())
  // The place may be that of another job which has come under its id.
  if (living !== null) await ending.owners.entrust({ runId, fence: acquired.fence }, living, { provider: living.provider })
  await finishRun(ending, {
    record,
    spec: cancelled ?? { metadata: {}, push: {} },
    fence: acquired.fence,
    abandoned: [...record.abandoned, ...given.map(({ provider, id }) => ({ provider, id }))],
    checkpoints: record.checkpointBranches,
  }, jobId)
  if (living !== null) ending.onLiving?.(living.provider, living.kind === 'create' ? unansweredCreateMs : 0)
  ending.metrics?.add('switchyard.job.ends', [record.tenant ?? '', record.outcome.status])
  return true
}

/** A failure stays one. A success is one once its work is where it was to go; everything else is cancelled. */
export function outcomeOfForgotten({ outcome, phase }: Pick<RunRecord, 'outcome' | 'phase'>, reason = 'the job was removed from the queue'): NonNullable<RunRecord['outcome']> {
  if (outcome !== null && (outcome.status !== 'succeeded' || phase === 'closing')) return outcome
  return { status: 'cancelled', error: { kind: 'cancelled', message: reason, code: cancelCode(reason) } }
}
