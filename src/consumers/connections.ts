import type { Redis } from 'ioredis'
import { assertLayout, assertPrimary, assertRedisSuitable, assertRights, createRedis, type Keys, type RedisConfig, untilAborted, whenReady } from '../store/index.js'

/** A consumer's connections to Redis. */
export interface Connections {
  readonly redis: Redis
  readonly blocking: Redis
  readonly subscriber: Redis
  readonly disconnect: () => void
}

/** A consumer begins rarely, and on machines that begin much at once. */
const patienceMs = 10_000

/**
 * Connects, and finds out whether that is a Redis to work with, before anything is written there.
 * @param stopped breaks it off.
 * @throws RedisUnavailableError, InvalidInputError for a Redis that would lose jobs, NewerReleaseError or OlderReleaseError for one whose jobs are kept in another way, and the
 * signal's reason.
 */
export async function connect(config: RedisConfig, keys: Keys, stopped: AbortSignal): Promise<Connections> {
  const [redis, blocking, subscriber] = [createRedis(config, 'commands'), createRedis(config, 'blocking'), createRedis(config, 'subscriber')]
  const disconnect = () => {
    for (const connection of [redis, blocking, subscriber]) connection.disconnect()
  }
  const looked = (async () => {
    await whenReady(redis, config, patienceMs)
    await assertRedisSuitable(redis)
    await assertPrimary(redis, config, patienceMs)
    await assertRights(config, keys)
    await assertLayout(redis, keys)
  })()
  try {
    await untilAborted(looked, stopped)
    return { redis, blocking, subscriber, disconnect }
  } catch (error) {
    disconnect()
    throw error
  }
}
