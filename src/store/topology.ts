import type { Redis } from 'ioredis'
import type { RedisConfig } from './redis-config.js'
import { unavailable } from './redis-faults.js'

/**
 * Whether a connection leads to the kind of server that it was made for. A node of a Cluster takes whatever lies in its own slots, for as long as
 * they are its own, and a sentinel takes a connection as Redis does: both are said before anything is written.
 * @throws RedisUnavailableError.
 */
export async function assertTopology(redis: Redis, config: RedisConfig): Promise<void> {
  // A Cluster's client that is ready has asked a node for its slots.
  if (redis.isCluster) return
  const info = await redis.info().catch(() => '')
  const says = (line: string) => new RegExp(`^${line}\\r?$`, 'm').test(info)
  if (says('redis_mode:sentinel')) throw unavailable(config, new Error('this is a sentinel'))
  if (!says('cluster_enabled:1')) return
  const known = await redis.cluster('INFO').catch(() => '')
  // One that is alone has no other to send anybody to.
  if (!/^cluster_known_nodes:1\r?$/m.test(known)) throw unavailable(config, new Error('MOVED 0 elsewhere'))
}
