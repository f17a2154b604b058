import { Worker, type Job } from 'bullmq'
import type { Redis } from 'ioredis'
import { z } from 'zod'
import { defaultRetentionMs, keptByQueue, type Keys } from '../../store/index.js'

const givenJob = z.tuple([z.record(z.string(), z.unknown()), z.string()], z.unknown())

/**
 * BullMQ's worker as Switchyard uses it: jobs are fetched one by one, after a place was reserved for each, so that its own loop is never run; its locks and its
 * look for stalled jobs are BullMQ's.
 */
export class TakingWorker extends Worker {
  constructor(
    private readonly redis: Redis,
    private readonly ours: Keys,
    { leaseMs, stallCheckMs }: { readonly leaseMs: number; readonly stallCheckMs: number },
  ) {
    super(ours.queueName, null, {
      connection: redis,
      prefix: ours.prefix,
      autorun: false,
      lockDuration: leaseMs,
      stalledInterval: stallCheckMs,
      // Supervision changes hands without limit; what a job may use up is bounded by `maxAttempts` and its timeout.
      maxStalledCount: Number.MAX_SAFE_INTEGER,
      ...keptByQueue(defaultRetentionMs),
    })
  }

  /** The job that comes first where BullMQ gives the next one from; undefined when there is none. */
  async takeJob(token: string): Promise<Job | undefined> {
    return (await this.getNextJob(token, { block: false })) as Job | undefined
  }

  /** What came with the end of another job, as `getNextJob` would give it: a scheduler's next job is made on the way. */
  async jobIn(given: unknown, token: string): Promise<Job | undefined> {
    const parsed = givenJob.safeParse(given)
    if (!parsed.success) return undefined
    const [data, jobId] = parsed.data
    return await this.nextJobFromJobData(data as unknown as Parameters<Worker['nextJobFromJobData']>[0], jobId, token)
  }

  /** What the queue holds of jobs, by their ids: the spec as it was enqueued, null for a job without one, undefined when the job is gone; and whether a run of it goes on. */
  async readJobs(jobIds: readonly string[]): Promise<{ readonly spec: unknown; readonly begun: boolean }[]> {
    const pipeline = this.redis.pipeline()
    for (const jobId of jobIds) pipeline.hget(this.toKey(jobId), 'data').hmget(this.ours.run(jobId), 'generation', 'result')
    const found = ((await pipeline.exec()) ?? []).map(([error, answer]) => {
      if (error !== null) throw error
      return answer
    })
    return jobIds.map((_jobId, index) => ({ spec: specIn(found[2 * index]), begun: isBegun(found[2 * index + 1]) }))
  }
}

/** @param fields generation and result of a run. One that has ended says nothing of what the next one needs. */
function isBegun(fields: unknown): boolean {
  const [generation = null, result = null] = Array.isArray(fields) ? (fields as unknown[]) : []
  return generation !== null && result === null
}

/** The spec in a BullMQ job's data: null when it has none, undefined when there is no job. */
function specIn(data: unknown): unknown {
  if (typeof data !== 'string') return undefined
  try {
    const parsed: unknown = JSON.parse(data)
    return typeof parsed === 'object' && parsed !== null && 'spec' in parsed ? parsed.spec : null
  } catch {
    // Not ours, whatever it is.
    return null
  }
}
