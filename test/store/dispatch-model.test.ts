import { Queue } from 'bullmq'
import { expect, it } from 'vitest'
import { constraintsOf } from '../../src/job/constraints.js'
import { jobIdOf } from '../../src/job/names.js'
import { parseJobSpec, type JobSpecInput } from '../../src/job/spec.js'
import { Keys, type KnownConstraints, Operators, type ProviderLimit, ReadyJobs, type ReadyJob, Roster } from '../../src/store/index.js'
import { keyDigest } from '../../src/store/concurrency-keys.js'
import fc from '../seeded-fast-check.js'
import { after, useRedis } from './fixture.js'

/**
 * Random walks over the index and the ledger, by everything that producers, consumers and BullMQ's own calls can do, held against a plain model
 * of the rules: what may be given, to whom, and before what. `npm run test:model` walks 10,000 steps.
 */
const steps = Number(process.env['SWITCHYARD_MODEL_STEPS'] ?? 300)
const stepsPerWalk = 100

const redis = useRedis()

const limits: readonly ProviderLimit[] = [
  { provider: 'a', sandboxes: 2 },
  { provider: 'b', sandboxes: 3, cpu: 4 },
  { provider: 'c', sandboxes: 1 },
  { provider: 'd', sandboxes: 2 },
]
const members = [
  { queue: 'q1', name: 'm1', providers: ['a', 'b', 'c'] },
  { queue: 'q1', name: 'm2', providers: ['a', 'b', 'c'] },
  { queue: 'claim', name: 'm3', providers: ['b', 'c'] },
  { queue: 'claim', name: 'm4', providers: ['c', 'd'] },
] as const
type Member = (typeof members)[number]
const queues = ['q1', 'claim'] as const
/** A tenant may be called anything, also as the index itself puts things apart. */
const tenants = ['a b', "x:y:1\n%d '*", '*', '\u0000é : 1 2'] as const
const caps: Readonly<Record<string, number>> = { [tenants[1]]: 2 }
const shares = { [tenants[0]]: { weight: 2 }, [tenants[1]]: { weight: 1, cap: 2 } }
const allows: readonly (readonly string[] | undefined)[] = [undefined, ['a'], ['b'], ['c'], ['b', 'd'], ['a', 'c'], ['d']]

/** Of the jobs that share a key so many at most run at once, where they don't say another limit; each says what is to become of the others when it comes. */
const keyLimits: Readonly<Record<string, number>> = { 'one at a time': 1, 'two: \u0000 ! ': 2 }
const thens = ['wait', 'wait', 'wait', 'cancel-running', 'cancel-running', 'cancel-waiting', 'drop'] as const

interface ModelJob {
  readonly id: string
  readonly queue: string
  readonly tenant: string
  readonly cpu: number
  readonly allow: readonly string[] | undefined
  readonly key: string | undefined
  /** How many of its key may run at once beside it. */
  readonly limit: number
  /** A newer one has taken its key, or it was dropped: `waiting` when it was not in hand then. */
  superseded?: 'waiting' | 'in hand'
  /** `waiting` in BullMQ and listed; `around`: there, and to be found; `given`: chosen, for somebody to take; `taken`; `gone`. */
  state: 'waiting' | 'around' | 'given' | 'taken' | 'gone'
}

const saying = { by: 'anna', audit: { by: 'operator', name: 'anna', action: 'test', targets: ['x'], count: 1, status: 200 } }

interface Side {
  readonly keys: Keys
  readonly ready: ReadyJobs
  readonly queue: Queue
}

