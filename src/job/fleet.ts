import type { Cost } from './cost.js'
import type { ShownPatch } from './patch.js'
import type { Attempt, StepResult } from './result.js'
import type { Milestone } from './run-record.js'
import type { JobStatus } from './status.js'

/**
 * A deployment at a glance, as its page and the HTTP API show it. Bounded whatever the deployment holds: each list says how many more there are.
 * What jobs, providers and consumers have named is given as it is; whoever shows it makes it harmless.
 */
export interface Fleet {
  /** Milliseconds since 1970 by Redis' clock. */
  readonly atMs: number
  readonly queue: string
  readonly paused: boolean
  /** Which operator has paused it, as far as that is known: such as `by anna: maintenance`. */
  readonly pausedBy: string | null
  readonly counts: FleetCounts
  readonly providers: readonly FleetProvider[]
  /** Live ones, of all queues. */
  readonly consumers: readonly FleetConsumer[]
  readonly consumersMore: number
  readonly waiting: FleetWaiting
  /** Paused ones first, then those with the most jobs in hand. */
  readonly tenants: readonly FleetTenant[]
  readonly tenantsMore: number
  /** In consumers' hands, those that were taken first before others. */
  readonly running: readonly FleetJob[]
  readonly runningMore: number
  /** The last ones that ended. */
  readonly ended: readonly EndedJob[]
}

export interface FleetCounts {
  /** In consumers' hands; some of them wait for a place. */
  readonly inHand: number
  readonly waiting: number
  /** Not to be run yet. */
  readonly delayed: number
  /** Kept ones that have ended. */
  readonly succeeded: number
  readonly failed: number
}

export interface FleetProvider {
  readonly provider: string
  /** Sandboxes: configured, and in force now. */
  readonly limit: number
  readonly effectiveLimit: number
  /** Which operator wants no new sandboxes here, and who has set another limit than the configured one: such as `by anna: maintenance`. */
  readonly drained: string | null
  readonly limited: string | null
  readonly foreign: number
  readonly used: number
  /** Jobs in consumers' hands that wait for a place here. */
  readonly waiting: number
  readonly cpu: number
  readonly cpuLimit: number | null
  readonly memoryMiB: number
  readonly memoryMiBLimit: number | null
  readonly breaker: 'closed' | 'open' | 'half-open' | 'probing'
  readonly openUntilMs: number | null
  readonly openedBy: string | null
  readonly blockedUntilMs: number | null
  readonly startP50Ms: number | null
  readonly startP95Ms: number | null
}

export interface FleetConsumer {
  readonly consumer: string
  readonly queue: string
  readonly release: string
  readonly providers: readonly string[]
  /** Jobs in hand when it last said so, and how many it may have; null of an earlier release. */
  readonly jobs: number | null
  readonly maxJobs: number | null
  readonly full: boolean
  /** It hands its jobs over and takes no more. */
  readonly draining: boolean
  readonly startedAtMs: number
  /** Keys that are refused, a sentence each. */
  readonly troubles: readonly { readonly of: string; readonly message: string; readonly sinceMs: number }[]
}

export interface FleetWaiting {
  /** Of how many of those that are next the reasons were looked up. */
  readonly looked: number
  /** Why these wait, the most frequent first; null for those that are about to be taken. */
  readonly reasons: readonly { readonly reason: string | null; readonly jobs: number }[]
  readonly next: readonly WaitingJob[]
}

export interface WaitingJob {
  readonly jobId: string
  readonly repository: string
  readonly tenant: string | null
  readonly enqueuedAtMs: number
  readonly reason: string | null
}

export interface FleetTenant {
  readonly tenant: string
  readonly running: number
  readonly cap: number | null
  readonly weight: number
  /** Which operator has paused it. */
  readonly paused: string | null
}

export interface FleetJob {
  readonly jobId: string
  readonly repository: string
  readonly tenant: string | null
  readonly phase: string | null
  readonly provider: string | null
  /** Such as `2/3 agent`. */
  readonly step: string | null
  readonly attempt: number
  readonly reason: string | null
  readonly consumer: string | null
  /** Milliseconds since 1970; null before its first supervisor has said so. */
  readonly startedAtMs: number | null
  readonly enqueuedAtMs: number
  /** What it has cost, about until now; null where no provider has a price. */
  readonly cost: Cost | null
  /** The end of its output. */
  readonly lastLine: string
}

export interface EndedJob {
  readonly jobId: string
  readonly repository: string
  readonly status: 'succeeded' | 'failed' | 'cancelled'
  readonly reason: string | null
  readonly endedAtMs: number
}

/** A job as its page shows it. */
export interface JobView {
  readonly atMs: number
  readonly status: JobStatus
  /** Which run of the job, from 1. */
  readonly run: number
  /** The consumer that has it, or had it last. */
  readonly consumer: string | null
  readonly milestones: readonly Milestone[]
  /** Those of its run so far. */
  readonly attempts: readonly Attempt[]
  readonly stepResults: readonly StepResult[]
  /** Names of its steps; empty when the queue does not hold the job any more. */
  readonly steps: readonly string[]
  readonly promoteTo: string | null
  /** The beginning of the lines that it has changed; null where none are kept. */
  readonly patch: ShownPatch | null
  /** The end of its output, and whether there is more before it. */
  readonly output: string
  readonly outputCut: boolean
}
