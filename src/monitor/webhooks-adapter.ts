import { BaseAdapter } from '@bull-board/api/dist/queueAdapters/base.js'
import type { JobCounts, JobState, JobStatus, QueueJob, QueueMetrics, Status } from '@bull-board/api/dist/types.js'
import { InvalidInputError } from '../job/errors.js'
import { harmlessLine } from '../job/harmless-text.js'
import { shownText } from './formatters.js'
import type { ShownDelivery, WebhookDeliveries } from './webhook-deliveries.js'

const states = ['completed', 'failed', 'delayed'] as const satisfies readonly ShownDelivery['state'][]

/**
 * Shows the deliveries of webhooks as a queue of Bull Board's, without there being one: `failed` are the dead events, whose Retry gives them back,
 * `delayed` those in hand or due again, `completed` the last ones that were delivered. Nothing else can be done to it.
 */
export class WebhooksAdapter extends BaseAdapter {
  constructor(
    private readonly deliveries: WebhookDeliveries,
    options: { readonly readOnlyMode: boolean; readonly description: string },
  ) {
    super('bullmq', { ...options, allowRetries: !options.readOnlyMode, allowCompletedRetries: false, displayName: 'webhooks' })
  }

  override getName(): string {
    // No queue of a deployment can be called so.
    return '~webhooks'
  }

  override getStatuses(): Status[] {
    return ['latest', ...this.getJobStatuses()] as Status[]
  }

  override getJobStatuses(): JobStatus[] {
    return [...states] as JobStatus[]
  }

  override async getJobCounts(): Promise<JobCounts> {
    return { active: 0, waiting: 0, 'waiting-children': 0, prioritized: 0, paused: 0, latest: 0, ...(await this.deliveries.counts()) }
  }

  override async getJobs(wanted: JobStatus[], start = 0, end = 9): Promise<QueueJob[]> {
    const found = await this.deliveries.list(states.filter((state) => (wanted as string[]).includes(state)), start, end)
    return found.map((each) => this.#job(each))
  }

  override async getJob(id: string): Promise<QueueJob | undefined> {
    const found = await this.deliveries.find(id)
    return found === undefined ? undefined : this.#job(found)
  }

  override getJobLogs(): Promise<string[]> {
    return Promise.resolve([])
  }

  override getMetrics(): Promise<QueueMetrics> {
    return Promise.resolve({ meta: { count: 0, prevTS: 0, prevCount: 0 }, data: [], count: 0 } as unknown as QueueMetrics)
  }

  override getRedisInfo(): Promise<null> {
    return Promise.resolve(null)
  }

  /** Shown as paused while a receiver is stopped. */
  override async isPaused(): Promise<boolean> {
    return await this.deliveries.isStopped()
  }

  override getJobSchedulers(): Promise<never[]> {
    return Promise.resolve([])
  }

  override getJobSchedulersCount(): Promise<number> {
    return Promise.resolve(0)
  }

  override getGlobalConcurrency(): Promise<null> {
    return Promise.resolve(null)
  }

  override clean = refused
  override addJob = refused
  override pause = refused
  override resume = refused
  override empty = refused
  override obliterate = refused
  override promoteAll = refused
  override removeJobScheduler = refused
  override updateJobScheduler = refused
  override runJobSchedulerNow = refused
  override setGlobalConcurrency = refused

  #job(shown: ShownDelivery): QueueJob {
    const { id, state, group, event, attempts, atMs, durationMs, error, outcome } = shown
    const ended = state !== 'delayed'
    return {
      opts: {},
      promote: refused,
      remove: refused,
      retry: async () => {
        if (!(await this.deliveries.redeliver(id))) throw new InvalidInputError(`delivery ${id} is not in the failed state`)
      },
      getState: () => Promise.resolve(state as JobState),
      toJSON: () => ({
        id,
        name: harmlessLine(group),
        progress: {},
        attemptsMade: attempts,
        processedOn: ended ? atMs - durationMs : null,
        finishedOn: ended ? atMs : null,
        timestamp: atMs - durationMs,
        delay: 0,
        failedReason: shownText(error),
        stacktrace: [],
        data: event,
        returnvalue: outcome,
        opts: {},
      }),
    }
  }
}

function refused(): Promise<never> {
  return Promise.reject(new InvalidInputError('webhooks: is no queue that can be changed so; dead events can be given back'))
}
