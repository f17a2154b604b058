import type { Cost } from './cost.js'
import type { JobResult, UnsavedPath } from './result.js'

const finalStates: readonly string[] = ['succeeded', 'failed', 'cancelled'] satisfies JobStatus['state'][]

/** Whether a job that is in this state has ended; of one that a later release may add it has not. */
export function isFinal(state: string): boolean {
  return finalStates.includes(state)
}

/** What `handle.status()` and `switchyard status` show of a job. */
export interface JobStatus {
  readonly jobId: string
  readonly repository: string
  /** Whose job it is; null when it names no tenant, or nobody knows any more. */
  readonly tenant: string | null
  /** `waiting`: in the queue; `running`: supervised or about to be taken over; `parked`: it has no sandbox until a budget has more; the others are final. */
  readonly state: 'waiting' | 'running' | 'parked' | 'succeeded' | 'failed' | 'cancelled'
  /** Why a waiting or running job does not move, such as "waiting for capacity: local-a full (2/2)"; null when it does. */
  readonly reason: string | null
  readonly phase: string | null
  readonly provider: string | null
  readonly sandboxId: string | null
  /** The step under way, such as `2/3 agent`; null between steps. */
  readonly step: string | null
  readonly attempts: number
  /** What its sandboxes have cost, about until now while it runs; null where no provider has a price. */
  readonly cost: Cost | null
  readonly checkpointSha: string | null
  /** Why the latest checkpoint could not be saved; null when it could, or when the job has ended. It is tried again. */
  readonly checkpointProblem: string | null
  /** What the latest checkpoint of a running job, or its result, does not hold of the repository, and how many more paths there are. */
  readonly unsaved: readonly UnsavedPath[]
  readonly unsavedMore: number
  /** Milliseconds since 1970. */
  readonly enqueuedAtMs: number
  readonly startedAtMs: number | null
  readonly endedAtMs: number | null
  readonly result: JobResult | null
}
