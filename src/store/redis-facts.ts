import type { Redis } from 'ioredis'
import { InvalidInputError } from '../job/errors.js'

/** What a Redis says of itself. */
export interface RedisFacts {
  readonly version: string
  /** Undefined where the server does not tell. */
  readonly maxmemoryPolicy: string | undefined
  /** How many keys it has dropped since it was started, for want of memory. */
  readonly evictedKeys: number
}

export async function redisFacts(redis: Redis): Promise<RedisFacts> {
  const info = await redis.info()
  const field = (name: string) => new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1]
  // Valkey answers redis_version 7.2.4 and its own version beside it; both are new enough.
  return { version: field('redis_version') ?? '', maxmemoryPolicy: field('maxmemory_policy'), evictedKeys: Number(field('evicted_keys') ?? 0) }
}

/**
 * Why a Redis would lose jobs: older than 6.2 (XAUTOCLAIM), or one that evicts keys when its memory is full.
 * @returns a sentence for each, which names the setting and the mend.
 */
export function redisProblems({ version, maxmemoryPolicy }: Pick<RedisFacts, 'version' | 'maxmemoryPolicy'>): { readonly version?: string; readonly maxmemoryPolicy?: string } {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  const old = major < 6 || (major === 6 && minor < 2)
  return {
    ...(old ? { version: `redis: version ${version === '' ? 'unknown' : version} is too old; run Redis 6.2 or later, or Valkey` } : {}),
    ...(maxmemoryPolicy === undefined || maxmemoryPolicy === 'noeviction'
      ? {}
      : { maxmemoryPolicy: `redis: maxmemory-policy is "${maxmemoryPolicy}", which drops jobs when memory is full; set it to "noeviction"` }),
  }
}

/**
 * Refuses a Redis that would lose jobs; see `redisProblems`.
 * @throws InvalidInputError with the first of the problems.
 */
export async function assertRedisSuitable(redis: Redis): Promise<void> {
  const problems = redisProblems(await redisFacts(redis))
  const problem = problems.version ?? problems.maxmemoryPolicy
  if (problem !== undefined) throw new InvalidInputError(problem)
}
