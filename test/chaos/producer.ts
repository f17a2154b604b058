import type { AgentQueue } from '../../src/producers/index.js'
import { RedisUnavailableError, errorMessage } from '../../src/job/errors.js'
import type { JobScript } from './job-scripts.js'
import type { Timeline } from './timeline.js'

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))

/** A job of the run: its script and, once it is enqueued, its id. */
export interface EnqueuedJob {
  readonly script: JobScript
  readonly jobId: string
}

/**
 * Enqueues the jobs at their times and cancels those that are to be cancelled, as a backend service would: while Redis is
 * away, the same call again, which the idempotency key makes safe.
 */
export async function produce(queue: AgentQueue, scripts: readonly JobScript[], timeline: Timeline): Promise<EnqueuedJob[]> {
  const jobs: EnqueuedJob[] = []
  const cancels: Promise<void>[] = []
  for (const script of scripts) {
    await sleep(Math.max(0, script.atMs - timeline.now()))
    const { jobId } = await persist(() => queue.enqueue(script.spec))
    timeline.add('enqueued', { job: script.key, jobId, kind: script.kind })
    jobs.push({ script, jobId })
    const { cancelAfterMs } = script
    if (cancelAfterMs === null) continue
    cancels.push(
      sleep(cancelAfterMs).then(async () => {
        const answer = await persist(() => queue.job(jobId).cancel('called off'))
        timeline.add('cancelled', { job: script.key, jobId, answer })
      }),
    )
  }
  await Promise.all(cancels)
  return jobs
}

/** Repeats a call until Redis is there. */
async function persist<Value>(call: () => Promise<Value>): Promise<Value> {
  for (;;) {
    try {
      return await call()
    } catch (error) {
      if (!(error instanceof RedisUnavailableError)) throw new Error(`a producer's call failed: ${errorMessage(error)}`, { cause: error })
      await sleep(200)
    }
  }
}
