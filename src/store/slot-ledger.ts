import type { Redis } from 'ioredis'
import { z } from 'zod'
import { FenceLostError, InvalidInputError } from '../job/errors.js'
import type { Keys } from './keys.js'
import { lookInLedger, runLedgerScript } from './ledger-call.js'
import { limitsJson, milli, parseLoads, type ProviderLimit, type ProviderLoad } from './provider-load.js'
import type { ScriptName } from './scripts.js'

/** What a job takes of a provider's pool besides one sandbox. */
export interface SlotDemand {
  /** vCPUs, to a thousandth. */
  readonly cpu: number
  readonly memoryMiB: number
}

export interface ReserveRequest {
  /** Chosen by the caller, unique; asking again with the same id never takes two places. */
  readonly leaseId: string
  /** The consumer whose inbox gets a grant. */
  readonly holder: string
  /** In order of preference: the first with room is taken. */
  readonly candidates: readonly ProviderLimit[]
  readonly demand: SlotDemand
  /** How long the reservation, or the wait for one, lives without `bind`, `renew` or another `reserve`, in milliseconds. */
  readonly ttlMs: number
  /** Wait when all are full: lower ranks first (0 to 1,048,575), then in order of arrival. */
  readonly wait?: { readonly rank: number } | undefined
}

/** A place that a job holds. */
export interface JobLease {
  readonly leaseId: string
  readonly provider: string
  readonly demand: SlotDemand
}

const leaseSchema = z.object({ provider: z.string(), milliCpu: z.number(), memoryMiB: z.number() })
const reserveReply = z.tuple([z.string(), z.string(), z.union([z.number(), z.literal('')])])

/** What a provider answered; see `SlotLedger.report`. */
export type ProviderReport =
  /** Sandboxes were created, each in so many milliseconds. */
  | { readonly kind: 'created'; readonly startsMs: readonly number[] }
  /** "Limit reached". Told while the place is still held. */
  | { readonly kind: 'capacity' }
  /** "Too many calls". */
  | { readonly kind: 'rate-limited'; readonly retryAfterMs: number | undefined }
  /** An infrastructure error. */
  | { readonly kind: 'down' }
  /** Credentials were refused. */
  | { readonly kind: 'auth' }
  /** A sandbox that lives can't be reached; it is the provider's outage when others can't either and none answered for `quietMs`. */
  | { readonly kind: 'unreachable'; readonly sandboxId: string; readonly quietMs: number }
  /** A call into a sandbox was answered. */
  | { readonly kind: 'answered' }
  /** So many sandboxes in the account are others'; believed for `forMs`. */
  | { readonly kind: 'foreign'; readonly count: number; readonly forMs: number }

/**
 * Who holds which place at which provider, shared by all consumers of a deployment. Every call is one Lua script, so
 * one round trip, and the sum of places is never over a limit at any instant.
 *
 * A place goes through: waiting → reserved (expires after `ttlMs`) → bound to a job (until released). A place that
 * becomes free goes to the first waiter who can use it within the same script, and that waiter alone is told, through
 * its inbox: nobody races for it. A grant that its holder does not bind in time expires and goes to the next;
 * expiry is looked at by every script that touches the provider, at the latest when one who waits asks again
 * (once a second is enough). Who does not ask keeps its place in line by `renew`. Times are Redis's own, so the consumers' clocks don't matter.
 *
 * What a provider has room for follows its configured limit and its own answers (`report`); the rules are in lua/ledger.lua.
 * A limit below what is in use takes nothing away; nothing new is granted until enough is released.
 * Waiters whose demand does not fit a pool's rest are passed over by smaller ones behind them, for half a minute; then what
 * becomes free is kept for them.
 */
export class SlotLedger {
  readonly #redis: Redis
  readonly #keys: Keys
  /** Answers of `sharedLoads` that are on their way, by the providers asked for. */
  readonly #underWay = new Map<string, Promise<ProviderLoad[]>>()

  constructor(redis: Redis, keys: Keys) {
    this.#redis = redis
    this.#keys = keys
  }

