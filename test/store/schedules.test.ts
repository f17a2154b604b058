import { describe, expect, it } from 'vitest'
import type { Due } from '../../src/job/schedule-slots.js'
import type { Overlap } from '../../src/job/schedule.js'
import { scheduledJobId } from '../../src/producers/scheduled-runs.js'
import { Keys, mostOfTenant, mostSchedules, RunStore, ScheduleStore } from '../../src/store/index.js'
import { record, result, useRedis } from './fixture.js'

const redis = useRedis()
const hour = 3_600_000
const base = 1_795_000 * 1_000_000

async function made(id = 'nightly', keys = redis.keys) {
  const client = redis.connect()
  const store = new ScheduleStore(client, keys)
  await store.put(id, { definition: '{}', times: 'hourly', nowMs: base, nextMs: base + hour })
  const read = async () => (await store.read(id)).schedule!
  const begin = async (due: Due | null, overlap: Overlap = 'skip', jobId = scheduledJobId(keys.queueName, id, due?.slotMs ?? 0)) => await store.begin(await read(), due, { jobId, nextMs: base + 10 * hour, overlap })
  const run = (count: number): Due => ({ kind: 'run', slotMs: base + count * hour })
  /** Decided and added. */
  const begun = async (count: number, overlap: Overlap = 'skip') => {
    const answer = await begin(run(count), overlap)
    if (answer.kind !== 'run') return answer
    await client.hset(keys.job(answer.run.jobId), { timestamp: 1, atm: 0 })
    await store.settle(await read(), answer.run, base + 10 * hour)
    return answer
  }
  return { client, store, read, begin, begun, run }
}

/** In this queue: whether the next one is begun. */
async function isFree(keys: Keys, queued: Record<string, number> | null, stored: { readonly ended: boolean } | null, free: boolean): Promise<void> {
  const { client, store, begin, begun, run, read } = await made('nightly', keys)
  const first = await begun(1)
  const jobId = first.kind === 'run' ? first.run.jobId : ''
  const runs = new RunStore(client, keys)
  if (queued === null) await client.del(keys.job(jobId))
  else await client.hset(keys.job(jobId), queued)
  if (stored !== null) {
    const acquired = await runs.acquire(jobId, { holder: 'c', fresh: record(jobId) })
    if (acquired.kind === 'acquired' && stored.ended) await runs.finish(jobId, acquired.fence, record(jobId), result(jobId), { id: `${jobId}.1` })
  }
  const second = await begin(run(2))
  expect(second.kind).toBe(free ? 'run' : 'skipped')
  if (free) return
  expect((await read()).skipped).toEqual({ slotMs: base + 2 * hour, count: 1, why: `the run before, job ${jobId}, has not ended (overlap: skip)` })
  expect((await read()).last).toMatchObject({ jobId })
  expect(store).toBeDefined()
}