const enqueue = { do: fc.constant('enqueue' as const), queue: fc.nat(1), tenant: fc.nat(3), allow: fc.nat(allows.length - 1), cpu: fc.nat(3), priority: fc.integer({ min: 1, max: 3 }), count: fc.integer({ min: 1, max: 4 }), around: fc.boolean(), key: fc.integer({ min: -2, max: 1 }), then: fc.nat(thens.length - 1), limit: fc.oneof({ weight: 4, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: fc.integer({ min: 1, max: 3 }) }) }
const command = fc.oneof(
  { weight: 6, arbitrary: fc.record(enqueue) },
  // Those of a key, while others that have it are in hand.
  { weight: 5, arbitrary: fc.record({ ...enqueue, allow: fc.constant(0), count: fc.integer({ min: 1, max: 2 }), around: fc.constant(false), key: fc.nat(1) }) },
  { weight: 10, arbitrary: fc.record({ do: fc.constant('look' as const), member: fc.nat(members.length - 1), idle: fc.boolean() }) },
  { weight: 7, arbitrary: fc.record({ do: fc.constant('end' as const), which: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('put back' as const), which: fc.nat() }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('remove' as const), which: fc.nat() }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('cancel' as const), which: fc.nat(), given: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ ...enqueue, do: fc.constant('add again' as const), which: fc.nat() }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('prioritise' as const), which: fc.nat(), priority: fc.integer({ min: 0, max: 3 }), lifo: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('reconcile' as const), queue: fc.nat(1) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('pause' as const), queue: fc.nat(1), on: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('drain' as const), queue: fc.nat(1) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('operate a provider' as const), which: fc.nat(limits.length - 1), say: fc.constantFrom('drain', 'resume', 'limit', 'reset'), limit: fc.integer({ min: 1, max: 4 }) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('operate a tenant' as const), which: fc.nat(tenants.length - 1), say: fc.constantFrom('pause', 'resume', 'share', 'reset'), weight: fc.integer({ min: 1, max: 4 }), cap: fc.option(fc.integer({ min: 1, max: 3 }), { nil: undefined }) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('hold for a budget' as const), which: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('a budget has more' as const), which: fc.nat(tenants.length) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('be away' as const), member: fc.nat(members.length - 1) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('set the clock' as const), hours: fc.integer({ min: -30, max: 30 }) }) },
)
type Command = typeof command extends fc.Arbitrary<infer T> ? T : never

/** The system under test beside its model. */
class Walk {
  readonly jobs = new Map<string, ModelJob>()
  readonly paused = new Set<string>()
  private readonly specs = new Map<string, ReadyJob['spec']>()
  /** What waits for a budget: queue, constraints and tenant. */
  private readonly unpaid = new Map<string, { readonly tenant: string; readonly epoch: string; readonly queue: string }>()
  /** What operators said: providers without new places, other limits than the configured; tenants whose jobs wait on, other shares than the configured. */
  private readonly said = { drained: new Set<string>(), limits: new Map<string, number>(), pausedTenants: new Set<string>(), shares: new Map<string, { readonly cap: number | undefined }>() }
  /** Queue and key where something was removed that the index may still have before others. */
  private readonly unsure = new Set<string>()
  readonly client = redis.connect()
  private readonly operators = new Operators(this.client, redis.keys)
  readonly sides: ReadonlyMap<string, Side> = new Map(
    queues.map((name) => {
      const keys = new Keys(redis.keys.prefix, name)
      return [name, { keys, ready: new ReadyJobs(this.client, keys), queue: new Queue(name, { connection: this.client, prefix: keys.prefix }) }]
    }),
  )
  private numbers = 0

  side(queue: string) {
    return this.sides.get(queue)!
  }

  async begin(): Promise<void> {
    for (const { queue } of this.sides.values()) {
      after(() => queue.close())
      await queue.waitUntilReady()
    }
    const roster = new Roster(this.client, redis.keys)
    for (const { name, queue, providers } of members) {
      const profile = { queue, release: '1', providers: [...providers], secrets: [] }
      await roster.announce({ consumer: name, profileId: providers.join(), profile, troubles: [], startedAtMs: 0, shares: { shares, sinceMs: null } }, 600_000)
    }
  }

