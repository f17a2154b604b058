import { Cluster, type ClusterOptions, Redis, type RedisOptions } from 'ioredis'
import { InvalidInputError } from '../job/errors.js'
import { afterRunning, type Patience } from './patience.js'
import { addressOf, checkRedisSettings, type ConnectionPurpose, defaultRedisUrl, passwordOf, type RedisConfig, type RedisSettings, tlsOptionsOf, type Address } from './redis-config.js'
import { prepareScripts } from './scripts.js'
import { TlsConnector, TlsSentinelConnector } from './tls-connector.js'

export { describeRedis, redisSecrets, type ConnectionPurpose, type GivenRedis, type RedisConfig, type RedisSettings } from './redis-config.js'
export { isUnavailability, refusesWrites, unavailable } from './redis-faults.js'
export { producerPatienceMs, whenReady } from './when-ready.js'

/**
 * Connections to Redis. What a connection is for decides how it waits and repeats, whatever server it goes to:
 * - `commands`: a consumer's; waits and repeats while Redis is away, so every script bears being run twice.
 * - `blocking`: for commands that block (BLPOP, XREAD); as `commands`, and used for nothing else.
 * - `subscriber`: pub/sub; subscribes again after a reconnect.
 * - `producer`: fails within a second while Redis is away, within three when it is there and silent, and repeats nothing but what a Cluster's
 *   nodes send elsewhere.
 */

// Answers come as ioredis has always given them.
type Options = Omit<RedisOptions, 'replyMapping'>

const reconnectDelayMs = (times: number) => Math.min(50 * 2 ** Math.min(times, 5), 1_000)

// RESP2 everywhere: streams come as arrays in either version of the protocol only then.
// ioredis waits `disconnectTimeout` for a socket that is closed already, which keeps a process that is done from ending.
// A peer that is gone without a word (a machine that died, a failover by address) is found out by keep-alive probes where nothing is
// sent, and by an answer that does not come where something was; the system alone would wait a quarter of an hour.
// Server and client libraries know each other by CLIENT SETINFO from Redis 7.2 on only, and no right for it can be given before.
const shared = { protocol: 2, retryStrategy: reconnectDelayMs, connectTimeout: 5_000, disconnectTimeout: 100, keepAlive: 10_000, disableClientInfo: true } as const

/** How long an answer may take before the connection counts as dead, in milliseconds; above every blocking command's own wait. */
const answerPatienceMs = 10_000
// After a failover the old primary may still be there, as a replica: 2 is "connect again, and send the command again".
const waiting = {
  ...shared,
  maxRetriesPerRequest: null,
  socketTimeout: answerPatienceMs,
  reconnectOnError: (error: Error) => (/READONLY|UNBLOCKED/.test(error.message) ? 2 : false),
} as const

const optionsOf = {
  commands: waiting,
  blocking: waiting,
  subscriber: { ...shared, maxRetriesPerRequest: null },
  producer: {
    ...shared,
    // Another try may be luckier, and `whenReady` waits no longer anyway.
    connectTimeout: 2_000,
    socketTimeout: 3_000,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
  },
} as const satisfies Record<ConnectionPurpose, Options>

/** Streams that hold what is written until the turn of the event loop is over. */
const holding = new WeakSet<object>()
/** Streams that are being ended so that another connection is made. */
const ending = new WeakSet<object>()

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

  /** Once a stream: every command in flight that a replica refuses asks for it, and each time ioredis listens to the stream once more. */
  override disconnect(reconnect = false): void {
    const stream = this.stream as Redis['stream'] | undefined
    if (reconnect && stream !== undefined) {
      if (ending.has(stream)) return
      ending.add(stream)
    }
    super.disconnect(reconnect)
  }
}

/** A producer's: an answer is waited for as long as this process runs, and not while it can't read it. */
class Patient extends OneWritePerTurn {
  /** How long, in milliseconds. */
  patienceMs = 3_000
  #unanswered = 0
  #patience: Patience | undefined

  override sendCommand(...command: Parameters<Redis['sendCommand']>): unknown {
    const answer = super.sendCommand(...command)
    if (!(answer instanceof Promise)) return answer
    this.#unanswered++
    this.#patience ??= afterRunning(this.patienceMs, () => {
      this.#patience = undefined
      const stream = this.stream as Redis['stream'] | undefined
      stream?.destroy(new Error(`Socket timeout: no answer within ${this.patienceMs} ms`))
    })
    const settle = () => {
      this.#patience?.again()
      if (--this.#unanswered > 0) return
      this.#patience?.stop()
      this.#patience = undefined
    }
    answer.then(settle, settle)
    return answer
  }
}

/**
 * Opens a connection to Redis; it reconnects by itself until `disconnect()` or `quit()`. Errors of the connection are
 * held back from `unhandled 'error' event`: commands report them (`producer`), or wait (all others).
 *
 * To a Cluster it is a `Cluster`, which has every method and event of a Redis that is used here; BullMQ asks for itself which of the two it has.
 * @throws InvalidInputError when the settings are wrong, or name a file that can't be read.
 */
