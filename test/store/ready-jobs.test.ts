import { Queue } from 'bullmq'
import { beforeEach, describe, expect, it } from 'vitest'
import { constraintsOf } from '../../src/job/constraints.js'
import { FenceLostError } from '../../src/job/errors.js'
import { parseJobSpec, type JobSpecInput } from '../../src/job/spec.js'
import { type KnownConstraints, type ProviderLimit, ReadyJobs, Roster, RunStore, SlotLedger, SlotOwners, type TenantShare } from '../../src/store/index.js'
import { after, newId, random, record, result, until, useRedis } from './fixture.js'

const redis = useRedis()
let queue: Queue
let ready: ReadyJobs
let ledger: SlotLedger
beforeEach(async () => {
  const client = redis.client
  queue = new Queue(redis.keys.queueName, { connection: client, prefix: redis.keys.prefix })
  after(() => queue.close())
  await queue.waitUntilReady()
  ready = new ReadyJobs(client, redis.keys)
  ledger = new SlotLedger(client, redis.keys)
})

const limit = (provider: string, sandboxes: number, more: Partial<ProviderLimit> = {}): ProviderLimit => ({ provider, sandboxes, ...more })
const specOf = (more: Partial<JobSpecInput> = {}) => parseJobSpec({ repository: 'acme/web', steps: ['true'], ...more })

/** What a consumer with these providers, and every secret, says that it has. */
const meansOf = (limits: readonly ProviderLimit[]) => ({ profileId: 'test', viewId: 'test', providers: limits.map(({ provider }) => provider), secrets: ['*'], shares: false })
const setShares = (shares: Readonly<Record<string, TenantShare>>) =>
  new Roster(redis.client, redis.keys).announce(
    { consumer: 'c', profileId: 'other', profile: { queue: 'none', release: '1', providers: [], secrets: [] }, troubles: [], startedAtMs: 0, shares: { shares, sinceMs: null } },
    1_000,
  )

/** Enqueues a job as AgentQueue does: BullMQ first, then the index. */
async function enqueue(jobId: string, more: Partial<JobSpecInput> = {}): Promise<void> {
  const spec = specOf(more)
  await queue.add('job', { spec }, { jobId, priority: spec.priority })
  await ready.add([{ jobId, spec }])
}

/** A consumer that may use these providers for everything, and learns constraints as it goes. */
function consumer(limits: readonly ProviderLimit[], holder: string = newId(), choice: 'given' | 'most-free' = 'given') {
  let leases = 0
  const refused = new Map<string, string>()
  const dispatch = async (idleMs = 0) => {
    let known: KnownConstraints[] = []
    for (;;) {
      const found = await ready.dispatch({ holder, leaseId: `${holder}/${leases++}`, limits, known, choice, means: meansOf(limits), graceMs: 1, idleMs })
      known = found.unknown.map(({ id, number, json }) => {
        const { providers } = JSON.parse(json) as { providers: { allow?: string[] } }
        return { id, number, can: refused.get(id) ?? [providers.allow ?? limits.map(({ provider }) => provider)] }
      })
      if (found.what === 'take' || (found.what === 'nothing' && found.unknown.length === 0)) return found
    }
  }
  return {
    refused,
    dispatch,
    /** Takes as BullMQ would; returns the job, or null when there is no place or no job. */
    async take(): Promise<string | null> {
      const found = await dispatch()
      return found.what === 'nothing' ? null : await redis.client.rpop(redis.keys.bullmq('wait'))
    },
  }
}

async function takeAll(from: ReturnType<typeof consumer>): Promise<string[]> {
  const taken: string[] = []
  for (let jobId = await from.take(); jobId !== null; jobId = await from.take()) taken.push(jobId)
  return taken
}

