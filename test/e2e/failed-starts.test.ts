import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { Redis } from 'ioredis'
import { pino } from 'pino'
import { afterAll, afterEach, beforeAll, beforeEach, expect, it, vi } from 'vitest'
import { inMemoryGitHost } from '../../bench/in-memory/git-host.js'
import { InMemoryProvider } from '../../bench/in-memory/provider.js'
import { Consumer, secretsFromEnvironment } from '../../src/consumers/index.js'
import { type EmbeddedRedis, startRedis } from '../../src/embedded/index.js'
import { RedisUnavailableError } from '../../src/job/errors.js'
import { AgentQueue } from '../../src/producers/index.js'
import { assertPrimary, createRedis } from '../../src/store/index.js'
import { startRedisProcess } from '../servers/redis-process.js'
import { quickSettings, until } from './deployment.js'

// A consumer that can't start, or whose Redis refuses its last words, leaves nothing of itself behind in its process.
let redis: EmbeddedRedis
let client: Redis
let consumer: Consumer

beforeAll(async () => {
  redis = await startRedis()
})
const consumerAt = (url: string) =>
  new Consumer({
    deployment: 'test',
    redis: { url },
    git: inMemoryGitHost,
    providers: [{ provider: new InMemoryProvider('a'), limit: { sandboxes: 1 } }],
    secrets: secretsFromEnvironment([]),
    log: pino({ level: 'silent' }),
    settings: quickSettings,
  })

beforeEach(async () => {
  client = new Redis(redis.url)
  client.on('error', () => undefined)
  await client.flushall()
  consumer = consumerAt(redis.url)
})
afterEach(async () => {
  await takeWrites(true)
  await consumer.stop()
  client.disconnect()
})
afterAll(() => redis.close())

const takeWrites = async (takes: boolean) => client.config('SET', 'min-replicas-to-write', takes ? '0' : '1')
const nobodyElseIsConnected = async () => until('its connections are closed', async () => String(await client.client('LIST')).trim().split('\n').length === 1)

it('says so where Redis refuses its first words, and starts once that takes them', async () => {
  await takeWrites(false)
  await expect(consumer.start()).rejects.toThrow(RedisUnavailableError)
  await nobodyElseIsConnected()
  await takeWrites(true)
  await consumer.start()
  const queue = new AgentQueue({ redis: { url: redis.url } })
  const job = await queue.enqueue({ repository: 'acme/web', push: false, steps: ['true'] })
  expect(await job.result({ timeoutMs: 60_000 })).toMatchObject({ status: 'succeeded' })
  await queue.close()
})

it('is stopped while it waits for a Redis that does not answer', async () => {
  let asked = false
  const silent = createServer((socket) => socket.on('data', () => (asked = true)).on('error', () => undefined))
  await once(silent.listen(0, '127.0.0.1'), 'listening')
  const waiting = consumerAt(`redis://127.0.0.1:${(silent.address() as AddressInfo).port}`)
  const started = waiting.start().catch(String)
  await until('it asks', () => asked)
  await waiting.stop()
  expect(await started).toBeUndefined()
  expect(await waiting.readiness()).toMatchObject({ ready: false })
  silent.close()
  await once(silent, 'close')
})

it('says that its Redis is a replica, and starts at one that becomes the primary', async () => {
  const replica = await startRedisProcess(() => [`replicaof 127.0.0.1 ${new URL(redis.url).port}`, `masterauth ${decodeURIComponent(new URL(redis.url).password)}`])
  const url = `redis://127.0.0.1:${replica.port}`
  const other = createRedis({ url }, 'commands')
  const late = consumerAt(url)
  try {
    await expect(assertPrimary(other, { url }, 100)).rejects.toThrow(/READONLY: it is a replica, which takes no writes\); dial the primary/)
    const started = late.start()
    await until('it looks', async () => (await other.client('LIST') as string).split('\n').length > 3)
    await other.replicaof('NO', 'ONE')
    await started
  } finally {
    await late.stop()
    other.disconnect()
    await replica.close()
  }
})

it('stops where Redis refuses its last ones', async () => {
  await consumer.start()
  await takeWrites(false)
  await consumer.stop()
  await nobodyElseIsConnected()
})

it('says nothing more once it has stopped, where Redis was gone', async () => {
  const intervals = new Set<unknown>()
  const [begin, end] = [globalThis.setInterval, globalThis.clearInterval]
  vi.spyOn(globalThis, 'setInterval').mockImplementation(((...call: Parameters<typeof begin>) => {
    const made = begin(...call)
    intervals.add(made)
    return made
  }))
  vi.spyOn(globalThis, 'clearInterval').mockImplementation((made) => {
    intervals.delete(made)
    end(made)
  })
  await consumer.start()
  expect(intervals.size).toBeGreaterThan(4)
  await redis.kill()
  await consumer.stop()
  expect([...intervals]).toEqual([])
  vi.restoreAllMocks()
  await redis.restart()
})

it('that is told to stop while it starts does not begin', async () => {
  const [started] = await Promise.all([consumer.start(), consumer.stop()])
  expect(started).toBeUndefined()
  await nobodyElseIsConnected()
  expect((await consumer.readiness()).ready).toBe(false)
})
