import { Queue } from 'bullmq'
import { expect, it } from 'vitest'
import { parseJobSpec, type JobSpecInput } from '../../src/job/spec.js'
import { Inbox, type InboxMessage, Keys, type KnownConstraints, type ProviderLimit, ReadyJobs, Roster } from '../../src/store/index.js'
import { after, newId, useRedis } from './fixture.js'

const redis = useRedis()

/** A queue with consumers that look, as far as these tests need them. */
async function deployment(name = 'agents', limits: readonly ProviderLimit[] = [{ provider: 'p', sandboxes: 2 }]) {
  const client = redis.connect()
  const keys = new Keys(redis.keys.prefix, name)
  const queue = new Queue(name, { connection: client, prefix: keys.prefix })
  after(() => queue.close())
  await queue.waitUntilReady()
  const ready = new ReadyJobs(client, keys)
  const providers = limits.map(({ provider }) => provider)
  return {
    client,
    keys,
    queue,
    ready,
    /** Returns the job that was taken, null when there was none, and the consumer is idle. */
    async look(holder: string, room = 10, viewId = name, can: KnownConstraints['can'] = [providers]): Promise<string | null> {
      let known: KnownConstraints[] = []
      for (;;) {
        const means = { profileId: name, viewId, providers, secrets: [], shares: false }
        const found = await ready.dispatch({ holder, leaseId: newId(), limits, known, choice: 'most-free', means, graceMs: 60_000, idleMs: 60_000, room })
        known = found.unknown.map(({ id, number }) => ({ id, number, can }))
        if (found.what === 'take') return (await client.rpop(keys.bullmq('wait'))) ?? null
        if (found.what === 'nothing' && known.length === 0) return null
      }
    },
    async add(jobId: string, more: Partial<JobSpecInput> = {}) {
      const spec = parseJobSpec({ repository: 'acme/web', steps: ['true'], ...more })
      await queue.add('job', { spec }, { jobId, priority: spec.priority })
      await ready.add([{ jobId, spec }], { wake: 1 })
    },
    async told(holder: string): Promise<InboxMessage[]> {
      const inbox = new Inbox({ blocking: client, commands: client }, keys, holder)
      const messages: InboxMessage[] = []
      for (let message = await inbox.next(10); message !== null; message = await inbox.next(10)) messages.push(message)
      return messages
    },
    idle: async () => (await client.zrevrange(keys.idle(), 0, -1)).sort(),
  }
}
type Deployment = Awaited<ReturnType<typeof deployment>>

/** One whose consumer `a` knows jobs of that kind, and is idle. */
async function idle(limits?: readonly ProviderLimit[], room = 10) {
  const one = await deployment('agents', limits)
  await one.add('first')
  expect(await one.look('a', room)).toBe('first')
  await one.ready.close('first')
  expect(await one.look('a', room)).toBeNull()
  await one.told('a')
  return one
}

