import { Queue, Worker } from 'bullmq'
import { beforeEach, describe, expect, it } from 'vitest'
import { constraintsOf } from '../../src/job/constraints.js'
import { type JobSpecInput, parseJobSpec } from '../../src/job/spec.js'
import { Budgets, type Dispatched, type ProviderLimit, ReadyJobs, RunStore, setBudget } from '../../src/store/index.js'
import { after, record, result, useRedis } from './fixture.js'

// What a tenant's budget can't pay for waits in the index: nobody chooses it until that may have more. The random walks are in dispatch-model.test.ts.
const redis = useRedis()
let client: ReturnType<typeof redis.connect>
let queue: Queue
let ready: ReadyJobs
let budgets: Budgets
let store: RunStore
beforeEach(async () => {
  client = redis.connect()
  queue = new Queue(redis.keys.queueName, { connection: client, prefix: redis.keys.prefix })
  after(() => queue.close())
  await queue.waitUntilReady()
  ready = new ReadyJobs(client, redis.keys)
  budgets = new Budgets(client, redis.keys, { timeZone: 'UTC', currency: 'USD', now: Date.now, configured: new Map([['acme', 100]]) })
  store = new RunStore(client, redis.keys)
})

const limits: readonly ProviderLimit[] = [{ provider: 'a', sandboxes: 9 }]
let leases = 0
async function look(viewId = 'v'): Promise<Dispatched> {
  let known: Parameters<ReadyJobs['dispatch']>[0]['known'] = []
  for (;;) {
    const found = await ready.dispatch({ holder: 'c', leaseId: `l${leases++}`, limits, known, choice: 'given', means: { profileId: 'p', viewId, providers: ['a'], secrets: [], shares: false }, graceMs: 600_000, idleMs: 0 })
    known = found.unknown.map(({ id, number }) => ({ id, number, can: [['a']] }))
    if (found.what === 'take') await client.rpop(redis.keys.bullmq('wait'))
    if (found.what === 'take' || (found.what === 'nothing' && known.length === 0)) return found
  }
}
const taken = async (viewId?: string) => (await look(viewId)).jobId

const specOf = (more: Partial<JobSpecInput> = {}) => parseJobSpec({ repository: 'acme/web', steps: ['true'], tenant: 'acme', ...more })
async function enqueue(jobId: string, more: Partial<JobSpecInput> = {}): Promise<void> {
  const spec = specOf(more)
  await queue.add('job', { spec }, { jobId, priority: 1 })
  await ready.add([{ jobId, spec }])
}

async function fenceOf(jobId: string): Promise<number> {
  return ((await store.acquire(jobId, { holder: 'c', fresh: record(jobId) })) as { fence: number }).fence
}
async function refused(jobId: string, wanted = 101): Promise<{ stamp: string; dayEndsAtMs: number }> {
  return await budgets.cover(jobId, { fence: await fenceOf(jobId), tenant: 'acme', jobCap: undefined, ended: {}, attempt: { number: 1, cost: 0, wanted, forMs: 60_000 } })
}
const hold = async ({ stamp, untilMs = Date.now() + 86_400_000, viewId = 'v', spec = specOf() }: { stamp: string; untilMs?: number; viewId?: string; spec?: ReturnType<typeof specOf> }) =>
  await ready.hold(spec, viewId, { why: 'waits for acme', untilMs, stamp, days: budgets.days() })
const audit = { by: 'operator', name: '', action: 'setTenantBudget', targets: [], count: 1, status: 200 }
const whyOf = async (spec = specOf()) => (await ready.unpaid([{ tenant: spec.tenant, constraints: constraintsOf(spec).id }]))[0]

/** Three jobs alike wait; the first was taken, and was refused. */
async function oneRefused(): Promise<{ stamp: string; dayEndsAtMs: number }> {
  for (const id of ['j1', 'j2', 'j3']) await enqueue(id)
  expect(await taken()).toBe('j1')
  const found = await refused('j1')
  expect(await hold({ stamp: found.stamp })).toBe(true)
  await ready.close('j1')
  expect(await taken()).toBeNull()
  return found
}

