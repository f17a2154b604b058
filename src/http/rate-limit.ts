import type { RateLimiterRedis } from 'rate-limiter-flexible'
import { z } from 'zod'
import { accessOf, type AgentQueue } from '../producers/agent-queue.js'
import type { Caller } from './caller.js'
import { HttpRefusalError } from './refusal.js'

/** How many requests a key may make; counted in Redis, for all servers of the deployment. */
export interface RateLimit {
  readonly requests: number
  readonly perSeconds: number
}

export const defaultRateLimit: RateLimit = { requests: 6_000, perSeconds: 60 }

/** What the library throws when there are too many; an error is trouble with Redis. */
const refusedSchema = z.object({ msBeforeNext: z.number() })

export class RateLimiter {
  #limiter: Promise<RateLimiterRedis> | undefined

  constructor(
    private readonly queue: AgentQueue,
    private readonly limit: RateLimit,
  ) {}

  /**
   * Counts a request.
   * @returns the headers that tell how many are left.
   * @throws HttpRefusalError 429, RedisUnavailableError.
   */
  async count({ id }: Caller): Promise<Record<string, string>> {
    const { requests, perSeconds } = this.limit
    const policy = `"key";q=${requests};w=${perSeconds}`
    try {
      this.#limiter ??= this.#open().catch((error: unknown) => {
        this.#limiter = undefined
        throw error
      })
      const limiter = await this.#limiter
      const { remainingPoints, msBeforeNext } = await accessOf(this.queue).use(() => limiter.consume(id))
      return { 'ratelimit-policy': policy, ratelimit: `"key";r=${remainingPoints};t=${seconds(msBeforeNext)}` }
    } catch (error) {
      if (error instanceof Error) throw error
      const waitS = seconds(refusedSchema.parse(error).msBeforeNext)
      throw new HttpRefusalError(429, 'SWY_HTTP_RATE_LIMITED', `API key ${id} has made ${requests} requests within ${perSeconds} seconds, as many as it may; wait ${waitS} seconds, or enqueue many jobs by one request`, {
        'retry-after': String(waitS), 'ratelimit-policy': policy, ratelimit: `"key";r=0;t=${waitS}`,
      })
    }
  }

  async #open(): Promise<RateLimiterRedis> {
    const { use, keys } = accessOf(this.queue)
    // Loaded by servers alone.
    const { RateLimiterRedis } = await import('rate-limiter-flexible')
    return await use(async ({ redis }) => {
      const { requests, perSeconds } = this.limit
      // Whoever is over the limit costs Redis nothing until its time is over.
      return new RateLimiterRedis({ storeClient: redis, keyPrefix: keys.httpRates(), points: requests, duration: perSeconds, inMemoryBlockOnConsumed: requests + 1 })
    })
  }
}

function seconds(ms: number): number {
  return Math.max(1, Math.ceil(ms / 1000))
}
