import { createServer } from 'node:net'
import { Redis } from 'ioredis'
import { describe, expect, it } from 'vitest'
import { startRedis } from '../../src/embedded/index.js'
import { InvalidInputError, RedisUnavailableError } from '../../src/job/errors.js'
import { AgentQueue } from '../../src/producers/index.js'
import { assertRedisSuitable, createRedis, describeRedis, Keys, RunStore, wake, whenReady } from '../../src/store/index.js'
import { startTcpProxy, type TcpProxy } from '../servers/tcp-proxy.js'
import { after, record, until, useRedis } from './fixture.js'

const redis = useRedis()

describe('a suitable Redis', () => {
  it('is one that evicts nothing', async () => {
    const client = redis.connect()
    await assertRedisSuitable(client)
    await client.config('SET', 'maxmemory-policy', 'allkeys-lru')
    await expect(assertRedisSuitable(client)).rejects.toThrow('set it to "noeviction"')
    await client.config('SET', 'maxmemory-policy', 'noeviction')
  })

  it('is not one older than 6.2', async () => {
    const info = 'redis_version:6.0.16\r\nmaxmemory_policy:noeviction\r\n'
    const old = createServer((socket) => {
      // Speaks as much of the protocol as an INFO takes.
      socket.on('data', (data) => {
        const commands = data.toString().toLowerCase().match(/\$\d+\r\n(info|client|hello)/g) ?? []
        for (const command of commands) socket.write(command.endsWith('info') ? `$${info.length}\r\n${info}\r\n` : '+OK\r\n')
      })
    })
    await new Promise<void>((resolve) => old.listen(0, '127.0.0.1', resolve))
    after(() => old.close())
    const address = old.address()
    const client = createRedis({ url: `redis://127.0.0.1:${typeof address === 'object' ? address?.port : 0}` }, 'commands')
    after(() => client.disconnect())
    await expect(assertRedisSuitable(client)).rejects.toThrow('6.0.16 is too old')
  })
})

it('a database that Redis does not have is said, and the first one is not used in its place', async () => {
  const url = `${redis.server.url}/99`
  const queue = new AgentQueue({ redis: { url } })
  after(() => queue.close())
  for (let call = 0; call < 2; call++) await expect(queue.operations.pauseQueue({ by: { id: 'operator', name: '' } })).rejects.toThrow(/\(it does not have the database that is asked for\); correct the number/)
  // A consumer's waits, as for any Redis that can't be used.
  const client = createRedis({ url }, 'commands')
  after(() => client.disconnect())
  client.set('key', '1').catch(() => undefined)
  await new Promise((again) => client.once('reconnecting', again))
  expect(await redis.client.keys('*')).toEqual([])
})

it('a script runs also where Redis loses it again while it is sent', async () => {
  const client = redis.connect()
  await wake(client, redis.keys, 1)
  const send = client.sendCommand.bind(client)
  let lost = 3
  client.sendCommand = (command: Parameters<typeof send>[0], stream) => {
    if (/^eval/.test(command.name) && lost-- > 0) {
      command.reject(new Error('NOSCRIPT No matching script. Please use EVAL.'))
      return command.promise
    }
    return send(command, stream)
  }
  await wake(client, redis.keys, 1)
  expect(lost).toBeLessThan(0)
})

it('one that listens can be closed while it listens again after a reconnect', async () => {
  const unhandled: unknown[] = []
  const note = (error: unknown) => void unhandled.push(error)
  process.on('unhandledRejection', note)
  after(() => process.off('unhandledRejection', note))
  const subscriber = redis.connect('subscriber')
  await subscriber.subscribe('channel')
  const again = new Promise<void>((resolve) => subscriber.once('ready', resolve))
  subscriber.stream.destroy()
  await again
  const ended = new Promise<void>((resolve) => subscriber.once('end', resolve))
  subscriber.disconnect()
  // Before it has an answer.
  subscriber.stream.destroy()
  await ended
  await new Promise<void>((resolve) => setImmediate(resolve))
  expect(unhandled).toEqual([])
})

it.each(['commands', 'producer'] as const)('what a turn of the event loop asks for goes out in one write: %s', async (purpose) => {
  const config = { url: redis.server.url }
  const client = createRedis(config, purpose)
  after(() => client.disconnect())
  await whenReady(client, config)
  await client.ping()
  const stream = client.stream as unknown as Record<'_write' | '_writev', (...written: unknown[]) => void>
  let writes = 0
  for (const method of ['_write', '_writev'] as const) {
    const original = stream[method]
    stream[method] = (...written) => {
      writes++
      original.apply(stream, written)
    }
  }
  const pipeline = client.pipeline().set('by', 'pipeline')
  await Promise.all([...Array.from({ length: 50 }, async (_, index) => client.set('turn', index)), pipeline.exec()])
  expect(writes).toBe(1)
  await client.get('turn')
  expect(writes).toBe(2)
})

