import type { Redis } from 'ioredis'
import { z } from 'zod'
import { daysAround } from '../job/days.js'
import { FenceLostError } from '../job/errors.js'
import { continuedRecord } from '../job/continuation.js'
import type { LogChunk } from '../job/log.js'
import { type ShownPatch, shownPatchSchema } from '../job/patch.js'
import { type JobResult, shortResult } from '../job/result.js'
import { newRunRecord, type RunRecord } from '../job/run-record.js'
import { branchMember, type DoomedBranch, type ExpiringBranch } from './branch-schedule.js'
import { daysArgument } from './cost-days.js'
import type { Keys } from './keys.js'
import { defaultRetentionMs } from './queued-job.js'
import { runLedgerScript } from './ledger-call.js'
import { runScript } from './scripts.js'
import { changesBetween, leftOf } from './stored-record.js'
import { earlyArguments, type EarlyEvent, type EventBounds, eventParts, numbersOf, type StoredEvent, type Telling } from './stored-events.js'
import { lastRun, nextGeneration, queuedFacts, queuedFields, runFields } from './next-run.js'
import { parseRun, readRecord, readResult, toCancel, type CancelRequest, type StoredRun } from './stored-run.js'

/** What `acquire` found. */
export type Acquired =
  | {
      readonly kind: 'acquired'
      /** The holder's number; every write names it, and a later holder's is higher. */
      readonly fence: number
      readonly record: RunRecord
      /** Whether the run starts here, with the record that the caller gave. */
      readonly created: boolean
      /** A request to cancel that came before; the holder must see to it first. */
      readonly cancel: CancelRequest | null
      /** For how many milliseconds more a run that begins may wait for its first sandbox, by Redis' clock; null where that is not bounded, or not known. */
      readonly waitLeftMs: number | null
      /** By how many milliseconds this process's clock is ahead of the one by which the record's times are, or behind; 0 where they differ by less than a minute. */
      readonly aheadMs: number
    }
  | { readonly kind: 'ended'; readonly result: JobResult }
  /** The run would have begun with a record that needs a place which the job does not hold any more. Nothing was written. */
  | { readonly kind: 'placeless' }

/** What else a caller may meet that has the job by BullMQ's lock; nothing was written. */
export type NotAcquired =
  /** BullMQ has not given the caller this job, or not any more: it was removed, say. */
  | { readonly kind: 'gone' }
  /** The run is that of a job which was removed from the queue, and another one was added under the same id: it is to be ended first. */
  | { readonly kind: 'other' }
  /** BullMQ was told by somebody else that the job had ended, and then to run it again: the run before is to be ended first. */
  | { readonly kind: 'unended' }

export interface AcquireRequest {
  /** The consumer's id. */
  readonly holder: string
  readonly fresh: RunRecord
  /** The provider at which the job must hold a place for `fresh` to be what its run begins with; a run that has begun is taken over without. Default: none. */
  readonly placeAt?: string | undefined
  /** How often BullMQ had found the job stalled when the caller took it. Left out by whoever did not: no run that has ended begins anew then. */
  readonly stalls?: number | undefined
  /** Whether its time to wait is bounded, and over with this. Default: not. */
  readonly bounded?: boolean | undefined
  /** Of BullMQ's lock by which the caller has the job. Left out by whoever has it by other means. */
  readonly token?: string | undefined
}

/** How a job's current run stands. */
export interface RunStanding {
  /** Whether the queue or the store knows the job. */
  readonly known: boolean
  /** Null until it has ended. */
  readonly result: JobResult | null
  /** Whether BullMQ holds the job. */
  readonly queued: boolean
  /** Whether it has ended, and its record is past its retention; BullMQ holds it until others end. */
  readonly expired: boolean
  /** Which run of it was the last; null when none has begun. */
  readonly generation: number | null
  /** When that ended, as `StoredRun.atMs` has it; null while it has not. */
  readonly endedAtMs: number | null
  /** Up to which sequence number the log is that of an earlier run; 0 when there is none. */
  readonly oldLogEnd: number
}

