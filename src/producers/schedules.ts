import { InvalidInputError, NewerReleaseError, UnknownScheduleError } from '../job/errors.js'
import type { JobResult } from '../job/result.js'
import { nextSlot, type Timing } from '../job/schedule-slots.js'
import { type Missed, type Overlap, parseSchedule, parseScheduleId, type ScheduleInput } from '../job/schedule.js'
import type { JobSpec } from '../job/spec.js'
import { type Keys, mostOfTenant, mostSchedules, ScheduleStore, type StoredSchedule } from '../store/index.js'
import { checkObject } from '../job/call-options.js'
import type { Connected } from './producer-connection.js'
import { readDefinition, type ScheduleDefinition, shownDefinition } from './schedule-definition.js'
import { startTicks, stopTicks, tickNow } from './schedule-ticks.js'

/** A schedule as it stands. Times are ISO 8601, in UTC. */
export interface Schedule {
  readonly id: string
  /** Null where it goes by `everyMs`. */
  readonly cron: string | null
  readonly timezone: string | null
  readonly everyMs: number | null
  readonly missed: Missed
  readonly overlap: Overlap
  /** As checked, with its defaults. */
  readonly job: JobSpec
  readonly paused: boolean
  /** When the next run is due; past when no consumer has seen to it yet, null while it is paused. */
  readonly nextRunAt: string | null
  /** The run that was begun last; `result` is null while it has not ended, and once it is past its retention. */
  readonly last: { readonly scheduledAt: string; readonly jobId: string; readonly result: JobResult | null } | null
  /** What was not begun last: how many times, up to which, and why (a clause). */
  readonly skipped: { readonly scheduledAt: string; readonly count: number; readonly why: string } | null
}

/** For callers that are limited to tenants: a schedule of another's is as unknown as one that never was. */
export interface ScheduleOwners {
  /** Null for all. */
  readonly tenants?: readonly string[] | null | undefined
}

type Use = <Result>(work: (connected: Connected) => Promise<Result>) => Promise<Result>

/** Schedules of a queue: jobs that are enqueued again and again, by Redis' clock, by whichever consumer is there. */
export class Schedules {
  constructor(
    private readonly keys: Keys,
    /** Checks a job. */
    private readonly checked: (spec: unknown) => JobSpec,
    private readonly use: Use,
  ) {}

