import { type Queue, Worker } from 'bullmq'
import type { Redis } from 'ioredis'
import { expect } from 'vitest'
import { jobIdOf } from '../../../src/job/names.js'
import { type Connected, connectTo } from '../../../src/producers/producer-connection.js'
import { Keys, type QueuedJob, Roster } from '../../../src/store/index.js'
import { keyDigest } from '../../../src/store/concurrency-keys.js'
import { after } from '../fixture.js'
import { keyLimits, limits, type Member, members, queues, shares, viewOf } from './deployment.js'
import { isInHand, Model, type ModelJob, type Used } from './model.js'

export interface Side extends Connected {
  readonly keys: Keys
  readonly worker: Worker
  readonly queue: Queue<QueuedJob>
}

/** Nobody renews locks in a walk: they lapse where it says so. */
const lockMs = 3_600_000

/** The system under test, what is seen of it, and the model beside it. */
export class World {
  readonly model = new Model()
  readonly sides = new Map<string, Side>()
  /** Makes what is to be unique so. */
  private numbers = 0

  constructor(
    readonly client: Redis,
    readonly keys: Keys,
  ) {}

  number(): number {
    return this.numbers++
  }

  side(queue: string): Side {
    return this.sides.get(queue)!
  }

  async begin(): Promise<void> {
    for (const name of queues) {
      const keys = new Keys(this.keys.prefix, name)
      const worker = new Worker(name, null, { connection: this.client, prefix: keys.prefix, autorun: false, lockDuration: lockMs, stalledInterval: 1, maxStalledCount: Number.MAX_SAFE_INTEGER })
      worker.on('error', () => undefined)
      const side = { ...(await connectTo(this.client, keys, 600_000)), keys, worker }
      this.sides.set(name, side)
      after(() => side.queue.close())
      after(() => worker.close(true))
    }
    const roster = new Roster(this.client, this.keys)
    for (const member of members) {
      const profile = { queue: member.queue, release: '1', providers: [...member.providers], secrets: [] }
      await roster.announce({ consumer: member.name, profileId: viewOf(member), profile, troubles: [], startedAtMs: 0, shares: { shares, sinceMs: null } }, 600_000)
    }
  }

  async epochOf(queue: string): Promise<string> {
    return (await this.client.hget(`${this.keys.ready()}:epoch`, queue)) ?? '1'
  }

  /** Those that wait are given, to be ended; those in hand go on as they are, without their key. */
  async learnSuperseded(): Promise<void> {
    for (const [member, standing] of Object.entries(await this.client.hgetall(`${this.keys.ready()}:keyed`))) {
      const job = this.model.jobs.get(member.slice(member.indexOf(':') + 1))!
      if (!standing.startsWith('!') || !job.seen || job.state === 'gone' || job.state === 'ended' || job.superseded !== undefined) continue
      job.superseded = isInHand(job) ? 'in hand' : 'waiting'
      if (job.superseded === 'waiting') job.state = 'given'
      else expect(job.run?.concludes && job.run.end === null, `${job.id}, which pushes, is superseded`).not.toBe(true)
    }
    for (const job of this.model.all) {
      if ((job.state !== 'parked' && job.state !== 'around') || job.run?.end !== null || job.run.cancel || job.again) continue
      if ((await this.side(job.queue).store.cancelRequests([job.id])).size === 0) continue
      job.run.cancel = true
      Object.assign(job, { state: 'given', ending: 'waiting' } satisfies Partial<ModelJob>)
    }
  }

  /** Those of its key that a job which comes now is to supersede: the oldest that wait or are parked, as many as are too many with it. */
  async toSupersede({ id, key, limit, spec }: ModelJob): Promise<ReadonlySet<string>> {
    const then = spec.concurrency?.then
    if (key === undefined || then === 'wait' || then === 'drop') return new Set()
    const waiting: { readonly id: string; readonly number: number }[] = []
    for (const job of this.model.all) {
      if (job.id === id || job.key !== key || (job.run?.cancel === true && job.run.end === null && !job.again) || !['waiting', 'around', 'parked'].includes(job.state)) continue
      const { keys } = this.side(job.queue)
      const [known, listed] = await this.client.hmget(keys.job(job.id), 'syk', 'sy')
      // Of those that are to be found again nothing is known yet.
      if (known == null || (job.state !== 'parked' && listed?.startsWith(`${await this.epochOf(job.queue)} `) !== true && !(await this.rests(job)))) continue
      waiting.push({ id: job.id, number: (JSON.parse(known) as { number: number }).number })
    }
    const holding = this.model.holdersOf(key)
    const room = Math.min(limit, ...holding.map((each) => each.limit)) - holding.length
    return new Set(waiting.sort((one, other) => one.number - other.number).slice(0, Math.max(0, waiting.length + 1 - room)).map((each) => each.id))
  }

