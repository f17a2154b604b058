import { setTimeout as delay } from 'node:timers/promises'
import type { Redis } from 'ioredis'
import { afterRunning } from './patience.js'
import type { RedisConfig } from './redis-config.js'
import { unavailable } from './redis-faults.js'
import { whenReady } from './when-ready.js'

const lookAgainMs = 250

/**
 * Refuses a replica, which takes nothing of what a consumer writes; one that has just been told to become the primary, or whose address leads to another server soon, has
 * so much time for it.
 * @throws RedisUnavailableError.
 */
export async function assertPrimary(redis: Redis, config: RedisConfig, patienceMs: number): Promise<void> {
  const late = new AbortController()
  const patience = afterRunning(patienceMs, () => late.abort())
  try {
    while (await isReplica(redis)) {
      if (late.signal.aborted) throw unavailable(config, new Error('READONLY You can\'t write against a read only replica.'))
      await delay(lookAgainMs)
      redis.disconnect(true)
      await whenReady(redis, config, patienceMs)
    }
  } finally {
    patience.stop()
  }
}

/** A Cluster's client asks a primary. One that does not tell, or takes writes as a replica, is taken as it is. */
async function isReplica(redis: Redis): Promise<boolean> {
  if (redis.isCluster) return false
  const info = await redis.info()
  return /^role:slave\r?$/m.test(info) && /^slave_read_only:1\r?$/m.test(info)
}
