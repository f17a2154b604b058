import type { FaultWindow } from './faults.js'
import type { ProviderState } from './provider-servers.js'
import type { Sample } from './sampler.js'
import type { Violation } from './violation.js'

/** What a provider's own count says at the end. */
export interface ProviderEnd {
  readonly provider: string
  readonly limit: number
  readonly state: ProviderState | { readonly maxLive: number; readonly live: number; readonly sandboxes: readonly { readonly id: string }[] }
}

/** Never more sandboxes than the limit, by the provider's own count, and none left at the end. */
export function checkCapacity(ends: readonly ProviderEnd[]): Violation[] {
  const violations: Violation[] = []
  for (const { provider, limit, state } of ends) {
    if (state.maxLive > limit) violations.push({ jobId: null, what: `${provider} had ${state.maxLive} sandboxes at once, over its limit of ${limit}` })
    for (const { id } of state.sandboxes) violations.push({ jobId: null, what: `sandbox ${id} is left at ${provider}` })
  }
  return violations
}

/** For how long after its end a fault may still hold work up. A consumer must be found dead; a provider is left alone for a while. */
const settleMs = 8_000
const providerSettleMs = 40_000
/** Samples further apart than this say nothing of what was in between: the machine was too busy to look, let alone to be judged. */
const longestGapMs = 700

export interface IdleReport {
  readonly violations: Violation[]
  /** The longest time that a place was nobody's while a job waited, in peace. */
  readonly longestFreeMs: number
  /** The longest time that there were fewer sandboxes than places while a job waited, in peace. */
  readonly longestUnusedMs: number
  /** How much of the time that was looked at. */
  readonly judgedMs: number
}

export interface IdleTolerance {
  readonly consumers: number
  /** How long a place may be nobody's while a job waits. */
  readonly freeMs: number
  /** How long a place may be without a sandbox while a job waits, though somebody holds it: a kill, a create, one call lost. */
  readonly unusedMs: number
}

/**
 * Whether places stood idle while jobs waited. Only in peace: times are left out in which a fault of Redis, git, the disk or a
 * consumer was under way or just over, and for a provider those of its own faults.
 */
export function checkIdle(samples: readonly Sample[], windows: readonly FaultWindow[], limits: Readonly<Record<string, number>>, tolerance: IdleTolerance): IdleReport {
  const violations: Violation[] = []
  let [longestFreeMs, longestUnusedMs, judgedMs] = [0, 0, 0]
  for (const [provider, limit] of Object.entries(limits)) {
    const isPeaceful = (sample: Sample) =>
      sample.consumers >= tolerance.consumers &&
      windows.every(({ provider: struck, fromMs, toMs }) => {
        const concerns = struck === null || struck === provider
        return !concerns || sample.atMs < fromMs || sample.atMs > toMs + (struck === null ? settleMs : providerSettleMs)
      })
    const peaceful = samples.map(isPeaceful)
    const judged = (index: number) => index > 0 && peaceful[index] === true && peaceful[index - 1] === true && gapBefore(samples, index) <= longestGapMs
    samples.forEach((_sample, index) => (judgedMs += judged(index) ? gapBefore(samples, index) : 0))
    const stretches = (isIdle: (sample: Sample) => boolean): { from: Sample; to: Sample }[] => {
      const found: { from: Sample; to: Sample }[] = []
      let current: { from: Sample; to: Sample } | null = null
      samples.forEach((sample, index) => {
        if (!(peaceful[index] === true && isIdle(sample))) current = null
        else if (current !== null && judged(index)) current.to = sample
        else found.push((current = { from: sample, to: sample }))
      })
      return found
    }
    const waits = ({ waiting }: Sample) => waiting !== null && waiting > 0
    const sandboxes = ({ live }: Sample) => live[provider] ?? 0
    for (const { from, to } of stretches((sample) => waits(sample) && (sample.taken?.[provider] ?? limit) < limit && sandboxes(sample) < limit)) {
      longestFreeMs = Math.max(longestFreeMs, to.atMs - from.atMs)
      if (to.atMs - from.atMs <= tolerance.freeMs) continue
      violations.push({ jobId: null, what: `${provider} had ${from.taken?.[provider] ?? 0} of ${limit} places taken from ${from.atMs} ms to ${to.atMs} ms, while ${from.waiting ?? 0} jobs waited` })
    }
    for (const { from, to } of stretches((sample) => waits(sample) && sandboxes(sample) < limit)) {
      longestUnusedMs = Math.max(longestUnusedMs, to.atMs - from.atMs)
      if (to.atMs - from.atMs <= tolerance.unusedMs) continue
      violations.push({ jobId: null, what: `${provider} had ${sandboxes(from)} of ${limit} sandboxes from ${from.atMs} ms to ${to.atMs} ms, while ${from.waiting ?? 0} jobs waited` })
    }
  }
  return { violations, longestFreeMs, longestUnusedMs, judgedMs: Math.round(judgedMs / Math.max(1, Object.keys(limits).length)) }
}

function gapBefore(samples: readonly Sample[], index: number): number {
  return (samples[index]?.atMs ?? 0) - (samples[index - 1]?.atMs ?? 0)
}
