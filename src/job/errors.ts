/**
 * The one vocabulary of errors. Every adapter sorts its raw errors into these kinds, in one function each, and every
 * decision (try again here, go elsewhere, give up) reads the kind and nothing else.
 *
 * - `capacity`: the provider is full. Go elsewhere or wait; not a failure.
 * - `rate-limited`: too many calls; wait `retryAfterMs`, or go elsewhere.
 * - `transient`: a passing fault; try again here, a bounded number of times.
 * - `sandbox-lost`: the sandbox is gone, confirmed with the provider's own get or list; go elsewhere.
 * - `provider-down`: the provider does not work; feeds the circuit breaker; go elsewhere.
 * - `auth`: credentials are missing or refused. Final for this provider or host; somebody must mend them.
 * - `invalid`: the request can never succeed as it is. Final.
 * - `timeout`: the job's or the step's own time is up. Final.
 */
export const infrastructureErrorKinds = [
  'capacity',
  'rate-limited',
  'transient',
  'sandbox-lost',
  'provider-down',
  'auth',
  'invalid',
  'timeout',
] as const
export type InfrastructureErrorKind = (typeof infrastructureErrorKinds)[number]

/**
 * What can end a job besides its infrastructure:
 * - `step-failed`: a command exited with another code than 0. A result, not an infrastructure error; never retried.
 * - `conflict`: the promotion's target moved or conflicts; the work is on the job's own branch.
 * - `cancelled`: somebody cancelled the job.
 * - `internal`: a defect of Switchyard's own. Report it.
 */
export const jobErrorKinds = [...infrastructureErrorKinds, 'step-failed', 'conflict', 'cancelled', 'internal'] as const
export type JobErrorKind = (typeof jobErrorKinds)[number]

/**
 * The base of every error that Switchyard throws on purpose. `message` is one sentence that names the field or the
 * thing, its problem and the mend; it never holds a secret.
 */
export class SwitchyardError extends Error {
  override readonly name: string = 'SwitchyardError'
}

/** Thrown before anything is enqueued or created when a job spec, an option or a configuration is wrong. Mend the input. */
export class InvalidInputError extends SwitchyardError {
  override readonly name = 'InvalidInputError'
  constructor(
    message: string,
    /** Every problem found, one sentence each; `message` is the first. */
    readonly problems: readonly string[] = [message],
  ) {
    super(message)
  }
}

/** Thrown by `enqueue` when an `idempotencyKey` is used again with a different spec. Use another key, or the same spec. */
export class IdempotencyConflictError extends SwitchyardError {
  override readonly name = 'IdempotencyConflictError'
  constructor(
    readonly idempotencyKey: string,
    readonly jobId: string,
  ) {
    super(`idempotencyKey: "${idempotencyKey}" was used for job ${jobId} with a different spec; use a new key or the same spec`)
  }
}

/** Thrown when Redis can't be reached or refuses a write. Nothing was enqueued. Start Redis, or mend `redis.url`. */
export class RedisUnavailableError extends SwitchyardError {
  override readonly name = 'RedisUnavailableError'
}

/** Thrown when a job id is not known: never enqueued here, or past its retention. */
export class UnknownJobError extends SwitchyardError {
  override readonly name = 'UnknownJobError'
  constructor(readonly jobId: string) {
    super(`job ${jobId} is not known: it was never enqueued in this queue, or its record is past its retention`)
  }
}

/**
 * Thrown by a write to a run record whose fencing number is not the holder's any more: another consumer supervises the
 * job now. The only right reaction is to stop touching the job, its sandbox and its branch.
 */
export class FenceLostError extends SwitchyardError {
  override readonly name = 'FenceLostError'
  constructor(readonly jobId: string) {
    super(`job ${jobId} is supervised by another consumer now; this one must leave it alone`)
  }
}

/**
 * Thrown for a queued spec, a run record or a result that a newer release wrote and this one can't read. In a rolling deploy
 * the job is left to a consumer that can; it never fails for it.
 */
export class NewerReleaseError extends SwitchyardError {
  override readonly name = 'NewerReleaseError'
}

/** What the providers, the git hosts and the runner throw: an error sorted into the one vocabulary. */
export class InfrastructureError extends SwitchyardError {
  override readonly name = 'InfrastructureError'
  readonly kind: InfrastructureErrorKind
  /** The provider's or the host's configured name. */
  readonly source: string
  /** For `rate-limited`: how long to wait, in milliseconds, when the source said so. */
  readonly retryAfterMs: number | undefined
  /** Of a create that was refused, when an earlier try within the same call may have made a sandbox all the same. */
  readonly sandboxMayExist: boolean
  constructor(fields: {
    kind: InfrastructureErrorKind
    source: string
    message: string
    retryAfterMs?: number | undefined
    sandboxMayExist?: boolean | undefined
    cause?: unknown
  }) {
    super(fields.message, fields.cause === undefined ? undefined : { cause: fields.cause })
    this.kind = fields.kind
    this.source = fields.source
    this.retryAfterMs = fields.retryAfterMs
    this.sandboxMayExist = fields.sandboxMayExist ?? false
  }
}

/**
 * Thrown by `promote` when the target moved, can't be fast-forwarded or conflicts. Nothing was changed; the work stays
 * on the job's branch. Rebase the work onto the target, or use the strategy `merge`.
 */
export class PromotionConflictError extends SwitchyardError {
  override readonly name = 'PromotionConflictError'
}

/** The message of anything thrown. */
export function errorMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
