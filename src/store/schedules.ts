import type { Redis } from 'ioredis'
import { z } from 'zod'
import type { Due } from '../job/schedule-slots.js'
import type { Overlap } from '../job/schedule.js'
import type { Keys } from './keys.js'
import { redisNowMs } from './redis-time.js'
import { runScript } from './scripts.js'

/** How many schedules a queue may have: a clock that was set back has all of them looked at in one script. */
export const mostSchedules = 1_000
/** How many of them callers that are limited to tenants may make for one tenant. */
export const mostOfTenant = 100
/** How many runs of one schedule there may be at once. */
const mostRunning = 100
/** How many times that were begun are remembered, so that a clock that was set back begins none twice. */
const rememberedSlots = 200
/** By how much Redis' clock may go back before all schedules are looked at, in milliseconds. */
const setBackMs = 1_000

const pendingSchema = z.object({ jobId: z.string(), slotMs: z.number(), replaces: z.array(z.string()) })
const lastSchema = z.object({ jobId: z.string(), slotMs: z.number() })
const skippedSchema = z.object({ slotMs: z.number(), count: z.number(), why: z.string() })

/** A run that was decided, and whose job is to be added. */
export interface PendingRun extends z.output<typeof pendingSchema> {
  /** As it is stored. */
  readonly json: string
}

/** A schedule as Redis holds it; times are in milliseconds since 1970 by Redis' clock. */
export interface StoredSchedule {
  readonly id: string
  /** As it was put; JSON. */
  readonly definition: string
  readonly version: string
  readonly handledMs: number
  readonly paused: boolean
  readonly pending: PendingRun | null
  readonly last: z.output<typeof lastSchema> | null
  readonly skipped: z.output<typeof skippedSchema> | null
  /** Null while it is paused, or when no time comes any more. */
  readonly dueMs: number | null
}

export type Begun =
  /** `changed`: it is not what the caller read; read it again. */
  | { readonly kind: 'changed' | 'done' }
  /** This run comes first: `run` was decided now, `pending` before. */
  | { readonly kind: 'pending' | 'run'; readonly run: PendingRun }
  | { readonly kind: 'skipped'; readonly why: string }

/** The tenants of whose jobs a schedule may be changed; null for whoever may change all. */
type Whose = readonly string[] | null

const putReply = z.enum(['created', 'changed', 'full', 'tenant-full', 'foreign'])
/** `full`, `tenant-full`: there are as many as there may be. `foreign`: it is another's. */
type Put = z.output<typeof putReply>
const beginReply = z.tuple([z.enum(['changed', 'done', 'skipped', 'pending', 'run'])], z.string())

/**
 * The schedules of a queue. What wakes consumers for them may be lost, late, early or double: what was begun is decided here, in Lua, once for each
 * time of a schedule (lua/schedule-begin.lua).
 */
export class ScheduleStore {
  constructor(
    private readonly redis: Redis,
    private readonly keys: Keys,
  ) {}

  /** Milliseconds since 1970 by Redis' clock. */
  async now(): Promise<number> {
    return await redisNowMs(this.redis, this.keys)
  }

  /** @param definition JSON. @param times what tells its times apart from others. @param nextMs null when none comes. @param tenant its job's. */
  async put(id: string, schedule: { readonly definition: string; readonly times: string; readonly nowMs: number; readonly nextMs: number | null; readonly tenant?: string | undefined }, whose: Whose = null): Promise<Put> {
    const { definition, times, nowMs, nextMs, tenant = '' } = schedule
    return putReply.parse(await this.run('schedule-put', id, [id, definition, times, nowMs, nextMs ?? 'inf', mostSchedules, tenantsOf(whose), tenant, mostOfTenant, this.keys.schedule('')]))
  }

  /** The schedule and Redis' time, in one round trip; null when there is none. */
  async read(id: string): Promise<{ readonly schedule: StoredSchedule | null; readonly nowMs: number }> {
    const [hash, due, time] = ((await this.redis.pipeline().hgetall(this.keys.schedule(id)).zscore(this.keys.schedules(), id).time().exec()) ?? []).map(([error, value]) => {
      if (error !== null) throw error
      return value
    })
    return { schedule: parseSchedule(id, hash, due), nowMs: atMs(time) }
  }

  /** All schedules, the next to run first; two round trips. */
  async all(): Promise<StoredSchedule[]> {
    const listed = z.array(z.string()).parse(await this.redis.zrange(this.keys.schedules(), '0', '-1', 'WITHSCORES'))
    const pipeline = this.redis.pipeline()
    for (let index = 0; index < listed.length; index += 2) pipeline.hgetall(this.keys.schedule(listed[index] ?? ''))
    return ((await pipeline.exec()) ?? []).flatMap(([error, hash], index) => {
      if (error !== null) throw error
      return parseSchedule(listed[2 * index] ?? '', hash, listed[2 * index + 1]) ?? []
    })
  }

