import { describe, expect, it } from 'vitest'
import type { Redis } from 'ioredis'
import { FenceLostError } from '../../src/job/errors.js'
import { Budgets, RunStore, setBudget, setBudgets, type CoverRequest } from '../../src/store/index.js'
import { random, record, result, useRedis } from './fixture.js'

const redis = useRedis()

interface Given {
  /** What a day's budget is by configuration, by tenant. */
  readonly configured?: Readonly<Record<string, number>>
  readonly now?: () => number
  readonly timeZone?: string
}

function made(connection: Redis, { configured = {}, now = Date.now, timeZone = 'UTC' }: Given = {}): { budgets: Budgets; store: RunStore } {
  return {
    budgets: new Budgets(connection, redis.keys, { timeZone, currency: 'USD', now, configured: new Map(Object.entries(configured)) }),
    store: new RunStore(connection, redis.keys, { timeZone, now }),
  }
}

async function fenceOf(store: RunStore, jobId: string): Promise<number> {
  return (await store.acquire(jobId, { holder: 'a', fresh: record(jobId) }) as { fence: number }).fence
}

const set = (connection: Redis, of: Parameters<typeof setBudget>[2], micros: number) => setBudget(connection, redis.keys, of, micros, 'somebody', { by: 'operator', name: '', action: 'setTenantBudget', targets: [], count: 1, status: 200 })

const end = (store: RunStore, jobId: string, fence: number, micros: number | null, tenant: string | null = 'acme') =>
  store.finish(jobId, fence, record(jobId, { phase: 'ended', budgeted: true }), result(jobId, { tenant, usage: { sandboxSeconds: 1, ...(micros === null ? {} : { cost: { micros, currency: 'USD' } }) } }), JSON.stringify({ id: `${jobId}.end` }))

async function today(connection: Redis, tenant = 'acme'): Promise<{ spent: number; reserved: number }> {
  const [day] = (await connection.keys('*costs:day:*')).sort().reverse()
  const [spent, reserved] = day === undefined ? [] : await connection.hmget(day, `s:${tenant}`, `r:${tenant}`)
  return { spent: Number(spent ?? 0), reserved: Number(reserved ?? 0) }
}

const ask = (fence: number, number: number, cost: number, wanted: number, more: Partial<CoverRequest> = {}): CoverRequest => ({ fence, tenant: 'acme', jobCap: undefined, ended: {}, attempt: { number, cost, wanted, forMs: 60_000 }, ...more })

