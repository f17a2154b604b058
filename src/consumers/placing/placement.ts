import { hourlyPrice, type ProviderPrice } from '../../job/cost.js'
import type { JobSpec } from '../../job/spec.js'
import type { RunRecord } from '../../job/run-record.js'
import type { SandboxWish } from '../../providers/provider.js'
import { clockTime, describeLoad, type ProviderLoad } from '../../store/provider-load.js'

/** A provider as placement sees it. */
export interface Candidate {
  readonly provider: string
  /** How many places it has now: the limit in force. */
  readonly limit: number
  readonly used: number
  readonly maxLifetimeMs: number | undefined
  /** Whether the repository is at another absolute path in each of its sandboxes; see `Capabilities`. Default false. */
  readonly sharedFileSystem?: boolean | undefined
  /** Which network policies it can enforce. */
  readonly network: { readonly gitOnly: boolean; readonly none: boolean; readonly allowList: boolean }
  /** Why it could never run such a job, as its adapter says; undefined when it may. */
  readonly refusal?: ((wish: SandboxWish) => string | undefined) | undefined
  /** How long half of its latest creates took at most, in milliseconds; null when nobody knows yet. */
  readonly startP50Ms: number | null
  /** What an hour costs, in any one currency for all providers; undefined when not configured. */
  readonly price: ProviderPrice | undefined
}

/** What a policy may look at of a job. */
export type PlacedJob = Pick<JobSpec, 'resources' | 'network'> & {
  readonly prefer: readonly string[]
  /** Whether one of its steps has a `resume`. */
  readonly resumes: boolean
}

/** A user's own policy: the names of the candidates, the best first. Those it leaves out are not used for this job. */
export type PlacementFunction = (candidates: readonly Candidate[], job: PlacedJob) => readonly string[]

/**
 * How to choose among the providers that a job may use, after its own preference:
 * - `most-free`: where most places are free;
 * - `priority`: in the order of the configuration;
 * - `cheapest`: by the configured prices, those without one last;
 * - `fastest`: by the median of the latest creates, those without one first, so that they get one.
 */
export type PlacementPolicy = 'most-free' | 'priority' | 'cheapest' | 'fastest' | PlacementFunction

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
 * @param deployment the providers of all live consumers, which may have others than this one.
 */
