import { type JobSpec, parseQueuedSpec } from '../../job/spec.js'
import { type CancelsWaiting, cancelWaitingJob } from '../../producers/job-cancel.js'
import type { ReadyJobs, StandingEnd } from '../../store/index.js'
import type { Metrics } from '../../telemetry/metrics.js'
import { endedByOthers, endForgottenRun, type ForgottenEnding } from './forgotten-run.js'

export interface EndingInNobodysHands extends ForgottenEnding {
  readonly metrics: Metrics
  readonly ready: Pick<ReadyJobs, 'close' | 'front' | 'keepEnded' | 'supersededBy'>
  readonly getJob: CancelsWaiting['queue']['getJob']
  readonly readJobs: (jobIds: readonly string[]) => Promise<{ readonly spec: unknown }[]>
}

/** A job in hand was removed from the queue around Switchyard, or ended there: its run ends, and its account is closed. */
export async function endRemoved(ending: EndingInNobodysHands, jobId: string): Promise<void> {
  const [queued] = await ending.readJobs([jobId])
  if (queued?.spec === undefined) await endForgottenRun(ending, jobId)
  else await endForgottenRun(ending, jobId, specOf(queued.spec), `the job was ${endedByOthers}`)
  await ending.ready.close(jobId, undefined, { ended: true })
}

/** Ends where it stands what nobody takes, since the queue is paused, say, or all consumers have as many jobs as they may. */
export async function endStanding(ending: EndingInNobodysHands, jobId: string, how: StandingEnd): Promise<void> {
  const { ready, store, metrics, getJob, deployment } = ending
  if (how === 'superseded') {
    const why = await ready.supersededBy(jobId)
    if (why !== null) await cancelWaitingJob({ queue: { getJob }, store, ready, metrics }, jobId, why, `/switchyard/${deployment}`)
    return
  }
  const [queued] = how === 'other' ? [] : await ending.readJobs([jobId])
  await endForgottenRun(ending, jobId, queued === undefined ? undefined : specOf(queued.spec))
  // The other's place and standing are its own.
  if (how === 'other') return
  await ready.close(jobId)
  // Whoever takes it tells BullMQ.
  await ready.front(jobId, { asItIs: true })
}

/** Of one that can't be read its end says less. */
function specOf(spec: unknown): Pick<JobSpec, 'metadata' | 'push' | 'tenant'> {
  try {
    return parseQueuedSpec(spec)
  } catch {
    return { metadata: {}, push: {} }
  }
}
