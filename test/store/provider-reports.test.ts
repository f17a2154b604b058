import { describe, expect, it } from 'vitest'
import { type ProviderLimit, type ProviderLoad, type ReserveRequest, SlotLedger } from '../../src/store/index.js'
import { newId, passLedgerTime, until, useRedis } from './fixture.js'

const redis = useRedis()
const ledger = () => new SlotLedger(redis.client, redis.keys)
const limit = (provider: string, sandboxes: number, more: Partial<ProviderLimit> = {}): ProviderLimit => ({ provider, sandboxes, ...more })
const ask = (limits: readonly ProviderLimit[], fields: Partial<ReserveRequest> = {}): ReserveRequest => ({
  leaseId: newId(),
  holder: 'me',
  candidates: limits,
  demand: { cpu: 0, memoryMiB: 0 },
  ttlMs: 60_000,
  ...fields,
})
/** Moves a provider's clock fields: what was set for later is now, what was now is earlier. */
const letTimePass = async (provider: string, ms: number) => {
  const client = redis.connect()
  const key = `${redis.keys.ledger()}:provider:${provider}`
  for (const field of ['openUntil', 'ceilingAt', 'blockedUntil', 'slowdownAt', 'tokensAt', 'failedAt', 'foreignUntil', 'probeAt']) {
    const value = await client.hget(key, field)
    if (value !== null) await client.hset(key, field, Number(value) - ms)
  }
}
const loadOf = async (provider: string): Promise<ProviderLoad> => (await ledger().loads([{ provider }]))[0]!
const take = async (slots: SlotLedger, limits: readonly ProviderLimit[], times: number) => {
  const taken: string[] = []
  for (let i = 0; i < times; i++) {
    const request = ask(limits)
    if ((await slots.reserve(request)).provider !== null) taken.push(request.leaseId)
  }
  return taken
}

describe('the learned ceiling', () => {
  it('is below what was in use when the provider said "limit reached", and rises again to the configured limit', async () => {
    const slots = ledger()
    const twenty = [limit('a', 20)]
    const taken = await take(slots, twenty, 11)
    await slots.report('a', { kind: 'capacity' })
    await slots.release(taken[0]!)
    expect(await loadOf('a')).toMatchObject({ limit: 20, effectiveLimit: 10, used: 10 })
    expect((await slots.reserve(ask(twenty))).provider).toBeNull()
    await letTimePass('a', 5_000)
    expect((await slots.reserve(ask(twenty))).provider).toBe('a')
    await letTimePass('a', 60_000)
    expect(await loadOf('a')).toMatchObject({ effectiveLimit: 20 })
  })

  it('converges when several were refused at once', async () => {
    const slots = ledger()
    // The account really takes 10; 14 tried.
    const taken = await take(slots, [limit('a', 20)], 14)
    for (const leaseId of taken.slice(0, 4)) {
      await slots.report('a', { kind: 'capacity' })
      await slots.release(leaseId)
    }
    expect(await loadOf('a')).toMatchObject({ effectiveLimit: 10, used: 10 })
  })

  it('goes down to nothing when an account is full of others’, and says when it is tried again', async () => {
    const slots = ledger()
    const [first] = await take(slots, [limit('a', 5)], 1)
    await slots.report('a', { kind: 'capacity' })
    await slots.release(first!)
    const refused = await slots.reserve(ask([limit('a', 5)]))
    expect(refused).toMatchObject({ provider: null, loads: [{ effectiveLimit: 0 }] })
    expect(refused.opensInMs).toBeGreaterThan(0)
    expect(refused.opensInMs).toBeLessThanOrEqual(5_000)
  })
})

describe('sandboxes of others in the same account', () => {
  it('take from the limit for as long as they are believed', async () => {
    const slots = ledger()
    await take(slots, [limit('a', 5)], 2)
    await slots.report('a', { kind: 'foreign', count: 3, forMs: 60_000 })
    expect(await loadOf('a')).toMatchObject({ limit: 5, effectiveLimit: 2, foreign: 3, used: 2 })
    expect((await slots.reserve(ask([limit('a', 5)]))).provider).toBeNull()
    await letTimePass('a', 60_000)
    expect((await slots.reserve(ask([limit('a', 5)]))).provider).toBe('a')
  })
})

