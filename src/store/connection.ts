import { Redis } from 'ioredis'
import { z } from 'zod'
import { InvalidInputError, RedisUnavailableError, errorMessage } from '../job/errors.js'
import { prepareScripts } from './scripts.js'

/** Where Redis is. */
export const redisConfigSchema = z.strictObject({
  /** `redis://`, `rediss://` (TLS) or the path of a UNIX socket. May hold a user and a password; they are never shown. */
  url: z.string().min(1, 'is empty; give a URL such as redis://127.0.0.1:6379'),
})
export type RedisConfig = z.output<typeof redisConfigSchema>

/**
 * What a connection is for:
 * - `commands`: a consumer's; waits and repeats while Redis is away, so every script bears being run twice.
 * - `blocking`: for commands that block (BLPOP, XREAD); as `commands`, and used for nothing else.
 * - `subscriber`: pub/sub; subscribes again after a reconnect.
 * - `producer`: fails within a second while Redis is away, within three when it is there and silent, and repeats nothing.
 */
export type ConnectionPurpose = 'commands' | 'blocking' | 'producer' | 'subscriber'

/** How long a producer waits for Redis before it says that it is away. */
export const producerPatienceMs = 800

const reconnectDelayMs = (times: number) => Math.min(50 * 2 ** Math.min(times, 5), 1_000)

// RESP2 everywhere: streams come as arrays in either version of the protocol only then.
// ioredis waits `disconnectTimeout` for a socket that is closed already, which keeps a process that is done from ending.
// A peer that is gone without a word (a machine that died, a failover by address) is found out by keep-alive probes where nothing is
// sent, and by an answer that does not come where something was; the system alone would wait a quarter of an hour.
const shared = { protocol: 2, retryStrategy: reconnectDelayMs, connectTimeout: 5_000, disconnectTimeout: 100, keepAlive: 10_000 } as const

/** How long an answer may take before the connection counts as dead, in milliseconds; above every blocking command's own wait. */
const answerPatienceMs = 10_000
// After a failover the old primary may still be there, as a replica: 2 is "connect again, and send the command again".
const waiting = {
  ...shared,
  maxRetriesPerRequest: null,
  socketTimeout: answerPatienceMs,
  reconnectOnError: (error: Error) => (error.message.includes('READONLY') ? 2 : false),
} as const

const optionsOf = {
  commands: waiting,
  blocking: waiting,
  subscriber: { ...shared, maxRetriesPerRequest: null },
  producer: {
    ...shared,
    connectTimeout: producerPatienceMs,
    socketTimeout: 3_000,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
  },
} as const satisfies Record<ConnectionPurpose, object>

/** Streams that hold what is written until the turn of the event loop is over. */
const holding = new WeakSet<object>()

/**
 * What a turn of the event loop asks for goes out in one write, in its order: a consumer with hundreds of jobs sends many commands in a turn, and a call of
 * the system for each costs both sides more than the commands themselves.
 */
class OneWritePerTurn extends Redis {
  override sendCommand(...command: Parameters<Redis['sendCommand']>): unknown {
    // There is none before the first connection, whatever the types say.
    const stream = this.stream as Redis['stream'] | undefined
    if (stream !== undefined && !holding.has(stream)) {
      holding.add(stream)
      stream.cork()
      setImmediate(() => {
        holding.delete(stream)
        stream.uncork()
      })
    }
    return super.sendCommand(...command)
  }
}

/**
 * Opens a connection to Redis; it reconnects by itself until `disconnect()` or `quit()`. Errors of the connection are
 * held back from `unhandled 'error' event`: commands report them (`producer`), or wait (all others).
 * @throws InvalidInputError when the URL is not one.
 */
export function createRedis(config: RedisConfig, purpose: ConnectionPurpose): Redis {
  checkUrl(config.url)
  const redis = new (purpose === 'commands' ? OneWritePerTurn : Redis)(config.url, { ...optionsOf[purpose] })
  redis.on('error', () => undefined)
  // Every call that waits for the connection listens, and there may be any number of them.
  redis.setMaxListeners(0)
  prepareScripts(redis)
  return redis
}

