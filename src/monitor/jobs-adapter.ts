import { BullMQAdapter } from '@bull-board/api/bullMQAdapter'
import type { Job, Queue } from 'bullmq'
import { namesQueuePart } from '../job/names.js'
import { errorMessage, InvalidInputError } from '../job/errors.js'
import type { JobView } from '../job/fleet.js'
import { harmlessLine, withPictures } from '../job/harmless-text.js'
import type { JobStatus } from '../job/status.js'
import { digestOf, nameOf, type NamedJob, separator } from './digest.js'
import { shownText } from './formatters.js'
import type { Links } from '../job/page-links.js'
import type { MonitoredQueue } from './source.js'

type AfterFirst<List extends readonly unknown[]> = List extends readonly [unknown, ...infer Rest] ? Rest : never

/** How the jobs of a page stand, and what each waits for, in the order of the ids; null for one that nobody knows. */
export type StatusLookup = MonitoredQueue['statuses']

/** What Bull Board may do to a job, in place of what BullMQ would. */
export type JobActions = Pick<MonitoredQueue, 'job' | 'retry'>

/**
 * Shows a job as what it is: its name says repository, first step and state, its progress how it stands, looked up for the jobs of a page when the
 * page is asked for. Nothing is written for a job that waits, so a million of them cost what none does. Removing a job that has not ended cancels
 * it, and running one again is a retry as everywhere else.
 */
export class JobsAdapter extends BullMQAdapter {
  constructor(
    queue: Queue,
    options: ConstructorParameters<typeof BullMQAdapter>[1],
    private readonly look: { readonly statuses: StatusLookup; readonly view: MonitoredQueue['view'] | undefined; readonly actions: JobActions | undefined; readonly links: Links },
  ) {
    super(queue, options)
    this.setFormatter('name', (job: NamedJob) => nameOf(job))
  }

  /** A duplicate begins with the name that is shown. */
  override async addJob(name: string, ...more: AfterFirst<Parameters<BullMQAdapter['addJob']>>): Promise<Job> {
    return super.addJob(name.split(separator)[0] ?? '', ...more)
  }

  override async getJob(id: string): Promise<Job | undefined> {
    // It would show, change or remove the queue's own lists.
    const job = namesQueuePart(id) ? undefined : await super.getJob(id)
    if (job === undefined) return undefined
    const view = await this.look.view?.(id).catch(() => null)
    await this.tell([job], view ?? undefined)
    this.act(job, id)
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

  /** Changes what these objects show, and nothing in Redis. */
  private async tell(jobs: readonly Job[], view?: JobView): Promise<void> {
    for (const job of jobs) {
      // What Bull Board has no formatter for.
      if (typeof job.failedReason === 'string') job.failedReason = shownText(job.failedReason)
      if (Array.isArray(job.stacktrace)) job.stacktrace = job.stacktrace.map(shownText)
    }
    const known = jobs.filter(({ id }) => id !== undefined)
    if (known.length === 0) return
    // A page that says less is better than none, as long as it says so.
    const statuses = view === undefined ? await this.look.statuses(known.map(({ id = '' }) => id)).catch((error: unknown) => errorMessage(error)) : [view.status]
    for (const [index, job] of known.entries()) {
      if (typeof statuses === 'string') job.progress = { ...rest(job.progress), ...(job.finishedOn === undefined ? { waiting: `not known: ${harmlessLine(statuses)}` } : {}) }
      else job.progress = told(job.progress, statuses[index] ?? null, this.look.links, view)
    }
  }

  private act(job: Job, id: string): void {
    const { actions } = this.look
    if (actions === undefined) return
    const remove = job.remove.bind(job)
    job.remove = async (...call) => {
      if (job.finishedOn === undefined) await actions.job(id).cancel('cancelled from the board')
      else await remove(...call)
    }
    job.retry = async () => {
      if ((await actions.retry(id)) === 'pending') throw new InvalidInputError(`job ${id} is not in the failed state`)
    }
  }
}

function told(progress: unknown, status: JobStatus | null, links: Links, view: JobView | undefined): object {
  return status === null ? rest(progress) : digestOf(status, links, view)
}

/** What its supervisor showed last, without what it waited for then. */
function rest(progress: unknown): object {
  const { waiting: _before, ...others } = (typeof progress === 'object' && progress !== null ? progress : {}) as { readonly waiting?: unknown }
  return others
}
