import { readFileSync } from 'node:fs'
import { createSecureContext } from 'node:tls'
import type { Cluster, Redis } from 'ioredis'
import { z } from 'zod'
import { errorMessage, InvalidInputError } from '../job/errors.js'
import { parseInput } from '../job/explain.js'

/**
 * How Redis is reached: one server by its URL, one that Sentinels know, or a Cluster; what holds for all three (TLS, user, password, times)
 * stands beside. Each use of a connection gets its own behaviour from its purpose (./connection.ts), whatever is given here.
 */

const text = (what: string) => z.string({ error: `must be ${what}` }).min(1, `is empty; give ${what}`)
const whole = (what: string) => z.int({ error: `must be a whole number of ${what}` })

const redisUrl = z.string({ error: 'must be a URL such as "redis://127.0.0.1:6379"' }).superRefine((url, context) => {
  const problem = urlProblem(url)
  if (problem !== undefined) context.addIssue({ code: 'custom', message: problem })
})

/** The URL itself may hold a password: it is not repeated. */
function urlProblem(url: string): string | undefined {
  if (url.startsWith('/')) return undefined
  if (!URL.canParse(url) || !['redis:', 'rediss:'].includes(new URL(url).protocol)) {
    return 'is not a Redis URL; write "redis://host:port", "rediss://host:port" (TLS) or the path of a UNIX socket'
  }
  const { hostname, pathname } = new URL(url)
  // The client takes all of a path for a database, and without a host it dials this machine.
  if (hostname === '') return 'names no host; write "redis://host:port", or of a UNIX socket the path alone, such as "/run/redis.sock"'
  if (!/^\/?\d{0,9}$/.test(pathname)) return 'has a path that is no number of a database; write "redis://host:port" or "redis://host:port/1"'
  // What a client that does not know such a word leaves out is a check that somebody relies on, or believes to be off.
  const ofTls = [...new URL(url).searchParams].find(([name, value]) => /^(rejectUnauthorized|tls|ssl|ca|cert|key|checkServerIdentity)/i.test(name) && !(name === 'rejectUnauthorized' && value === 'true'))
  return ofTls === undefined
    ? undefined
    : `"${ofTls[0]}" is not heeded in a URL, and certificates are always checked; leave it out and give redis.tls, such as { caFile: "/etc/redis/ca.pem" }`
}

const node = z
  .string({ error: 'must be a text such as "redis-1.internal:6379"' })
  .refine((address) => addressIn(address) !== null, 'must be HOST:PORT, such as "redis-1.internal:6379" or "[::1]:6379"')

const nodes = (what: string) => z.array(node, { error: `must be a list such as ["${what}-1.internal:6379", "${what}-2.internal:6379"]` }).min(1, 'is empty; name at least one')

const natMap = z
  .record(node, node, { error: 'must be an object such as { "10.0.0.1:6379": "redis.example.com:7001" }' })
  .optional()
  .describe('Where what the servers call HOST:PORT is from here, each as HOST:PORT.')

export const redisTlsSchema = z
  .strictObject(
    {
      caFile: text('the path of a file with certificates in PEM').optional().describe('The authorities that may sign Redis’ certificate, instead of the system’s.'),
      ca: text('certificates in PEM').optional().describe('As caFile, the text itself.'),
      certFile: text('the path of a file with a certificate in PEM').optional().describe('The client’s certificate, where Redis asks for one (tls-auth-clients).'),
      cert: text('a certificate in PEM').optional().describe('As certFile, the text itself.'),
      keyFile: text('the path of a file with a key in PEM').optional().describe('The key of the client’s certificate.'),
      key: text('a key in PEM').optional().describe('As keyFile, the text itself.'),
      keyPassphrase: text('the passphrase of the key').optional().describe('The passphrase of that key.'),
      serverName: text('a name that stands in Redis’ certificate').optional().describe('The name that is looked for in Redis’ certificate. Default: the host that is dialled.'),
      rejectUnauthorized: z.boolean({ error: 'must be true or false' }).optional().describe('Whether Redis’ certificate is checked. Default true; false is for trying things out.'),
    },
    { error: 'must be an object such as { caFile: "/etc/redis/ca.pem" }; { } is TLS with the system’s authorities' },
  )
  .superRefine((tls, context) => {
    const twice = (['ca', 'cert', 'key'] as const).find((name) => tls[name] !== undefined && tls[`${name}File`] !== undefined)
    if (twice !== undefined) context.addIssue({ code: 'custom', path: [twice], message: `is given as ${twice}File too; leave one of them out` })
    const [cert, key] = [tls.cert ?? tls.certFile, tls.key ?? tls.keyFile]
    if ((cert === undefined) !== (key === undefined)) {
      context.addIssue({ code: 'custom', path: [cert === undefined ? 'certFile' : 'keyFile'], message: 'is missing; a client’s certificate and its key belong together' })
    }
  })