describe('the create rate', () => {
  it('lets as many through at once as the bucket holds, and then as many as the rate allows', async () => {
    const slots = ledger()
    const limits = [limit('a', 50, { createsPerSecond: 2, createBurst: 4 })]
    // The clock runs while this is asked, so one more may have come by.
    const taken = (await take(slots, limits, 10)).length
    expect(taken).toBeGreaterThanOrEqual(4)
    expect(taken).toBeLessThan(8)
    const refused = await slots.reserve(ask(limits))
    if (refused.provider === null) expect(refused.opensInMs).toBeGreaterThan(0)
    await letTimePass('a', 1_000)
    expect((await take(slots, limits, 2)).length).toBe(2)
  })

  it('gives a waiter the place once a create is allowed again', async () => {
    const slots = ledger()
    const limits = [limit('a', 50, { createsPerSecond: 4 })]
    await take(slots, limits, 8)
    const waiting = ask(limits, { wait: { rank: 0 } })
    await until(async () => (await slots.reserve(waiting)).provider === 'a', 'the bucket has filled')
  })

  it('stops for as long as the provider said, and goes on at half the rate', async () => {
    const slots = ledger()
    const limits = [limit('a', 50, { createsPerSecond: 10 })]
    await take(slots, limits, 1)
    await slots.report('a', { kind: 'rate-limited', retryAfterMs: 30_000 })
    const refused = await slots.reserve(ask(limits))
    expect(refused.provider).toBeNull()
    expect(refused.opensInMs).toBeGreaterThan(15_000)
    const { createsPerSecond, blockedUntilMs } = await loadOf('a')
    expect(blockedUntilMs).not.toBeNull()
    expect(createsPerSecond).toBeGreaterThanOrEqual(5)
    expect(createsPerSecond).toBeLessThan(6)
    await letTimePass('a', 30_000)
    expect((await slots.reserve(ask(limits))).provider).toBe('a')
    await letTimePass('a', 100_000)
    expect(await loadOf('a')).toMatchObject({ createsPerSecond: 10, blockedUntilMs: null })
  })
})

describe('the circuit breaker', () => {
  const limits = [limit('a', 5)]
  const fail = async (slots: SlotLedger, times: number) => {
    for (let i = 0; i < times; i++) await slots.report('a', { kind: 'down' })
  }

  it('opens for all consumers at the third failure in a row, and not when a create worked between them', async () => {
    const slots = ledger()
    await take(slots, limits, 1)
    await fail(slots, 2)
    await slots.report('a', { kind: 'created', startsMs: [100] })
    await fail(slots, 2)
    expect(await loadOf('a')).toMatchObject({ breaker: 'closed' })
    await fail(slots, 1)
    expect(await loadOf('a')).toMatchObject({ breaker: 'open', openedBy: 'down' })
    const refused = await ledger().reserve(ask(limits))
    expect(refused.provider).toBeNull()
    expect(refused.opensInMs).toBeGreaterThan(0)
  })

  it('forgets failures that are long ago', async () => {
    const slots = ledger()
    await fail(slots, 2)
    await letTimePass('a', 60_000)
    await fail(slots, 1)
    expect(await loadOf('a')).toMatchObject({ breaker: 'closed' })
  })

  it('lets a single probe through when its time is up; it closes when that worked and opens for twice as long when not', async () => {
    const slots = ledger()
    await fail(slots, 3)
    await letTimePass('a', 5_000)
    expect(await loadOf('a')).toMatchObject({ breaker: 'half-open' })
    const answers = await Promise.all(Array.from({ length: 5 }, () => slots.reserve(ask(limits))))
    expect(answers.filter(({ provider }) => provider === 'a')).toHaveLength(1)
    expect(await loadOf('a')).toMatchObject({ breaker: 'probing', used: 1 })
    await fail(slots, 1)
    const { breaker, openUntilMs } = await loadOf('a')
    expect(breaker).toBe('open')
    expect(openUntilMs! - Date.now()).toBeGreaterThan(5_000)
    // Jobs that were under way there fail as well; that says nothing new.
    await fail(slots, 3)
    expect((await loadOf('a')).openUntilMs).toBe(openUntilMs)
    await letTimePass('a', 10_000)
    expect((await slots.reserve(ask(limits))).provider).toBe('a')
    await slots.report('a', { kind: 'created', startsMs: [100] })
    expect(await loadOf('a')).toMatchObject({ breaker: 'closed', openUntilMs: null, openedBy: null })
    expect(await take(slots, limits, 2)).toHaveLength(2)
  })

  it('lets the next probe through when one was given back without a verdict', async () => {
    const slots = ledger()
    await fail(slots, 3)
    await letTimePass('a', 5_000)
    const [probe] = await take(slots, limits, 1)
    expect(await take(slots, limits, 1)).toHaveLength(0)
    await slots.release(probe!)
    expect(await take(slots, limits, 1)).toHaveLength(1)
  })

  it('opens at once and for long when credentials are refused', async () => {
    await ledger().report('a', { kind: 'auth' })
    const { breaker, openedBy, openUntilMs } = await loadOf('a')
    expect({ breaker, openedBy }).toEqual({ breaker: 'open', openedBy: 'auth' })
    expect(openUntilMs! - Date.now()).toBeGreaterThan(200_000)
  })

  it('gives waiters the places once it closes', async () => {
    const slots = ledger()
    await fail(slots, 3)
    await letTimePass('a', 5_000)
    const [probe] = await take(slots, limits, 1)
    const waiting = ask(limits, { holder: 'other', wait: { rank: 0 } })
    expect((await slots.reserve(waiting)).provider).toBeNull()
    await slots.report('a', { kind: 'created', startsMs: [100] })
    expect((await redis.client.lrange(redis.keys.inbox('other'), 0, -1)).map((text) => JSON.parse(text) as object)).toEqual([{ kind: 'grant', leaseId: waiting.leaseId, provider: 'a' }])
    await slots.release(probe!)
  })
})

