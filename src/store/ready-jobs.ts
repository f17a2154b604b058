import type { Redis } from 'ioredis'
import { z } from 'zod'
import { constraintsOf } from '../job/constraints.js'
import { FenceLostError } from '../job/errors.js'
import type { JobSpec } from '../job/spec.js'
import type { Keys } from './keys.js'
import { inboxTtlMs } from './inbox.js'
import { runLedgerScript } from './ledger-call.js'
import { limitsJson, parseLoads, type ProviderLimit, type ProviderLoad } from './provider-load.js'
import { queueScript } from './scripts.js'

/** What the index needs to know of a job. */
export interface ReadyJob {
  readonly jobId: string
  readonly spec: Pick<JobSpec, 'providers' | 'network' | 'resources' | 'image' | 'secrets' | 'steps' | 'tenant' | 'priority' | 'waitTimeoutMs'>
}

/** What a consumer that looks for jobs has. */
export interface Means {
  readonly profileId: string
  /** The providers and secrets that it can use now. */
  readonly providers: readonly string[]
  readonly secrets: readonly string[]
  /** Whether it knows of tenants' shares: then nothing is given to it from a Redis that has lost them. */
  readonly shares: boolean
}

/**
 * Why a job is given to a consumer:
 * - `able`: it has what the job needs, as far as the index knows
 * - `stranded`: no live consumer has, for longer than the grace (or it is to be cancelled): it may go on elsewhere
 * - `nobody`: and none can run it elsewhere either: it is to be ended
 * - `overdue`: it has waited for its first sandbox for as long as it may: it is to be ended
 */
export type Stand = { readonly kind: 'able' | 'stranded' } | { readonly kind: 'nobody' | 'overdue'; readonly reasons: readonly string[] }

export interface DispatchRequest {
  readonly holder: string
  /** Chosen by the caller, unique. */
  readonly leaseId: string
  readonly limits: readonly ProviderLimit[]
  /**
   * For each constraints id: the providers that can run such a job, the best first; none when it is not for this consumer now; null when
   * no live consumer ever can, as far as the caller was told (`refuse`).
   */
  readonly orders: ReadonlyMap<string, readonly string[] | null>
  readonly means: Means
  /** How long no live consumer may be able to run a job before it is given up, in milliseconds. */
  readonly graceMs: number
  /** For how long this consumer counts as idle when there is nothing (more) to take, in milliseconds; 0 to not count. Whoever counts longest is woken first. */
  readonly idleMs: number
}

export interface Dispatched {
  /** `take`: BullMQ's `getNextJob` gives a job whose place is settled, or which needs none yet. */
  readonly what: 'take' | 'nothing'
  /** The job that was chosen in this call; null when others wait to be taken. */
  readonly jobId: string | null
  /** The one of those that is for this consumer: it was in somebody's hands before. */
  readonly waited: string | null
  /** Of the one or the other. */
  readonly stand: Stand
  /** Where that job has its place; null when it needs none. */
  readonly provider: string | null
  /** There is nothing more to take, and the caller counts as idle if it asked to. */
  readonly idle: boolean
  readonly loads: readonly ProviderLoad[]
  /** In how many milliseconds there may be room without a place given back; null when only that helps. */
  readonly opensInMs: number | null
  /** Constraints of waiting jobs that `orders` says nothing of, as JSON by their ids. */
  readonly unknown: ReadonlyMap<string, string>
  /** How many different constraints the waiting jobs have. */
  readonly constraints: number
  /** How many jobs are waiting in BullMQ but are not listed here. */
  readonly unlisted: number
  /** Redis has lost the tenants' shares: announce them again. */
  readonly sharesLost: boolean
}

const dispatchReply = z.tuple([z.enum(['take', 'nothing']), z.string(), z.string(), z.string(), z.union([z.number(), z.literal('')]), z.array(z.string()), z.number(), z.number(), z.number(), z.number(), z.string(), z.enum(['', 'stranded', 'nobody', 'overdue']), z.string(), z.number()])
const reasonsSchema = z.array(z.string())

const tenantSchema = z.object({ held: z.number() })
const refusalsSchema = z.object({ by: z.record(z.string(), z.object({ why: z.string() })), since: z.number().optional() })
const shareSchema = z.object({ cap: z.number().optional() })

