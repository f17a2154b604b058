import { Queue } from 'bullmq'
import type { Redis } from 'ioredis'
import { beforeEach, describe, expect, it } from 'vitest'
import { parseJobSpec, type JobSpecInput } from '../../src/job/spec.js'
import { Budgets, Keys, type KnownConstraints, Operators, type ProviderLimit, ReadyJobs, RunStore } from '../../src/store/index.js'
import { after, newId, record, result, useRedis } from './fixture.js'

const redis = useRedis()
let client: Redis
beforeEach(() => {
  client = redis.connect()
})

/** As if so much time had passed since the last look: the deployment's clock follows Redis' by at most a minute between two looks. */
async function advance(ms: number): Promise<void> {
  const key = `${redis.keys.ledger()}:clock`
  for (let left = ms; left > 0; left -= 50_000) {
    const [seen, steady] = (await client.get(key))!.split(' ').map(Number)
    await client.set(key, `${seen! - Math.min(left, 50_000)} ${steady}`)
    await new ReadyJobs(client, redis.keys).accrue(['none'])
  }
}

/** A queue of the deployment, and a consumer of it. */
async function side(name: string, limits: readonly ProviderLimit[] = [{ provider: 'p', sandboxes: 1 }]) {
  const keys = new Keys(redis.keys.prefix, name)
  const queue = new Queue(name, { connection: client, prefix: keys.prefix })
  after(() => queue.close())
  await queue.waitUntilReady()
  const ready = new ReadyJobs(client, keys)
  const providers = limits.map(({ provider }) => provider)
  let again = 0
  const look = async (idleMs = 0, viewId = name) => {
    let known: KnownConstraints[] = []
    for (;;) {
      const means = { profileId: name, viewId, providers, secrets: [], shares: false }
      const found = await ready.dispatch({ holder: name, leaseId: newId(), limits, known, choice: 'most-free', means, graceMs: 60_000, idleMs })
      known = found.unknown.map(({ id, number, json }) => ({ id, number, can: [(JSON.parse(json) as { providers?: { allow?: string[] } }).providers?.allow ?? providers] }))
      if (found.what === 'again') again++
      if (found.what === 'take' || (found.what === 'nothing' && known.length === 0)) return found
    }
  }
  return {
    keys,
    queue,
    ready,
    look,
    agains: () => again,
    async add(jobId: string, more: Partial<JobSpecInput> = {}) {
      const spec = parseJobSpec({ repository: 'acme/web', steps: ['true'], ...more })
      await queue.add('job', { spec }, { jobId, priority: spec.priority })
      await ready.add([{ jobId, spec }])
    },
    async addMany(ids: readonly string[], more: Partial<JobSpecInput> = {}) {
      const spec = parseJobSpec({ repository: 'acme/web', steps: ['true'], ...more })
      await queue.addBulk(ids.map((jobId) => ({ name: 'job', data: { spec }, opts: { jobId, priority: spec.priority } })))
      await ready.add(ids.map((jobId) => ({ jobId, spec })))
    },
    async take(): Promise<string | null> {
      return (await look()).what === 'take' ? await client.rpop(keys.bullmq('wait')) : null
    },
  }
}

