import type { Cluster, Redis } from 'ioredis'
import { createRedis, whenReady } from './connection.js'
import type { Keys } from './keys.js'
import type { RedisConfig } from './redis-config.js'
import { unavailable } from './redis-faults.js'

/**
 * The rights that a Redis user needs (ACL), as `+NAME` takes them, each with how many arguments it has at least. Most are run by scripts, ours and
 * BullMQ's; a test holds the list against both, and against what a whole deployment ran. Producers, consumers, boards and subscribers run the same
 * scripts, so one list serves them all.
 */
const rights = {
  'client|id': 0, 'client|setname': 1, auth: 1, hello: 0, ping: 0, info: 0, select: 1,
  eval: 2, evalsha: 2, multi: 0, exec: 0, discard: 0,
  publish: 2, subscribe: 1, unsubscribe: 0,
  blpop: 2, bzpopmin: 2,
  del: 1, exists: 1, get: 1, incr: 1, incrby: 2, persist: 1, pexpire: 2, pexpireat: 2, pttl: 1, rename: 2, scan: 1, set: 2, time: 0, type: 1, unlink: 1,
  hdel: 2, hexists: 2, hget: 2, hgetall: 1, hincrby: 3, hkeys: 1, hlen: 1, hmget: 2, hmset: 3, hscan: 2, hset: 3, hsetnx: 3, hstrlen: 2,
  lindex: 2, llen: 1, lpop: 1, lpos: 2, lpush: 2, lrange: 3, lrem: 3, lset: 3, ltrim: 3, rpop: 1, rpoplpush: 2, rpush: 2,
  sadd: 2, scard: 1, sismember: 2, smembers: 1, spop: 1, srandmember: 1, srem: 2,
  xack: 3, xadd: 4, xautoclaim: 5, xdel: 2, 'xgroup|create': 3, 'xgroup|delconsumer': 3, 'xgroup|destroy': 2, 'xgroup|setid': 3, 'xinfo|consumers': 2, 'xinfo|groups': 1, xlen: 1, xpending: 2, xrange: 3, xread: 3, xreadgroup: 6, xrevrange: 3, xtrim: 3,
  zadd: 3, zcard: 1, zcount: 3, zlexcount: 3, zmscore: 2, zpopmax: 1, zpopmin: 1, zrange: 3, zrangebylex: 3, zrangebyscore: 3, zrem: 2, zremrangebyrank: 3, zremrangebyscore: 3, zrevrange: 3, zrevrangebyscore: 3, zscore: 2,
} as const satisfies Record<string, number>

export const redisRights: readonly string[] = Object.keys(rights)
/** What each node of a Cluster has to allow besides. */
export const clusterRights: readonly string[] = ['cluster|slots', 'cluster|info', 'readonly', 'asking']
/** What the board has to allow besides, to show a queue's workers. */
export const boardRights: readonly string[] = ['client|list']

/** The rule for a user of a deployment, for `ACL SETUSER NAME on >PASSWORD RULE`. @param prefix `queue.prefix`. */
export function aclRule(prefix: string, more: readonly string[] = []): string {
  return [`~${prefix}:*`, 'resetchannels', `&${prefix}:*`, '-@all', ...[...redisRights, ...more].map((right) => `+${right}`)].join(' ')
}

/** Not worth a refusal: names of connections, and what is done with a connection before it can be asked anything. */
const unasked = ['auth', 'hello', 'client|id', 'client|setname', 'select', 'multi', 'exec', 'discard', 'subscribe', 'unsubscribe', 'scan']

/**
 * Asks Redis for every right, on a connection of its own; see `assertRightsOn`.
 * @throws RedisUnavailableError that names all that are missing.
 */
export async function assertRights(config: RedisConfig, keys: Keys): Promise<void> {
  const redis = createRedis(config, 'producer')
  try {
    // A consumer begins rarely, and on machines that begin much at once.
    await whenReady(redis, config, 10_000)
    await assertRightsOn(redis, config, keys)
  } finally {
    redis.disconnect()
  }
}

/**
 * Asks Redis for every right in one round trip, and runs nothing: commands are checked when they are queued in a transaction, which is then discarded. A
 * script that is refused in its middle leaves what it wrote until then, so this comes first. Each primary of a Cluster has its own users.
 * @param redis a producer's, which nobody else uses meanwhile: what is sent again after a reconnect would not be in a transaction any more.
 * @throws RedisUnavailableError that names all that are missing.
 */
export async function assertRightsOn(redis: Redis, config: RedisConfig, keys: Keys): Promise<void> {
  const nodes: Redis[] = redis.isCluster ? (redis as unknown as Cluster).nodes('master') : [redis]
  const refused = (await Promise.all(nodes.map((node) => refusedOn(node, `${keys.prefix}::rights`)))).flat()
  const ofKeys = refused.find(({ error }) => /one of the keys/.test(error.message))
  if (ofKeys !== undefined) throw unavailable(config, ofKeys.error)
  if (refused.length > 0) throw unavailable(config, new MissingRights([...new Set(refused.map(({ right }) => right))]))
}

/** Several at once, as Redis itself never tells. */
class MissingRights extends Error {
  override readonly name = 'MissingRights'
  constructor(readonly rights: readonly string[]) {
    super(`NOPERM this user has no permissions to run ${rights.map((right) => `'${right}'`).join(', ')}`)
  }
}

interface Refused {
  readonly right: string
  readonly error: Error
}

async function refusedOn(node: Redis, key: string): Promise<Refused[]> {
  const began = await refusal('multi', () => node.call('multi'))
  if (began.length > 0) return began
  const asked = Object.entries(rights).filter(([right]) => !unasked.includes(right))
  const refused = await Promise.all(
    asked.map(async ([right, count]) => {
      const [command = '', ...sub] = right.split('|')
      // The number of keys of a script is none.
      const args: string[] = command.startsWith('eval') ? [key, '0'] : Array.from({ length: count }, () => key)
      return await refusal(right, () => node.call(command, ...sub, ...args))
    }),
  )
  await refusal('discard', () => node.call('discard'))
  return refused.flat()
}

/** Other errors are of a command that makes no sense, or of another node's slot: it may be run. */
async function refusal(right: string, command: () => Promise<unknown>): Promise<Refused[]> {
  try {
    await command()
    return []
  } catch (error) {
    return error instanceof Error && error.message.startsWith('NOPERM') ? [{ right, error }] : []
  }
}
