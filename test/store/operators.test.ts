import { Queue } from 'bullmq'
import { beforeEach, describe, expect, it } from 'vitest'
import { parseJobSpec } from '../../src/job/spec.js'
import { AgentQueue } from '../../src/producers/index.js'
import { describeLoad, type Dispatched, Operators, readAudit, ReadyJobs, Roster, SlotLedger, tenantLoads, type ProviderLimit } from '../../src/store/index.js'
import { after, passLedgerTime, until, useRedis } from './fixture.js'

const redis = useRedis()
let queue: Queue
let ready: ReadyJobs
let ledger: SlotLedger
let operators: Operators
let client: ReturnType<typeof redis.connect>
beforeEach(async () => {
  client = redis.connect()
  queue = new Queue(redis.keys.queueName, { connection: client, prefix: redis.keys.prefix })
  after(() => queue.close())
  await queue.waitUntilReady()
  ready = new ReadyJobs(client, redis.keys)
  ledger = new SlotLedger(client, redis.keys)
  operators = new Operators(client, redis.keys)
})

const limits: readonly ProviderLimit[] = [{ provider: 'a', sandboxes: 4 }, { provider: 'b', sandboxes: 4 }]
const saying = (more: { reason?: string; forMs?: number } = {}) => ({ by: 'anna', ...more, audit: { by: 'operator', name: 'anna', action: 'test', targets: ['x'], count: 1, status: 200 } })
let leases = 0

async function look(providers: readonly string[] = ['a', 'b'], idleMs = 0): Promise<Dispatched> {
  let known: Parameters<ReadyJobs['dispatch']>[0]['known'] = []
  for (;;) {
    const means = { profileId: 'p', viewId: 'v', providers, secrets: [], shares: false }
    const found = await ready.dispatch({ holder: 'c', leaseId: `l${leases++}`, limits: limits.filter(({ provider }) => providers.includes(provider)), known, choice: 'given', means, graceMs: 600_000, idleMs })
    known = found.unknown.map(({ id, number, json }) => {
      const { allow } = (JSON.parse(json) as { providers: { allow?: string[] } }).providers
      return { id, number, can: [providers.filter((name) => allow?.includes(name) ?? true)] }
    })
    if (found.what === 'take') await client.rpop(redis.keys.bullmq('wait'))
    if (found.what === 'take' || (found.what === 'nothing' && known.length === 0)) return found
  }
}

async function enqueue(jobId: string, tenant: string, allow?: readonly string[]): Promise<void> {
  const spec = parseJobSpec({ repository: 'acme/web', steps: ['true'], tenant, ...(allow === undefined ? {} : { providers: { allow: [...allow] } }) })
  await queue.add('job', { spec }, { jobId, priority: 1 })
  await ready.add([{ jobId, spec }])
}

const pass = async (ms: number) => await passLedgerTime(client, redis.keys, ms)

const loadOf = async (name: string) => (await ledger.loads()).find(({ provider }) => provider === name)!

