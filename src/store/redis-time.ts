import type { Redis } from 'ioredis'
import type { Keys } from './keys.js'

/**
 * Milliseconds since 1970 by Redis' clock. A Cluster asks any node for what names no key, and nodes' clocks differ: with one of the deployment's
 * keys beside it, the node that runs the scripts is asked.
 */
export async function redisNowMs(redis: Redis, keys: Keys): Promise<number> {
  const time = redis.isCluster ? await beside(redis, keys) : await redis.time()
  const [seconds, micros] = time as [unknown, unknown]
  return Number(seconds) * 1000 + Math.floor(Number(micros) / 1000)
}

async function beside(redis: Redis, keys: Keys): Promise<unknown> {
  const [, answer] = (await redis.pipeline().exists(keys.ledger()).time().exec()) ?? []
  if (answer === undefined) throw new Error('Redis did not tell the time')
  const [error, time] = answer
  if (error !== null) throw error
  return time
}
