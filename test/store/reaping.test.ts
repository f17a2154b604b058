import { expect, it } from 'vitest'
import { Reaping } from '../../src/store/index.js'
import { useRedis } from './fixture.js'

const redis = useRedis()
const hours = 3_600_000
const call = { gapMs: 60_000, ttlMs: 30_000 }

it('one process reaps at a provider at a time, and the next after the gap', async () => {
  const [one, other] = [new Reaping(redis.connect(), redis.keys, 'one'), new Reaping(redis.connect(), redis.keys, 'other')]
  expect(await one.claim('p', call)).not.toBeNull()
  expect(await other.claim('p', call)).toBeNull()
  expect(await one.claim('p', call)).not.toBeNull()
  await one.finish('p', null)
  expect(await other.claim('p', call)).toBeNull()
  expect(await other.claim('p', { ...call, gapMs: 0 })).not.toBeNull()
})

// A Redis clock that was set back by hours stopped the reaper for as long: places of dead sandboxes stayed taken.
it.each([
  ['a round ended by a clock that was ahead', async (reaping: Reaping) => reaping.finish('p', null), 'atMs'],
  ['a claim was made by a clock that was ahead', async () => undefined, 'untilMs'],
])('goes on when %s', async (_what, then, field) => {
  const client = redis.connect()
  const [one, other] = [new Reaping(client, redis.keys, 'one'), new Reaping(client, redis.keys, 'other')]
  expect(await one.claim('p', call)).not.toBeNull()
  await then(one)
  const key = redis.keys.reaping('p')
  await client.hset(key, field, Number(await client.hget(key, field)) + 3 * hours)
  expect(await other.claim('p', call)).not.toBeNull()
})
