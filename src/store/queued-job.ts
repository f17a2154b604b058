import type { TraceCarrier } from '../job/trace-carrier.js'

/** What a BullMQ job holds: the validated spec, short. Never a secret: specs name secrets, consumers hold their values. */
export interface QueuedJob {
  /** As of `shortSpec`. */
  readonly spec: object
  /** Milliseconds since 1970. */
  readonly enqueuedAtMs: number
  /** The producer's span; left out without one. */
  readonly trace?: TraceCarrier | undefined
}
