import { expect, it } from 'vitest'
import { costsOf, RunStore } from '../../src/store/index.js'
import { record, result, useRedis } from './fixture.js'

const redis = useRedis()
const at = Date.parse('2026-12-01T23:30:00Z')

/** A run of a tenant that has ended and cost so much, at a moment of this Redis' own clock. */
async function ended(store: RunStore, jobId: string, tenant: string | null, micros: number): Promise<() => Promise<void>> {
  const { fence } = await store.acquire(jobId, { holder: 'a', fresh: record(jobId) }) as { fence: number }
  const end = () => store.finish(jobId, fence, record(jobId, { phase: 'ended' }), result(jobId, { tenant, usage: { sandboxSeconds: 1, cost: { micros, currency: 'EUR' } } }), JSON.stringify({ id: `${jobId}.1` }))
  await end()
  return end
}

it('what jobs cost is counted by tenant and day, once, as they end', async () => {
  const connection = redis.connect()
  const store = new RunStore(connection, redis.keys, { timeZone: 'Europe/Berlin' })
  const again = await ended(store, 'job-1', 'acme', 700)
  await again()
  await ended(store, 'job-2', 'acme', 300)
  await ended(store, 'job-3', null, 50)
  await ended(store, 'job-4', '*', 20)
  const found = await costsOf(connection, redis.keys, { timeZone: 'Europe/Berlin', nowMs: Date.now() })
  expect(found.map(({ tenant, micros, currency }) => [tenant, micros, currency])).toEqual([['acme', 1_000, 'EUR'], [null, 50, 'EUR'], ['*', 20, 'EUR']])
  const [day] = await connection.keys('*costs:day:*')
  expect(await connection.pttl(day!)).toBeGreaterThan(40 * 86_400_000)
})

it('what cost nothing leaves nothing', async () => {
  const connection = redis.connect()
  const store = new RunStore(connection, redis.keys)
  const { fence } = await store.acquire('job-1', { holder: 'a', fresh: record('job-1') }) as { fence: number }
  await store.finish('job-1', fence, record('job-1', { phase: 'ended' }), result('job-1'), JSON.stringify({ id: 'e' }))
  expect(await connection.keys('*costs*')).toEqual([])
})

it('the days that are asked for come, the latest first, of whom is asked for', async () => {
  const connection = redis.connect()
  for (const [day, micros] of [['2026-12-02', 3], ['2026-12-01', 2], ['2026-11-30', 1]] as const) {
    await connection.hset(`${redis.keys.costs()}:day:${day}`, { 's:acme': micros, 's:other': 9, 'r:acme': 100, 's*': 4, currency: 'USD' })
  }
  const which = { timeZone: 'Europe/Berlin', nowMs: at, tenants: ['acme', 'nobody'] }
  // It is past midnight in Berlin.
  expect((await costsOf(connection, redis.keys, which)).map(({ day, micros }) => [day, micros])).toEqual([['2026-12-02', 3]])
  expect((await costsOf(connection, redis.keys, { ...which, since: '2026-12-01' })).map(({ micros }) => micros)).toEqual([3, 2])
  expect((await costsOf(connection, redis.keys, { timeZone: 'UTC', nowMs: at })).map(({ tenant, micros }) => [tenant, micros])).toEqual([['other', 9], ['*', 4], ['acme', 2]])
  expect(await costsOf(connection, redis.keys, { ...which, since: '2027-01-01' })).toEqual([])
  await expect(costsOf(connection, redis.keys, { ...which, since: 'monday' })).rejects.toThrow('since: "monday" is no day; give one such as "2026-12-02"')
})

it('a day counts so many tenants, and the others together', async () => {
  const connection = redis.connect()
  const store = new RunStore(connection, redis.keys)
  await ended(store, 'job-1', 'first', 1)
  const [day] = await connection.keys('*costs:day:*')
  const many = Object.fromEntries(Array.from({ length: 19_998 }, (_, index) => [`s:tenant-${index}`, 1]))
  await connection.hset(day!, many)
  await ended(store, 'job-2', 'one too many', 5)
  await ended(store, 'job-3', 'first', 2)
  expect(await connection.hmget(day!, 's*', 's:first', 's:one too many')).toEqual(['5', '3', null])
})