  async step(what: Command): Promise<void> {
    switch (what.do) {
      case 'enqueue': {
        const concurrency = this.concurrencyOf(what)
        const added = await Promise.all(Array.from({ length: what.count }, () => this.add(queues[what.queue]!, tenants[what.tenant]!, allows[what.allow], what.cpu, what.priority, concurrency)))
        if (!what.around) await this.list(added)
        return
      }
      case 'look':
        { await this.look(members[what.member]!, what.idle ? 60_000 : 0); return; }
      case 'end':
        { await this.with(what.which, 'taken', async (job) => {
          job.state = 'gone'
          await this.client.del(this.side(job.queue).keys.job(job.id))
          await this.observe(() => this.side(job.queue).ready.close(job.id))
        }); return; }
      case 'put back':
        { await this.with(what.which, 'taken', async (job) => {
          await this.client.zadd(this.side(job.queue).keys.bullmq('prioritized'), String(2 ** 32), job.id)
          job.state = 'given'
          await this.side(job.queue).ready.front(job.id)
        }); return; }
      case 'remove':
        { await this.with(what.which, 'waiting', async (job) => {
          await this.side(job.queue).queue.remove(job.id)
          job.state = 'gone'
          this.unsure.add(`${job.queue} ${job.key ?? ''}`)
        }); return; }
      case 'cancel':
        { await this.with(what.which, what.given ? 'given' : 'waiting', async (job) => {
          await this.side(job.queue).queue.remove(job.id)
          job.state = 'gone'
          // As above: its record says no more where it stood.
          if (!what.given) this.unsure.add(`${job.queue} ${job.key ?? ''}`)
          await this.observe(() => this.side(job.queue).ready.close(job.id))
        }); return; }
      case 'add again':
        // Another job under the id of one that is gone, which the index may still have where that one stood.
        { await this.with(what.which, 'gone', async ({ id, queue }) => {
          const added = await this.add(queue, tenants[what.tenant]!, allows[what.allow], what.cpu, what.priority, this.concurrencyOf(what), id)
          if (!what.around) await this.list([added])
        }); return; }
      case 'prioritise':
        { await this.with(what.which, 'waiting', async (job) => {
          await (await this.side(job.queue).queue.getJob(job.id))!.changePriority({ priority: what.priority, lifo: what.lifo })
          job.state = 'around'
        }); return; }
      case 'reconcile':
        { await this.reconcile(queues[what.queue]!); return; }
      case 'pause': {
        const { queue } = this.side(queues[what.queue]!)
        await (what.on ? queue.pause() : queue.resume())
        if (what.on) this.paused.add(queue.name)
        else this.paused.delete(queue.name)
        return
      }
      case 'drain': {
        const name = queues[what.queue]!
        // Those that are chosen stand in BullMQ's wait list, and go as well.
        await this.side(name).queue.drain()
        for (const key of Object.keys(keyLimits)) this.unsure.add(`${name} ${key}`)
        for (const job of this.of(name, 'waiting', 'around', 'given')) {
          const given = job.state === 'given'
          job.state = 'gone'
          if (given) await this.observe(() => this.side(name).ready.close(job.id))
        }
        return
      }
      case 'operate a provider':
        { await this.operateProvider(what); return; }
      case 'operate a tenant':
        { await this.operateTenant(what); return; }
      case 'hold for a budget':
        { await this.with(what.which, 'waiting', (job) => this.holdForBudget(job)); return; }
      case 'a budget has more': {
        // A change of any budget looks at everybody; what comes free, at its tenant.
        const tenant = tenants[what.which]
        if (tenant === undefined) await this.client.hincrby(`${redis.keys.costs()}:caps`, 'version', 1)
        else await this.client.zadd(`${redis.keys.ready()}:paying:version`, 'XX', -1, tenant)
        for (const [held, { tenant: whose }] of this.unpaid) if (tenant === undefined || whose === tenant) this.unpaid.delete(held)
        return
      }
      case 'be away': {
        // As if none of its view had looked for long: whoever of its queue looks next drops what is known of it, and it begins anew when one of them does.
        const { queue, providers } = members[what.member]!
        await this.client.zadd(`${redis.keys.ready()}:q:${queue}:${await this.epochOf(queue)}:views`, 'XX', 1, providers.join())
        return
      }
      case 'set the clock': {
        // As if Redis' clock had shown another time before: what passes between two looks is all that the index sees of it.
        const clock = `${redis.keys.ledger()}:clock`
        const [before, steady] = ((await this.client.get(clock)) ?? '0 0').split(' ').map(Number)
        if (before !== 0) await this.client.set(clock, `${before! - what.hours * 3_600_000} ${steady}`)
      }
    }
  }

  /** Of the jobs that stand with this one, in every view of its queue. */
  private async holdForBudget(job: ModelJob): Promise<void> {
    const spec = this.specs.get(job.id)!
    const version = (await this.client.hget(`${redis.keys.costs()}:caps`, 'version')) ?? '0'
    // What is to be put back with the next look is not held again before that.
    if ((await this.client.zcount(`${redis.keys.ready()}:paying:version`, '-inf', `(${version}`)) > 0) return
    const days = JSON.stringify([[0, 'today'], [4_000_000_000_000, 'later']])
    for (const view of new Set(members.filter(({ queue }) => queue === job.queue).map(({ providers }) => providers.join()))) {
      // What stands in the line of a key is not held.
      if (!(await this.side(job.queue).ready.hold(spec, view, { why: `${job.tenant} has too little`, untilMs: 4_000_000_000_000, stamp: `${version}/today/0`, days }))) return
    }
    this.unpaid.set(this.standsWith(job), { tenant: job.tenant, epoch: await this.epochOf(job.queue), queue: job.queue })
  }

