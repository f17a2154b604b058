import { completionEvent } from '../events/completion-event.js'
import type { RunStore } from '../store/index.js'
import { expiringBranches } from './branch-retention.js'
import { endedAttempts, jobResult } from './job-result.js'

/**
 * Ends a live run whose job was removed from the queue around Switchyard (by hand, by `obliterate`): it is in no consumer's hands and
 * can't come into any. As cancelled, unless it was certain already how it ends; what the job said of itself went with the job, its
 * `metadata` and `push` too. Whoever still supervised it loses its fence. What lives of it is given up, for the reaper.
 */
export async function endForgottenRun(
  { store, deployment, branchRetentionMs, now }: { readonly store: RunStore; readonly deployment: string; readonly branchRetentionMs: number; readonly now: () => number },
  jobId: string,
): Promise<void> {
  const stored = await store.read(jobId)
  if (stored === null || stored.result !== null || stored.record === null) return
  const acquired = await store.acquire(jobId, { holder: 'reaper', fresh: stored.record })
  if (acquired.kind === 'ended') return
  const { record } = acquired
  const outcome = record.outcome ?? { status: 'cancelled', error: { kind: 'cancelled', message: 'the job was removed from the queue' } }
  const attempts = endedAttempts({ ...record, outcome }, now())
  const usedMs = record.usedMs + (record.sandbox === null ? 0 : Math.max(0, now() - record.sandbox.createdAtMs))
  const result = jobResult({ ...record, outcome }, { metadata: {} }, attempts, usedMs)
  const abandoned = record.sandbox === null ? record.abandoned : [...record.abandoned, { provider: record.sandbox.provider, id: record.sandbox.id }]
  await store.finish(
    jobId,
    acquired.fence,
    { ...record, outcome, phase: 'ended', sandbox: null, creating: null, running: null, abandoned, attempts, usedMs: Math.round(usedMs) },
    result,
    completionEvent(result, { generation: record.generation, source: `/switchyard/${deployment}`, now }),
    expiringBranches(record, {}, { resultBranch: result.branch, checkpoints: record.checkpointBranches }, { now: now(), retentionMs: branchRetentionMs }),
  )
}
