import { BaseAdapter } from '@bull-board/api/dist/queueAdapters/base.js'
import type { JobCounts, JobStatus, QueueMetrics, Status } from '@bull-board/api/dist/types.js'
import { InvalidInputError } from '../job/errors.js'

/** A queue of Bull Board's that is none: a list of things in states, of which nothing can be done to the whole. */
export abstract class ListAdapter extends BaseAdapter {
  constructor(
    /** No queue of a deployment can be called so. */
    private readonly listName: `~${string}`,
    private readonly states: readonly string[],
    options: { readonly readOnlyMode: boolean; readonly description: string; readonly displayName: string },
  ) {
    super('bullmq', { ...options, allowRetries: !options.readOnlyMode, allowCompletedRetries: false })
  }

  override getName(): string {
    return this.listName
  }

  // Bull Board asks every queue that calls itself BullMQ's for these three when a job's flow is shown.
  getQueueName(): string {
    return this.listName
  }

  getQueueQualifiedName(): string {
    return this.listName
  }

  getFlowProducer(): Promise<null> {
    return Promise.resolve(null)
  }

  override getStatuses(): Status[] {
    return ['latest', ...this.getJobStatuses()] as Status[]
  }

  override getJobStatuses(): JobStatus[] {
    return [...this.states] as JobStatus[]
  }

  protected counts(some: Partial<Record<JobStatus, number>>): JobCounts {
    return { active: 0, waiting: 0, 'waiting-children': 0, prioritized: 0, paused: 0, latest: 0, completed: 0, failed: 0, delayed: 0, ...some }
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

  override isPaused(): Promise<boolean> {
    return Promise.resolve(false)
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
}

export function refused(): Promise<never> {
  return Promise.reject(new InvalidInputError('webhooks and schedules: are no queues that can be changed so; dead events can be given back'))
}