  private standsWith({ id, queue, tenant }: ModelJob): string {
    return `${queue} ${constraintsOf(this.specs.get(id)!).id} ${tenant}`
  }

  private async epochOf(queue: string): Promise<string> {
    return (await this.client.hget(`${redis.keys.ready()}:epoch`, queue)) ?? '1'
  }

  /** What was held of an index that was begun anew since is not. */
  private async forgetEpochs(): Promise<void> {
    for (const [held, { queue, epoch }] of this.unpaid) if ((await this.epochOf(queue)) !== epoch) this.unpaid.delete(held)
  }

  /** Ends all that is in hand, lets everything run, and sees that nothing is left. */
  async finish(): Promise<void> {
    await this.step({ do: 'a budget has more', which: tenants.length })
    for (const name of queues) await this.step({ do: 'pause', queue: queues.indexOf(name), on: false })
    for (const say of ['resume', 'reset'] as const) {
      for (const which of limits.keys()) await this.operateProvider({ which, say, limit: 1 })
      for (const which of tenants.keys()) await this.operateTenant({ which, say, weight: 1, cap: undefined })
    }
    for (let idle = 0; idle < 3; ) {
      for (const name of queues) await this.reconcile(name)
      for (const member of members) await this.look(member, 0)
      const inHand = [...this.jobs.values()].filter(({ state }) => state === 'taken')
      for (const job of inHand) {
        job.state = 'gone'
        await this.client.del(this.side(job.queue).keys.job(job.id))
        await this.observe(() => this.side(job.queue).ready.close(job.id))
      }
      idle = inHand.length === 0 ? idle + 1 : 0
    }
    // Those that no live consumer may run wait for one that may; whoever stands behind them in the line of a key does not.
    const left = [...this.jobs.values()].filter(({ state }) => state !== 'gone')
    expect(left.filter((job) => this.homes(job).length > 0)).toEqual([])
    const ready = redis.keys.ready()
    const [held, uncapping, capped, used] = await Promise.all([this.client.hlen(`${ready}:held`), this.client.scard(`${ready}:uncapping`), this.client.keys(`${ready}:capped:*`), this.client.hlen(`${redis.keys.ledger()}:lease`)])
    expect({ held, uncapping, capped, used }).toEqual({ held: 0, uncapping: 0, capped: [], used: 0 })
    const listed = Object.values(await this.client.hgetall(`${ready}:listed`)).reduce((all, each) => all + Number(each), 0)
    expect(listed).toBe([...this.jobs.values()].filter(({ state }) => state === 'waiting' || state === 'around').length)
    expect(await this.client.hgetall(`${ready}:keyed`)).toEqual({})
    expect([...(await this.client.keys(`${ready}:unpaid*`)), ...(await this.client.keys(`${ready}:paying*`))]).toEqual([])
    for (const key of Object.keys(keyLimits)) expect(await this.client.exists(`${ready}:key:${keyDigest(key)}:in`)).toBe(0)
    for (const text of await this.client.hvals(`${ready}:tenant`)) expect(text.split(' ')[3]).toBe('0')
  }

  private async operateProvider({ which, say, limit }: { readonly which: number; readonly say: 'drain' | 'resume' | 'limit' | 'reset'; readonly limit: number }): Promise<void> {
    const { provider } = limits[which]!
    const { drained, limits: set } = this.said
    const answer = await this.observe(async () => {
      switch (say) {
        case 'drain':
          return await this.operators.drain(provider, { move: false }, saying)
        case 'resume':
          return await this.operators.drain(provider, null, saying)
        case 'limit':
          return await this.operators.limit(provider, limit, saying)
        case 'reset':
          return await this.operators.limit(provider, null, saying)
      }
    })
    // Nobody has asked for a place there yet.
    if (answer === null) return
    const same = say === 'drain' ? drained.has(provider) : say === 'resume' ? !drained.has(provider) : say === 'limit' ? set.get(provider) === limit : !set.has(provider)
    expect([say, provider, answer.outcome]).toEqual([say, provider, same ? 'same' : 'changed'])
    if (say === 'drain') drained.add(provider)
    else if (say === 'resume') drained.delete(provider)
    else if (say === 'limit') set.set(provider, limit)
    else set.delete(provider)
  }

