import { createServer } from 'node:net'
import { describe, expect, it } from 'vitest'
import { InvalidInputError, RedisUnavailableError } from '../../src/job/errors.js'
import { assertRedisSuitable, createRedis, describeRedis, Keys, whenReady } from '../../src/store/index.js'
import { after, useRedis } from './fixture.js'

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
  expect(new Keys('prod:{sy}').run('1')).toBe('prod:{sy}:run:1')
})
