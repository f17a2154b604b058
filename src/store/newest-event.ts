import type { Redis } from 'ioredis'
import type { Keys } from './keys.js'

/** Where the newest event stands in the stream; `0-0` when there is none. */
export async function newestEvent(redis: Redis, keys: Keys): Promise<string> {
  const [newest] = await redis.xrevrange(keys.events(), '+', '-', 'COUNT', 1)
  return newest?.[0] ?? '0-0'
}