const sentinelSchema = z.strictObject(
  {
    nodes: nodes('sentinel').describe('The sentinels, as HOST:PORT; one that answers is enough.'),
    name: text('the name under which the sentinels know the primary, such as "mymaster"').describe('The primary’s name, as in "sentinel monitor NAME".'),
    username: text('a user of the sentinels').optional().describe('The sentinels’ own user.'),
    password: text('the sentinels’ password').optional().describe('The sentinels’ own password; Redis’ is redis.password.'),
    passwordFile: text('the path of a file with the sentinels’ password').optional().describe('Where that password stands.'),
    tls: redisTlsSchema.optional().describe('TLS to the sentinels. To Redis: redis.tls.'),
    natMap,
  },
  { error: 'must be an object such as { nodes: ["sentinel-1:26379", "sentinel-2:26379"], name: "mymaster" }' },
)

const clusterSchema = z.strictObject(
  {
    nodes: nodes('redis').describe('Some of the Cluster’s nodes, as HOST:PORT, or its configuration endpoint; the others are learned from them.'),
    natMap,
    dnsLookup: z
      .enum(['system', 'as-is'], { error: 'must be "system" or "as-is"' })
      .optional()
      .describe('"as-is" dials names as they are, for endpoints whose certificate is for the name (ElastiCache, MemoryDB). Default "system".'),
  },
  { error: 'must be an object such as { nodes: ["redis-1:6379", "redis-2:6379"] }' },
)

const timeMs = (what: string) => whole('milliseconds').min(100, 'must be at least 100').max(600_000, 'must be at most 600000 (ten minutes)').optional().describe(what)

/** What `redis` of the configuration may hold, and what is given to an AgentQueue or a Consumer. */
export const redisConfigSchema = z
  .strictObject(
    {
      url: redisUrl.optional().describe('redis://, rediss:// (TLS) or the path of a UNIX socket. Default redis://127.0.0.1:6379, unless sentinel or cluster is given.'),
      sentinel: sentinelSchema.optional().describe('The primary that Sentinels name, instead of a URL.'),
      cluster: clusterSchema.optional().describe('A Redis Cluster, instead of a URL.'),
      username: text('the name of a Redis user').optional().describe('The Redis user (ACL); wins over the URL’s.'),
      password: text('a password').optional().describe('Wins over the URL’s. Better in SWITCHYARD_REDIS_PASSWORD or passwordFile than in a file that is checked in.'),
      passwordFile: text('the path of a file with the password').optional().describe('Read when a connection is opened.'),
      db: whole('a database').min(0, 'must be at least 0').optional().describe('The database; a Cluster has only 0.'),
      tls: redisTlsSchema.optional().describe('TLS: a private authority, a client’s certificate. {} is TLS with the system’s authorities, as rediss:// is.'),
      connectTimeoutMs: timeMs('How long connecting may take, the TLS handshake included. Default 5000.'),
      answerTimeoutMs: timeMs('After how long without an answer a connection counts as dead. Default 10000, 3000 for producers.'),
      keepAliveMs: timeMs('After how long without traffic the system asks whether the other side is there. Default 10000.'),
      family: z.union([z.literal(4), z.literal(6)], { error: 'must be 4 or 6' }).optional().describe('The version of IP. Default: whichever the name has.'),
    },
    { error: 'must be an object such as { url: "redis://127.0.0.1:6379" }, or with "sentinel" or "cluster"' },
  )
  .superRefine((redis, context) => {
    const ways = (['url', 'sentinel', 'cluster'] as const).filter((way) => redis[way] !== undefined)
    if (ways.length > 1) context.addIssue({ code: 'custom', path: [ways[1] ?? ''], message: `is given beside ${ways[0] ?? ''}; give one way to Redis, and mind SWITCHYARD_REDIS_URL and its like` })
    if (redis.cluster !== undefined && redis.db !== undefined && redis.db !== 0) context.addIssue({ code: 'custom', path: ['db'], message: 'must be 0 with a Cluster, which has no other database' })
    if (redis.password !== undefined && redis.passwordFile !== undefined) context.addIssue({ code: 'custom', path: ['passwordFile'], message: 'is given beside password; leave one of them out' })
    if (redis.url?.startsWith('/') === true && redis.tls !== undefined) context.addIssue({ code: 'custom', path: ['tls'], message: 'is nothing that a UNIX socket has; leave it out' })
  })

