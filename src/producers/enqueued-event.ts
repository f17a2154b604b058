import { defaultEventSource } from '../events/index.js'
import { earlyEntry } from '../events/job-event.js'
import { hooksFor } from '../job/event-kinds.js'
import type { JobSpec } from '../job/spec.js'
import type { EarlyEvent } from '../store/index.js'

/**
 * What tells that a job is in the queue.
 * @param told.runId its id among all queues; `run` is which run of it: 1, or more after a retry. `anew`: another job was told of as this run of it, and
 * removed before that began.
 */
export function enqueuedEvent(jobId: string, spec: JobSpec, { runId, run, anew = false, source = defaultEventSource, nowMs }: { readonly runId: string; readonly run: number; readonly anew?: boolean; readonly source: string | undefined; readonly nowMs: number }): EarlyEvent {
  const { repository, tenant = null, metadata } = spec
  return earlyEntry({ kind: 'enqueued', id: `${runId}.${run}.enqueued${anew ? `.${nowMs}` : ''}`, data: { jobId, run, repository, tenant, metadata } }, { runId, source, nowMs, hooks: hooksFor('enqueued', spec) })
}