describe('a time of a schedule', () => {
  it('is begun once, whoever comes; whoever finds it decided and not added is told to add it', async () => {
    const { store, read, run } = await made()
    const seen = await read()
    const answers = await Promise.all(Array.from({ length: 20 }, () => store.begin(seen, run(1), { jobId: 'job', nextMs: base + 2 * hour, overlap: 'skip' })))
    expect(answers.filter(({ kind }) => kind === 'run')).toHaveLength(1)
    expect(new Set(answers.map(({ kind }) => kind))).toEqual(new Set(['run', 'changed']))
    const after = await read()
    expect(after).toMatchObject({ pending: { jobId: 'job', slotMs: base + hour, replaces: [] }, last: { jobId: 'job', slotMs: base + hour }, handledMs: base + hour, dueMs: base + hour })
    expect(await store.begin(after, run(2), { jobId: 'next', nextMs: null, overlap: 'skip' })).toMatchObject({ kind: 'pending', run: { jobId: 'job' } })
    await store.settle(after, after.pending!, base + 2 * hour)
    await store.settle(after, after.pending!, base + 7 * hour)
    expect(await read()).toMatchObject({ pending: null, dueMs: base + 2 * hour })
  })

  it.each([
    ['waits', { timestamp: 1, atm: 0 }, null, false],
    ['is in hand', { timestamp: 1, atm: 0, processedOn: 2 }, { ended: false }, false],
    ['has ended, and BullMQ knows', { timestamp: 1, atm: 1, processedOn: 2, finishedOn: 3 }, { ended: true }, true],
    ['has ended, and BullMQ does not know yet', { timestamp: 1, atm: 0, processedOn: 2 }, { ended: true }, true],
    ['has ended and is to run again', { timestamp: 1, atm: 1 }, { ended: true }, false],
    ['was removed while it waited', null, null, true],
    ['was removed while it ran', null, { ended: false }, false],
    ['is known by its result only', null, { ended: true }, true],
  ])('is not begun while its predecessor has not ended: one that %s', async (_name, queued, stored, free) => {
    for (const keys of [redis.keys, new Keys(undefined, 'others')]) await isFree(keys, queued, stored, free)
  })

  it('is begun beside its predecessors or in their place, and of one schedule never more than a hundred', async () => {
    const { begun, read } = await made()
    for (let count = 1; count <= 100; count++) expect((await begun(count, 'allow')).kind).toBe('run')
    expect(await begun(101, 'allow')).toMatchObject({ kind: 'skipped' })
    const replacing = await begun(102, 'replace')
    expect(replacing).toMatchObject({ kind: 'run' })
    expect(replacing.kind === 'run' && replacing.run.replaces).toHaveLength(100)
    expect((await read()).last).toEqual({ jobId: scheduledJobId('agents', 'nightly', base + 102 * hour), slotMs: base + 102 * hour })
  })

  it('is not begun a second time by a clock that was set back', async () => {
    const { begin, begun, run, client } = await made()
    await begun(5, 'allow')
    expect(await begin({ kind: 'reset', slotMs: base + hour })).toEqual({ kind: 'done' })
    expect((await begun(2, 'allow')).kind).toBe('run')
    expect(await begin(run(5), 'allow', 'another')).toEqual({ kind: 'done' })
    expect((await begun(6, 'allow')).kind).toBe('run')
    expect(JSON.parse((await client.hget(redis.keys.schedule('nightly'), 'begun'))!)).toEqual([5, 2, 6].map((count) => String(base + count * hour)))
  })
})