  private async operateTenant({ which, say, weight, cap }: { readonly which: number; readonly say: 'pause' | 'resume' | 'share' | 'reset'; readonly weight: number; readonly cap: number | undefined }): Promise<void> {
    const tenant = tenants[which]!
    const share = say === 'share' ? { weight, cap } : null
    const answer = await this.observe(async () => (say === 'pause' || say === 'resume' ? await this.operators.pauseTenant(tenant, say === 'pause', saying, true) : await this.operators.shareTenant(tenant, share, saying, true)))
    expect(answer).toMatchObject({ outcome: expect.stringMatching(/^(changed|same)$/) as unknown })
    if (say === 'pause') this.said.pausedTenants.add(tenant)
    else if (say === 'resume') this.said.pausedTenants.delete(tenant)
    else if (share === null) this.said.shares.delete(tenant)
    else this.said.shares.set(tenant, share)
  }

  /** How many places a provider gives by what is configured and what operators said. */
  private limitOf({ provider, sandboxes }: ProviderLimit): number {
    return this.said.drained.has(provider) ? 0 : (this.said.limits.get(provider) ?? sandboxes)
  }

  private capOf(tenant: string): number {
    return this.said.pausedTenants.has(tenant) ? 0 : (this.said.shares.get(tenant)?.cap ?? caps[tenant] ?? Infinity)
  }

  private concurrencyOf(what: { readonly key: number; readonly limit: number | undefined; readonly then: number }): JobSpecInput['concurrency'] {
    const key = Object.keys(keyLimits)[what.key]
    return key === undefined ? undefined : { key, limit: what.limit ?? keyLimits[key]!, then: thens[what.then]! }
  }

  private async add(queue: string, tenant: string, allow: readonly string[] | undefined, cpu: number, priority: number, concurrency: JobSpecInput['concurrency'], id = `j${this.numbers++}`): Promise<ModelJob & { spec: ReadyJob['spec'] }> {
    const input: JobSpecInput = { repository: 'acme/web', steps: ['true'], tenant, priority, ...(cpu === 0 ? {} : { resources: { cpu } }), ...(allow === undefined ? {} : { providers: { allow: [...allow] } }), ...(concurrency === undefined ? {} : { concurrency }) }
    const job = { id, queue, tenant, cpu, allow, key: concurrency?.key, limit: concurrency?.limit ?? Infinity, state: 'around' as const }
    this.jobs.set(id, job)
    const spec = parseJobSpec(input)
    this.specs.set(id, spec)
    await this.side(queue).queue.add('job', { spec }, { jobId: id, priority })
    return { ...job, spec }
  }

  private async list(added: readonly (ModelJob & { spec: ReadyJob['spec'] })[]): Promise<void> {
    if (added.length === 0) return
    await this.side(added[0]!.queue).ready.add(added.map(({ id, spec }) => ({ jobId: id, spec })))
    for (const { id } of added) this.jobs.get(id)!.state = 'waiting'
    await this.learnSuperseded()
  }

  /** Those that wait are given, to be ended; those in hand go on as they are, without their key. */
  private async learnSuperseded(): Promise<void> {
    for (const [member, standing] of Object.entries(await this.client.hgetall(`${redis.keys.ready()}:keyed`))) {
      const job = this.jobs.get(member.slice(member.indexOf(':') + 1))!
      if (!standing.startsWith('!') || job.state === 'gone') continue
      const inHand = job.state === 'given' || job.state === 'taken'
      job.superseded ??= inHand ? 'in hand' : 'waiting'
      if (!inHand) job.state = 'given'
    }
  }