export interface RunStoreOptions {
  /** How long an ended job's record, result and log are kept, in milliseconds. Default: 7 days. */
  readonly retentionMs?: number | undefined
  /** How much of each step's stdout and stderr the log stream keeps: half of it from the start, half from the end. Default: 16 MiB. */
  readonly logMaxBytesPerStream?: number | undefined
  /** What the stream of completion events keeps. Left out: as configured last at this Redis; see lua/event-append.lua. */
  readonly events?: EventBounds | undefined
  /** The clock; milliseconds since 1970. */
  readonly now?: (() => number) | undefined
  /** By whose days costs are counted. Default UTC. */
  readonly timeZone?: string | undefined
}

const defaults = { retentionMs: defaultRetentionMs, logMaxBytesPerStream: 16 * 1024 * 1024 }
/** Output is cut into pieces of this size, so that a full log can drop its middle finely and a reader needs little memory. */
const maxPieceBytes = 64 * 1024

const nullable = z.string().nullable()
const acquireReply = z.union([
  z.tuple([z.literal('ended'), z.string()]),
  z.tuple([z.literal('acquired'), z.number(), z.string(), z.number(), nullable, nullable, z.array(z.string()), z.number().nullable(), z.number()]),
  z.tuple([z.literal('placeless')]),
  z.tuple([z.literal('gone')]),
  z.tuple([z.literal('other')]),
  z.tuple([z.literal('unended')]),
  z.tuple([z.literal('retried'), z.number()]),
  z.tuple([z.literal('continues')]),
])
const saveReply = z.union([z.tuple([z.literal('lost')]), z.tuple([z.literal('stale')]), z.tuple([z.literal('saved'), nullable, nullable, z.number()])])

const endReply = z.union([z.tuple([z.literal('lost')]), z.tuple([z.literal('stale')]), z.tuple([z.enum(['finished', 'repeated']), z.string(), z.string()])])

/** Who would take a job that is chosen for it. */
export interface Taker {
  readonly holder: string
  /** As of `Means`. */
  readonly viewId: string
}

/** A job that was chosen, and where it has its place. */
export interface NextJob {
  readonly jobId: string
  readonly provider: string
}

/** What a holder has written last, as far as it knows. */
interface Written {
  readonly fence: number
  /** The call's number; 0 for what it acquired. */
  readonly call: number
  readonly record: RunRecord
}

/** How a run ends. */
interface RunEnd {
  readonly record: RunRecord
  readonly result: JobResult
  readonly event: StoredEvent
  readonly branches: readonly ExpiringBranch[]
  readonly telling: Telling | undefined
}

/** What is told with a run's end before that, and the write that it builds on; null for whatever was the last. */
interface ToldBefore {
  readonly call: number | null
  readonly early: readonly EarlyEvent[]
}

/** Numbers this process's writes of records: each is higher than those before it, whichever store it comes from. */
let calls = 0

/**
 * The run records: one Redis hash per job, written by Lua only.
 *
 * A run is not there → `acquire` → held (fence n) → `acquire` by another → held (fence n + 1) … → `finish` → ended, and
 * after the retention gone. A cancelled job that nobody had taken goes to ended at once. A retry of an ended job has a
 * higher generation and starts over in the same hash; fences go on rising over generations.
 *
 * Writes name the fence; with any other than the current one they throw FenceLostError and change nothing. All writes
 * bear being sent twice (a connection that lost an answer repeats its commands in order).
 */
export class RunStore {
  readonly #redis: Redis
  readonly #keys: Keys
  readonly #retentionMs: number
  readonly #logHalfBytes: number
  readonly #eventBounds: string
  readonly #now: () => number
  readonly #timeZone: string
  /** Of the runs that this process holds: a write sends what has changed since. Where it is missing, the whole record. */
  readonly #written = new Map<string, Written>()

  constructor(redis: Redis, keys: Keys, options: RunStoreOptions = {}) {
    this.#redis = redis
    this.#keys = keys
    this.#retentionMs = options.retentionMs ?? defaults.retentionMs
    this.#logHalfBytes = Math.max(Math.floor((options.logMaxBytesPerStream ?? defaults.logMaxBytesPerStream) / 2), 1024)
    const { events } = options
    this.#eventBounds = events === undefined ? '' : `${events.maxCount} ${events.maxBytes} ${events.maxAgeMs}`
    this.#now = options.now ?? Date.now
    this.#timeZone = options.timeZone ?? 'UTC'
  }

