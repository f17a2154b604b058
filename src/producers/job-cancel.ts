import type { Job } from 'bullmq'
import { UnknownJobError } from '../job/errors.js'
import { type QueuedJob, refusesWrites, type SupersededJob } from '../store/index.js'
import type { Connected } from './producer-connection.js'
import { asRetried, cancelledWhileWaiting, viewOf } from './queue-view.js'

/**
 * Ends a job that waits at once; asks the supervisor of one that runs.
 * @param source what its event names as its source; the default when undefined.
 * @throws UnknownJobError.
 */
export async function cancelJob({ queue, store, ready, metrics }: Connected, jobId: string, reason: string, source: string | undefined): Promise<'cancelled' | 'requested' | 'ended'> {
  const [job, stored] = await Promise.all([queue.getJob(jobId), store.read(jobId)])
  if (job === undefined && stored === null) throw new UnknownJobError(jobId)
  const view = job === undefined ? null : asRetried(viewOf(job, false), stored)
  // Its run's record is past its retention: a request would be heard by the next run, of a retry.
  if (stored === null && view?.finished === true) return 'ended'
  // Of a job that BullMQ has not finished, the run that is next may still be untaken; the store decides at once.
  const waiting = view !== null && !view.finished ? cancelledWhileWaiting({ jobId, runId: store.runId(jobId) }, view, reason, source) : null
  const outcome = await store.cancel(jobId, reason, waiting)
  if (outcome === 'cancelled') {
    metrics.add('switchyard.job.ends', [view?.spec?.tenant ?? '', 'cancelled'])
    await leaveQueue(ready, job, jobId, reason)
  }
  // Where nobody has it in hand: nothing else would bring it up before its turn.
  if (outcome === 'requested') await ready.endNext(jobId)
  return outcome
}

/** Consumers, which have no producer's connection, do so too. */
export interface CancelsWaiting extends Pick<Connected, 'store' | 'metrics'> {
  readonly queue: Pick<Connected['queue'], 'getJob'>
  readonly ready: Pick<Connected['ready'], 'close' | 'keepEnded'>
}

/**
 * Ends a job that waits and that nobody has taken yet; one that somebody has is left alone.
 * @returns whether it was ended.
 */
export async function cancelWaitingJob({ queue, store, ready, metrics }: CancelsWaiting, jobId: string, reason: string, source: string | undefined): Promise<boolean> {
  const [job, stored] = await Promise.all([queue.getJob(jobId), store.read(jobId)])
  if (job === undefined) return false
  const view = asRetried(viewOf(job, false), stored)
  if (view.finished || !(await store.endWaiting(jobId, cancelledWhileWaiting({ jobId, runId: store.runId(jobId) }, view, reason, source)))) return false
  metrics.add('switchyard.job.ends', [view.spec?.tenant ?? '', 'cancelled'])
  await leaveQueue(ready, job, jobId, reason)
  return true
}

/**
 * BullMQ keeps it as it does those that consumers end, so that it is listed and can be run again. It has ended, whether or not that can be said now: where Redis has no memory left
 * it takes what removes, as the job's end, and nothing else. A place may have been chosen for it just now; where that can't be said either, a consumer makes up for it as it does for
 * any job that is gone from the queue.
 */
async function leaveQueue(ready: CancelsWaiting['ready'], job: Job<QueuedJob> | undefined, jobId: string, reason: string): Promise<void> {
  const kept = job === undefined ? 'other' : await ready.keepEnded(jobId, `cancelled: ${reason}`).catch(unlessRefused)
  if (kept === 'kept' || kept === 'again') return
  if (kept !== 'locked') await removeUnlessTaken(job)
  await ready.close(jobId, undefined, { ended: true }).catch(unlessRefused)
}

function unlessRefused(error: unknown): void {
  if (!refusesWrites(error)) throw error
}

/** How many a producer ends itself, so that a call of its own does not take long. */
const mostEnded = 100
const endedAtOnce = 25

/** Ends jobs whose keys of concurrency newer ones took, or that were dropped. A consumer ends what is left, and those of other queues. */
export async function endSuperseded(connected: Connected, superseded: readonly SupersededJob[], source: string | undefined): Promise<void> {
  const own = superseded.filter(({ queue }) => queue === connected.queue.name)
  for (let start = 0; start < Math.min(own.length, mostEnded); start += endedAtOnce) {
    const part = own.slice(start, start + endedAtOnce)
    await Promise.all(
      part.map(({ jobId, why }) =>
        cancelJob(connected, jobId, why, source).catch((error: unknown) => {
          // It was removed meanwhile.
          if (!(error instanceof UnknownJobError)) throw error
        }),
      ),
    )
  }
}

/**
 * A consumer may be taking it at this moment: then it finds the record ended, and finishes it in BullMQ itself. The children of its flow are jobs of their
 * own, each with a result, which BullMQ would remove as well. The next job of one of BullMQ's schedulers is never removed alone: it is finished once it is taken, too.
 */
async function removeUnlessTaken(job: Job<QueuedJob> | undefined): Promise<void> {
  try {
    await job?.remove({ removeChildren: false })
  } catch (error) {
    if (!(error instanceof Error && /locked|belongs to a job scheduler/.test(error.message))) throw error
  }
}
