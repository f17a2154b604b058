import { Queue } from 'bullmq'
import { beforeEach, describe, expect, it } from 'vitest'
import { parseJobSpec, type JobSpecInput } from '../../src/job/spec.js'
import { keyDigest } from '../../src/store/concurrency-keys.js'
import { type Dispatched, Keys, type KnownConstraints, Operators, ReadyJobs, Roster, RunStore } from '../../src/store/index.js'
import { after, passLedgerTime, record, until, useRedis } from './fixture.js'

const redis = useRedis()
const limits = [{ provider: 'a', sandboxes: 100 }]

type Then = NonNullable<JobSpecInput['concurrency']>['then']

/** A queue of the deployment, with what producers and consumers do to it. */
class Side {
  readonly keys: Keys
  readonly ready: ReadyJobs
  readonly queue: Queue
  private leases = 0
  graceMs = 1
  view = 'v'
  /** Of the providers that a job allows, those that its consumer has not. */
  refuses: readonly string[] = ['gone']

  constructor(readonly name: string) {
    const client = redis.client
    this.keys = new Keys(redis.keys.prefix, name)
    this.ready = new ReadyJobs(client, this.keys)
    this.queue = new Queue(name, { connection: client, prefix: this.keys.prefix })
    after(() => this.queue.close())
  }

  /** Enqueues as AgentQueue does; returns what it superseded. */
  async enqueue(jobId: string, then: Then = 'wait', more: Partial<JobSpecInput> & { limit?: number; key?: string } = {}): Promise<string[]> {
    const { limit = 1, key = 'k', ...rest } = more
    const spec = parseJobSpec({ repository: 'acme/web', steps: ['true'], concurrency: { key, limit, then }, ...rest })
    await this.queue.add('job', { spec }, { jobId, priority: spec.priority })
    return (await this.ready.add([{ jobId, spec }])).superseded.map((each) => `${each.jobId}: ${each.why}`)
  }

  /** What a consumer takes now; null when there is nothing for it. */
  async take(idleMs = 0): Promise<string | null> {
    let known: KnownConstraints[] = []
    for (;;) {
      const means = { profileId: 'p', viewId: this.view, providers: ['a'], secrets: ['*'], shares: false }
      const found = await this.ready.dispatch({ holder: this.name, leaseId: `${this.name}${this.leases++}`, limits, known, choice: 'given', means, graceMs: this.graceMs, idleMs })
      known = found.unknown.map(({ id, number, json }) => ({ id, number, can: this.refuses.some((name) => json.includes(`"${name}"`)) ? 'has no such provider' : [['a']] }))
      if (found.what === 'take') return await redis.client.rpop(this.keys.bullmq('wait'))
      if (found.what === 'nothing' && found.unknown.length === 0) return null
    }
  }

  /** One look of a consumer that has said already what it can run. */
  async look(): Promise<Dispatched> {
    const means = { profileId: 'p', viewId: this.view, providers: ['a'], secrets: ['*'], shares: false }
    return await this.ready.dispatch({ holder: this.name, leaseId: `${this.name}${this.leases++}`, limits, known: [], choice: 'given', means, graceMs: this.graceMs, idleMs: 0 })
  }

  /** A consumer says what it can run of what waits, and has no room for any. */
  async map(): Promise<string> {
    for (let known: KnownConstraints[] = []; ; ) {
      const means = { profileId: 'p', viewId: this.view, providers: [], secrets: ['*'], shares: false }
      const found = await this.ready.dispatch({ holder: this.name, leaseId: `${this.name}${this.leases++}`, limits, known, choice: 'given', means, graceMs: this.graceMs, idleMs: 0 })
      known = found.unknown.map(({ id, number }) => ({ id, number, can: [['a']] }))
      if (known.length === 0 && found.what !== 'again') return found.what
    }
  }

  async takeAll(): Promise<string[]> {
    const all: string[] = []
    for (;;) {
      const jobId = await this.take()
      if (jobId === null) return all
      all.push(jobId)
    }
  }

  /** A job has ended: its account is closed, and BullMQ's record of it goes. */
  async end(jobId: string): Promise<void> {
    await this.ready.close(jobId)
    await redis.client.del(this.keys.job(jobId))
  }
}

let q: Side
let other: Side
beforeEach(async () => {
  q = new Side('agents')
  other = new Side('claim')
  await Promise.all([q.queue.waitUntilReady(), other.queue.waitUntilReady()])
})

const keyedLeft = async () => redis.client.hgetall(`${redis.keys.ready()}:keyed`)