describe('a reservation', () => {
  it('is granted while the day has so much left, charged as it is used, and what is not used is given back', async () => {
    const connection = redis.connect()
    const { budgets, store } = made(connection, { configured: { acme: 100 } })
    const [one, two] = [await fenceOf(store, 'one'), await fenceOf(store, 'two')]
    expect(await budgets.cover('one', ask(one, 1, 0, 60))).toMatchObject({ granted: true, refusedBy: null })
    expect(await budgets.cover('two', ask(two, 1, 0, 41))).toMatchObject({ granted: false, refusedBy: { of: 'tenant', spent: 0, reserved: 60, cap: 100 } })
    expect(await budgets.cover('two', ask(two, 1, 0, 40))).toMatchObject({ granted: true })
    expect(await today(connection)).toEqual({ spent: 0, reserved: 100 })
    // It has used ten, and is renewed for less.
    expect(await budgets.cover('one', ask(one, 1, 10, 30))).toMatchObject({ granted: true })
    expect(await today(connection)).toEqual({ spent: 10, reserved: 70 })
    await end(store, 'one', one, 15)
    expect(await today(connection)).toEqual({ spent: 15, reserved: 40 })
    await end(store, 'two', two, 0)
    expect(await today(connection)).toEqual({ spent: 15, reserved: 0 })
    expect(await connection.hlen(`${redis.keys.costs()}:runs`)).toBe(0)
  })

  it.each([null, 1])('goes with the end of a run whose record does not say that there is one, for attempt %s: whoever asked for it died before that', async (number) => {
    const connection = redis.connect()
    const { budgets, store } = made(connection, { configured: { acme: 100 } })
    const fence = await fenceOf(store, 'job')
    const { attempt, ...asks } = ask(fence, 1, 0, 60)
    expect(await budgets.cover('job', number === null ? { ...asks, attempt: null, asked: 60 } : { ...asks, attempt })).toMatchObject({ refusedBy: null })
    await store.finish('job', fence, record('job', { phase: 'ended' }), result('job', { tenant: 'acme' }), JSON.stringify({ id: 'job.end' }))
    expect(await today(connection)).toEqual({ spent: 0, reserved: 0 })
    expect(await connection.exists(`${redis.keys.costs()}:runs`, `${redis.keys.costs()}:covered`)).toBe(0)
  })

  it('is not held against a budget that was lowered since', async () => {
    const connection = redis.connect()
    const { budgets, store } = made(connection, { configured: { acme: 100 } })
    const fence = await fenceOf(store, 'one')
    await budgets.cover('one', ask(fence, 1, 0, 60))
    await set(connection, { tenant: 'acme' }, 20)
    expect(await budgets.cover('one', ask(fence, 1, 5, 30))).toMatchObject({ granted: false, refusedBy: { of: 'tenant', spent: 5, reserved: 30, cap: 20 } })
    expect(await budgets.cover('one', ask(fence, 1, 5, 10))).toMatchObject({ granted: true })
  })

  it('that was on its way when the run ended is none: nothing is charged a second time, or left', async () => {
    const connection = redis.connect()
    const { budgets, store } = made(connection, { configured: { acme: 100 } })
    const fence = await fenceOf(store, 'one')
    await budgets.cover('one', ask(fence, 2, 5, 20, { ended: { 1: 10 } }))
    await end(store, 'one', fence, 15)
    await expect(budgets.cover('one', ask(fence, 2, 5, 20, { ended: { 1: 10 } }))).rejects.toThrow(FenceLostError)
    expect(await today(connection)).toEqual({ spent: 15, reserved: 0 })
    expect(await connection.hlen(`${redis.keys.costs()}:runs`)).toBe(0)
  })

  it('that is asked for twice, since an answer was lost, is taken once', async () => {
    const connection = redis.connect()
    const { budgets, store } = made(connection, { configured: { acme: 100 } })
    const fence = await fenceOf(store, 'one')
    await budgets.cover('one', ask(fence, 1, 0, 60))
    await budgets.cover('one', ask(fence, 1, 0, 60))
    expect(await today(connection)).toEqual({ spent: 0, reserved: 60 })
  })

  it('is refused to whoever lost the job', async () => {
    const connection = redis.connect()
    const { budgets, store } = made(connection, { configured: { acme: 100 } })
    const old = await fenceOf(store, 'one')
    await fenceOf(store, 'one')
    await expect(budgets.cover('one', ask(old, 1, 0, 60))).rejects.toThrow(FenceLostError)
    expect(await today(connection)).toEqual({ spent: 0, reserved: 0 })
  })

  it('keeps to the job’s own budget over all of its attempts', async () => {
    const connection = redis.connect()
    const { budgets, store } = made(connection)
    const fence = await fenceOf(store, 'one')
    const own = { jobCap: 50 }
    expect(await budgets.cover('one', ask(fence, 1, 0, 30, own))).toMatchObject({ granted: true })
    expect(await budgets.cover('one', ask(fence, 1, 20, 31, own))).toMatchObject({ granted: false, refusedBy: { of: 'job', spent: 20, reserved: 10, cap: 50 } })
    expect(await budgets.cover('one', ask(fence, 2, 0, 26, { ...own, ended: { 1: 25 } }))).toMatchObject({ granted: false, refusedBy: { of: 'job', spent: 25, cap: 50 } })
    expect(await budgets.cover('one', ask(fence, 2, 0, 25, { ...own, ended: { 1: 25 } }))).toMatchObject({ granted: true })
    await set(connection, { jobId: 'one' }, 60)
    expect(await budgets.cover('one', ask(fence, 2, 25, 10, { ...own, ended: { 1: 25 } }))).toMatchObject({ granted: true })
    await end(store, 'one', fence, 55)
    expect(await today(connection)).toEqual({ spent: 55, reserved: 0 })
    // A job that has ended leaves none.
    expect(await setBudgets(connection, redis.keys)).toEqual([])
  })

  it.each([[1, true], [2, false]])('is held against what was said of this very job, not of one that was removed and had its id: %d', async (addedAtMs, granted) => {
    const connection = redis.connect()
    const { budgets, store } = made(connection)
    const [job, add] = [redis.keys.job('one'), (atMs: number) => connection.hset(redis.keys.job('one'), 'timestamp', atMs)]
    await add(1)
    expect(await set(connection, { jobId: 'one' }, 60)).toEqual({ changed: true, before: null })
    await connection.del(job)
    await add(addedAtMs)
    await connection.set(`${job}:lock`, 'token')
    const { fence } = (await store.acquire('one', { holder: 'a', fresh: record('one'), token: 'token' })) as { fence: number }
    expect(await budgets.cover('one', ask(fence, 1, 0, 55, { jobCap: 50 }))).toMatchObject({ granted })
    expect(await setBudgets(connection, redis.keys)).toHaveLength(granted ? 1 : 0)
    // Nor is it what was said before.
    await connection.hset(job, 'timestamp', 3)
    expect((await set(connection, { jobId: 'one' }, 60)).before).toBeNull()
  })

  it('that nobody renews counts as used, and what was really used is charged by whoever goes on', async () => {
    const connection = redis.connect()
    const { budgets, store } = made(connection, { configured: { acme: 100 } })
    const dead = await fenceOf(store, 'dead')
    await budgets.cover('dead', { ...ask(dead, 1, 0, 60), attempt: { number: 1, cost: 0, wanted: 60, forMs: 1 } })
    await new Promise((resolve) => setTimeout(resolve, 5))
    const other = await fenceOf(store, 'other')
    expect(await budgets.cover('other', ask(other, 1, 0, 41))).toMatchObject({ granted: false, refusedBy: { spent: 60, reserved: 0 } })
    const successor = await fenceOf(store, 'dead')
    await budgets.cover('dead', ask(successor, 1, 25, 20))
    expect(await today(connection)).toEqual({ spent: 60, reserved: 20 })
    await end(store, 'dead', successor, 30)
    expect(await today(connection)).toEqual({ spent: 30, reserved: 0 })
  })

  it.each([
    ['its own, before all', { acme: 10, '*': 20 }, { acme: 30, '*': 40 }, 30],
    ['its own of the configuration, before that of all', { acme: 10 }, { '*': 40 }, 10],
    ['that of all as it was set, before that of the configuration', { '*': 20 }, { '*': 40 }, 40],
    ['that of all', { '*': 20 }, {}, 20],
  ])('is bounded by %s', async (_what, configured, said, cap) => {
    const connection = redis.connect()
    const { budgets, store } = made(connection, { configured: configured })
    for (const [tenant, micros] of Object.entries(said as Record<string, number>)) await set(connection, { tenant }, micros)
    await budgets.watch()
    expect(budgets.appliesTo('one', { tenant: 'acme' })).toBe(true)
    const fence = await fenceOf(store, 'one')
    expect(await budgets.cover('one', ask(fence, 1, 0, cap + 1))).toMatchObject({ granted: false, refusedBy: { cap } })
    expect(await budgets.cover('one', ask(fence, 1, 0, cap))).toMatchObject({ granted: true })
  })

  it('is charged to the day on which it was made, and renewed from the next one’s budget', async () => {
    const connection = redis.connect()
    // Redis' own clock says what day it is: the zone's days are laid around it.
    const { store } = made(connection, { configured: { acme: 100 }, now: Date.now })
    const days = (startsInMs: number) => [[0, '2026-01-01'], [Date.now() + startsInMs, '2026-01-02'], [Date.now() + startsInMs + 86_400_000, '2026-01-03']]
    const fence = await fenceOf(store, 'one')
    const { runScript } = await import('../../src/store/scripts.js')
    const cover = async (startsInMs: number, cost: number, wanted: number) =>
      (await runScript(connection, 'budget-cover', [redis.keys.run('one')], [redis.keys.costs(), 'one', fence, JSON.stringify(days(startsInMs)), 'acme', 100, '', '', 'USD', '{}', 1, cost, wanted, 60_000])) as unknown[]
    expect((await cover(60_000, 0, 90))[0]).toBe('granted')
    // The day has turned: what was reserved covers what was used; the rest is given back there.
    expect((await cover(-1, 40, 90))[0]).toBe('granted')
    const at = async (day: string) => await connection.hmget(`${redis.keys.costs()}:day:${day}`, 's:acme', 'r:acme')
    expect([await at('2026-01-01'), await at('2026-01-02')]).toEqual([['40', null], [null, '90']])
  })
})

