import { createHash } from 'node:crypto'
import { UnknownJobError } from '../job/errors.js'
import type { EventKind } from '../job/event-kinds.js'
import { dueOf, nextSlot, type Due } from '../job/schedule-slots.js'
import { defaultMaxSpecBytes, type JobSpec } from '../job/spec.js'
import { type Keys, type PendingRun, ScheduleStore, type StoredSchedule } from '../store/index.js'
import { cancelJob } from './job-cancel.js'
import { Enqueuing } from './enqueuing.js'
import type { Connected } from './producer-connection.js'
import { readDefinition, type ScheduleDefinition } from './schedule-definition.js'
import { startTicks, stopTicks } from './schedule-ticks.js'

/** A clock may be so far ahead of Redis', in milliseconds, that a tick comes early. */
const earlyMs = 250
/** How long the others come before a schedule that could not be looked at, in milliseconds. */
const postponedMs = 30_000
/** After so many changes by others while it was looked at, a schedule is left to the next tick. */
const mostTries = 20

export interface ScheduledRunsParts {
  readonly connected: Connected
  readonly keys: Keys
  readonly retentionMs: number
  /** What the events of jobs that are replaced name as their source. */
  readonly eventSource: string
  /** What is told of all jobs besides their end. */
  readonly eventTypes?: readonly EventKind[] | undefined
  /** A run was not begun; `why` is a clause. */
  readonly onSkipped: (run: { readonly schedule: string; readonly scheduledAt: string; readonly why: string }) => void
}

/** What a look at a schedule found; times are in milliseconds since 1970 by Redis' clock. */
export interface Looked {
  /** How many times were seen to. */
  readonly handled: number
  readonly nowMs: number
  /** Null when none comes any more. */
  readonly nextMs: number | null
}

/**
 * Begins the runs of schedules, when a tick says that it is time, or somebody finds one that nobody woke them for:
 *
 *   due ──► passed (missed, or its predecessor has not ended): said
 *    └────► decided, with the job's id (ScheduleStore.begin) ──► what it replaces is cancelled ──► enqueued ──► settled
 *
 * Whoever finds a decided one that is not settled goes on with it: each step may be done twice.
 */
export class ScheduledRuns {
  readonly #store: ScheduleStore

  constructor(private readonly parts: ScheduledRunsParts) {
    this.#store = new ScheduleStore(parts.connected.redis, parts.keys)
  }

  /**
   * Sees to all that is due of a schedule.
   * @returns null when there is none, or it is paused.
   * @throws NewerReleaseError for one that this release can't read, RedisUnavailableError.
   */
  async look(id: string): Promise<Looked | null> {
    for (let tries = 0; tries < mostTries; tries++) {
      const { schedule, nowMs } = await this.#store.read(id)
      if (schedule === null) return await this.#leave(id)
      const definition = readDefinition(id, schedule.definition)
      const untilMs = nowMs + earlyMs
      const nextMs = nextSlot(definition.timing, Math.max(schedule.handledMs, untilMs))
      if (schedule.pending !== null) {
        await this.#carryOut(schedule, definition, schedule.pending, nextMs)
        continue
      }
      if (schedule.paused) return await this.#leave(id)
      const seen = await this.#begin(schedule, definition, dueOf(definition, schedule.handledMs, untilMs), nextMs)
      if (seen === null) continue
      return { handled: seen, nowMs, nextMs }
    }
    return null
  }

  /**
   * Those that are due and have been for `forMs`; their ticks, which were lost, begin anew.
   * @param onFailed told of one that could not be looked at; it comes again after a while.
   * @returns how many there were.
   */
  async lookAtOverdue(forMs: number, count: number, onFailed: (id: string, error: unknown) => void): Promise<number> {
    const ids = await this.#store.overdue(forMs, count)
    for (const id of ids) {
      try {
        await this.look(id)
        await this.#restartTicks(id)
      } catch (error) {
        onFailed(id, error)
        await this.#store.postpone(id, postponedMs)
      }
    }
    return ids.length
  }