describe('wait', () => {
  it('gives jobs of a key one after the other, by priority and arrival, and others meanwhile', async () => {
    await q.enqueue('a')
    await q.enqueue('b')
    await q.enqueue('urgent', 'wait', { priority: 1 })
    await q.enqueue('elsewhere', 'wait', { key: 'l' })
    expect(await q.takeAll()).toEqual(['urgent', 'elsewhere'])
    for (const [ended, next] of [['urgent', 'a'], ['a', 'b'], ['b', null]] as const) {
      await q.end(ended)
      expect(await q.take()).toBe(next)
    }
    await q.end('elsewhere')
    expect(await keyedLeft()).toEqual({})
  })

  it('holds across queues, and a job that can’t run now keeps no other from the key', async () => {
    await q.queue.pause()
    await q.enqueue('held')
    await other.enqueue('x')
    expect([await q.takeAll(), await other.takeAll()]).toEqual([[], ['x']])
    await q.queue.resume()
    await other.enqueue('y')
    expect([await q.takeAll(), await other.takeAll()]).toEqual([[], []])
    await other.end('x')
    expect([...(await q.takeAll()), ...(await other.takeAll())]).toHaveLength(1)
  })

  it('hands a key on to a job of another queue, and wakes an idle consumer of it', async () => {
    await q.enqueue('x')
    expect(await q.take()).toBe('x')
    await other.enqueue('y')
    expect(await other.take(60_000)).toBeNull()
    await q.end('x')
    expect(await redis.client.lrange(other.keys.inbox('claim'), 0, -1)).toEqual(['{"kind":"work"}'])
    expect(await other.take()).toBe('y')
  })

  it('hands a key on to whose turn it is among the queues, not to whose consumer is quicker', async () => {
    for (let index = 0; index < 12; index++) {
      await q.enqueue(`q${index}`, 'wait', { tenant: 'q' })
      await other.enqueue(`o${index}`, 'wait', { tenant: 'o' })
    }
    const given: string[] = []
    for (let turn = 0; turn < 12; turn++) {
      // The one is always the first to look when it is told of something.
      const jobId = (await q.take(60_000)) ?? (await other.take(60_000))!
      given.push(jobId.slice(0, 1))
      expect([await q.take(60_000), await other.take(60_000)]).toEqual([null, null])
      await passLedgerTime(redis.client, redis.keys, 1_000)
      await (jobId.startsWith('q') ? q : other).end(jobId)
    }
    expect(Math.abs(given.filter((name) => name === 'q').length - 6)).toBeLessThanOrEqual(2)
  })

  it('lets as many run as the strictest of them says', async () => {
    for (const id of ['a', 'b', 'c', 'd']) await q.enqueue(id, 'wait', { limit: 3 })
    await q.enqueue('alone', 'wait')
    expect(await q.takeAll()).toEqual(['a', 'b', 'c'])
    await q.end('a')
    expect(await q.takeAll()).toEqual(['d'])
    for (const id of ['b', 'c']) await q.end(id)
    expect(await q.takeAll()).toEqual([])
    await q.enqueue('after', 'wait', { limit: 3 })
    await q.end('d')
    expect(await q.takeAll()).toEqual(['alone'])
    await q.end('alone')
    expect(await q.takeAll()).toEqual(['after'])
  })

  it('one that lets fewer run has its turn though jobs of another queue that let more run come and come', async () => {
    const running: string[] = []
    const end = async (jobId: string) => await (jobId === 'strict' ? q : other).end(jobId)
    for (const id of ['a', 'b']) await other.enqueue(id, 'wait', { limit: 3 })
    running.push(...(await other.takeAll()))
    await q.enqueue('strict')
    for (let n = 0; n < 4; n++) {
      await other.enqueue(`c${n}`, 'wait', { limit: 3 })
      const ends = running.shift()
      if (ends !== undefined) await end(ends)
      for (const jobId of [await q.take(), await other.take()]) if (jobId !== null) running.push(jobId)
      if (running.includes('strict')) break
    }
    expect(running).toEqual(['strict'])
    await end('strict')
    expect(await other.take()).toBe('c0')
    // Not while it can't be given.
    await q.enqueue('later')
    expect(await q.take()).toBeNull()
    await q.queue.pause()
    expect(await other.take()).toBe('c1')
  })

  it('one that lets fewer run keeps others from nothing once its queue is obliterated', async () => {
    await other.enqueue('a', 'wait', { limit: 3 })
    expect(await other.take()).toBe('a')
    await q.enqueue('strict')
    await other.enqueue('b', 'wait', { limit: 3 })
    expect(await other.take()).toBeNull()
    await q.queue.obliterate({ force: true })
    await q.ready.reconcile('m', 1)
    await q.take()
    await other.enqueue('c', 'wait', { limit: 3 })
    await other.ready.reconcile('m', 1)
    expect((await other.takeAll()).sort()).toEqual(['b', 'c'])
  })

  it('costs a look nothing for what waits for a key, however much it is', async () => {
    await q.enqueue('first')
    expect(await q.take()).toBe('first')
    const spec = parseJobSpec({ repository: 'acme/web', steps: ['true'], concurrency: { key: 'k' } })
    const jobs = Array.from({ length: 2_000 }, (_each, index) => ({ jobId: `w${index}`, spec }))
    await q.queue.addBulk(jobs.map(({ jobId }) => ({ name: 'job', data: { spec }, opts: { jobId, priority: 1 } })))
    await q.ready.add(jobs)
    const calls = async () => {
      const before = Number(/cmdstat_zrange:calls=(\d+)/.exec(await redis.client.info('commandstats'))?.[1] ?? 0)
      expect(await q.take()).toBeNull()
      return Number(/cmdstat_zrange:calls=(\d+)/.exec(await redis.client.info('commandstats'))?.[1] ?? 0) - before
    }
    await calls()
    expect(await calls()).toBeLessThan(20)
    await q.end('first')
    expect(await q.takeAll()).toEqual(['w0'])
  })

  it('says what has the key', async () => {
    await q.enqueue('a')
    await q.enqueue('b')
    expect(await q.take()).toBe('a')
    expect(await q.ready.keyStanding('b', { key: 'k', limit: 1 })).toEqual({ key: 'k', limit: 1, held: 1, holders: ['a'], parked: true })
    expect(await q.ready.keyStanding('a', { key: 'k', limit: 1 })).toMatchObject({ parked: false })
  })
})

