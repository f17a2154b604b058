import { courseCodes } from '../../job/error-codes.js'
import { FenceLostError, InfrastructureError, PromotionConflictError, attributed, errorMessage, type ErrorOrigin, type ErrorOwner, type InfrastructureErrorKind, type JobErrorKind } from '../../job/errors.js'
import type { JobError } from '../../job/result.js'
import type { ProviderReport } from '../../store/slot-ledger.js'

/**
 * What follows from an error while a job is supervised, decided here and nowhere else: from whose fault it is, its kind, and what
 * was tried. Two things follow: what the job does, and who else is told.
 *
 * | whose fault | what the job does | who is told |
 * |---|---|---|
 * | job | fails | nobody |
 * | sandbox | lost: goes on in another. Refuses or answers nonsense: tried again, then given up for another; the second sandbox in a row that breaks within the same step fails the job, whose commands break them | nobody |
 * | provider, create | goes elsewhere; at once when it is full, limits calls or is down, else after three tries. A request that it calls `invalid` fails | its ledger: room, rate, breaker |
 * | provider, data plane | waits while the provider says that the sandbox lives, or limits calls, for `patienceMs` at most, then goes elsewhere | its ledger, once the sandbox has answered nothing for a while (`SandboxAnswers`) |
 * | git host, this repository | a token that is refused is minted anew, once; then the job fails | nobody |
 * | git host | waits for it, ten minutes at most: the work can't go elsewhere | its breaker (`GitBreaker`) |
 * | consumer, keys | goes to another provider; fails, after one more try, where only this git host will do | this consumer |
 * | consumer, configuration of a provider | goes to another provider | nobody |
 * | consumer, other configuration; deployment | what may pass is waited for, for `patienceMs`; else the job fails | nobody |
 *
 * So a provider's ledger hears of its own faults only, the git host's breaker of its own only, and what one job, sandbox or
 * consumer does wrong closes nothing to others.
 */
export function decide(error: unknown, context: ErrorContext): Decision {
  if (error instanceof FenceLostError) return { reaction: { kind: 'leave' }, report: null, owner: null }
  if (error instanceof PromotionConflictError) return failed('job', 'conflict', error.message)
  if (!(error instanceof InfrastructureError)) return failed('deployment', 'internal', `a defect in Switchyard: ${errorMessage(error)}`)
  const owned = attributed(error, context.origin)
  return { reaction: reactionTo(owned, context), report: reportOf(owned), owner: owned.owner }
}

export interface Decision {
  readonly reaction: Reaction
  /** What the provider's ledger is told, when the job leaves the provider for it. */
  readonly report: ProviderReport | null
  readonly owner: ErrorOwner | null
}

/** What the job does. */
export type Reaction =
  /** The same again, after `delayMs`. */
  | { readonly kind: 'retry'; readonly delayMs: number }
  /** As `retry`, and the job says what it waits for, and until when at most. */
  | { readonly kind: 'wait'; readonly delayMs: number; readonly error: JobError; readonly untilMs: number }
  /** Give the sandbox (if any) up and go to another provider; stay away from this one for `excludeMs`. */
  | { readonly kind: 'move'; readonly excludeMs: number; readonly confirmed: boolean; readonly error: JobError }
  /** The job can't succeed. */
  | { readonly kind: 'fail'; readonly error: JobError }
  /** This consumer must leave the job alone. */
  | { readonly kind: 'leave' }

export interface ErrorContext {
  /** The call that the error came out of, for an error that does not say whose it is. */
  readonly origin: ErrorOrigin
  /** How often the same thing was tried already, from 1. */
  readonly tries: number
  /** How often this job was turned away by this provider in a row, from 1. */
  readonly refusals: number
  /** Milliseconds since 1970: now, and when the first of those tries failed. */
  readonly nowMs: number
  readonly sinceMs: number
  /** Whether the provider said just now that the job's sandbox lives. */
  readonly lives: boolean
  /** Whether the job's last sandbox was given up because it broke, within the step that it is at now. */
  readonly brokeBefore: boolean
  /** How long a living sandbox that can't be reached is waited for, in milliseconds. */
  readonly patienceMs: number
}

const triesInPlace = 3
/** A git host that is away keeps the job waiting, not failing: its work can't go elsewhere. */
const gitHostPatienceMs = 600_000

/**
 * How long one job stays away, in milliseconds; doubled with each refusal in a row. Short, since what all jobs should know of a
 * provider is the ledger's: its ceiling when it is full, its breaker when it does not work or is called too often.
 */
const turnedAwayMs = 2_000
const longestExclusionMs = 30_000

type OwnedError = InfrastructureError & { readonly owner: ErrorOwner }

function reactionTo(error: OwnedError, context: ErrorContext): Reaction {
  switch (error.owner) {
    case 'sandbox':
      return sandboxReaction(error, context)
    case 'provider-create':
      return createReaction(error, context)
    case 'provider-data-plane':
      return dataPlaneReaction(error, context)
    case 'consumer-keys':
      return context.origin === 'create' ? moved(error, context, true) : hereReaction(error, context, context.patienceMs)
    case 'git-host':
      return hereReaction(error, context, gitHostPatienceMs)
    case 'consumer-configuration':
      return context.origin === 'git' ? hereReaction(error, context, context.patienceMs) : providerEntryReaction(error, context)
    case 'git-repository':
    case 'job':
    case 'deployment':
      return hereReaction(error, context, context.patienceMs)
  }
}

