import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { afterAll, afterEach, beforeAll } from 'vitest'
import { type EmbeddedRedis, type EmbeddedRedisOptions, startRedis } from '../../src/embedded/index.js'
import { nothingCollected } from '../../src/job/artifacts.js'
import type { JobResult } from '../../src/job/result.js'
import { newRunRecord, type RunRecord } from '../../src/job/run-record.js'
import { type ConnectionPurpose, createRedis, Keys, ReadyJobs } from '../../src/store/index.js'
import { recordIn } from '../../src/store/stored-record.js'
import { after, undone } from '../undo.js'

export { after } from '../undo.js'

/** One real Redis for a test file, emptied for each test. */
export function useRedis(options: EmbeddedRedisOptions = {}) {
  let server: EmbeddedRedis | undefined
  let shared: Redis | undefined
  const connect = (purpose: ConnectionPurpose = 'commands'): Redis => {
    const redis = createRedis({ url: server!.url }, purpose)
    after(() => redis.disconnect())
    return redis
  }
  beforeAll(async () => {
    server = await startRedis(options)
  })
  afterEach(async () => {
    await undone()
    const client = createRedis({ url: server!.url }, 'commands')
    await client.flushall()
    client.disconnect()
  })
  afterAll(() => server?.close())
  return {
    get server(): EmbeddedRedis {
      return server!
    },
    get config() {
      return { url: server!.url }
    },
    /** A connection of its own, for what is made with one. */
    connect,
    /** One for each test, to ask Redis something: a connection of its own takes a hundred times as long as an answer. */
    get client(): Redis {
      if (shared === undefined) after(() => (shared = undefined))
      return (shared ??= connect())
    },
    keys: new Keys(),
  }
}

/** Makes a consumer one that waits for work, for so long, as it becomes one when it looks and finds nothing. */
export async function becomeIdle(redis: Redis, keys: Keys, holder: string, idleMs: number): Promise<void> {
  await new ReadyJobs(redis, keys).dispatch({ holder, leaseId: `${holder}/0`, limits: [], known: [], choice: 'most-free', means: { profileId: 'test', viewId: 'test', providers: [], secrets: [], shares: false }, graceMs: 1, idleMs })
}

/** Lets so much time pass by the ledger's clock, which goes on by a minute at most between two looks. There is one once anything has looked. */
export async function passLedgerTime(redis: Redis, keys: Keys, ms: number): Promise<void> {
  const clock = `${keys.ledger()}:clock`
  const [before, steady] = ((await redis.get(clock)) ?? '').split(' ').map(Number)
  await redis.set(clock, `${before} ${steady! + ms}`)
}

/** Waits until `check` gives something else than undefined, null or false. */
export async function until<T>(check: () => Promise<T> | T, what: string, timeoutMs = 60_000): Promise<NonNullable<T>> {
  const deadline = Date.now() + timeoutMs
  for (;;) {
    const value = await check()
    if (value !== undefined && value !== null && value !== false) return value
    if (Date.now() > deadline) throw new Error(`waited ${timeoutMs} ms in vain until ${what}`)
    await delay(20)
  }
}

export function record(jobId: string, fields: Partial<RunRecord> = {}): RunRecord {
  return { ...newRunRecord({ jobId, generation: 1, repository: 'acme/web', startedAtMs: 1 }), ...fields }
}

export function result(jobId: string, fields: Partial<JobResult> = {}): JobResult {
  return {
    jobId,
    status: 'succeeded',
    error: null,
    repository: 'acme/web',
    baseSha: null,
    branch: null,
    commit: null,
    promoted: null,
    pullRequest: null,
    steps: [],
    attempts: [],
    diff: null,
    unsaved: [],
    unsavedMore: 0,
    kept: [],
    ...nothingCollected,
    usage: { sandboxSeconds: 0 },
    metadata: {},
    tenant: null,
    ...fields,
  }
}

/** The record in a run's hash as it stands there, known to this release or not. */
export async function storedRecord(redis: Redis, key: string): Promise<Record<string, unknown>> {
  return recordIn(await redis.hgetall(key), null) as Record<string, unknown>
}

/** Puts another record into a run's hash, as a release that writes it whole would. */
export async function replaceRecord(redis: Redis, key: string, change: (record: Record<string, unknown>) => object): Promise<void> {
  const changed = change(await storedRecord(redis, key))
  const fields = (await redis.hkeys(key)).filter((field) => field.startsWith('r:'))
  await redis.hset(key, 'record', JSON.stringify(changed))
  if (fields.length > 0) await redis.hdel(key, ...fields)
}

/** A cluster-enabled server that owns all slots by itself: it refuses scripts and pipelines over keys of two slots. */
export async function startClusterNode(): Promise<{ url: string; close: () => Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), 'switchyard-cluster-'))
  for (let attempt = 1; ; attempt++) {
    const port = 20_000 + Math.floor(Math.random() * 20_000)
    const args = ['--port', String(port), '--bind', '127.0.0.1', '--cluster-enabled', 'yes', '--dir', folder, '--save', '', '--maxmemory-policy', 'noeviction']
    const child = spawn('redis-server', args, { stdio: 'ignore' })
    const gone = new Promise<'gone'>((resolve) => child.once('exit', () => resolve('gone')))
    const url = `redis://127.0.0.1:${port}`
    const client = new Redis(url, { protocol: 2, enableReadyCheck: false, retryStrategy: () => 20, maxRetriesPerRequest: null })
    client.on('error', () => undefined)
    const up = await Promise.race([client.ping(), gone])
    if (up === 'gone') {
      client.disconnect()
      if (attempt === 5) throw new Error('no cluster node would start')
      continue
    }
    await client.call('CLUSTER', 'ADDSLOTSRANGE', '0', '16383')
    await until(async () => String(await client.call('CLUSTER', 'INFO')).includes('cluster_state:ok'), 'the node serves all slots')
    client.disconnect()
    return {
      url,
      close: async () => {
        child.kill('SIGKILL')
        await gone
        await rm(folder, { recursive: true, force: true, maxRetries: 10 })
      },
    }
  }
}

/** Stands between a client and a Redis on 127.0.0.1, and can lose an answer: the command was run, the connection is cut. */
export async function startProxy(targetPort: number): Promise<{ port: number; loseNextAnswer: () => Promise<void> }> {
  const sockets = new Set<Socket>()
  let lose: (() => void) | undefined
  const server = createServer((client) => {
    const target = connect(targetPort, '127.0.0.1')
    for (const socket of [client, target]) {
      sockets.add(socket)
      socket.on('error', () => undefined)
      socket.on('close', () => {
        sockets.delete(socket)
        client.destroy()
        target.destroy()
      })
    }
    client.pipe(target)
    target.on('data', (data) => {
      if (lose === undefined) client.write(data)
      else {
        client.destroy()
        lose()
        lose = undefined
      }
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  after(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  return { port: address.port, loseNextAnswer: () => new Promise<void>((resolve) => (lose = resolve)) }
}

/** Numbers that are the same for the same seed (mulberry32), so that a failing run can be repeated. */
export function random(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

export const newId = (): string => randomUUID()