describe('a provider that says "too many calls" over and over', () => {
  const limits = [limit('a', 1_000)]
  const refuse = async (times: number, retryAfterMs?: number) => {
    for (let i = 0; i < times; i++) await ledger().report('a', { kind: 'rate-limited', retryAfterMs })
  }
  const opensIn = async () => (await ledger().reserve(ask(limits))).opensInMs ?? 0
  const pass = async (ms: number) => await passLedgerTime(redis.connect(), redis.keys, ms)

  it('is closed to all at the third in a row, for ever longer and a minute at most, with one job at a time that tries', async () => {
    const slots = ledger()
    await take(slots, limits, 1)
    await refuse(2)
    await slots.report('a', { kind: 'created', startsMs: [100] })
    await refuse(2)
    expect(await loadOf('a')).toMatchObject({ breaker: 'closed' })
    const waits: number[] = []
    for (let i = 0; i < 9; i++) {
      // Those that were under way say nothing new.
      await refuse(i === 0 ? 20 : 1)
      expect(await loadOf('a')).toMatchObject({ breaker: 'open', openedBy: 'rate-limited' })
      const waitMs = await opensIn()
      await refuse(5)
      expect(await opensIn()).toBeLessThanOrEqual(waitMs)
      waits.push(waitMs)
      await pass(waitMs)
      const [probe, ...others] = await take(slots, limits, 5)
      expect(others).toEqual([])
      expect(await loadOf('a')).toMatchObject({ breaker: 'probing' })
      await slots.release(probe!)
    }
    for (const [index, waitMs] of waits.entries()) {
      const expectedMs = Math.min(60_000, 2_000 * 2 ** index)
      // Redis' clock runs meanwhile.
      expect(waitMs).toBeGreaterThan(expectedMs * 0.75 - 500)
      expect(waitMs).toBeLessThanOrEqual(expectedMs * 1.25)
    }
  })

  it('is followed where it says for how long', async () => {
    const slots = ledger()
    await take(slots, limits, 1)
    await refuse(3, 20_000)
    for (let i = 0; i < 4; i++) {
      const waitMs = await opensIn()
      expect(waitMs).toBeGreaterThan(15_000)
      expect(waitMs).toBeLessThanOrEqual(20_000)
      // What one that was under way is told holds as well.
      await refuse(1, 30_000)
      await pass(waitMs)
      expect(await take(slots, limits, 2)).toEqual([])
      await pass(30_000 - waitMs)
      expect(await take(slots, limits, 2)).toHaveLength(1)
      await refuse(1, 20_000)
    }
  })

  it('has another job try after ten seconds when a create hangs, since it says no at once', async () => {
    const slots = ledger()
    await refuse(3)
    await pass(3_000)
    expect(await take(slots, limits, 2)).toHaveLength(1)
    await pass(10_000)
    expect(await take(slots, limits, 2)).toHaveLength(1)
  })

  it('is open again once a create succeeds, but not to all that wait at once, and at no pace a minute later', async () => {
    const slots = ledger()
    await refuse(3)
    await pass(3_000)
    await take(slots, limits, 1)
    await slots.report('a', { kind: 'created', startsMs: [100] })
    const { breaker, openUntilMs, openedBy, createsPerSecond } = await loadOf('a')
    expect({ breaker, openUntilMs, openedBy }).toEqual({ breaker: 'closed', openUntilMs: null, openedBy: null })
    expect(createsPerSecond).toBeLessThan(3)
    expect((await take(slots, limits, 20)).length).toBeLessThan(5)
    await pass(60_000)
    expect(await take(slots, limits, 200)).toHaveLength(200)
    expect(await loadOf('a')).toMatchObject({ createsPerSecond: null })
  })

  it('keeps a bucket from being emptied at once, too', async () => {
    const slots = ledger()
    const rated = [limit('a', 1_000, { createsPerSecond: 50, createBurst: 200 })]
    await take(slots, rated, 1)
    await refuse(3)
    await pass(3_000)
    await take(slots, rated, 1)
    await slots.report('a', { kind: 'created', startsMs: [100] })
    expect((await take(slots, rated, 50)).length).toBeLessThan(20)
  })

  it('ends as an outage does where the job that tries finds one, and the other way round', async () => {
    const slots = ledger()
    await refuse(3)
    for (let i = 0; i < 4; i++) {
      await pass(70_000)
      await take(slots, limits, 1)
      await refuse(1)
    }
    await pass(70_000)
    await slots.report('a', { kind: 'down' })
    expect(await loadOf('a')).toMatchObject({ breaker: 'open', openedBy: 'down' })
    expect(await opensIn()).toBeLessThanOrEqual(5_000)
    await pass(5_000)
    await refuse(1)
    expect(await loadOf('a')).toMatchObject({ breaker: 'open', openedBy: 'rate-limited' })
    expect(await opensIn()).toBeLessThanOrEqual(2_500)
  })

  it('leaves the breaker alone that waits for a sandbox to answer', async () => {
    const slots = ledger()
    for (const sandboxId of ['s1', 's2', 's3']) await slots.report('a', { kind: 'unreachable', sandboxId, quietMs: 1 })
    await refuse(5)
    await pass(5_000)
    await refuse(5)
    expect(await loadOf('a')).toMatchObject({ breaker: 'half-open', openedBy: 'data-plane' })
    await slots.report('a', { kind: 'answered' })
    expect(await loadOf('a')).toMatchObject({ breaker: 'closed' })
  })

  it('is asked some ten times in ten minutes by 600 jobs, and a little faster than it likes at most once it goes on', async () => {
    const slots = ledger()
    const client = redis.connect()
    const jobs = Array.from({ length: 600 }, () => ask(limits, { wait: { rank: 0 }, ttlMs: 36_000_000 }))
    const waiting = new Map(jobs.map((job) => [job.leaseId, job]))
    await Promise.all(jobs.map((job) => slots.reserve(job)))
    let nowMs = 0
    // What the provider takes: nothing at first, later five a second.
    const creates: { atMs: number; taken: boolean }[] = []
    const takes = () => nowMs >= 600_000 && creates.filter(({ atMs, taken }) => taken && nowMs - atMs < 1_000).length < 5
    const granted = new Set<string>()
    const step = async (ms: number) => {
      nowMs += ms
      await passLedgerTime(client, redis.keys, ms)
      const [first] = waiting.values()
      if (first !== undefined && (await slots.reserve(first)).provider !== null) granted.add(first.leaseId)
      for (const text of (await client.lpop(redis.keys.inbox('me'), 1_000)) ?? []) granted.add((JSON.parse(text) as { leaseId: string }).leaseId)
      let made = 0
      for (const leaseId of granted) {
        const taken = takes()
        creates.push({ atMs: nowMs, taken })
        if (taken) made++
        else await slots.report('a', { kind: 'rate-limited', retryAfterMs: undefined })
        const job = waiting.get(leaseId)!
        waiting.delete(leaseId)
        if (taken) continue
        await slots.release(leaseId)
        const again = { ...job, leaseId: newId() }
        waiting.set(again.leaseId, again)
        if ((await slots.reserve(again)).provider !== null) granted.add(again.leaseId)
        granted.delete(leaseId)
      }
      granted.clear()
      if (made > 0) await slots.report('a', { kind: 'created', startsMs: [100] })
    }
    while (nowMs < 600_000) await step(1_000)
    const all = creates.length
    // All 600 had been granted their place when it was not known yet.
    expect(all - 600).toBeLessThan(25)
    while (waiting.size > 0 && nowMs < 1_800_000) await step(200)
    expect(waiting.size).toBe(0)
    const then = creates.slice(all)
    expect(then.filter(({ taken }) => !taken).length).toBeLessThan(300)
    for (const { atMs } of then) expect(then.filter((other) => other.atMs >= atMs && other.atMs < atMs + 1_000).length).toBeLessThan(40)
  })
})

