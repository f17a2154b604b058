import { cutText } from './harmless-text.js'
import { didYouMean } from './nearest-name.js'
import { codeOf, type ErrorCode } from './error-codes.js'
import type { InfrastructureErrorKind } from './error-kinds.js'
import { presumedOwner, type ErrorOrigin, type ErrorOwner } from './error-owner.js'

export { infrastructureErrorKinds, jobErrorKinds, type InfrastructureErrorKind, type JobErrorKind } from './error-kinds.js'
export { errorCodes, type ErrorCode } from './error-codes.js'
export { errorOwners, type ErrorOrigin, type ErrorOwner } from './error-owner.js'

/**
 * The base of every error that Switchyard throws on purpose. `message` is one sentence that names the field or the
 * thing, its problem and the mend; it never holds a secret.
 */
export class SwitchyardError extends Error {
  override readonly name: string = 'SwitchyardError'
  /** Stable, while the message may change; docs/errors.md says of each what causes it and what mends it. */
  readonly code: ErrorCode = 'SWY_UNSPECIFIED'
}

/** Thrown before anything is enqueued or created when a job spec, an option or a configuration is wrong. Mend the input. */
export class InvalidInputError extends SwitchyardError {
  override readonly name = 'InvalidInputError'
  override readonly code = 'SWY_INPUT_INVALID'
  constructor(
    message: string,
    /** Every problem found, one sentence each; `message` is the first. */
    readonly problems: readonly string[] = [message],
  ) {
    super(message)
  }
}

/** What somebody has given for a name, which may be of any length: the sentence about it stays one. */
function named(name: unknown): string {
  return cutText(String(name), 300)
}

/** Thrown by `enqueue` when an `idempotencyKey` is used again with a different spec. Use another key, or the same spec. */
export class IdempotencyConflictError extends SwitchyardError {
  override readonly name = 'IdempotencyConflictError'
  override readonly code = 'SWY_IDEMPOTENCY_CONFLICT'
  constructor(
    readonly idempotencyKey: string,
    readonly jobId: string,
  ) {
    super(`idempotencyKey: "${idempotencyKey}" was used for job ${jobId} with a different spec; use a new key or the same spec`)
  }
}

/** Thrown when Redis can't be reached, refuses a write, or is not what the settings say. Nothing was enqueued. The message ends with the mend. */
export class RedisUnavailableError extends SwitchyardError {
  override readonly name: string = 'RedisUnavailableError'
  override readonly code = 'SWY_REDIS_UNAVAILABLE'
  constructor(
    message: string,
    options?: ErrorOptions,
    /** What to do about it, one sentence. */
    readonly mend?: string,
  ) {
    super(message, options)
  }
}

/** Thrown when a job id is not known: never enqueued here, or past its retention. */
export class UnknownJobError extends SwitchyardError {
  override readonly name = 'UnknownJobError'
  override readonly code = 'SWY_JOB_UNKNOWN'
  constructor(readonly jobId: string) {
    super(`job ${named(jobId)} is not known: it was never enqueued in this queue, or its record is past its retention`)
  }
}

/** Thrown when a queue has no schedule of this id. */
export class UnknownScheduleError extends SwitchyardError {
  override readonly name = 'UnknownScheduleError'
  override readonly code = 'SWY_SCHEDULE_UNKNOWN'
  constructor(readonly scheduleId: string) {
    super(`schedule "${named(scheduleId)}" is not known in this queue; look at its id and the queue's name`)
  }
}

/** Thrown by what is asked of a queue that was closed by whoever has it. */
export class QueueClosedError extends SwitchyardError {
  override readonly name = 'QueueClosedError'
  override readonly code = 'SWY_QUEUE_CLOSED'
}

/** Thrown when an operator names a provider, tenant, consumer or group that there is not. Nothing was changed. */
export class UnknownNameError extends SwitchyardError {
  override readonly name = 'UnknownNameError'
  override readonly code = 'SWY_NAME_UNKNOWN'
  /** @param known names that there are, for the hint. */
  constructor(what: string, wanted: string, known: readonly string[], mend: string) {
    super(`${what} "${named(wanted)}" is not known${didYouMean(wanted, known)}; ${mend}`)
  }
}

/**
 * Thrown by a write to a run record whose fencing number is not the holder's any more: another consumer supervises the
 * job now. The only right reaction is to stop touching the job, its sandbox and its branch.
 */
export class FenceLostError extends SwitchyardError {
  override readonly name = 'FenceLostError'
  override readonly code = 'SWY_FENCE_LOST'
  constructor(readonly jobId: string) {
    super(`job ${jobId} is supervised by another consumer now; this one must leave it alone`)
  }
}

/**
 * Thrown for a queued spec, a run record or a result that a newer release wrote and this one can't read. In a rolling deploy
 * the job is left to a consumer that can; it never fails for it. Also where all that Redis holds is laid out by a newer release: nothing was written then.
 */
export class NewerReleaseError extends SwitchyardError {
  override readonly name = 'NewerReleaseError'
  override readonly code = 'SWY_NEWER_RELEASE'
}

/**
 * Thrown where an older release has jobs at this Redis that this one can't go on with. Nothing was written; let them end with that release first.
 */
export class OlderReleaseError extends SwitchyardError {
  override readonly name = 'OlderReleaseError'
  override readonly code = 'SWY_OLDER_RELEASE'
}

/**
 * Thrown by `retry` and `retryMany` with `from: 'checkpoint'` for jobs that have no checkpoint any more, or never had one that holds what their
 * steps did. They are left as they are; run them again from the start.
 */