/**
 * A queue's waiting jobs, by tenant and by what they ask of a provider, so that a job and a place for it are chosen together
 * in one step; BullMQ's own order knows of neither. The rules are in lua/ready.lua and lua/ready-dispatch.lua.
 *
 *   enqueued ──add──► listed ──dispatch──► taken (a place is the job's own) ──close──► out of hand
 *                        ▲                   │ ▲
 *                        │          put back │ │ front, and taken by another consumer
 *                        └── found missing ──┴─┘
 *
 * Truth is BullMQ's: what it does not hold any more is dropped when it comes up, what it holds and is missing here is added.
 */
export class ReadyJobs {
  readonly #redis: Redis
  readonly #keys: Keys

  constructor(redis: Redis, keys: Keys) {
    this.#redis = redis
    this.#keys = keys
  }

  /** Lists jobs that BullMQ holds as waiting; others, and listed ones, are left out. Returns how many were added. */
  async add(jobs: readonly ReadyJob[]): Promise<number> {
    if (jobs.length === 0) return 0
    return z.number().parse(await this.#run('ready-add', addArguments(jobs), [this.#keys.bullmq('prioritized')]))
  }

  /** As `add`, as part of a pipeline of a connection that `createRedis` made. */
  queueAdd(pipeline: object, jobs: readonly ReadyJob[]): void {
    const keys = [this.#keys.ledger(), this.#keys.ready(), this.#keys.idle(), this.#keys.bullmq('prioritized')]
    queueScript(pipeline, 'ready-add', keys, [this.#keys.inbox(''), inboxTtlMs, ...addArguments(jobs)])
  }

  /** Chooses the next job, takes a place for it and puts it where `getNextJob` finds it: one round trip. */
  async dispatch(request: DispatchRequest): Promise<Dispatched> {
    const orders = Object.fromEntries([...request.orders].map(([id, order]) => [id, order ?? false]))
    const [what, jobId, provider, loads, opensInMs, unknown, listed, waiting, constraints, idle, waited, stand, why, sharesLost] = dispatchReply.parse(
      await this.#run(
        'ready-dispatch',
        [request.holder, request.leaseId, limitsJson(request.limits), JSON.stringify(orders), request.idleMs, JSON.stringify(meansOf(request.means)), request.graceMs],
        (['prioritized', 'wait', 'active', 'meta'] as const).map((part) => this.#keys.bullmq(part)),
      ),
    )
    const pairs = new Map<string, string>()
    for (let index = 0; index < unknown.length; index += 2) pairs.set(unknown[index] ?? '', unknown[index + 1] ?? '')
    return {
      what,
      jobId: jobId === '' ? null : jobId,
      provider: provider === '' ? null : provider,
      waited: waited === '' ? null : waited,
      stand: stand === 'nobody' || stand === 'overdue' ? { kind: stand, reasons: distinct(why) } : { kind: stand === '' ? 'able' : stand },
      idle: idle === 1,
      loads: parseLoads(loads),
      opensInMs: opensInMs === '' ? null : opensInMs,
      unknown: pairs,
      constraints,
      unlisted: Math.max(0, waiting - listed),
      sharesLost: sharesLost === 1,
    }
  }

  /** Whether a job is listed as waiting; the provider at which it holds a place, or null; and whether it was acquired before. */
  async standing(jobId: string): Promise<{ listed: boolean; provider: string | null; begun: boolean }> {
    const [listed, provider, begun] = z.tuple([z.number(), z.string(), z.number()]).parse(await this.#run('ready-standing', [jobId], [this.#keys.run(jobId)]))
    return { listed: listed === 1, provider: provider === '' ? null : provider, begun: begun === 1 }
  }

  /** Puts a job that was given back to BullMQ before all others, and wakes an idle consumer. */
  async front(jobId: string): Promise<void> {
    await this.#run('ready-front', [jobId], [this.#keys.bullmq('prioritized'), this.#keys.bullmq('wait')])
  }

  /**
   * A job is out of the consumers' hands: frees its place, settles its tenant's account and unlists it. Repeating does nothing.
   * @param fence closes only while this fence is the job's; left out for jobs that have ended.
   * @throws FenceLostError when it is not.
   */
  async close(jobId: string, fence?: number): Promise<void> {
    const answer = await this.#run('ready-close', [jobId, fence ?? ''], fence === undefined ? [] : [this.#keys.run(jobId)])
    if (answer === 'lost') throw new FenceLostError(jobId)
  }

  /** Jobs that BullMQ holds as waiting but that are not listed, of `count` from the `from`th on; and whether each holds a place. */
  async missing(from: number, count: number): Promise<{ jobId: string; placed: boolean }[]> {
    const answer = z.array(z.union([z.string(), z.number()])).parse(await this.#run('ready-missing', [from, count], [this.#keys.bullmq('prioritized')]))
    return answer.flatMap((jobId, index) => (index % 2 === 0 ? [{ jobId: String(jobId), placed: answer[index + 1] === 1 }] : []))
  }

  /** How many jobs of a tenant are in consumers' hands, and how many may be; null for no cap. */
  async tenant(name: string): Promise<{ running: number; cap: number | null }> {
    const ready = this.#keys.ready()
    const [tenant, own, others] = await Promise.all([
      this.#redis.hget(`${ready}:tenant`, name),
      this.#redis.hget(`${ready}:shares`, name),
      this.#redis.hget(`${ready}:shares`, '*'),
    ])
    const share = own ?? others
    return {
      running: tenant === null ? 0 : tenantSchema.parse(JSON.parse(tenant)).held,
      cap: share === null ? null : (shareSchema.parse(JSON.parse(share)).cap ?? null),
    }
  }

  /**
   * Consumers of a profile can't run these: jobs in hand by their ids, waiting ones by the ids of their constraints.
   * @param refused.forMs for how long that is believed; until the job or its constraints are gone when left out.
   * @returns those that no live consumer may run, for longer than the grace, each with the reasons of all.
   */
  async refuse(profileId: string, of: 'job' | 'constraints', refused: readonly { id: string; why: string; forMs?: number | undefined }[], graceMs: number): Promise<Map<string, readonly string[]>> {
    if (refused.length === 0) return new Map()
    const answer = reasonsSchema.parse(await this.#run('ready-refuse', [profileId, graceMs, of, ...refused.flatMap(({ id, why, forMs }) => [id, why, forMs ?? ''])]))
    return new Map(answer.flatMap((id, index) => (index % 2 === 0 ? [[id, distinct(answer[index + 1] ?? '[]')] as const] : [])))
  }

  /** What is refused of a job or of its constraints, for people: each reason once; and since when nobody may run it, in milliseconds since 1970. */
  async refusals(id: string): Promise<{ reasons: readonly string[]; sinceMs: number | null } | null> {
    const text = await this.#redis.hget(`${this.#keys.ready()}:unfit`, id)
    if (text === null) return null
    const { by, since } = refusalsSchema.parse(JSON.parse(text))
    return { reasons: [...new Set(Object.values(by).map(({ why }) => why))], sinceMs: since ?? null }
  }

  async #run(name: Parameters<typeof runLedgerScript>[2], args: readonly (string | number)[], moreKeys: readonly string[] = []): Promise<unknown> {
    return await runLedgerScript(this.#redis, this.#keys, name, args, moreKeys)
  }
}

function meansOf({ profileId, providers, secrets, shares }: Means): Record<string, unknown> {
  return { profile: profileId, providers, secrets, shares }
}

/** Reasons as the scripts give them; those that several profiles share are told once. */
function distinct(json: string): string[] {
  return [...new Set(reasonsSchema.parse(JSON.parse(json)))]
}

function addArguments(jobs: readonly ReadyJob[]): (string | number)[] {
  const kinds = new Map<string, { number: number; json: string }>()
  const listed = jobs.map(({ jobId, spec }) => {
    const { id, constraints } = constraintsOf(spec)
    const kind = kinds.get(id) ?? { number: kinds.size + 1, json: JSON.stringify(constraints) }
    kinds.set(id, kind)
    return [jobId, kind.number, spec.tenant ?? '', spec.priority, spec.waitTimeoutMs ?? '']
  })
  return [kinds.size, ...[...kinds].flatMap(([id, { json }]) => [id, json]), ...listed.flat()]
}
