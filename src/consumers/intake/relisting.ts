import type { Logger } from 'pino'
import { errorMessage } from '../../job/errors.js'
import { parseQueuedSpec, type JobSpec } from '../../job/spec.js'
import type { ReadyJobs } from '../../store/index.js'

const jobsPerLook = 500

/**
 * Lists jobs that BullMQ holds as waiting and the index does not know: added around AgentQueue, retried from Bull Board, or
 * left by a producer or a consumer that died between two steps. A look takes a window of the queue, the next look the next one.
 */
export class Relisting {
  private from = 0
  private lastAtMs = -Infinity

  constructor(
    private readonly parts: {
      readonly ready: ReadyJobs
      readonly log: Logger
      readonly now: () => number
      /** At most one look in so many milliseconds: the queue is not read over and over. */
      readonly everyMs: number
      /** What the queue holds of a job, by its id: the spec as it was enqueued; undefined when the job is gone. */
      readonly readSpec: (jobId: string) => Promise<unknown>
    },
  ) {}

  /** Returns whether a job can be taken now that could not before. */
  async run(): Promise<boolean> {
    const { ready, now, everyMs } = this.parts
    // Either way: the clock may have been set back.
    if (Math.abs(now() - this.lastAtMs) < everyMs) return false
    this.lastAtMs = now()
    const missing = await ready.missing(this.from, jobsPerLook)
    this.from = missing.length === 0 ? this.from + jobsPerLook : 0
    if (this.from > 1_000_000) this.from = 0
    let found = 0
    for (const { jobId, placed } of missing) {
      const spec = placed ? null : await this.specOf(jobId)
      // A job with a place was put back by a consumer that died before it said so; an unreadable one is taken, and fails with the reason.
      if (spec === null) await ready.front(jobId)
      else if (spec !== undefined) await ready.add([{ jobId, spec }])
      if (spec !== undefined) found++
    }
    return found > 0
  }

  private async specOf(jobId: string): Promise<JobSpec | null | undefined> {
    const stored = await this.parts.readSpec(jobId)
    if (stored === undefined) return undefined
    try {
      return parseQueuedSpec(stored)
    } catch (error) {
      this.parts.log.warn({ jobId, message: errorMessage(error) }, 'a job in the queue can’t be read')
      return null
    }
  }
}