describe('a job that is held holds nobody behind it', () => {
  const operators = () => new Operators(redis.client, redis.keys)
  const saying = { by: 'anna', audit: { by: 'operator' as const, name: 'anna', action: 'test', targets: ['x'], count: 1, status: 200 } }
  const sweep = async () => {
    for (let more = true; more; ) ({ more } = await q.ready.reconcile('m', 1))
  }
  const front = () => redis.client.hlen(`${redis.keys.ready()}:q:agents:1:front`)

  it.each([
    ['its tenant is paused', () => operators().pauseTenant('held', true, saying, true), () => operators().pauseTenant('held', false, saying)],
    ['its tenant is at its cap', () => operators().shareTenant('held', { weight: 1, cap: 1 }, saying, true), () => operators().shareTenant('held', null, saying)],
    [
      'its budget is used up',
      () => q.ready.hold(parseJobSpec({ repository: 'acme/web', steps: ['true'], tenant: 'held' }), 'v', { why: 'too little', untilMs: 4e12, stamp: '0/today/0', days: JSON.stringify([[0, 'today'], [4e12, 'later']]) }),
      () => redis.client.zadd(`${redis.keys.ready()}:paying:version`, 'XX', -1, 'held'),
    ],
  ])('%s', async (_why, hold, release) => {
    await q.enqueue('other', 'wait', { tenant: 'held', key: 'elsewhere' })
    expect(await q.take()).toBe('other')
    for (let index = 0; index < 50; index++) await q.enqueue(`h${index}`, 'wait', { tenant: 'held' })
    await q.enqueue('a', 'wait', { tenant: 'free' })
    await hold()
    for (const id of ['b', 'c']) await q.enqueue(id, 'wait', { tenant: 'free' })
    // At once where somebody finds that it is held, and with a sweep in any case.
    const given = await q.takeAll()
    await sweep()
    expect([...given, ...(await q.takeAll())]).toEqual(['a'])
    await q.enqueue('urgent', 'wait', { tenant: 'held', priority: 1 })
    await q.end('a')
    expect(await q.takeAll()).toEqual(['b'])
    // Of what is held one stands in the index, however much it is.
    expect(await front()).toBe(1)
    await release()
    expect(await q.takeAll()).toEqual([])
    for (const [ended, next] of [['b', 'urgent'], ['urgent', 'h0'], ['h0', 'h1']] as const) {
      await q.end(ended)
      expect(await q.takeAll()).toEqual([next])
    }
    // A newer one supersedes what is held too, all of it.
    await hold()
    await q.enqueue('newer', 'cancel-waiting', { tenant: 'free' })
    await q.end('h1')
    await release()
    const waits = await until(async () => {
      await sweep()
      const all = await q.takeAll()
      for (const jobId of all) if (jobId !== 'newer') await q.end(jobId)
      return all.includes('newer') && (await redis.client.zcard(q.keys.bullmq('prioritized'))) === 0
    }, 'the newer one is given, and the others to be ended')
    expect(waits).toBe(true)
    await q.end('newer')
    await q.end('other')
    expect([await keyedLeft(), await front()]).toEqual([{}, 0])
  })

  it('no consumer runs its shape', async () => {
    q.graceMs = 600_000
    for (const id of ['needs', 'needs too']) await q.enqueue(id, 'wait', { providers: { allow: ['gone'] } })
    for (const id of ['a', 'b']) await q.enqueue(id)
    expect(await q.take()).toBeNull()
    await sweep()
    expect(await q.takeAll()).toEqual(['a'])
    await q.end('a')
    expect(await q.takeAll()).toEqual(['b'])
    await q.end('b')
    // Somebody is there who can.
    q.view = 'w'
    q.refuses = []
    expect(await q.takeAll()).toEqual(['needs'])
    await q.end('needs')
    expect(await q.takeAll()).toEqual(['needs too'])
  })

  it('no consumer runs its shape: it is ended after the grace, whoever has its key', async () => {
    q.graceMs = 600_000
    for (const id of ['needs', 'needs too']) await q.enqueue(id, 'wait', { providers: { allow: ['gone'] } })
    await q.enqueue('a')
    expect(await q.take()).toBeNull()
    await sweep()
    expect(await q.take()).toBe('a')
    await passLedgerTime(redis.client, redis.keys, q.graceMs)
    const ends = await q.look()
    expect(ends).toMatchObject({ what: 'take', stand: { kind: 'nobody' } })
    expect(['needs', 'needs too']).toContain(ends.jobId)
    // They end without the key, which stays with the one that runs.
    expect(await redis.client.zrange(`${redis.keys.ready()}:key:${keyDigest('k')}:in`, '0', '-1')).toEqual(['agents:a'])
    expect(await redis.client.rpop(q.keys.bullmq('wait'))).toBe(ends.jobId)
    await q.end(ends.jobId!)
    expect(await q.take()).toMatch(/^needs/)
  })

  it('and nobody looks over and over at one whose key is taken, where the roster does not know yet of who would run it', async () => {
    const roster = new Roster(redis.client, redis.keys)
    await q.enqueue('a')
    expect(await q.take()).toBe('a')
    await q.enqueue('b')
    await q.map()
    // As after a step of Redis' clock: another one was faster to announce itself.
    await roster.announce({ consumer: 'faster', profileId: 'faster', profile: { queue: 'claim', release: '1', providers: ['a'], secrets: [] }, troubles: [], startedAtMs: 0, shares: null }, 600_000)
    await sweep()
    const looks = []
    for (let look = 0; look < 5; look++) looks.push((await q.look()).what)
    expect(looks.at(-1)).toBe('nothing')
    await q.end('a')
    expect(await q.take()).toBe('b')
  })

  it('those who could run it are all gone', async () => {
    q.graceMs = 600_000
    const roster = new Roster(redis.client, redis.keys)
    const announce = (profileId: string, ttlMs: number) => roster.announce({ consumer: profileId, profileId, profile: { queue: 'agents', release: '1', providers: ['a'], secrets: [] }, troubles: [], startedAtMs: 0, shares: null }, ttlMs)
    const [theirs, mine] = ['00ff-12', '11ff-12']
    await Promise.all([announce('00ff', 600_000), announce('11ff', 600_000)])
    for (const id of ['needs', 'needs too']) await q.enqueue(id, 'wait', { providers: { allow: ['gone'] } })
    q.view = theirs
    q.refuses = []
    // They have as many jobs as they may have, and say what they can run.
    expect(await q.map()).toBe('nothing')
    for (const id of ['a', 'b']) await q.enqueue(id)
    await q.map()
    q.view = mine
    q.refuses = ['gone']
    await sweep()
    // One that is there may run what comes first.
    expect(await q.takeAll()).toEqual([])
    await roster.withdraw('00ff')
    await redis.client.zadd(`${redis.keys.consumers()}:live`, 1, '00ff')
    await sweep()
    expect(await q.takeAll()).toEqual(['a'])
    await q.end('a')
    // They come back.
    await announce('00ff', 600_000)
    q.view = theirs
    q.refuses = []
    expect(await q.takeAll()).toEqual(['needs'])
  })

  it('costs each call as much however many tenants are held, and however many may go on again', async () => {
    const client = redis.connect()
    const total = async () => [...(await client.info('commandstats')).matchAll(/calls=(\d+)/g)].reduce((all, [, calls]) => all + Number(calls), 0)
    let most = 0
    const counted = async <T>(work: () => Promise<T>): Promise<T> => {
      const before = await total()
      const answer = await work()
      most = Math.max(most, (await total()) - before)
      return answer
    }
    const tenants = Array.from({ length: 80 }, (_each, index) => `t${index}`)
    for (const tenant of tenants) await operators().pauseTenant(tenant, true, saying, true)
    // So that the shape is known.
    await q.enqueue('first')
    await q.enqueue('second', 'wait', { key: 'elsewhere' })
    expect(await q.take()).toBe('first')
    for (const tenant of tenants) await counted(() => q.enqueue(tenant, 'wait', { tenant }))
    await counted(() => q.enqueue('last'))
    await counted(() => q.ready.close('first'))
    for (const tenant of tenants) await operators().pauseTenant(tenant, false, saying)
    const means = { profileId: 'p', viewId: 'v', providers: ['a'], secrets: ['*'], shares: false }
    for (let looks = 0, what = 'again'; what !== 'nothing'; looks++) {
      what = (await counted(() => q.ready.dispatch({ holder: 'x', leaseId: `x${looks}`, limits, known: [], choice: 'given', means, graceMs: 600_000, idleMs: 0 }))).what
      if (what === 'take') await client.rpop(q.keys.bullmq('wait'))
    }
    // Some 530 here, of 30 tenants as of 300.
    expect(most).toBeLessThan(800)
  })

  it('and comes up to find its key taken: its tenant’s next job is the first behind it, of any shape', async () => {
    await operators().pauseTenant('held', true, saying, true)
    await q.enqueue('h', 'wait', { tenant: 'held' })
    await q.enqueue('a', 'wait', { tenant: 'free' })
    expect(await q.takeAll()).toEqual(['a'])
    await q.enqueue('next', 'wait', { tenant: 'held', key: 'l', providers: { allow: ['a'] } })
    await q.enqueue('last', 'wait', { tenant: 'held', key: 'm' })
    await operators().pauseTenant('held', false, saying)
    expect(await q.takeAll()).toEqual(['next', 'last'])
    await q.end('a')
    expect(await q.takeAll()).toEqual(['h'])
  })

  it('another queue gives one of the key on, which brings up the next beside what is held: the one that is idle is told once, and takes it', async () => {
    const client = redis.connect()
    const means = { profileId: 'p', viewId: 'v', secrets: ['*'], shares: false }
    for (const [id, tenant] of [['a', 'first'], ['b', 'held'], ['c', 'last']] as const) await other.enqueue(id, 'wait', { limit: 2, tenant })
    expect(await other.map()).toBe('nothing')
    await operators().pauseTenant('held', true, saying, true)
    // It has no room itself, and waits for work.
    expect((await other.ready.dispatch({ holder: 'idle', leaseId: 'idle', limits, known: [], choice: 'given', means: { ...means, providers: [] }, graceMs: 1, idleMs: 60_000 })).idle).toBe(true)
    const found = await q.ready.dispatch({ holder: 'busy', leaseId: 'busy', limits, known: [], choice: 'given', means: { ...means, providers: ['a'] }, graceMs: 1, idleMs: 0 })
    expect(found.what).not.toBe('take')
    expect(await client.llen(redis.keys.inbox('idle'))).toBe(1)
    expect(await other.takeAll()).toEqual(['a', 'c'])
  })

  it('it is dropped for one that is held, which has come before it', async () => {
    await operators().pauseTenant('held', true, saying, true)
    await q.enqueue('h', 'wait', { tenant: 'held' })
    expect(await q.take()).toBeNull()
    expect(await q.enqueue('a', 'drop')).toEqual(['a: dropped: job h has its concurrency key, or waits for it'])
  })
})

