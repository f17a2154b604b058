import type { Redis } from 'ioredis'
import { z } from 'zod'
import { InvalidInputError } from '../job/errors.js'
import { cutText } from '../job/harmless-text.js'
import { dayOf, isDay, type Day } from '../job/days.js'
import type { Keys } from './keys.js'

/** How many days are kept, at least. */
export const keptDays = 40
const dayMs = 86_400_000
const byTenant = z.record(z.string(), z.string())

/** What a tenant's sandboxes cost on a day, so far as their jobs have ended or have a budget. */
export interface TenantCost {
  /** Such as `2026-12-01`, by the deployment's time zone. */
  readonly day: string
  /** Null for jobs that name none; `*` for all tenants beyond the 10,000 that are counted on a day. */
  readonly tenant: string | null
  /** Millionths of the currency's unit. */
  readonly micros: number
  readonly currency: string
}

/** Days as the scripts take them. */
export function daysArgument(days: readonly Day[]): [number, string][] {
  return days.map(({ day, startsAtMs }) => [startsAtMs, day])
}

/**
 * What sandboxes cost by tenant and day, the latest day first; at most 40 days.
 * @param which.since the first day, as `2026-12-01`; left out, today alone. `tenants`: whose; left out, everybody's.
 * @throws InvalidInputError for a day that is none.
 */
export async function costsOf(redis: Redis, keys: Keys, which: { readonly since?: string | undefined; readonly tenants?: readonly string[] | undefined; readonly timeZone: string; readonly nowMs: number }): Promise<TenantCost[]> {
  const { tenants, timeZone, nowMs } = which
  const today = dayOf(nowMs, timeZone)
  const since = which.since ?? today
  if (!isDay(since)) throw new InvalidInputError(`since: "${cutText(since, 100)}" is no day; give one such as "${today}"`)
  const days: string[] = []
  // By half days, so that none is skipped where a zone makes one short.
  for (let ms = nowMs; days.length < keptDays && dayOf(ms, timeZone) >= since; ms -= dayMs / 2) if (days.at(-1) !== dayOf(ms, timeZone)) days.push(dayOf(ms, timeZone))
  if (days.length === 0) return []
  const pipeline = redis.pipeline()
  for (const day of days) {
    const key = `${keys.costs()}:day:${day}`
    if (tenants === undefined) pipeline.hgetall(key)
    else pipeline.hmget(key, 'currency', ...tenants.map((tenant) => `s:${tenant}`))
  }
  const answers = ((await pipeline.exec()) ?? []).map(([error, answer]) => {
    if (error !== null) throw error
    return tenants === undefined ? byTenant.parse(answer) : named(z.array(z.string().nullable()).parse(answer), tenants)
  })
  return answers.flatMap((fields, index) => costsIn(days[index] ?? '', fields))
}

function named([currency = null, ...spent]: (string | null)[], tenants: readonly string[]): Record<string, string> {
  const found = tenants.flatMap((tenant, index) => (spent[index] == null ? [] : [[`s:${tenant}`, spent[index]] as const]))
  return Object.fromEntries([...found, ...(currency === null ? [] : [['currency', currency] as const])])
}

function costsIn(day: string, fields: Readonly<Record<string, string>>): TenantCost[] {
  const currency = fields['currency'] ?? ''
  return Object.entries(fields)
    .flatMap(([field, micros]) => {
      if (field === 's*') return [{ day, tenant: '*', micros: Number(micros), currency }]
      return field.startsWith('s:') ? [{ day, tenant: field === 's:' ? null : field.slice(2), micros: Number(micros), currency }] : []
    })
    .toSorted((a, b) => b.micros - a.micros)
}