describe('jobs whose tenant’s budget can’t pay for any of them', () => {
  it('are not chosen, nor are those that come after them; what costs less, another tenant’s and what another view would place are', async () => {
    await oneRefused()
    await enqueue('j4')
    await enqueue('short', { timeout: '1m' })
    await enqueue('other', { tenant: 'globex' })
    expect([await taken(), await taken(), await taken()].sort()).toEqual(['other', 'short', null].sort())
    expect([await whyOf(), await whyOf(specOf({ timeout: '1m' })), await whyOf(specOf({ tenant: 'globex' }))]).toEqual(['waits for acme', null, null])
    expect(await taken('w')).toBe('j2')
  })

  it.each<[string, () => Promise<unknown>]>([
    ['the tenant’s budget is changed', () => setBudget(client, redis.keys, { tenant: 'acme' }, 200, 'anna', audit)],
    ['that of everybody is', () => setBudget(client, redis.keys, { tenant: '*' }, 200, 'anna', audit)],
    ['it is configured anew', () => new Budgets(client, redis.keys, { timeZone: 'UTC', currency: 'USD', now: Date.now, configured: new Map([['acme', 300]]) }).watch()],
    ['the day has turned', () => client.zadd(`${redis.keys.ready()}:paying:day`, 'XX', Date.now() - 1, 'acme')],
    [
      'something comes free that was reserved',
      async () => {
        const fence = await fenceOf('runs')
        await budgets.cover('runs', { fence, tenant: 'acme', jobCap: undefined, ended: {}, attempt: { number: 1, cost: 0, wanted: 90, forMs: 60_000 } })
        await store.finish('runs', fence, record('runs', { phase: 'ended', budgeted: true }), result('runs', { tenant: 'acme', usage: { sandboxSeconds: 1, cost: { micros: 1, currency: 'USD' } } }), JSON.stringify({ id: 'runs.end' }))
      },
    ],
  ])('are looked at again when %s, and nothing is left of it', async (_what, happens) => {
    await oneRefused()
    await happens()
    expect([await taken(), await taken(), await taken()]).toEqual(['j2', 'j3', null])
    expect(await whyOf()).toBeNull()
    expect([...(await client.keys('*:unpaid*')), ...(await client.keys('*:paying*'))]).toEqual([])
  })

  it('are left where they are when another tenant’s budget is changed, or a job’s', async () => {
    await oneRefused()
    await setBudget(client, redis.keys, { tenant: 'globex' }, 200, 'anna', audit)
    await setBudget(client, redis.keys, { jobId: 'j3' }, 200, 'anna', audit)
    expect([await taken(), await whyOf()]).toEqual([null, 'waits for acme'])
    // Held by others of those budgets, too.
    await setBudget(client, redis.keys, { tenant: '*' }, 90, 'anna', audit)
    expect(await taken()).toBe('j2')
    expect(await hold({ stamp: (await refused('j2')).stamp })).toBe(true)
    await setBudget(client, redis.keys, { tenant: 'globex' }, 300, 'anna', audit)
    expect(await taken()).toBeNull()
    await setBudget(client, redis.keys, { tenant: 'acme' }, 300, 'anna', audit)
    expect([await taken(), await taken(), await whyOf()]).toEqual(['j3', null, null])
    expect([...(await client.keys('*:unpaid*')), ...(await client.keys('*:paying*'))]).toEqual([])
  })

  it('are held again by the next that is refused, for what has come of others meanwhile too', async () => {
    await oneRefused()
    await setBudget(client, redis.keys, { tenant: 'acme' }, 90, 'anna', audit)
    expect(await taken()).toBe('j2')
    expect(await hold({ stamp: (await refused('j2')).stamp })).toBe(true)
    expect(await taken()).toBeNull()
    // Of another shape, held before what frees them both.
    await enqueue('big', { resources: { cpu: 4 } })
    expect(await taken()).toBe('big')
    const { stamp } = await refused('big')
    await enqueue('big 2', { resources: { cpu: 4 } })
    await client.zadd(`${redis.keys.ready()}:paying:version`, 'XX', -1, 'acme')
    expect(await hold({ stamp, spec: specOf({ resources: { cpu: 4 } }) })).toBe(true)
    expect([await taken(), await taken()].sort()).toEqual(['big 2', 'j3'])
  })

  it('are not held by budgets that were changed since, nor where nothing waits', async () => {
    for (const id of ['j1', 'j2']) await enqueue(id)
    expect(await taken()).toBe('j1')
    const { stamp } = await refused('j1')
    expect(await hold({ stamp, spec: specOf({ timeout: '7m' }) })).toBe(false)
    await setBudget(client, redis.keys, { tenant: 'acme' }, 200, 'anna', audit)
    expect(await hold({ stamp })).toBe(false)
    expect(await taken()).toBe('j2')
    expect(await client.keys('*:unpaid*')).toEqual([])
  })

  it('end when their time to wait is over, and one that has a run is given whatever it needs', async () => {
    await oneRefused()
    await enqueue('late', { waitTimeout: '1m' })
    await client.zadd(`${redis.keys.ready()}:q:${redis.keys.queueName}:1:deadline`, 'XX', 1, 'late')
    expect(await look()).toMatchObject({ what: 'take', jobId: 'late', stand: { kind: 'overdue' } })
    const spec = specOf()
    await queue.add('job', { spec }, { jobId: 'begun', priority: 1 })
    await ready.add([{ jobId: 'begun', spec, begun: true }])
    expect([await taken(), await taken()]).toEqual(['begun', null])
  })

  it('wait for their turn when they are put back, also with priority 0', async () => {
    const worker = new Worker(queue.name, null, { connection: redis.connect(), prefix: redis.keys.prefix, autorun: false })
    after(() => worker.close(true))
    for (const jobId of ['j1', 'j2']) await queue.add('job', { spec: specOf() }, { jobId })
    await ready.add(['j1', 'j2'].map((jobId) => ({ jobId, spec: specOf() })), { strays: true })
    expect((await ready.dispatch({ holder: 'c', leaseId: 'l', limits, known: [{ id: constraintsOf(specOf()).id, number: 1, can: [['a']] }], choice: 'given', means: { profileId: 'p', viewId: 'v', providers: ['a'], secrets: [], shares: false }, graceMs: 600_000, idleMs: 0 })).jobId).toBe('j1')
    const job = (await worker.getNextJob('t', { block: false }))
    await fenceOf('j1')
    await ready.close('j1', undefined, { goesOn: true })
    await job.moveToDelayed(Date.now() + 3_600_000, 't')
    await job.promote()
    expect(await job.getState()).toBe('prioritized')
    const { missing } = await ready.reconcile('r', 1)
    expect(missing).toContainEqual({ jobId: 'j1', placed: false })
    await ready.add([{ jobId: 'j1', spec: specOf(), begun: true }], { strays: true })
    // Given that once more while it waits, it is to be listed anew, and not taken as one that somebody has given back.
    await job.changePriority({ priority: 0 })
    expect(await job.getState()).toBe('waiting')
    expect(await look()).toMatchObject({ jobId: 'j2', waited: null, unlisted: ['j1'] })
    await ready.add([{ jobId: 'j1', spec: specOf(), begun: true }], { strays: true })
    expect(await taken()).toBe('j1')
  })

  it('cost nothing, however many wait', async () => {
    await oneRefused()
    // Those of scripts too. The first look of a second does more.
    const commands = async () => Math.min(await once(), await once(), await once())
    const once = async () => {
      const processed = async () => Number(/total_commands_processed:(\d+)/.exec(await client.info('stats'))?.[1])
      const before = await processed()
      expect((await look()).what).toBe('nothing')
      return (await processed()) - before
    }
    const withTwo = await commands()
    const ids = Array.from({ length: 400 }, (_, n) => `more ${n}`)
    const spec = specOf()
    await queue.addBulk(ids.map((jobId) => ({ name: 'job', data: { spec }, opts: { jobId, priority: 1 } })))
    await ready.add(ids.map((jobId) => ({ jobId, spec })))
    expect(await commands()).toBe(withTwo)
    expect(withTwo).toBeGreaterThan(5)
    expect(await client.hlen(`${redis.keys.ready()}:held`)).toBe(0)
  })
})
