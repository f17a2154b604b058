import type { Logger } from 'pino'
import { errorMessage } from '../../job/errors.js'
import { parseQueuedSpec, type JobSpec } from '../../job/spec.js'
import type { ReadyJob, ReadyJobs, StandingEnd, WaitDeadlines } from '../../store/index.js'

/** How many bounded parts one look at the index takes, so that it never goes on and on. */
const partsPerLook = 4
/** How many bounded parts of what is over are taken apart after it: some hundreds of lists a second, a few hundredths of Redis' time. */
const apartPerLook = 32

export interface RelistingParts {
  readonly ready: Pick<ReadyJobs, 'reconcile' | 'add' | 'front' | 'tidy' | 'yieldTurn'>
  readonly waits: Pick<WaitDeadlines, 'add'>
  readonly holder: string
  readonly log: Logger
  readonly now: () => number
  /** At most one look in so many milliseconds: the queue is not read over and over. */
  readonly everyMs: number
  /** What the queue holds of jobs, by their ids: the spec as it was enqueued, null for a job without one, undefined when the job is gone; and whether it has a run. */
  readonly readJobs: (jobIds: readonly string[]) => Promise<{ readonly spec: unknown; readonly begun: boolean }[]>
  /** A job in hand was removed from the queue around Switchyard: its run is to be ended, and its account closed. */
  readonly onGone: (jobId: string) => Promise<void>
  /** What nobody has in hand is to be ended where it stands. */
  readonly onEnds: (jobId: string, how: StandingEnd) => Promise<void>
  /** The time is over for which an operator paused the queue. */
  readonly onPauseOver: () => Promise<void>
}

/**
 * Keeps the index true to BullMQ: lists jobs that it holds and the index does not know (added around AgentQueue, retried or promoted from Bull
 * Board, left by a producer or a consumer that died between two steps), and ends the runs of jobs that were removed while they were in hand.
 */
export class Relisting {
  private lastAtMs = -Infinity
  private pauseMs = 0

  constructor(private readonly parts: RelistingParts) {}

  /** Returns whether a job can be taken now that could not before. */
  async run(): Promise<boolean> {
    const { ready, holder, now, everyMs } = this.parts
    // Either way: the clock may have been set back.
    if (Math.abs(now() - this.lastAtMs) < this.pauseMs) return false
    this.lastAtMs = now()
    this.pauseMs = everyMs
    let found = false
    let over = false
    for (let part = 0; part < partsPerLook; part++) {
      const { more, missing, gone, othersForMs, pauseOver, untidy, ends } = await ready.reconcile(holder, 3 * everyMs)
      // Who does it now says so again well before that; it is asked after when it should have.
      this.pauseMs = Math.min(3 * everyMs, Math.max(everyMs, othersForMs))
      for (const jobId of gone) await this.end(jobId, () => this.parts.onGone(jobId))
      for (const { jobId, how } of ends) await this.end(jobId, () => this.parts.onEnds(jobId, how))
      if (pauseOver) await this.parts.onPauseOver()
      // A job with a place was put back by a consumer that died before it said so.
      for (const { jobId } of missing.filter(({ placed }) => placed)) await ready.front(jobId)
      if (await this.list(missing.flatMap(({ jobId, placed }) => (placed ? [] : [jobId])))) found = true
      found ||= pauseOver || missing.some(({ placed }) => placed)
      over = untidy
      if (!more) break
    }
    for (let part = 0; over && part < apartPerLook; part++) over = await ready.tidy()
    return found
  }

  /** Another consumer has given up its turn: asks for it with the next look. */
  turnIsFree(): void {
    this.pauseMs = 0
  }

  /** Nobody waits for the turn of one that stops. */
  async stop(): Promise<void> {
    await this.parts.ready.yieldTurn(this.parts.holder)
  }

  /** Lists these. Returns whether there is one that can be taken now. */
  async list(jobIds: readonly string[]): Promise<boolean> {
    if (jobIds.length === 0) return false
    const stored = await this.parts.readJobs(jobIds)
    const readable: ReadyJob[] = []
    let found = false
    for (const [index, jobId] of jobIds.entries()) {
      const spec = this.specOf(jobId, stored[index]?.spec)
      if (spec === undefined) continue
      found = true
      // An unreadable one is taken, and fails with the reason.
      if (spec === null) await this.parts.ready.front(jobId, { asItIs: true })
      else readable.push({ jobId, spec, begun: stored[index]?.begun })
    }
    const { stay } = await this.parts.ready.add(readable, { strays: true })
    for (const { jobId, why } of stay) this.parts.log.info({ jobId, other: why }, 'job not run again: it is to be dropped while another has its concurrency key')
    // Also while nobody takes any; what was said of a run before has ended with that.
    await this.parts.waits.add(readable.filter(({ jobId, begun }) => begun !== true && !stay.some((each) => each.jobId === jobId)))
    return found
  }

  private async end(jobId: string, by: () => Promise<void>): Promise<void> {
    try {
      await by()
    } catch (error) {
      this.parts.log.warn({ jobId, message: errorMessage(error) }, 'the run of a job that was removed from the queue, or cancelled, is not ended; tried again')
    }
  }

  private specOf(jobId: string, stored: unknown): JobSpec | null | undefined {
    if (stored === undefined) return undefined
    try {
      return parseQueuedSpec(stored)
    } catch (error) {
      this.parts.log.warn({ jobId, message: errorMessage(error) }, 'a job in the queue can’t be read')
      return null
    }
  }
}
