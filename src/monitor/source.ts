import type { Fleet, JobView } from '../job/fleet.js'
import type { JobStatus } from '../job/status.js'

/** What the monitor asks of a queue; an `AgentQueue` is one. */
export interface MonitoredQueue {
  readonly name: string
  readonly prefix: string
  fleet(): Promise<Fleet>
  /** Null for a job that nobody knows. */
  view(jobId: string): Promise<JobView | null>
  statuses(jobIds: readonly string[]): Promise<(JobStatus | null)[]>
  retry(jobId: string, options?: { readonly from?: 'start' | 'checkpoint' | undefined }): Promise<'retried' | 'pending'>
  job(jobId: string): { cancel(reason: string): Promise<'cancelled' | 'requested' | 'ended'> }
  readonly schedules: { list(): Promise<readonly ShownSchedule[]> }
}

/** A schedule, as far as it is shown. */
export interface ShownSchedule {
  readonly id: string
  readonly cron: string | null
  readonly timezone: string | null
  readonly everyMs: number | null
  readonly missed: string
  readonly overlap: string
  readonly paused: boolean
  readonly nextRunAt: string | null
  readonly last: { readonly scheduledAt: string; readonly jobId: string; readonly result: { readonly status: string } | null } | null
  readonly skipped: { readonly scheduledAt: string; readonly count: number; readonly why: string } | null
  readonly job: { readonly repository: string }
}
