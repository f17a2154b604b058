import type { TraceCarrier } from '../job/trace-carrier.js'

/** How long ended jobs, their results and logs are kept unless configured otherwise, in milliseconds: 7 days. */
export const defaultRetentionMs = 7 * 24 * 60 * 60 * 1000
/** How many ended jobs BullMQ keeps for the board; results and logs are kept by the store, by age. */
export const keptEndedJobs = 10_000

/** What BullMQ keeps of ended jobs, as it takes it. A job that doesn't say is kept by the default: consumers' workers have that as theirs. */
export function keptByQueue(retentionMs: number) {
  const kept = { age: Math.ceil(retentionMs / 1000), count: keptEndedJobs }
  return { removeOnComplete: kept, removeOnFail: kept }
}

/** What a BullMQ job holds: the validated spec, short. Never a secret: specs name secrets, consumers hold their values. */
export interface QueuedJob {
  /** As of `shortSpec`. */
  readonly spec: object
  /** Milliseconds since 1970, where an earlier release added it; else that is BullMQ's `timestamp`. */
  readonly enqueuedAtMs?: number
  /** The producer's span; left out without one. */
  readonly trace?: TraceCarrier | undefined
}
