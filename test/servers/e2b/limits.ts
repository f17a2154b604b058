/** A plan's limits, refused in the words that the service uses, since clients have nothing but the words to tell them apart. */
import { z } from 'zod'

export const planSchema = z.strictObject({
  maxConcurrent: z.int().positive().default(20),
  /** 0 for no limit. */
  createsPerSecond: z.number().min(0).default(0),
  maxLifetimeSeconds: z.int().positive().default(3600),
  /** Whether the team may use header transforms in network rules. */
  networkTransforms: z.boolean().default(true),
})
export type Plan = z.output<typeof planSchema>

/** An answer of the control plane that is an error. */
export class ApiFailure extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly headers: Readonly<Record<string, string>> = {},
  ) {
    super(message)
  }
}

export function concurrencyLimit(limit: number): ApiFailure {
  return new ApiFailure(429, `you have reached the maximum number of concurrent E2B sandboxes (${limit}). If you need more, please contact us`)
}

export function createRateLimit(): ApiFailure {
  return new ApiFailure(429, 'Rate limit exceeded', { 'Retry-After': '1' })
}

export function lifetimeLimit(maxSeconds: number): ApiFailure {
  return new ApiFailure(400, `Timeout cannot be greater than ${Math.floor(maxSeconds / 3600)} hours`)
}

/** A bucket of one second's creates. */
export class CreateRate {
  private tokens: number
  private filledAtMs: number

  constructor(
    private readonly perSecond: number,
    private readonly now: () => number = Date.now,
  ) {
    this.tokens = perSecond
    this.filledAtMs = now()
  }

  take(): boolean {
    if (this.perSecond === 0) return true
    const nowMs = this.now()
    this.tokens = Math.min(this.perSecond, this.tokens + ((nowMs - this.filledAtMs) / 1000) * this.perSecond)
    this.filledAtMs = nowMs
    if (this.tokens < 1) return false
    this.tokens -= 1
    return true
  }
}
