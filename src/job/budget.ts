import { describeMicros } from './cost.js'
import type { RunRecord } from './run-record.js'
import type { JobSpec } from './spec.js'

/** Budgets: of a job, and of a tenant for each day. Pure; what has been spent and reserved is src/store/budgets.ts. */

/** What one sandbox of a job must be paid for before it may go on, in milliseconds from now. */
export function horizonMs(
  spec: Pick<JobSpec, 'push' | 'steps'>,
  record: Pick<RunRecord, 'phase' | 'stepIndex'>,
  time: {
    /** Until the job's time is up. */
    readonly leftMs: number
    /** For how long is reserved where a job can be parked at any time. */
    readonly periodMs: number
  },
): number {
  const { leftMs, periodMs } = time
  // What is left is brought to its end in any case.
  if (record.phase === 'pushing' || record.phase === 'promoting' || record.phase === 'closing') return periodMs
  // Nothing of it can be saved before its end.
  if (spec.push === false) return Math.max(0, leftMs)
  const step = spec.steps[record.stepIndex]
  if (step === undefined || step.resume !== undefined) return periodMs
  return Math.max(0, Math.min(leftMs, step.timeoutMs ?? Infinity))
}

/**
 * What the first sandbox of a job must be paid for at the least, before it is made, in milliseconds: a power of two, so that few of them tell many jobs apart; 0 for what
 * its consumer reserves at a time (`horizonMs`).
 */
export function leastPaidMs(spec: Pick<JobSpec, 'push' | 'steps' | 'timeoutMs'>): number {
  const ms = horizonMs(spec, { phase: 'placing', stepIndex: 0 }, { leftMs: spec.timeoutMs, periodMs: 0 })
  return ms < 1 ? 0 : 2 ** Math.floor(Math.log2(ms))
}

/** Whether a job may be parked within its step `stepIndex`, and loses nothing. */
export function parksWithin(spec: Pick<JobSpec, 'push' | 'steps'>, { stepIndex }: Pick<RunRecord, 'stepIndex'>): boolean {
  return spec.push !== false && spec.steps[stepIndex]?.resume !== undefined
}

/** Whose budget has too little, and how it stands, in micro-units. */
export interface Refusal {
  readonly of: 'tenant' | 'job'
  readonly spent: number
  readonly reserved: number
  readonly cap: number
  readonly currency: string
  /** What there is too little for. */
  readonly needed: number
  /** When the day ends, for people: `00:00 Europe/Berlin`. */
  readonly dayEnds: string
}

/** Why a job waits, for people. */
export function waitsForBudget(refusal: Refusal, tenant: string | undefined): string {
  const { of, spent, reserved, cap, currency, needed, dayEnds } = refusal
  const amount = (micros: number) => describeMicros(micros, currency)
  const used = `${describeMicros(spent, currency).split(' ')[0] ?? ''}${reserved > 0 ? ` and ${describeMicros(reserved, currency).split(' ')[0] ?? ''} reserved` : ''} of ${amount(cap)} spent`
  const lacks = cap - spent - reserved > 0 ? `, and it needs ${amount(needed)}` : ''
  if (of === 'job') return `waits for its own budget: ${used}${lacks}; raise it`
  const whose = tenant === undefined ? 'the budget of jobs without a tenant' : `tenant ${tenant}'s budget`
  return `waits for ${whose}: ${used} today${lacks}; raise it or wait until ${dayEnds}`
}

/** Why jobs wait in the index that need so much at the least; `refusal` of one of them. */
export function heldForBudget(refusal: Refusal, tenant: string | undefined): string {
  return waitsForBudget(refusal, tenant).replace(', and it needs ', ', and it needs at least ')
}

/** Why a job can never run with its budget; undefined when it may, some time. */
export function neverFits({ of, cap, currency, needed }: Refusal, tenant: string | undefined): string | undefined {
  if (needed <= cap) return undefined
  const whose = of === 'job' ? 'the job’s budget' : tenant === undefined ? 'the budget of jobs without a tenant' : `tenant ${tenant}'s budget of a day`
  return `${whose} of ${describeMicros(cap, currency)} can't pay for what must be reserved before its sandbox is made, ${describeMicros(needed, currency)}; raise it, give the step a shorter timeout, or a resume with which it can be parked`
}

/** Where a parked job stood: one that is parked there again has made no progress. */
export function placeOf({ stepIndex, checkpoint }: Pick<RunRecord, 'stepIndex' | 'checkpoint'>): string {
  return `${stepIndex}/${checkpoint?.sha ?? ''}`
}

/** Whether a job that is to be parked has made no progress since it was parked last, although it had a sandbox. */
export function parksInVain(record: Pick<RunRecord, 'parking' | 'attempts' | 'stepIndex' | 'checkpoint'>): boolean {
  const { parking, attempts } = record
  return parking !== undefined && parking.place === placeOf(record) && attempts.slice(parking.attempts).some(({ sandboxId }) => sandboxId !== null)
}
