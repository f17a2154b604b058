import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { FenceLostError, InvalidInputError } from '../../src/job/errors.js'
import { Inbox, type ProviderLimit, type ReserveRequest, RunStore, SlotLedger, SlotOwners } from '../../src/store/index.js'
import { newId, passLedgerTime, random, record, until, useRedis } from './fixture.js'

const redis = useRedis()
const ledger = () => new SlotLedger(redis.client, redis.keys)
const limit = (provider: string, sandboxes: number, pool: { cpu?: number; memoryMiB?: number } = {}): ProviderLimit => ({ provider, sandboxes, ...pool })
const ask = (leaseId: string, candidates: readonly ProviderLimit[], fields: Partial<ReserveRequest> = {}): ReserveRequest => ({
  leaseId,
  holder: leaseId,
  candidates,
  demand: { cpu: 1, memoryMiB: 512 },
  ttlMs: 60_000,
  ...fields,
})
const inbox = (holder: string) => new Inbox({ blocking: redis.connect('blocking'), commands: redis.connect() }, redis.keys, holder)
const pass = async (ms: number) => await passLedgerTime(redis.connect(), redis.keys, ms)
const pending = (holder: string) => redis.client.llen(redis.keys.inbox(holder))

describe('reserving', () => {
  it('takes the first candidate with room, says null when all are full, and what each holds', async () => {
    const slots = ledger()
    const candidates = [limit('a', 1), limit('b', 1)]
    expect((await slots.reserve(ask('1', candidates))).provider).toBe('a')
    expect((await slots.reserve(ask('2', candidates))).provider).toBe('b')
    const full = await slots.reserve(ask('3', candidates))
    expect(full.provider).toBeNull()
    expect(full.loads).toMatchObject([
      { provider: 'a', limit: 1, used: 1, waiting: 0, cpu: 1, memoryMiB: 512 },
      { provider: 'b', limit: 1, used: 1, waiting: 0 },
    ])
  })

  it('never takes two places for one lease id, however often it is asked', async () => {
    const slots = ledger()
    const answers = await Promise.all(Array.from({ length: 10 }, () => slots.reserve(ask('1', [limit('a', 5)]))))
    expect(new Set(answers.map(({ provider }) => provider))).toEqual(new Set(['a']))
    expect(await slots.loads()).toMatchObject([{ used: 1 }])
  })

  it('answers all who ask at the same moment what the providers hold with one look, and looks again for who asks later', async () => {
    const client = redis.connect()
    const slots = new SlotLedger(client, redis.keys)
    await slots.reserve(ask('1', [limit('a', 5)]))
    const runs = async () => Number(/cmdstat_evalsha:calls=(\d+)/.exec(await client.info('commandstats'))?.[1])
    await slots.sharedLoads([{ provider: 'a' }])
    const before = await runs()
    const answers = await Promise.all(Array.from({ length: 20 }, () => slots.sharedLoads([{ provider: 'a' }])))
    for (const loads of answers) expect(loads).toMatchObject([{ provider: 'a', used: 1 }])
    expect((await runs()) - before).toBe(1)
    await slots.reserve(ask('2', [limit('a', 5)]))
    expect(await slots.sharedLoads([{ provider: 'a' }])).toMatchObject([{ provider: 'a', used: 2 }])
  })

  it('counts a pool of vCPUs and memory besides sandboxes', async () => {
    const slots = ledger()
    const pool = [limit('a', 10, { cpu: 2, memoryMiB: 1024 })]
    expect((await slots.reserve(ask('1', pool, { demand: { cpu: 0.1, memoryMiB: 900 } }))).provider).toBe('a')
    expect((await slots.reserve(ask('2', pool, { demand: { cpu: 0.1, memoryMiB: 200 } }))).provider).toBeNull()
    expect((await slots.reserve(ask('3', pool, { demand: { cpu: 2, memoryMiB: 10 } }))).provider).toBeNull()
    expect((await slots.reserve(ask('4', pool, { demand: { cpu: 1.9, memoryMiB: 100 } }))).provider).toBe('a')
    await slots.release('1')
    await slots.release('4')
    expect(await slots.loads()).toMatchObject([{ used: 0, cpu: 0, memoryMiB: 0 }])
  })

  it('is looked at without a write: what has expired counts no more, and goes when somebody asks for a place', async () => {
    const slots = ledger()
    const pool = [limit('a', 1, { cpu: 4, memoryMiB: 1024 })]
    const demand = { cpu: 2, memoryMiB: 512 }
    await slots.reserve(ask('1', pool, { demand, ttlMs: 1_000 }))
    await slots.reserve(ask('2', pool, { demand, ttlMs: 1_000, wait: { rank: 0 } }))
    expect(await slots.loads()).toMatchObject([{ provider: 'a', used: 1, waiting: 1, cpu: 2, memoryMiB: 512 }])
    await passLedgerTime(redis.client, redis.keys, 2_000)
    const before = await redis.client.call('DBSIZE')
    const clock = await redis.client.get(`${redis.keys.ledger()}:clock`)
    expect(await slots.loads()).toMatchObject([{ provider: 'a', used: 0, waiting: 0, cpu: 0, memoryMiB: 0 }])
    expect([await redis.client.call('DBSIZE'), await redis.client.get(`${redis.keys.ledger()}:clock`)]).toEqual([before, clock])
    expect((await slots.reserve(ask('3', pool, { demand }))).provider).toBe('a')
  })

  it('drops a bounded part of very many that have expired, and gives none of their places twice', async () => {
    const slots = ledger()
    const pool = [limit('a', 300, { cpu: 300 })]
    for (let index = 0; index < 300; index++) await slots.reserve(ask(`gone ${index}`, pool, { ttlMs: 1_000 }))
    await pass(2_000)
    const left = async () => await redis.client.hlen(`${redis.keys.ledger()}:lease`)
    let given = 0
    for (let calls = 0; given < 300; calls++) {
      const before = await left()
      const { provider } = await slots.reserve(ask(`new ${calls}`, pool))
      if (provider !== null) given++
      expect(before - (await left())).toBeLessThanOrEqual(64)
      expect(calls).toBeLessThan(310)
    }
    expect((await slots.reserve(ask('one more', pool))).provider).toBeNull()
    expect(await slots.loads()).toMatchObject([{ used: 300, cpu: 300 }])
  })

  it('forgets a provider that nobody has asked for in a day, once somebody asks for another one', async () => {
    const slots = ledger()
    await slots.reserve(ask('1', [limit('old', 1)]))
    await slots.release('1')
    await passLedgerTime(redis.client, redis.keys, 25 * 3_600_000)
    expect(await slots.loads()).toEqual([])
    expect(await redis.client.smembers(redis.keys.ledger())).toEqual(['old'])
    await slots.reserve(ask('2', [limit('a', 1)]))
    expect(await redis.client.smembers(redis.keys.ledger())).toEqual(['a'])
  })

  it('grants nothing new while a lowered limit is below what is in use, and takes nothing away', async () => {
    const slots = ledger()
    for (const id of ['1', '2', '3']) await slots.reserve(ask(id, [limit('a', 3)]))
    expect((await slots.reserve(ask('4', [limit('a', 1)], { wait: { rank: 0 } }))).provider).toBeNull()
    await slots.release('1')
    await slots.release('2')
    expect(await pending('4')).toBe(0)
    await slots.release('3')
    expect(await pending('4')).toBe(1)
    expect(await slots.loads()).toMatchObject([{ used: 1, limit: 1 }])
  })

  it('refuses an empty list of candidates and a rank out of range', async () => {
    await expect(ledger().reserve(ask('1', []))).rejects.toThrow(InvalidInputError)
    await expect(ledger().reserve(ask('1', [limit('a', 1)], { wait: { rank: 2 ** 20 } }))).rejects.toThrow('rank')
  })
})

