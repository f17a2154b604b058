import { FenceLostError, InfrastructureError, PromotionConflictError, errorMessage } from '../../job/errors.js'
import type { JobError } from '../../job/result.js'

/** What to do about an error. Decided here and nowhere else, from the error's kind, where it came from and what was tried. */
export type Reaction =
  /** The same again, after `delayMs`. */
  | { readonly kind: 'retry'; readonly delayMs: number }
  /** Give the sandbox (if any) up and go to another provider; stay away from this one for `excludeMs`. */
  | { readonly kind: 'move'; readonly excludeMs: number; readonly confirmed: boolean; readonly error: JobError }
  /** The job can't succeed. */
  | { readonly kind: 'fail'; readonly error: JobError }
  /** This consumer must leave the job alone. */
  | { readonly kind: 'leave' }

export interface ErrorContext {
  /** Where the error came from: the provider (with its runner), the git host as the consumer calls it, or the job's own course. */
  readonly source: 'provider' | 'git'
  /** How often the same thing was tried already, from 1. */
  readonly tries: number
  /** How often this job was turned away by this provider in a row, from 1. */
  readonly refusals: number
}

const triesInPlace = 3
/** A git host that is away keeps the job waiting, not failing: its work can't go elsewhere. Ten minutes at the longest pause. */
const triesAtGitHost = 60

/**
 * How long one job stays away, in milliseconds; doubled with each refusal in a row. Short, since what all jobs should know of a
 * provider is the ledger's: its ceiling when it is full, its breaker when it does not work.
 */
const turnedAwayMs = 2_000
const longestExclusionMs = 30_000

/** Sorts anything thrown while a job is supervised into what to do. */
export function react(error: unknown, context: ErrorContext): Reaction {
  if (error instanceof FenceLostError) return { kind: 'leave' }
  if (error instanceof PromotionConflictError) return { kind: 'fail', error: { kind: 'conflict', message: error.message } }
  if (!(error instanceof InfrastructureError)) {
    return { kind: 'fail', error: { kind: 'internal', message: `a defect in Switchyard: ${errorMessage(error)}` } }
  }
  const jobError: JobError = { kind: error.kind, message: error.message }
  return context.source === 'git' ? reactToGitHost(error, jobError, context) : reactToProvider(error, jobError, context)
}

function reactToGitHost(error: InfrastructureError, jobError: JobError, { tries }: ErrorContext): Reaction {
  if (error.kind === 'auth' || error.kind === 'invalid' || tries >= triesAtGitHost) return { kind: 'fail', error: jobError }
  return { kind: 'retry', delayMs: error.retryAfterMs ?? backoffMs(tries, 10_000) }
}

function reactToProvider(error: InfrastructureError, jobError: JobError, { tries, refusals }: ErrorContext): Reaction {
  const move = (baseMs: number, confirmed: boolean): Reaction => ({
    kind: 'move',
    excludeMs: Math.min(longestExclusionMs, baseMs * 2 ** Math.max(0, refusals - 1)),
    confirmed,
    error: jobError,
  })
  switch (error.kind) {
    case 'capacity':
      return move(turnedAwayMs, true)
    case 'rate-limited':
      return move(error.retryAfterMs ?? turnedAwayMs, true)
    case 'sandbox-lost':
      return move(0, true)
    case 'provider-down':
      return move(turnedAwayMs, false)
    case 'auth':
      return move(turnedAwayMs, true)
    case 'invalid':
      return { kind: 'fail', error: jobError }
    // `timeout` is the call's own deadline here (the job's and the step's are no errors but outcomes): its outcome is unknown.
    case 'timeout':
    case 'transient':
      if (tries < triesInPlace) return { kind: 'retry', delayMs: backoffMs(tries, 2_000) }
      return move(turnedAwayMs, false)
  }
}

function backoffMs(tries: number, atMostMs: number): number {
  return Math.min(atMostMs, 100 * 2 ** (tries - 1))
}