export class CheckpointGoneError extends SwitchyardError {
  override readonly name = 'CheckpointGoneError'
  override readonly code = 'SWY_CHECKPOINT_GONE'
  constructor(
    /** The jobs. */
    readonly jobIds: readonly string[],
    /** A clause: what is missing of the first. */
    readonly why: string,
    /** Of `retryMany`: the jobs that were run again all the same. */
    readonly retried: readonly string[] = [],
  ) {
    const others = jobIds.length > 1 ? `, and ${jobIds.length - 1} more can't either` : ''
    super(`job ${jobIds[0] ?? ''} can't go on from its checkpoint: ${why}${others}; run it again from the start`)
  }
}

/**
 * Thrown by `retry` and `retryMany` for jobs with `concurrency: { then: 'drop' }` while others have their keys, or wait for them. They are left as they are.
 */
export class KeyTakenError extends SwitchyardError {
  override readonly name = 'KeyTakenError'
  override readonly code = 'SWY_KEY_TAKEN'
  constructor(
    /** The jobs. */
    readonly jobIds: readonly string[],
    readonly key: string,
    /** A job that has the key of the first of them, or waits for it. */
    readonly takenBy: string,
    /** Of `retryMany`: the jobs that were run again all the same. */
    readonly retried: readonly string[] = [],
  ) {
    const others = jobIds.length > 1 ? `, and ${jobIds.length - 1} more can't either for the same reason` : ''
    super(`job ${jobIds[0] ?? ''} can't be run again now: job ${takenBy} has its concurrency key "${key}", or waits for it, and it is to be dropped then (then: "drop")${others}; run it again once that has ended`)
  }
}

/** For so long anybody is believed who asks to wait, and no longer: a proxy in between may name the year 2099, or a number that is no time. */
const longestAskedMs = 3_600_000

/** What the providers, the git hosts and the runner throw: an error sorted into the one vocabulary. */
export class InfrastructureError extends SwitchyardError {
  override readonly name = 'InfrastructureError'
  override readonly code: ErrorCode
  readonly kind: InfrastructureErrorKind
  /** Whose fault it is; undefined when whoever threw it left that to the caller, see `attributed`. */
  readonly owner: ErrorOwner | undefined
  /** The provider's or the host's configured name. */
  readonly source: string
  /** For `rate-limited`: how long to wait, in milliseconds, when the source said so; an hour at most. */
  readonly retryAfterMs: number | undefined
  /** Of a create that was refused, when an earlier try within the same call may have made a sandbox all the same. */
  readonly sandboxMayExist: boolean
  constructor(fields: InfrastructureErrorFields) {
    super(fields.message, fields.cause === undefined ? undefined : { cause: fields.cause })
    this.kind = fields.kind
    this.owner = fields.owner
    this.code = fields.code ?? (fields.owner === undefined ? 'SWY_UNSPECIFIED' : codeOf(fields.kind, fields.owner))
    this.source = fields.source
    // "At once", said again and again, is no wait: whoever tries again has one of its own.
    this.retryAfterMs = fields.retryAfterMs !== undefined && fields.retryAfterMs > 0 ? Math.min(fields.retryAfterMs, longestAskedMs) : undefined
    this.sandboxMayExist = fields.sandboxMayExist ?? false
  }

  /** The same error with what is given in place of its own; its code follows when it was not a telling one. */
  with(changes: Partial<InfrastructureErrorFields>): InfrastructureError {
    const { kind, owner, source, message, retryAfterMs, sandboxMayExist, cause } = this
    const code = this.code === (owner === undefined ? 'SWY_UNSPECIFIED' : codeOf(kind, owner)) ? undefined : this.code
    return new InfrastructureError({ kind, owner, code, source, message, retryAfterMs, sandboxMayExist, cause, ...changes })
  }
}

export interface InfrastructureErrorFields {
  readonly kind: InfrastructureErrorKind
  readonly owner?: ErrorOwner | undefined
  /** By default it follows from kind and owner. */
  readonly code?: ErrorCode | undefined
  readonly source: string
  readonly message: string
  readonly retryAfterMs?: number | undefined
  readonly sandboxMayExist?: boolean | undefined
  readonly cause?: unknown
}

/** The error with its owner: its own word, else what is to be presumed of a call of that origin. */
export function attributed(error: InfrastructureError, origin: ErrorOrigin): InfrastructureError & { readonly owner: ErrorOwner } {
  return (error.owner === undefined ? error.with({ owner: presumedOwner(error.kind, origin) }) : error) as InfrastructureError & { readonly owner: ErrorOwner }
}

/**
 * Thrown by `promote` when the target moved, can't be fast-forwarded or conflicts. Nothing was changed; the work stays
 * on the job's branch. Rebase the work onto the target, or use the strategy `merge`.
 */
export class PromotionConflictError extends SwitchyardError {
  override readonly name = 'PromotionConflictError'
  override readonly code = 'SWY_PROMOTION_CONFLICT'
}

/** The message of anything thrown, which users' code may have: telling of it never throws itself. */
export function errorMessage(error: unknown): string {
  try {
    const message: unknown = error instanceof Error ? error.message : error
    return String(message)
  } catch {
    return 'what was thrown can’t be put into words'
  }
}

/** What anything thrown is called among others of its kind: an infrastructure error's kind, else its class. */
export function errorType(error: unknown): string {
  if (error instanceof InfrastructureError) return error.kind
  return error instanceof Error ? error.name : typeof error
}