describe('waiting', () => {
  it('wakes exactly one waiter per freed place, by rank and then by arrival, with the place already its own', async () => {
    const slots = ledger()
    const one = [limit('a', 1)]
    await slots.reserve(ask('holder', one))
    for (const [id, rank] of [['late', 5], ['first', 1], ['second', 1]] as const) await slots.reserve(ask(id, one, { wait: { rank } }))
    const order: string[] = []
    let current = 'holder'
    for (let round = 0; round < 3; round++) {
      await slots.release(current)
      const counts = await Promise.all(['late', 'first', 'second'].map(pending))
      expect(counts.reduce((sum, count) => sum + count, 0)).toBe(1)
      current = ['late', 'first', 'second'][counts.indexOf(1)]!
      expect(await inbox(current).next(1_000)).toEqual({ kind: 'grant', leaseId: current, provider: 'a' })
      expect((await slots.reserve(ask(current, one, { wait: { rank: 9 } }))).provider).toBe('a')
      order.push(current)
    }
    expect(order).toEqual(['first', 'second', 'late'])
  })

  it('lets no newcomer overtake a waiter, and keeps the place in the line of who asks again', async () => {
    const slots = ledger()
    await slots.reserve(ask('holder', [limit('a', 1)]))
    await slots.reserve(ask('first', [limit('a', 1)], { wait: { rank: 0 } }))
    await slots.reserve(ask('second', [limit('a', 1)], { wait: { rank: 0 } }))
    await slots.reserve(ask('first', [limit('a', 1)], { wait: { rank: 0 } }))
    // Room for one more by a raised limit: the newcomer who brings it stands behind both.
    expect((await slots.reserve(ask('new', [limit('a', 2)]))).provider).toBeNull()
    expect([await pending('first'), await pending('second')]).toEqual([1, 0])
  })

  it('at several providers takes one place and leaves the other lines', async () => {
    const slots = ledger()
    const both = [limit('a', 1), limit('b', 1)]
    await slots.reserve(ask('1', both))
    await slots.reserve(ask('2', both))
    await slots.reserve(ask('w', both, { wait: { rank: 0 } }))
    await slots.release('2')
    await slots.release('1')
    expect(await pending('w')).toBe(1)
    expect(await slots.loads()).toMatchObject([{ provider: 'a', used: 0, waiting: 0 }, { provider: 'b', used: 1, waiting: 0 }])
  })

  it('passes over a waiter whose demand does not fit the rest of a pool', async () => {
    const slots = ledger()
    const pool = [limit('a', 10, { cpu: 4 })]
    await slots.reserve(ask('holder', pool, { demand: { cpu: 4, memoryMiB: 1 } }))
    await slots.reserve(ask('keeps', pool, { demand: { cpu: 3, memoryMiB: 1 }, wait: { rank: 0 } }))
    await slots.reserve(ask('big', pool, { demand: { cpu: 4, memoryMiB: 1 }, wait: { rank: 0 } }))
    await slots.reserve(ask('small', pool, { demand: { cpu: 1, memoryMiB: 1 }, wait: { rank: 0 } }))
    await slots.release('holder')
    expect([await pending('keeps'), await pending('big'), await pending('small')]).toEqual([1, 0, 1])
  })

  it('ends by withdrawing, and gives back a grant that crossed', async () => {
    const slots = ledger()
    await slots.reserve(ask('holder', [limit('a', 1)]))
    await slots.reserve(ask('gone', [limit('a', 1)], { wait: { rank: 0 } }))
    await slots.reserve(ask('next', [limit('a', 1)], { wait: { rank: 0 } }))
    await slots.release('holder')
    expect(await pending('gone')).toBe(1)
    await slots.withdraw('gone')
    expect(await pending('next')).toBe(1)
    await slots.withdraw('next')
    expect(await slots.loads()).toMatchObject([{ used: 0, waiting: 0 }])
  })

  it('passes a grant on when its holder died before using it', async () => {
    const slots = ledger()
    await slots.reserve(ask('holder', [limit('a', 1)]))
    await slots.reserve(ask('dead', [limit('a', 1)], { ttlMs: 60_000, wait: { rank: 0 } }))
    await slots.release('holder')
    expect(await pending('dead')).toBe(1)
    const alive = ask('alive', [limit('a', 1)], { ttlMs: 600_000, wait: { rank: 0 } })
    expect((await slots.reserve(alive)).provider).toBeNull()
    await pass(60_000)
    await until(async () => (await slots.reserve(alive)).provider === 'a', 'the place moved on')
  })

  it('grants nothing to a waiter who has not been heard of for its time to live', async () => {
    const slots = ledger()
    await slots.reserve(ask('holder', [limit('a', 1)]))
    await slots.reserve(ask('dead', [limit('a', 1)], { ttlMs: 60_000, wait: { rank: 0 } }))
    await slots.reserve(ask('alive', [limit('a', 1)], { ttlMs: 600_000, wait: { rank: 1 } }))
    await pass(60_000)
    await slots.release('holder')
    expect([await pending('dead'), await pending('alive')]).toEqual([0, 1])
  })
})