/** Where Redis is, without user, password and query: for messages. */
export function describeRedis(config: RedisConfig): string {
  if (config.url.startsWith('/')) return config.url
  try {
    const url = new URL(config.url)
    return url.hostname === '' ? url.pathname : `${url.hostname}:${url.port === '' ? '6379' : url.port}`
  } catch {
    return 'the configured address'
  }
}

/**
 * Waits until a connection can take commands, at most `patienceMs`.
 * @throws RedisUnavailableError that names the host and the port, and what the last attempt met.
 */
export async function whenReady(redis: Redis, config: RedisConfig, patienceMs: number = producerPatienceMs): Promise<void> {
  if (redis.status === 'ready') return
  await new Promise<void>((resolve, reject) => {
    let lastError: unknown
    const settle = (error?: RedisUnavailableError) => {
      clearTimeout(timer)
      redis.off('ready', onReady).off('end', onEnd).off('error', onError)
      if (error === undefined) resolve()
      else reject(error)
    }
    const onReady = () => settle()
    const onEnd = () => settle(unavailable(config, new Error('the connection is closed')))
    const onError = (error: unknown) => {
      lastError = error
      // An answer such as NOAUTH or WRONGPASS does not change by waiting, and neither does a name that does not exist.
      if (error instanceof Error && /NOAUTH|WRONGPASS|ENOTFOUND/.test(error.message)) settle(unavailable(config, error))
    }
    const timer = setTimeout(() => settle(unavailable(config, lastError)), patienceMs)
    redis.on('ready', onReady).on('end', onEnd).on('error', onError)
    if (redis.status === 'wait') redis.connect().catch(onError)
    if (redis.status === 'end') onEnd()
  })
}

/** An error for a Redis that can't be reached or refuses to write; its message holds no credentials. */
export function unavailable(config: RedisConfig, cause: unknown): RedisUnavailableError {
  const why = cause === undefined ? 'no answer' : describeCause(cause)
  return new RedisUnavailableError(`redis: ${describeRedis(config)} can't be used (${why}); start Redis there, or mend redis.url`, { cause })
}

/** Tells an error of the connection, or of a Redis that refuses all writes, from one of a single command. */
export function isUnavailability(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  if (error.name === 'MaxRetriesPerRequestError' || error.name === 'AbortError') return true
  return /Stream isn't writeable|Connection is closed|Connection is in closing|Command timed out|ECONN|EPIPE|ETIMEDOUT|(^|: -)(OOM|MISCONF|READONLY|LOADING|NOREPLICAS|MASTERDOWN|CLUSTERDOWN) /.test(
    error.message,
  )
}

/** What a Redis says of itself. */
export interface RedisFacts {
  readonly version: string
  /** Undefined where the server does not tell. */
  readonly maxmemoryPolicy: string | undefined
}

export async function redisFacts(redis: Redis): Promise<RedisFacts> {
  const info = await redis.info()
  const field = (name: string) => new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1]
  // Valkey answers redis_version 7.2.4 and its own version beside it; both are new enough.
  return { version: field('redis_version') ?? '', maxmemoryPolicy: field('maxmemory_policy') }
}

/**
 * Why a Redis would lose jobs: older than 6.2 (XAUTOCLAIM), or one that evicts keys when its memory is full.
 * @returns a sentence for each, which names the setting and the mend.
 */
export function redisProblems({ version, maxmemoryPolicy }: RedisFacts): { readonly version?: string; readonly maxmemoryPolicy?: string } {
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

function checkUrl(url: string): void {
  if (url.startsWith('/')) return
  const protocol = URL.canParse(url) ? new URL(url).protocol : undefined
  if (protocol !== 'redis:' && protocol !== 'rediss:') {
    throw new InvalidInputError('redis.url: must be redis://HOST:PORT, rediss://HOST:PORT or the path of a UNIX socket')
  }
}

function describeCause(cause: unknown): string {
  // An AggregateError of Node's dialling has an empty message and the code beside it.
  if (cause instanceof Error && cause.message === '' && 'code' in cause) return String(cause.code)
  return errorMessage(cause).split('\n')[0] ?? ''
}
