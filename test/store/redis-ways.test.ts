import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Queue, Worker } from 'bullmq'
import { Cluster, Redis } from 'ioredis'
import { pino } from 'pino'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { Checklist } from '../../src/cli/doctor/checklist.js'
import { checkRedis } from '../../src/cli/doctor/check-redis.js'
import { openApi } from '../../src/cli/open-api.js'
import { parseConfig } from '../../src/config/load.js'
import { Consumer, secretsFromEnvironment } from '../../src/consumers/index.js'
import { SecretPatterns } from '../../src/consumers/output/secret-patterns.js'
import { CodeStorageHost } from '../../src/git/index.js'
import { generateDevelopmentKeys } from '../../src/embedded/index.js'
import { InvalidInputError, RedisUnavailableError } from '../../src/job/errors.js'
import { AgentQueue, subscribe } from '../../src/producers/index.js'
import { LocalProvider } from '../../src/providers/local/index.js'
import { createRedis, Keys, type RedisConfig, type RedisSettings, Signals, SlotLedger } from '../../src/store/index.js'
import { Authority, type Certificate } from '../servers/certificates.js'
import { type RedisCluster, startRedisCluster } from '../servers/redis-cluster.js'
import { type RedisSentinels, startRedisSentinels } from '../servers/redis-sentinels.js'
import { type RedisProcess, freePorts, startRedisProcess, until } from '../servers/redis-process.js'

// Every way to a Redis, with real servers: that everything of a queue works by it, and what is said when it is the wrong one.
const spec = { repository: 'acme/web', steps: ['true'] }
const undo: (() => unknown)[] = []
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
})

let folder: string
let ca: Authority
let client: Certificate
let tls: { readonly server: RedisProcess; readonly port: number }
let mutual: typeof tls
let expired: typeof tls
let cluster: RedisCluster
let sentinels: RedisSentinels
let plain: RedisProcess
const closing: (() => Promise<void>)[] = []
async function closedLater<Server extends { close(): Promise<void> }>(started: Promise<Server>): Promise<Server> {
  const server = await started
  closing.push(() => server.close())
  return server
}

/** A server with a port for TLS beside its plain one. */
async function startTls(certificate: Certificate, lines: readonly string[] = []): Promise<typeof tls> {
  let port = 0
  const server = await closedLater(
    startRedisProcess(async () => {
      ;[port = 0] = await freePorts(1)
      return [`tls-port ${port}`, `tls-cert-file ${certificate.cert}`, `tls-key-file ${certificate.key}`, `tls-ca-cert-file ${ca.cert}`, 'tls-auth-clients no', ...lines]
    }),
  )
  return { server, port }
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'switchyard-tls-'))
  ca = await Authority.make(folder)
  const [server, old] = [await ca.sign('redis.internal', ['DNS:redis.internal', 'IP:127.0.0.1']), await ca.sign('old', ['IP:127.0.0.1'], 'expired')]
  client = await ca.sign('client', [])
  ;[tls, mutual, expired, plain, cluster, sentinels] = await Promise.all([
    startTls(server),
    startTls(server, ['tls-auth-clients yes']),
    startTls(old),
    closedLater(startRedisProcess(() => [])),
    closedLater(startRedisCluster()),
    closedLater(startRedisSentinels()),
  ])
}, 120_000)
afterAll(async () => {
  await Promise.all(closing.map((close) => close()))
  await rm(folder, { recursive: true, force: true, maxRetries: 10 })
})

const byTls = (to: () => typeof tls, settings: () => RedisSettings['tls']): (() => RedisSettings) => () => ({ url: `rediss://127.0.0.1:${to().port}`, tls: settings() })
const byCluster = (): RedisSettings => ({ cluster: { nodes: cluster.addresses.slice(0, 2) }, password: cluster.password })
const bySentinel = (): RedisSettings => ({ sentinel: { nodes: sentinels.addresses, name: sentinels.name }, password: sentinels.password })
const mutualTls = () => ({ caFile: ca.cert, certFile: client.cert, keyFile: client.key })

