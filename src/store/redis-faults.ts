import { errorMessage, RedisUnavailableError } from '../job/errors.js'
import { commandIn } from './script-source.js'
import { describeRedis, type RedisConfig, type RedisSettings } from './redis-config.js'

/**
 * What Redis, its client and the way to it say when they can't be used, and what mends it. One table: whether an error is one of these at all
 * (`isUnavailability`), whether waiting can change it (`isLasting`), and the sentence that users read (`unavailable`).
 */
interface Fault {
  /** For the table's test, and for nobody else. */
  readonly name: string
  readonly pattern: RegExp
  /** Redis is there and answers what only reads. */
  readonly reads?: true
  /** It stays so until somebody changes something: a wait for the connection ends with it. */
  readonly lasting?: true
  /** What is said instead of the error's own words; the word by which Redis' documents call it stays. */
  readonly why?: (error: Error, settings: RedisSettings) => string
  readonly mend: string | ((error: Error, settings: RedisSettings) => string)
}

const unreachable = 'start Redis there, or mend redis.url'
/** For a connection that was given: how it was dialled is not known here. */
const given: RedisSettings = {}
const start = (_error: Error, settings: RedisSettings) => (settings === given ? 'start Redis, or give a connection that leads to it' : settings.cluster !== undefined ? 'start the Cluster, or mend redis.cluster.nodes' : settings.sentinel !== undefined ? 'start the sentinels and Redis, or mend redis.sentinel.nodes' : unreachable)

/** Which connection failed: that to the sentinels has its own TLS and its own password. */
const isOfSentinel = (error: Error) => /sentinel/.test(error.message)
const tlsPlace = (error: Error) => (isOfSentinel(error) ? 'redis.sentinel.tls' : 'redis.tls')
const mendOfPassword = (error: Error) =>
  isOfSentinel(error) ? 'correct redis.sentinel.username and redis.sentinel.password' : 'correct the user and the password, in redis.url or in redis.username and redis.password'

/** The start of an answer of Redis; within Lua, and in what the client makes of the last of many, it stands behind other words. */
const answer = (words: string) => new RegExp(`(^|: |-)(${words})\\b`)