it('what comes while a consumer is idle is given to it with its place, and needs no look', async () => {
  const one = await idle()
  await one.add('job')
  expect(await one.told('a')).toEqual([{ kind: 'work', given: { jobId: 'job', provider: 'p', idle: true } }])
  expect(await one.client.lrange(one.keys.bullmq('wait'), 0, -1)).toEqual(['job'])
  expect(await one.client.hget(`${one.keys.ledger()}:jobs`, 'job')).toMatch(/^on\/job\//)
  expect((await one.ready.tenant('')).running).toBe(1)
  // Its end gives all of it back.
  await one.client.del(one.keys.bullmq('wait'))
  await one.ready.close('job')
  expect([await one.client.hlen(`${one.keys.ledger()}:jobs`), await one.client.hlen(`${one.keys.ready()}:held`)]).toEqual([0, 0])
})

it('a consumer is given as much as it has room for, and the next one what is more', async () => {
  const one = await idle([{ provider: 'p', sandboxes: 10 }], 2)
  expect(await one.look('b', 1)).toBeNull()
  for (const jobId of ['one', 'two', 'three', 'four']) await one.add(jobId)
  const given = async (holder: string) => (await one.told(holder)).map((message) => (message.kind === 'work' ? [message.given?.jobId, message.given?.idle] : []))
  const [a, b] = [await given('a'), await given('b')]
  expect([...a, ...b].map(([jobId]) => jobId).sort()).toEqual(['one', 'three', 'two'])
  // With the last that it has room for it is idle no more, until it says so.
  expect([a.map(([, still]) => still), b.map(([, still]) => still)]).toEqual([[true, false], [false]])
  expect(await one.idle()).toEqual([])
  // What nobody was idle for waits to be looked for.
  expect(await one.client.zrange(one.keys.bullmq('prioritized'), '0', '-1')).toEqual(['four'])
})

it('it is given to one that can run it, though others that can’t are believed longer', async () => {
  const one = await idle()
  const profile = { queue: 'agents', release: '1', providers: ['p'], secrets: [] }
  await new Roster(one.client, one.keys).announce({ consumer: 'a', profileId: 'able', profile, troubles: [], startedAtMs: 0, shares: null }, 600_000)
  for (let index = 0; index < 20; index++) expect(await one.look(`c${index}`, 10, 'others', 'they have not what it needs')).toBeNull()
  await one.add('job')
  expect(await one.told('a')).toMatchObject([{ given: { jobId: 'job' } }])
  // Where it is not to be given at once that one is told all the same.
  await one.client.hset(`${one.keys.ready()}:q:agents:1:mapped`, 'agents', 0)
  await one.add('next')
  expect(await one.told('a')).toEqual([{ kind: 'work' }])
  expect((await one.idle()).length).toBe(20)
})

it('a consumer with one place is idle while it has nothing, and not with its job', async () => {
  const one = await deployment()
  await one.add('first')
  expect([await one.look('a', 1), await one.idle()]).toEqual(['first', []])
  await one.ready.close('first')
  expect([await one.look('a', 1), await one.idle()]).toEqual([null, ['a']])
  await one.add('second')
  expect(await one.told('a')).toMatchObject([{ given: { jobId: 'second', idle: false } }])
})

it('many that come at once are spread over all that are idle, and whoever was given much is to look', async () => {
  const one = await idle([{ provider: 'p', sandboxes: 1_000 }], 1_000)
  for (const holder of ['b', 'c']) expect(await one.look(holder, 1_000)).toBeNull()
  const given = { a: 0, b: 0, c: 0 }
  for (let index = 0; index < 30; index++) {
    await one.add(`job-${index}`)
    for (const holder of ['a', 'b', 'c'] as const) given[holder] += (await one.told(holder)).length
  }
  expect([given.a + given.b + given.c, Math.min(given.a, given.b, given.c) >= 9]).toEqual([30, true])
  // One that is believed for a second still: it can't be relied on to be there for long.
  const score = Number(await one.client.zscore(one.keys.idle(), 'a'))
  const nowMs = Number((await one.client.get(`${one.keys.ledger()}:clock`))?.split(' ')[1])
  expect(score).toBeGreaterThan(nowMs)
  await one.client.zadd(one.keys.idle(), nowMs + 510, 'a', nowMs + 300, 'b', nowMs + 300, 'c')
  await one.add('last')
  expect((await one.told('a')).at(-1)).toMatchObject({ given: { jobId: 'last', idle: false } })
  expect(await one.idle()).not.toContain('a')
})

it('one that reads nothing is given two jobs at most: then others are', async () => {
  const one = await idle([{ provider: 'p', sandboxes: 100 }], 100)
  for (let index = 0; index < 5; index++) await one.add(`job-${index}`)
  expect((await one.told('a')).length).toBe(2)
  expect(await one.idle()).toEqual([])
})

it('a place that comes free is given with its job to an idle consumer in the same way', async () => {
  const one = await idle([{ provider: 'p', sandboxes: 1 }])
  await one.add('one')
  await one.add('two')
  expect(await one.told('a')).toMatchObject([{ given: { jobId: 'one' } }, { kind: 'work' }])
  expect(await one.look('a')).toBe('one')
  expect(await one.look('a')).toBeNull()
  await one.ready.close('one')
  expect(await one.told('a')).toEqual([{ kind: 'work', given: { jobId: 'two', provider: 'p', idle: true } }])
})

it.each<[string, (one: Deployment) => Promise<unknown>, Partial<JobSpecInput>?]>([
  ['the queue is paused', (one) => one.queue.pause()],
  ['the queue has as many active as it may', (one) => one.queue.setGlobalConcurrency(0)],
  ['all places are taken', (one) => one.client.hset(`${one.keys.ledger()}:provider:p`, { limit: 0 })],
  ['somebody waits for a place that was lost', (one) => one.client.hset(`${one.keys.ledger()}:waiter`, 'x', '{}')],
  ['nobody has heard of jobs like it', () => Promise.resolve(), { network: 'none' }],
  ['the time to wait of another is over', (one) => one.client.zadd(`${one.keys.ready()}:q:agents:1:deadline`, 1, 'other')],
  ['tenants are to be put back', (one) => one.client.sadd(`${one.keys.ready()}:uncapping`, 'other')],
  ['its consumers choose by a policy of their own', (one) => one.client.hset(`${one.keys.ready()}:q:agents:1:policy`, 'agents', 'own')],
  ['its tenant has as many as it may', (one) => one.client.hset(`${one.keys.ready()}:shares`, '*', JSON.stringify({ weight: 1, cap: 0 }))],
])('where %s, the idle consumer is only told to look', async (_what, prepare, more) => {
  const one = await idle()
  await prepare(one)
  await one.add('job', more)
  expect((await one.told('a')).map((message) => ({ ...message, asked: undefined }))).toEqual([{ kind: 'work', asked: undefined }])
  expect([await one.client.llen(one.keys.bullmq('wait')), await one.client.hlen(`${one.keys.ledger()}:jobs`)]).toEqual([0, 0])
  expect(await one.idle()).toEqual([])
})

it('what comes first is given first, whoever adds: another’s job takes its turn, and this one is looked for', async () => {
  const one = await idle([{ provider: 'p', sandboxes: 1 }])
  // It waits because nobody was told of it.
  const spec = parseJobSpec({ repository: 'acme/web', steps: ['true'] })
  await one.queue.add('job', { spec }, { jobId: 'before', priority: spec.priority })
  await one.ready.add([{ jobId: 'before', spec }])
  await one.add('job')
  expect(await one.told('a')).toMatchObject([{ given: { jobId: 'before' } }, { kind: 'work' }])
  expect(await one.client.zrange(one.keys.bullmq('prioritized'), '0', '-1')).toEqual(['job'])
})

it('a consumer that can’t take what it was given tells another, and counts as idle no more', async () => {
  const one = await idle()
  expect(await one.look('b')).toBeNull()
  const inbox = (holder: string) => new Inbox({ blocking: one.client, commands: one.client }, one.keys, holder)
  await one.add('job')
  const [holder, other] = (await one.told('a')).length > 0 ? (['a', 'b'] as const) : (['b', 'a'] as const)
  await inbox(holder).passOn()
  expect(await one.told(other)).toEqual([{ kind: 'work' }])
  expect(await one.idle()).toEqual([])
  expect(await one.look(other)).toBe('job')
})

it('kinds of jobs of which nothing waits are remembered while they are few, and forgotten with their queue', async () => {
  const one = await idle()
  const kinds = async () => await one.client.hlen(`${one.keys.ready()}:q:agents:1:shape`)
  for (let index = 0; index < 100; index++) {
    await one.add(`job-${index}`, { resources: { memoryMiB: 100 + index } })
    expect(await one.look('a')).toBe(`job-${index}`)
    await one.ready.close(`job-${index}`)
  }
  expect(await kinds()).toBe(64)
  expect(await one.client.hlen(`${one.keys.ready()}:q:agents:1:v:agents:fit`)).toBe(64)
  // One of them is asked about no more, and one that was forgotten is.
  await one.look('a')
  await one.told('a')
  await one.add('again', { resources: { memoryMiB: 199 } })
  expect(await one.told('a')).toMatchObject([{ given: { jobId: 'again' } }])
  await one.add('anew', { resources: { memoryMiB: 100 } })
  expect(await one.told('a')).toMatchObject([{ kind: 'work', asked: { view: 'agents', about: [{}] } }])
})