describe('a provider that is drained', () => {
  it('gets no new sandbox, keeps what runs there, says why, and goes on when it is resumed', async () => {
    await enqueue('j1', 't', ['a'])
    expect(await look()).toMatchObject({ what: 'take', jobId: 'j1', provider: 'a' })
    await enqueue('j2', 't', ['a'])
    const first = await operators.drain('a', { move: false }, saying({ reason: 'maintenance' }))
    expect(first).toMatchObject({ outcome: 'changed', before: null, after: { by: 'anna', reason: 'maintenance', untilMs: null, move: false } })
    expect(await look()).toMatchObject({ what: 'nothing', opensInMs: null })
    expect(describeLoad(await loadOf('a'))).toBe('a drained by anna: maintenance')
    expect(await loadOf('a')).toMatchObject({ used: 1, limit: 4, effectiveLimit: 4 })
    // Nor for a job in hand that moves.
    expect(await ledger.reserve({ leaseId: 'm', holder: 'c', candidates: [limits[0]!], demand: { cpu: 0, memoryMiB: 0 }, ttlMs: 60_000 })).toMatchObject({ provider: null })
    expect(await operators.drain('a', { move: false }, saying())).toMatchObject({ outcome: 'same', after: first!.after })
    expect(await operators.drain('a', null, saying())).toMatchObject({ outcome: 'changed', before: first!.after, after: null })
    expect(await operators.drain('a', null, saying())).toMatchObject({ outcome: 'same', before: null, after: null })
    expect(await look()).toMatchObject({ what: 'take', jobId: 'j2', provider: 'a' })
  })

  it('is taken into account by its end alone, which whoever looks is told', async () => {
    await enqueue('j1', 't', ['a'])
    await ledger.reserve({ leaseId: 'x', holder: 'c', candidates: limits, demand: { cpu: 0, memoryMiB: 0 }, ttlMs: 60_000 })
    await operators.drain('a', { move: true }, saying({ forMs: 120_000 }))
    const { opensInMs } = await look()
    expect(opensInMs).toBeGreaterThan(0)
    expect(opensInMs).toBeLessThanOrEqual(120_000)
    expect(await loadOf('a')).toMatchObject({ drain: { move: true, by: 'anna' } })
    await pass(120_000)
    expect((await loadOf('a')).drain).toBeNull()
    expect(await look()).toMatchObject({ what: 'take', jobId: 'j1', provider: 'a' })
  })

  it('wakes consumers when it is resumed', async () => {
    await look()
    await operators.drain('a', { move: false }, saying())
    await operators.drain('b', { move: false }, saying())
    for (const id of ['j1', 'j2']) await enqueue(id, 't')
    expect(await look(['a', 'b'], 60_000)).toMatchObject({ what: 'nothing', idle: true })
    await client.del(redis.keys.inbox('c'))
    await operators.drain('a', null, saying())
    expect(await client.lrange(redis.keys.inbox('c'), 0, -1)).toEqual(['{"kind":"work"}'])
  })

  it('is none that nobody has', async () => {
    expect(await operators.drain('nope', { move: false }, saying())).toBeNull()
    expect(await operators.limit('nope', 3, saying())).toBeNull()
    expect(await client.exists(`${redis.keys.ledger()}:provider:nope`)).toBe(0)
    expect(await readAudit(client, redis.keys, null, 10)).toEqual([])
  })
})

describe('another limit than the configured one', () => {
  it('holds in every consumer, beside the configured one, whatever these configure, and until it is reset', async () => {
    for (const id of ['j1', 'j2', 'j3', 'j4', 'j5']) await enqueue(id, 't', ['a'])
    await look()
    expect(await operators.limit('a', 2, saying({ reason: 'incident' }))).toMatchObject({ outcome: 'changed', before: null, after: { limit: 2 }, configured: 4 })
    expect(await look()).toMatchObject({ what: 'take' })
    expect(await look()).toMatchObject({ what: 'nothing' })
    expect(await loadOf('a')).toMatchObject({ limit: 2, configuredLimit: 4, effectiveLimit: 2, used: 2, set: { limit: 2, by: 'anna' } })
    expect(describeLoad(await loadOf('a'))).toBe('a full (2/2; limited to 2 of 4 by anna: incident)')
    expect(await operators.limit('a', 2, saying())).toMatchObject({ outcome: 'same' })
    // What is over a lower one stays.
    expect(await operators.limit('a', 1, saying())).toMatchObject({ outcome: 'changed', before: { limit: 2 }, after: { limit: 1 } })
    expect(await loadOf('a')).toMatchObject({ used: 2, limit: 1 })
    expect(await operators.limit('a', 9, saying({ forMs: 60_000 }))).toMatchObject({ after: { limit: 9 } })
    expect(await look()).toMatchObject({ what: 'take' })
    await pass(60_000)
    expect(await loadOf('a')).toMatchObject({ limit: 4, set: null })
    expect(await operators.limit('a', null, saying())).toMatchObject({ outcome: 'same', after: null })
  })
})