export function createRedis(config: RedisConfig, purpose: ConnectionPurpose): Redis {
  const made = 'connection' in config ? fromGiven(config.connection, purpose) : open(checkRedisSettings(config), purpose)
  const redis = made as Redis
  if (isCluster(made)) sayDown(made)
  // The client goes on in database 0 where it was refused the one that it is to use, and that is another deployment's: it is not to be ready then.
  redis.on('error', (error: unknown) => {
    if (isOfSelect(error)) redis.disconnect(true)
  })
  // Every call that waits for the connection listens, and there may be any number of them. Not 0, which BullMQ adds its own few to.
  redis.setMaxListeners(1_000_000)
  prepareScripts(redis)
  if (purpose === 'subscriber') leaveToItself(redis)
  return redis
}

/** Whether Redis refused `SELECT`. */
function isOfSelect(error: unknown): boolean {
  return error instanceof Error && 'command' in error && typeof error.command === 'object' && error.command !== null && 'name' in error.command && error.command.name === 'select'
}

/** ioredis subscribes again by itself after a reconnect, and leaves it to nobody to hear that the connection was closed meanwhile, which would end the process. */
function leaveToItself(redis: Redis): void {
  const send = redis.sendCommand.bind(redis)
  redis.sendCommand = (...command: Parameters<Redis['sendCommand']>) => {
    const answer = send(...command)
    if (answer instanceof Promise) answer.catch(() => undefined)
    return answer
  }
}

function open(settings: RedisSettings, purpose: ConnectionPurpose): Redis | Cluster {
  const { sentinel, cluster, url = defaultRedisUrl } = settings
  const options: Options = { ...optionsOf[purpose], ...givenOptions(settings) }
  if (cluster !== undefined) {
    const nodes = cluster.nodes.map(addressOf)
    if (purpose === 'subscriber') return subscriberOf(() => nodes, options)
    return new Cluster(nodes, {
      ...clusterOptionsOf(purpose, options),
      ...(cluster.natMap === undefined ? {} : { natMap: mapOf(cluster.natMap) }),
      ...(cluster.dnsLookup === 'as-is' ? { dnsLookup: (name: string, found: (error: null, address: string) => void) => found(null, name) } : {}),
    })
  }
  if (sentinel !== undefined) {
    return make(purpose, {
      ...options,
      sentinels: sentinel.nodes.map(addressOf),
      name: sentinel.name,
      sentinelRetryStrategy: reconnectDelayMs,
      sentinelCommandTimeout: 2_000,
      ...(sentinel.username === undefined ? {} : { sentinelUsername: sentinel.username }),
      ...withoutUndefined({ sentinelPassword: passwordOf(sentinel, 'redis.sentinel') }),
      ...(sentinel.tls === undefined ? {} : { sentinelTLS: tlsOptionsOf(sentinel.tls, 'redis.sentinel.tls') }),
      ...(settings.tls === undefined ? {} : { enableTLSForSentinelMode: true }),
      ...(sentinel.natMap === undefined ? {} : { natMap: mapOf(sentinel.natMap) }),
    })
  }
  return make(purpose, options, withoutCredentials(url, options))
}

function make(purpose: ConnectionPurpose, options: Options, url?: string): Redis {
  const Kind = purpose === 'commands' ? OneWritePerTurn : purpose === 'producer' ? Patient : Redis
  const { socketTimeout, ...rest } = options
  const own = purpose === 'producer' ? rest : options
  const redis = url === undefined ? new Kind(own) : new Kind(url, own)
  if (redis instanceof Patient && socketTimeout !== undefined) redis.patienceMs = socketTimeout
  return redis
}

/** What the settings say for every kind of server. */
function givenOptions(settings: RedisSettings): Options {
  return withoutUndefined({
    username: settings.username,
    password: passwordOf(settings, 'redis'),
    db: settings.db,
    tls: settings.tls === undefined ? undefined : tlsOptionsOf(settings.tls, 'redis.tls'),
    Connector: settings.tls === undefined && settings.url?.startsWith('rediss:') !== true ? undefined : settings.sentinel === undefined ? TlsConnector : TlsSentinelConnector,
    connectTimeout: settings.connectTimeoutMs,
    socketTimeout: settings.answerTimeoutMs,
    keepAlive: settings.keepAliveMs,
    family: settings.family,
  })
}

/** What is given beside a URL wins over what stands in it, where ioredis has it the other way round. */
function withoutCredentials(url: string, { username, password, db }: Options): string {
  if (url.startsWith('/')) return url
  const address = new URL(url)
  if (username !== undefined) address.username = ''
  if (password !== undefined) address.password = ''
  if (db !== undefined && address.hostname !== '') address.pathname = ''
  return username === undefined && password === undefined && db === undefined ? url : address.href
}