describe('nothing is left of a key for which nobody waits any more', () => {
  const keysLeft = async () => [...(await redis.client.keys(`${redis.keys.ready()}:key:*`)), ...Object.keys(await keyedLeft())]

  it.each([1, 4])('when BullMQ has dropped all that waited, %i jobs', async (count) => {
    for (let i = 0; i < count; i++) await q.enqueue(`job-${i}`)
    await q.queue.drain()
    await until(async () => {
      await q.takeAll()
      await q.ready.reconcile('m', 1)
      return !(await q.ready.tidy()) && (await keysLeft()).length === 0
    }, 'the old index is taken apart')
  })

  it('when a newer job of another queue has superseded it, and was removed, while others wait for theirs', async () => {
    q.graceMs = other.graceMs = 60_000
    for (const side of [q, other]) await side.enqueue('stays', 'wait', { key: 'l', providers: { allow: ['gone'] } })
    expect([await q.takeAll(), await other.takeAll()]).toEqual([[], []])
    const before = await keysLeft()
    await q.enqueue('older')
    await other.enqueue('newer', 'cancel-waiting')
    await other.queue.remove('newer')
    expect(await q.takeAll()).toEqual(['older'])
    await q.end('older')
    await until(async () => {
      await other.takeAll()
      await other.ready.reconcile('m', 1)
      return (await keysLeft()).length <= before.length
    }, 'the one that was removed is found gone')
    expect(await keysLeft()).toEqual(before)
  })
})