it('names where Redis is without user, password and query', () => {
  expect(describeRedis({ url: 'rediss://user:secret@redis.example:6390/2?x=secret' })).toBe('redis.example:6390')
  expect(describeRedis({ url: 'redis://redis.example' })).toBe('redis.example:6379')
})

it('refuses what is no address of a Redis', () => {
  for (const url of ['', 'localhost:6379', 'http://localhost']) expect(() => createRedis({ url }, 'commands')).toThrow(InvalidInputError)
})

it('says at once that a password is wrong, without telling it', async () => {
  const config = { url: `redis://:wrong-secret@127.0.0.1:${redis.server.port}` }
  const client = createRedis(config, 'producer')
  after(() => client.disconnect())
  const error = await whenReady(client, config, 30_000).then(() => undefined, (thrown: unknown) => thrown)
  expect(error).toBeInstanceOf(RedisUnavailableError)
  expect(String(error)).toContain(`127.0.0.1:${redis.server.port}`)
  expect(String(error)).not.toContain('wrong-secret')
})

it('refuses a prefix without exactly one hash tag', () => {
  for (const prefix of ['switchyard', '{a}{b}', '{}', '{a', 'a}']) expect(() => new Keys(prefix), prefix).toThrow('hash tag')
  expect(new Keys('prod:{sy}').run('1')).toBe('prod:{sy}::run:1')
})

describe('a consumer’s connection', () => {
  async function through(): Promise<{ proxy: TcpProxy; url: string }> {
    const proxy = await startTcpProxy(redis.server.port!)
    after(() => proxy.close())
    return { proxy, url: `redis://:${encodeURIComponent(redis.server.connection.password)}@127.0.0.1:${proxy.port}` }
  }

  it('that answers nothing any more is given up, and its command is sent again', async () => {
    const { proxy, url } = await through()
    const client = createRedis({ url }, 'commands')
    after(() => client.disconnect())
    await client.set('key', '1')
    proxy.silence()
    expect(await client.incr('key')).toBe(2)
  })

  it('or a producer’s: a silent Redis is an error, and the next call has a connection that works', async () => {
    const { proxy, url } = await through()
    const queue = new AgentQueue({ redis: { url } })
    after(() => queue.close())
    await queue.list()
    proxy.silence()
    await expect(queue.list()).rejects.toThrow(RedisUnavailableError)
    expect(await queue.list()).toEqual([])
  })

  it('to a primary that became a replica waits for the new primary at the same address', async () => {
    const replica = await startRedis({ password: redis.server.connection.password })
    after(() => replica.close())
    const { proxy, url } = await through()
    const client = createRedis({ url }, 'commands')
    const [former, next] = [new Redis(redis.server.url), new Redis(replica.url)]
    after(() => [client, former, next].forEach((one) => one.disconnect()))
    const store = new RunStore(client, redis.keys)
    await store.acquire('job', { holder: 'a', fresh: record('job') })
    await former.replicaof('127.0.0.1', replica.port!)
    after(() => former.replicaof('NO', 'ONE'))
    await expect(former.set('key', '1')).rejects.toThrow('READONLY')
    const warnings: Error[] = []
    const note = (warning: Error) => void warnings.push(warning)
    process.on('warning', note)
    after(() => process.off('warning', note))
    const acquired = store.acquire('job', { holder: 'b', fresh: record('job') })
    // As many as a busy consumer has in flight: each of them is refused.
    const others = Array.from({ length: 30 }, (_each, index) => client.set(`key-${index}`, '1'))
    await until(() => client.status !== 'ready', 'the first is refused')
    proxy.target(replica.port!)
    proxy.cut()
    expect((await acquired).kind).toBe('acquired')
    await Promise.all(others)
    expect(warnings).toEqual([])
    expect(await next.hget(redis.keys.run('job'), 'holder')).toBe('b')
  })
})

describe('a producer whose own process does not run', () => {
  /** A turn of the event loop that takes so long: nothing is read, and no timer fires. */
  const block = (ms: number) => {
    const end = performance.now() + ms
    while (performance.now() < end);
  }

  it('does not take that for Redis’ silence: not while it connects, and not while it waits for an answer', async () => {
    const queue = new AgentQueue({ redis: redis.config })
    after(() => queue.close())
    const first = queue.list()
    block(2_500)
    expect(await first).toEqual([])
    const second = queue.list()
    await new Promise((resolve) => setImmediate(resolve))
    block(4_000)
    expect(await second).toEqual([])
  })
})
