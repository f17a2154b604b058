import type { Redis } from 'ioredis'
import { z } from 'zod'
import { daysAround, type Day } from '../job/days.js'
import { FenceLostError, InvalidInputError } from '../job/errors.js'
import type { AuditEntry } from './audit-log.js'
import { daysArgument } from './cost-days.js'
import type { Keys } from './keys.js'
import { runScript } from './scripts.js'

/** How many budgets may be set at run time. */
const mostBudgets = 10_000
/** How many parked jobs one look wakes. */
const wokenAtOnce = 64

const capSchema = z.object({ micros: z.number(), by: z.string(), atMs: z.number() })
const coverReply = z.union([
  z.tuple([z.literal('lost')]),
  z.tuple([z.enum(['granted', 'refused']), z.enum(['tenant', 'job', '']), z.number(), z.number(), z.union([z.number(), z.literal('')]), z.number(), z.string()]),
])
const setReply = z.union([z.tuple([z.enum(['full', 'ended'])]), z.tuple([z.enum(['changed', 'same']), z.string()])])

/** What is to be charged and reserved; amounts in micro-units. */
export interface CoverRequest {
  readonly fence: number
  /** Left out where the job names none. */
  readonly tenant: string | undefined
  /** The job's own budget, as it was enqueued; undefined for none. */
  readonly jobCap: number | undefined
  /** Attempts that have ended, by their number from 1, and what each cost. */
  readonly ended: Readonly<Record<string, number>>
  /** The attempt whose sandbox is to be made or goes on; null to reserve nothing. */
  readonly attempt: {
    readonly number: number
    /** What it has cost until now. */
    readonly cost: number
    /** What is to be reserved beyond that. */
    readonly wanted: number
    /** For how long that is believed without a renewal, in milliseconds. */
    readonly forMs: number
  } | null
  /** Where nothing is reserved: what is asked for, without reserving it, once all of that is charged; the answer says whether it would be granted. Left out for nothing. */
  readonly asked?: number | undefined
}

export interface Covered {
  readonly granted: boolean
  /** Whose budget has too little; null where it is granted. */
  readonly refusedBy: { readonly of: 'tenant' | 'job'; readonly spent: number; readonly reserved: number; readonly cap: number } | null
  /** When the tenant's day ends, in milliseconds since 1970 by Redis' clock. */
  readonly dayEndsAtMs: number
  /** Tells the budgets by which it was refused from later ones. */
  readonly stamp: string
}

/** A budget that was set at run time. */
export interface SetBudget {
  /** Null for a job's. `*`: of each tenant that has none of its own. */
  readonly tenant: string | null
  /** The job's id among all queues; null for a tenant's. */
  readonly runId: string | null
  readonly micros: number
  readonly by: string
  readonly atMs: number
}

/**
 * What is left of budgets, shared by all consumers of a deployment; the rules are in lua/costs.lua and lua/budget-cover.lua. Each call is one script,
 * so what is spent and reserved together is never over a budget but for what was not reserved for: a sandbox that nobody looked after, and one that took longer to
 * park than was reserved. Days are by Redis' clock.
 */
export class Budgets {
  #version = ''
  #announced = false
  #set = new Map<string, number>()

  /** @param configured a day's budgets by tenant, `*` for all that have none of their own; in micro-units. */
  constructor(
    private readonly redis: Redis,
    private readonly keys: Keys,
    private readonly options: { readonly timeZone: string; readonly currency: string; readonly now: () => number; readonly configured: ReadonlyMap<string, number> },
  ) {}

  get currency(): string {
    return this.options.currency
  }

  get timeZone(): string {
    return this.options.timeZone
  }

