import type { RunRecord } from '../../job/run-record.js'
import type { SlotOwner } from '../../store/index.js'

/** Who has a job's place once its run has ended, and at which provider. */
export type LivingOwner = Exclude<SlotOwner, { kind: 'job' }> & { readonly provider: string }

/**
 * A job's place is free for the next one when its run ends, unless something may still live in it. Of a job that was about to move, the place is the next
 * sandbox's; the other one has its own.
 * @param record as the run stands before it ends. @param alive the sandboxes that may live.
 * @returns null when nothing does.
 */
export function placeOfTheLiving(record: Pick<RunRecord, 'attempts' | 'sandbox' | 'creating' | 'next'>, runId: string, alive: readonly { readonly provider: string; readonly id: string }[], nowMs: number): LivingOwner | null {
  const { attempts, next } = record
  const { sandbox, creating } = next ?? record
  if (sandbox !== null && alive.some(({ provider, id }) => provider === sandbox.provider && id === sandbox.id)) return { provider: sandbox.provider, kind: 'sandbox', sandboxId: sandbox.id }
  if (creating !== null) return { provider: creating.provider, kind: 'create', runId, attempt: attempts.length + (next === null ? 0 : 1), atMs: nowMs }
  return null
}