/** What a producer, a consumer's ledger, a listener and a reader of events do with a way to Redis. */
let prefixes = 0
async function everything(config: RedisConfig): Promise<Keys> {
  const prefix = `{ways-${prefixes++}}`
  const queue = new AgentQueue({ redis: config, prefix })
  undo.push(() => queue.close())
  const job = await queue.enqueue({ ...spec, delay: '1h' })
  const waiting = await queue.enqueue(spec)
  expect((await queue.list()).map(({ jobId }) => jobId).sort()).toEqual([job.jobId, waiting.jobId].sort())
  await queue.schedules.upsert('nightly', { every: '1h', job: spec })
  const [commands, subscriber, blocking] = [createRedis(config, 'commands'), createRedis(config, 'subscriber'), createRedis(config, 'blocking')]
  undo.push(() => [commands, blocking].forEach((one) => one.disconnect()))
  const keys = new Keys(prefix)
  expect(await new SlotLedger(commands, keys).reserve({ holder: 'test', leaseId: 'test/1', candidates: [{ provider: 'local', sandboxes: 1 }], demand: { cpu: 1, memoryMiB: 1 }, ttlMs: 10_000 })).toMatchObject({ provider: 'local' })
  const popped = blocking.blpop(keys.inbox('test'), 5)
  await commands.rpush(keys.inbox('test'), 'x')
  expect(await popped).toEqual([keys.inbox('test'), 'x'])
  const signals = new Signals(subscriber, keys)
  undo.push(() => signals.close())
  const heard = new Promise<string>((resolve) => void signals.onCancel((jobId) => resolve(jobId)).then(() => commands.publish(keys.cancelChannel(), JSON.stringify({ jobId: 'a-job', reason: 'test' }))))
  expect(await heard).toBe('a-job')
  const ended: string[] = []
  const subscription = subscribe(config, 'test', (event) => void ended.push(event.subject), { from: 'start', prefix })
  undo.push(() => subscription.close())
  expect(await waiting.cancel('not needed')).toBe('cancelled')
  expect(await waiting.result()).toMatchObject({ status: 'cancelled' })
  await until('the event', () => ended.includes(waiting.jobId))
  return keys
}

describe('a queue works', () => {
  it.each<readonly [string, () => RedisConfig]>([
    ['by TLS with a private authority', byTls(() => tls, () => ({ caFile: ca.cert }))],
    ['by TLS with another name than the one that is dialled', byTls(() => tls, () => ({ caFile: ca.cert, serverName: 'redis.internal' }))],
    ['by TLS with a client’s certificate', byTls(() => mutual, mutualTls)],
    ['by a Cluster', byCluster],
    ['by a Cluster of which the first node that is named is away', () => ({ ...byCluster(), cluster: { nodes: ['127.0.0.1:1', ...cluster.addresses.slice(1, 3)] } })],
    ['by sentinels', bySentinel],
    ['by sentinels of which one is away', () => ({ ...bySentinel(), sentinel: { nodes: ['127.0.0.1:1', ...sentinels.addresses], name: sentinels.name } })],
    ['by user, password and database beside the URL', () => ({ url: `redis://nobody:wrong@127.0.0.1:${plain.port}/9`, username: 'app', password: 'app-password', db: 2 })],
  ])('%s', async (name, config) => {
    if (name.startsWith('by user')) {
      const admin = new Redis(plain.port)
      await admin.call('ACL', 'SETUSER', 'app', 'on', '>app-password', '~*', '&*', '+@all')
      undo.push(() => admin.disconnect())
    }
    const settings = config()
    const keys = await everything(settings)
    if (name.startsWith('by user')) {
      const second = createRedis(settings, 'commands')
      undo.push(() => second.disconnect())
      expect(await second.exists(keys.bullmq('meta'))).toBe(1)
      expect(await second.select(9).then(() => second.dbsize())).toBe(0)
    }
  })

  it('by a connection that is there, which lends its settings and stays as it is', async () => {
    const own = new Redis(plain.port, { enableOfflineQueue: false, commandTimeout: 300, connectionName: 'own' })
    undo.push(() => own.disconnect())
    await new Promise((resolve) => own.once('ready', resolve))
    await everything({ connection: own })
    for (const step of undo.splice(1).reverse()) await step()
    expect(own.status).toBe('ready')
    expect(await own.ping()).toBe('PONG')
    const ofCluster = new Cluster([{ host: '127.0.0.1', port: cluster.nodes[0]!.port }], { redisOptions: { password: cluster.password } })
    undo.push(() => ofCluster.disconnect())
    await new Promise((resolve) => ofCluster.once('ready', resolve))
    await everything({ connection: ofCluster })
    expect(ofCluster.status).toBe('ready')
  })

  it('by a function that opens connections, which are closed by whoever asked for them', async () => {
    const opened: { readonly purpose: string; readonly redis: Redis }[] = []
    const open = (purpose: string) => {
      const redis = new Redis(plain.port, { protocol: 2, maxRetriesPerRequest: null, db: 5 })
      opened.push({ purpose, redis })
      return redis
    }
    const queue = new AgentQueue({ redis: { connection: open } })
    const job = await queue.enqueue(spec)
    const ended = job.result()
    await job.cancel('not needed')
    expect(await ended).toMatchObject({ status: 'cancelled' })
    await queue.close()
    expect(opened.map(({ purpose }) => purpose).sort()).toEqual(['producer', 'subscriber'])
    await until('all are closed', () => opened.every(({ redis }) => redis.status === 'end'))
  })
})