describe('a tenant’s share', () => {
  it('is that of time, also of one that enqueues the next when the last has ended, beside a backlog of short ones', async () => {
    const one = await side('agents')
    await one.addMany(Array.from({ length: 400 }, (_, index) => `b${index}`), { tenant: 'b' })
    await one.add('a0', { tenant: 'a' })
    const used = { a: 0, b: 0 }
    for (let turn = 1; used.a + used.b < 60_000; turn++) {
      const jobId = (await one.take())!
      const tenant = jobId.slice(0, 1) as 'a' | 'b'
      const ms = tenant === 'a' ? 3_000 : 300
      used[tenant] += ms
      await advance(ms)
      await client.del(one.keys.job(jobId))
      await one.ready.close(jobId)
      if (tenant === 'a') {
        // For a moment it has nothing.
        await advance(5)
        await one.add(`a${turn}`, { tenant: 'a' })
      }
    }
    expect(used.a / (used.a + used.b)).toBeGreaterThan(0.42)
    expect(used.a / (used.a + used.b)).toBeLessThan(0.58)
  })

  it('holds across queues: what it used in one counts in the other', async () => {
    const [one, two] = [await side('one'), await side('two')]
    await one.addMany(Array.from({ length: 30 }, (_, index) => `x-one-${index}`), { tenant: 'x' })
    for (let turn = 0; turn < 10; turn++) {
      const jobId = (await one.take())!
      await advance(1_000)
      await one.ready.close(jobId)
    }
    await two.addMany(Array.from({ length: 30 }, (_, index) => `x-two-${index}`), { tenant: 'x' })
    await two.addMany(Array.from({ length: 30 }, (_, index) => `y-two-${index}`), { tenant: 'y' })
    const seconds = { x: 0, y: 0 }
    for (let turn = 0; turn < 30; turn++) {
      // Whoever looks, it is given to the queue whose turn it is, or left to it.
      await two.look(60_000)
      await one.look(60_000)
      let jobId: string | null = null
      for (const { keys } of [one, two]) jobId ??= await client.rpop(keys.bullmq('wait'))
      if (jobId === null) throw new Error('nothing was given')
      seconds[jobId.slice(0, 1) as 'x' | 'y'] += 1
      await one.look(60_000)
      await two.look(60_000)
      await advance(1_000)
      await (jobId.includes('-one-') ? one : two).ready.close(jobId)
    }
    expect(Math.abs(seconds.x - seconds.y)).toBeLessThanOrEqual(4)
  })

  it('is not taken from a queue by another of the same tenant, however long its jobs are', async () => {
    const [one, two] = [await side('one'), await side('two')]
    await one.addMany(Array.from({ length: 40 }, (_, index) => `one-${index}`))
    await two.addMany(Array.from({ length: 200 }, (_, index) => `two-${index}`))
    const used = { one: 0, two: 0 }
    for (let turn = 0; used.one + used.two < 60_000; turn++) {
      await two.look(60_000)
      await one.look(60_000)
      let jobId: string | null = null
      for (const { keys } of [one, two]) jobId ??= await client.rpop(keys.bullmq('wait'))
      const name = jobId!.split('-')[0] as 'one' | 'two'
      const ms = name === 'one' ? 4_000 : 400
      used[name] += ms
      // As consumers do: each looks until there is nothing for it.
      await one.look(60_000)
      await two.look(60_000)
      await advance(ms)
      await (name === 'one' ? one : two).ready.close(jobId!)
    }
    expect(used.one / (used.one + used.two)).toBeGreaterThan(0.4)
    expect(used.one / (used.one + used.two)).toBeLessThan(0.6)
  })

  describe('is no greater for time in which it could have had no turn:', () => {
    /** Two tenants, each in a queue of its own; what each uses of the one place in a minute. */
    async function two() {
      const [one, two] = [await side('one'), await side('two')]
      await one.addMany(Array.from({ length: 80 }, (_, index) => `a${index}`), { tenant: 'a' })
      await two.addMany(Array.from({ length: 80 }, (_, index) => `b${index}`), { tenant: 'b' })
      const minute = async () => {
        const used = { a: 0, b: 0 }
        for (let turn = 0; turn < 20; turn++) {
          await two.look(60_000)
          await one.look(60_000)
          let jobId: string | null = null
          for (const { keys } of [one, two]) jobId ??= await client.rpop(keys.bullmq('wait'))
          if (jobId === null) throw new Error('nothing was given')
          used[jobId.slice(0, 1) as 'a' | 'b'] += 3
          await two.look(60_000)
          await one.look(60_000)
          await advance(3_000)
          await (jobId.startsWith('a') ? one : two).ready.close(jobId)
        }
        return used
      }
      return { one, two, minute }
    }

    type Sides = Awaited<ReturnType<typeof two>>

    async function othersUse({ minute }: Sides): Promise<void> {
      // One may have been given before.
      const used = [await minute(), await minute()]
      expect(used.reduce((all, { a }) => all + a, 0)).toBeGreaterThanOrEqual(117)
    }

    async function alike({ minute }: Sides): Promise<void> {
      const { a, b } = await minute()
      expect(Math.abs(a - b)).toBeLessThanOrEqual(9)
    }

    it.each<[string, (sides: Sides) => Promise<unknown>, (sides: Sides) => Promise<unknown>]>([
      ['its queue was paused', ({ two }) => two.queue.pause(), ({ two }) => two.queue.resume()],
      [
        'it was paused',
        () => client.hset(`${redis.keys.ready()}:set`, 'b', JSON.stringify({ pause: { by: 'somebody', atMs: 1 } })),
        () => client.multi().del(`${redis.keys.ready()}:set`).sadd(`${redis.keys.ready()}:uncapping`, 'b').exec(),
      ],
      [
        'it was at its cap',
        () => client.hset(`${redis.keys.ready()}:shares`, 'b', JSON.stringify({ weight: 1, cap: 0 })),
        () => client.multi().del(`${redis.keys.ready()}:shares`).sadd(`${redis.keys.ready()}:uncapping`, 'b').exec(),
      ],
    ])('%s', async (_what, stop, resume) => {
      const sides = await two()
      await sides.minute()
      await stop(sides)
      await othersUse(sides)
      await resume(sides)
      await alike(sides)
    })

    it('its budget had too little', async () => {
      const sides = await two()
      await sides.minute()
      const budgets = new Budgets(client, sides.two.keys, { timeZone: 'UTC', currency: 'USD', now: Date.now, configured: new Map([['b', 100]]) })
      const { fence } = (await new RunStore(client, sides.two.keys).acquire('other', { holder: 'c', fresh: record('other') })) as { fence: number }
      const { stamp } = await budgets.cover('other', { fence, tenant: 'b', jobCap: undefined, ended: {}, attempt: { number: 1, cost: 0, wanted: 101, forMs: 60_000 } })
      const spec = parseJobSpec({ repository: 'acme/web', steps: ['true'], tenant: 'b' })
      expect(await sides.two.ready.hold(spec, 'two', { why: 'none is left', untilMs: Date.now() + 86_400_000, stamp, days: budgets.days() })).toBe(true)
      await othersUse(sides)
      await client.zadd(`${redis.keys.ready()}:paying:day`, 1, 'b')
      await alike(sides)
    })
  })

  it('begins where others have come to that wait for the same, also of one that was alone at a provider that had no turn for long', async () => {
    const [busy, old] = [await side('busy'), await side('old', [{ provider: 'z', sandboxes: 1 }])]
    await client.hset(`${redis.keys.ready()}:present`, 'p', 5_000, 'z', 3)
    await busy.addMany(Array.from({ length: 40 }, (_, index) => `a${index}`), { tenant: 'a' })
    await busy.take()
    await old.add('b', { tenant: 'b' })
    expect(await old.take()).toBe('b')
    await busy.ready.close('a0')
    await busy.addMany(Array.from({ length: 40 }, (_, index) => `b${index}`), { tenant: 'b' })
    await old.ready.close('b')
    const turns: string[] = []
    for (let turn = 0; turn < 12; turn++) {
      const jobId = (await busy.take())!
      turns.push(jobId.slice(0, 1))
      await advance(3_000)
      await busy.ready.close(jobId)
    }
    expect(turns.filter((tenant) => tenant === 'b').length).toBeGreaterThanOrEqual(4)
    expect(turns.filter((tenant) => tenant === 'b').length).toBeLessThanOrEqual(8)
  })

  describe('follows it from one crowd to another that has come much further, or less far', () => {
    /** Nine tenants at one provider and two at another, of one place each; who had its turn where, in turns of ten seconds. */
    async function crowds() {
      const one = await side('agents', ['slow', 'fast'].map((provider) => ({ provider, sandboxes: 1 })))
      const backlog = (tenant: string, provider: string, count = 100) => one.addMany(Array.from({ length: count }, (_, index) => `${tenant} ${provider} ${newId()} ${index}`), { tenant, providers: { allow: provider.split('+') } })
      for (let index = 0; index < 8; index++) await backlog(`s${index}`, 'slow')
      await backlog('f', 'fast')
      const held: string[] = []
      const end = async (jobId: string) => {
        held.splice(held.indexOf(jobId), 1)
        await client.del(one.keys.job(jobId))
        await one.ready.close(jobId)
      }
      const turns = async (count: number, short?: string) => {
        const had: string[] = []
        for (let turn = 0; turn < count; turn++) {
          for (let jobId = await one.take(); jobId !== null; jobId = await one.take()) {
            held.push(jobId)
            had.push(jobId.split(' ').slice(0, 2).join(' '))
          }
          for (const jobId of held.filter((each) => short !== undefined && each.startsWith(short))) await end(jobId)
          await advance(10_000)
          for (const jobId of [...held]) await end(jobId)
        }
        return (who: string) => had.filter((each) => each === who).length
      }
      return { one, backlog, turns }
    }

    it('to one that has come further: it goes before nobody there', async () => {
      const { backlog, turns } = await crowds()
      await backlog('x', 'slow', 8)
      await turns(60)
      await backlog('x', 'fast')
      const had = await turns(20)
      expect(had('x fast')).toBeGreaterThanOrEqual(8)
      expect(had('x fast')).toBeLessThanOrEqual(12)
    })

    it.each([[0], [1]])('to one that has come less far, with %i of its jobs left where it was: it has its turn with the others', async (left) => {
      const { backlog, turns } = await crowds()
      await backlog('x', 'fast', 20 + left)
      await turns(40)
      await backlog('x', 'slow')
      const had = await turns(27)
      expect(had('x slow')).toBeGreaterThanOrEqual(2)
      expect(had('x slow')).toBeLessThanOrEqual(4)
    })

    it('and leaves no debt behind by that', async () => {
      const { backlog, turns } = await crowds()
      await turns(30)
      let slow = 0
      let wanted = 'slow'
      await backlog('x', wanted, 1)
      for (let turn = 0; turn < 45; turn++) {
        const had = await turns(1, 'x fast')
        slow += had('x slow')
        if (had(`x ${wanted}`) === 0) continue
        wanted = wanted === 'slow' ? 'fast' : 'slow'
        await backlog('x', wanted, 1)
      }
      // Its share of the turns there is five; by a short job elsewhere between any two it had three times as many.
      expect(slow).toBeGreaterThanOrEqual(3)
      expect(slow).toBeLessThanOrEqual(6)
    })

    it('and is no greater for one that is in both', async () => {
      const { backlog, turns } = await crowds()
      await turns(60)
      await backlog('x', 'slow')
      await backlog('x', 'fast')
      const had = await turns(40)
      expect(had('x fast')).toBeGreaterThanOrEqual(16)
      expect(had('x fast') + had('x slow')).toBeLessThanOrEqual(25)
    })

    describe('where its provider goes out, which had come to more than the others:', () => {
      const drain = async (on: boolean) => {
        await new Operators(client, redis.keys).drain('fast', on ? { move: false } : null, { by: 'anna', audit: { by: 'operator', name: 'anna', action: 'test', targets: ['fast'], count: 1, status: 200 } })
      }

      it.each([
        ['one with jobs there and elsewhere', ['fast', 'slow']],
        ['one whose jobs may go to either', ['slow+fast']],
      ])('%s has its turns with those that are elsewhere', async (_what, where) => {
        const { one, backlog, turns } = await crowds()
        for (const each of where) await backlog('x', each)
        await turns(60)
        await drain(true)
        while ((await one.ready.reconcile('r', 1)).more);
        const had = await turns(27)
        const slow = had(`x ${where.at(-1)}`)
        expect(slow).toBeGreaterThanOrEqual(2)
        expect(slow).toBeLessThanOrEqual(4)
      })

      it('one that comes new has its turns with those, too', async () => {
        const { backlog, turns } = await crowds()
        await turns(60)
        await drain(true)
        await turns(1)
        await backlog('x', 'slow+fast')
        const had = await turns(27)
        expect(had('x slow+fast')).toBeGreaterThanOrEqual(2)
        expect(had('x slow+fast')).toBeLessThanOrEqual(4)
      })

      it('and goes before nobody there once it is back', async () => {
        const { one, backlog, turns } = await crowds()
        await backlog('x', 'slow+fast')
        await turns(60)
        await drain(true)
        while ((await one.ready.reconcile('r', 1)).more);
        await turns(27)
        await drain(false)
        const had = await turns(20)
        expect(had('f fast')).toBeGreaterThanOrEqual(8)
      })
    })
  })

  it.each([[{}], [{ z: 3 }]])('remembers a debt, which halves every ten minutes, whatever had no turn for long: %j', async (others) => {
    const one = await side('agents')
    await client.hset(`${redis.keys.ready()}:present`, { p: 500_000, ...others })
    const vt = async (tenant: string) => Number((await client.hget(`${redis.keys.ready()}:tenant`, tenant))?.split(' ')[0])
    await one.add('long', { tenant: 'debtor' })
    const jobId = (await one.take())!
    await advance(400_000)
    await one.ready.close(jobId)
    const present = Number(await client.hget(`${redis.keys.ready()}:present`, 'p'))
    const owes = async () => (await vt('debtor')) - present
    await one.add('again', { tenant: 'debtor' })
    const before = await owes()
    expect(before).toBeGreaterThan(100)
    await one.ready.close('again')
    await advance(600_000)
    await one.add('later', { tenant: 'debtor' })
    expect(await owes()).toBeGreaterThan(before * 0.4)
    expect(await owes()).toBeLessThan(before * 0.6)
  })

  it.each([[1_000, 1, 8], [10_000, 4, 8]])('of places that come free does not go to one whose jobs turn out to be long: beside jobs of %i ms of %i others', async (ms, others, most) => {
    const one = await side('agents', [{ provider: 'p', sandboxes: 10 }])
    for (let other = 0; other < others; other++) await one.addMany(Array.from({ length: 200 }, (_, index) => `b ${other} ${index}`), { tenant: `b${other}` })
    const held: string[] = []
    const turn = async () => {
      for (let jobId = await one.take(); jobId !== null; jobId = await one.take()) held.push(jobId)
      await advance(ms)
      // One after the other, as places come free.
      for (const jobId of held.filter((each) => each.startsWith('b'))) {
        held.splice(held.indexOf(jobId), 1)
        await client.del(one.keys.job(jobId))
        await one.ready.close(jobId)
        const next = await one.take()
        if (next !== null) held.push(next)
        await advance(ms / 10)
      }
    }
    for (let round = 0; round < 2; round++) await turn()
    await one.addMany(Array.from({ length: 40 }, (_, index) => `long ${index}`), { tenant: 'long' })
    for (let round = 0; round < 3; round++) await turn()
    expect(held.filter((each) => each.startsWith('long')).length).toBeLessThanOrEqual(most)
  })

  it('counts a long job while it runs', async () => {
    const one = await side('agents')
    await one.add('long', { tenant: 'busy' })
    await one.take()
    await advance(90_000)
    await one.ready.accrue(['long'])
    expect(Number((await client.hget(`${redis.keys.ready()}:tenant`, 'busy'))?.split(' ')[0])).toBeGreaterThan(80)
  })

  it('is not blown up by a clock that is set', async () => {
    const one = await side('agents')
    await one.add('job', { tenant: 't' })
    await one.take()
    const key = `${redis.keys.ledger()}:clock`
    for (const hours of [-30, 30, 5]) {
      const [seen, steady] = (await client.get(key))!.split(' ').map(Number)
      await client.set(key, `${seen! - hours * 3_600_000} ${steady}`)
      await one.ready.accrue(['job'])
    }
    await one.ready.close('job')
    expect(Number((await client.hget(`${redis.keys.ready()}:tenant`, 't'))?.split(' ')[0])).toBeLessThan(200)
  })
})