const faults: readonly Fault[] = [
  { name: 'certificate expired', pattern: /CERT_HAS_EXPIRED|certificate has expired/, lasting: true, why: () => 'its TLS certificate has run out', mend: 'renew the certificate of Redis' },
  { name: 'certificate not yet valid', pattern: /CERT_NOT_YET_VALID|certificate is not yet valid/, lasting: true, why: () => 'its TLS certificate is not valid yet', mend: 'look at the clocks of this machine and of Redis’, or renew the certificate' },
  {
    name: 'certificate for another name',
    pattern: /ERR_TLS_CERT_ALTNAME_INVALID|does not match certificate's altnames/,
    lasting: true,
    why: (error) => `its TLS certificate is for other names: ${/altnames: (.*)/.exec(error.message)?.[1] ?? error.message}`,
    mend: (error) => `dial one of them, or name one in ${tlsPlace(error)}.serverName`,
  },
  {
    name: 'authority unknown',
    pattern: /SELF_SIGNED_CERT|UNABLE_TO_VERIFY_LEAF_SIGNATURE|UNABLE_TO_GET_ISSUER_CERT|self-signed certificate|unable to (verify the first certificate|get (local )?issuer certificate)/,
    lasting: true,
    why: () => 'its TLS certificate is signed by an authority that is not known here',
    mend: (error) => `name the authority’s certificate in ${tlsPlace(error)}.caFile`,
  },
  {
    name: 'client certificate refused',
    pattern: /(TLSV1|TLSV13|SSLV3)_ALERT_(CERTIFICATE|UNKNOWN_CA|BAD_CERTIFICATE|NO_CERTIFICATE|ACCESS_DENIED|DECRYPT_ERROR|UNSUPPORTED_CERTIFICATE)\w*|alert (certificate required|bad certificate|certificate expired|certificate revoked|unknown ca)/i,
    lasting: true,
    why: (error) => (/CERTIFICATE_REQUIRED|certificate required/i.test(told(error)) ? 'it asks for a client’s certificate' : 'it refuses the client’s certificate'),
    mend: (error) => `give a certificate that its authority signed and that has not run out, in ${tlsPlace(error)}.certFile and keyFile`,
  },
  { name: 'no TLS there', pattern: /wrong version number|WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|packet length too long/, lasting: true, why: () => 'it does not speak TLS', mend: 'write redis:// instead of rediss://, or leave out redis.tls' },
  { name: 'wrong password', pattern: answer('WRONGPASS|NOAUTH'), lasting: true, mend: mendOfPassword },
  { name: 'invalid password', pattern: /invalid (username-)?password|invalid username/i, lasting: true, mend: mendOfPassword },
  { name: 'right missing', pattern: /NOPERM|executing the script can't/, lasting: true, why: (error) => missingRight(error), mend: (error) => mendOfRight(error) },
  { name: 'no Cluster', pattern: /cluster support disabled|unknown command.*cluster/i, lasting: true, why: () => 'it is not a Redis Cluster', mend: 'set redis.url instead of redis.cluster' },
  { name: 'a sentinel', pattern: /is a sentinel/, lasting: true, why: () => 'it is a sentinel, and was dialled as Redis itself', mend: 'set redis.sentinel to { nodes: ["HOST:PORT", …], name: "mymaster" } instead of redis.url' },
  { name: 'no sentinel', pattern: /unknown command.*sentinel/i, lasting: true, why: () => 'it is no sentinel', mend: 'name the sentinels in redis.sentinel.nodes, or set redis.url instead' },
  { name: 'primary unknown to sentinels', pattern: /got an invalid reply: null|No such master with that name/, lasting: true, why: () => 'the sentinels know no primary of that name', mend: 'correct redis.sentinel.name, as in "sentinel monitor NAME"' },
  {
    name: 'command unknown',
    pattern: /unknown (redis )?command/i,
    lasting: true,
    why: (error) => `it does not know ${commandOf(error)}`,
    mend: 'take what is needed out of its rename-command, or use Redis 6.2 or later itself; docs/redis.md lists all commands',
  },
  { name: 'database unknown', pattern: /DB index is out of range|invalid DB index|SELECT is not allowed/i, lasting: true, why: () => 'it does not have the database that is asked for', mend: 'correct the number in redis.url or redis.db, or raise "databases" of Redis' },
  { name: 'sentinels away', pattern: /All sentinels are unreachable|failed to connect to sentinel/, mend: start },
  { name: 'name unknown', pattern: /ENOTFOUND/, lasting: true, mend: start },
  { name: 'Cluster of which slots are lost', pattern: /CLUSTERDOWN/, why: (error) => error.message.split('\n')[0] ?? '', mend: 'look at "CLUSTER INFO" and "CLUSTER SHARDS": a primary and all its replicas are away, or a slot was given to no node' },
  { name: 'Cluster away', pattern: /ClusterAllFailedError|Failed to refresh slots cache|None of startup nodes is available|Cluster isn't ready|Cluster is (ended|disconnected|disconnecting)|Too many Cluster redirections/, mend: start },
  { name: 'node of a Cluster', pattern: /(^|: |-)(MOVED|ASK) \d+ /, lasting: true, why: () => 'it is a node of a Redis Cluster, and was dialled as a single server', mend: 'set redis.cluster to { nodes: ["HOST:PORT", …] } instead of redis.url' },
  { name: 'slot on its way', pattern: answer('TRYAGAIN'), mend: 'wait until the slot has been moved' },
  { name: 'memory full', pattern: answer('OOM'), reads: true, why: () => 'OOM: its memory is full', mend: 'give Redis more memory (maxmemory), and leave its maxmemory-policy noeviction' },
  { name: 'not enough replicas', pattern: answer('NOREPLICAS'), reads: true, why: () => 'NOREPLICAS: it refuses writes, since too few of its replicas are there', mend: 'bring the replicas back, or lower min-replicas-to-write' },
  { name: 'writes refused', pattern: answer('MISCONF'), reads: true, why: () => 'MISCONF: it refuses writes, since it could not save its data', mend: 'look at Redis’ disk and log: it can’t write its data' },
  { name: 'replica', pattern: answer('READONLY'), reads: true, why: () => 'READONLY: it is a replica, which takes no writes', mend: 'dial the primary: by its address, by redis.sentinel or by redis.cluster' },
  { name: 'loading', pattern: answer('LOADING'), why: () => 'LOADING: it is still reading its data', mend: 'wait until Redis has read its data' },
  { name: 'primary away', pattern: answer('MASTERDOWN'), why: () => 'MASTERDOWN: it is a replica that has lost its primary', mend: 'dial the primary: by its address, by redis.sentinel or by redis.cluster' },
  { name: 'demoted', pattern: answer('UNBLOCKED'), why: () => 'UNBLOCKED: it has just become a replica', mend: 'try again: the server became a replica' },
  { name: 'transaction refused', pattern: answer('EXECABORT'), why: () => 'EXECABORT: it refused a command of a transaction', mend: 'try again: the server became a replica, or refuses a command of it' },
  { name: 'busy', pattern: answer('BUSY'), why: () => 'BUSY: somebody’s script keeps it busy', mend: 'look at "SLOWLOG GET" of Redis: somebody’s script does not end' },
  { name: 'no Redis', pattern: /Unknown RESP type|Protocol error, got/, why: () => 'something answers there that does not speak the protocol of Redis', mend: (error, settings) => (isTls(settings) ? start(error, settings) : `${start(error, settings)}; if it speaks TLS there, write rediss:// or set redis.tls`) },
  { name: 'too many clients', pattern: /max number of clients/, mend: 'raise maxclients of Redis, or run fewer processes' },
  {
    name: 'connection lost',
    pattern: /Stream isn't writeable|Connection is closed|Connection is in closing|Command timed out|Socket timeout|Socket closed|socket hang up|secure TLS connection was established|ECONN|EPIPE|EHOSTUNREACH|ENETUNREACH|ENETDOWN|EAI_AGAIN|ETIMEDOUT|connect (ENOENT|EACCES)|[Rr]eached the max retries/,
    // These two say what the client was told to do, and nothing of Redis.
    why: (error) => (/Stream isn't writeable|[Rr]eached the max retries/.test(error.message) ? 'the connection was lost' : inWords(error)),
    mend: (error, settings) => mendOfLost(error, settings),
  },
]

/** What an error says of itself: its code, its words and, of many nodes' failures, the last; of a transaction, what its first command was refused for. */
function told(error: Error): string {
  const inner = 'lastNodeError' in error && error.lastNodeError instanceof Error ? ` ${told(error.lastNodeError)}` : refusedIn(error)
  const code = 'code' in error && typeof error.code === 'string' ? `${error.code} ` : ''
  // An AggregateError of Node's dialling has an empty message and the code beside it.
  return `${error.name === 'ClusterAllFailedError' ? 'ClusterAllFailedError ' : ''}${code}${error.message}${inner}`
}

/** The client hands on the same list with each command of a transaction, its end included. */
function refusedIn(error: Error): string {
  const refused: unknown = 'previousErrors' in error && Array.isArray(error.previousErrors) ? error.previousErrors.find((each) => each !== error) : undefined
  return refused instanceof Error ? `: ${refused.message}` : ''
}

function faultOf(error: unknown): Fault | undefined {
  if (!(error instanceof Error)) return undefined
  const text = told(error)
  return faults.find(({ pattern }) => pattern.test(text) || pattern.test(error.message))
}

/** Tells an error of the connection, of a Redis that refuses all writes, or of how Redis was set up, from one of a single command. */
export function isUnavailability(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  if (error.name === 'MaxRetriesPerRequestError' || error.name === 'AbortError' || error.name === 'ClusterAllFailedError') return true
  return faultOf(error) !== undefined
}

/** Whether it stays so until somebody mends it: waiting for the connection is of no use. */
export function isLasting(error: unknown): boolean {
  return faultOf(error)?.lasting === true
}

/** Whether Redis refused only to write, and answers whoever reads. */
export function refusesWrites(error: unknown): boolean {
  return faultOf(error)?.reads === true
}

/** An error for a Redis that can't be reached, or can't be used as it is; its message holds no credentials. */
export function unavailable(config: RedisConfig, cause: unknown): RedisUnavailableError {
  // Said already, by whoever waited for the connection.
  if (cause instanceof RedisUnavailableError) return cause
  const settings: RedisSettings = 'connection' in config ? given : config
  const { why, mend } = explained(settings, cause)
  return new RedisUnavailableError(`redis: ${describeRedis(config)} can't be used (${why}); ${mend}`, { cause }, mend)
}

function explained(settings: RedisSettings, cause: unknown): { readonly why: string; readonly mend: string } {
  const error = cause instanceof Error ? cause : undefined
  const fault = faultOf(cause)
  const mend = fault === undefined ? start(new Error(), settings) : typeof fault.mend === 'string' ? fault.mend : fault.mend(error ?? new Error(), settings)
  if (cause === undefined) return isTls(settings) ? { why: 'no answer, nor an end of the TLS handshake', mend: `${start(new Error(), settings)}; if it speaks no TLS there, write redis:// and leave out redis.tls` } : { why: 'no answer', mend }
  return { why: error !== undefined && fault?.why !== undefined ? fault.why(error, settings) : inWords(cause), mend }
}

function isTls({ url, tls }: RedisSettings): boolean {
  return tls !== undefined || url?.startsWith('rediss:') === true
}

/** A peer that hangs up without a word gives no reason: what is likely depends on how it was dialled. */
function mendOfLost(error: Error, settings: RedisSettings): string {
  const mend = start(error, settings)
  if (!/ECONNRESET|Connection is closed|socket hang up|secure TLS connection was established|ETIMEDOUT|Socket closed/.test(told(error)) || settings.url?.startsWith('/') === true) return mend
  if (!isTls(settings)) return /ETIMEDOUT/.test(told(error)) ? mend : `${mend}; if it speaks TLS there, write rediss:// or set redis.tls`
  if (/ETIMEDOUT/.test(told(error))) return `${mend}; if it speaks no TLS there, write redis:// and leave out redis.tls`
  return settings.tls?.cert === undefined && settings.tls?.certFile === undefined ? `${mend}; if it asks for a client’s certificate, give one in redis.tls.certFile and keyFile` : mend
}

function commandOf(error: Error): string {
  const name = /command:? ?[`'"]?([\w|]+)['"`]?,/i.exec(error.message)?.[1] ?? refusedCommand(error)
  return name === undefined ? 'a command of a script' : `the command ${name.toUpperCase()}`
}

/** Which command, and of what it lacks the right. */
function missingRight(error: Error): string {
  const several = missingOf(error)
  if (several.length > 1) return `the user may not run ${several.map((right) => right.toUpperCase().replace('|', ' ')).join(', ')}`
  const command = refusedCommand(error)
  const who = `the user may not run ${command === undefined ? 'a command of a script' : command.toUpperCase()}`
  if (/keys? (used|mentioned)|access(ing)? (at least )?one of the keys/.test(error.message)) return `${who} on the deployment’s keys`
  return /channel/.test(error.message) ? `${who} on the deployment’s channels` : who
}

function mendOfRight(error: Error): string {
  const several = missingOf(error)
  if (several.length > 1) return `give it the rights by "${several.map((right) => `+${right}`).join(' ')}" of its ACL; docs/redis.md lists all`
  const command = refusedCommand(error)
  if (/keys? (used|mentioned)|access(ing)? (at least )?one of the keys/.test(error.message)) return 'give it the keys by "~PREFIX:*" of its ACL, where PREFIX is queue.prefix'
  if (/channel/.test(error.message)) return 'give it the channels by "&PREFIX:*" of its ACL, where PREFIX is queue.prefix'
  return command === undefined ? 'give it the rights that docs/redis.md lists; "ACL LOG" of Redis names the command' : `give it the right by "+${command.toLowerCase().replace(' ', '|')}" of its ACL; docs/redis.md lists all`
}

/** What was asked for at once; see redis-rights.ts. */
function missingOf(error: Error): string[] {
  return 'rights' in error && Array.isArray(error.rights) ? error.rights.map(String) : []
}

/** `client|list` is told as that. Within a script Redis names the line alone. */
function refusedCommand(error: Error): string | undefined {
  const [only] = missingOf(error)
  const named = only ?? /the '([^']+)' command/.exec(error.message)?.[1]
  if (named !== undefined) return named.replace('|', ' ')
  const inScript = commandIn(error.message)
  if (inScript !== undefined) return inScript
  if (/executing the script|user_script|script:/.test(error.message)) return undefined
  const command = 'command' in error && typeof error.command === 'object' && error.command !== null && 'name' in error.command ? error.command.name : undefined
  return typeof command === 'string' ? command : undefined
}

function inWords(cause: unknown): string {
  if (cause instanceof Error && 'lastNodeError' in cause && cause.lastNodeError instanceof Error) return inWords(cause.lastNodeError)
  if (cause instanceof Error && cause.message === '' && 'code' in cause) return String(cause.code)
  return errorMessage(cause).split('\n')[0] ?? ''
}
