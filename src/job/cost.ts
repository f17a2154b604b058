import { z } from 'zod'
import { lastingObject } from './lasting.js'

/**
 * What sandboxes cost, in whole micro-units: millionths of the deployment's currency. Amounts are only ever added, and what a time costs is worked
 * out from the whole of it, so that no rounding adds up, however often it is asked.
 */

/** The most that an amount may be: sums of many of them are still whole numbers. */
const mostMicros = 2 ** 50
const count = z.int().min(0)

export const costSchema = lastingObject({
  /** Millionths of the currency's unit. */
  micros: count,
  /** ISO 4217, such as `USD`. */
  currency: z.string(),
})
export type Cost = z.output<typeof costSchema>

/** The price of a provider as it is configured: amounts of the deployment's currency; the sum counts. */
export interface ProviderPrice {
  readonly perSandboxHour?: number | undefined
  readonly perCpuHour?: number | undefined
  readonly perMemoryGiBHour?: number | undefined
  /** For each sandbox that is made, however long it lives. */
  readonly perCreate?: number | undefined
  /** What is billed at least, whatever less a sandbox lives. */
  readonly minimumSeconds?: number | undefined
}

/** What one sandbox costs: fixed when it is made, whatever the configuration says later. */
export const rateSchema = lastingObject({
  perHourMicros: count,
  perCreateMicros: count.default(0),
  minimumMs: count.default(0),
  currency: z.string(),
})
export type Rate = z.output<typeof rateSchema>

/** A sandbox's price, and when its time began, by the run's clock (`RunContext.meterMs`). */
export const billedSchema = rateSchema.extend({ fromMs: count })
export type Billed = z.output<typeof billedSchema>

/** What an hour at a provider costs for a job that asks for these resources; a job that asks for none is counted with 1 vCPU and 1 GiB. */
export function hourlyPrice(price: ProviderPrice | undefined, resources: { readonly cpu?: number | undefined; readonly memoryMiB?: number | undefined }): number {
  if (price === undefined) return Infinity
  return (price.perSandboxHour ?? 0) + (price.perCpuHour ?? 0) * (resources.cpu ?? 1) + ((price.perMemoryGiBHour ?? 0) * (resources.memoryMiB ?? 1024)) / 1024
}

/** The rate of a sandbox with these resources; null where the provider has no price. */
export function rateOf(price: ProviderPrice | undefined, resources: Parameters<typeof hourlyPrice>[1], currency: string): Rate | null {
  if (price === undefined) return null
  return { perHourMicros: toMicros(hourlyPrice(price, resources)), perCreateMicros: toMicros(price.perCreate ?? 0), minimumMs: Math.round((price.minimumSeconds ?? 0) * 1000), currency }
}

/** An amount in micro-units, to the nearest. */
export function toMicros(amount: number): number {
  return Math.min(mostMicros, Math.max(0, Math.round(amount * 1_000_000)))
}

const hourMs = 3_600_000n

/** What a sandbox costs that has lived for so long, in micro-units, rounded up. Less than no time is none. */
export function costMicros({ perHourMicros, perCreateMicros, minimumMs }: Rate, livedMs: number): number {
  const billedMs = BigInt(Math.ceil(Math.max(livedMs, minimumMs, 0)))
  const micros = BigInt(perCreateMicros) + (BigInt(perHourMicros) * billedMs + hourMs - 1n) / hourMs
  return Number(micros > BigInt(mostMicros) ? BigInt(mostMicros) : micros)
}

/** The sum of costs; in the currency of the last, since others can't be added to it. Null for none. */
export function sumOf(costs: readonly (Cost | undefined)[]): Cost | null {
  const known = costs.filter((cost) => cost !== undefined)
  const currency = known.at(-1)?.currency
  if (currency === undefined) return null
  return { micros: Math.min(mostMicros, known.reduce((sum, cost) => sum + (cost.currency === currency ? cost.micros : 0), 0)), currency }
}

/** For people: `0.50 USD`, `0.0125 USD`. */
export function describeMicros(micros: number, currency: string): string {
  const whole = Math.trunc(micros / 1_000_000)
  const rest = String(Math.abs(micros % 1_000_000)).padStart(6, '0').replace(/0{1,4}$/, '')
  return `${micros < 0 && whole === 0 ? '-' : ''}${whole}.${rest} ${currency}`
}
