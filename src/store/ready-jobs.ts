import type { Redis } from 'ioredis'
import { z } from 'zod'
import { constraintsOf } from '../job/constraints.js'
import { FenceLostError } from '../job/errors.js'
import type { JobSpec } from '../job/spec.js'
import type { Keys } from './keys.js'
import { inboxTtlMs } from './inbox.js'
import { keyDigest, keyStanding, type KeyStanding } from './concurrency-keys.js'
import { runLedgerScript } from './ledger-call.js'
import { type OperatorWord, Operators } from './operators.js'
import { keptEndedJobs } from './queued-job.js'
import { limitsJson, parseLoads, type ProviderLimit, type ProviderLoad } from './provider-load.js'
import { queueScript, runScript } from './scripts.js'

/** What the index needs to know of a job. */
export interface ReadyJob {
  readonly jobId: string
  readonly spec: Pick<JobSpec, 'providers' | 'network' | 'resources' | 'image' | 'secrets' | 'injects' | 'steps' | 'push' | 'timeoutMs' | 'tenant' | 'priority' | 'waitTimeoutMs' | 'concurrency'>
  /** It has a run already: what it needs of a budget its record says, and so it is always given. */
  readonly begun?: boolean | undefined
}

/** What a consumer that looks for jobs has. */
export interface Means {
  readonly profileId: string
  /** Of what its answers to `unknown` depend on: the profile, and what is around it. Other answers have another one. */
  readonly viewId: string
  /** The providers and secrets that it can use now. */
  readonly providers: readonly string[]
  readonly secrets: readonly string[]
  /** Whether it knows of tenants' shares: then nothing is given to it from a Redis that has lost them. */
  readonly shares: boolean
}

/** Constraints that a profile has to say something of. */
export interface UnknownConstraints {
  readonly id: string
  /** When they were entered: given back with what is said of them. */
  readonly number: number
  readonly json: string
}

/** What a profile says of constraints. */
export interface KnownConstraints {
  readonly id: string
  readonly number: number
  /** The providers that can run such jobs, in groups, the best first; or why none can. */
  readonly can: readonly (readonly string[])[] | string
}

/**
 * How one of a group's providers is chosen: where most places are free; where the latest creates were quickest; as given; or as given by a
 * function, whose order may be another one the next time.
 */
export type ChoiceInGroup = 'most-free' | 'fastest' | 'given' | 'own'

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
  /** What was unknown in the last answer, or is to be said anew. */
  readonly known: readonly KnownConstraints[]
  readonly choice: ChoiceInGroup
  readonly means: Means
  /** How long no live consumer may be able to run a job before it is given up, in milliseconds. */
  readonly graceMs: number
  /** For how long this consumer counts as idle when there is nothing (more) to take, in milliseconds; 0 to not count. Whoever counts longest is woken first. */
  readonly idleMs: number
  /** For how many more jobs the caller has room: while it is idle it is given as many without a look, and with the last it is not idle. Default 1, whatever it has. */
  readonly room?: number | undefined
}

export interface Dispatched {
  /** `take`: BullMQ's `getNextJob` gives a job whose place is settled, or which needs none yet. `again`: there may be more than this call could look at. */
  readonly what: 'take' | 'nothing' | 'again'
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
  /** What the providers hold, where constraints are asked about or the choice is one's own; else none. */
  readonly loads: readonly ProviderLoad[]
  /** In how many milliseconds there may be room, or a job, without anything given back; null when only that helps. */
  readonly opensInMs: number | null
  /** Constraints of waiting jobs of which this profile has said nothing: their jobs are not given to it before. */
  readonly unknown: readonly UnknownConstraints[]
  /** Jobs that BullMQ holds and that are not listed: they came around the index. */
  readonly unlisted: readonly string[]
  /** Redis has lost the tenants' shares: announce them again. */
  readonly sharesLost: boolean
  /** As many jobs are active as the queue may have at once: there may be one when one has ended. */
  readonly atConcurrency: boolean
}