describe('whatever happens to a job, its key goes on to the next', () => {
  const waitsBehind = async () => {
    await q.enqueue('first')
    await q.enqueue('next')
  }
  it.each([
    ['it is removed while it waits', false, () => q.queue.remove('first')],
    ['all is drained and one comes anew', false, async () => {
      await q.queue.drain()
      await q.enqueue('next')
    }],
    ['its priority is changed, and another is first', false, async () => {
      await (await q.queue.getJob('first'))?.changePriority({ priority: 1_000 })
    }],
    ['it ends', true, () => q.end('first')],
    ['it is obliterated, and its run is closed', true, async () => {
      await redis.client.del(q.keys.job('first'))
      await until(async () => (await q.ready.reconcile('m', 1)).gone.includes('first'), 'it is found gone')
      await q.ready.close('first')
    }],
    ['BullMQ has it as finished and nobody has closed it', true, async () => {
      await redis.client.hdel(`${redis.keys.ready()}:held`, 'first')
      await redis.client.hset(q.keys.job('first'), 'finishedOn', '1')
    }],
  ])('%s', async (_name, taken, happens) => {
    await waitsBehind()
    if (taken) expect(await q.take()).toBe('first')
    await happens()
    const next = await until(async () => {
      for (let more = true; more; ) ({ more } = await q.ready.reconcile('m', 1))
      return q.take()
    }, 'the next is given')
    expect(next).toBe('next')
  })

  it.each([
    ['at the front', [], 'wait'],
    ['in the line', ['first'], 'wait'],
    ['in the line', ['first'], 'drop'],
  ] as const)('it is removed %s while %j has the key, and another comes under its id with another key', async (_where, before, then) => {
    for (const id of before) {
      await q.enqueue(id)
      expect(await q.take()).toBe(id)
    }
    await q.enqueue('again')
    await q.queue.remove('again')
    await q.enqueue('again', 'wait', { key: 'l', priority: 5 })
    for (const id of before) await q.end(id)
    expect(await q.enqueue('next', then)).toEqual([])
    expect((await q.takeAll()).sort()).toEqual(['again', 'next'])
    for (const id of ['again', 'next']) await q.end(id)
    expect(await keyedLeft()).toEqual({})
    expect(await redis.client.hget(`${redis.keys.ready()}:listed`, 'agents')).toBe('0')
  })

  it('it is superseded, and removed before anybody has ended it: another that comes under its id is not, whether it has a key or none', async () => {
    await q.enqueue('first')
    expect(await q.enqueue('again', 'drop')).toHaveLength(1)
    await q.queue.remove('again')
    const spec = parseJobSpec({ repository: 'acme/web', steps: ['true'] })
    await q.queue.add('job', { spec }, { jobId: 'again', priority: 1 })
    await q.ready.add([{ jobId: 'again', spec }])
    expect((await q.takeAll()).sort()).toEqual(['again', 'first'])
    expect(await q.ready.supersededBy('again')).toBeNull()
  })

  it('a retry comes as a new job, and waits its turn', async () => {
    await q.enqueue('a')
    expect(await q.take()).toBe('a')
    await q.ready.close('a')
    await q.enqueue('b')
    expect(await q.take()).toBe('b')
    await redis.client.hset(q.keys.job('a'), 'atm', '1')
    await redis.client.zadd(q.keys.bullmq('prioritized'), '5', 'a')
    const spec = parseJobSpec({ repository: 'acme/web', steps: ['true'], concurrency: { key: 'k' } })
    expect(await q.ready.add([{ jobId: 'a', spec }])).toMatchObject({ added: 1, superseded: [], stay: [] })
    expect(await q.take()).toBeNull()
    await q.end('b')
    expect(await q.take()).toBe('a')
  })
})

it.each<[unknown, string]>([
  [{ key: '' }, 'concurrency.key: is empty'],
  [{ key: 'x'.repeat(201) }, 'concurrency.key: is longer than 200 characters'],
  [{ key: 'k', limit: 0 }, 'concurrency.limit: must be at least 1'],
  [{ key: 'k', limit: 1.5 }, 'concurrency.limit: must be a whole number'],
  [{ key: 'k', limit: 1_001 }, 'concurrency.limit: must be at most 1000'],
  [{ key: 'k', then: 'cancel' }, 'concurrency.then: must be "wait", "cancel-running", "cancel-waiting" or "drop"'],
  [{ limit: 1 }, 'concurrency.key'],
  [{ key: 'k', name: 'x' }, 'name'],
])('the key %j is refused', (concurrency, sentence) => {
  expect(() => parseJobSpec({ repository: 'acme/web', steps: ['true'], concurrency })).toThrow(sentence)
})