describe('which job comes next', () => {
  it('is by priority, then in order of arrival, each with a place bound to it', async () => {
    await enqueue('late', { priority: 50 })
    await enqueue('first', { priority: 1 })
    await enqueue('second', { priority: 1 })
    const one = consumer([limit('a', 2), limit('b', 1)])
    expect(await takeAll(one)).toEqual(['first', 'second', 'late'])
    expect([await ledger.leaseOf('first'), await ledger.leaseOf('second'), await ledger.leaseOf('late')]).toMatchObject([{ provider: 'a' }, { provider: 'a' }, { provider: 'b' }])
  })

  it.each([
    ['given', ['a', 'b', 'b']],
    ['most-free', ['b', 'b', 'a']],
  ] as const)('gets a place by the policy of its consumers: %s', async (choice, providers) => {
    for (const jobId of ['j1', 'j2', 'j3']) await enqueue(jobId)
    const one = consumer([limit('a', 1), limit('b', 3)], newId(), choice)
    expect(await takeAll(one)).toEqual(['j1', 'j2', 'j3'])
    expect(await Promise.all(['j1', 'j2', 'j3'].map(async (jobId) => (await ledger.leaseOf(jobId))?.provider))).toEqual(providers)
  })

  it('is known by its place to whoever BullMQ gives it, until it is acquired', async () => {
    await enqueue('first', { priority: 1 })
    await enqueue('second')
    const one = consumer([limit('a', 1), limit('b', 1)])
    expect(await ready.standing('first', 0)).toEqual({ listed: true, provider: null, begun: false, inHand: false })
    expect((await one.dispatch()).jobId).toBe('first')
    expect(await ready.standing('first', 0)).toEqual({ listed: false, provider: 'a', begun: false, inHand: true })
    expect(await ready.standing('second', 0)).toEqual({ listed: true, provider: null, begun: false, inHand: false })
    await new RunStore(redis.client, redis.keys).acquire('first', { holder: 'c', fresh: record('first') })
    expect(await ready.standing('first', 0)).toEqual({ listed: false, provider: 'a', begun: true, inHand: true })
  })

  it('counts as in hand from then on, where it has begun and came around the index; what has not is left to be listed', async () => {
    await setShares({ acme: { weight: 1, cap: 1 } })
    for (const jobId of ['begun', 'not']) await queue.add('job', {}, { jobId })
    await new RunStore(redis.client, redis.keys).acquire('begun', { holder: 'c', fresh: record('begun') })
    const asked = () => Promise.all(['begun', 'not'].map((jobId) => ready.standing(jobId, 0, { tenant: 'acme' })))
    expect(await asked()).toEqual([{ listed: false, provider: null, begun: true, inHand: false }, { listed: false, provider: null, begun: false, inHand: false }])
    expect(await asked()).toMatchObject([{ inHand: true }, { inHand: false }])
    expect(await ready.tenant('acme')).toMatchObject({ running: 1, cap: 1 })
    await queue.remove('begun')
    expect((await ready.reconcile('h', 1_000)).gone).toEqual(['begun'])
    await ready.close('begun')
    expect(await ready.tenant('acme')).toMatchObject({ running: 0 })
  })

  it('has its run ended where it was given back without a place, and is removed before anybody takes it', async () => {
    await queue.add('job', {}, { jobId: 'given-back' })
    const store = new RunStore(redis.client, redis.keys)
    await store.acquire('given-back', { holder: 'c', fresh: record('given-back') })
    await ready.front('given-back')
    expect((await ready.reconcile('h', 1_000)).gone).toEqual([])
    await queue.remove('given-back')
    expect((await ready.reconcile('h', 1_000)).gone).toEqual(['given-back'])
  })

  it('has its run ended where it was taken around the index, by one that died, and is removed before anybody takes it', async () => {
    await queue.add('job', {}, { jobId: 'around' })
    await redis.client.set(`${redis.keys.job('around')}:lock`, 'token')
    const store = new RunStore(redis.client, redis.keys)
    await store.acquire('around', { holder: 'c', fresh: record('around'), token: 'token' })
    expect((await ready.reconcile('h', 1_000)).gone).toEqual([])
    await redis.client.del(`${redis.keys.job('around')}:lock`)
    await queue.remove('around')
    expect((await ready.reconcile('h', 1_000)).gone).toEqual(['around'])
  })

  it('leaves nothing of where it stood once it has ended, also where the index that it was listed in is over', async () => {
    await enqueue('job')
    await redis.client.hset(`${redis.keys.ready()}:epoch`, redis.keys.queueName, '2')
    await ready.close('job', undefined, { ended: true })
    expect(await redis.client.hget(redis.keys.job('job'), 'sy')).toBeNull()
  })

  it('is counted once, and taken before all others, where it was removed while it was in hand and added anew', async () => {
    await setShares({ acme: { weight: 1, cap: 2 } })
    await enqueue('job', { tenant: 'acme', concurrency: { key: 'k' } })
    const one = consumer([limit('a', 1)])
    expect(await one.take()).toBe('job')
    await queue.remove('job')
    await enqueue('job', { tenant: 'acme', concurrency: { key: 'k' } })
    expect(await one.dispatch()).toMatchObject({ what: 'take', waited: 'job' })
    expect(await ready.tenant('acme')).toMatchObject({ running: 1 })
    await ready.close('job')
    expect(await ready.tenant('acme')).toMatchObject({ running: 0 })
  })

  it('is nothing while no place is free; the job stays in the queue', async () => {
    await enqueue('j1')
    await enqueue('j2')
    const one = consumer([limit('a', 1)])
    expect(await takeAll(one)).toEqual(['j1'])
    expect(await queue.getJobCountByTypes('prioritized')).toBe(1)
    await ready.close('j1')
    expect(await one.take()).toBe('j2')
  })

  it('passes over jobs that have no place now, and gives them the first that they can use', async () => {
    await enqueue('only-b', { providers: { allow: ['b'] } })
    await enqueue('any-1')
    await enqueue('any-2')
    const limits = [limit('a', 1), limit('b', 0)]
    const one = consumer(limits)
    expect(await takeAll(one)).toEqual(['any-1'])
    const more = consumer([limit('a', 1), limit('b', 1)])
    expect(await takeAll(more)).toEqual(['only-b'])
    await ready.close('only-b')
    expect(await takeAll(more)).toEqual(['any-2'])
  })

  it('counts what a job takes of a pool', async () => {
    await enqueue('big', { resources: { cpu: 3, memoryMiB: 1024 } })
    await enqueue('small', { resources: { cpu: 1, memoryMiB: 1024 } })
    await enqueue('last', { resources: { cpu: 1, memoryMiB: 1024 } })
    expect(await takeAll(consumer([limit('a', 10, { cpu: 4, memoryMiB: 8192 })]))).toEqual(['big', 'small'])
    expect(await ledger.loads()).toMatchObject([{ cpu: 4, memoryMiB: 2048 }])
  })

  it('keeps what becomes free of a pool for a job that smaller ones have passed for half a minute', async () => {
    const pool = consumer([limit('a', 10, { cpu: 4 })])
    for (const jobId of ['j1', 'j2', 'j3', 'j4']) await enqueue(jobId, { resources: { cpu: 1 } })
    await takeAll(pool)
    await enqueue('big', { resources: { cpu: 4 } })
    await enqueue('j5', { resources: { cpu: 1 } })
    await enqueue('j6', { resources: { cpu: 1 } })
    await ready.close('j1')
    expect(await pool.take()).toBe('j5')
    const passed = `${redis.keys.ready()}:q:${redis.keys.queueName}:1:passed`
    const client = redis.connect()
    for (const [field, since] of Object.entries(await client.hgetall(passed))) await client.hset(passed, field, Number(since) - 31_000)
    for (const jobId of ['j2', 'j3', 'j4']) await ready.close(jobId)
    expect(await pool.take()).toBeNull()
    await ready.close('j5')
    expect(await takeAll(pool)).toEqual(['big'])
    await ready.close('big')
    expect(await takeAll(pool)).toEqual(['j6'])
    expect(await client.exists(passed)).toBe(0)
  })

  it('takes a job that no provider can ever run without a place, so that it can say so', async () => {
    await enqueue('never', { providers: { allow: ['gone'] } })
    const one = consumer([limit('a', 0)])
    one.refused.set(constraintsOf(specOf({ providers: { allow: ['gone'] } })).id, 'gone is not configured')
    await until(async () => (await one.dispatch()).stand.kind === 'nobody', 'the grace to pass')
    expect(await redis.client.rpop(redis.keys.bullmq('wait'))).toBe('never')
    expect(await ledger.leaseOf('never')).toBeNull()
  })

  it('is none while the queue is paused', async () => {
    await enqueue('j1')
    await queue.pause()
    expect(await consumer([limit('a', 1)]).take()).toBeNull()
    await queue.resume()
    expect(await consumer([limit('a', 1)]).take()).toBe('j1')
  })

  it('drops what BullMQ does not hold any more', async () => {
    await enqueue('removed')
    await enqueue('stays')
    await queue.remove('removed')
    expect(await takeAll(consumer([limit('a', 5)]))).toEqual(['stays'])
    expect(await redis.client.hget(`${redis.keys.ready()}:listed`, redis.keys.queueName)).toBe('0')
  })

  it.each([
    ['as much', 'other providers', { providers: { allow: ['b'] } }],
    ['more', 'the same providers', { resources: { cpu: 2 } }],
  ])('gives the tenant’s next job where the first is gone, also one that needs %s, of %s', async (_, __, other) => {
    await enqueue('removed', { providers: { allow: ['a', 'b'] } })
    await enqueue('next', { providers: { allow: ['a', 'b'] }, ...other })
    await enqueue('last', { providers: { allow: ['a', 'b'] } })
    await queue.remove('removed')
    expect(await takeAll(consumer([limit('a', 5), limit('b', 5)]))).toEqual(['next', 'last'])
  })

  it('gives one that came under the id of one that was removed where it says itself, for its own tenant and in its own time', async () => {
    await enqueue('again', { providers: { allow: ['a'] }, tenant: 'before', waitTimeout: '1ms' })
    await enqueue('other', { providers: { allow: ['a'] }, tenant: 'before' })
    await queue.remove('again')
    await enqueue('again', { providers: { allow: ['b'] }, tenant: 'now' })
    const one = consumer([limit('a', 1), limit('b', 1)])
    expect((await takeAll(one)).sort()).toEqual(['again', 'other'])
    expect(await ledger.leaseOf('again')).toMatchObject({ provider: 'b' })
    expect(await ready.tenant('now')).toMatchObject({ running: 1 })
    for (const id of ['again', 'other']) await ready.close(id)
    expect(await redis.client.hget(`${redis.keys.ready()}:listed`, redis.keys.queueName)).toBe('0')
  })

  it('gives a job that was put back before all others, without another place', async () => {
    const one = consumer([limit('a', 1)])
    await enqueue('mine')
    expect(await one.take()).toBe('mine')
    await enqueue('next', { priority: 1 })
    await redis.client.zadd(redis.keys.bullmq('prioritized'), 5, 'mine')
    await ready.front('mine')
    expect(await one.take()).toBe('mine')
    expect(await ledger.loads()).toMatchObject([{ used: 1 }])
  })

  it('is chosen once when the answer is lost and the call repeated', async () => {
    await enqueue('j1')
    await enqueue('j2')
    await consumer([limit('a', 0)]).dispatch()
    const request = { holder: 'h', leaseId: 'same', limits: [limit('a', 5)], known: [], choice: 'most-free' as const, means: meansOf([limit('a', 5)]), graceMs: 1, idleMs: 0 }
    await ready.dispatch(request)
    expect(await ready.dispatch(request)).toMatchObject({ what: 'take' })
    await redis.client.rpop(redis.keys.bullmq('wait'))
    expect(await ready.dispatch(request)).toMatchObject({ what: 'nothing' })
    expect(await ledger.loads()).toMatchObject([{ used: 1 }])
  })
})