  /** Whoever removed or paused it may have died before its ticks were stopped: they would wake consumers for ever. */
  async #leave(id: string): Promise<null> {
    await stopTicks(this.parts.connected.redis, this.parts.keys, id)
    return null
  }

  async #restartTicks(id: string): Promise<void> {
    const { connected, keys } = this.parts
    const { schedule, nowMs } = await this.#store.read(id)
    if (schedule === null) await this.#store.remove(id)
    else if (!schedule.paused) await startTicks(connected.redis, keys, id, readDefinition(id, schedule.definition).timing, nowMs, true)
  }

  /** @returns how many times were seen to; null when the schedule is to be read again. */
  async #begin(schedule: StoredSchedule, definition: ScheduleDefinition, due: readonly Due[], nextMs: number | null): Promise<number | null> {
    const { id } = schedule
    if (due.length === 0) {
      const begun = await this.#store.begin(schedule, null, { jobId: '', nextMs, overlap: definition.overlap })
      return begun.kind === 'done' ? 0 : null
    }
    let read = schedule
    for (const [index, each] of due.entries()) {
      const jobId = scheduledJobId(this.parts.keys.queueName, id, each.slotMs)
      // While some are left it is due.
      const thenMs = due[index + 1]?.slotMs ?? nextMs
      const begun = await this.#store.begin(read, each, { jobId, nextMs: thenMs, overlap: definition.overlap })
      if (begun.kind === 'changed' || begun.kind === 'pending' || each.kind === 'reset') return null
      if (begun.kind === 'skipped') this.parts.onSkipped({ schedule: id, scheduledAt: new Date(each.slotMs).toISOString(), why: begun.why })
      if (begun.kind === 'run') await this.#carryOut(schedule, definition, begun.run, thenMs)
      read = { ...read, handledMs: each.slotMs }
    }
    return due.length
  }

  async #carryOut(schedule: StoredSchedule, { spec }: ScheduleDefinition, run: PendingRun, nextMs: number | null): Promise<void> {
    const { connected, eventSource } = this.parts
    const { id } = schedule
    const scheduledAt = new Date(run.slotMs).toISOString()
    for (const jobId of run.replaces) {
      try {
        await cancelJob(connected, jobId, `replaced by the run of schedule "${id}" for ${scheduledAt}`, eventSource)
      } catch (error) {
        // Gone meanwhile, with all that was known of it.
        if (!(error instanceof UnknownJobError)) throw error
      }
    }
    // Whoever decided it may have added it before it died, and it may have been cancelled, or dropped, since: then BullMQ does not hold it any more.
    const [standing] = await connected.store.standings([run.jobId])
    if (standing?.known !== true) await this.#add(id, spec, run, scheduledAt)
    await this.#store.settle(schedule, run, nextMs)
  }

  async #add(id: string, spec: JobSpec, run: PendingRun, scheduledAt: string): Promise<void> {
    const { connected, keys, retentionMs, eventSource, eventTypes } = this.parts
    // It was checked when the schedule was made, against that producer's limit.
    const maxSpecBytes = Math.max(defaultMaxSpecBytes, Buffer.byteLength(JSON.stringify(spec)))
    const enqueuing = new Enqueuing({ name: keys.queueName, keys, defaults: undefined, maxSpecBytes, retentionMs, eventSource, eventTypes })
    await enqueuing.add(connected, [{ jobId: run.jobId, spec: { ...spec, metadata: { schedule: id, scheduledAt, ...spec.metadata } } }], {})
  }
}

/** The job of a schedule's run: the same whoever begins it, another in each queue; readable, since its branches are named after it. */
export function scheduledJobId(queueName: string, id: string, slotMs: number): string {
  const stamp = new Date(slotMs).toISOString().replace(/[-:]|\.\d+/g, '')
  return `${id}-${stamp}-${createHash('sha256').update(`${queueName}\0${id}\0${slotMs}`).digest('hex').slice(0, 8)}`
}