it('a line that an earlier release has parked, in one part, goes on', async () => {
  const client = redis.connect()
  await q.enqueue('first')
  expect(await q.take()).toBe('first')
  const parked = Array.from({ length: 40 }, (_, index) => `parked-${String(index).padStart(2, '0')}`)
  for (const jobId of parked) await q.enqueue(jobId)
  // As that one wrote it.
  const at = `${redis.keys.ready()}:q:agents:1`
  const [part = ''] = await client.keys(`${at}:j:!*`)
  const [, key = '', group = ''] = /:j:!([0-9a-f]+):(.+)$/.exec(part) ?? []
  await client.rename(part, `${at}:j:!${key}:`)
  await client.del(`${at}:line:${key}`)
  await client.zrem(`${at}:s:!${key}`, group)
  await client.zadd(`${at}:s:!${key}`, 0, '')
  for (const jobId of parked) await client.hset(q.keys.job(jobId), 'sy', `1 !${key} `)

  await q.end('first')
  const order: string[] = []
  for (let rounds = 0; order.length < parked.length && rounds < 200; rounds++) {
    await q.ready.reconcile('m', 1)
    const jobId = await q.take()
    if (jobId === null) continue
    order.push(jobId)
    expect(await q.take()).toBeNull()
    await q.end(jobId)
  }
  expect(order).toEqual(parked)
  expect(await client.keys(`${at}:*!*`)).toEqual([])
})

it('any text may be a key', async () => {
  const keys = ['\u0000', ' ', '!', ':', 'a b:{c}', '💥'.repeat(100), '\ud800', '*', '%d\n']
  for (const [index, key] of keys.entries()) {
    await q.enqueue(`a${index}`, 'wait', { key })
    await q.enqueue(`b${index}`, 'wait', { key })
  }
  expect((await q.takeAll()).sort()).toEqual(keys.map((_key, index) => `a${index}`).sort())
})

describe('enter', () => {
  it('asks again for whoever took a job around the choice', async () => {
    await q.enqueue('a')
    expect(await q.take()).toBe('a')
    expect(await q.ready.enter('a', { key: 'k', limit: 1 })).toEqual({ kind: 'held' })
    expect(await q.ready.enter('stranger', { key: 'k', limit: 1 })).toEqual({ kind: 'full' })
    await q.end('a')
    expect(await q.ready.enter('stranger', { key: 'k', limit: 1 })).toEqual({ kind: 'held' })
  })

  it('lets the key go that a job was chosen with, where its spec has another one now', async () => {
    await q.enqueue('changed')
    await q.enqueue('waits')
    expect(await q.take()).toBe('changed')
    expect(await q.ready.enter('changed', { key: 'other', limit: 1 })).toEqual({ kind: 'held' })
    expect(await q.takeAll()).toEqual(['waits'])
    for (const jobId of ['changed', 'waits']) await q.end(jobId)
    expect(await keyedLeft()).toEqual({})
  })
})

