import { expect } from 'vitest'
import { Operators, setBudget } from '../../../src/store/index.js'
import { passLedgerTime } from '../fixture.js'
import type { Do } from './commands.js'
import { limits, members, tenants, viewOf } from './deployment.js'
import type { ModelJob } from './model.js'
import type { World } from './world.js'

const saying = { by: 'anna', audit: { by: 'operator', name: 'anna', action: 'test', targets: ['x'], count: 1, status: 200 } }

/** What operators, budgets and clocks do. */
export class Operating {
  private readonly operators: Operators

  constructor(private readonly world: World) {
    this.operators = new Operators(world.client, world.keys)
  }

  async provider({ which, say, limit }: Omit<Do<'operate a provider'>, 'do'>): Promise<void> {
    const { provider } = limits[which]!
    const { drained, limits: set } = this.world.model.said
    const answer = await this.world.observe(async () => {
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

  async tenant({ which, say, weight, cap }: Omit<Do<'operate a tenant'>, 'do'>): Promise<void> {
    const tenant = tenants[which]!
    const { said } = this.world.model
    const share = say === 'share' ? { weight, cap } : null
    const answer = await this.world.observe(async () => (say === 'pause' || say === 'resume' ? await this.operators.pauseTenant(tenant, say === 'pause', saying, true) : await this.operators.shareTenant(tenant, share, saying, true)))
    expect(answer).toMatchObject({ outcome: expect.stringMatching(/^(changed|same)$/) as unknown })
    if (say === 'pause') said.pausedTenants.add(tenant)
    else if (say === 'resume') said.pausedTenants.delete(tenant)
    else if (share === null) said.shares.delete(tenant)
    else said.shares.set(tenant, share)
  }

  async pause(name: string, on: boolean): Promise<void> {
    const { queue } = this.world.side(name)
    await (on ? queue.pause() : queue.resume())
    if (on) this.world.model.paused.add(name)
    else this.world.model.paused.delete(name)
  }

  /** Of the jobs that stand with this one, in every view of its queue. */
  async holdForBudget(job: ModelJob): Promise<void> {
    const { model, client, keys } = this.world
    const version = (await client.hget(`${keys.costs()}:caps`, 'version')) ?? '0'
    // What is to be put back with the next look is not held again before that.
    if ((await client.zcount(`${keys.ready()}:paying:version`, '-inf', `(${(await client.get(`${keys.ready()}:paying:all`)) ?? '0'}`)) > 0) return
    const days = JSON.stringify([[0, 'today'], [4_000_000_000_000, 'later']])
    for (const view of new Set(members.filter(({ queue }) => queue === job.queue).map(viewOf))) {
      // What stands in the line of a key is not held.
      if (!(await this.world.side(job.queue).ready.hold(job.spec, view, { why: `${job.tenant} has too little`, untilMs: 4_000_000_000_000, stamp: `${version}/today/0`, days }))) return
    }
    model.unpaid.set(model.standsWith(job), { tenant: job.tenant, epoch: await this.world.epochOf(job.queue), queue: job.queue })
  }

  /** A change of everybody's budget looks at everybody; of a tenant's, and what comes free, at that one. */
  async budgetHasMore(tenant: string | undefined): Promise<void> {
    const { model, client, keys } = this.world
    await setBudget(client, keys, { tenant: tenant ?? '*' }, this.world.number(), 'anna', saying.audit)
    const everybody = tenant === undefined || tenant === '*'
    for (const [held, { tenant: whose }] of model.unpaid) if (everybody || whose === tenant) model.unpaid.delete(held)
  }

  /** As if none of a consumer's view had looked for long: whoever of its queue looks next drops what is known of it, and it begins anew when one of them does. */
  async beAway(which: number): Promise<void> {
    const { queue } = members[which]!
    await this.world.client.zadd(`${this.world.keys.ready()}:q:${queue}:${await this.world.epochOf(queue)}:views`, 'XX', 1, viewOf(members[which]!))
  }

  async pass(ms: number): Promise<void> {
    await passLedgerTime(this.world.client, this.world.keys, ms)
  }

  /** As if Redis' clock had shown another time before: what passes between two looks is all that the index sees of it. */
  async setClock(hours: number): Promise<void> {
    const clock = `${this.world.keys.ledger()}:clock`
    const [before, steady] = ((await this.world.client.get(clock)) ?? '0 0').split(' ').map(Number)
    if (before !== 0) await this.world.client.set(clock, `${before! - hours * 3_600_000} ${steady}`)
  }
}