it('knows the median and the 95th percentile of the latest hundred starts', async () => {
  const slots = ledger()
  for (let ms = 1; ms <= 150; ms++) await slots.report('a', { kind: 'created', startsMs: [ms] })
  expect(await loadOf('a')).toMatchObject({ startP50Ms: 100, startP95Ms: 145 })
  expect(await redis.client.llen(`${redis.keys.ledger()}:starts:a`)).toBe(100)
})

describe('sandboxes that live but can’t be reached', () => {
  const quietMs = 30_000
  const unreachable = (sandboxId: string) => ledger().report('a', { kind: 'unreachable', sandboxId, quietMs })

  it('are the provider’s outage when they are three and none answers: one for all, until one does', async () => {
    const slots = ledger()
    await take(slots, [limit('a', 20)], 5)
    for (const sandbox of ['s1', 's1', 's2', 's1']) await unreachable(sandbox)
    expect(await loadOf('a')).toMatchObject({ breaker: 'closed' })
    await unreachable('s3')
    const opened = await loadOf('a')
    expect(opened).toMatchObject({ breaker: 'open', openedBy: 'data-plane' })
    for (const sandbox of ['s4', 's5', 's1']) await unreachable(sandbox)
    expect((await loadOf('a')).openUntilMs).toBe(opened.openUntilMs)
    // That it goes on to make sandboxes proves nothing of the way into them.
    await slots.report('a', { kind: 'created', startsMs: [10] })
    expect(await loadOf('a')).toMatchObject({ breaker: 'open', startMaxMs: 10 })
    await slots.report('a', { kind: 'answered' })
    expect(await loadOf('a')).toMatchObject({ breaker: 'closed', openedBy: null })
  })

  it('are their own affair while another one answers', async () => {
    const slots = ledger()
    await take(slots, [limit('a', 20)], 5)
    await slots.report('a', { kind: 'answered' })
    for (const sandbox of ['s1', 's2', 's3', 's4']) await unreachable(sandbox)
    expect(await loadOf('a')).toMatchObject({ breaker: 'closed' })
    const client = redis.connect()
    await client.hset(`${redis.keys.ledger()}:provider:a`, 'answeredAt', Date.now() - quietMs - 10_000)
    await unreachable('s1')
    expect(await loadOf('a')).toMatchObject({ breaker: 'open', openedBy: 'data-plane' })
  })

  it('open the breaker for longer each time that a probe fails', async () => {
    await take(ledger(), [limit('a', 20)], 1)
    for (const sandbox of ['s1', 's2', 's3']) await unreachable(sandbox)
    await letTimePass('a', 5_001)
    expect(await loadOf('a')).toMatchObject({ breaker: 'half-open' })
    await unreachable('s1')
    const { breaker, openUntilMs } = await loadOf('a')
    expect(breaker).toBe('open')
    expect((openUntilMs ?? 0) - Date.now()).toBeGreaterThan(5_000)
  })
})