describe('cancel-waiting, drop', () => {
  it('a newer one takes the place of those that wait, in all queues, and waits itself', async () => {
    await q.enqueue('runs')
    expect(await q.take()).toBe('runs')
    await q.enqueue('waits')
    await other.enqueue('elsewhere')
    expect((await q.enqueue('newer', 'cancel-waiting')).sort()).toEqual(['elsewhere: superseded by job newer', 'waits: superseded by job newer'])
    // They are taken only to be ended.
    expect([await q.takeAll(), await other.takeAll()]).toEqual([['waits'], ['elsewhere']])
    expect(await q.ready.supersededBy('waits')).toBe('superseded by job newer')
    expect(await q.ready.enter('waits', { key: 'k', limit: 1 })).toEqual({ kind: 'superseded', why: 'superseded by job newer' })
    await q.end('waits')
    await other.end('elsewhere')
    await q.end('runs')
    expect(await q.takeAll()).toEqual(['newer'])
    await q.end('newer')
    expect(await keyedLeft()).toEqual({})
  })

  it('those that stand behind one of a paused tenant are superseded with it', async () => {
    const operators = new Operators(redis.client, redis.keys)
    const saying = { by: 'anna', audit: { by: 'operator' as const, name: 'anna', action: 'test', targets: ['x'], count: 1, status: 200 } }
    await operators.pauseTenant('held', true, saying, true)
    for (const id of ['first', 'second', 'third']) await q.enqueue(id, 'wait', { tenant: 'held' })
    expect((await other.enqueue('newer', 'cancel-waiting')).sort()).toEqual(['first', 'second', 'third'].map((id) => `${id}: superseded by job newer`))
    expect((await q.takeAll()).sort()).toEqual(['first', 'second', 'third'])
    expect(await other.takeAll()).toEqual(['newer'])
  })

  it.each(['cancel-waiting', 'cancel-running'] as const)('the oldest of those that wait go, as many as are too many: %s', async (then) => {
    for (const id of ['a', 'b', 'c']) await q.enqueue(id, 'wait', { limit: 2 })
    await other.enqueue('d', 'wait', { limit: 2 })
    expect(await q.enqueue('newer', then, { limit: 2 })).toEqual(['a', 'b', 'c'].map((id) => `${id}: superseded by job newer`))
    for (const id of ['a', 'b', 'c']) await q.end(id)
    expect([...(await q.takeAll()), ...(await other.takeAll())].sort()).toEqual(['d', 'newer'])
  })

  it('what stands in line behind those goes on', async () => {
    await q.enqueue('first', 'wait', { limit: 3, priority: 2 })
    for (const id of ['second', 'third']) await q.enqueue(id, 'wait', { limit: 3, priority: 3 })
    await other.enqueue('fourth', 'wait', { limit: 3 })
    expect(await other.enqueue('newer', 'cancel-waiting', { limit: 3 })).toEqual(['first', 'second'].map((id) => `${id}: superseded by job newer`))
    for (const id of ['first', 'second']) await q.end(id)
    expect([...(await q.takeAll()), ...(await other.takeAll())].sort()).toEqual(['fourth', 'newer', 'third'])
  })

  it('one that can’t be given now is not too many where there is room for it', async () => {
    const saying = { by: 'anna', audit: { by: 'operator' as const, name: 'anna', action: 'test', targets: ['x'], count: 1, status: 200 } }
    const operators = new Operators(redis.client, redis.keys)
    await operators.pauseTenant('held', true, saying, true)
    await q.enqueue('waits', 'wait', { limit: 2, tenant: 'held' })
    expect(await q.enqueue('newer', 'cancel-waiting', { limit: 2 })).toEqual([])
    expect(await q.takeAll()).toEqual(['newer'])
    await operators.pauseTenant('held', false, saying, true)
    expect(await q.takeAll()).toEqual(['waits'])
  })

  it('one that can’t be read is not given again to who has found so, and ended once nobody can', async () => {
    await q.enqueue('runs')
    expect(await q.take()).toBe('runs')
    await q.enqueue('waits')
    await q.enqueue('newer', 'cancel-waiting')
    expect(await q.take()).toBe('waits')
    await redis.client.rpush(q.keys.bullmq('wait'), 'waits')
    q.graceMs = 60_000
    await q.ready.refuse('p', 'job', [{ id: 'waits', why: 'it has no spec' }], q.graceMs)
    expect(await q.take()).toBeNull()
    q.graceMs = 0
    expect(await q.take()).toBe('waits')
  })

  /** What BullMQ and the index get of many at once. */
  async function enqueueMany(ids: readonly string[], then: Then): Promise<void> {
    const spec = parseJobSpec({ repository: 'acme/web', steps: ['true'], concurrency: { key: 'k', then } })
    await q.queue.addBulk(ids.map((jobId) => ({ name: 'job', data: { spec }, opts: { jobId, priority: spec.priority } })))
    await q.ready.add(ids.map((jobId) => ({ jobId, spec })))
  }

  it('of very many that wait all are superseded, so many in a step, and each that ends brings up more of them', async () => {
    await q.enqueue('runs')
    expect(await q.take()).toBe('runs')
    await enqueueMany(Array.from({ length: 1_000 }, (_each, index) => `w${index}`), 'wait')
    await q.enqueue('newer', 'cancel-waiting')
    await q.end('runs')
    const taken: string[] = []
    for (let jobId = await q.take(); jobId !== null; jobId = await q.take()) {
      taken.push(jobId)
      if (jobId !== 'newer') await q.end(jobId)
    }
    expect([taken.length, taken.filter((jobId) => jobId === 'newer').length]).toEqual([1_001, 1])
    expect(await redis.client.zcard(q.keys.bullmq('prioritized'))).toBe(0)
  })

  it('a script does no more where many newer ones come at once', async () => {
    await enqueueMany(Array.from({ length: 1_000 }, (_each, index) => `w${index}`), 'wait')
    await redis.client.config('RESETSTAT')
    await enqueueMany(Array.from({ length: 20 }, (_each, index) => `newer${index}`), 'cancel-waiting')
    const stats = await redis.client.info('commandstats')
    const [calls, scripts] = [/calls=(\d+)/g, /cmdstat_evalsha?:calls=(\d+)/g].map((pattern) => [...stats.matchAll(pattern)].reduce((all, [, count]) => all + Number(count), 0))
    // Of the scripts 20 are BullMQ's.
    expect(calls! / (scripts! - 20)).toBeLessThan(1_500)
  })

  it('one that is to be dropped ends at once while another is there, waiting or running', async () => {
    expect(await q.enqueue('a', 'drop')).toEqual([])
    expect(await q.enqueue('b', 'drop')).toEqual(['b: dropped: job a has its concurrency key, or waits for it'])
    expect(await q.takeAll()).toEqual(expect.arrayContaining(['a', 'b']))
    await q.end('b')
    expect(await other.enqueue('c', 'drop')).toEqual(['c: dropped: job a has its concurrency key, or waits for it'])
    await q.end('a')
    await other.end('c')
    expect(await q.enqueue('d', 'drop')).toEqual([])
    await q.queue.drain()
    expect(await q.enqueue('e', 'drop')).toEqual([])
    expect(await q.takeAll()).toEqual(['e'])
  })

  it.each(['drop', 'cancel-waiting'] as const)('nothing watches for how long one that has ended so may wait: %s', async (then) => {
    await q.enqueue('a', then, { waitTimeout: '1h' })
    await q.enqueue('b', then, { waitTimeout: '1h' })
    const deadlines = `${redis.keys.ready()}:q:agents:${(await redis.client.hget(`${redis.keys.ready()}:epoch`, 'agents')) ?? '1'}:deadline`
    expect(await redis.client.zrange(deadlines, '0', '-1')).toEqual([then === 'drop' ? 'a' : 'b'])
  })
})