  /** It has begun, was parked, and is on its way back. */
  private async rests({ id, queue }: ModelJob): Promise<boolean> {
    return (await this.client.hget(`${this.keys.ready()}:keyed`, `${queue}:${id}`))?.startsWith('~') === true
  }

  async judgeSuperseded({ id }: ModelJob, expected: ReadonlySet<string>): Promise<void> {
    const superseded = new Set<string>()
    const standings = await this.client.hgetall(`${this.keys.ready()}:keyed`)
    for (const job of this.model.all) {
      if (!['waiting', 'around', 'parked'].includes(job.state) || !job.seen || job.id === id) continue
      const why = standings[`${job.queue}:${job.id}`] ?? ''
      if (why.startsWith('!') || (job.run?.end === null && !job.run.cancel && !job.again && (await this.side(job.queue).store.cancelRequests([job.id])).size > 0)) superseded.add(job.id)
    }
    expect(superseded, `what ${id} supersedes`).toEqual(expected)
  }

  /** A job that had ended was not run again: it is one that is dropped, and others have its key or wait for it. */
  judgeKept({ id, key, spec, run, again }: ModelJob): void {
    expect(spec.concurrency?.then, `${id}, which was not run again`).toBe('drop')
    expect(run?.end ?? null).not.toBeNull()
    const others = this.model.all.filter((other) => other.id !== id && other.key === key && !['ended', 'gone'].includes(other.state))
    expect(others.length, `others of ${id}'s key (${again ? 'around' : 'ended'})`).toBeGreaterThan(0)
  }

  /** What holds a key by the model, and as the index has it. */
  async judgeHolders(): Promise<void> {
    for (const key of Object.keys(keyLimits)) {
      const holding = this.model.holdersOf(key)
      const known = await this.client.zrange(`${this.keys.ready()}:key:${keyDigest(key)}:in`, '0', '-1')
      expect(known.map((member) => member.split(':')[1]).sort(), `who holds "${key}"`).toEqual(holding.map(({ id }) => id).sort())
      expect(holding.length, `how many hold "${key}"`).toBeLessThanOrEqual(Math.min(...holding.map(({ limit }) => limit)))
    }
  }

  /** What was held of an index that was begun anew since is not. */
  async forgetEpochs(): Promise<void> {
    const { unpaid } = this.model
    for (const [held, { queue, epoch }] of unpaid) if ((await this.epochOf(queue)) !== epoch) unpaid.delete(held)
  }

  async scores(): Promise<Map<string, number>> {
    const scores = new Map<string, number>()
    for (const [name, { keys }] of this.sides) {
      const flat = await this.client.zrange(keys.bullmq('prioritized'), '0', '-1', 'WITHSCORES')
      for (let i = 0; i < flat.length; i += 2) scores.set(`${name} ${flat[i]}`, Number(flat[i + 1]))
    }
    return scores
  }

  /** The jobs that a queue's part of the index has, wherever they stand in it. */
  async listed(queue: string): Promise<string[]> {
    const own = `${this.keys.ready()}:q:${queue}:${await this.epochOf(queue)}:j:`
    const listed: string[] = []
    for (const key of await this.client.keys('*')) if (key.startsWith(own)) listed.push(...(await this.client.zrange(key, '0', '-1')))
    return listed
  }