  /**
   * Takes a job: starts its run with `fresh` when there is none for that generation, takes it over otherwise. Whoever
   * held it before can write nothing from then on.
   * @throws NewerReleaseError when this release can't read the record; nobody else can write it then either until it is taken again.
   */
  async acquire(jobId: string, request: AcquireRequest & { readonly placeAt?: undefined; readonly token?: undefined }): Promise<Exclude<Acquired, { kind: 'placeless' }>>
  async acquire(jobId: string, request: AcquireRequest & { readonly token?: undefined }): Promise<Acquired>
  async acquire(jobId: string, request: AcquireRequest): Promise<Acquired | NotAcquired>
  async acquire(jobId: string, request: AcquireRequest): Promise<Acquired | NotAcquired> {
    return await this.#acquire(jobId, request, false)
  }

  /** @param continued whether the fresh record is made of that of the run which has ended. */
  async #acquire(jobId: string, request: AcquireRequest, continued: boolean): Promise<Acquired | NotAcquired> {
    const { checkpoint, repository } = request.fresh
    const runId = this.runId(jobId)
    const first = runId === jobId ? request.fresh : { ...request.fresh, runId }
    const branch = continued && typeof checkpoint?.branch === 'string' ? branchMember({ repository, name: checkpoint.branch }) : ''
    const reply = acquireReply.parse(
      await runScript(
        this.#redis,
        'run-acquire',
        [this.#keys.run(jobId), this.#keys.log(jobId), this.#keys.logAccount(jobId), this.#keys.claim(jobId), this.#keys.ledger(), this.#keys.job(jobId), this.#keys.branches(), this.#keys.waits(), this.#keys.ready()],
        [request.holder, first.generation, JSON.stringify(first), this.#now(), runId, request.placeAt ?? '', request.stalls ?? '', continued ? 1 : '', branch, request.bounded === true ? jobId : '', request.token ?? '', this.#keys.queueName],
      ),
    )
    if (reply[0] === 'placeless' || reply[0] === 'gone' || reply[0] === 'other' || reply[0] === 'unended') return { kind: reply[0] }
    if (reply[0] === 'continues') {
      const { startedAtMs, generation, asked, tenant } = request.fresh
      const ended = await this.read(jobId)
      // Somebody else has taken it meanwhile.
      if (ended?.record == null || ended.result === null) return await this.#acquire(jobId, request, false)
      const fresh = continuedRecord(newRunRecord({ jobId, generation, repository, startedAtMs, asked, tenant }), ended.record)
      return await this.#acquire(jobId, { ...request, fresh, placeAt: undefined }, true)
    }
    // What was prepared was for the run before.
    if (reply[0] === 'retried') {
      const { startedAtMs, asked, tenant } = request.fresh
      return await this.#acquire(jobId, { ...request, fresh: newRunRecord({ jobId, generation: reply[1], repository, startedAtMs, asked, tenant }), placeAt: undefined }, false)
    }
    if (reply[0] === 'ended') return { kind: 'ended', result: readResult(reply[1], runId, `job ${jobId}: its result`) }
    const [, fence, json, created, reason, atMs, changes, waitLeftMs, aheadMs] = reply
    const record = created === 1 ? first : readRecord({ record: json, ...pairs(changes) }, null, `job ${jobId}: its run record`)
    this.#written.set(jobId, { fence, call: 0, record })
    return { kind: 'acquired', fence, record, created: created === 1, cancel: toCancel(reason, atMs), waitLeftMs, aheadMs }
  }

  /**
   * Keeps what a job's page shows of the lines that it has changed, for as long as its result. No fence: it names the commit that it belongs to, and is
   * shown with no other.
   */
  async keepPatch(jobId: string, patch: ShownPatch): Promise<void> {
    await this.#redis.set(this.#keys.patch(jobId), JSON.stringify(patch), 'PX', this.#retentionMs)
  }

  /** @returns null when none is kept, or it is of another commit. */
  async readPatch(jobId: string, commit: string): Promise<ShownPatch | null> {
    const json = await this.#redis.get(this.#keys.patch(jobId))
    if (json === null) return null
    const read = shownPatchSchema.safeParse(JSON.parse(json))
    return read.success && read.data.commit === commit ? read.data : null
  }

  /** A job's id among all queues; see `runIdOf`. */
  runId(jobId: string): string {
    return this.#keys.runId(jobId)
  }

  /** This process holds the run no more: nothing is remembered of what it wrote. */
  letGo(jobId: string): void {
    this.#written.delete(jobId)
  }

  /**
   * Saves the record.
   * @param reason why the job does not move; null says that it does; left out, what was said before stays.
   * @param telling of what has changed; left out, nothing is told.
   * @throws FenceLostError when another holder has the job, or it has ended.
   */
  async save(jobId: string, fence: number, record: RunRecord, reason?: string | null, telling?: Telling): Promise<{ cancel: CancelRequest | null }> {
    return await this.#write(jobId, fence, record, { reason, chunks: [], telling, stored: null })
  }

  /**
   * Saves the record and appends output in one step. The record's offsets must stand behind the chunks', so that a
   * takeover at any moment goes on with the very next byte. Bytes of stdout and stderr that are in the log already
   * (by attempt, step, stream and offset) are left out.
   * @throws FenceLostError when another holder has the job, or it has ended; then nothing is appended.
   */
  async append(
    jobId: string,
    fence: number,
    record: RunRecord,
    chunks: readonly LogChunk[],
    reason?: string | null,
    telling?: Telling,
  ): Promise<{ cancel: CancelRequest | null }> {
    return await this.#write(jobId, fence, record, { reason, chunks, telling, stored: null })
  }

  async #write(
    jobId: string,
    fence: number,
    record: RunRecord,
    /** `stored`: what Redis holds, where that is not what this process has written last. */
    write: { readonly reason: string | null | undefined; readonly chunks: readonly LogChunk[]; readonly telling: Telling | undefined; readonly stored: RunRecord | null },
  ): Promise<{ cancel: CancelRequest | null }> {
    const { reason, chunks, telling, stored } = write
    const before = this.#written.get(jobId)
    const changes = before?.fence === fence ? changesBetween(before.record, record) : null
    calls += 1
    const call = calls
    this.#written.set(jobId, { fence, call, record })
    const fields = changes ?? [['record', JSON.stringify(record)] as const]
    const known = before?.fence === fence ? before.record : stored
    const early = telling === undefined || known === null ? [] : telling(known, record)
    const reply = saveReply.parse(
      await runScript(
        this.#redis,
        'run-save',
        [this.#keys.run(jobId), this.#keys.log(jobId), this.#keys.logAccount(jobId), ...(early.length === 0 ? [] : [this.#keys.events(), this.#keys.eventAccount()])],
        [
          fence,
          this.#now(),
          reason === undefined ? 'keep' : reason === null ? 'clear' : 'set',
          reason ?? '',
          call,
          changes !== null ? (before?.call ?? 0) : telling !== undefined && before?.fence === fence ? `!${before.call}` : '',
          this.#logHalfBytes,
          early.length === 0 ? fields.length : `${fields.length} ${early.length} ${this.#eventBounds}`,
          ...fields.flat(),
          ...early.flatMap(earlyArguments),
          ...chunks.flatMap(pieces).flatMap((chunk) => [chunk.step, chunk.stream, chunk.attempt, chunk.offset, Buffer.from(chunk.data)]),
        ],
      ),
    )
    if (reply[0] === 'stale') {
      // What was not written was not told.
      const held = telling === undefined ? null : await this.#heldRecord(jobId)
      // What was written meanwhile is newer than this, and met the same.
      const latest = this.#written.get(jobId)
      this.#written.delete(jobId)
      return await this.#write(jobId, fence, latest?.fence === fence ? latest.record : record, { ...write, stored: held })
    }
    if (reply[0] === 'lost') {
      this.letGo(jobId)
      throw new FenceLostError(jobId)
    }
    return { cancel: toCancel(reply[1], reply[2]) }
  }

  /**
   * What Redis holds of a run that goes on; null when it is none.
   * @throws NewerReleaseError when this release can't read it.
   */
  async #heldRecord(jobId: string): Promise<RunRecord | null> {
    const held = await this.read(jobId)
    return held === null || held.result !== null ? null : held.record
  }

