import type { JobSpec } from '../job/spec.js'

/** What a BullMQ job holds: the validated spec. Never a secret: specs name secrets, consumers hold their values. */
export interface QueuedJob {
  readonly spec: JobSpec
  /** Milliseconds since 1970. */
  readonly enqueuedAtMs: number
}