  /**
   * Takes a place at the first candidate with room; with `wait`, enrols a waiter when there is none.
   * @returns the provider; or null, with what each candidate holds, and in how many milliseconds one may have room without a
   * place given back (a breaker's or a bucket's time; null for never).
   */
  async reserve(request: ReserveRequest): Promise<{ provider: string | null; loads: ProviderLoad[]; opensInMs: number | null }> {
    const rank = request.wait?.rank
    if (rank !== undefined && !(Number.isInteger(rank) && rank >= 0 && rank < 2 ** 20)) {
      throw new InvalidInputError(`rank: ${rank} must be a whole number from 0 to 1048575`)
    }
    if (request.candidates.length === 0) throw new InvalidInputError('candidates: is empty; give at least one provider to reserve a place at')
    const [provider, loads, opensInMs] = reserveReply.parse(
      await this.#run('ledger-reserve', [
        request.leaseId,
        request.holder,
        milli(request.demand.cpu),
        request.demand.memoryMiB,
        request.ttlMs,
        rank ?? '',
        limitsJson(request.candidates),
      ]),
    )
    return { provider: provider === '' ? null : provider, loads: parseLoads(loads), opensInMs: opensInMs === '' ? null : opensInMs }
  }

  /**
   * Makes a reservation the job's place: from now on it does not expire and is freed by `release` only.
   * @returns false when it is not the job's: either the job holds another place already (see `leaseOf`; this one has
   * been given back), or the reservation had expired.
   */
  async bind(leaseId: string, jobId: string): Promise<boolean> {
    return (await this.#run('ledger-bind', [leaseId, this.#keys.runId(jobId), this.#keys.job(jobId)])) === 1
  }

  /**
   * Gives a place back, whoever holds it; the first waiter who can use it has it when this returns. Unknown ids do nothing.
   * @param guard releases only while this fence is the job's, so that a holder that was away can't free its successor's place.
   * @throws FenceLostError when it is not.
   */
  async release(leaseId: string, guard?: { jobId: string; fence: number }): Promise<void> {
    const runKeys = guard === undefined ? [] : [this.#keys.run(guard.jobId)]
    const answer = await this.#run('ledger-release', [leaseId, 'all', guard?.fence ?? ''], runKeys)
    if (guard !== undefined && answer === 'lost') throw new FenceLostError(guard.jobId)
  }

  /**
   * As `release`, for the place that a job holds, if it holds one.
   * @throws FenceLostError when the fence is not the job's.
   */
  async releaseOf(jobId: string, fence: number): Promise<void> {
    if ((await this.#run('ledger-release', [this.#keys.runId(jobId), 'job', fence], [this.#keys.run(jobId)])) === 'lost') throw new FenceLostError(jobId)
  }

  /** Stops waiting, and gives back a grant that crossed it; a place that a job holds stays. */
  async withdraw(leaseId: string): Promise<void> {
    await this.#run('ledger-release', [leaseId, 'unbound', ''])
  }

  /**
   * Keeps a holder's waiters in line for another `ttlMs`; places that jobs hold need no renewal.
   * @param leaseIds at most 100.
   * @returns the ids that don't wait any more: they are granted, or unknown. Ask for a place again to learn which.
   */
  async renew(holder: string, leaseIds: readonly string[], ttlMs: number): Promise<string[]> {
    return z.array(z.string()).parse(await this.#run('ledger-renew', [holder, ttlMs, ...leaseIds]))
  }

  /** The place that a job holds, or null. */
  async leaseOf(jobId: string): Promise<JobLease | null> {
    return await this.leaseOfOwner(this.#keys.runId(jobId))
  }

  /** The place that is somebody's, by the name that the ledger has for its owner; see `ownerName`. */
  async leaseOfOwner(name: string): Promise<JobLease | null> {
    const leaseId = await this.#redis.hget(`${this.#keys.ledger()}:jobs`, name)
    if (leaseId === null) return null
    const text = await this.#redis.hget(`${this.#keys.ledger()}:lease`, leaseId)
    if (text === null) return null
    const lease = leaseSchema.parse(JSON.parse(text))
    return { leaseId, provider: lease.provider, demand: { cpu: lease.milliCpu / 1000, memoryMiB: lease.memoryMiB } }
  }

  /** What the given providers hold; every provider that was asked for in the last day when none are given. Nothing is written, and nobody granted anything. */
  async loads(providers: readonly Pick<ProviderLimit, 'provider'>[] = []): Promise<ProviderLoad[]> {
    return parseLoads(z.string().parse(await lookInLedger(this.#redis, this.#keys, 'ledger-look', providers.map(({ provider }) => provider))))
  }

  /**
   * As `loads`, once those that wait for a place have what is free; who asks while the same question is on its way gets that answer, which may be older than the call by a round trip.
   * For a provider's failure, when all of its jobs ask at once.
   */
  async sharedLoads(providers: readonly Pick<ProviderLimit, 'provider'>[]): Promise<ProviderLoad[]> {
    const question = JSON.stringify(providers.map(({ provider }) => provider))
    const known = this.#underWay.get(question)
    if (known !== undefined) return await known
    const answer = this.#run('ledger-loads', providers.map(({ provider }) => provider)).then((text) => parseLoads(z.string().parse(text))).finally(() => this.#underWay.delete(question))
    this.#underWay.set(question, answer)
    return await answer
  }

  /**
   * Tells all consumers what a provider answered: the ceiling, the create bucket, the breaker and the start times follow from it.
   */
  async report(provider: string, report: ProviderReport): Promise<void> {
    await this.#run('ledger-report', [provider, report.kind, ...reportArguments(report)])
  }

  async #run(name: ScriptName, args: readonly (string | number)[], moreKeys: readonly string[] = []): Promise<unknown> {
    return await runLedgerScript(this.#redis, this.#keys, name, args, moreKeys)
  }
}

function reportArguments(report: ProviderReport): (string | number)[] {
  switch (report.kind) {
    case 'created':
      return report.startsMs.map(Math.round)
    case 'rate-limited':
      return [report.retryAfterMs === undefined ? '' : Math.ceil(report.retryAfterMs)]
    case 'foreign':
      return [report.count, report.forMs]
    case 'unreachable':
      return [report.sandboxId, Math.ceil(report.quietMs)]
    case 'answered':
    case 'capacity':
    case 'down':
    case 'auth':
      return []
  }
}
