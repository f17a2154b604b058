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
  readonly operations: MonitoredOperations
}

/** Who operates, for the audit log and for those whose jobs wait because of it. */
export interface BoardOperator {
  /** Such as the id of an account. */
  readonly id: string
  readonly name: string
}

/** What is said with a change, and what came of it. */
export interface Said {
  readonly by: BoardOperator
  readonly reason?: string | undefined
}
export interface Changed {
  /** False when it was so before, and nothing was done. */
  readonly changed: boolean
  /** Live consumers of a release that does not heed it. */
  readonly ignoredBy: readonly string[]
}

/** What operators do from the pages: each is in the audit log once it is done. */
export interface MonitoredOperations {
  pauseQueue(said: Said): Promise<Changed>
  resumeQueue(said: Said): Promise<Changed>
  drainProvider(provider: string, said: Said): Promise<Changed>
  resumeProvider(provider: string, said: Said): Promise<Changed>
  pauseTenant(tenant: string, said: Said): Promise<Changed>
  resumeTenant(tenant: string, said: Said): Promise<Changed>
  /** Notes what was done by other means. */
  audit(by: BoardOperator, action: string, targets: readonly string[], change?: { readonly after?: unknown }): Promise<void>
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