const finalKinds: ReadonlySet<InfrastructureErrorKind> = new Set<InfrastructureErrorKind>(['invalid', 'sandbox-lost', 'auth'])

/** Of what would be the same elsewhere: what may pass is waited for, the rest fails the job. */
function hereReaction(error: OwnedError, context: ErrorContext, patienceMs: number): Reaction {
  // A token may have run out on its way: the second try has another.
  if (error.kind === 'auth' && context.origin === 'git' && context.tries < 2) return { kind: 'retry', delayMs: backoffMs(1, 2_000) }
  const fail: Reaction = { kind: 'fail', error: jobErrorOf(error) }
  return finalKinds.has(error.kind) ? fail : (waited(error, context, patienceMs, 10_000) ?? fail)
}

function sandboxReaction(error: OwnedError, context: ErrorContext): Reaction {
  if (error.kind === 'sandbox-lost') return moved(error, context, true)
  if (context.tries < triesInPlace) return { kind: 'retry', delayMs: backoffMs(context.tries, 2_000) }
  if (!context.brokeBefore) return moved(error, context, false)
  const message = `${error.message}; two sandboxes in a row broke so within the same step, so its commands break what every call into a sandbox needs (/bin/sh, PATH, /etc/passwd, ~/.switchyard, memory, disk)`
  return { kind: 'fail', error: { kind: 'invalid', message, owner: 'job', code: 'SWY_SANDBOX_BROKEN' } }
}

function createReaction(error: OwnedError, context: ErrorContext): Reaction {
  switch (error.kind) {
    case 'capacity':
    case 'rate-limited':
    case 'auth':
      // What it refuses there was not made; of a sandbox that exists it says nothing.
      return moved(error, context, context.origin === 'create')
    case 'sandbox-lost':
      return moved(error, context, true)
    case 'provider-down':
      return moved(error, context, false)
    case 'invalid':
      return { kind: 'fail', error: jobErrorOf(error) }
    // `timeout` is the call's own deadline here (the job's and the step's are no errors but outcomes): its outcome is unknown.
    case 'timeout':
    case 'transient':
      if (context.tries < triesInPlace) return { kind: 'retry', delayMs: backoffMs(context.tries, 2_000) }
      return moved(error, context, false)
  }
}

/** What is wrong with a provider's entry (its template, its snapshot, its user) is right at another provider, or at another consumer. */
function providerEntryReaction(error: OwnedError, context: ErrorContext): Reaction {
  const mayPass = !finalKinds.has(error.kind)
  if (mayPass && context.tries < triesInPlace) return { kind: 'retry', delayMs: backoffMs(context.tries, 2_000) }
  return moved(error, context, !mayPass && context.origin === 'create')
}

/** Attempts count lost sandboxes, not calls: while the provider says that the sandbox lives, its work is waited for. */
function dataPlaneReaction(error: OwnedError, context: ErrorContext): Reaction {
  if (context.lives) return waited(error, context, context.patienceMs, 5_000) ?? moved(error, context, false)
  return createReaction(error, context)
}

function waited(error: OwnedError, { tries, sinceMs, nowMs }: ErrorContext, patienceMs: number, atMostMs: number): Reaction | null {
  const untilMs = sinceMs + patienceMs
  if (nowMs >= untilMs) return null
  return { kind: 'wait', delayMs: Math.min(error.retryAfterMs ?? backoffMs(tries, atMostMs), untilMs - nowMs), error: jobErrorOf(error), untilMs }
}

function moved(error: OwnedError, { refusals }: ErrorContext, confirmed: boolean): Reaction {
  const baseMs = error.kind === 'sandbox-lost' ? 0 : error.kind === 'rate-limited' ? (error.retryAfterMs ?? turnedAwayMs) : turnedAwayMs
  return { kind: 'move', excludeMs: Math.min(longestExclusionMs, baseMs * 2 ** Math.max(0, refusals - 1)), confirmed, error: jobErrorOf(error) }
}

/** What all consumers should know of an error that makes a job leave a provider: only what is the provider's own. */
function reportOf({ owner, kind, retryAfterMs }: OwnedError): ProviderReport | null {
  if (owner !== 'provider-create') return null
  switch (kind) {
    case 'capacity':
      return { kind: 'capacity' }
    case 'rate-limited':
      return { kind: 'rate-limited', retryAfterMs }
    // Passing faults and silence count once they were tried in place often enough to make the job leave.
    case 'transient':
    case 'timeout':
    case 'provider-down':
      return { kind: 'down' }
    case 'auth':
      return { kind: 'auth' }
    case 'sandbox-lost':
    case 'invalid':
      return null
  }
}

function failed(owner: ErrorOwner, kind: keyof typeof courseCodes, message: string): Decision {
  return { reaction: { kind: 'fail', error: { kind, message, owner, code: courseCodes[kind] } }, report: null, owner }
}

/** An error as records and results hold it. */
export function jobErrorOf({ kind, message, owner, code }: Pick<InfrastructureError, 'message' | 'owner' | 'code'> & { readonly kind: JobErrorKind }): JobError {
  return { kind, message, ...(owner === undefined ? {} : { owner }), ...(code === 'SWY_UNSPECIFIED' ? {} : { code }) }
}

function backoffMs(tries: number, atMostMs: number): number {
  return Math.min(atMostMs, 100 * 2 ** Math.min(tries - 1, 20))
}