  /** What the providers hold by the ledger; with `before`, less what was given and is not known of yet. */
  async load(before = false): Promise<Map<string, Used>> {
    const load = new Map<string, Used>()
    for (const text of await this.client.hvals(`${this.keys.ledger()}:lease`)) {
      const { provider, milliCpu, jobId } = JSON.parse(text) as { provider: string; milliCpu: number; jobId: string }
      const id = queues.map((queue) => jobIdOf(queue, jobId)).find((own) => own !== null)
      const state = this.model.jobs.get(id ?? '')?.state
      if (before && (state === 'waiting' || state === 'around')) continue
      const sum = load.get(provider) ?? { jobs: 0, cpu: 0 }
      load.set(provider, { jobs: sum.jobs + 1, cpu: sum.cpu + milliCpu / 1000 })
    }
    return load
  }

  /** The provider at which it has a place. */
  private async placeOf({ id, queue }: ModelJob): Promise<string | undefined> {
    for (const text of await this.client.hvals(`${this.keys.ledger()}:lease`)) {
      const { provider, jobId } = JSON.parse(text) as { provider: string; jobId: string }
      if (jobIdOf(queue, jobId) === id) return provider
    }
    return undefined
  }

  /** The jobs that were chosen just now. */
  private async newlyGiven(): Promise<ModelJob[]> {
    const given: ModelJob[] = []
    for (const [name, { keys }] of this.sides) {
      for (const id of await this.client.lrange(keys.bullmq('wait'), 0, -1)) {
        const job = this.model.jobs.get(id)
        if (job?.queue === name && (job.state === 'waiting' || job.state === 'around') && (await this.client.hexists(`${this.keys.ready()}:held`, keys.runId(id))) === 1) given.push(job)
      }
    }
    return given
  }

  /** Where each tenant stands in a queue's views: the furthest behind of its places. */
  private async places(queue: string): Promise<Map<string, number>> {
    const furthest = new Map<string, number>()
    for (const key of await this.client.keys(`${this.keys.ready()}:q:${queue}:*:v:*:a:*`)) {
      const tenants = await this.client.zrange(key, '0', '-1', 'WITHSCORES')
      for (let index = 0; index < tenants.length; index += 2) furthest.set(tenants[index] ?? '', Math.max(furthest.get(tenants[index] ?? '') ?? 0, Number(tenants[index + 1])))
    }
    return furthest
  }