it('two deployments and somebody else’s BullMQ share a Cluster, and none sees the others', async () => {
  const queues = ['{one}', '{two}'].map((prefix) => new AgentQueue({ redis: byCluster(), prefix }))
  undo.push(...queues.map((queue) => () => queue.close()))
  const connection = createRedis(byCluster(), 'commands')
  undo.push(() => connection.disconnect())
  const ofWorker = createRedis(byCluster(), 'commands')
  undo.push(() => ofWorker.disconnect())
  const theirs = new Queue('agents', { connection, prefix: '{theirs}' })
  const worker = new Worker('agents', () => Promise.resolve('done'), { connection: ofWorker, prefix: '{theirs}' })
  theirs.on('error', () => undefined)
  worker.on('error', () => undefined)
  undo.push(() => theirs.close(), () => worker.close(true))
  const jobs = await Promise.all(queues.map((queue) => queue.enqueue({ ...spec, idempotencyKey: 'the same' })))
  const their = await theirs.add('job', {})
  expect(jobs[0]?.jobId).toBe(jobs[1]?.jobId)
  await until('their job is done', async () => (await their.getState()) === 'completed')
  await jobs[0]?.cancel('not needed')
  expect(await Promise.all(queues.map(async (queue) => (await queue.job(jobs[0]?.jobId ?? '').status()).state))).toEqual(['cancelled', 'waiting'])
})

/** Everything that is said of a wrong way, and what must be there as it was. */
async function refusals(config: RedisConfig, withConsumer: boolean): Promise<string[]> {
  const queue = new AgentQueue({ redis: config })
  undo.push(() => queue.close())
  const error = await queue.enqueue(spec).then(() => new Error('enqueued'), (thrown: unknown) => thrown as Error)
  expect(error).toBeInstanceOf(RedisUnavailableError)
  const checks = new Checklist({ kind: 'redis', name: 'redis' }, new SecretPatterns(), new AbortController().signal)
  await checkRedis(checks, config, '{switchyard}', { timeoutMs: 10_000 })
  const failed = checks.results.find(({ outcome }) => outcome === 'failed')
  const said = [error.message, `${failed?.check ?? ''}: ${failed?.detail ?? ''}; ${failed?.mend ?? ''}`]
  if (!withConsumer) return said
  const consumer = new Consumer({
    deployment: 'test',
    redis: config,
    git: new CodeStorageHost({ org: 'acme', privateKey: generateDevelopmentKeys().privateKey, storageUrl: 'http://127.0.0.1:1', apiUrl: 'http://127.0.0.1:1' }),
    providers: [{ provider: new LocalProvider({ name: 'local', stateDir: join(folder, 'sandboxes') }), limit: { sandboxes: 1 } }],
    secrets: secretsFromEnvironment([]),
    log: pino({ level: 'silent' }),
  })
  const started = await consumer.start().then(() => new Error('started'), (thrown: unknown) => thrown as Error)
  await consumer.stop()
  const served = await openApi({ ...parseConfig({ redis: { url: 'redis://unused' }, http: { port: 0 } }), redis: config as RedisSettings }).then(async ({ close }) => close().then(() => new Error('served')), (thrown: unknown) => thrown as Error)
  return [...said, started.message, served.message]
}

