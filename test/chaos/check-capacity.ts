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

export interface IdleReport {
  readonly violations: Violation[]
  /** The longest time that a place stood free while a job waited, in peace. */
  readonly longestIdleMs: number
  /** How much of the time that was looked at. */
  readonly judgedMs: number
}

/**
 * Whether a place stood free while jobs waited, for longer than `toleratedMs` at a stretch. Only in peace: times are left out in
 * which a fault of Redis, git or a consumer was under way or just over, and for a provider those of its own faults.
 */
export function checkIdle(samples: readonly Sample[], windows: readonly FaultWindow[], limits: Readonly<Record<string, number>>, options: { consumers: number; toleratedMs: number }): IdleReport {
  const violations: Violation[] = []
  let [longestIdleMs, judgedMs] = [0, 0]
  for (const [provider, limit] of Object.entries(limits)) {
    let idleSinceMs: number | null = null
    let said = false
    let lastMs: number | null = null
    for (const sample of samples) {
      const peaceful =
        sample.consumers >= options.consumers &&
        windows.every(({ provider: struck, fromMs, toMs }) => {
          const concerns = struck === null || struck === provider
          const after = struck === null ? settleMs : providerSettleMs
          return !concerns || sample.atMs < fromMs || sample.atMs > toMs + after
        })
      if (peaceful && lastMs !== null) judgedMs += sample.atMs - lastMs
      lastMs = peaceful ? sample.atMs : null
      const idle = peaceful && sample.waiting !== null && sample.waiting > 0 && (sample.live[provider] ?? 0) < limit
      if (!idle) {
        idleSinceMs = null
        said = false
        continue
      }
      idleSinceMs ??= sample.atMs
      const idleMs = sample.atMs - idleSinceMs
      longestIdleMs = Math.max(longestIdleMs, idleMs)
      if (idleMs > options.toleratedMs && !said) {
        said = true
        violations.push({ jobId: null, what: `${provider} had ${sample.live[provider] ?? 0} of ${limit} sandboxes for more than ${options.toleratedMs} ms from ${idleSinceMs} ms on, while ${sample.waiting} jobs waited` })
      }
    }
  }
  return { violations, longestIdleMs, judgedMs: Math.round(judgedMs / Math.max(1, Object.keys(limits).length)) }
}
