import type { RunRecord } from '../job/run-record.js'
import type { JobSpec } from '../job/spec.js'
import { clockTime, describeKey, describeLoad, describeWord, hasRoom, type KeyStanding, type KeyTrouble, type LiveConsumer, type OperatorWord, type ProviderLoad } from '../store/index.js'

/** A tenant's jobs in hand, and how many it may have; null for no cap. */
export interface TenantLoad {
  readonly running: number
  readonly cap: number | null
  /** Who has paused it; null when nobody has. */
  readonly pause: OperatorWord | null
}

/** What is refused of a job or of what it asks for. */
export interface Refusals {
  readonly reasons: readonly string[]
  /** Since when no live consumer may run it, in milliseconds since 1970; null while one may. */
  readonly sinceMs: number | null
  /** Why one that has refused it for a while only leaves it to others; null when there is none. */
  readonly passing: string | null
}

/** What a parent waits for in its flow. */
export interface FlowStanding {
  /** A child that has failed, where that neither fails the parent nor frees it: it waits until the child has succeeded. Null when there is none, as far as was looked. */
  readonly failedChild: string | null
}

/** What a job that nobody has in hand may wait for. */
export interface Around {
  /** What the providers hold. */
  readonly loads: readonly ProviderLoad[]
  readonly paused: boolean
  /** Who paused the queue, where that is known. */
  readonly pausedBy: OperatorWord | null
  /** The live consumers of the job's queue. */
  readonly consumers: readonly Pick<LiveConsumer, 'providers' | 'secrets' | 'troubles' | 'full'>[]
  readonly tenant: TenantLoad | null
  readonly refusals: Refusals | null
  /** What keeps it from its key of concurrency; null when nothing does. */
  readonly key: KeyStanding | null
  /** Why its tenant's budget keeps it, and others like it; null when it does not. */
  readonly unpaid: string | null
  /** Until when it is delayed, in milliseconds since 1970; null when it is not. */
  readonly delayedUntilMs: number | null
  /** It is the parent of one of BullMQ's flows, and waits for its children; null otherwise. */
  readonly flow: FlowStanding | null
}

/**
 * Why a job waits that is in no consumer's hands: what the operator has to mend comes first, what passes by itself last.
 * @param spec undefined when the queue does not hold the job any more.
 * @param record of a job that has begun, and waits to be gone on with; null otherwise.
 * @returns null when it is about to be taken.
 */
export function waitingReason(spec: JobSpec | undefined, record: Pick<RunRecord, 'sandbox' | 'creating'> | null, around: Around): string | null {
  const { paused, pausedBy, consumers, tenant, refusals, delayedUntilMs, flow } = around
  if (flow !== null) return `waiting for the children of its flow${flow.failedChild === null ? '' : `, of which ${flow.failedChild} has failed; run that again`}`
  if (paused) return `waiting: the queue is paused${pausedBy === null ? '' : ` ${describeWord(pausedBy)}`}; resume it`
  if (delayedUntilMs !== null) return `waiting: delayed until ${new Date(delayedUntilMs).toISOString().slice(0, 19)}Z`
  if (consumers.length === 0) return 'waiting for a consumer: none is live for this queue; start one'
  const fit = spec === undefined ? consumers : ableConsumers(spec, record, consumers)
  if (refusals !== null && refusals.sinceMs !== null) return nobody(refusals.reasons, refusals.sinceMs) ?? lacking(spec, record, consumers)
  if (fit.length === 0) return lacking(spec, record, consumers)
  const refused = keyReason(spec, record, fit)
  if (refused !== null) return refused
  if (around.key !== null) return describeKey(around.key)
  if (fit.every(({ full }) => full)) return 'waiting for a consumer with room: each that may run it has as many jobs as it may (consumer.maxJobs)'
  const left = refusals === null || refusals.passing === null ? null : `waiting for another consumer: ${refusals.passing}`
  if (record !== null) return left
  if (tenant !== null && tenant.pause !== null) return `waiting: tenant ${spec?.tenant ?? ''} is paused ${describeWord(tenant.pause)}`
  if (tenant !== null && tenant.cap !== null && tenant.running >= tenant.cap) {
    return `waiting for tenant ${spec?.tenant ?? ''}: ${tenant.running} of at most ${tenant.cap} jobs are running`
  }
  return around.unpaid ?? capacityReason(spec, around.loads, fit) ?? left
}

