import { expect, it } from 'vitest'
import { mendLocks } from '../../src/store/index.js'
import { useRedis } from './fixture.js'

const redis = useRedis()
const hourMs = 3_600_000
const settings = { leaseMs: 1_000, stallCheckMs: 500 }

it('what a step of Redis’ clock back would have kept for hours goes in time, and nothing else is touched', async () => {
  const { keys } = redis
  const client = redis.connect()
  await client.set(keys.bullmq('stalled-check'), '1', 'PX', 3 * hourMs)
  await client.rpush(keys.bullmq('active'), 'held', 'right', 'gone')
  await client.set(`${keys.job('held')}:lock`, 'token', 'PX', 3 * hourMs)
  await client.set(`${keys.job('right')}:lock`, 'token', 'PX', 900)
  await client.set(`${keys.job('waits')}:lock`, 'token', 'PX', 3 * hourMs)
  expect(await mendLocks(client, keys, settings)).toBe(1)
  expect(await client.pttl(keys.bullmq('stalled-check'))).toBeLessThanOrEqual(5_000)
  expect(await client.pttl(`${keys.job('held')}:lock`)).toBeLessThanOrEqual(10_000)
  expect(await client.pttl(`${keys.job('right')}:lock`)).toBeLessThanOrEqual(900)
  expect(await client.pttl(`${keys.job('waits')}:lock`)).toBeGreaterThan(2 * hourMs)
  expect(await mendLocks(client, keys, settings)).toBe(0)
})

it('reaches each of many jobs, some at a time', async () => {
  const { keys } = redis
  const client = redis.connect()
  const ids = Array.from({ length: 450 }, (_, index) => `job-${index}`)
  await client.rpush(keys.bullmq('active'), ...ids)
  for (const id of ids) await client.set(`${keys.job(id)}:lock`, 'token', 'PX', 3 * hourMs)
  let mended = 0
  for (let look = 0; look < 500 && mended < ids.length; look++) {
    const now = await mendLocks(client, keys, settings)
    expect(now).toBeLessThanOrEqual(200)
    mended += now
  }
  expect(mended).toBe(ids.length)
})
