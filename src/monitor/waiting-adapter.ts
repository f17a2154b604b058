import { BullMQAdapter } from '@bull-board/api/bullMQAdapter'
import type { Job, Queue } from 'bullmq'
import { errorMessage } from '../job/errors.js'
import { harmlessLine, withPictures } from '../job/harmless-text.js'
import { shownText } from './formatters.js'

type AfterFirst<List extends readonly unknown[]> = List extends readonly [unknown, ...infer Rest] ? Rest : never

/** Why jobs do not move, by their ids; those that do are left out. */
export type ReasonLookup = (jobIds: readonly string[]) => Promise<ReadonlyMap<string, string>>

/** Between a job's name, which is its repository, and what it waits for. */
const separator = ' · '

/**
 * Shows beside a job's name, and in its progress, what it waits for, looked up for the jobs of a page when the page is asked for: nothing is written
 * for a job that waits, so a million of them cost what none does.
 */
export class WaitingAdapter extends BullMQAdapter {
  constructor(
    queue: Queue,
    options: ConstructorParameters<typeof BullMQAdapter>[1],
    private readonly reasons: ReasonLookup,
  ) {
    super(queue, options)
    this.setFormatter('name', ({ name, progress }) => harmlessLine([name ?? '', ...waitingOf(progress)].join(separator)))
  }

  /** A duplicate begins with the name that is shown. */
  override async addJob(name: string, ...more: AfterFirst<Parameters<BullMQAdapter['addJob']>>): Promise<Job> {
    return super.addJob(name.split(separator)[0] ?? '', ...more)
  }

  override async getJob(id: string): Promise<Job | undefined> {
    const job = await super.getJob(id)
    if (job !== undefined) await this.tell([job])
    return job
  }

  override async getJobs(states: Parameters<BullMQAdapter['getJobs']>[0], start?: number, end?: number): Promise<Job[]> {
    const jobs = await super.getJobs(states, start, end)
    await this.tell(jobs)
    return jobs
  }

  override async getJobLogs(...call: Parameters<BullMQAdapter['getJobLogs']>): ReturnType<BullMQAdapter['getJobLogs']> {
    return (await super.getJobLogs(...call)).map(withPictures)
  }

  private async tell(jobs: readonly Job[]): Promise<void> {
    for (const job of jobs) {
      // What Bull Board has no formatter for.
      if (typeof job.failedReason === 'string') job.failedReason = shownText(job.failedReason)
      if (Array.isArray(job.stacktrace)) job.stacktrace = job.stacktrace.map(shownText)
    }
    await this.tellWaiting(jobs)
  }

  /** Changes what these objects show, and nothing in Redis. */
  private async tellWaiting(jobs: readonly Job[]): Promise<void> {
    const unfinished = jobs.filter(({ id, finishedOn }) => id !== undefined && finishedOn === undefined)
    if (unfinished.length === 0) return
    // A page without reasons is better than none, as long as it says so.
    const reasons = await this.reasons(unfinished.map(({ id = '' }) => id)).catch((error: unknown) => errorMessage(error))
    for (const job of unfinished) {
      const reason = typeof reasons === 'string' ? `not known: ${reasons}` : reasons.get(job.id ?? '')
      const shown = typeof job.progress === 'object' ? job.progress : {}
      const { waiting: _before, ...rest } = shown as { readonly waiting?: unknown }
      if (reason !== undefined) job.progress = { ...rest, waiting: reason }
      else if ('waiting' in shown) job.progress = rest
    }
  }
}

function waitingOf(progress: unknown): string[] {
  const waiting = typeof progress === 'object' && progress !== null && 'waiting' in progress ? progress.waiting : undefined
  return typeof waiting === 'string' ? [waiting] : []
}
