import type { JobCounts, JobState, JobStatus, QueueJob } from '@bull-board/api/dist/types.js'
import { InvalidInputError } from '../job/errors.js'
import { harmlessLine } from '../job/harmless-text.js'
import { shownText } from './formatters.js'
import { ListAdapter, refused } from './list-adapter.js'
import type { ShownDelivery, WebhookDeliveries } from './webhook-deliveries.js'

const states = ['completed', 'failed', 'delayed'] as const satisfies readonly ShownDelivery['state'][]

/**
 * Shows the deliveries of webhooks as a queue of Bull Board's, without there being one: `failed` are the dead events, whose Retry gives them back,
 * `delayed` those in hand or due again, `completed` the last ones that were delivered. Nothing else can be done to it.
 */
export class WebhooksAdapter extends ListAdapter {
  constructor(
    private readonly deliveries: WebhookDeliveries,
    options: { readonly readOnlyMode: boolean; readonly description: string },
  ) {
    super('~webhooks', states, { ...options, displayName: 'webhooks' })
  }

  override async getJobCounts(): Promise<JobCounts> {
    return this.counts(await this.deliveries.counts())
  }

  override async getJobs(wanted: JobStatus[], start = 0, end = 9): Promise<QueueJob[]> {
    const found = await this.deliveries.list(states.filter((state) => (wanted as string[]).includes(state)), start, end)
    return found.map((each) => this.#job(each))
  }

  override async getJob(id: string): Promise<QueueJob | undefined> {
    const found = await this.deliveries.find(id)
    return found === undefined ? undefined : this.#job(found)
  }

  /** Shown as paused while a receiver is stopped. */
  override async isPaused(): Promise<boolean> {
    return await this.deliveries.isStopped()
  }

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