/**
 * How a Cluster's client behaves. What a node does not serve any more is sent elsewhere, and that is counted, not timed: a consumer waits out
 * an election, as it waits out a restart; a producer gives up after about a second.
 */
function clusterOptionsOf(purpose: ConnectionPurpose, redisOptions: Options) {
  const producer = purpose === 'producer'
  return {
    redisOptions,
    clusterRetryStrategy: reconnectDelayMs,
    enableOfflineQueue: !producer,
    maxRedirections: producer ? 10 : 10_000,
    // Two nodes that each name the other, as in the middle of an election, are not to be asked in a busy loop.
    retryDelayOnMoved: 20,
    slotsRefreshTimeout: 2_000,
  } as const satisfies ClusterOptions
}

/**
 * A Cluster's client listens at one node and says nothing when it has to listen at another: what is said meanwhile would be lost without a word. So this
 * is a connection to any one node, to another at each reconnect: every node passes on what is published at any.
 */
function subscriberOf(nodes: () => readonly Address[], options: Options): Redis {
  let turn = Math.floor(Math.random() * nodes().length)
  const next = (): Partial<Address> => {
    const known = nodes()
    return known[turn++ % Math.max(known.length, 1)] ?? {}
  }
  const redis = new Redis({ ...options, ...next() })
  // ioredis dials what stands in its options then.
  redis.on('close', () => Object.assign(redis.options, next()))
  return redis
}

/** A Cluster that says of itself that it is down, such as for a slot that nobody has: ioredis tries again and tells nobody, so whoever waits for it hears it here. */
function sayDown(cluster: Cluster): void {
  // Its types keep to themselves what is asked before it counts as ready.
  const asked = cluster as unknown as { readyCheck?: (done: (error: unknown, state?: unknown) => void) => void }
  const check = asked.readyCheck?.bind(cluster)
  if (check === undefined) return
  asked.readyCheck = (done) => {
    check((error, state) => {
      if (state === 'fail') cluster.emit('node error', new Error('CLUSTERDOWN The cluster is down'), '')
      done(error, state)
    })
  }
}

/** What an application may have set for its own use of a connection, and what would be wrong for ours. */
const asByDefault = { enableOfflineQueue: true, enableReadyCheck: true, autoResubscribe: true, autoResendUnfulfilledCommands: true, enableAutoPipelining: false } as const

function fromGiven(given: Redis | Cluster | ((purpose: ConnectionPurpose) => Redis | Cluster), purpose: ConnectionPurpose): Redis | Cluster {
  if (typeof given === 'function') return checkGiven(given(purpose))
  const connection = checkGiven(given)
  const options = { ...asByDefault, ...optionsOf[purpose] }
  if (!isCluster(connection)) {
    const { tls, sentinels } = connection.options
    const own = connection.duplicate({ ...options, ...(tls === undefined ? {} : { Connector: sentinels?.length === undefined ? TlsConnector : TlsSentinelConnector }), lazyConnect: true })
    // A limit for each command would end those that block, and can't be taken back otherwise.
    delete own.options.commandTimeout
    void own.connect().catch(() => undefined)
    return own
  }
  const { replyMapping: _legacy, commandTimeout: _ofCommands, readOnly: _reads, lazyConnect: _lazy, ...redisOptions }: RedisOptions = connection.options.redisOptions ?? {}
  if (purpose === 'subscriber') return subscriberOf(() => nodesOf(connection), { ...redisOptions, ...options })
  return connection.duplicate([], { ...clusterOptionsOf(purpose, { ...redisOptions, ...options }), lazyConnect: false })
}

function isCluster(connection: Redis | Cluster): connection is Cluster {
  return connection.isCluster
}

function checkGiven(connection: unknown): Redis | Cluster {
  const is = typeof connection === 'object' && connection !== null && 'defineCommand' in connection && 'duplicate' in connection && 'options' in connection
  if (!is) throw new InvalidInputError('redis.connection: is no connection of ioredis; give a Redis or a Cluster, or a function that returns one')
  const made = connection as Redis | Cluster
  if ((made.options.keyPrefix ?? '') !== '') throw new InvalidInputError('redis.connection: has a keyPrefix, which BullMQ can’t do with; give one without, and set queue.prefix instead')
  return made
}

/** Where a Cluster's nodes are, as its client knows them now. */
function nodesOf(cluster: Cluster): Address[] {
  return cluster.nodes('all').flatMap(({ options: { host, port } }) => (host === undefined || port === undefined ? [] : [{ host, port }]))
}

function mapOf(map: Readonly<Record<string, string>>): Record<string, Address> {
  return Object.fromEntries(Object.entries(map).map(([from, to]) => [from, addressOf(to)]))
}

function withoutUndefined<Fields extends object>(fields: Fields): { [Name in keyof Fields]?: Exclude<Fields[Name], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as { [Name in keyof Fields]?: Exclude<Fields[Name], undefined> }
}