  /**
   * Makes a schedule, or changes the one that has this id. With other times it begins anew; a paused one stays paused.
   * @param id letters, digits, `_`, `-` and dots: the ids of its jobs begin with it.
   * @throws InvalidInputError, RedisUnavailableError.
   */
  async upsert(id: string, input: ScheduleInput, owners: ScheduleOwners = {}): Promise<Schedule> {
    const tenants = tenantsOf(owners)
    parseScheduleId(id)
    const { job, ...rules } = parseSchedule(input)
    const definition: ScheduleDefinition = { ...rules, spec: this.#checkedJob(job) }
    return await this.use(async (connected) => {
      const store = new ScheduleStore(connected.redis, this.keys)
      const nowMs = await store.now()
      const { timing } = rules
      const put = await store.put(id, { definition: JSON.stringify(definition), times: JSON.stringify(timing), nowMs, nextMs: nextSlot(timing, nowMs), tenant: definition.spec.tenant }, tenants)
      if (put === 'foreign') throw new InvalidInputError(`schedule id: "${id}" is another tenant's; choose another one`)
      if (put === 'tenant-full') throw new InvalidInputError(`schedules: tenant "${definition.spec.tenant ?? ''}" has ${mostOfTenant} in this queue already, as many as whoever is limited to tenants may make; remove one that is not needed`)
      if (put === 'full') throw new InvalidInputError(`schedules: there are ${mostSchedules} in this queue already, as many as there may be; remove one that is not needed`)
      const { schedule } = await store.read(id)
      // As it stands by now: another process may have put it besides.
      if (schedule !== null && !schedule.paused) await startTicks(connected.redis, this.keys, id, readDefinition(id, schedule.definition).timing, nowMs)
      return await this.#get(connected, id)
    })
  }

  /** All schedules, the next to run first, paused ones last; those of a newer release that can be shown too. @throws RedisUnavailableError. */
  async list(): Promise<Schedule[]> {
    return await this.use(async (connected) => describe(connected, await new ScheduleStore(connected.redis, this.keys).all()))
  }

  /** @throws UnknownScheduleError, NewerReleaseError for one that this release can't show, RedisUnavailableError. */
  async get(id: string): Promise<Schedule> {
    checkId(id)
    return await this.use((connected) => this.#get(connected, id))
  }

  /** No run is begun until it is resumed; those under way go on. @throws UnknownScheduleError, RedisUnavailableError. */
  async pause(id: string, owners: ScheduleOwners = {}): Promise<void> {
    const tenants = tenantsOf(owners)
    checkId(id)
    await this.use(async ({ redis }) => {
      if (!(await new ScheduleStore(redis, this.keys).pause(id, tenants))) throw new UnknownScheduleError(id)
      await stopTicks(redis, this.keys, id)
    })
  }

  /** Goes on; what was missed meanwhile is seen to at once, as `missed` says. @throws UnknownScheduleError, RedisUnavailableError. */
  async resume(id: string, owners: ScheduleOwners = {}): Promise<void> {
    const tenants = tenantsOf(owners)
    checkId(id)
    await this.use(async ({ redis }) => {
      const store = new ScheduleStore(redis, this.keys)
      if (!(await store.resume(id, tenants))) throw new UnknownScheduleError(id)
      const { schedule, nowMs } = await store.read(id)
      if (schedule === null) throw new UnknownScheduleError(id)
      await startTicks(redis, this.keys, id, readDefinition(id, schedule.definition).timing, nowMs)
      await tickNow(redis, this.keys, id)
    })
  }

  /** Begins no more runs; those under way go on. @throws UnknownScheduleError, RedisUnavailableError. */
  async remove(id: string, owners: ScheduleOwners = {}): Promise<void> {
    const tenants = tenantsOf(owners)
    checkId(id)
    await this.use(async ({ redis }) => {
      const was = await new ScheduleStore(redis, this.keys).remove(id, tenants)
      if (!was && tenants !== null) throw new UnknownScheduleError(id)
      await stopTicks(redis, this.keys, id)
      if (!was) throw new UnknownScheduleError(id)
    })
  }

  async #get(connected: Connected, id: string): Promise<Schedule> {
    const { schedule } = await new ScheduleStore(connected.redis, this.keys).read(id)
    if (schedule === null) throw new UnknownScheduleError(id)
    const [described] = await describe(connected, [schedule])
    if (described === undefined) throw new NewerReleaseError(`schedule "${id}" can't be read by this release; update this process to the one that wrote it`)
    return described
  }

  /** Problems name the field within `job`. */
  #checkedJob(job: unknown): JobSpec {
    try {
      return this.checked(job)
    } catch (error) {
      if (!(error instanceof InvalidInputError)) throw error
      const problems = error.problems.map((problem) => (problem.startsWith('job spec') ? problem.replace('job spec', 'job') : `job.${problem}`))
      throw new InvalidInputError(problems[0] ?? '', problems)
    }
  }
}

function tenantsOf(owners: ScheduleOwners): readonly string[] | null {
  checkObject(owners, 'schedule owners')
  return owners.tenants ?? null
}

function checkId(id: unknown): void {
  if (typeof id !== 'string') throw new InvalidInputError('schedule id: must be a text')
}

async function describe({ store }: Connected, schedules: readonly StoredSchedule[]): Promise<Schedule[]> {
  const standings = await store.standings(schedules.flatMap(({ last }) => last?.jobId ?? []))
  const results = new Map(schedules.flatMap(({ last }) => last?.jobId ?? []).map((jobId, index) => [jobId, standings[index]?.result ?? null]))
  return schedules.flatMap(({ id, definition, paused, dueMs, last, skipped }) => {
    const shown = shownDefinition(definition)
    if (shown === null) return []
    const { timing, missed, overlap, spec } = shown
    return {
      id,
      ...timesOf(timing),
      missed,
      overlap,
      job: spec,
      paused,
      nextRunAt: paused || dueMs === null ? null : instant(dueMs),
      last: last === null ? null : { scheduledAt: instant(last.slotMs), jobId: last.jobId, result: results.get(last.jobId) ?? null },
      skipped: skipped === null ? null : { scheduledAt: instant(skipped.slotMs), count: skipped.count, why: skipped.why },
    }
  })
}

function timesOf(timing: Timing): Pick<Schedule, 'cron' | 'timezone' | 'everyMs'> {
  return 'cron' in timing ? { ...timing, everyMs: null } : { cron: null, timezone: null, everyMs: timing.everyMs }
}

function instant(atMs: number): string {
  return new Date(atMs).toISOString()
}