describe('a tenant that is paused', () => {
  it('has none of its jobs begun, costs nothing while others go on, and goes on when it is resumed', async () => {
    const many = 40
    for (let i = 0; i < many; i++) await enqueue(`p${i}`, 'paused', i % 2 === 0 ? ['a'] : ['b'])
    expect(await operators.pauseTenant('paused', true, saying({ reason: 'leak' }))).toMatchObject({ outcome: 'changed', after: { by: 'anna', reason: 'leak' } })
    expect(await operators.pauseTenant('paused', true, saying())).toMatchObject({ outcome: 'same' })
    await enqueue('o1', 'other')
    expect(await look()).toMatchObject({ what: 'take', jobId: 'o1' })
    expect(await look()).toMatchObject({ what: 'nothing' })
    // Nothing of it is listed for anybody to look at.
    expect(await client.zcard(`${redis.keys.ready()}:at:a`)).toBe(0)
    // The end of a job of its own changes nothing.
    expect(await ready.tenant('paused')).toMatchObject({ running: 0, pause: { by: 'anna' } })
    expect((await tenantLoads(client, redis.keys, ['paused'])).tenants[0]).toMatchObject({ pause: { reason: 'leak' } })
    expect(await operators.pauseTenant('paused', false, saying())).toMatchObject({ outcome: 'changed', after: null })
    expect(await operators.pauseTenant('paused', false, saying())).toMatchObject({ outcome: 'same' })
    const taken = []
    for (let i = 0; i < 7; i++) taken.push((await look()).jobId)
    expect(taken.every((id) => id?.startsWith('p'))).toBe(true)
    expect(await look()).toMatchObject({ what: 'nothing' })
  })

  it('is so no more when its time is over, and somebody is told', async () => {
    await enqueue('j1', 't')
    await operators.pauseTenant('t', true, saying({ forMs: 30_000 }))
    expect(await look(['a', 'b'], 60_000)).toMatchObject({ what: 'nothing', idle: true })
    await pass(30_000)
    expect((await operators.tenantsOf(['t'])).get('t')).toMatchObject({ pause: null })
    await ready.reconcile('c', 1_000)
    expect(await client.exists(`${redis.keys.ready()}:set`, `${redis.keys.ready()}:lapses`)).toBe(0)
    expect(await client.llen(redis.keys.inbox('c'))).toBe(1)
    expect(await look()).toMatchObject({ what: 'take', jobId: 'j1' })
  })

  it('is known, or said to be new', async () => {
    expect(await operators.pauseTenant('new', true, saying())).toBe('unknown')
    expect(await operators.shareTenant('new', { weight: 2 }, saying())).toBe('unknown')
    expect(await operators.pauseTenant('new', true, saying(), true)).toMatchObject({ outcome: 'changed' })
    await enqueue('j1', 'new')
    expect(await look()).toMatchObject({ what: 'nothing' })
  })

  it('jobs without a tenant are not those of one called "*"', async () => {
    await operators.pauseTenant('*', true, saying(), true)
    await queue.add('job', {}, { jobId: 'j1', priority: 1 })
    await ready.add([{ jobId: 'j1', spec: parseJobSpec({ repository: 'acme/web', steps: ['true'] }) }])
    expect(await look()).toMatchObject({ what: 'take', jobId: 'j1' })
  })
})

it('another share holds at once, beside those that consumers configure, and its cap too', async () => {
  const roster = new Roster(client, redis.keys)
  const announce = async (weight: number) =>
    await roster.announce({ consumer: 'c', profileId: 'p', profile: { queue: redis.keys.queueName, release: '1', providers: ['a', 'b'], secrets: [] }, troubles: [], startedAtMs: 1, shares: { shares: { t: { weight, cap: 5 } }, sinceMs: null } }, 60_000)
  await announce(1)
  for (let i = 0; i < 6; i++) await enqueue(`j${i}`, 't')
  expect(await operators.shareTenant('t', { weight: 3, cap: 1 }, saying())).toMatchObject({ outcome: 'changed', before: null, after: { weight: 3, cap: 1 } })
  expect(await operators.shareTenant('t', { weight: 3, cap: 1 }, saying())).toMatchObject({ outcome: 'same' })
  await announce(2)
  expect(await look()).toMatchObject({ what: 'take' })
  expect(await look()).toMatchObject({ what: 'nothing' })
  expect((await tenantLoads(client, redis.keys, ['t'])).tenants).toMatchObject([{ weight: 3, cap: 1, running: 1, set: { by: 'anna' } }])
  // A cap that is raised lets those go that wait for it.
  await operators.shareTenant('t', null, saying())
  expect((await tenantLoads(client, redis.keys, ['t'])).tenants).toMatchObject([{ weight: 2, cap: 5, set: null }])
  for (let i = 0; i < 4; i++) expect(await look()).toMatchObject({ what: 'take' })
  expect(await look()).toMatchObject({ what: 'nothing' })
})

it('weighs what is used by the share that was said', async () => {
  for (const tenant of ['x', 'y']) for (let i = 0; i < 12; i++) await enqueue(`${tenant}${i}`, tenant, ['a'])
  await operators.shareTenant('x', { weight: 3 }, saying())
  const order: string[] = []
  for (let i = 0; i < 8; i++) {
    const { jobId } = await look()
    order.push(jobId![0]!)
    await client.del(redis.keys.job(jobId!))
    // Each takes its tenant's mean.
    await pass(1_000)
    await ready.close(jobId!)
  }
  expect(order.filter((tenant) => tenant === 'x').length).toBeGreaterThanOrEqual(5)
  expect(order).toContain('y')
})