describe("a job's place", () => {
  it('does not expire, is found by the job, and is freed by release only', async () => {
    const slots = ledger()
    await slots.reserve(ask('1', [limit('a', 1)], { ttlMs: 60_000 }))
    expect(await slots.bind('1', 'job')).toBe(true)
    expect(await slots.bind('1', 'job')).toBe(true)
    await pass(60_000)
    expect((await slots.reserve(ask('2', [limit('a', 1)]))).provider).toBeNull()
    expect(await slots.leaseOf('job')).toEqual({ leaseId: '1', provider: 'a', demand: { cpu: 1, memoryMiB: 512 } })
    await slots.withdraw('1')
    expect(await slots.leaseOf('job')).not.toBeNull()
    await slots.release('1')
    await slots.release('1')
    expect(await slots.leaseOf('job')).toBeNull()
    expect(await slots.loads()).toMatchObject([{ used: 0, cpu: 0 }])
  })

  it('is one: a second reservation for the same job is given back to who waits', async () => {
    const slots = ledger()
    await slots.reserve(ask('1', [limit('a', 2)]))
    await slots.reserve(ask('2', [limit('a', 2)]))
    await slots.reserve(ask('w', [limit('a', 2)], { wait: { rank: 0 } }))
    expect(await slots.bind('1', 'job')).toBe(true)
    expect(await slots.bind('2', 'job')).toBe(false)
    expect(await pending('w')).toBe(1)
    expect((await slots.leaseOf('job'))?.leaseId).toBe('1')
  })

  it('is not had by binding a reservation that expired', async () => {
    const slots = ledger()
    await slots.reserve(ask('1', [limit('a', 1)], { ttlMs: 60_000 }))
    await pass(60_000)
    expect(await slots.bind('1', 'job')).toBe(false)
    expect(await slots.leaseOf('job')).toBeNull()
    expect((await slots.reserve(ask('2', [limit('a', 1)]))).provider).toBe('a')
  })

  it('is what a run may begin with, but not once it was freed', async () => {
    const slots = ledger()
    const owners = new SlotOwners(redis.client, redis.keys)
    const runs = new RunStore(redis.client, redis.keys)
    const owner = { kind: 'job', runId: 'job' } as const
    await slots.reserve(ask('1', [limit('a', 1)]))
    await slots.bind('1', 'job')
    expect(await runs.acquire('job', { holder: 'c', fresh: record('job'), placeAt: 'b' })).toEqual({ kind: 'placeless' })
    expect(await owners.free({ leaseId: '1', owner })).toBe(true)
    expect(await runs.acquire('job', { holder: 'c', fresh: record('job'), placeAt: 'a' })).toEqual({ kind: 'placeless' })
    expect(await runs.read('job')).toBeNull()
    await slots.reserve(ask('2', [limit('a', 1)]))
    await slots.bind('2', 'job')
    expect(await runs.acquire('job', { holder: 'c', fresh: record('job'), placeAt: 'a' })).toMatchObject({ kind: 'acquired', created: true })
    // From the record on the run needs it.
    expect(await owners.free({ leaseId: '2', owner })).toBe(false)
    expect(await runs.acquire('job', { holder: 'd', fresh: record('job'), placeAt: 'b' })).toMatchObject({ kind: 'acquired', created: false })
  })

  it('can not be freed by a holder whose fence is gone', async () => {
    const slots = ledger()
    const runs = new RunStore(redis.client, redis.keys)
    await slots.reserve(ask('1', [limit('a', 1)]))
    await slots.bind('1', 'job')
    const fenceOf = async (holder: string) => {
      const acquired = await runs.acquire('job', { holder, fresh: record('job') })
      return acquired.kind === 'acquired' ? acquired.fence : 0
    }
    const [old, current] = [await fenceOf('old'), await fenceOf('new')]
    await expect(slots.release('1', { jobId: 'job', fence: old })).rejects.toThrow(FenceLostError)
    expect(await slots.leaseOf('job')).not.toBeNull()
    await slots.release('1', { jobId: 'job', fence: current })
    expect(await slots.leaseOf('job')).toBeNull()
  })

  it('of which nothing is known any more is free after a look, and what it had of the pool', async () => {
    const slots = ledger()
    const owners = new SlotOwners(redis.client, redis.keys)
    const candidates = [limit('a', 2, { cpu: 2 })]
    for (const id of ['1', '2']) {
      await slots.reserve(ask(id, candidates))
      await slots.bind(id, id)
    }
    await redis.client.hdel(`${redis.keys.ledger()}:lease`, '2')
    expect((await slots.reserve(ask('3', candidates, { wait: { rank: 0 } }))).provider).toBeNull()
    expect((await owners.bound('a')).slots).toMatchObject([{ leaseId: '1' }])
    expect(await pending('3')).toBe(1)
    expect(await slots.loads()).toMatchObject([{ used: 2, waiting: 0, cpu: 2, memoryMiB: 1024 }])
  })
})

