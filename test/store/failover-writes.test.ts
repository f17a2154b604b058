import { Redis } from 'ioredis'
import { afterEach, expect, it } from 'vitest'
import { createRedis, isUnavailability, Keys, RunStore } from '../../src/store/index.js'
import { isLasting } from '../../src/store/redis-faults.js'
import { type RedisProcess, startRedisProcess, until } from '../servers/redis-process.js'
import { record } from './fixture.js'

// A failover by command, in the steps in which Sentinel does it, with real servers: what the former primary still takes in between is lost, and
// `min-replicas-to-write` says how much that is (docs/redis.md).
const undo: (() => unknown)[] = []
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
})

async function server(lines: readonly string[]): Promise<RedisProcess & { readonly client: Redis }> {
  const started = await startRedisProcess(() => ['repl-diskless-sync-delay 0', 'appendonly no', ...lines])
  undo.push(() => started.close())
  const client = new Redis(started.port, '127.0.0.1', { protocol: 2 })
  client.on('error', () => undefined)
  undo.push(() => client.disconnect())
  return Object.assign(started, { client })
}

it.each<[string, number, boolean, boolean]>([
  ['without it all that the former primary takes until it hears of the other one', 0, true, true],
  ['with 1, of two replicas, what it takes until the second follows the other one', 1, true, false],
  ['with as many as there are replicas, nothing', 2, false, false],
])('is lost: %s', async (_what, least, takesFirst, takesSecond) => {
  const former = await server([`min-replicas-to-write ${least}`, 'min-replicas-max-lag 10'])
  const [promoted, second] = await Promise.all([1, 2].map(() => server([`replicaof 127.0.0.1 ${former.port}`])))
  const keys = new Keys()
  const redis = createRedis({ url: `redis://127.0.0.1:${former.port}` }, 'commands')
  undo.push(() => redis.disconnect())
  const store = new RunStore(redis, keys)
  const begin = async (jobId: string, at: RunStore = store) => await at.acquire(jobId, { holder: 'consumer', fresh: record(jobId) }).then(({ kind }) => kind, (error: unknown) => error)
  await until('both replicas follow', async () => new RegExp('connected_slaves:2').test(await former.client.info('replication')) && (await begin('before')) === 'acquired')
  // On the connection that wrote: WAIT waits for nothing else.
  expect(await redis.wait(2, 10_000)).toBe(2)

  const seen: unknown[] = []
  await promoted!.client.replicaof('NO', 'ONE')
  await until('the former primary sees it leave', async () => /connected_slaves:1/.test(await former.client.info('replication')))
  seen.push(await begin('first'))
  await second!.client.replicaof('127.0.0.1', promoted!.port)
  await until('and the second', async () => /connected_slaves:0/.test(await former.client.info('replication')))
  seen.push(await begin('second'))

  const taken = seen.map((answer) => answer === 'acquired')
  expect(taken).toEqual([takesFirst, takesSecond])
  // What is refused is waited for, as a restart is, and nothing of it was written.
  for (const error of seen.filter((answer) => answer !== 'acquired')) {
    expect(String(error)).toContain('NOREPLICAS')
    expect([isUnavailability(error), isLasting(error)]).toEqual([true, false])
  }
  for (const [index, jobId] of ['first', 'second'].entries()) expect(await former.client.exists(keys.run(jobId))).toBe(taken[index] === true ? 1 : 0)
  await former.client.replicaof('127.0.0.1', promoted!.port)
  await until('the former primary follows', async () => (await former.client.role())[3] === 'connected')
  expect(await former.client.exists(keys.run('before'), keys.run('first'), keys.run('second'))).toBe(1)
  // Sent again, as everything is that was not answered, it is taken by the new one.
  const after = createRedis({ url: `redis://127.0.0.1:${promoted!.port}` }, 'commands')
  undo.push(() => after.disconnect())
  for (const [index, jobId] of ['first', 'second'].entries()) if (taken[index] !== true) expect(await begin(jobId, new RunStore(after, keys))).toBe('acquired')
}, 120_000)