/** Redis by its settings. */
export type RedisSettings = z.output<typeof redisConfigSchema>

/** What a connection is for; see `createRedis`. */
export type ConnectionPurpose = 'commands' | 'blocking' | 'producer' | 'subscriber'

/**
 * Redis by a connection that is there, or a function that opens one.
 * - A connection (`Redis` or `Cluster` of ioredis) lends its settings only: each purpose gets a `duplicate()` with our own times and retries,
 *   which we close. The connection itself is never used, and stays yours to close.
 * - A function is called once for each connection that is needed, with its purpose. What it returns is used as it is, and closed by us. It must not
 *   be handed out twice, `blocking` and `subscriber` least of all.
 */
export interface GivenRedis {
  readonly connection: Redis | Cluster | ((purpose: ConnectionPurpose) => Redis | Cluster)
}

export type RedisConfig = RedisSettings | GivenRedis

export const defaultRedisUrl = 'redis://127.0.0.1:6379'

/** @throws InvalidInputError with a sentence for every mistake. */
export function checkRedisSettings(settings: RedisSettings): RedisSettings {
  try {
    return parseInput(redisConfigSchema, settings, 'redis')
  } catch (error) {
    if (!(error instanceof InvalidInputError)) throw error
    const placed = error.problems.map((problem) => (problem.startsWith('redis') ? problem : `redis.${problem}`))
    throw new InvalidInputError(placed[0] ?? error.message, placed)
  }
}

export interface Address {
  readonly host: string
  readonly port: number
}

/** Null for what is no HOST:PORT. */
function addressIn(address: string): Address | null {
  const { host, plain, port } = /^(?:\[(?<host>[\da-fA-F:.]+)\]|(?<plain>[\w.-]+)):(?<port>\d{1,5})$/.exec(address)?.groups ?? {}
  const name = host ?? plain
  return name === undefined || !(Number(port) >= 1 && Number(port) <= 65_535) ? null : { host: name, port: Number(port) }
}

/** Of an address that the schema has let through. */
export function addressOf(address: string): Address {
  const found = addressIn(address)
  if (found === null) throw new InvalidInputError(`redis: "${address}" is not HOST:PORT`)
  return found
}

/** Where Redis is, without user, password and query: for messages. */
export function describeRedis(config: RedisConfig): string {
  if ('connection' in config) return 'the connection that was given'
  const { sentinel, cluster, url = defaultRedisUrl } = config
  if (sentinel !== undefined) return `"${sentinel.name}" of the sentinels ${sentinel.nodes.join(', ')}`
  if (cluster !== undefined) return `the Cluster at ${cluster.nodes.join(', ')}`
  if (url.startsWith('/')) return url
  try {
    const { hostname, pathname, port } = new URL(url)
    return hostname === '' ? pathname : `${hostname}:${port === '' ? '6379' : port}`
  } catch {
    return 'the configured address'
  }
}

