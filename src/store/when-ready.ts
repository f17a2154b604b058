import type { Redis } from 'ioredis'
import type { RedisUnavailableError } from '../job/errors.js'
import { afterRunning } from './patience.js'
import type { RedisConfig } from './redis-config.js'
import { isLasting, unavailable } from './redis-faults.js'
import { assertTopology } from './topology.js'

/** How long a producer waits for Redis before it says that it is away, in milliseconds: time in which this process runs. */
export const producerPatienceMs = 800
/** The same where others have to be asked first: sentinels for the primary, nodes of a Cluster for its slots. */
const askingPatienceMs = 1_600

function patienceFor(config: RedisConfig): number {
  return 'connection' in config || config.sentinel !== undefined || config.cluster !== undefined ? askingPatienceMs : producerPatienceMs
}

const checked = new WeakSet<Redis>()

/**
 * Waits until a connection can take commands, at most `patienceMs` of the time in which this process runs; and asks, once, whether it leads to
 * the kind of server that the settings say.
 * @throws RedisUnavailableError that names the host and the port, and what the last attempt met.
 */
export async function whenReady(redis: Redis, config: RedisConfig, patienceMs: number = patienceFor(config)): Promise<void> {
  if (redis.status !== 'ready') await untilReady(redis, config, patienceMs)
  if (checked.has(redis)) return
  await assertTopology(redis, config)
  checked.add(redis)
}

async function untilReady(redis: Redis, config: RedisConfig, patienceMs: number): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    let lastError: unknown
    const settle = (error?: RedisUnavailableError) => {
      patience.stop()
      redis.off('ready', onReady).off('end', onEnd).off('error', onError).off('node error', onNodeError).off('sentinelError', onNodeError)
      if (error === undefined) resolve()
      else reject(error)
    }
    const onReady = () => settle()
    const onEnd = () => settle(unavailable(config, lastError ?? new Error('the connection is closed')))
    const onError = (error: unknown) => {
      lastError = error
      // A refusal such as WRONGPASS does not change by waiting, and neither does a certificate or a name that does not exist.
      if (isLasting(error)) settle(unavailable(config, error))
    }
    // Another node may be luckier.
    const onNodeError = (error: unknown) => (lastError = error)
    const patience = afterRunning(patienceMs, () => settle(unavailable(config, lastError)))
    redis.on('ready', onReady).on('end', onEnd).on('error', onError).on('node error', onNodeError).on('sentinelError', onNodeError)
    if (redis.status === 'wait') redis.connect().catch(onError)
    if (redis.status === 'end') onEnd()
  })
}