describe('a schedule', () => {
  it('that is put again keeps what is due, unless its times are others; a paused one stays paused', async () => {
    const { store, read } = await made()
    expect(await store.put('nightly', { definition: '{"a":1}', times: 'hourly', nowMs: base + 50 * hour, nextMs: base + 51 * hour })).toBe('changed')
    expect(await read()).toMatchObject({ definition: '{"a":1}', handledMs: base, dueMs: base + hour })
    expect(await store.pause('nightly')).toBe(true)
    await store.put('nightly', { definition: '{}', times: 'daily', nowMs: base + 50 * hour, nextMs: base + 60 * hour })
    expect(await read()).toMatchObject({ handledMs: base + 50 * hour, paused: true, dueMs: null })
    expect(await store.resume('nightly')).toBe(true)
    expect(await read()).toMatchObject({ paused: false })
    expect(await store.remove('nightly')).toBe(true)
    expect((await store.read('nightly')).schedule).toBeNull()
    expect([await store.pause('nightly'), await store.resume('nightly'), await store.remove('nightly')]).toEqual([false, false, false])
  })

  it.each([
    ['the same tenant', 'acme', true],
    ['another tenant', 'other', false],
  ])('that is removed and made anew for %s knows what has not ended of the one before: %s', async (_whose, tenant, knows) => {
    const { client, store, read, begin, run } = await made('removed')
    const put = async (whose: string) => await store.put('removed', { definition: '{}', times: 'hourly', nowMs: base, nextMs: base + hour, tenant: whose })
    await put('acme')
    const first = await begin(run(1))
    await client.hset(redis.keys.job(scheduledJobId('agents', 'removed', base + hour)), { timestamp: 1, atm: 0 })
    if (first.kind === 'run') await store.settle(await read(), first.run, base + 2 * hour)
    const { version } = await read()
    await store.remove('removed')
    await store.remove('removed')
    expect(await put(tenant)).toBe('created')
    expect(await client.exists(redis.keys.scheduleLeft('removed'))).toBe(0)
    expect(await begin(run(2))).toMatchObject(knows ? { kind: 'skipped' } : { kind: 'run', run: { replaces: [] } })
    // What was read of the one before is not taken for this one.
    if (knows) expect(Number((await read()).version)).toBeGreaterThan(Number(version))
  })

  it('that was paused, changed or removed meanwhile begins nothing', async () => {
    const { store, read, run } = await made()
    const seen = await read()
    const options = { jobId: 'job', nextMs: null, overlap: 'skip' } as const
    await store.pause('nightly')
    expect(await store.begin(seen, run(1), options)).toEqual({ kind: 'changed' })
    expect(await store.begin(await read(), run(1), options)).toEqual({ kind: 'changed' })
    await store.remove('nightly')
    expect(await store.begin(seen, run(1), options)).toEqual({ kind: 'changed' })
    expect(await redis.client.exists(redis.keys.schedule('nightly'))).toBe(0)
  })

  it.each([
    ['paused', async (store: ScheduleStore) => await store.pause('nightly'), null],
    ['given other times', async (store: ScheduleStore) => await store.put('nightly', { definition: '{}', times: 'yearly', nowMs: base + hour, nextMs: base + 8_760 * hour }), base + 8_760 * hour],
  ] as const)('that is %s while whoever decided a run has died is due until somebody has added that, and then as it was changed', async (_how, change, nextMs) => {
    const { store, read, begin, run } = await made()
    const decided = await begin(run(1))
    await change(store)
    const found = await read()
    expect(found).toMatchObject({ pending: { jobId: expect.any(String) as string }, dueMs: base + hour })
    if (decided.kind === 'run') await store.settle(found, decided.run, base + 2 * hour)
    expect(await read()).toMatchObject({ pending: null, dueMs: nextMs })
  })

  it('is due next as it was changed while a run of it was added, or goes on being paused', async () => {
    const { store, read, begin, run } = await made()
    const before = await read()
    const first = await begin(run(1))
    await store.put('nightly', { definition: '{}', times: 'by the minute', nowMs: base + hour, nextMs: base + hour + 60_000 })
    if (first.kind === 'run') await store.settle(before, first.run, base + 300 * hour)
    expect(await read()).toMatchObject({ pending: null, dueMs: base + hour + 60_000 })
    const second = await begin(run(2), 'allow')
    await store.pause('nightly')
    if (second.kind === 'run') await store.settle(await read(), second.run, base + 3 * hour)
    expect(await read()).toMatchObject({ pending: null, dueMs: null })
  })

  it('leaves room for other tenants’, where whoever makes it is limited to its tenant', async () => {
    const { store, client } = await made()
    const put = async (id: string, tenant: string, whose: readonly string[] | null = [tenant]) => await store.put(id, { definition: JSON.stringify({ spec: { tenant } }), times: 'hourly', nowMs: base, nextMs: base + hour, tenant }, whose)
    for (let index = 0; index < mostOfTenant; index++) expect(await put(`acme-${index}`, 'acme')).toBe('created')
    expect(await put('acme-more', 'acme')).toBe('tenant-full')
    expect(await client.exists(redis.keys.schedule('acme-more'))).toBe(0)
    expect(await put('acme-7', 'acme')).toBe('changed')
    expect(await put('other', 'other')).toBe('created')
    // One of another tenant's that becomes one of this one's is one more.
    expect(await store.put('other', { definition: JSON.stringify({ spec: { tenant: 'acme' } }), times: 'hourly', nowMs: base, nextMs: null, tenant: 'acme' }, ['acme', 'other'])).toBe('tenant-full')
    expect(await put('acme-by-all', 'acme', null)).toBe('created')
    await store.remove('acme-7')
    await store.remove('acme-8')
    expect(await put('acme-more', 'acme')).toBe('created')
  })

  it('is one of so many only', async () => {
    const { store, client } = await made()
    const pipeline = client.pipeline()
    for (let index = 0; index < mostSchedules; index++) pipeline.zadd(redis.keys.schedules(), 1, `s${index}`)
    await pipeline.exec()
    expect(await store.put('more', { definition: '{}', times: 'hourly', nowMs: base, nextMs: null })).toBe('full')
    expect(await store.put('nightly', { definition: '{}', times: 'hourly', nowMs: base, nextMs: null })).toBe('changed')
  })

  it('is overdue when its time came a while ago, and all are looked at when Redis’ clock was set back', async () => {
    const client = redis.connect()
    const store = new ScheduleStore(client, redis.keys)
    expect(await store.overdue(1_000, 10)).toEqual([])
    expect(await client.exists(redis.keys.schedulesSeen())).toBe(0)
    const now = await store.now()
    await client.zadd(redis.keys.schedules(), now - 5_000, 'late', now + 60_000, 'next', 'inf', 'paused')
    expect(await store.overdue(1_000, 10)).toEqual(['late'])
    expect(await store.overdue(60_000, 10)).toEqual([])
    await store.postpone('late', 60_000)
    expect(await store.overdue(1_000, 10)).toEqual([])
    await client.set(redis.keys.schedulesSeen(), now + 3 * hour)
    expect(new Set(await store.overdue(1_000, 10))).toEqual(new Set(['late', 'next']))
  })
})