const dispatchReply = z.tuple([
  z.enum(['take', 'nothing', 'again']),
  z.string(),
  z.string(),
  z.string(),
  z.union([z.number(), z.literal('')]),
  z.array(z.string()),
  z.number(),
  z.string(),
  z.enum(['', 'stranded', 'nobody', 'overdue']),
  z.string(),
  z.number(),
  z.array(z.string()),
  z.number(),
])
const reconcileReply = z.tuple([z.number(), z.array(z.union([z.string(), z.number()])), z.array(z.string()), z.number(), z.number(), z.number(), z.array(z.string())])
const standingEnds = z.enum(['cancelled', 'other', 'superseded'])
/** What is to be ended where it stands: a run that was cancelled; one of a job that was removed, under whose id another was added; a job that waits and was superseded. */
export type StandingEnd = z.output<typeof standingEnds>
const reasonsSchema = z.array(z.string())

const refusalsSchema = z.object({ by: z.record(z.string(), z.object({ why: z.string(), untilMs: z.number().optional() })), since: z.number().optional() })
const shareSchema = z.object({ cap: z.number().optional() })

/** How many jobs one script lists, so that none takes long. One with a key of concurrency takes as much as several others. */
const jobsPerScript = 20
const othersPerKeyed = 4
/** How many jobs in hand one script accounts for. */
const heldPerScript = 50

/**
 * A queue's part of the index of its deployment's waiting jobs, by tenant and by what they ask of a provider, so that a job and a place for
 * it are chosen together in one step; BullMQ's own order knows of neither. The rules are in lua/ready.lua, accounts.lua, views.lua, ready-choose.lua and ready-dispatch.lua.
 *
 *   enqueued ──add──► listed ──dispatch──► taken (a place is the job's own) ──close──► out of hand
 *                        ▲                   │ ▲
 *                        │          put back │ │ front, and taken by another consumer
 *                        └── found missing ──┴─┘
 *
 * Truth is BullMQ's: what it does not hold any more is dropped when it comes up, what it holds and is missing here is found by `reconcile`,
 * or by the look itself where it stands in BullMQ's wait list or was delayed.
 */
export class ReadyJobs {
  readonly #redis: Redis
  readonly #keys: Keys

  constructor(redis: Redis, keys: Keys) {
    this.#redis = redis
    this.#keys = keys
  }