  /**
   * Ends the run: record, result and completion event in one step, and the retention starts. A second call of the
   * same holder does nothing: its first answer was lost.
   * @param branches what the run leaves at the git host, and when it is to go; see `BranchSchedule`.
   * @param telling of what has changed before the end, as of `save`.
   * @throws FenceLostError when another holder has the job, or has ended it.
   */
  async finish(jobId: string, fence: number, record: RunRecord, result: JobResult, event: StoredEvent, branches: readonly ExpiringBranch[] = [], telling?: Telling): Promise<void> {
    const end = { record, result, event, branches, telling }
    let reply = await runScript(this.#redis, 'run-finish', ...this.#ending(jobId, fence, end, this.#told(jobId, fence, end) ?? (await this.#untold(jobId, end))))
    if (reply === 'stale') reply = await runScript(this.#redis, 'run-finish', ...this.#ending(jobId, fence, end, await this.#untold(jobId, end)))
    if (reply === 'lost') throw new FenceLostError(jobId)
  }

  /**
   * As `finish`, and in the same step the job leaves this consumer's hands, as by `ReadyJobs.close`.
   * @param taker the caller when it would take the next job for the place that comes free; null when it would not.
   * @returns that job, which BullMQ's wait list holds for it then; null when there is none, or another consumer has been told of it.
   * @throws FenceLostError as of `finish`; then the job is left where it is.
   */
  async finishAndClose(jobId: string, fence: number, record: RunRecord, result: JobResult, event: StoredEvent, branches: readonly ExpiringBranch[], taker: Taker | null, telling?: Telling): Promise<NextJob | null> {
    const end = { record, result, event, branches, telling }
    const run = async (told: ToldBefore) => {
      const [keys, args] = this.#ending(jobId, fence, end, told)
      return endReply.parse(await runLedgerScript(this.#redis, this.#keys, 'run-end', [taker?.holder ?? '', taker?.viewId ?? '', ...args], keys))
    }
    let reply = await run(this.#told(jobId, fence, end) ?? (await this.#untold(jobId, end)))
    if (reply[0] === 'stale') reply = await run(await this.#untold(jobId, end))
    if (reply[0] === 'lost' || reply[0] === 'stale') throw new FenceLostError(jobId)
    const [, nextId, provider] = reply
    return nextId === '' ? null : { jobId: nextId, provider }
  }

  /** What a script that ends a run gets; see lua/run-ending.lua. */
  #ending(jobId: string, fence: number, { record, result, event, branches }: RunEnd, told: ToldBefore): [keys: string[], args: (string | number)[]] {
    // An event whose data is the result goes without it: both would send it.
    const carries = typeof event !== 'string' && 'data' in event && event.data === result
    const { id, json, hooks } = carries ? { id: event.id, json: JSON.stringify({ ...event, data: undefined }), hooks: numbersOf(event.hooks) } : eventParts(event)
    const charge = this.#chargeOf(jobId, record, result)
    const more = told.call === null && told.early.length === 0 && hooks === '' && charge === undefined ? '' : JSON.stringify({ hooks, call: told.call ?? '', early: told.early.map(earlyArguments), charge })
    this.letGo(jobId)
    return [
      [this.#keys.run(jobId), this.#keys.log(jobId), this.#keys.logAccount(jobId), this.#keys.events(), this.#keys.claim(jobId), this.#keys.branches(), this.#keys.job(jobId), this.#keys.eventAccount()],
      [
        fence,
        JSON.stringify(leftOf(record, result)),
        this.#now(),
        JSON.stringify(shortResult(result, this.#keys.runId(jobId))),
        json,
        `${carries ? 1 : 0}${more}`,
        id,
        this.#eventBounds,
        this.#retentionMs,
        this.#keys.doneChannel(),
        this.#keys.runId(jobId),
        ...branches.flatMap((branch) => [branch.dueAtMs, branchMember(branch)]),
      ],
    ]
  }

  /** What a run that ends has cost, for its tenant's day; undefined for nothing. */
  #chargeOf(jobId: string, { budgeted, parking }: RunRecord, { usage, tenant }: JobResult): object | undefined {
    if (usage.cost === undefined && budgeted === undefined) return undefined
    const { micros, currency } = usage.cost ?? { micros: 0, currency: '' }
    return { base: this.#keys.costs(), days: daysArgument(daysAround(this.#now(), this.#timeZone)), run: this.#keys.runId(jobId), tenant: tenant ?? '', micros, currency, ...(parking === undefined ? {} : { parked: `${this.#keys.queueName}:${jobId}` }) }
  }

  /** What is told of a run with its end, by what this process has written last of it; null when it does not know that. */
  #told(jobId: string, fence: number, { record, telling }: Pick<RunEnd, 'record' | 'telling'>): ToldBefore | null {
    if (telling === undefined) return { call: null, early: [] }
    const before = this.#written.get(jobId)
    if (before?.fence !== fence) return null
    return { call: before.call, early: telling(before.record, record) }
  }

  /** As `#told`, by what Redis holds: a write before the end was lost. */
  async #untold(jobId: string, { record, telling }: Pick<RunEnd, 'record' | 'telling'>): Promise<ToldBefore> {
    const held = await this.#heldRecord(jobId)
    return { call: null, early: held === null || telling === undefined ? [] : telling(held, record) }
  }

  /**
   * Cancels a job from any process.
   * @param waiting what to end the job with when nobody has taken it yet (its generation is 1 unless given); null when
   * the caller knows that it is supervised.
   * @returns `cancelled`: it ended here; `requested`: its supervisor has been asked, now or at the next takeover;
   * `ended`: it had ended before.
   */
  async cancel(
    jobId: string,
    reason: string,
    waiting: { result: JobResult; event: StoredEvent; generation?: number } | null,
  ): Promise<'cancelled' | 'requested' | 'ended'> {
    return await this.#cancel(jobId, reason, waiting)
  }

  /**
   * Ends a run that nobody has taken yet; nothing happens to one that somebody has.
   * @returns whether it ended here.
   */
  async endWaiting(jobId: string, end: { readonly result: JobResult; readonly event: StoredEvent; readonly generation: number }): Promise<boolean> {
    return (await this.#cancel(jobId, '', end)) === 'cancelled'
  }

  async #cancel(
    jobId: string,
    reason: string,
    waiting: { readonly result: JobResult; readonly event: StoredEvent; readonly generation?: number } | null,
  ): Promise<'cancelled' | 'requested' | 'ended'> {
    const event = waiting === null ? { id: '', json: '', hooks: '' } : eventParts(waiting.event)
    return z.enum(['cancelled', 'requested', 'ended']).parse(
      await runScript(
        this.#redis,
        'run-cancel',
        [this.#keys.run(jobId), this.#keys.log(jobId), this.#keys.events(), this.#keys.claim(jobId), this.#keys.logAccount(jobId), this.#keys.eventAccount(), `${this.#keys.costs()}:caps`, this.#keys.job(jobId)],
        [
          reason,
          this.#now(),
          waiting === null ? '' : (waiting.generation ?? 1),
          waiting === null ? '' : JSON.stringify(shortResult(waiting.result, this.#keys.runId(jobId))),
          event.json,
          event.id,
          this.#eventBounds,
          this.#retentionMs,
          this.#keys.cancelChannel(),
          this.#keys.doneChannel(),
          this.#keys.runId(jobId),
          ...(event.hooks === '' ? [] : [event.hooks]),
        ],
      ),
    )
  }

  /**
   * Asks for the next run of a job to go on from the last checkpoint of the one that has ended, and keeps that checkpoint for so long.
   * @param ended the generation of the run, and its checkpoint's branch; `kept` when no time is set for that one's deletion.
   * @param whileEnded only as long as BullMQ holds the job as ended: where it was told to run it again, whoever did that has said where from.
   * @returns `changed` when another run is the job's last by now, or BullMQ was told; `gone` when the branch was deleted.
   */
  async requestContinuation(jobId: string, ended: { readonly generation: number; readonly branch: DoomedBranch | null; readonly kept: boolean }, keepMs: number, whileEnded = false): Promise<'requested' | 'gone' | 'changed'> {
    const { generation, branch, kept } = ended
    return await this.#continue(jobId, [generation, branch === null ? '' : branchMember(branch), this.#now() + keepMs, kept ? 1 : '', keepMs], whileEnded)
  }

  /** The next run of a job begins from the start. @param whileEnded as for `requestContinuation`. */
  async withdrawContinuation(jobId: string, whileEnded = false): Promise<'requested' | 'gone' | 'changed'> {
    return await this.#continue(jobId, ['', '', 0, '', 0], whileEnded)
  }

  async #continue(jobId: string, args: readonly (string | number)[], whileEnded: boolean): Promise<'requested' | 'gone' | 'changed'> {
    const keys = [this.#keys.run(jobId), this.#keys.branches(), this.#keys.job(jobId)]
    return z.enum(['requested', 'gone', 'changed']).parse(await runScript(this.#redis, 'run-continue', keys, [...args, whileEnded ? 1 : '']))
  }

  /**
   * The requests to cancel that the given jobs' runs have, by job, in one round trip: a signal may have been missed, or was for the run before. A run
   * that has ended has none, whatever an older release left there: the job may be in somebody's hands again who has not begun its next run yet.
   */
  async cancelRequests(jobIds: readonly string[]): Promise<Map<string, CancelRequest>> {
    const requests = new Map<string, CancelRequest>()
    if (jobIds.length === 0) return requests
    const pipeline = this.#redis.pipeline()
    for (const jobId of jobIds) pipeline.hmget(this.#keys.run(jobId), 'cancelReason', 'cancelAtMs').hexists(this.#keys.run(jobId), 'result')
    const answers = ((await pipeline.exec()) ?? []).map(([error, answer]) => {
      if (error !== null) throw error
      return answer
    })
    jobIds.forEach((jobId, index) => {
      const cancel = toCancel(...z.tuple([nullable, nullable]).parse(answers[2 * index]))
      if (cancel !== null && answers[2 * index + 1] === 0) requests.set(jobId, cancel)
    })
    return requests
  }

  /**
   * What Redis holds of a job's run; null when nobody has taken it, or it is past its retention.
   * @throws NewerReleaseError when this release can't read it.
   */
  async read(jobId: string): Promise<StoredRun | null> {
    return parseRun(await this.#redis.hgetall(this.#keys.run(jobId)), this.#keys.runId(jobId))
  }

  /**
   * How the current runs of many jobs stand, in one round trip, in the order asked for. A job that the queue holds and has not finished
   * with, for a later generation than the run's, was retried: the run that counts has not been taken yet.
   */
  async standings(jobIds: readonly string[]): Promise<RunStanding[]> {
    if (jobIds.length === 0) return []
    const pipeline = this.#redis.pipeline()
    for (const jobId of jobIds) {
      pipeline.hmget(this.#keys.run(jobId), 'generation', 'seq', ...runFields)
      pipeline.hmget(this.#keys.job(jobId), ...queuedFields)
    }
    const answers = ((await pipeline.exec()) ?? []).map(([error, fields]) => {
      if (error !== null) throw error
      return z.array(nullable).parse(fields)
    })
    return jobIds.map((jobId, index) => {
      const [generation = null, seq = null, ...values] = answers[2 * index] ?? []
      const [result = null] = values
      const queued = queuedFacts(answers[2 * index + 1] ?? [])
      const last = generation === null ? null : lastRun(values, Number(generation))
      const retried = last !== null && queued !== null && nextGeneration(queued, last) !== null
      return {
        known: generation !== null || queued !== null,
        queued: queued !== null,
        expired: generation === null && queued?.finished === true,
        result: result === null || retried ? null : readResult(result, this.#keys.runId(jobId), `the result of job ${jobId}`),
        generation: last?.generation ?? null,
        endedAtMs: last?.ended === true ? last.atMs : null,
        // As lua/run-ending.lua leaves it out.
        oldLogEnd: retried ? Number(seq ?? (result === null ? 0 : 1)) : 0,
      }
    })
  }

  /**
   * As `read`, for many jobs in one round trip; in the order asked for.
   * @param options.forShow a record that this release can't read is left out and `reason` says so, instead of failing for all.
   */
  async readMany(jobIds: readonly string[], options: { forShow?: boolean } = {}): Promise<(StoredRun | null)[]> {
    if (jobIds.length === 0) return []
    const pipeline = this.#redis.pipeline()
    for (const jobId of jobIds) pipeline.hgetall(this.#keys.run(jobId))
    const answers = (await pipeline.exec()) ?? []
    return answers.map(([error, hash], index) => {
      if (error !== null) throw error
      return parseRun(z.record(z.string(), z.string()).parse(hash), this.#keys.runId(jobIds[index] ?? ''), options.forShow)
    })
  }
}

/** Fields and values in turn, as an object. */
function pairs(flat: readonly string[]): Record<string, string> {
  return Object.fromEntries(flat.flatMap((field, index) => (index % 2 === 0 ? [[field, flat[index + 1] ?? ''] as const] : [])))
}

function pieces(chunk: LogChunk): LogChunk[] {
  if (chunk.data.length <= maxPieceBytes) return [chunk]
  const cut: LogChunk[] = []
  for (let start = 0; start < chunk.data.length; start += maxPieceBytes) {
    cut.push({ ...chunk, offset: chunk.offset + start, data: chunk.data.subarray(start, start + maxPieceBytes) })
  }
  return cut
}
