import type { RateLimiterMemory, RateLimiterRedis } from 'rate-limiter-flexible'
import { z } from 'zod'
import { accessOf, type AgentQueue } from '../producers/agent-queue.js'
import { refusesWrites } from '../store/index.js'
import type { Caller } from './caller.js'
import { HttpRefusalError } from './refusal.js'

/** How many requests a key may make; counted in Redis, for all servers of the deployment, and by each for itself while Redis takes no writes. */
export interface RateLimit {
  readonly requests: number
  readonly perSeconds: number
}

export const defaultRateLimit: RateLimit = { requests: 6_000, perSeconds: 60 }

/** What the library throws when there are too many; an error is trouble with Redis. */
const refusedSchema = z.object({ msBeforeNext: z.number() })

export class RateLimiter {
  #limiter: Promise<{ readonly shared: RateLimiterRedis; readonly own: RateLimiterMemory }> | undefined

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
      const { shared, own } = await this.#limiter
      const { remainingPoints, msBeforeNext } = await accessOf(this.queue).use(() =>
        shared.consume(id).catch((error: unknown) => {
          if (refusesWrites(error)) return own.consume(id)
          throw error
        }),
      )
      return { 'ratelimit-policy': policy, ratelimit: `"key";r=${remainingPoints};t=${seconds(msBeforeNext)}` }
    } catch (error) {
      if (error instanceof Error) throw error
      const waitS = seconds(refusedSchema.parse(error).msBeforeNext)
      throw new HttpRefusalError(429, 'SWY_HTTP_RATE_LIMITED', `API key ${id} has made ${requests} requests within ${perSeconds} seconds, as many as it may; wait ${waitS} seconds, or enqueue many jobs by one request`, {
        'retry-after': String(waitS), 'ratelimit-policy': policy, ratelimit: `"key";r=0;t=${waitS}`,
      })
    }
  }

  async #open(): Promise<{ shared: RateLimiterRedis; own: RateLimiterMemory }> {
    const { use, keys } = accessOf(this.queue)
    // Loaded by servers alone.
    const { RateLimiterMemory, RateLimiterRedis } = await import('rate-limiter-flexible')
    return await use(async ({ redis }) => {
      const { requests, perSeconds } = this.limit
      // Whoever is over the limit costs Redis nothing until its time is over.
      const shared = new RateLimiterRedis({ storeClient: redis, keyPrefix: keys.httpRates(), points: requests, duration: perSeconds, inMemoryBlockOnConsumed: requests + 1 })
      return { shared, own: new RateLimiterMemory({ points: requests, duration: perSeconds }) }
    })
  }
}

function seconds(ms: number): number {
  return Math.max(1, Math.ceil(ms / 1000))
}