describe('tenants', () => {
  /** Takes and ends jobs one after the other; each is charged a second. */
  async function turns(from: ReturnType<typeof consumer>, count: number): Promise<string[]> {
    const order: string[] = []
    const client = redis.connect()
    for (let i = 0; i < count; i++) {
      const jobId = await from.take()
      if (jobId === null) break
      order.push(jobId.slice(0, 1))
      // It has used a second; what it really took would blur the proportion here, so its time goes on from later.
      await client.hset(`${redis.keys.ready()}:held`, jobId, `${Date.now() + 600_000} 1.000 1.000 2 ${redis.keys.queueName}:[]${jobId.slice(0, 1)}`)
      await ready.close(jobId)
    }
    return order
  }
  const many = async (tenant: string, count: number) => {
    for (let i = 0; i < count; i++) await enqueue(`${tenant}-${i}`, { tenant })
  }

  it('share by weight, whatever the length of their queues, and each gets turns all the time', async () => {
    await setShares({ a: { weight: 2 }, '*': { weight: 1 } })
    await many('a', 60)
    await many('b', 60)
    await many('c', 20)
    const order = await turns(consumer([limit('p', 1)]), 40)
    const count = (tenant: string) => order.filter((each) => each === tenant).length
    expect(count('a')).toBeGreaterThanOrEqual(19)
    expect(count('a')).toBeLessThanOrEqual(21)
    expect(Math.abs(count('b') - count('c'))).toBeLessThanOrEqual(1)
    for (let start = 0; start < 36; start += 4) expect(new Set(order.slice(start, start + 5)).size).toBe(3)
  })

  it('get what others leave', async () => {
    await setShares({ a: { weight: 1 }, b: { weight: 100 } })
    await many('a', 5)
    await many('b', 1)
    expect(await turns(consumer([limit('p', 1)]), 10)).toHaveLength(6)
  })

  it('that come back after a pause begin at the present, with no credit for the time before', async () => {
    await many('a', 30)
    const one = consumer([limit('p', 1)])
    await turns(one, 20)
    await many('b', 10)
    expect((await turns(one, 10)).filter((tenant) => tenant === 'b').length).toBeLessThanOrEqual(6)
  })

  it('have no more jobs running than their cap, and a job of theirs that moves keeps its place in it', async () => {
    await setShares({ a: { weight: 1, cap: 2 } })
    await many('a', 5)
    await many('b', 1)
    const one = consumer([limit('p', 10)])
    expect(await takeAll(one)).toEqual(['a-0', 'b-0', 'a-1'])
    // It gives its place up to go elsewhere, but is in hand still.
    const lease = await ledger.leaseOf('a-0')
    await ledger.release(lease!.leaseId)
    expect(await one.take()).toBeNull()
    await ready.close('a-0')
    expect(await one.take()).toBe('a-2')
  })

  it('are charged no more for a job whose place was freed because nobody had it any more', async () => {
    await setShares({ a: { weight: 1, cap: 1 } })
    await many('a', 2)
    const one = consumer([limit('p', 5)])
    expect(await one.take()).toBe('a-0')
    expect(await one.take()).toBeNull()
    const { leaseId } = (await ledger.leaseOf('a-0'))!
    expect(await new SlotOwners(redis.client, redis.keys).free({ leaseId, owner: { kind: 'job', runId: 'a-0' } })).toBe(true)
    expect(await one.take()).toBe('a-1')
  })

  it('leave nothing behind in Redis when their jobs have ended', async () => {
    await setShares({ '*': { weight: 1 } })
    for (const tenant of ['x', 'y', 'z']) await many(tenant, 3)
    const one = consumer([limit('p', 2)])
    for (let jobId = await one.take(); jobId !== null; jobId = await one.take()) await ready.close(jobId)
    const left = (await redis.client.keys(`${redis.keys.ready()}*`)).map((key) => key.slice(redis.keys.ready().length))
    // What kinds there were is known for a while (test/store/given-jobs.test.ts).
    const kinds = [':q:agents:1:demand', ':q:agents:1:empty', ':q:agents:1:shape', ':q:agents:1:shapes', ':q:agents:1:v:test:fit']
    expect(left.sort()).toEqual([...kinds, ':debt', ':listed', ':numbers', ':present', ':q:agents:1:mapped', ':q:agents:1:policy', ':q:agents:1:v:test:class', ':q:agents:1:views', ':q:agents:sweep', ':shares', ':tenant'].sort())
  })
})

