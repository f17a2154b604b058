import type { LogLine } from '../job/log.js'
import type { JobResult } from '../job/result.js'
import type { JobStatus } from '../job/status.js'
import type { ReadLogOptions } from '../store/index.js'

/** A job, from any process. A handle holds nothing but the id: keep the id, and get it again with `queue.job(jobId)`. */
export interface JobHandle {
  readonly jobId: string
  /**
   * Waits until the job has ended, over restarts of Redis too.
   * @throws UnknownJobError, ResultTimeoutError after `timeoutMs`, the signal's reason, RedisUnavailableError when Redis
   * is away at the start.
   */
  result(options?: { timeoutMs?: number; signal?: AbortSignal }): Promise<JobResult>
  /**
   * The job's output. Resume with `{ after: line.seq }`; `follow: true` waits for more until the job has ended. Each
   * following reader holds a connection to Redis of its own.
   * @throws UnknownJobError, also when the job is gone while it is followed; the signal's reason, RedisUnavailableError.
   */
  logs(options?: ReadLogOptions): AsyncIterable<LogLine>
  /**
   * Cancels the job.
   * @returns `cancelled`: it was waiting and has ended; `requested`: its supervisor stops it, at the latest when one
   * takes it over; `ended`: it had ended before.
   * @throws UnknownJobError, RedisUnavailableError.
   */
  cancel(reason: string): Promise<'cancelled' | 'requested' | 'ended'>
  /** @throws UnknownJobError, RedisUnavailableError. */
  status(): Promise<JobStatus>
}
