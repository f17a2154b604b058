import type { Redis } from 'ioredis'
import { expect } from 'vitest'
import { keyDigest } from '../../../src/store/concurrency-keys.js'
import type { Keys } from '../../../src/store/index.js'
import type { Command } from './commands.js'
import { Consumers } from './consumers.js'
import { keyLimits, limits, members, queues, tenants } from './deployment.js'
import type { ModelJob, State } from './model.js'
import { Operating } from './operating.js'
import { Producers } from './producers.js'
import { World } from './world.js'

/** A walk: what happens, one thing after the other, and that in the end everything has run. */
export class Walk {
  private readonly world: World
  private readonly consumers: Consumers
  private readonly producers: Producers
  private readonly operating: Operating

  constructor(client: Redis, keys: Keys) {
    this.world = new World(client, keys)
    this.consumers = new Consumers(this.world)
    this.producers = new Producers(this.world)
    this.operating = new Operating(this.world)
  }

  async begin(): Promise<void> {
    await this.world.begin()
  }

  async step(what: Command): Promise<void> {
    const { consumers, producers, operating } = this
    switch (what.do) {
      case 'enqueue':
        return producers.enqueue(what)
      case 'add again':
        return this.with(what.which, ['gone'], (job) => producers.addAgain(job, what))
      case 'remove':
        return this.with(what.which, ['waiting', 'delayed', 'parked'], (job) => producers.remove(job))
      case 'cancel':
        return this.with(what.which, [what.what], (job) => producers.cancel(job))
      case 'retry':
        return this.with(what.which, ['ended', 'ended', 'waiting', 'given', 'taken'], (job) => producers.retry(job, what))
      case 'come due':
        return this.with(what.which, ['delayed', 'parked'], (job) => producers.comeDue(job, what.how))
      case 'wait too long':
        return this.with(what.which, ['waiting'], (job) => producers.waitTooLong(job), ({ spec }) => spec.waitTimeoutMs !== undefined)
      case 'delete a branch':
        return producers.deleteBranch(what.which)
      case 'prioritise':
        return this.with(what.which, ['waiting', 'delayed'], (job) => producers.prioritise(job, what))
      case 'drain':
        return producers.drain(queues[what.queue]!)
      case 'look':
        return consumers.look(members[what.member]!, what.idle ? 60_000 : 0, what.dies)
      case 'end':
        return this.with(what.which, ['taken'], (job) => consumers.end(job, what))
      case 'get on':
        return this.with(what.which, ['taken'], (job) => consumers.getOn(job, what.to))
      case 'put back':
        return this.with(what.which, ['taken'], (job) => consumers.putBack(job, what.says))
      case 'die':
        return this.with(what.which, ['taken'], (job) => consumers.lapse(job))
      case 'park':
        return this.with(what.which, ['taken'], (job) => consumers.park(job), ({ run, superseded }) => superseded === undefined && !run!.cancel && !run!.concludes)
      case 'reconcile':
        return consumers.reconcile(queues[what.queue]!)
      case 'pause':
        return operating.pause(queues[what.queue]!, what.on)
      case 'operate a provider':
        return operating.provider(what)
      case 'operate a tenant':
        return operating.tenant(what)
      case 'hold for a budget':
        return this.with(what.which, ['waiting'], (job) => operating.holdForBudget(job), ({ run }) => run?.end !== null)
      case 'a budget has more':
        return operating.budgetHasMore(tenants[what.which])
      case 'be away':
        return operating.beAway(what.member)
      case 'set the clock':
        return operating.setClock(what.hours)
    }
  }

  /** Ends all that is in hand, lets everything run, and sees that nothing is left. */
  async finish(): Promise<void> {
    const { world, consumers, producers, operating } = this
    const { model, client } = world
    await operating.budgetHasMore(undefined)
    for (const name of queues) await operating.pause(name, false)
    for (const say of ['resume', 'reset'] as const) {
      for (const which of limits.keys()) await operating.provider({ which, say, limit: 1 })
      for (const which of tenants.keys()) await operating.tenant({ which, say, weight: 1, cap: undefined })
    }
    for (const job of model.all) if (job.state === 'delayed' || job.state === 'parked') await producers.comeDue(job, 'by the clock')
    for (let idle = 0; idle < 3; ) {
      // What was chosen for one that has died since is left to it for a moment.
      await operating.pass(3_000)
      for (const name of queues) await consumers.reconcile(name)
      for (const member of members) await consumers.look(member, 0, false)
      const inHand = model.all.filter(({ state }) => state === 'taken')
      for (const job of inHand) await consumers.end(job, { how: 'succeeded', takes: false, dies: false })
      idle = inHand.length === 0 ? idle + 1 : 0
    }
    // Those that no live consumer may run wait for one that may; whoever stands behind them in the line of a key does not.
    const left = model.all.filter(({ state }) => state !== 'gone' && state !== 'ended')
    expect(left.filter((job) => model.homes(job).length > 0)).toEqual([])
    await this.judgeRuns()
    const ready = world.keys.ready()
    const [held, begun, uncapping, capped, used] = await Promise.all([client.hlen(`${ready}:held`), client.hlen(`${ready}:begun`), client.scard(`${ready}:uncapping`), client.keys(`${ready}:capped:*`), client.hlen(`${world.keys.ledger()}:lease`)])
    // The run of a job that was removed once it was parked is ended by whoever takes the one that came under its id.
    const open = left.filter(({ run, again }) => again && run?.end === null).length
    expect({ held, begun, uncapping, capped, used }).toEqual({ held: 0, begun: open, uncapping: 0, capped: [], used: 0 })
    for (const name of queues) {
      const listed = await world.listed(name)
      expect(listed.sort(), `what is listed of ${name}`).toEqual(left.filter(({ queue, state }) => queue === name && (state === 'waiting' || state === 'around')).map(({ id }) => id).sort())
      expect(Number((await client.hget(`${ready}:listed`, name)) ?? 0), `how much is listed of ${name}`).toBe(listed.length)
    }
    expect(await client.hgetall(`${ready}:keyed`)).toEqual({})
    expect([...(await client.keys(`${ready}:unpaid*`)), ...(await client.keys(`${ready}:paying*`))]).toEqual([])
    for (const key of Object.keys(keyLimits)) expect(await client.exists(`${ready}:key:${keyDigest(key)}:in`, `${ready}:key:${keyDigest(key)}:rests`)).toBe(0)
    for (const text of await client.hvals(`${ready}:tenant`)) expect(text.split(' ')[3]).toBe('0')
  }

  /** Each job that has ended says how, and its state in BullMQ is the same. */
  private async judgeRuns(): Promise<void> {
    for (const { id, queue, state, run } of this.world.model.all.filter((job) => job.state === 'ended')) {
      const { store, queue: bullmq } = this.world.side(queue)
      const [[standing], actual] = await Promise.all([store.standings([id]), bullmq.getJobState(id)])
      expect({ id, status: standing?.result?.status, actual }).toEqual({ id, status: run!.end, actual: run!.end === 'succeeded' ? 'completed' : 'failed' })
      expect(state).toBe('ended')
    }
  }

  private async with(which: number, states: readonly State[], work: (job: ModelJob) => Promise<void>, counts: (job: ModelJob) => boolean = () => true): Promise<void> {
    const list = states.flatMap((state) => this.world.model.all.filter((job) => job.state === state && counts(job)))
    const job = list[which % Math.max(1, list.length)]
    if (job !== undefined) await work(job)
  }
}
