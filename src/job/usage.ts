import { costMicros, type Cost } from './cost.js'
import type { RunRecord } from './run-record.js'

/** A moment by two clocks. */
export interface Moment {
  /** Milliseconds since 1970. */
  readonly nowMs: number
  /** By the run's own clock, which goes on over hand-overs; see `RunContext.meterMs`. */
  readonly meterMs: number
}

type Living = Pick<NonNullable<RunRecord['sandbox']>, 'createdAtMs' | 'billed'>

/** For how long a sandbox has been there, in milliseconds. */
function livedMs({ createdAtMs, billed }: Living, { nowMs, meterMs }: Moment): number {
  return Math.max(0, billed === undefined ? nowMs - createdAtMs : meterMs - billed.fromMs)
}

/** What a sandbox has cost until now; undefined for none, or one without a price. */
export function costOf(sandbox: Living | null, at: Moment): Cost | undefined {
  if (sandbox?.billed === undefined) return undefined
  return { micros: costMicros(sandbox.billed, livedMs(sandbox, at)), currency: sandbox.billed.currency }
}

/** Sandbox-milliseconds of a run until now. */
export function usedSoFar({ sandbox, usedMs }: Pick<RunRecord, 'sandbox' | 'usedMs'>, at: Moment): number {
  return usedMs + (sandbox === null ? 0 : livedMs(sandbox, at))
}
