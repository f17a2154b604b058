import type { Redis } from 'ioredis'
import { expect, it } from 'vitest'
import { Inbox, type Keys, queueWake, Signals, RunStore } from '../../src/store/index.js'
import { becomeIdle, record, until, useRedis } from './fixture.js'

const redis = useRedis()
const inbox = (holder: string) => new Inbox({ blocking: redis.connect('blocking'), commands: redis.connect() }, redis.keys, holder)

/** How many were woken. */
async function wake(client: Redis, keys: Keys, count: number): Promise<unknown> {
  const pipeline = client.pipeline()
  queueWake(pipeline, keys, count)
  return (await pipeline.exec())?.[0]?.[1]
}

it('wakes as many idle consumers as there are jobs, each once, and none that said it is busy', async () => {
  const boxes = ['a', 'b', 'c'].map(inbox)
  for (const { holder } of boxes) await becomeIdle(redis.connect(), redis.keys, holder, 60_000)
  await boxes[2]!.unregisterIdle()
  const client = redis.connect()
  expect(await wake(client, redis.keys, 1)).toBe(1)
  expect(await wake(client, redis.keys, 10)).toBe(1)
  expect(await wake(client, redis.keys, 10)).toBe(0)
  const lengths = await Promise.all(['a', 'b', 'c'].map((holder) => client.llen(redis.keys.inbox(holder))))
  expect(lengths).toEqual([1, 1, 0])
  expect(await boxes[0]!.next(1_000)).toEqual({ kind: 'work' })
})

it('wakes a consumer that is blocked waiting', async () => {
  const box = inbox('a')
  const message = box.next(20_000)
  await becomeIdle(redis.connect(), redis.keys, box.holder, 60_000)
  await wake(redis.connect(), redis.keys, 1)
  expect(await message).toEqual({ kind: 'work' })
})

it('believes nobody past the time it gave, and lets an inbox that nobody reads go', async () => {
  const client = redis.connect()
  const box = inbox('dead')
  await becomeIdle(redis.connect(), redis.keys, box.holder, 1)
  await until(async () => (await wake(client, redis.keys, 1)) === 0, 'the registration is over')
  await becomeIdle(redis.connect(), redis.keys, box.holder, 60_000)
  // Also when nobody ever wakes anybody again.
  expect(await client.pttl(redis.keys.idle())).toBeGreaterThan(0)
  expect(await client.zcard(redis.keys.idle())).toBe(1)
  await wake(client, redis.keys, 1)
  expect(await client.pttl(redis.keys.inbox('dead'))).toBeGreaterThan(0)
  await box.close()
  expect(await client.exists(redis.keys.inbox('dead'), redis.keys.idle())).toBe(0)
})

it('says null when nothing comes', async () => {
  expect(await inbox('a').next(10)).toBeNull()
})

it('tells every process of a request to cancel, over a reconnect of its connection too', async () => {
  const subscriber = redis.connect('subscriber')
  const signals = new Signals(subscriber, redis.keys)
  const heard: string[] = []
  let reconnects = 0
  await signals.onCancel((jobId, reason) => heard.push(`${jobId}: ${reason}`))
  signals.onReconnect(() => reconnects++)
  const store = new RunStore(redis.connect(), redis.keys)
  await store.acquire('job', { holder: 'a', fresh: record('job') })
  await store.cancel('job', 'enough', null)
  await until(() => heard.length === 1, 'the request is heard')
  const before = reconnects
  subscriber.disconnect(true)
  await until(() => reconnects > before, 'the connection is back')
  // A reconnect is told once the subscription is back.
  await store.cancel('job', 'enough', null)
  await until(() => heard.length > 1, 'a later request is heard')
  expect(new Set(heard)).toEqual(new Set(['job: enough']))
  signals.close()
})