  /**
   * Sees to a time of a schedule that has come, or, with `due` null, only to when the next one is due.
   * @param read as it was read.
   * @param jobId of the run that is begun.
   */
  async begin(read: StoredSchedule, due: Due | null, run: { readonly jobId: string; readonly nextMs: number | null; readonly overlap: Overlap }): Promise<Begun> {
    const pass = due?.kind === 'pass' ? [due.count, due.why] : []
    const [kind, text = ''] = beginReply.parse(
      await this.run('schedule-begin', read.id, [
        read.id, read.version, read.handledMs, due?.kind ?? 'wait', due?.slotMs ?? 0, run.nextMs ?? 'inf', run.jobId, run.overlap, mostRunning,
        // Its jobs' ids are the same among all queues.
        this.keys.ofRuns().run(''), this.keys.job(''), rememberedSlots, ...pass,
      ]),
    )
    if (kind === 'changed' || kind === 'done') return { kind }
    return kind === 'skipped' ? { kind, why: text } : { kind, run: parsePending(text) }
  }

  /** The job of a pending run is there. @param read as it was read. @param nextMs when it is due next by that. */
  async settle({ id, version }: StoredSchedule, { json }: PendingRun, nextMs: number | null): Promise<void> {
    await this.run('schedule-settle', id, [id, json, nextMs ?? 'inf', version])
  }

  /** @returns whether there is such a schedule of theirs. */
  async pause(id: string, whose: Whose = null): Promise<boolean> {
    return (await this.run('schedule-pause', id, [id, await this.now(), '', tenantsOf(whose)])) === 1
  }

  /** What it missed is due now. @returns whether there is such a schedule of theirs. */
  async resume(id: string, whose: Whose = null): Promise<boolean> {
    const nowMs = await this.now()
    return (await this.run('schedule-pause', id, [id, nowMs, nowMs, tenantsOf(whose)])) === 1
  }

  /** Its runs go on, and one that is made under its id knows of them. @returns whether there was such a schedule of theirs. */
  async remove(id: string, whose: Whose = null): Promise<boolean> {
    return (await this.run('schedule-remove', id, [id, tenantsOf(whose)])) === 1
  }

  /** It could not be looked at: the others come first for a while. */
  async postpone(id: string, forMs: number): Promise<void> {
    await this.redis.zadd(this.keys.schedules(), 'XX', (await this.now()) + forMs, id)
  }

  /** Schedules whose time came `forMs` ago or earlier, and nobody saw to it; at most `count`. */
  async overdue(forMs: number, count: number): Promise<string[]> {
    return z.array(z.string()).parse(await runScript(this.redis, 'schedule-overdue', [this.keys.schedules(), this.keys.schedulesSeen()], [forMs, setBackMs, count]))
  }

  private async run(script: 'schedule-put' | 'schedule-begin' | 'schedule-settle' | 'schedule-pause' | 'schedule-remove', id: string, args: readonly (string | number)[]): Promise<unknown> {
    return await runScript(this.redis, script, [this.keys.schedule(id), this.keys.schedules(), this.keys.scheduleLeft(id)], args)
  }
}

function tenantsOf(whose: Whose): string {
  return whose === null ? '' : JSON.stringify(whose)
}

const hashSchema = z.object({
  definition: z.string(),
  version: z.string(),
  handled: z.coerce.number(),
  paused: z.string().optional(),
  pending: z.string().optional(),
  last: z.string().optional(),
  skipped: z.string().optional(),
})

function parseSchedule(id: string, hash: unknown, due: unknown): StoredSchedule | null {
  const parsed = hashSchema.safeParse(hash)
  if (!parsed.success) return null
  const { definition, version, handled, paused, pending, last, skipped } = parsed.data
  const dueMs = Number(due)
  return {
    id,
    definition,
    version,
    handledMs: handled,
    paused: paused !== undefined,
    pending: pending === undefined ? null : parsePending(pending),
    last: last === undefined ? null : lastSchema.parse(JSON.parse(last)),
    skipped: skipped === undefined ? null : skippedSchema.parse(JSON.parse(skipped)),
    dueMs: due === null || !Number.isFinite(dueMs) ? null : dueMs,
  }
}

function parsePending(json: string): PendingRun {
  return { ...pendingSchema.parse(JSON.parse(json)), json }
}

function atMs(time: unknown): number {
  const [seconds, micros] = z.tuple([z.coerce.number(), z.coerce.number()]).parse(time)
  return seconds * 1000 + Math.floor(micros / 1000)
}