export function eligibleProviders(
  spec: Pick<JobSpec, 'providers'> & SandboxWish,
  candidates: readonly Pick<Candidate, 'provider' | 'network' | 'refusal'>[],
  deployment: readonly string[] = [],
): Eligibility {
  const names = [...new Set([...candidates.map((candidate) => candidate.provider), ...deployment])]
  const { allow, prefer, deny } = spec.providers
  for (const [field, list] of Object.entries({ allow: allow ?? [], prefer, deny })) {
    const unknown = list.find((name) => !names.includes(name))
    if (unknown !== undefined) {
      return { ok: false, problem: `providers.${field}: "${unknown}" is not configured at this deployment; configured are: ${names.join(', ')}` }
    }
  }
  const allowed = candidates.filter(({ provider }) => (allow === undefined || allow.includes(provider)) && !deny.includes(provider))
  if (allowed.length === 0) return { ok: false, problem: `providers: allow and deny leave none of ${candidates.map(({ provider }) => provider).join(', ')}; allow one or deny fewer` }
  const able = allowed.filter(({ network }) => enforces(network, spec.network))
  if (able.length === 0) {
    const policy = Array.isArray(spec.network) ? 'an allow list' : `"${spec.network}"`
    const mend = spec.network === 'none' ? 'use "git-only" or "open", or a provider that can, configured with credentials: "brokered"' : 'use "open" or allow another provider'
    // What an account's plan takes away of what its provider can, the provider says itself.
    const reasons = allowed.flatMap(({ refusal }) => refusal?.(spec) ?? [])
    return { ok: false, problem: [`network: none of ${allowed.map(({ provider }) => provider).join(', ')} can enforce ${policy}; ${mend}`, ...reasons].join('; ') }
  }
  const willing = able.filter(({ refusal }) => refusal?.(spec) === undefined)
  if (willing.length === 0) return { ok: false, problem: able.map(({ refusal }) => refusal?.(spec)).join('; and ') }
  return { ok: true, providers: willing.map(({ provider }) => provider) }
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

interface PlacingJob extends PlacedJob {
  readonly eligible: readonly string[]
  readonly attempts: RunRecord['attempts']
  readonly exclusions: Exclusions
}

/**
 * The order in which to ask the ledger for a place, the best first: for a job that resumes, providers where the repository is always at the
 * same path before others, since agents know their conversations by it; then those where this job has not lost a sandbox; then
 * what the job prefers, in its order; then the policy's order. Excluded ones are left out.
 * @param candidates in the order of the configuration.
 */
export function placementOrder(candidates: readonly Candidate[], job: PlacingJob, policy: PlacementPolicy, nowMs: number): string[] {
  return placementGroups(candidates, job, policy, nowMs).flat()
}

/** As `placementOrder`; those among which only the policy decides are one group, in its order. */
export function placementGroups(candidates: readonly Candidate[], job: PlacingJob, policy: PlacementPolicy, nowMs: number): string[][] {
  const losses = (name: string) => job.attempts.filter((attempt) => attempt.provider === name && (attempt.outcome === 'lost' || attempt.outcome === 'unavailable')).length
  const preference = (name: string) => {
    const index = job.prefer.indexOf(name)
    return index === -1 ? job.prefer.length : index
  }
  const usable = candidates.filter(({ provider }) => job.eligible.includes(provider) && (job.exclusions.get(provider)?.untilMs ?? 0) <= nowMs)
  const elsewhere = (name: string) => (job.resumes && usable.some(({ provider, sharedFileSystem }) => provider === name && sharedFileSystem === true) ? 1 : 0)
  const compare = (a: string, b: string) => elsewhere(a) - elsewhere(b) || losses(a) - losses(b) || preference(a) - preference(b)
  const groups: string[][] = []
  for (const name of policyOrder(usable, job, policy).toSorted(compare)) {
    const last = groups.at(-1)
    if (last?.[0] !== undefined && compare(last[0], name) === 0) last.push(name)
    else groups.push([name])
  }
  return groups
}

function policyOrder(candidates: readonly Candidate[], job: PlacedJob, policy: PlacementPolicy): string[] {
  const names = candidates.map(({ provider }) => provider)
  const by = (value: (candidate: Candidate) => number) =>
    candidates.toSorted((a, b) => difference(value(a), value(b)) || free(b) - free(a) || a.provider.localeCompare(b.provider)).map(({ provider }) => provider)
  if (typeof policy === 'function') return [...new Set(policy(candidates, job))].filter((name) => names.includes(name))
  switch (policy) {
    case 'most-free':
      return by(() => 0)
    case 'priority':
      return names
    case 'cheapest':
      return by(({ price }) => hourlyPrice(price, job.resources))
    case 'fastest':
      return by(({ startP50Ms }) => startP50Ms ?? 0)
  }
}

function free({ limit, used }: Candidate): number {
  return limit - used
}

function difference(a: number, b: number): number {
  return a === b ? 0 : a - b
}

/** Why a job waits, for people: "waiting for capacity: e2b full (20/20), modal open until 12:00:05 (down), local excluded until …". */
export function waitingReason(loads: readonly ProviderLoad[], eligible: readonly string[], exclusions: Exclusions, nowMs: number): string {
  const parts = loads
    .filter(({ provider }) => eligible.includes(provider))
    .map((load) => {
      const exclusion = exclusions.get(load.provider)
      if (load.breaker === 'closed' && exclusion !== undefined && exclusion.untilMs > nowMs) {
        return `${load.provider} excluded until ${clockTime(exclusion.untilMs)} (${exclusion.why})`
      }
      return describeLoad(load)
    })
  return `waiting for capacity: ${parts.join(', ')}`
}