function nobody(reasons: readonly string[], sinceMs: number): string | null {
  return reasons.length === 0 ? null : `waiting for a consumer that can run it: none can since ${clockTime(sinceMs)} (${reasons.join('; and ')})`
}

/** Those that have the provider of its sandbox, or one that it may use, and its secrets. */
function ableConsumers(spec: JobSpec, record: Pick<RunRecord, 'sandbox' | 'creating'> | null, consumers: Around['consumers']): Around['consumers'] {
  const at = placeOf(record)
  return consumers.filter(({ providers, secrets }) => hasAll(secrets, spec.secrets) && (at === null ? providers.some((name) => allows(spec, name)) : providers.includes(at)))
}

function lacking(spec: JobSpec | undefined, record: Pick<RunRecord, 'sandbox' | 'creating'> | null, consumers: Around['consumers']): string {
  const at = placeOf(record)
  if (at !== null && !consumers.some(({ providers }) => providers.includes(at))) return `waiting for a consumer that has the provider "${at}", where its sandbox is: no live one has`
  const missing = (spec?.secrets ?? []).filter((name) => !consumers.some(({ secrets }) => hasAll(secrets, [name])))
  if (missing.length > 0) return `waiting for a consumer that has the secret ${missing.join(', ')}: no live one has`
  if ((spec?.secrets ?? []).length > 0) return `waiting for a consumer that has ${at === null ? 'a provider that it may use' : `the provider "${at}"`} and the secrets ${spec?.secrets.join(', ') ?? ''}: no live one has both`
  return 'waiting for a consumer that can run it: no live one has a provider that it may use'
}

/** Every consumer that could take it has a key that is refused. */
function keyReason(spec: JobSpec | undefined, record: Pick<RunRecord, 'sandbox' | 'creating'> | null, fit: Around['consumers']): string | null {
  const at = placeOf(record)
  const problems = fit.map(({ providers, troubles }) => {
    const git = troubles.find(({ of }) => of === 'git')
    if (git !== undefined) return git
    const needed = at === null ? providers.filter((name) => spec === undefined || allows(spec, name)) : [at]
    const refused = needed.map((name) => troubles.find(({ of }) => of === name))
    return refused.every((trouble): trouble is KeyTrouble => trouble !== undefined) ? refused[0] : undefined
  })
  const [first] = problems
  return first !== undefined && problems.every((problem) => problem !== undefined) ? `waiting for a consumer whose key is taken (${first.of}: ${first.message})` : null
}

function capacityReason(spec: JobSpec | undefined, loads: readonly ProviderLoad[], fit: Around['consumers']): string | null {
  const reachable = new Set(fit.flatMap(({ providers }) => providers))
  const usable = loads.filter(({ provider }) => reachable.has(provider) && (spec === undefined || allows(spec, provider)))
  if (usable.length === 0 || usable.some(hasRoom)) return null
  return `waiting for capacity: ${usable.map(describeLoad).join(', ')}`
}

function placeOf(record: Pick<RunRecord, 'sandbox' | 'creating'> | null): string | null {
  return record?.sandbox?.provider ?? record?.creating?.provider ?? null
}

function allows({ providers: { allow, deny } }: JobSpec, provider: string): boolean {
  return (allow?.includes(provider) ?? true) && !deny.includes(provider)
}

/** `*` stands for every name. */
function hasAll(secrets: readonly string[], names: readonly string[]): boolean {
  return secrets.includes('*') || names.every((name) => secrets.includes(name))
}