  /** What holds a key by the model, and as the index has it. */
  private async holders(key: string): Promise<string[]> {
    const holding = [...this.jobs.values()].filter((job) => job.key === key && job.superseded === undefined && (job.state === 'given' || job.state === 'taken')).map(({ id }) => id)
    const known = await this.client.zrange(`${redis.keys.ready()}:key:${keyDigest(key)}:in`, '0', '-1')
    expect(known.map((member) => member.split(':')[1]).sort(), `who holds "${key}"`).toEqual(holding.sort())
    expect(holding.length, `how many hold "${key}"`).toBeLessThanOrEqual(Math.min(...holding.map((id) => this.jobs.get(id)!.limit)))
    return holding
  }

  private async reconcile(name: string): Promise<void> {
    for (let more = true; more; ) {
      const found = await this.side(name).ready.reconcile('m', 1)
      expect(found.missing.filter(({ placed }) => placed)).toEqual([])
      await this.listIds(name, found.missing.map(({ jobId }) => jobId))
      await this.learnSuperseded()
      more = found.more
    }
    const [listed, waits] = await Promise.all([this.client.hget(`${redis.keys.ready()}:listed`, name), this.client.zcard(this.side(name).keys.bullmq('prioritized'))])
    if (Number(listed ?? 0) === waits) for (const each of this.unsure) if (each.startsWith(`${name} `)) this.unsure.delete(each)
    // What stands in BullMQ's wait list is found by a look.
    const waiting = new Set(await this.client.lrange(this.side(name).keys.bullmq('wait'), 0, -1))
    for (const job of this.of(name, 'around')) if (!waiting.has(job.id)) job.state = 'waiting'
  }

  private async listIds(name: string, ids: readonly string[]): Promise<void> {
    const { queue, ready } = this.side(name)
    for (const id of ids) {
      const job = await queue.getJob(id)
      if (job === undefined) continue
      await ready.add([{ jobId: id, spec: (job.data as { spec: ReadyJob['spec'] }).spec }], { strays: true })
      this.jobs.get(id)!.state = 'waiting'
      await this.learnSuperseded()
    }
  }

  private async look(member: Member, idleMs: number): Promise<void> {
    const { ready, keys } = this.side(member.queue)
    const own = limits.filter(({ provider }) => (member.providers as readonly string[]).includes(provider))
    const means = { profileId: member.providers.join(), viewId: member.providers.join(), providers: member.providers, secrets: [], shares: true }
    let known: KnownConstraints[] = []
    for (let looks = 0; ; looks++) {
      expect(looks).toBeLessThan(100)
      const found = await this.observe(
        () => ready.dispatch({ holder: member.name, leaseId: `l${this.numbers++}`, limits: own, known, choice: 'most-free', means, graceMs: 600_000, idleMs }),
        member,
      )
      if (found.what === 'take') {
        const id = (await this.client.rpop(keys.bullmq('wait')))!
        expect([found.jobId, found.waited]).toContain(id)
        const job = this.jobs.get(id)!
        expect(job.state).toBe('given')
        job.state = 'taken'
      }
      // By these another may be superseded, which then stands before the one that was found: a consumer that is given that one ends it and looks again.
      await this.listIds(member.queue, found.unlisted)
      if (found.what === 'take') return
      known = found.unknown.map(({ id, number, json }) => {
        const { allow } = (JSON.parse(json) as { providers: { allow?: string[] } }).providers
        const can = member.providers.filter((name) => allow?.includes(name) ?? true)
        return { id, number, can: can.length === 0 ? 'none of its providers' : [[...can].sort()] }
      })
      if (found.what === 'nothing' && known.length === 0 && found.unlisted.length === 0) {
        if (!this.paused.has(member.queue)) expect(this.runnable(await this.load(), member.providers, (job) => job.queue === member.queue && job.state === 'waiting', await this.scores())).toEqual([])
        return
      }
    }
  }