it('each change is in the audit log once, with how it was and how it is, and what changed nothing is not', async () => {
  await look()
  await operators.limit('a', 2, saying())
  await operators.limit('a', 2, saying())
  await operators.limit('a', null, saying())
  await operators.pauseTenant('t', true, saying(), true)
  const entries = await readAudit(client, redis.keys, null, 10)
  expect(entries.map(({ before, after: now }) => [before ?? null, now ?? null])).toMatchObject([[null, { by: 'anna' }], [{ limit: 2 }, null], [null, { limit: 2 }]])
  expect(entries[0]).toMatchObject({ by: 'operator', name: 'anna', targets: ['x'], count: 1, status: 200 })
})

it('survives that every consumer goes away', async () => {
  await look()
  await operators.drain('a', { move: false }, saying({ reason: 'x' }))
  await operators.pauseTenant('t', true, saying(), true)
  const other = new Operators(redis.client, redis.keys)
  await until(async () => (await other.tenants()).size === 1, 'the pause is there')
  expect((await new SlotLedger(redis.client, redis.keys).loads()).find(({ provider }) => provider === 'a')).toMatchObject({ drain: { by: 'anna' } })
})

describe('a queue that is paused for a time', () => {
  const paused = async () => [await queue.isPaused(), (await operators.queuePause())?.reason ?? null]
  const word = (reason: string, untilMs: number | null) => ({ by: 'anna', reason, atMs: 1, untilMs })
  const note = async (said: ReturnType<typeof word>) => await client.set(`${redis.keys.ready()}:q:${queue.name}:pause`, JSON.stringify(said))

  it('is resumed once its time is over, and not before; of what was said anew nothing is lifted', async () => {
    const events = queue.toKey('events')
    expect(await operators.liftQueuePause()).toBeNull()
    await queue.pause()
    // By BullMQ alone, for good, and for a time.
    for (const said of [null, word('for good', null), word('an hour', Date.now() + 3_600_000)]) {
      if (said !== null) await note(said)
      expect([await operators.liftQueuePause(), await paused()]).toEqual([null, [true, said?.reason ?? null]])
    }
    await queue.add('job', {}, { jobId: 'waits' })
    await note(word('over', Date.now() - 1))
    expect([await operators.liftQueuePause(), await operators.liftQueuePause(), await paused()]).toEqual([expect.objectContaining({ reason: 'over' }), null, [false, null]])
    const [last] = await client.xrevrange(events, '+', '-', 'COUNT', 1)
    expect(last?.[1]).toEqual(['event', 'resumed'])
    // Workers of BullMQ that wait for the queue hear of it.
    expect(await client.zrange(queue.toKey('marker'), '0', '-1')).toEqual(['0'])
    // It was resumed by BullMQ's board.
    await note(word('over', Date.now() - 1))
    expect([await operators.liftQueuePause(), await operators.queuePause()]).toEqual([null, null])
  })

  it('is paused, and noted as such, and that in the audit log, or nothing of it', async () => {
    const agents = new AgentQueue({ redis: redis.config })
    after(() => agents.close())
    const by = { id: 'operator', name: 'anna' }
    // What fails last of all that is done.
    await client.set(redis.keys.audit(), 'no stream')
    await expect(agents.operations.pauseQueue({ by, reason: 'deploy', forMs: 60_000 })).rejects.toThrow('WRONGTYPE')
    expect(await paused()).toEqual([false, null])
    await client.del(redis.keys.audit())
    await agents.operations.pauseQueue({ by, reason: 'deploy', forMs: 60_000 })
    expect([await paused(), await agents.operations.auditLog()]).toEqual([[true, 'deploy'], [expect.objectContaining({ action: 'pauseQueue', before: null, after: expect.objectContaining({ reason: 'deploy' }) as unknown })]])
    // Somebody resumes it, and before that is noted another one pauses it again.
    await operators.pauseQueue(null, null, { by: 'operator', name: 'bob', action: 'resumeQueue', targets: [], count: 0, status: 200 })
    expect(await paused()).toEqual([true, 'deploy'])
  })

  it('stays paused by what is said anew in the very moment in which a consumer lifts what is over', async () => {
    const agents = new AgentQueue({ redis: redis.config })
    after(() => agents.close())
    for (let round = 0; round < 40; round++) {
      await queue.pause()
      await note(word('over', Date.now() - 1))
      const lift = async () => {
        for (let turn = round % 8; turn > 0; turn--) await client.ping()
        await operators.liftQueuePause()
      }
      await Promise.all([agents.operations.pauseQueue({ by: { id: 'operator', name: 'anna' }, reason: 'anew', forMs: 60_000 }), lift()])
      expect(await paused(), `round ${round}`).toEqual([true, 'anew'])
    }
  })
})
