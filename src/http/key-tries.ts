import type { RateLimiterMemory } from 'rate-limiter-flexible'
import { z } from 'zod'
import { HttpRefusalError } from './refusal.js'
import type { RateLimit } from './rate-limit.js'

export const defaultKeyTries: RateLimit = { requests: 60, perSeconds: 60 }

/** What the library throws when there are too many. */
const refusedSchema = z.object({ msBeforeNext: z.number() })

/**
 * How many keys that open nothing an address may send. Only these are counted, and only these are refused: whoever sends a key that opens is let in, whatever
 * others send from the same address. Counted in this process, since a stranger is to write nothing into Redis.
 */
export class KeyTries {
  #limiter: Promise<RateLimiterMemory> | undefined

  constructor(private readonly limit: RateLimit) {}

  /**
   * Counts a key that opened nothing.
   * @param address as `remoteAddressBehind` gives it; empty for those that nobody knows, who are counted together.
   * @throws HttpRefusalError 429 when there were too many.
   */
  async count(address: string): Promise<void> {
    const { requests, perSeconds } = this.limit
    // Loaded by servers alone.
    this.#limiter ??= import('rate-limiter-flexible').then((library) => new library.RateLimiterMemory({ points: requests, duration: perSeconds }))
    const limiter = await this.#limiter
    try {
      await limiter.consume(address)
    } catch (error) {
      if (error instanceof Error) throw error
      const waitS = Math.max(1, Math.ceil(refusedSchema.parse(error).msBeforeNext / 1000))
      throw new HttpRefusalError(429, 'SWY_HTTP_RATE_LIMITED', `authorization: ${requests} keys that open nothing came from your address within ${perSeconds} seconds, as many as may; look at the key, and wait ${waitS} seconds`, { 'retry-after': String(waitS) })
    }
  }
}