  /** Whether a job has a budget, as far as this process knows: what was set at run time it learns with the next `watch`. */
  appliesTo(jobId: string, spec: { readonly tenant?: string | undefined; readonly budget?: unknown }): boolean {
    if (spec.budget !== undefined) return true
    const { configured } = this.options
    if (configured.size === 0 && this.#set.size === 0) return false
    const tenant = spec.tenant ?? ''
    return configured.has(tenant) || configured.has('*') || this.#set.has(`t:${tenant}`) || this.#set.has('t:*') || this.#set.has(`j:${this.keys.runId(jobId)}`)
  }

  /** Learns of budgets that were set, says with the first call which are configured, and wakes some of the jobs that wait for those. @returns whether there are more to wake. */
  async watch(): Promise<boolean> {
    const [version, more] = z.tuple([z.string(), z.number()]).parse(await runScript(this.redis, 'budget-watch', [this.keys.costs()], [this.keys.costs(), wokenAtOnce, this.#announced ? '' : JSON.stringify(Object.fromEntries([...this.options.configured].toSorted()))]))
    this.#announced = true
    if (version !== this.#version) {
      this.#set = new Map((await setBudgets(this.redis, this.keys)).map((each) => [each.tenant === null ? `j:${each.runId ?? ''}` : `t:${each.tenant}`, each.micros]))
      this.#version = version
    }
    return more === 1
  }

  /**
   * Charges what sandboxes have cost and reserves what one will cost, in one step.
   * @throws FenceLostError when another consumer supervises the job now, or its run has ended.
   */
  async cover(jobId: string, { fence, tenant, jobCap, ended, attempt, asked }: CoverRequest): Promise<Covered> {
    const { configured, currency } = this.options
    const reply = coverReply.parse(
      await runScript(this.redis, 'budget-cover', [this.keys.run(jobId)], [
        this.keys.costs(),
        this.keys.runId(jobId),
        fence,
        this.days(),
        tenant ?? '',
        configured.get(tenant ?? '') ?? '',
        configured.get('*') ?? '',
        jobCap ?? '',
        currency,
        JSON.stringify(ended),
        ...(attempt === null ? ['', '', asked ?? '', ''] : [attempt.number, attempt.cost, attempt.wanted, Math.ceil(attempt.forMs)]),
      ]),
    )
    if (reply[0] === 'lost') throw new FenceLostError(jobId)
    const [what, of, spent, reserved, cap, dayEndsAtMs, stamp] = reply
    return { granted: what === 'granted', refusedBy: of === '' ? null : { of, spent, reserved, cap: Number(cap) }, dayEndsAtMs, stamp }
  }

  /**
   * A job waits in BullMQ's delayed set for a budget: it is woken when there may be enough.
   * @param needed of its tenant's budget, in micro-units; null where it waits for its own.
   * @returns false when there may be by now.
   */
  async park(jobId: string, tenant: string | undefined, stamp: string, needed: number | null = null): Promise<boolean> {
    return (await this.#park(jobId, tenant, stamp, needed)) === 1
  }

  /** It is to be taken again, whatever is left: somebody has asked to cancel it. */
  async wake(jobId: string): Promise<void> {
    // BullMQ multiplies a delayed job's time.
    await this.redis.zadd(this.keys.bullmq('delayed'), 'XX', this.options.now() * 0x1000, jobId)
  }

  /** It waits no more. */
  async unpark(jobId: string, tenant: string | undefined): Promise<void> {
    await this.#park(jobId, tenant, null)
  }

  async #park(jobId: string, tenant: string | undefined, stamp: string | null, needed: number | null = null): Promise<unknown> {
    const { costs } = { costs: this.keys.costs() }
    return await runScript(this.redis, 'budget-park', [costs], [costs, tenant ?? '', `${this.keys.queueName}:${jobId}`, stamp === null ? '' : 1, stamp ?? '', this.days(), needed ?? ''])
  }

  /** The days around now, as the scripts take them. */
  days(): string {
    const days: Day[] = daysAround(this.options.now(), this.options.timeZone)
    return JSON.stringify(daysArgument(days))
  }
}

/** The budgets that were set at run time. */
export async function setBudgets(redis: Redis, keys: Keys): Promise<SetBudget[]> {
  const found = await redis.hgetall(`${keys.costs()}:caps`)
  return Object.entries(found).flatMap(([field, json]) => {
    if (field === 'version') return []
    const name = field.slice(2)
    return [{ tenant: field.startsWith('t:') ? name : null, runId: field.startsWith('j:') ? name : null, ...capSchema.parse(JSON.parse(json)) }]
  })
}

/**
 * Sets a budget for all consumers, or takes it back to what is configured; jobs that wait for it are woken.
 * @param micros null to take it back. @param by who says so. @param audit is noted with it, when it changes something.
 * @returns what was set before; null for nothing.
 * @throws InvalidInputError when there are too many, or the job has ended.
 */
export async function setBudget(redis: Redis, keys: Keys, of: { readonly tenant: string } | { readonly jobId: string }, micros: number | null, by: string, audit: AuditEntry): Promise<{ changed: boolean; before: number | null }> {
  const field = 'tenant' in of ? `t:${of.tenant}` : `j:${keys.runId(of.jobId)}`
  const member = 'tenant' in of ? '' : `${keys.queueName}:${of.jobId}`
  const reply = setReply.parse(await runScript(redis, 'budget-set', [keys.costs(), keys.costs(), keys.costs(), keys.audit(), ...('tenant' in of ? [] : [keys.run(of.jobId), keys.job(of.jobId)])], [keys.costs(), field, micros ?? '', by, mostBudgets, member, JSON.stringify(audit)]))
  if (reply[0] === 'full') throw new InvalidInputError(`budgets: ${mostBudgets} are set already; remove some, or configure them in costs.budgets`)
  if (reply[0] === 'ended') throw new InvalidInputError(`budget: job ${'jobId' in of ? of.jobId : ''} has ended; there is nothing more to spend`)
  return { changed: reply[0] === 'changed', before: reply[1] === '' ? null : Number(reply[1]) }
}