  /**
   * Lists jobs that BullMQ holds as waiting; others, and listed ones, are left out.
   * @param options.strays also those in BullMQ's wait list, where priority 0 lands and whatever is moved without one.
   * @param options.wake how many idle consumers to tell. Default 0.
   * @returns how many were added; which jobs their keys of concurrency have superseded: these are taken to be ended, unless the caller is faster; and which of these, that had
   * ended before, stay so, since others have their keys.
   */
  async add(jobs: readonly ReadyJob[], options: { readonly strays?: boolean | undefined; readonly wake?: number | undefined } = {}): Promise<{ added: number; superseded: SupersededJob[]; stay: Omit<SupersededJob, 'queue'>[] }> {
    let added = 0
    const superseded: SupersededJob[] = []
    const stay: Omit<SupersededJob, 'queue'>[] = []
    for (const args of addArguments(jobs, options.strays ?? false, options.wake ?? 0)) {
      const answer = parseAdded(await this.#run('ready-add', args))
      added += answer.added
      superseded.push(...answer.superseded)
      stay.push(...answer.stay)
    }
    return { added, superseded, stay }
  }

  /** As `add`, as part of a pipeline of a connection that `createRedis` made, and an idle consumer is told for each job; its answers are for `parseAdded`. */
  queueAdd(pipeline: object, jobs: readonly ReadyJob[]): void {
    const keys = [this.#keys.ledger(), this.#keys.ready(), this.#keys.idle()]
    for (const args of addArguments(jobs, false, jobs.length)) queueScript(pipeline, 'ready-add', keys, [this.#keys.inbox(''), inboxTtlMs, ...args])
  }

  /**
   * Whether a job that was taken holds its key of concurrency. `superseded`: it is to end as cancelled; `full`: others hold it, and the job is to be put
   * back and listed again.
   */
  async enter(jobId: string, { key, limit }: { readonly key: string; readonly limit: number }): Promise<{ kind: 'held' | 'full' } | { kind: 'superseded'; why: string }> {
    const [kind, why] = z.tuple([z.enum(['held', 'full', 'superseded']), z.string()]).parse(await this.#run('ready-enter', [jobId, keyDigest(key), limit]))
    return kind === 'superseded' ? { kind, why } : { kind }
  }

  /** Why a job was superseded that has not ended yet; null when it was not. */
  async supersededBy(jobId: string): Promise<string | null> {
    const standing = await this.#redis.hget(`${this.#keys.ready()}:keyed`, `${this.#keys.queueName}:${jobId}`)
    return standing?.startsWith('!') === true ? standing.slice(1) : null
  }

  /** A job that holds a key of concurrency or waits for it, where one more, with this limit, would be too many; null where it would not. */
  async keyTakenBy({ key, limit }: Pick<NonNullable<JobSpec['concurrency']>, 'key' | 'limit'>): Promise<string | null> {
    const jobId = z.string().parse(await this.#run('key-taken', [keyDigest(key), limit]))
    return jobId === '' ? null : jobId
  }

  /** Who holds a key of concurrency, and whether a job is parked for it. */
  async keyStanding(jobId: string, concurrency: Pick<NonNullable<JobSpec['concurrency']>, 'key' | 'limit'>): Promise<KeyStanding & { readonly parked: boolean }> {
    return keyStanding(this.#redis, this.#keys, jobId, concurrency)
  }

  /** Chooses the next job, takes a place for it and puts it where `getNextJob` finds it: one round trip. */
  async dispatch(request: DispatchRequest): Promise<Dispatched> {
    const { profileId, viewId, providers, secrets, shares } = request.means
    const [what, jobId, provider, loads, opensInMs, unknown, idle, waited, stand, why, sharesLost, unlisted, atConcurrency] = dispatchReply.parse(
      await this.#run('ready-dispatch', [
        request.holder,
        request.leaseId,
        limitsJson(request.limits),
        JSON.stringify(request.known.map(({ id, number, can }) => [id, number, can])),
        request.idleMs,
        JSON.stringify({ profile: profileId, view: viewId, providers, secrets, shares, policy: request.choice }),
        request.graceMs,
        request.room ?? '',
      ]),
    )
    return {
      what,
      jobId: jobId === '' ? null : jobId,
      provider: provider === '' ? null : provider,
      waited: waited === '' ? null : waited,
      stand: stand === 'nobody' || stand === 'overdue' ? { kind: stand, reasons: distinct(why) } : { kind: stand === '' ? 'able' : stand },
      idle: idle === 1,
      loads: parseLoads(loads),
      opensInMs: opensInMs === '' ? null : opensInMs,
      unknown: unknown.flatMap((id, index) => (index % 3 === 0 ? [{ id, number: Number(unknown[index + 1]), json: unknown[index + 2] ?? '' }] : [])),
      unlisted,
      sharesLost: sharesLost === 1,
      atConcurrency: atConcurrency === 1,
    }
  }

  /**
   * Jobs like this one wait in the index, where consumers of a view would have them run, until their tenant's budget may have more: `budgets` says by which it has too little.
   * @param budgets.untilMs when the tenant's day ends, in milliseconds since 1970. @param budgets.days as the budgets' scripts take them.
   * @returns false when the budgets are others by now, or no such job waits.
   */
  async hold(spec: ReadyJob['spec'], viewId: string, budgets: { readonly why: string; readonly untilMs: number; readonly stamp: string; readonly days: string }): Promise<boolean> {
    const { why, untilMs, stamp, days } = budgets
    return (await this.#run('ready-hold', [this.#keys.costs(), spec.tenant ?? '', constraintsOf(spec).id, viewId, why, untilMs, stamp, days])) === 1
  }

  /** Why jobs with these constraints wait in the index for a tenant's budget, for people; null for each that does not. */
  async unpaid(waiting: readonly { readonly tenant: string | undefined; readonly constraints: string }[]): Promise<(string | null)[]> {
    if (waiting.length === 0) return []
    const { queueName } = this.#keys
    const epoch = (await this.#redis.hget(`${this.#keys.ready()}:epoch`, queueName)) ?? '1'
    return await this.#redis.hmget(`${this.#keys.ready()}:unpaid`, ...waiting.map(({ tenant, constraints }) => `${queueName}:${epoch}:${constraints}:${tenant ?? ''}`))
  }

  /**
   * Whether a job that the caller has taken is listed as waiting; the provider at which it holds a place, or null; whether it was acquired before; and whether it was
   * in consumers' hands. One that has begun or has a place is, from then on.
   * @param stalls how often BullMQ had found it stalled when it was taken.
   */
  async standing(jobId: string, stalls: number, spec: { readonly tenant?: string | undefined; readonly secrets?: readonly string[] | undefined } = {}): Promise<{ listed: boolean; provider: string | null; begun: boolean; inHand: boolean }> {
    const { tenant = '', secrets = [] } = spec
    const [listed, provider, begun, held] = z.tuple([z.number(), z.string(), z.number(), z.number()]).parse(await this.#run('ready-standing', [jobId, stalls, tenant, JSON.stringify(secrets)], [this.#keys.run(jobId)]))
    return { listed: listed === 1, provider: provider === '' ? null : provider, begun: begun === 1, inHand: held === 1 }
  }

  /**
   * A job whose run has ended while it waits, and that BullMQ still holds as waiting, is to be run again where it stands.
   * @returns whether it is, and is to be listed anew; false when it does not wait, its run has not ended, or somebody else was first.
   */
  async again(jobId: string): Promise<boolean> {
    return (await this.#run('ready-again', [jobId], [this.#keys.run(jobId)])) === 1
  }

  /**
   * Puts a job that was given back to BullMQ before all others, and wakes an idle consumer.
   * @param options.asItIs for a job that can't be listed: it is taken without a place, and says why.
   */
  async front(jobId: string, options: { readonly asItIs?: boolean | undefined } = {}): Promise<void> {
    await this.#run('ready-front', [jobId, options.asItIs === true ? 1 : 0])
  }

  /**
   * A job was asked to end as cancelled: where its run has begun, and waits in nobody's hands, it is taken next, and an idle consumer is woken.
   * @returns whether that is so.
   */
  async endNext(jobId: string): Promise<boolean> {
    return (await this.#run('ready-cancelled', [jobId])) === 1
  }

  /**
   * A job is out of the consumers' hands: frees its place, settles its tenant's account and unlists it. Repeating does nothing.
   * @param fence closes only while this fence is the job's; left out for jobs that have ended.
   * @param options.goesOn it waits to be gone on with: should it be removed from the queue meanwhile, its run is ended.
   * @param options.ended whoever has it finds its run ended: nothing that was said of it while it waited is of the next one.
   * @throws FenceLostError when it is not.
   */
  async close(jobId: string, fence?: number, options: { readonly goesOn?: boolean; readonly ended?: boolean } = {}): Promise<void> {
    const answer = await this.#run('ready-close', [jobId, fence ?? '', options.goesOn === true ? 1 : '', options.ended === true ? 1 : ''], fence === undefined ? [] : [this.#keys.run(jobId)])
    if (answer === 'lost') throw new FenceLostError(jobId)
  }

  /**
   * Has BullMQ keep a job that has ended while it waited among its failed ones, where it is listed and can be run again, and closes it.
   * @param why it ended.
   * @returns 'locked' where a consumer is taking it, which tells BullMQ of its end; 'again' where it is to be run again already; 'other' where it is only to be removed.
   */
  async keepEnded(jobId: string, why: string): Promise<'kept' | 'locked' | 'again' | 'other'> {
    return z.enum(['kept', 'locked', 'again', 'other']).parse(await this.#run('ready-keep', [jobId, why, keptEndedJobs], [this.#keys.run(jobId)]))
  }

  /** Charges tenants for the time of jobs in hand until now, so that long ones count while they run. */
  async accrue(jobIds: readonly string[]): Promise<void> {
    for (let start = 0; start < jobIds.length; start += heldPerScript) await this.#run('ready-accrue', jobIds.slice(start, start + heldPerScript))
  }

  /**
   * Holds a bounded part of the index against BullMQ; the next call goes on from there. One of a queue's consumers does so at a time.
   * @param ttlMs for how long it stays this one's business.
   * @returns whether there is more to look at now; jobs that BullMQ holds but that are not listed, and whether each holds a place or is in hand yet; and jobs that are
   * in consumers' hands, or were, and that BullMQ does not hold any more; for how many milliseconds it is another consumer's business, 0 for this one's; and whether there is something to `tidy`; and what is to
   * be ended where it stands, in nobody's hands.
   */
  async reconcile(holder: string, ttlMs: number): Promise<{ more: boolean; missing: { jobId: string; placed: boolean }[]; gone: string[]; othersForMs: number; pauseOver: boolean; untidy: boolean; ends: { jobId: string; how: StandingEnd }[] }> {
    const [more, missing, gone, othersForMs, pauseOver, untidy, ends] = reconcileReply.parse(await this.#run('ready-reconcile', [holder, ttlMs]))
    return { more: more === 1, missing: missing.flatMap((jobId, index) => (index % 2 === 0 ? [{ jobId: String(jobId), placed: missing[index + 1] === 1 }] : [])), gone, othersForMs, pauseOver: pauseOver === 1, untidy: untidy === 1, ends: ends.flatMap((jobId, index) => (index % 2 === 0 ? [{ jobId, how: standingEnds.parse(ends[index + 1]) }] : [])) }
  }

  /** Takes a bounded part apart of what is left of drained queues and of consumers that are gone. Returns whether there is more. */
  async tidy(): Promise<boolean> {
    return (await this.#run('ready-tidy', [])) === 1
  }

  /** Gives up the turn to `reconcile`, if it is still this holder's, and says so to the others (`Signals.onTurnFree`). Returns whether it was. */
  async yieldTurn(holder: string): Promise<boolean> {
    const sweep = `${this.#keys.ready()}:q:${this.#keys.queueName}:sweep`
    return (await runScript(this.#redis, 'sweep-yield', [sweep], [holder, this.#keys.turnChannel(), this.#keys.queueName])) === 1
  }

  /** How many jobs of a tenant are in consumers' hands, in all queues, and how many may be, null for no cap; and who has paused it. */
  async tenant(name: string): Promise<{ running: number; cap: number | null; pause: OperatorWord | null }> {
    const ready = this.#keys.ready()
    const [said, account, own, others] = await Promise.all([
      new Operators(this.#redis, this.#keys).tenantsOf([name]),
      this.#redis.hget(`${ready}:tenant`, name),
      this.#redis.hget(`${ready}:shares`, name),
      this.#redis.hget(`${ready}:shares`, '*'),
    ])
    const share = own ?? others
    const { pause = null, share: set = null } = said.get(name) ?? {}
    return {
      pause,
      // Virtual time, credit, mean, jobs in hand, …; see lua/accounts.lua.
      running: account === null ? 0 : z.coerce.number().parse(account.split(' ')[3]),
      cap: set?.cap ?? (share === null ? null : (shareSchema.parse(JSON.parse(share)).cap ?? null)),
    }
  }

  /**
   * Consumers of a profile can't run these: jobs in hand by their ids, waiting ones by the ids of their constraints.
   * @param refused.forMs for how long that is believed; until the job or its constraints are gone when left out.
   * @returns those that no live consumer may run, for longer than the grace, each with the reasons of all.
   */
  async refuse(profileId: string, of: 'job' | 'constraints', refused: readonly { id: string; why: string; forMs?: number | undefined }[], graceMs: number): Promise<Map<string, readonly string[]>> {
    if (refused.length === 0) return new Map()
    const kind = of === 'job' ? 'job' : 'shape'
    const answer = reasonsSchema.parse(await this.#run('ready-refuse', [profileId, graceMs, kind, ...refused.flatMap(({ id, why, forMs }) => [id, why, forMs ?? ''])]))
    return new Map(answer.flatMap((id, index) => (index % 2 === 0 ? [[id, distinct(answer[index + 1] ?? '[]')] as const] : [])))
  }

  /** What is refused of a job or of its constraints, for people: each reason once; since when nobody may run it, in milliseconds since 1970; and why one
   * that has it refused for a while only leaves it to others, null when there is none. */
  async refusals(id: string): Promise<{ reasons: readonly string[]; sinceMs: number | null; passing: string | null } | null> {
    const text = await this.#redis.hget(this.#keys.refusals(), id)
    if (text === null) return null
    const { by, since } = refusalsSchema.parse(JSON.parse(text))
    const all = Object.values(by)
    return { reasons: [...new Set(all.map(({ why }) => why))], sinceMs: since ?? null, passing: all.find(({ untilMs }) => untilMs !== undefined)?.why ?? null }
  }

  async #run(name: Parameters<typeof runLedgerScript>[2], args: readonly (string | number)[], moreKeys: readonly string[] = []): Promise<unknown> {
    return await runLedgerScript(this.#redis, this.#keys, name, args, moreKeys)
  }
}

/** Reasons as the scripts give them; those that several profiles share are told once. */
function distinct(json: string): string[] {
  return [...new Set(reasonsSchema.parse(JSON.parse(json)))]
}

/** A waiting job in whose place another came, or that was dropped. */
export interface SupersededJob {
  readonly queue: string
  readonly jobId: string
  readonly why: string
}

const addReply = z.tuple([z.number()]).rest(z.string())

/** What the script that lists jobs answers. */
export function parseAdded(answer: unknown): { added: number; superseded: SupersededJob[]; stay: Omit<SupersededJob, 'queue'>[] } {
  const [added, ...rest] = addReply.parse(answer)
  const all = rest.flatMap((queue, index) => (index % 3 === 0 ? [{ queue, jobId: rest[index + 1] ?? '', why: rest[index + 2] ?? '' }] : []))
  return { added, superseded: all.filter(({ queue }) => queue !== ''), stay: all.filter(({ queue }) => queue === '').map(({ jobId, why }) => ({ jobId, why })) }
}

/** The jobs of each script. */
function partsOf(jobs: readonly ReadyJob[]): ReadyJob[][] {
  const parts: ReadyJob[][] = []
  let room = 0
  for (const job of jobs) {
    const takes = job.spec.concurrency === undefined ? 1 : othersPerKeyed
    if (takes > room) {
      parts.push([])
      room = jobsPerScript
    }
    parts.at(-1)?.push(job)
    room -= takes
  }
  return parts
}

/** For each script: what it gets. The last one wakes. */
function addArguments(jobs: readonly ReadyJob[], strays: boolean, wake: number): (string | number)[][] {
  let rest = jobs.length
  return partsOf(jobs).map((part) => {
    const shapes = new Map<string, { number: number; args: (string | number)[] }>()
    const listed = part.flatMap(({ jobId, spec, begun }) => {
      const { id, constraints } = constraintsOf(spec, begun)
      const shape = shapes.get(id) ?? { number: shapes.size + 1, args: [id, JSON.stringify(constraints), constraints.milliCpu, constraints.memoryMiB] }
      shapes.set(id, shape)
      const { concurrency } = spec
      const key = concurrency === undefined ? '' : JSON.stringify({ key: keyDigest(concurrency.key), limit: concurrency.limit, after: concurrency.then })
      return [jobId, shape.number, spec.tenant ?? '', spec.waitTimeoutMs ?? '', key]
    })
    rest -= part.length
    return [rest, strays ? 1 : 0, rest === 0 ? wake : 0, shapes.size, ...[...shapes.values()].flatMap(({ args }) => args), ...listed]
  })
}