describe('very many that wait are seen to in parts', () => {
  const commands = async () => [...(await redis.client.info('commandstats')).matchAll(/cmdstat_(\S+):calls=(\d+)/g)].reduce((sum, [, , calls]) => sum + Number(calls), 0)
  /** A reservation in as many calls as it takes, each of so many commands at most. */
  async function reserveInParts(request: ReserveRequest): Promise<{ provider: string | null; calls: number; most: number }> {
    for (let calls = 1, most = 0; ; calls++) {
      const before = await commands()
      const { provider, opensInMs } = await ledger().reserve(request)
      most = Math.max(most, (await commands()) - before)
      if (provider !== null || opensInMs !== 1) return { provider, calls, most }
    }
  }

  it.each([
    ['they have died', 70_000, []],
    ['the limit was raised', 0, Array.from({ length: 300 }, (_, index) => `w${index}`)],
  ])('%s', async (_why, laterMs, granted) => {
    const slots = ledger()
    await slots.reserve(ask('holder', [limit('a', 1)], { ttlMs: 600_000 }))
    await Promise.all(Array.from({ length: 300 }, (_, index) => slots.reserve(ask(`w${index}`, [limit('a', 1)], { wait: { rank: 0 } }))))
    await pass(laterMs)
    const { provider, calls, most } = await reserveInParts(ask('new', [limit('a', 302)], { wait: { rank: 1 } }))
    expect(provider).toBe('a')
    expect(calls).toBe(5)
    expect(most).toBeLessThan(2_500)
    const { slots: held } = await new SlotOwners(redis.client, redis.keys).bound('a')
    expect(held).toEqual([])
    expect(await redis.client.hlen(`${redis.keys.ledger()}:lease`)).toBe(granted.length + 2)
  })

  it('those that are too large for the rest of a pool', async () => {
    const slots = ledger()
    const pool = limit('a', 1_000, { cpu: 4 })
    await slots.reserve(ask('holder', [pool], { demand: { cpu: 3, memoryMiB: 0 }, ttlMs: 600_000 }))
    await Promise.all(Array.from({ length: 300 }, (_, index) => slots.reserve(ask(`large${index}`, [pool], { demand: { cpu: 2, memoryMiB: 0 }, wait: { rank: 0 } }))))
    const before = await commands()
    expect((await slots.reserve(ask('small', [pool], { wait: { rank: 1 } }))).provider).toBeNull()
    expect((await commands()) - before).toBeLessThan(2_500)
  })
})