describe('a job that waits for a budget', () => {
  const delayed = (connection: Redis) => connection.zrange(redis.keys.bullmq('delayed'), '0', '-1', 'WITHSCORES')
  const tomorrow = (Date.now() + 86_400_000) * 0x1000

  async function parked(connection: Redis, budgets: Budgets, jobId: string, stamp: string): Promise<boolean> {
    await connection.zadd(redis.keys.bullmq('delayed'), String(tomorrow), jobId)
    return await budgets.park(jobId, 'acme', stamp)
  }

  it('is woken when that is raised, some at a time', async () => {
    const connection = redis.connect()
    const { budgets, store } = made(connection, { configured: { acme: 10 } })
    await budgets.watch()
    const fence = await fenceOf(store, 'one')
    const { stamp } = await budgets.cover('one', ask(fence, 1, 0, 11))
    for (let number = 0; number < 70; number++) expect(await parked(connection, budgets, `job-${number}`, stamp)).toBe(true)
    expect(await budgets.watch()).toBe(false)
    const due = async () => (await connection.zcount(redis.keys.bullmq('delayed'), 0, (Date.now() + 1) * 0x1000))
    expect(await due()).toBe(0)
    await set(connection, { tenant: 'acme' }, 20)
    expect(await budgets.watch()).toBe(true)
    expect(await due()).toBe(64)
    await budgets.watch()
    expect(await due()).toBe(70)
    expect(await connection.exists(`${redis.keys.costs()}:parked:acme`)).toBe(0)
  })

  it('is woken when the budget of all who have none of their own is set', async () => {
    const connection = redis.connect()
    const { budgets, store } = made(connection, { configured: { '*': 10 } })
    const fence = await fenceOf(store, 'one')
    const { stamp } = await budgets.cover('one', ask(fence, 1, 0, 11))
    await parked(connection, budgets, 'job-1', stamp)
    await set(connection, { tenant: '*' }, 20)
    await budgets.watch()
    expect(Number((await delayed(connection))[1])).toBeLessThan(tomorrow)
  })

  it('is woken when something comes free that was reserved, a few at a time', async () => {
    const connection = redis.connect()
    const { budgets, store } = made(connection, { configured: { acme: 10 } })
    const [one, two] = [await fenceOf(store, 'one'), await fenceOf(store, 'two')]
    await budgets.cover('one', ask(one, 1, 0, 10))
    const { stamp } = await budgets.cover('two', ask(two, 1, 0, 10))
    for (let number = 0; number < 6; number++) await parked(connection, budgets, `job-${number}`, stamp)
    await end(store, 'one', one, 2)
    expect(await connection.zcard(`${redis.keys.costs()}:parked:acme`)).toBe(3)
  })

  it.each([['configured', true], ['set', false]])('is woken behind larger ones that are parked longer, when there is enough for it (%s)', async (_where, configures) => {
    const connection = redis.connect()
    const { budgets, store } = made(connection, { configured: configures ? { '*': 100 } : {} })
    if (!configures) await set(connection, { tenant: 'acme' }, 100)
    await budgets.watch()
    const one = await fenceOf(store, 'one')
    await budgets.cover('one', ask(one, 1, 0, 98))
    const { stamp } = await budgets.cover('two', ask(await fenceOf(store, 'two'), 1, 0, 50))
    await connection.zadd(redis.keys.bullmq('delayed'), ...Array.from({ length: 12 }, (_, number) => [String(tomorrow), `job-${number}`]).flat())
    for (let number = 0; number < 12; number++) expect(await budgets.park(`job-${number}`, 'acme', stamp, number === 10 ? 5 : 50)).toBe(true)
    await end(store, 'one', one, 60)
    const due = await connection.zrangebyscore(redis.keys.bullmq('delayed'), 0, (Date.now() + 1) * 0x1000)
    expect(due.sort()).toEqual(['job-0', 'job-1', 'job-10', 'job-2'])
    for (const jobId of due) await budgets.unpark(jobId, 'acme')
    expect(await connection.zcard(`${redis.keys.costs()}:needs:acme`)).toBe(8)
  })

  it('is not left waiting when that happened before it waited', async () => {
    const connection = redis.connect()
    const { budgets, store } = made(connection, { configured: { acme: 10 } })
    const [one, two] = [await fenceOf(store, 'one'), await fenceOf(store, 'two')]
    await budgets.cover('one', ask(one, 1, 0, 10))
    const { stamp } = await budgets.cover('two', ask(two, 1, 0, 10))
    await end(store, 'one', one, 2)
    expect(await parked(connection, budgets, 'two', stamp)).toBe(false)
    expect(Number((await delayed(connection))[1])).toBeLessThan(tomorrow)
    const { stamp: later } = await budgets.cover('two', ask(two, 1, 0, 10))
    await set(connection, { tenant: 'acme' }, 20)
    expect(await parked(connection, budgets, 'two', later)).toBe(false)
  })

  it('is not woken by what its own end gives back, but by what others gave back before that', async () => {
    const connection = redis.connect()
    const { budgets, store } = made(connection, { configured: { acme: 100 } })
    const fence = await fenceOf(store, 'one')
    await budgets.cover('one', ask(fence, 1, 0, 60))
    expect(await budgets.cover('one', ask(fence, 1, 50, 60))).toMatchObject({ granted: false })
    // Its sandbox is killed, and ten of what was reserved are given back.
    const settling = { fence, tenant: 'acme', jobCap: undefined, ended: { 1: 50 }, attempt: null, asked: 60 }
    const settled = await budgets.cover('one', settling)
    expect(settled).toMatchObject({ granted: false, refusedBy: { of: 'tenant', spent: 50, reserved: 0, cap: 100 } })
    expect(await today(connection)).toEqual({ spent: 50, reserved: 0 })
    expect(await parked(connection, budgets, 'one', settled.stamp)).toBe(true)
    expect(Number((await delayed(connection))[1])).toBe(tomorrow)
    expect(await budgets.cover('one', { ...settling, asked: 50 })).toMatchObject({ granted: true })
    expect(await today(connection)).toEqual({ spent: 50, reserved: 0 })
  })

  it('and is refused again is not asked a second time for the same change, whoever else waits', async () => {
    const connection = redis.connect()
    const { budgets, store } = made(connection, { configured: { acme: 10, other: 10 } })
    await budgets.watch()
    const fence = await fenceOf(store, 'one')
    const { stamp } = await budgets.cover('one', ask(fence, 1, 0, 11))
    const jobs = Array.from({ length: 100 }, (_, number) => `job-${number}`)
    for (const jobId of jobs) await parked(connection, budgets, jobId, stamp)
    for (const tenant of ['acme', '*']) {
      await set(connection, { tenant }, 20)
      const { stamp: later } = await budgets.cover('one', ask(fence, 1, 0, 21))
      let asked = 0
      for (let look = 0; look < 20; look++) {
        const more = await budgets.watch()
        const due = await connection.zrangebyscore(redis.keys.bullmq('delayed'), 0, (Date.now() + 1) * 0x1000)
        for (const jobId of due) expect(await parked(connection, budgets, jobId, later)).toBe(true)
        asked += due.length
        if (!more) break
      }
      expect([tenant, asked]).toEqual([tenant, 100])
      expect(await budgets.watch()).toBe(false)
    }
  })

  it('is woken when consumers are configured with other budgets, once', async () => {
    const connection = redis.connect()
    const { budgets, store } = made(connection, { configured: { acme: 10 } })
    await budgets.watch()
    const fence = await fenceOf(store, 'one')
    const { stamp } = await budgets.cover('one', ask(fence, 1, 0, 11))
    await parked(connection, budgets, 'job-1', stamp)
    await made(connection, { configured: { acme: 10 } }).budgets.watch()
    expect(Number((await delayed(connection))[1])).toBe(tomorrow)
    await made(connection, { configured: { acme: 20 } }).budgets.watch()
    expect(Number((await delayed(connection))[1])).toBeLessThan(tomorrow)
  })

  it('of its own is woken by that', async () => {
    const connection = redis.connect()
    const { budgets, store } = made(connection)
    const fence = await fenceOf(store, 'one')
    const { stamp } = await budgets.cover('one', ask(fence, 1, 0, 11, { jobCap: 10 }))
    await parked(connection, budgets, 'one', stamp)
    expect(await set(connection, { jobId: 'one' }, 20)).toEqual({ changed: true, before: null })
    expect(Number((await delayed(connection))[1])).toBeLessThan(tomorrow)
    expect(await set(connection, { jobId: 'one' }, 20)).toEqual({ changed: false, before: 20 })
    await budgets.unpark('one', 'acme')
    expect(await connection.keys('*parked*')).toEqual([])
  })
})