/** Every text in the settings that nobody may see. */
export function redisSecrets(settings: RedisSettings): string[] {
  const { url, sentinel } = settings
  const inUrl = url !== undefined && URL.canParse(url) ? decodeURIComponent(new URL(url).password) : undefined
  const all = [inUrl, passwordOf(settings, 'redis'), sentinel === undefined ? undefined : passwordOf(sentinel, 'redis.sentinel'), settings.tls?.key, settings.tls?.keyPassphrase]
  return all.filter((secret) => secret !== undefined && secret !== '') as string[]
}

/** @throws InvalidInputError when its file can't be read. */
export function passwordOf({ password, passwordFile }: Pick<RedisSettings, 'password' | 'passwordFile'>, place: string): string | undefined {
  // Editors end a file with a line break, which belongs to no password.
  return passwordFile === undefined ? password : read(passwordFile, `${place}.passwordFile`).replace(/(\r?\n)+$/, '')
}

/** With file paths relative to a folder. */
export function redisFilesIn(settings: RedisSettings, resolve: (path: string) => string): RedisSettings {
  const at = (path: string | undefined) => (path === undefined ? undefined : resolve(path))
  const tls = (given: RedisSettings['tls']) => (given === undefined ? undefined : { ...given, caFile: at(given.caFile), certFile: at(given.certFile), keyFile: at(given.keyFile) })
  const { sentinel } = settings
  return {
    ...settings,
    ...(settings.passwordFile === undefined ? {} : { passwordFile: at(settings.passwordFile) }),
    ...(settings.tls === undefined ? {} : { tls: tls(settings.tls) }),
    ...(sentinel === undefined ? {} : { sentinel: { ...sentinel, passwordFile: at(sentinel.passwordFile), tls: tls(sentinel.tls) } }),
  }
}

/** Whether the files that the settings name are there, and are what they should be. @throws InvalidInputError for the first that is not. */
export function checkRedisFiles(settings: RedisSettings): void {
  const { tls, sentinel } = settings
  passwordOf(settings, 'redis')
  if (tls !== undefined) tlsOptionsOf(tls, 'redis.tls')
  if (sentinel === undefined) return
  passwordOf(sentinel, 'redis.sentinel')
  if (sentinel.tls !== undefined) tlsOptionsOf(sentinel.tls, 'redis.sentinel.tls')
}

/** As Node's `tls.connect` takes it. */
export interface TlsOptions {
  readonly ca?: string
  readonly cert?: string
  readonly key?: string
  readonly passphrase?: string
  readonly servername?: string
  readonly rejectUnauthorized?: boolean
}

/**
 * What `tls` means. Files are read anew for each connection, so that certificates can be changed without a restart; one that can't be read then counts
 * as it was.
 * @throws InvalidInputError for a file that can't be read, for what is no PEM, and for a key that belongs to another certificate.
 */
export function tlsOptionsOf(tls: NonNullable<RedisSettings['tls']>, place: string): TlsOptions {
  const parts = (['ca', 'cert', 'key'] as const).flatMap((name) => {
    const file = tls[`${name}File`]
    let last = file === undefined ? tls[name] : read(file, `${place}.${name}File`)
    return last === undefined ? [] : [{ name, now: () => (last = file === undefined ? last : (readIfThere(file) ?? last)) }]
  })
  const fixed = {
    ...(tls.keyPassphrase === undefined ? {} : { passphrase: tls.keyPassphrase }),
    ...(tls.serverName === undefined ? {} : { servername: tls.serverName }),
    ...(tls.rejectUnauthorized === undefined ? {} : { rejectUnauthorized: tls.rejectUnauthorized }),
  }
  const options: TlsOptions = { ...fixed }
  for (const { name, now } of parts) Object.defineProperty(options, name, { get: now, enumerable: true })
  try {
    createSecureContext({ ...options })
  } catch (error) {
    throw new InvalidInputError(`${place}: the certificates and the key can't be used (${errorMessage(error)}); give PEM files, and the key of this very certificate`)
  }
  return options
}

function read(file: string, place: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    throw new InvalidInputError(`${place}: ${file} can't be read (${errorMessage(error)}); give the path of a file that this process may read`)
  }
}

function readIfThere(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return undefined
  }
}
