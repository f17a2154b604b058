import { expect, it } from 'vitest'
import { WaitDeadlines } from '../../src/store/index.js'
import { useRedis } from './fixture.js'

const redis = useRedis()

it('a job that begins to wait anew while its last run is seen to keeps its time', async () => {
  const client = redis.connect()
  const deadlines = new WaitDeadlines(client, redis.keys)
  await client.zadd(redis.keys.waits(), 1, 'ended', 1, 'again')
  expect((await deadlines.overdue(0, 10)).map(({ jobId }) => jobId)).toEqual(['again', 'ended'])
  await deadlines.add([{ jobId: 'again', spec: { waitTimeoutMs: 60_000 } }])
  await deadlines.settle(['ended', 'again', 'unknown'])
  expect(await client.zrange(redis.keys.waits(), '0', '-1')).toEqual(['again'])
})

it('a job whose options somebody wrote by hand keeps no other waiting for ever', async () => {
  const client = redis.connect()
  const deadlines = new WaitDeadlines(client, redis.keys)
  for (const [jobId, opts] of [['bad', 'no JSON'], ['odd', '{"delay":"soon"}'], ['good', '{"delay":500}']] as const) {
    await client.hset(redis.keys.job(jobId), 'name', 'job', 'timestamp', '1000', 'opts', opts)
    await client.zadd(redis.keys.waits(), 1, jobId)
  }
  const found = await deadlines.overdue(0, 10)
  expect(Object.fromEntries(found.map(({ jobId, fromMs }) => [jobId, fromMs]))).toEqual({ bad: 1_000, odd: 1_000, good: 1_500 })
})