  /** Runs something that may give jobs, and judges each that it gave by what was there before. `comes`: what it lists itself, and may give at once to a consumer that is idle. */
  async observe<Answer>(work: () => Promise<Answer>, { looks, comes = [] }: { readonly looks?: Member; readonly comes?: readonly ModelJob[] } = {}): Promise<Answer> {
    const { model } = this
    const [accounts, presents] = await Promise.all([this.client.hgetall(`${this.keys.ready()}:tenant`), this.client.hgetall(`${this.keys.ready()}:present`)])
    const scores = await this.scores()
    const places = looks === undefined ? new Map<string, number>() : await this.places(looks.queue)
    const holdNoKey = new Set(model.all.filter(({ superseded }) => superseded !== undefined))
    const answer = await work()
    const before = await this.load(true)
    const given = await this.newlyGiven()
    const known = given.filter(({ state, overdue }) => state === 'waiting' && !overdue)
    for (const job of given) {
      expect(model.paused).not.toContain(job.queue)
      expect(comes.includes(job) || scores.has(`${job.queue} ${job.id}`), `${job.id} was listed`).toBe(true)
      job.state = 'given'
      // Only a look asks for those first. Another, which goes with an end, is given as any other, and found to be late by whoever begins it.
      if (looks === undefined) job.overdue = false
    }
    await this.forgetEpochs()
    // Those that are overdue are given whatever else holds them.
    const begun = given.filter(({ overdue }) => !overdue)
    for (const job of begun) expect(model.unpaid.has(model.standsWith(job)), `${job.id}, for which its tenant's budget has too little, is given`).toBe(false)
    await this.learnSuperseded()
    await this.judgeHolders()
    for (const job of begun) {
      const provider = await this.placeOf(job)
      if (provider !== undefined) expect(model.homes(job), `where ${job.id} has its place`).toContain(provider)
    }
    const now = await this.load()
    // What was there when an operator lowered a limit stays.
    for (const limit of limits) {
      const load = now.get(limit.provider) ?? { jobs: 0, cpu: 0 }
      expect(load.jobs, `places at ${limit.provider}`).toBeLessThanOrEqual(Math.max(model.limitOf(limit), before.get(limit.provider)?.jobs ?? 0))
      if (limit.cpu !== undefined) expect(load.cpu).toBeLessThanOrEqual(limit.cpu)
    }
    for (const tenant of new Set(begun.map((job) => job.tenant))) {
      expect(model.said.pausedTenants).not.toContain(tenant)
      expect(model.inHandOf(tenant), `jobs of ${tenant} in hand`).toBeLessThanOrEqual(model.capOf(tenant))
    }
    // One whose priority was changed behind the index's back may still be given by the old one.
    const [job] = known
    if (given.length === 1 && job !== undefined && looks !== undefined) {
      const vt = (tenant: string) => Number(accounts[tenant]?.split(' ')[0] ?? Number.NaN)
      // What it has in hand counts beyond what was charged for that; rounded, and as if its weight were 1, so that it is this at the most.
      const nowMs = Number((await this.client.get(`${this.keys.ledger()}:clock`))?.split(' ')[1])
      const pending = (tenant: string) => {
        const [, count, sum] = /::held (\d+) (\d+) due/.exec(accounts[tenant] ?? '') ?? []
        return count === undefined ? 0 : Math.max(0, (1.5 * (Number(count) * nowMs - Number(sum))) / 1000)
      }
      // It may have been put behind by that, which is rounded up by two fifths at the most, and has since been charged to its account; a sweep puts forward who is a minute too far behind.
      const behind = (tenant: string) => Math.min(places.get(tenant) ?? 0, vt(tenant) + Math.min(60, 0.42 * vt(tenant)))
      // Who could have no turn for long, as its queue was skipped, begins at the present as who is new does.
      const skippedUntil = Number((await this.client.get(`${this.keys.ready()}:q:${looks.queue}:${await this.epochOf(looks.queue)}:skipped`))?.split(' ')[1] ?? 0)
      const fresh = (tenant: string) => {
        const turn = Number(/^\d+/.exec(accounts[tenant]?.split(' ')[7] ?? '')?.[0])
        return turn === 1 || turn < skippedUntil
      }
      // Who comes from one crowd to another, whose accounts have come to something else, is put among those there; also from a provider that is drained, and back.
      const comes = (each: ModelJob) => {
        const account = accounts[each.tenant] ?? ''
        const home = /::(\S+) home/.exec(account)?.[1]
        const at = looks.providers.filter((name) => each.allow?.includes(name) ?? true)
        if (home === undefined || (at.some((name) => name === home) && model.limitOf({ provider: home, sandboxes: 1 }) > 0 && !/::\S+ \d/.test(account))) return false
        return at.some((name) => Math.abs(Number(presents[home] ?? 0) - Number(presents[name] ?? 0)) > 60)
      }
      // With all that it has, when one of its jobs comes up there.
      const mayMove = (tenant: string) => model.of(looks.queue, 'waiting', 'given').some((each) => each.tenant === tenant && comes(each))
      const others = model.runnable(before, looks.providers, (other) => other.id !== job.id && other.state === 'waiting' && other.queue === looks.queue, scores, holdNoKey)
      for (const other of others) {
        const [mine, its] = [scores.get(`${job.queue} ${job.id}`)!, scores.get(`${other.queue} ${other.id}`)!]
        // A tenant's jobs by priority and arrival, but for those of a shape that was put behind; tenants by what they have used. Who has come back begins at the present when it comes up.
        const lags = (places.get(job.tenant) ?? 0) > vt(job.tenant) + 0.001
        if (other.tenant === job.tenant && other.queue === job.queue && lags && model.standsWith(other) !== model.standsWith(job)) continue
        if (other.tenant === job.tenant && other.queue === job.queue) expect(mine, `${job.id} before ${other.id}`).toBeLessThanOrEqual(its)
        else if (other.tenant !== job.tenant && !fresh(other.tenant) && !fresh(job.tenant) && !mayMove(other.tenant) && !mayMove(job.tenant)) expect(vt(job.tenant), `${job.tenant} before ${other.tenant}`).toBeLessThanOrEqual(Math.max(vt(other.tenant) + pending(other.tenant), behind(other.tenant)) + 0.001)
      }
    }
    return answer
  }
}