it('keeps waiters in line by one renewal, and says which stand there no more', async () => {
  const slots = ledger()
  await slots.reserve(ask('granted', [limit('a', 1)], { holder: 'c', ttlMs: 60_000 }))
  await slots.reserve(ask('waits', [limit('a', 1)], { holder: 'c', ttlMs: 60_000, wait: { rank: 0 } }))
  await slots.reserve(ask('gives up', [limit('a', 1)], { holder: 'd', ttlMs: 60_000, wait: { rank: 0 } }))
  expect(await slots.renew('c', ['granted', 'waits', 'other'], 600_000)).toEqual(['granted', 'other'])
  expect(await slots.renew('somebody', ['waits'], 600_000)).toEqual(['waits'])
  await pass(60_000)
  // The grant has expired, as that of one who never heard of it.
  expect((await slots.reserve(ask('new', [limit('a', 1)]))).provider).toBeNull()
  expect(await pending('c')).toBe(1)
  await slots.release('waits')
  expect(await pending('d')).toBe(0)
})

describe('under many concurrent consumers', () => {
  // A failing seed is repeated with SEED=n.
  const seeds = process.env['SEED'] === undefined ? [1, 2, 3] : [Number(process.env['SEED'])]
  it.each(seeds)('never exceeds a limit, and ends with every place free and nobody waiting (seed %i)', async (seed) => {
    const limits = [limit('a', 3), limit('b', 2, { cpu: 3 }), limit('c', 4, { memoryMiB: 2048 })]
    const maxima = new Map([['a', 3], ['b', 2], ['c', 4]])
    const observer = ledger()
    const next = random(seed)
    const held = new Map<string, number>()
    let over = ''
    // Counts by itself, from the consumers' side: what they were told and have not given back.
    const took = (provider: string) => {
      held.set(provider, (held.get(provider) ?? 0) + 1)
      if (held.get(provider)! > maxima.get(provider)!) over = `${provider} was over its limit with ${held.get(provider)}`
    }
    const gave = (provider: string) => held.set(provider, held.get(provider)! - 1)
    const consumer = async (index: number) => {
      const slots = ledger()
      const box = inbox(`c${index}`)
      for (let round = 0; round < 25; round++) {
        const leaseId = newId()
        const candidates = limits.filter(() => next() < 0.7)
        if (candidates.length === 0) continue
        const request = ask(leaseId, candidates, {
          holder: `c${index}`,
          demand: { cpu: 0.5 + next(), memoryMiB: 256 + Math.floor(next() * 512) },
          wait: { rank: Math.floor(next() * 3) },
        })
        let { provider } = await slots.reserve(request)
        if (provider === null && next() < 0.2) {
          await slots.withdraw(leaseId)
          continue
        }
        // At most once a second by asking again, otherwise by the inbox; a grant of a withdrawn lease is not ours any more.
        while (provider === null) {
          const message = await box.next(1_000)
          if (message === null) provider = (await slots.reserve(request)).provider
          else if (message.kind === 'grant' && message.leaseId === leaseId) provider = message.provider
        }
        took(provider)
        if (next() < 0.5) expect(await slots.bind(leaseId, newId())).toBe(true)
        if (next() < 0.5) await delay(next() * 5)
        gave(provider)
        await slots.release(leaseId)
      }
    }
    const done = new AbortController()
    const watch = (async () => {
      while (!done.signal.aborted) {
        for (const load of await observer.loads()) {
          if (load.used > load.limit || load.cpu > (load.cpuLimit ?? Infinity) || load.memoryMiB > (load.memoryMiBLimit ?? Infinity)) {
            over = `the ledger had ${JSON.stringify(load)}`
          }
        }
      }
    })()
    await Promise.all(Array.from({ length: 16 }, (_, index) => consumer(index)))
    done.abort()
    await watch
    expect(over).toBe('')
    for (const load of await observer.loads()) expect(load).toMatchObject({ used: 0, waiting: 0, cpu: 0, memoryMiB: 0 })
    const client = redis.connect()
    const left = (await client.keys(`${redis.keys.ledger()}*`)).map((key) => key.slice(redis.keys.ledger().length)).sort()
    expect(left).toEqual(['', ':arrivals', ':clock', ':provider:a', ':provider:b', ':provider:c'])
  })
})