describe('what a script looks at', () => {
  /** The most commands that Redis ran in one look. */
  async function mostCommands(work: () => Promise<unknown>): Promise<number> {
    await client.config('RESETSTAT')
    await work()
    const calls = [...(await client.info('commandstats')).matchAll(/cmdstat_(?!config|info)[^:]+:calls=(\d+)/g)].reduce((all, [, count]) => all + Number(count), 0)
    return calls
  }

  it('does not grow with what waits, for room or for a full provider, nor with tenants or shapes', async () => {
    const limits = [{ provider: 'p', sandboxes: 2 }, { provider: 'q', sandboxes: 1 }]
    const one = await side('agents', limits)
    const fill = async (from: number, count: number) => {
      for (let index = from; index < from + count; index++) await one.add(`j${index}`, { tenant: `t${index}`, resources: { memoryMiB: 100 + index } })
    }
    await fill(0, 10)
    const held: string[] = []
    for (let jobId = await one.take(); jobId !== null; jobId = await one.take()) held.push(jobId)
    const turn = async () => {
      const jobId = held.shift()!
      await one.ready.close(jobId)
      held.push((await one.take())!)
    }
    await turn()
    const [few, fewBlocked] = [await mostCommands(turn), await mostCommands(() => one.look())]
    await fill(10, 300)
    await one.look()
    await turn()
    expect(await mostCommands(turn)).toBeLessThan(few * 1.5)
    expect(await mostCommands(() => one.look())).toBeLessThan(fewBlocked * 1.5)
  })

  it('does not grow with the tenants that have long jobs in hand, as time passes', async () => {
    const one = await side('agents', [{ provider: 'p', sandboxes: 101 }])
    for (let tenant = 0; tenant < 100; tenant++) await one.addMany([`long ${tenant}`, ...Array.from({ length: 3 }, (_, index) => `short ${tenant} ${index}`)], { tenant: `t${tenant}` })
    let short = ''
    for (let jobId = await one.take(); jobId !== null; jobId = await one.take()) if (jobId.startsWith('short')) short = jobId
    // Once they are in order by what they have in hand, time that passes for all of them alike changes nothing.
    const turn = async () => {
      await advance(500)
      await client.del(one.keys.job(short))
      await one.ready.close(short)
      short = (await one.take())!
    }
    await advance(10_000)
    await turn()
    const before = one.agains()
    for (let turns = 0; turns < 12; turns++) await turn()
    expect(one.agains() - before).toBeLessThanOrEqual(8)
  })

  it('is little, with five providers: for a look that finds nothing, and for an end and the look behind it', async () => {
    const one = await side('agents', ['p', 'q', 'r', 's', 't'].map((provider) => ({ provider, sandboxes: 1 })))
    for (let index = 0; index < 20; index++) await one.add(`j${index}`, { tenant: `t${index}` })
    const held: string[] = []
    for (let jobId = await one.take(); jobId !== null; jobId = await one.take()) held.push(jobId)
    // The first of a second does more.
    const counts = { nothing: [] as number[], turn: [] as number[] }
    for (let round = 0; round < 3; round++) {
      counts.nothing.push(await mostCommands(() => one.look()))
      counts.turn.push(
        await mostCommands(async () => {
          await one.ready.close(held.shift()!)
          held.push((await one.take())!)
        }),
      )
    }
    expect(Math.min(...counts.nothing)).toBeLessThanOrEqual(27)
    expect(Math.min(...counts.turn)).toBeLessThanOrEqual(97)
  })

  describe('where nothing waits for anybody, is hardly anything within a second, and all of it as soon as', () => {
    type Side = Awaited<ReturnType<typeof side>>
    type Found = Awaited<ReturnType<Side['look']>>
    type Row = [string, (one: Side) => Promise<unknown>, Partial<Record<keyof Found, unknown>>]
    const changes: Row[] = [
      ['a job comes', (one) => one.add('new'), { what: 'take', jobId: 'new' }],
      ['one is handed over', (one) => client.lpush(one.keys.bullmq('wait'), 'held'), { what: 'take', waited: 'held' }],
      ['one comes around the index', async (one) => [await client.hset(one.keys.job('stray'), 'name', 'job'), await client.lpush(one.keys.bullmq('wait'), 'stray')], { what: 'nothing', unlisted: ['stray'] }],
      ['one is delayed', (one) => one.queue.add('job', {}, { jobId: 'later', delay: 3_600_000 }), { what: 'nothing', opensInMs: expect.closeTo(3_600_000, -5) as number }],
      ['one that was delayed is due', (one) => client.zadd(one.keys.bullmq('delayed'), 1, 'due').then(() => client.hset(one.keys.job('due'), 'name', 'job')), { what: 'nothing', unlisted: ['due'] }],
      ['the queue has a concurrency, which is reached', async (one) => [await one.queue.setGlobalConcurrency(1), await client.lpush(one.keys.bullmq('active'), 'held')], { what: 'nothing', atConcurrency: true }],
    ]
    it.each(changes)('%s', async (_what, change, found) => {
      const one = await side('agents', ['p', 'q', 'r', 's', 't'].map((provider) => ({ provider, sandboxes: 2 })))
      await one.add('held')
      expect(await one.take()).toBe('held')
      // The first of a second does more.
      let least = Infinity
      for (let round = 0; round < 4; round++) least = Math.min(least, await mostCommands(() => one.look()))
      expect(least).toBeLessThanOrEqual(13)
      await change(one)
      expect(await one.look()).toMatchObject(found)
    })

    it.each<Row>([
      ...changes.slice(1),
      ['one has waited too long', () => client.zadd(`${redis.keys.ready()}:q:agents:1:deadline`, 1, 'waits'), { what: 'take', jobId: 'waits' }],
    ])('%s, also where jobs wait for a full provider', async (_what, change, found) => {
      const one = await side('agents', ['p', 'q', 'r', 's', 't'].map((provider) => ({ provider, sandboxes: provider === 'p' ? 1 : 0 })))
      await one.add('held')
      expect(await one.take()).toBe('held')
      await one.add('waits')
      await one.add('waits too')
      for (let round = 0; round < 2; round++) expect(await one.look()).toMatchObject({ what: 'nothing', jobId: null })
      await change(one)
      expect(await one.look()).toMatchObject(found)
    })
  })

  it('is as little right after a drain: what is over is taken apart by others', async () => {
    const one = await side('agents', ['p', 'q', 'r', 's', 't'].map((provider) => ({ provider, sandboxes: 0 })))
    for (let index = 0; index < 40; index++) await one.add(`j${index}`, { tenant: `t${index}` })
    const looks = async () => {
      const counts: number[] = []
      for (let round = 0; round < 4; round++) counts.push(await mostCommands(() => one.look()))
      return Math.min(...counts)
    }
    const before = await looks()
    await one.queue.drain()
    await one.look()
    expect(await client.llen(`${redis.keys.ready()}:garbage`)).toBe(1)
    expect(await looks()).toBeLessThanOrEqual(before + 1)
    // Nor does it grow with how many lists are taken apart at once.
    const apart = await mostCommands(() => one.ready.tidy())
    expect(apart).toBeLessThanOrEqual(20)
    while (await one.ready.tidy());
    expect(await client.llen(`${redis.keys.ready()}:garbage`)).toBe(0)
  })

  it('begins anew at once when BullMQ holds nothing more, and leaves nothing of what was there', async () => {
    const one = await side('agents')
    for (let tenant = 0; tenant < 20; tenant++) await one.addMany(Array.from({ length: 20 }, (_, index) => `old-${tenant}-${index}`), { tenant: `t${tenant}` })
    await one.look()
    await client.rpop(one.keys.bullmq('wait'))
    await one.queue.drain()
    await one.add('new')
    const before = one.agains()
    await one.ready.close('old-0-0')
    expect(await one.take()).toBe('new')
    expect(one.agains()).toBe(before)
    await one.ready.close('new')
    const left = async () => (await client.keys(`${redis.keys.ready()}:q:agents:1:*`)).length
    while (await one.ready.tidy());
    expect(await left()).toBe(0)
    expect(await client.hget(`${redis.keys.ready()}:listed`, 'agents')).toBe('0')
  })

  it.each<[string, (index: number) => Partial<JobSpecInput>]>([
    ['tenants', (index) => ({ tenant: `t${index}` })],
    ['demands', (index) => ({ resources: { memoryMiB: 100 + index } })],
    ['keys of concurrency', (index) => ({ concurrency: { key: `k${index}`, limit: 1 } })],
  ])('does not pile up what is over, however often a queue of many %s is filled and drained', async (_what, more) => {
    const one = await side('agents')
    const left = async () => (await client.keys(`${redis.keys.ready()}:q:agents:*`)).length
    const most: number[] = []
    for (let round = 0; round < 8; round++) {
      for (let index = 0; index < 40; index++) await one.add(`${round}-${index}`, more(index))
      await one.look()
      most.push(await left())
      await client.del(one.keys.bullmq('wait'))
      await one.queue.drain()
    }
    expect(Math.max(...most.slice(2))).toBeLessThan(1.5 * Math.max(...most.slice(0, 2)))
  })

  it('is bounded where many are gone that stood before the next one', async () => {
    const one = await side('agents')
    await one.addMany(Array.from({ length: 300 }, (_, index) => `gone-${index}`))
    await one.add('stays', { priority: 2_000 })
    for (let index = 0; index < 300; index++) await client.zrem(one.keys.bullmq('prioritized'), `gone-${index}`)
    expect(await one.take()).toBe('stays')
    expect(one.agains()).toBeGreaterThanOrEqual(9)
    expect(one.agains()).toBeLessThanOrEqual(12)
  })

  it.each([[false], [true]])('ends where the view of one that was busy for long was dropped, and what it listed was given by others; left in a provider’s list: %s', async (left) => {
    const one = await side('agents', [{ provider: 'p', sandboxes: 2 }])
    for (let tenant = 0; tenant < 6; tenant++) await one.add(`j${tenant}`, { tenant: `t${tenant}` })
    expect((await one.look(0, 'busy')).what).toBe('take')
    const long = (await client.rpop(one.keys.bullmq('wait')))!
    const store = new RunStore(client, one.keys)
    const { fence } = (await store.acquire(long, { holder: 'long', fresh: record(long) })) as { fence: number }
    await advance(660_000)
    for (let turn = 0; turn < 5; turn++) {
      for (let looks = 0; looks < 4 && (await one.look(0, 'other')).what !== 'take'; looks++);
      await one.ready.close((await client.rpop(one.keys.bullmq('wait')))!)
    }
    expect(await client.lrange(`${redis.keys.ready()}:garbage`, 0, -1)).toEqual(['agents:1:busy'])
    if (left) await client.zadd(`${redis.keys.ready()}:at:p`, 0, 'agents:1:busy')
    expect(await store.finishAndClose(long, fence, record(long), result(long), { id: 'done' }, [], { holder: 'long', viewId: 'busy' })).toBeNull()
    expect(await client.exists(`${redis.keys.ready()}:at:p`)).toBe(0)
  })

  it('leaves nothing of consumers of another configuration, and they may come back', async () => {
    const one = await side('agents', [{ provider: 'p', sandboxes: 0 }])
    for (let tenant = 0; tenant < 100; tenant++) await one.add(`j${tenant}`, { tenant: `t${tenant}` })
    for (let looks = 0; looks < 4; looks++) await one.look(0, 'before')
    const left = async () => (await client.keys('*:v:before:*')).length
    expect(await left()).toBeGreaterThan(100)
    await advance(660_000)
    await one.look(0, 'after')
    while (await one.ready.tidy());
    expect(await left()).toBe(0)
    for (let looks = 0; looks < 4; looks++) await one.look(0, 'before')
    expect(await left()).toBeGreaterThan(100)
    await advance(660_000)
    await one.look(0, 'after')
    for (let looks = 0; looks < 4; looks++) await one.look(0, 'before')
    const free = await side('agents', [{ provider: 'p', sandboxes: 100 }])
    const taken: string[] = []
    for (;;) {
      if ((await free.look(0, 'before')).what !== 'take') break
      taken.push((await client.rpop(one.keys.bullmq('wait')))!)
    }
    expect(new Set(taken).size).toBe(100)
  })
})