describe('jobs that were added around the index', () => {
  it('are counted, found with whether they hold a place, and listed once', async () => {
    await enqueue('listed')
    await queue.add('job', {}, { jobId: 'around', priority: 5 })
    await queue.add('job', {}, { jobId: 'placed', priority: 5 })
    await ledger.reserve({ leaseId: 'l', holder: 'h', candidates: [limit('a', 1)], demand: { cpu: 0, memoryMiB: 0 }, ttlMs: 60_000 })
    await ledger.bind('l', 'placed')
    const full = consumer([limit('a', 1)])
    expect(await full.dispatch()).toMatchObject({ what: 'nothing' })
    const { missing } = await ready.reconcile('h', 1_000)
    expect(new Set(missing.map(({ jobId, placed }) => `${jobId} ${placed}`))).toEqual(new Set(['around false', 'placed true']))
    expect(await ready.add([{ jobId: 'around', spec: specOf() }, { jobId: 'listed', spec: specOf() }, { jobId: 'unknown', spec: specOf() }])).toEqual({ added: 1, superseded: [], stay: [] })
    await ready.front('placed')
    expect(await full.dispatch()).toMatchObject({ what: 'take', waited: 'placed' })
  })
})

describe('the end of a job in hand', () => {
  const event = { id: 'done.1' }
  async function begun(jobId: string, holder: string) {
    const store = new RunStore(redis.client, redis.keys)
    const acquired = await store.acquire(jobId, { holder, fresh: record(jobId) })
    if (acquired.kind !== 'acquired') throw new Error('it has ended')
    const end = (taker: { holder: string; viewId: string } | null) => store.finishAndClose(jobId, acquired.fence, record(jobId), result(jobId), event, [], taker)
    return { store, fence: acquired.fence, end }
  }
  const waiting = () => redis.client.lrange(redis.keys.bullmq('wait'), '0', '-1')

  it('brings the next one along for who ended it, with its place, and is written once', async () => {
    for (const jobId of ['j1', 'j2', 'j3']) await enqueue(jobId)
    const one = consumer([limit('a', 1)], 'one')
    expect(await one.take()).toBe('j1')
    const { end, store, fence } = await begun('j1', 'one')
    expect(await end({ holder: 'one', viewId: 'test' })).toEqual({ jobId: 'j2', provider: 'a' })
    expect([await ledger.leaseOf('j1'), await ledger.leaseOf('j2')]).toMatchObject([null, { provider: 'a' }])
    expect(await waiting()).toEqual(['j2'])
    // Its answer was lost: sent again, it changes nothing.
    expect(await end({ holder: 'one', viewId: 'test' })).toBeNull()
    expect(await waiting()).toEqual(['j2'])
    expect((await store.read('j1'))?.result).toEqual(result('j1'))
    expect(await redis.client.xlen(redis.keys.events())).toBe(1)
    await expect(store.save('j1', fence, record('j1'))).rejects.toThrow(FenceLostError)
    // Nobody is told of what the caller takes.
    expect(await redis.client.exists(redis.keys.inbox('one'))).toBe(0)
  })

  it('leaves nothing of one that was to be taken as it is: run again, it is listed as any other', async () => {
    const client = redis.connect()
    await enqueue('j1')
    await ready.front('j1', { asItIs: true })
    const one = consumer([limit('a', 1)], 'one')
    expect(await one.dispatch()).toMatchObject({ what: 'take', waited: 'j1', unlisted: [] })
    await client.del(redis.keys.bullmq('wait'))
    await (await begun('j1', 'one')).end(null)
    // As BullMQ's `retry` puts one of priority 0 back.
    await client.rpush(redis.keys.bullmq('wait'), 'j1')
    expect(await one.dispatch()).toMatchObject({ what: 'nothing', waited: null, unlisted: ['j1'] })
  })

  it('leaves nothing either where whoever takes it finds it ended', async () => {
    const client = redis.connect()
    await enqueue('j1')
    await ready.front('j1', { asItIs: true })
    const one = consumer([limit('a', 1)], 'one')
    expect(await one.dispatch()).toMatchObject({ what: 'take', waited: 'j1' })
    await ready.close('j1')
    expect(await client.hget(redis.keys.job('j1'), 'sy')).toBe('-')
    await ready.close('j1', undefined, { ended: true })
    expect(await client.hexists(redis.keys.job('j1'), 'sy')).toBe(0)
    // Nor where it gives its place back before its run ends.
    await ready.front('j1', { asItIs: true })
    const { fence } = await begun('j1', 'one')
    await ready.close('j1', fence, { goesOn: true })
    expect(await client.hexists(redis.keys.job('j1'), 'sy')).toBe(0)
    // Nor where somebody has taken it just now.
    await client.set(`${redis.keys.job('j1')}:lock`, 'token')
    await ready.front('j1', { asItIs: true })
    expect(await client.hexists(redis.keys.job('j1'), 'sy')).toBe(0)
    await client.del(`${redis.keys.job('j1')}:lock`)
    // Nor where BullMQ was told of its end by somebody else.
    await client.hset(redis.keys.job('j1'), 'finishedOn', '1')
    await ready.front('j1', { asItIs: true })
    expect(await client.hexists(redis.keys.job('j1'), 'sy')).toBe(0)
  })

  it('is refused to who has lost the job, whose place stays', async () => {
    await enqueue('j1')
    await enqueue('j2')
    expect(await consumer([limit('a', 1)], 'one').take()).toBe('j1')
    const old = await begun('j1', 'one')
    await begun('j1', 'two')
    await expect(old.end({ holder: 'one', viewId: 'test' })).rejects.toThrow(FenceLostError)
    expect([await ledger.leaseOf('j1'), await ledger.leaseOf('j2'), await waiting()]).toMatchObject([{ provider: 'a' }, null, []])
  })

  it('goes to an idler consumer, which is told, and to nobody where there is none to take it', async () => {
    for (const jobId of ['j1', 'j2', 'j3']) await enqueue(jobId)
    const [one, two] = [consumer([limit('a', 1)], 'one'), consumer([limit('a', 1)], 'two')]
    expect(await one.take()).toBe('j1')
    expect((await two.dispatch(60_000)).what).toBe('nothing')
    expect(await (await begun('j1', 'one')).end({ holder: 'one', viewId: 'test' })).toBeNull()
    const told = await redis.client.lrange(redis.keys.inbox('two'), '0', '-1')
    expect([await waiting(), told.map((text) => JSON.parse(text) as object)]).toEqual([['j2'], [{ kind: 'work', given: { jobId: 'j2', provider: 'a', idle: false } }]])
    await redis.client.del(redis.keys.bullmq('wait'))
    // Nobody is idle now, and the caller takes no more: the job waits for whoever looks.
    expect(await (await begun('j2', 'two')).end(null)).toBeNull()
    expect([await waiting(), await ledger.leaseOf('j3')]).toEqual([[], null])
    expect(await one.take()).toBe('j3')
  })

  it('brings nothing along while the queue is paused, or has as many active jobs as it may', async () => {
    for (const jobId of ['j1', 'j2', 'j3']) await enqueue(jobId)
    const one = consumer([limit('a', 1)], 'one')
    expect(await one.take()).toBe('j1')
    await queue.pause()
    expect(await (await begun('j1', 'one')).end({ holder: 'one', viewId: 'test' })).toBeNull()
    await queue.resume()
    expect(await one.take()).toBe('j2')
    await queue.setGlobalConcurrency(1)
    await redis.client.lpush(redis.keys.bullmq('active'), 'j2')
    expect(await (await begun('j2', 'one')).end({ holder: 'one', viewId: 'test' })).toBeNull()
    expect([await waiting(), await ledger.leaseOf('j3')]).toEqual([[], null])
  })
})

