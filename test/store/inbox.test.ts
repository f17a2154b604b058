import type { Redis } from 'ioredis'
import { expect, it } from 'vitest'
import { parseJobSpec } from '../../src/job/spec.js'
import { Inbox, type Keys, queueWake, ReadyJobs, Signals, RunStore } from '../../src/store/index.js'
import { becomeIdle, passLedgerTime, record, until, useRedis } from './fixture.js'

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

it('asks whoever it wakes of all that its view has said nothing about, with the first job of a kind, and once', async () => {
  const client = redis.connect()
  const [ready, box] = [new ReadyJobs(client, redis.keys), inbox('a')]
  const wake = async (...specs: object[]) => {
    await becomeIdle(client, redis.keys, 'a', 60_000)
    for (const [index, spec] of specs.entries()) {
      const jobId = `${JSON.stringify(spec)} ${index}`
      await client.multi().hset(redis.keys.job(jobId), 'name', 'job', 'data', '{}').zadd(redis.keys.bullmq('prioritized'), 2 ** 32 + index, jobId).exec()
      await ready.add([{ jobId, spec: parseJobSpec({ repository: 'acme/web', steps: ['true'], ...spec }) }], index === specs.length - 1 ? { wake: 5 } : {})
    }
    const message = await box.next(1_000)
    if (message?.kind !== 'work') throw new Error('nobody was woken')
    return message.asked ?? null
  }
  const asked = await wake({}, { network: 'none' })
  expect(asked?.view).toBe('test')
  expect(asked?.about.map(({ number }) => number)).toEqual([1, 2])
  expect(asked?.about.map(({ json }) => (JSON.parse(json) as { network: string }).network)).toEqual(['open', 'none'])
  // It has said so with its look, and hears of others only.
  const known = asked!.about.map(({ id, number }) => ({ id, number, can: [['p']] }))
  await ready.dispatch({ holder: 'a', leaseId: 'a/1', limits: [], known, choice: 'most-free', means: { profileId: 'test', viewId: 'test', providers: [], secrets: [], shares: false }, graceMs: 1, idleMs: 60_000 })
  expect(await wake({ priority: 5 })).toBeNull()
  expect((await wake({ network: 'git-only' }))?.about.map(({ number }) => number)).toEqual([3])
})

it('asks one of those that it wakes alike, and of nothing that is long', async () => {
  const client = redis.connect()
  const ready = new ReadyJobs(client, redis.keys)
  for (const holder of ['a', 'b', 'c']) await becomeIdle(client, redis.keys, holder, 60_000)
  const add = async (specs: readonly object[]) => {
    const jobs = specs.map((spec, index) => ({ jobId: `${index} of ${specs.length}`, spec: parseJobSpec({ repository: 'acme/web', steps: ['true'], ...spec }) }))
    for (const [index, { jobId }] of jobs.entries()) await client.multi().hset(redis.keys.job(jobId), 'name', 'job', 'data', '{}').zadd(redis.keys.bullmq('prioritized'), 2 ** 32 + index, jobId).exec()
    await ready.add(jobs, { wake: jobs.length })
    const messages = (await Promise.all(['a', 'b', 'c'].map((holder) => client.lrange(redis.keys.inbox(holder), 0, -1)))).flat()
    await client.del(...['a', 'b', 'c'].map((holder) => redis.keys.inbox(holder)))
    return messages.map((message) => (JSON.parse(message) as { asked?: { about: { number: number }[] } }).asked?.about.map(({ number }) => number) ?? [])
  }
  // The second is as a job may have it whose list of secrets somebody made by a program.
  const long = { secrets: Array.from({ length: 2_000 }, (_, index) => `SECRET_${index}`) }
  expect((await add([{}, long, { network: 'none' }])).toSorted()).toEqual([[], [], [1]])
})

it('wakes also after Redis’ clock has leapt', async () => {
  const client = redis.connect()
  // What the deployment makes of the time lags behind since.
  await client.set(`${redis.keys.ledger()}:clock`, `${Date.now()} ${Date.now() - 6 * 60 * 60_000}`)
  await becomeIdle(client, redis.keys, 'a', 60_000)
  expect(await wake(client, redis.keys, 1)).toBe(1)
  expect(await inbox('a').next(1_000)).toEqual({ kind: 'work' })
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

it.each<[string, (client: Redis, keys: Keys, holder: string) => Promise<unknown>]>([
  ['it is woken', (client, keys) => wake(client, keys, 1)],
  ['a job is given back', (client, keys) => client.hset(keys.job('back'), 'name', 'job').then(() => new ReadyJobs(client, keys).front('back', { asItIs: true }))],
  ['it says that it is busy', (_client, _keys, holder) => inbox(holder).unregisterIdle()],
  ['it passes on what it was given', (_client, _keys, holder) => inbox(holder).passOn()],
  ['it closes', (_client, _keys, holder) => inbox(holder).close()],
  ['it looks, and has no room for more', (client, keys, holder) => becomeIdle(client, keys, holder, 0)],
  // Another one's look, while it is dead.
  ['its time is over', (client, keys) => passLedgerTime(client, keys, 120_000).then(() => becomeIdle(client, keys, 'another', 60_000)).then(() => inbox('another').close())],
])('keeps nothing of who was idle, once %s', async (_what, end) => {
  const client = redis.connect()
  const views = `${redis.keys.idle()}:view`
  await becomeIdle(client, redis.keys, 'once', 60_000)
  expect(await client.hkeys(views)).toEqual(['once', 'room:once'])
  await end(client, redis.keys, 'once')
  expect(await client.exists(views, redis.keys.idle())).toBe(0)
})

it('keeps nothing of very many that died, and takes them away at once', async () => {
  const client = redis.connect()
  await becomeIdle(client, redis.keys, 'first', 60_000)
  const dead = Array.from({ length: 2_500 }, (_, index) => `dead-${index}`)
  await client.zadd(redis.keys.idle(), ...dead.flatMap((holder) => ['1', holder]))
  await client.hset(`${redis.keys.idle()}:view`, ...dead.flatMap((holder) => [holder, 'test', `room:${holder}`, '1']))
  await client.config('RESETSTAT')
  for (let look = 0; look < 3; look++) await becomeIdle(client, redis.keys, 'first', 60_000)
  expect(await client.info('commandstats')).toMatch(/cmdstat_hdel:calls=[1-3],/)
  expect(await client.zrange(redis.keys.idle(), '0', '-1')).toEqual(['first'])
  expect(await client.hlen(`${redis.keys.idle()}:view`)).toBe(2)
})

it('says null when nothing comes', async () => {
  expect(await inbox('a').next(10)).toBeNull()
})

it('tells every process of a request to cancel, over a reconnect of its connection too', async () => {
  const subscriber = redis.connect('subscriber')
  const signals = new Signals(subscriber, redis.keys)
  const heard: string[] = []
  let reconnects = 0
  await signals.onCancel((jobId) => heard.push(jobId))
  signals.onReconnect(() => reconnects++)
  const store = new RunStore(redis.client, redis.keys)
  await store.acquire('job', { holder: 'a', fresh: record('job') })
  await store.cancel('job', 'enough', null)
  await until(() => heard.length === 1, 'the request is heard')
  const before = reconnects
  subscriber.disconnect(true)
  await until(() => reconnects > before, 'the connection is back')
  // A reconnect is told once the subscription is back.
  await store.cancel('job', 'enough', null)
  await until(() => heard.length > 1, 'a later request is heard')
  expect(new Set(heard)).toEqual(new Set(['job']))
  signals.close()
})
