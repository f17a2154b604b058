import { DelayedError, Worker } from 'bullmq'
import type { Redis } from 'ioredis'
import type { Logger } from 'pino'
import type { EventKind } from '../job/event-kinds.js'
import { errorMessage } from '../job/errors.js'
import { connectTo, type Connected } from '../producers/producer-connection.js'
import type { Tick } from '../producers/schedule-ticks.js'
import { ScheduledRuns } from '../producers/scheduled-runs.js'
import type { Keys } from '../store/index.js'
import type { Metrics } from '../telemetry/metrics.js'

/** How long a consumer sleeps where no tick is due, in seconds; ticks wake it. Below what a silent connection is given up after (store/connection.ts). */
const sleepSeconds = 8
/** How long a consumer waits after Redis has refused to give it a tick, in milliseconds. */
const refusedMs = 1_000
/** Schedules that are looked at side by side. */
const concurrency = 4
/** How many overdue schedules are looked at in one go. */
const overdueAtOnce = 16

class TickWorker extends Worker<Tick> {
  /** BullMQ's own, for when the next tick is known, is as long as a connection may be silent. */
  override get maximumBlockTimeout(): number {
    return sleepSeconds
  }

  /** BullMQ's loop asks again at once, hundreds of times a second, where Redis answers that its memory is full. */
  protected override async moveToActive(...asked: Parameters<Worker<Tick>['moveToActive']>): ReturnType<Worker<Tick>['moveToActive']> {
    try {
      return await super.moveToActive(...asked)
    } catch (error) {
      if (this.closing === undefined) await this.delay(refusedMs)
      throw error
    }
  }
}

export interface ScheduleWatchParts {
  readonly redis: Redis
  readonly keys: Keys
  readonly deployment: string
  readonly retentionMs: number
  /** How often schedules are looked for whose tick was lost, and how late they are then, in milliseconds. */
  readonly everyMs: number
  readonly log: Logger
  readonly metrics: Metrics
  /** Told each time that overdue ones were looked for. */
  readonly onTurn?: (() => void) | undefined
  /** What is told of all jobs besides their end. */
  readonly eventTypes?: readonly EventKind[] | undefined
}

/**
 * Begins the runs of the queue's schedules: when a tick of BullMQ's job schedulers wakes it, and, should that be lost (removed by hand, a
 * consumer's clock that is behind), when it finds one overdue. Any consumer of the queue does it, whatever it can run.
 */
export class ScheduleWatch {
  private connected: Connected | undefined
  private worker: TickWorker | undefined
  private timer: NodeJS.Timeout | undefined
  private looking: Promise<void> = Promise.resolve()
  private stopped = false

  constructor(private readonly parts: ScheduleWatchParts) {}

  async start(): Promise<void> {
    const { redis, keys, deployment, retentionMs, everyMs, log, metrics, eventTypes } = this.parts
    this.connected = await connectTo(redis, keys, retentionMs, metrics)
    const runs = new ScheduledRuns({
      connected: this.connected,
      keys,
      retentionMs,
      eventSource: `/switchyard/${deployment}`,
      eventTypes,
      onSkipped: (run) => log.info(run, 'a scheduled run was not begun'),
    })
    this.worker = new TickWorker(
      keys.queueName,
      async (tick, token) => {
        const looked = await runs.look(tick.data.scheduleId)
        // This machine's clock is ahead of Redis', which schedules go by.
        const atMs = Number(/^repeat:.*:(\d+)$/.exec(tick.id ?? '')?.[1])
        if (looked === null || looked.handled > 0 || !(atMs > looked.nowMs)) return
        await tick.moveToDelayed(Date.now() + (atMs - looked.nowMs), token)
        throw new DelayedError()
      },
      { connection: redis, prefix: keys.ticksPrefix(), concurrency, drainDelay: sleepSeconds, removeOnComplete: { count: 0 }, removeOnFail: { count: 0 } },
    )
    this.worker.on('error', (error) => log.warn({ message: error.message }, 'schedules'))
    this.worker.on('failed', (tick, error) => log.warn({ schedule: tick?.data.scheduleId, message: error.message }, 'schedule not looked at; tried again'))
    this.timer = setInterval(() => {
      // One at a time: Redis may be away.
      this.looking = this.looking.then(() => this.lookAtOverdue(runs, everyMs))
    }, everyMs)
  }

  async stop(): Promise<void> {
    this.stopped = true
    clearInterval(this.timer)
    await Promise.all([this.worker?.close(), this.looking])
    await this.connected?.queue.close()
  }

  private async lookAtOverdue(runs: ScheduledRuns, forMs: number): Promise<void> {
    const { log } = this.parts
    const onFailed = (schedule: string, error: unknown) => log.warn({ schedule, message: errorMessage(error) }, 'schedule not looked at; tried again')
    try {
      while (!this.stopped && (await runs.lookAtOverdue(forMs, overdueAtOnce, onFailed)) === overdueAtOnce) continue
    } catch (error) {
      if (!this.stopped) log.warn({ message: errorMessage(error) }, 'overdue schedules not looked at; tried again')
    }
    this.parts.onTurn?.()
  }
}