describe('cancel-running', () => {
  const runs = () => new RunStore(redis.client, redis.keys)

  it('a newer one has the key from the step in which it comes; what runs is told to end, and learns so from whatever it writes', async () => {
    await q.enqueue('old')
    expect(await q.take()).toBe('old')
    const acquired = await runs().acquire('old', { holder: 'a', fresh: record('old', { phase: 'steps' }) })
    if (acquired.kind !== 'acquired') throw new Error(acquired.kind)
    await other.enqueue('newer', 'cancel-running')
    expect(await other.take()).toBe('newer')
    expect(await runs().save('old', acquired.fence, record('old', { phase: 'pushing' }))).toMatchObject({ cancel: { reason: 'superseded by job newer' } })
    expect(await q.ready.enter('old', { key: 'k', limit: 1 })).toEqual({ kind: 'superseded', why: 'superseded by job newer' })
    // The end of the old one is not the end of the newer one's turn.
    await q.enqueue('third')
    await q.end('old')
    expect(await q.takeAll()).toEqual([])
    await other.end('newer')
    expect(await q.takeAll()).toEqual(['third'])
  })

  it.each(['pushing', 'promoting', 'closing'] as const)('waits for one in phase %s, which goes through', async (phase) => {
    await q.enqueue('old')
    expect(await q.take()).toBe('old')
    const acquired = await runs().acquire('old', { holder: 'a', fresh: record('old', { phase }) })
    if (acquired.kind !== 'acquired') throw new Error(acquired.kind)
    await q.enqueue('newer', 'cancel-running')
    expect(await q.take()).toBeNull()
    expect(await runs().save('old', acquired.fence, record('old', { phase }))).toEqual({ cancel: null })
    // Unless it loses its sandbox meanwhile and begins again.
    await runs().save('old', acquired.fence, record('old', { phase: 'placing' }))
    await q.ready.reconcile('m', 1)
    expect(await q.take()).toBe('newer')
  })

  it('what came later is superseded by nothing that came before, however often that is listed', async () => {
    await q.enqueue('older', 'cancel-running')
    expect(await q.take()).toBe('older')
    await q.enqueue('newer', 'cancel-running')
    expect(await q.take()).toBe('newer')
    const spec = parseJobSpec({ repository: 'acme/web', steps: ['true'], concurrency: { key: 'k', then: 'cancel-running' } })
    await redis.client.zadd(q.keys.bullmq('prioritized'), '7', 'older')
    expect((await q.ready.add([{ jobId: 'older', spec }])).superseded.map(({ jobId }) => jobId)).toEqual(['older'])
    expect(await q.ready.supersededBy('newer')).toBeNull()
  })

  /** It has begun, and waits for a budget. */
  async function park(jobId: string): Promise<void> {
    expect(await q.take()).toBe(jobId)
    await runs().acquire(jobId, { holder: 'a', fresh: record(jobId, { phase: 'placing' }) })
    await q.ready.close(jobId, undefined, { goesOn: true })
    await redis.client.zadd(q.keys.bullmq('delayed'), 4e18, jobId)
  }
  const superseded = async (jobId: string) => [...(await runs().cancelRequests([jobId])).values()].map(({ reason }) => reason)

  it.each(['cancel-waiting', 'cancel-running'] as const)('one that has begun and is parked is superseded as those are that wait, and taken to be ended: %s', async (then) => {
    await q.enqueue('parked')
    await park('parked')
    await other.enqueue('newer', then)
    expect(await superseded('parked')).toEqual(['superseded by job newer'])
    expect([await q.takeAll(), await other.takeAll()]).toEqual([['parked'], ['newer']])
    await q.end('parked')
    await other.end('newer')
    expect(await keyedLeft()).toEqual({})
    expect(await redis.client.keys(`${redis.keys.ready()}:key:*`)).toEqual([])
  })

  it('one that is parked keeps no other from the key, and has none dropped', async () => {
    await q.enqueue('parked')
    await park('parked')
    expect(await other.enqueue('newer', 'drop')).toEqual([])
    expect(await other.take()).toBe('newer')
    expect(await superseded('parked')).toEqual([])
  })

  it('one that is parked once a newer one waits to take its place is superseded when that begins', async () => {
    await q.enqueue('parked')
    expect(await q.take()).toBe('parked')
    const acquired = await runs().acquire('parked', { holder: 'a', fresh: record('parked', { phase: 'pushing' }) })
    if (acquired.kind !== 'acquired') throw new Error(acquired.kind)
    await other.enqueue('newer', 'cancel-running')
    await q.ready.close('parked', undefined, { goesOn: true })
    expect(await superseded('parked')).toEqual([])
    expect(await other.take()).toBe('newer')
    expect(await superseded('parked')).toEqual(['superseded by job newer'])
  })

  it('one that is parked goes on beside a newer one where both may run, and once it goes on it waits its turn', async () => {
    await q.enqueue('parked', 'wait', { limit: 2 })
    await park('parked')
    await other.enqueue('newer', 'cancel-running', { limit: 2 })
    expect(await other.take()).toBe('newer')
    expect(await superseded('parked')).toEqual([])
    await redis.client.zrem(q.keys.bullmq('delayed'), 'parked')
    await redis.client.zadd(q.keys.bullmq('prioritized'), 5, 'parked')
    const spec = parseJobSpec({ repository: 'acme/web', steps: ['true'], concurrency: { key: 'k', limit: 2 } })
    await q.ready.add([{ jobId: 'parked', spec, begun: true }], { strays: true })
    expect(await q.take()).toBe('parked')
    for (const id of ['parked', 'newer']) await (id === 'parked' ? q : other).end(id)
    expect(await keyedLeft()).toEqual({})
    expect(await redis.client.keys(`${redis.keys.ready()}:key:*`)).toEqual([])
  })

  it('one of a paused queue takes the key from what runs once the queue is resumed', async () => {
    await q.enqueue('old')
    expect(await q.take()).toBe('old')
    await other.queue.pause()
    await other.enqueue('newer', 'cancel-running')
    expect(await q.ready.supersededBy('old')).toBeNull()
    await other.queue.resume()
    await other.ready.reconcile('m', 1)
    expect(await q.ready.supersededBy('old')).toBe('superseded by job newer')
    expect(await other.take()).toBe('newer')
  })

  it('makes room for one only, where more may run', async () => {
    for (const id of ['a', 'b']) await q.enqueue(id, 'cancel-running', { limit: 2 })
    expect(await q.takeAll()).toEqual(['a', 'b'])
    await q.enqueue('c', 'cancel-running', { limit: 2 })
    expect(await q.takeAll()).toEqual(['c'])
    expect([await q.ready.supersededBy('a'), await q.ready.supersededBy('b')]).toEqual(['superseded by job c', null])
  })
})
