import type { JobSpec } from '../job/spec.js'
import type { RunRecord } from '../job/run-record.js'

/** A provider as placement sees it. */
export interface Candidate {
  readonly provider: string
  readonly limit: number
  readonly used: number
  readonly maxLifetimeMs: number | undefined
  /** Which network policies it can enforce. */
  readonly network: { readonly gitOnly: boolean; readonly none: boolean; readonly allowList: boolean }
}

/** Where a job must not go for now, by provider: until when (milliseconds since 1970) and why. */
export type Exclusions = ReadonlyMap<string, { readonly untilMs: number; readonly why: string }>

/** The providers that could ever run a job, or why there is none. */
export type Eligibility =
  | { readonly ok: true; readonly providers: readonly string[] }
  /** One sentence that names the field and the mend. */
  | { readonly ok: false; readonly problem: string }

/**
 * Which of the configured providers a spec allows. A name in the spec that is not configured is a mistake of the writer's,
 * and is said, not skipped.
 */
export function eligibleProviders(spec: Pick<JobSpec, 'providers' | 'network'>, candidates: readonly Candidate[]): Eligibility {
  const names = candidates.map((candidate) => candidate.provider)
  const { allow, prefer, deny } = spec.providers
  for (const [field, list] of Object.entries({ allow: allow ?? [], prefer, deny })) {
    const unknown = list.find((name) => !names.includes(name))
    if (unknown !== undefined) {
      return { ok: false, problem: `providers.${field}: "${unknown}" is not configured at this deployment; configured are: ${names.join(', ')}` }
    }
  }
  const allowed = candidates.filter(({ provider }) => (allow === undefined || allow.includes(provider)) && !deny.includes(provider))
  if (allowed.length === 0) return { ok: false, problem: 'providers: allow and deny leave no provider; allow one or deny fewer' }
  const able = allowed.filter(({ network }) => enforces(network, spec.network))
  if (able.length === 0) {
    const policy = Array.isArray(spec.network) ? 'an allow list' : `"${spec.network}"`
    return { ok: false, problem: `network: none of ${allowed.map(({ provider }) => provider).join(', ')} can enforce ${policy}; use "open" or allow another provider` }
  }
  return { ok: true, providers: able.map(({ provider }) => provider) }
}

function enforces(can: Candidate['network'], policy: JobSpec['network']): boolean {
  if (Array.isArray(policy)) return can.allowList
  switch (policy) {
    case 'open':
      return true
    case 'git-only':
      return can.gitOnly
    case 'none':
      return can.none
  }
}

/**
 * The order in which to ask the ledger for a place, the best first: what the job prefers, in its order; then providers where
 * this job has not lost a sandbox; then the most free. Excluded ones are left out.
 */
export function placementOrder(
  candidates: readonly Candidate[],
  job: {
    readonly eligible: readonly string[]
    readonly prefer: readonly string[]
    readonly attempts: RunRecord['attempts']
    readonly exclusions: Exclusions
  },
  nowMs: number,
): string[] {
  const losses = (name: string) => job.attempts.filter((attempt) => attempt.provider === name && attempt.outcome !== 'succeeded').length
  const preference = (name: string) => {
    const index = job.prefer.indexOf(name)
    return index === -1 ? job.prefer.length : index
  }
  return candidates
    .filter(({ provider }) => job.eligible.includes(provider) && (job.exclusions.get(provider)?.untilMs ?? 0) <= nowMs)
    .toSorted(
      (a, b) =>
        losses(a.provider) - losses(b.provider) ||
        preference(a.provider) - preference(b.provider) ||
        b.limit - b.used - (a.limit - a.used) ||
        a.provider.localeCompare(b.provider),
    )
    .map(({ provider }) => provider)
}

/** Why a job waits, for people: "waiting for capacity: local-a full (2/2), local-b excluded until 12:00:05 (it was down)". */
export function waitingReason(candidates: readonly Candidate[], eligible: readonly string[], exclusions: Exclusions, nowMs: number): string {
  const parts = candidates
    .filter(({ provider }) => eligible.includes(provider))
    .map(({ provider, limit, used }) => {
      const exclusion = exclusions.get(provider)
      if (exclusion !== undefined && exclusion.untilMs > nowMs) {
        return `${provider} excluded until ${new Date(exclusion.untilMs).toISOString().slice(11, 19)} (${exclusion.why})`
      }
      return `${provider} ${used >= limit ? 'full' : 'busy'} (${used}/${limit})`
    })
  return `waiting for capacity: ${parts.join(', ')}`
}