  /** Runs something that may give jobs, and judges each that it gave by what was there before. */
  private async observe<Answer>(work: () => Promise<Answer>, looks?: Member): Promise<Answer> {
    const accounts = await this.client.hgetall(`${redis.keys.ready()}:tenant`)
    const scores = await this.scores()
    const holdNoKey = new Set([...this.jobs.values()].filter(({ superseded }) => superseded !== undefined))
    const answer = await work()
    const before = await this.load(true)
    const given: ModelJob[] = []
    for (const [name, { keys }] of this.sides) {
      for (const id of await this.client.lrange(keys.bullmq('wait'), 0, -1)) {
        const job = this.jobs.get(id)
        if (job?.queue === name && (job.state === 'waiting' || job.state === 'around') && (await this.client.hexists(`${redis.keys.ready()}:held`, this.side(name).keys.runId(id))) === 1) given.push(job)
      }
    }
    const known = given.filter(({ state }) => state === 'waiting')
    for (const job of given) {
      expect(this.paused).not.toContain(job.queue)
      expect(scores.has(`${job.queue} ${job.id}`)).toBe(true)
      job.state = 'given'
    }
    await this.forgetEpochs()
    for (const job of given) expect(this.unpaid.has(this.standsWith(job)), `${job.id}, for which its tenant's budget has too little, is given`).toBe(false)
    await this.learnSuperseded()
    for (const key of Object.keys(keyLimits)) await this.holders(key)
    for (const job of given) {
      const provider = await this.placeOf(job)
      if (provider !== undefined) expect(this.homes(job), `where ${job.id} has its place`).toContain(provider)
    }
    const now = await this.load()
    // What was there when an operator lowered a limit stays.
    for (const limit of limits) {
      const load = now.get(limit.provider) ?? { jobs: 0, cpu: 0 }
      expect(load.jobs, `places at ${limit.provider}`).toBeLessThanOrEqual(Math.max(this.limitOf(limit), before.get(limit.provider)?.jobs ?? 0))
      if (limit.cpu !== undefined) expect(load.cpu).toBeLessThanOrEqual(limit.cpu)
    }
    for (const tenant of new Set(given.map((job) => job.tenant))) {
      expect(this.said.pausedTenants).not.toContain(tenant)
      expect([...this.jobs.values()].filter((job) => job.tenant === tenant && isInHand(job)).length, `jobs of ${tenant} in hand`).toBeLessThanOrEqual(this.capOf(tenant))
    }
    // One whose priority was changed behind the index's back may still be given by the old one.
    const [job] = known
    if (given.length === 1 && job !== undefined && looks !== undefined) {
      const vt = (tenant: string) => Number(accounts[tenant]?.split(' ')[0] ?? Number.NaN)
      const fresh = (tenant: string) => accounts[tenant]?.split(' ')[7]?.startsWith('1') === true
      const others = this.runnable(before, looks.providers, (other) => other.id !== job.id && other.state === 'waiting' && other.queue === looks.queue, scores, holdNoKey)
      for (const other of others) {
        const [mine, its] = [scores.get(`${job.queue} ${job.id}`)!, scores.get(`${other.queue} ${other.id}`)!]
        // A tenant's jobs by priority and arrival; tenants by what they have used. Who has come back begins at the present when it comes up.
        if (other.tenant === job.tenant && other.queue === job.queue) expect(mine, `${job.id} before ${other.id}`).toBeLessThanOrEqual(its)
        else if (other.tenant !== job.tenant && !fresh(other.tenant) && !fresh(job.tenant)) expect(vt(job.tenant), `${job.tenant} before ${other.tenant}`).toBeLessThanOrEqual(vt(other.tenant) + 0.001)
      }
    }
    return answer
  }

  private async scores(): Promise<Map<string, number>> {
    const scores = new Map<string, number>()
    for (const [name, { keys }] of this.sides) {
      const flat = await this.client.zrange(keys.bullmq('prioritized'), '0', '-1', 'WITHSCORES')
      for (let i = 0; i < flat.length; i += 2) scores.set(`${name} ${flat[i]}`, Number(flat[i + 1]))
    }
    return scores
  }

  /** `holdNoKey`: who had been superseded by then; left out, whoever is now. Whether its key has room for it, and it is among the first of its queue that wait for that, by the strictest limit of all these. Not where something may be before it that the index is still to find gone, or elsewhere. */
  private mayHaveKey(job: ModelJob, scores: ReadonlyMap<string, number>, holdNoKey?: ReadonlySet<ModelJob>): boolean {
    const { key, queue } = job
    if (key === undefined) return true
    if (this.unsure.has(`${queue} ${key}`) || this.of(queue, 'around').some((other) => other.key === key)) return false
    const all = [...this.jobs.values()].filter((other) => other.key === key && (holdNoKey === undefined ? other.superseded === undefined : !holdNoKey.has(other)))
    const holding = all.filter(({ state }) => state === 'given' || state === 'taken')
    const score = ({ id }: ModelJob) => scores.get(`${queue} ${id}`) ?? Infinity
    const ahead = all.filter((other) => other.queue === queue && other.state === 'waiting' && score(other) < score(job))
    // One with a stricter limit keeps what is behind it in the line from room that only these would have.
    return ahead.length < Math.min(...[job, ...holding, ...ahead].map(({ limit }) => limit)) - holding.length
  }