/**
 * Consumers that reserve, renew, die, are taken over, are refused and park, in whatever order a seed says; beside them a plain account of what each
 * sandbox has cost. What is charged and reserved is never over the budget but for what was not reserved for: what a sandbox used while nobody had it in hand. Who is parked is
 * woken by others alone, and nobody stays parked for whom there is enough while nothing runs that would wake it with its end.
 */
it('no order of consumers, deaths, parks and ends spends more than a budget has, but for what nobody looked after, or leaves anybody parked in vain', async () => {
  const connection = redis.connect()
  const from = Number(process.env['BUDGET_SEED'] ?? 1)
  for (let seed = from; seed < from + Number(process.env['BUDGET_SEEDS'] ?? 2); seed++) {
    const settled: number[] = []
    await connection.flushall()
    const next = random(seed)
    const pick = (most: number) => Math.floor(next() * most)
    let cap = 400
    const { budgets, store } = made(connection, { configured: { acme: cap } })
    await budgets.watch()
    const delayed = redis.keys.bullmq('delayed')
    const isDue = async (jobId: string) => Number(await connection.zscore(delayed, jobId)) <= (Date.now() + 1) * 0x1000
    /** What those that are parked need. */
    const waiting = new Map<string, number>()
    interface Running { fence: number; attempt: number; cost: number; paid: number; ended: Record<string, number>; runs: boolean }
    const jobs = new Map<string, Running>()
    let unpaid = 0
    let overLowered = 0
    for (let step = 0; step < 120; step++) {
      const jobId = `job-${pick(8)}`
      const job = jobs.get(jobId) ?? { fence: await fenceOf(store, jobId), attempt: 1, cost: 0, paid: 0, ended: {}, runs: false }
      jobs.set(jobId, job)
      const parkedFor = waiting.get(jobId)
      const wanted = parkedFor ?? 5 + pick(120)
      switch (pick(7)) {
        case 0:
        case 1: {
          // Begins, or renews after it has used a part of what is paid for. Who is parked is taken again once it is woken.
          if (parkedFor !== undefined && !(await isDue(jobId))) break
          if (job.runs) job.cost += pick(job.paid - job.cost + 1)
          const { granted } = await budgets.cover(jobId, { ...ask(job.fence, job.attempt, job.cost, wanted), ended: job.ended })
          if (granted) {
            Object.assign(job, { runs: true, paid: job.cost + wanted })
            if (waiting.delete(jobId)) await budgets.unpark(jobId, 'acme')
            await connection.zrem(delayed, jobId)
          } else {
            if (job.runs) Object.assign(job, { ended: { ...job.ended, [job.attempt]: job.cost }, attempt: job.attempt + 1, cost: 0, paid: 0, runs: false })
            const settled = await budgets.cover(jobId, { fence: job.fence, tenant: 'acme', jobCap: undefined, ended: job.ended, attempt: null, asked: wanted })
            await connection.zadd(delayed, String((Date.now() + 86_400_000) * 0x1000), jobId)
            const stays = await budgets.park(jobId, 'acme', settled.granted ? '' : settled.stamp, wanted)
            waiting.set(jobId, wanted)
            expect([stays, await isDue(jobId)], `seed ${seed}, step ${step}: ${jobId} is woken by its own park`).toEqual([!settled.granted, settled.granted])
          }
          break
        }
        case 2:
          // Its consumer dies, and the sandbox goes on past what is paid for before somebody has it in hand.
          if (!job.runs) break
          job.fence = await fenceOf(store, jobId)
          if (pick(2) === 0) {
            const beyond = pick(10)
            unpaid += beyond
            job.cost = job.paid + beyond
            job.paid = job.cost
          }
          break
        case 3:
          // The sandbox is lost, or the job is parked.
          if (!job.runs) break
          job.cost += pick(job.paid - job.cost + 1)
          Object.assign(job, { ended: { ...job.ended, [job.attempt]: job.cost }, attempt: job.attempt + 1, cost: 0, paid: 0, runs: false })
          await budgets.cover(jobId, { fence: job.fence, tenant: 'acme', jobCap: undefined, ended: job.ended, attempt: null })
          break
        case 4:
          if (!job.runs) break
          job.cost += pick(job.paid - job.cost + 1)
          await end(store, jobId, job.fence, Object.values(job.ended).reduce((sum, each) => sum + each, job.cost))
          jobs.delete(jobId)
          await connection.del(redis.keys.run(jobId))
          settled.push(Object.values(job.ended).reduce((sum, each) => sum + each, job.cost))
          break
        case 5: {
          const before = cap
          cap = 200 + pick(400)
          await set(connection, { tenant: 'acme' }, cap)
          if (cap < before) overLowered = Math.max(overLowered, before)
          if (pick(2) === 0) await budgets.watch()
          break
        }
        case 6:
          // Asked again, as after a lost answer.
          if (job.runs) await budgets.cover(jobId, { ...ask(job.fence, job.attempt, job.cost, job.paid - job.cost), ended: job.ended })
      }
      const { spent, reserved } = await today(connection)
      const real = settled.reduce((sum, each) => sum + each, 0) + [...jobs.values()].reduce((sum, each) => sum + each.cost + Object.values(each.ended).reduce((all, one) => all + one, 0), 0)
      expect(spent + reserved, `seed ${seed}, step ${step}`).toBeLessThanOrEqual(Math.max(cap, overLowered) + unpaid)
      const dues = await Promise.all([...waiting.keys()].map(isDue))
      const fits = [...waiting.values()].some((needed) => spent + reserved + needed <= cap)
      const willWake = dues.includes(true) || (await connection.exists(`${redis.keys.costs()}:raised`)) === 1 || [...jobs.values()].some(({ runs }) => runs)
      expect(fits && !willWake, `seed ${seed}, step ${step}: somebody is parked, has enough, and is never woken`).toBe(false)
      // Nothing is forgotten: what was used is charged, or stands reserved.
      expect(spent + reserved + unpaid, `seed ${seed}, step ${step}`).toBeGreaterThanOrEqual(real)
    }
  }
})

it('what a job may cost is set for its run, and goes with its end, charged or not', async () => {
  const connection = redis.connect()
  const store = new RunStore(connection, redis.keys)
  await connection.hset(redis.keys.job('job'), 'timestamp', 1)
  const { fence } = (await store.acquire('job', { holder: 'a', fresh: record('job') })) as { fence: number }
  await set(connection, { jobId: 'job' }, 5)
  await set(connection, { jobId: 'other' }, 5)
  await store.finish('job', fence, record('job'), result('job'), { id: 'job.1' })
  expect((await setBudgets(connection, redis.keys)).map(({ runId }) => runId)).toEqual(['other'])
  // One that is set in the moment of its end would be the next run's.
  await expect(set(connection, { jobId: 'job' }, 5)).rejects.toThrow('job job has ended')
  await connection.hset(redis.keys.job('job'), 'atm', 1)
  expect(await set(connection, { jobId: 'job' }, 5)).toEqual({ changed: true, before: null })
})
