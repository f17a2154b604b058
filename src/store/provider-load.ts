import { z } from 'zod'
import { describeWord, type OperatorWord, operatorWordSchema } from './operator-word.js'

/** How much of a provider this deployment may use at once. */
export interface ProviderLimit {
  /** The configured name. */
  readonly provider: string
  readonly sandboxes: number
  /** vCPUs, for a provider that sells a pool of them. */
  readonly cpu?: number | undefined
  /** Memory, for a provider that sells a pool of it. */
  readonly memoryMiB?: number | undefined
  /** How many sandboxes a second may be created, for a provider that limits that. */
  readonly createsPerSecond?: number | undefined
  /** How many may be created at once after a pause. Default: what one second allows, at least 1. */
  readonly createBurst?: number | undefined
}

/** What a provider holds now, and why it may take no more. */
export interface ProviderLoad {
  readonly provider: string
  /** The limit, in sandboxes: the configured one, or what an operator has set in its place. */
  readonly limit: number
  /** As the consumers' configuration says. */
  readonly configuredLimit: number
  /** Who set another limit than the configured one; null when nobody has. */
  readonly set: (OperatorWord & { readonly limit: number }) | null
  /** Who wants no new sandboxes there, and, with `move`, those that run to be left; null when nobody does. */
  readonly drain: (OperatorWord & { readonly move: boolean }) | null
  /** The limit in force: less what others run in the account, and not more than the provider's own answers let hope for. */
  readonly effectiveLimit: number
  /** Sandboxes that others run in the same account, as far as is known. */
  readonly foreign: number
  /** Places taken: reserved or held by jobs. */
  readonly used: number
  /** Jobs in consumers' hands that wait for a place here (each may wait at several providers). */
  readonly waiting: number
  readonly cpu: number
  readonly cpuLimit: number | null
  readonly memoryMiB: number
  readonly memoryMiBLimit: number | null
  /** The circuit breaker; `probing`: one job tries whether it works again. */
  readonly breaker: 'closed' | 'open' | 'half-open' | 'probing'
  /** Milliseconds since 1970 by Redis' clock; null while the breaker is closed. */
  readonly openUntilMs: number | null
  /** `down`, `data-plane`, `auth` or `rate-limited`: what opened the breaker. */
  readonly openedBy: string | null
  /** The create rate in force, lowered while the provider says "too many calls"; null when there is none. */
  readonly createsPerSecond: number | null
  /** Until when the provider wants no create; null when it takes them. */
  readonly blockedUntilMs: number | null
  /** How long creates took, of the latest 100; null before the first. */
  readonly startP50Ms: number | null
  readonly startP95Ms: number | null
  readonly startMaxMs: number | null
}

const count = z.number()
const loadsSchema = z.array(
  z.object({
    provider: z.string(),
    limit: count,
    configuredLimit: count,
    set: operatorWordSchema.extend({ limit: count }).nullable().default(null),
    drain: operatorWordSchema.extend({ move: z.boolean().default(false) }).nullable().default(null),
    effectiveLimit: count,
    foreign: count,
    used: count,
    waiting: count,
    milliCpu: count,
    milliCpuLimit: count.nullable(),
    memoryMiB: count,
    memoryMiBLimit: count.nullable(),
    breaker: z.enum(['closed', 'open', 'half-open', 'probing']),
    openUntilMs: count.nullable(),
    openedBy: z.string().nullable(),
    createsPerSecond: count.nullable(),
    blockedUntilMs: count.nullable(),
    startP50Ms: count.nullable(),
    startP95Ms: count.nullable(),
    startMaxMs: count.nullable().default(null),
  }),
)

/** Reads what the ledger's scripts answer. */
export function parseLoads(text: string): ProviderLoad[] {
  return loadsSchema.parse(JSON.parse(text)).map(({ milliCpu, milliCpuLimit, ...load }) => ({
    ...load,
    cpu: milliCpu / 1000,
    cpuLimit: milliCpuLimit === null ? null : milliCpuLimit / 1000,
  }))
}

/** Limits as the ledger's scripts take them. */
export function limitsJson(limits: readonly ProviderLimit[]): string {
  return JSON.stringify(
    limits.map(({ provider, sandboxes, cpu, memoryMiB, createsPerSecond, createBurst }) => ({
      provider,
      sandboxes,
      milliCpu: cpu === undefined ? undefined : milli(cpu),
      memoryMiB,
      createsPerSecond,
      createBurst,
    })),
  )
}

/** vCPUs in thousandths. */
export function milli(cpu: number): number {
  return Math.round(cpu * 1000)
}

/** A provider's state for people, such as "e2b full (20/20)" or "modal open until 12:00:05 (down)". */
export function describeLoad(load: ProviderLoad): string {
  const { provider, used, limit, effectiveLimit, foreign } = load
  if (load.drain !== null) return `${provider} drained ${describeWord(load.drain)}`
  if (load.breaker === 'open' && load.openUntilMs !== null) return `${provider} open until ${clockTime(load.openUntilMs)} (${load.openedBy ?? 'down'})`
  if (load.breaker === 'probing') return `${provider} open (a job tries whether it works again)`
  const learned = effectiveLimit < limit ? ` of ${limit}${foreign > 0 ? `, ${foreign} used by others` : ''}` : ''
  const set = load.set === null ? '' : `; limited to ${load.set.limit} of ${load.configuredLimit} ${describeWord(load.set)}`
  if (used >= effectiveLimit) return `${provider} full (${used}/${effectiveLimit}${learned}${set})`
  if (load.blockedUntilMs !== null) return `${provider} takes no creates until ${clockTime(load.blockedUntilMs)}`
  return `${provider} busy (${used}/${effectiveLimit}${learned})`
}

/** Whether a provider takes one more sandbox, as far as is known. */
export function hasRoom(load: ProviderLoad): boolean {
  return load.drain === null && load.used < load.effectiveLimit && load.blockedUntilMs === null && (load.breaker === 'closed' || load.breaker === 'half-open')
}

/** The time of day in UTC, to the second. */
export function clockTime(atMs: number): string {
  return new Date(atMs).toISOString().slice(11, 19)
}
