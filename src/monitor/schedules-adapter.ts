import type { JobStatus as BoardStatus, QueueJob } from '@bull-board/api/dist/types.js'
import { harmlessLine, harmlessValue } from '../job/harmless-text.js'
import { ListAdapter, refused } from './list-adapter.js'
import type { MonitoredQueue, ShownSchedule } from './source.js'

/**
 * Shows a queue's schedules as a queue of Bull Board's, without there being one: each is `delayed` until its next run, or `paused`. They are changed by
 * `switchyard schedules` and by the API alone.
 */
export class SchedulesAdapter extends ListAdapter {
  constructor(
    private readonly queue: Pick<MonitoredQueue, 'name' | 'schedules'>,
    private readonly now: () => number,
  ) {
    super(`~schedules-${queue.name}`, ['delayed', 'paused'], { readOnlyMode: true, description: `schedules of the queue ${queue.name}`, displayName: 'schedules' })
  }

  override async getJobCounts() {
    const all = await this.queue.schedules.list()
    const paused = all.filter((schedule) => schedule.paused).length
    return this.counts({ delayed: all.length - paused, paused })
  }

  override async getJobs(wanted: BoardStatus[], start = 0, end = 9): Promise<QueueJob[]> {
    const states = wanted as string[]
    const found = (await this.queue.schedules.list()).filter(({ paused }) => states.includes(paused ? 'paused' : 'delayed'))
    return found.slice(start, end + 1).map((each) => this.#job(each))
  }

  override async getJob(id: string): Promise<QueueJob | undefined> {
    const found = (await this.queue.schedules.list()).find((each) => each.id === id)
    return found === undefined ? undefined : this.#job(found)
  }

  #job({ id, cron, timezone, everyMs, missed, overlap, paused, nextRunAt, last, skipped, job: { repository } }: ShownSchedule): QueueJob {
    const when = cron === null ? `every ${everyMs ?? 0} ms` : `${cron} (${timezone ?? 'UTC'})`
    const shown = harmlessValue({
      repository,
      when,
      next: nextRunAt ?? 'paused',
      last: last === null ? 'none yet' : { at: last.scheduledAt, jobId: last.jobId, status: last.result?.status ?? 'not ended' },
      missed,
      overlap,
      ...(skipped === null ? {} : { skipped: `${skipped.count} at ${skipped.scheduledAt}: ${skipped.why}` }),
    })
    const timestamp = this.now()
    return {
      opts: {},
      promote: refused,
      remove: refused,
      retry: refused,
      getState: () => Promise.resolve((paused ? 'paused' : 'delayed') as Awaited<ReturnType<QueueJob['getState']>>),
      toJSON: () => ({
        id,
        name: harmlessLine(`${id} · ${when}${paused ? ' · paused' : ''}`),
        progress: shown,
        attemptsMade: 0,
        processedOn: null,
        finishedOn: null,
        timestamp,
        delay: nextRunAt === null ? 0 : Math.max(0, Date.parse(nextRunAt) - timestamp),
        failedReason: '',
        stacktrace: [],
        data: shown,
        returnvalue: null,
        opts: {},
      }),
    }
  }
}