  /** What the providers hold by the ledger; with `before`, less what was given and is not known of yet. */
  private async load(before = false): Promise<Map<string, { jobs: number; cpu: number }>> {
    const load = new Map<string, { jobs: number; cpu: number }>()
    for (const text of await this.client.hvals(`${redis.keys.ledger()}:lease`)) {
      const { provider, milliCpu, jobId } = JSON.parse(text) as { provider: string; milliCpu: number; jobId: string }
      const id = queues.map((queue) => jobIdOf(queue, jobId)).find((own) => own !== null)
      const state = this.jobs.get(id ?? '')?.state
      if (before && (state === 'waiting' || state === 'around')) continue
      const sum = load.get(provider) ?? { jobs: 0, cpu: 0 }
      load.set(provider, { jobs: sum.jobs + 1, cpu: sum.cpu + milliCpu / 1000 })
    }
    return load
  }

  /** The provider at which it has a place. */
  private async placeOf({ id, queue }: ModelJob): Promise<string | undefined> {
    for (const text of await this.client.hvals(`${redis.keys.ledger()}:lease`)) {
      const { provider, jobId } = JSON.parse(text) as { provider: string; jobId: string }
      if (jobIdOf(queue, jobId) === id) return provider
    }
    return undefined
  }

  /** Jobs that have a place among these providers. */
  private runnable(load: ReadonlyMap<string, { jobs: number; cpu: number }>, providers: readonly string[], which: (job: ModelJob) => boolean, scores: ReadonlyMap<string, number>, holdNoKey?: ReadonlySet<ModelJob>): ModelJob[] {
    const inHand = (tenant: string) => [...this.jobs.values()].filter((job) => job.tenant === tenant && isInHand(job)).length
    return [...this.jobs.values()].filter((job) => {
      if (!which(job) || !this.mayHaveKey(job, scores, holdNoKey) || inHand(job.tenant) >= this.capOf(job.tenant) || this.unpaid.has(this.standsWith(job))) return false
      return limits.some((limit) => {
        const { provider, cpu } = limit
        const used = load.get(provider) ?? { jobs: 0, cpu: 0 }
        return providers.includes(provider) && (job.allow?.includes(provider) ?? true) && used.jobs < this.limitOf(limit) && (cpu === undefined || used.cpu + job.cpu <= cpu)
      })
    })
  }

  /** Where it may run: its queue's consumers' providers that it allows. */
  private homes(job: ModelJob): string[] {
    return members.filter(({ queue }) => queue === job.queue).flatMap(({ providers }) => providers.filter((name) => job.allow?.includes(name) ?? true))
  }

  private of(queue: string, ...states: ModelJob['state'][]): ModelJob[] {
    return [...this.jobs.values()].filter((job) => job.queue === queue && states.includes(job.state))
  }

  private async with(which: number, state: ModelJob['state'], work: (job: ModelJob) => Promise<void>): Promise<void> {
    const list = [...this.jobs.values()].filter((job) => job.state === state)
    const job = list[which % Math.max(1, list.length)]
    if (job !== undefined) await work(job)
  }
}

/** Of those that were superseded while they waited no place and no account is known. */
function isInHand({ state, superseded }: ModelJob): boolean {
  return (state === 'given' || state === 'taken') && superseded !== 'waiting'
}

it('gives what may be given, in its order, never too much, and in the end everything', { timeout: 60_000 + steps * 200 }, async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(command, { minLength: stepsPerWalk / 2, maxLength: stepsPerWalk }), async (commands) => {
      const walk = new Walk()
      await walk.client.flushall()
      await walk.begin()
      for (const each of commands) await walk.step(each)
      await walk.finish()
    }),
    { numRuns: Math.ceil(steps / (0.75 * stepsPerWalk)), ...(process.env['SWITCHYARD_MODEL_SEED'] === undefined ? {} : { seed: Number(process.env['SWITCHYARD_MODEL_SEED']), path: process.env['SWITCHYARD_MODEL_PATH'] ?? '' }), endOnFailure: process.env['CI'] !== undefined },
  )
})