describe('idle consumers', () => {
  const messages = async (holder: string) => (await redis.client.lrange(redis.keys.inbox(holder), 0, -1)).map((text) => JSON.parse(text) as object)

  it('are woken one for each place that becomes free while jobs wait, and not otherwise', async () => {
    await enqueue('j1')
    await enqueue('j2')
    const limits = [limit('a', 1)]
    const [first, second] = [consumer(limits, 'first'), consumer(limits, 'second')]
    expect(await first.take()).toBe('j1')
    await first.dispatch(60_000)
    await second.dispatch(60_000)
    await ready.close('j1')
    const woken = [...(await messages('first')), ...(await messages('second'))]
    expect(woken).toEqual([{ kind: 'work', given: { jobId: 'j2', provider: 'a', idle: false } }])
    expect(await first.take()).toBe('j2')
    await ready.close('j2')
    expect([...(await messages('first')), ...(await messages('second'))]).toHaveLength(1)
  })
})

describe('many consumers at once', () => {
  it.each([1, 2, 3])('take every job once, never more than there are places or a cap allows, and leave all places free (seed %i)', async (seed) => {
    const next = random(seed)
    const limits = [limit('a', 3, { cpu: 4 }), limit('b', 2)]
    await setShares({ capped: { weight: 3, cap: 2 } })
    const tenants = ['capped', 'x', 'y']
    const jobs = Array.from({ length: 60 }, (_, index) => ({
      jobId: `job-${index}`,
      spec: { tenant: tenants[Math.floor(next() * 3)]!, priority: 1 + Math.floor(next() * 3), resources: { cpu: 1 + Math.floor(next() * 2) }, ...(next() < 0.3 ? { providers: { allow: ['b'] } } : {}) },
    }))
    for (const { jobId, spec } of jobs) await enqueue(jobId, spec)
    const taken: string[] = []
    const open = new Map<string, string>()
    const problems: string[] = []
    await Promise.all(
      Array.from({ length: 4 }, async () => {
        const own = consumer(limits)
        while (taken.length < jobs.length) {
          const jobId = await own.take()
          if (jobId === null) {
            await new Promise((resolve) => setTimeout(resolve, 1))
            continue
          }
          taken.push(jobId)
          open.set(jobId, jobs.find((job) => job.jobId === jobId)!.spec.tenant)
          if ([...open.values()].filter((tenant) => tenant === 'capped').length > 2) problems.push('over the cap')
          if (open.size > 5) problems.push('over the limit')
          await new Promise((resolve) => setTimeout(resolve, next() * 5))
          open.delete(jobId)
          await ready.close(jobId)
        }
      }),
    )
    expect(problems).toEqual([])
    expect(taken.toSorted()).toEqual(jobs.map(({ jobId }) => jobId).toSorted())
    expect(await ledger.loads()).toMatchObject([{ used: 0, cpu: 0 }, { used: 0, cpu: 0 }])
  })
})