describe('a wrong way is told in one sentence, by enqueue, doctor, a consumer’s start and serve, and nothing is changed', () => {
  const stranger = byTls(() => mutual, () => ({ caFile: ca.cert }))
  it.each<readonly [string, () => RedisSettings, RegExp]>([
    ['a Cluster’s node as a single server', () => ({ url: `redis://:${cluster.password}@127.0.0.1:${cluster.nodes[0]!.port}` }), /is a node of a Redis Cluster.*set redis\.cluster/],
    ['the node that has the queue’s slot', () => ({ url: `redis://:${cluster.password}@127.0.0.1:${cluster.nodes[2]!.port}` }), /is a node of a Redis Cluster.*set redis\.cluster/],
    ['a replica of a Cluster', () => ({ url: `redis://:${cluster.password}@127.0.0.1:${cluster.nodes[4]!.port}` }), /is a node of a Redis Cluster.*set redis\.cluster/],
    ['a single server as a Cluster', () => ({ cluster: { nodes: [`127.0.0.1:${plain.port}`] } }), /not a Redis Cluster.*set redis\.url/],
    ['a Cluster with a wrong password', () => ({ ...byCluster(), password: 'wrong' }), /correct the user and the password/],
    ['a sentinel as Redis', () => ({ url: `redis://${sentinels.addresses[0] ?? ''}` }), /is a sentinel.*set redis\.sentinel/],
    ['Redis as a sentinel', () => ({ sentinel: { nodes: [`127.0.0.1:${plain.port}`], name: 'jobs' } }), /no sentinel.*redis\.sentinel\.nodes/],
    ['a name that sentinels do not know', () => ({ ...bySentinel(), sentinel: { nodes: sentinels.addresses, name: 'others' } }), /know no primary of that name.*redis\.sentinel\.name/],
    ['sentinels that are away', () => ({ sentinel: { nodes: ['127.0.0.1:1'], name: 'jobs' } }), /(ECONNREFUSED|Connection is closed).*redis\.sentinel\.nodes/],
    ['a Cluster that is away', () => ({ cluster: { nodes: ['127.0.0.1:1'] } }), /(ECONNREFUSED|Connection is closed).*redis\.cluster\.nodes/],
    ['an authority that is not known', byTls(() => tls, () => ({})), /authority that is not known.*redis\.tls\.caFile/],
    ['a certificate that ran out', byTls(() => expired, () => ({ caFile: ca.cert })), /run out.*; renew/],
    ['a certificate for another name', byTls(() => tls, () => ({ caFile: ca.cert, serverName: 'redis.elsewhere' })), /DNS:redis\.internal.*redis\.tls\.serverName/],
    ['no client’s certificate where one is wanted', stranger, /client’s certificate.*redis\.tls\.certFile/],
    ['TLS to a plain port', () => ({ url: `rediss://127.0.0.1:${plain.port}` }), /write redis:\/\//],
    ['no TLS to a port that wants it', () => ({ url: `redis://127.0.0.1:${tls.port}` }), /write rediss:\/\//],
  ])('%s', async (name, config, says) => {
    const servers = [...cluster.nodes.slice(0, 3).map(({ client: redis }) => redis), new Redis(plain.port, { db: 0 })]
    undo.push(() => servers.at(-1)?.disconnect())
    // A consumer waits ten seconds for what may be mended by waiting, and says the same then.
    const all = await refusals(config(), !/away|TLS/.test(name))
    for (const text of all) {
      expect(text).toMatch(says)
      expect(text).not.toContain('\n')
      expect(text).not.toContain(cluster.password)
    }
    expect((await Promise.all(servers.map((redis) => redis.keys('{switchyard}*')))).flat()).toEqual([])
  })

  // Last: while it lacks a slot the Cluster serves nothing.
  it('a Cluster of which nobody has the slot', async () => {
    const nodes = cluster.nodes.map(({ client: redis }) => redis)
    const slot = String(await cluster.slotOf('{switchyard}'))
    const primary = await cluster.primaryOf(Number(slot))
    for (const redis of nodes) await redis.call('CLUSTER', 'DELSLOTS', slot)
    undo.push(async () => {
      await primary.client.call('CLUSTER', 'ADDSLOTS', slot)
      for (const redis of nodes) await until('the Cluster serves', async () => (await redis.cluster('INFO')).includes('cluster_state:ok'))
    })
    await until('it is down', async () => (await primary.client.cluster('INFO')).includes('cluster_state:fail'))
    for (const text of await refusals(byCluster(), true)) expect(text).toMatch(/CLUSTERDOWN.*CLUSTER (INFO|SHARDS)/)
  })
})

describe('settings that are wrong are refused before anything is dialled', () => {
  it.each<readonly [string, () => unknown, RegExp]>([
    ['two ways', () => ({ url: 'redis://a', cluster: { nodes: ['a:1'] } }), /^redis\.cluster: is given beside url/],
    ['a check that is switched off in a URL', () => ({ url: 'rediss://a?rejectUnauthorized=false' }), /^redis\.url: "rejectUnauthorized" is not heeded/],
    ['a certificate without its key', () => ({ url: 'rediss://a', tls: { certFile: client.cert } }), /^redis\.tls\.keyFile: is missing/],
    ['a file that is not there', () => ({ url: 'rediss://a', tls: { caFile: '/nowhere/ca.pem' } }), /^redis\.tls\.caFile: \/nowhere\/ca\.pem can't be read/],
    ['a file that is no PEM', () => ({ url: 'rediss://a', tls: { ca: 'not a certificate', ...mutualTls(), caFile: undefined, certFile: ca.cert } }), /^redis\.tls: the certificates and the key can't be used/],
    ['a key of another certificate', () => ({ url: 'rediss://a', tls: { certFile: client.cert, keyFile: ca.key } }), /^redis\.tls: the certificates and the key can't be used/],
    ['a password file that is not there', () => ({ url: 'redis://a', passwordFile: '/nowhere/password' }), /^redis\.passwordFile: \/nowhere/],
    ['a node without a port', () => ({ cluster: { nodes: ['redis-1'] } }), /^redis\.cluster\.nodes\[0\]: must be HOST:PORT/],
    ['no node', () => ({ sentinel: { nodes: [], name: 'a' } }), /^redis\.sentinel\.nodes: is empty/],
    ['a database of a Cluster', () => ({ cluster: { nodes: ['a:1'] }, db: 3 }), /^redis\.db: must be 0/],
    ['a field that is not known', () => ({ url: 'redis://a', tsl: {} }), /^redis\.tsl: is not a known field/],
    ['a connection with a prefix of its own', () => ({ connection: new Redis({ lazyConnect: true, keyPrefix: 'x:' }) }), /^redis\.connection: has a keyPrefix/],
    ['a connection of something else', () => ({ connection: {} }), /^redis\.connection: is no connection of ioredis/],
  ])('%s', (_name, config, says) => {
    const error = (() => {
      try {
        createRedis(config() as RedisConfig, 'producer').disconnect()
        return undefined
      } catch (thrown) {
        return thrown
      }
    })()
    expect(error).toBeInstanceOf(InvalidInputError)
    expect((error as Error).message).toMatch(says)
  })

  it('a prefix without a hash tag, which a Cluster would spread over its nodes', () => {
    expect(() => new AgentQueue({ redis: byCluster(), prefix: 'switchyard' })).toThrow(/^prefix: "switchyard" must hold exactly one hash tag/)
  })
})

it('reads a certificate that was changed at its next connection', async () => {
  const files = { caFile: join(folder, 'changing-ca.pem') }
  const other = await Authority.make(folder, 'other')
  const { readFile } = await import('node:fs/promises')
  await writeFile(files.caFile, await readFile(other.cert))
  const redis = createRedis({ url: `rediss://127.0.0.1:${tls.port}`, tls: files }, 'commands')
  undo.push(() => redis.disconnect())
  await new Promise((resolve) => redis.once('error', resolve))
  await writeFile(files.caFile, await readFile(ca.cert))
  expect(await redis.ping()).toBe('PONG')
})
