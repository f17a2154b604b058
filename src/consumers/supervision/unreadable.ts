import type { JobResult } from '../../job/result.js'
import { newRunRecord } from '../../job/run-record.js'
import { cancelCode } from '../../job/cancel-code.js'
import type { ConsumerContext } from '../consumer-context.js'
import { finishRun } from '../ending/finish-run.js'

/** Ends a job whose spec no live consumer can read: it has a result and an event as every job. Only what can be read of it is in them. */
export async function endUnreadable(
  { store, ready, holder, deployment, settings, now, eventTypes }: Pick<ConsumerContext, 'store' | 'ready' | 'holder' | 'deployment' | 'settings' | 'now' | 'eventTypes'>,
  job: { readonly jobId: string; readonly generation: number; readonly repository: string; readonly stalls: number },
  reason: string,
): Promise<JobResult> {
  const { jobId, stalls, ...run } = job
  const acquired = await store.acquire(jobId, { holder, fresh: newRunRecord({ jobId, ...run, startedAtMs: now() }), stalls })
  await ready.close(jobId, undefined, { ended: true })
  if (acquired.kind === 'ended') return acquired.result
  const { record, fence, cancel } = acquired
  const outcome =
    cancel === null
      ? ({ status: 'failed', error: { kind: 'invalid', message: reason, owner: 'deployment', code: 'SWY_JOB_UNRUNNABLE' } } as const)
      : ({ status: 'cancelled', error: { kind: 'cancelled', message: cancel.reason, code: cancelCode(cancel.reason) } } as const)
  const abandoned = record.sandbox === null ? record.abandoned : [...record.abandoned, { provider: record.sandbox.provider, id: record.sandbox.id }]
  return await finishRun(
    { store, deployment, branchRetentionMs: settings.branchRetentionMs, now, eventTypes },
    { record: { ...record, outcome: record.outcome ?? outcome }, spec: { metadata: {}, push: {} }, fence, abandoned, checkpoints: record.checkpointBranches },
  )
}
