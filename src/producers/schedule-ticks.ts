import { Queue } from 'bullmq'
import type { Redis } from 'ioredis'
import { nextSlot, type Timing } from '../job/schedule-slots.js'
import type { Keys } from '../store/index.js'

/** What a tick holds: its schedule. */
export interface Tick {
  readonly scheduleId: string
}

/** Ticks are small and many: nothing of them is kept, and one that fails comes again, at the latest with its schedule's next. */
const tickOptions = { removeOnComplete: true, removeOnFail: true, attempts: 5, backoff: { type: 'exponential', delay: 1_000 } } as const
const keptEvents = 100

/**
 * BullMQ's job schedulers, which wake consumers when a run of a schedule is due. They stand in a queue of their own, under the same name: a
 * scheduler's job makes the next one only when it is taken, so in the queue itself a run that waits for a place would hold up all later ones, and its id
 * (`repeat:ID:TIME`) is no branch's name. A tick says only that it is time to look: what is due is decided by ScheduleStore.
 */
async function withTicks<Result>(redis: Redis, keys: Keys, work: (queue: Queue<Tick>) => Promise<Result>): Promise<Result> {
  const queue = new Queue<Tick>(keys.queueName, { connection: redis, prefix: keys.ticksPrefix(), skipWaitingForReady: true, streams: { events: { maxLen: keptEvents } } })
  // Faults reach whoever called.
  queue.on('error', () => undefined)
  try {
    await queue.waitUntilReady()
    return await work(queue)
  } finally {
    await queue.close()
  }
}

/**
 * Wakes consumers at each of a schedule's times.
 * @param nowMs by Redis' clock.
 * @param anew whether ticks that there are go first: BullMQ keeps the time of the next one, which may be hours off where a clock was when it was made.
 */
export async function startTicks(redis: Redis, keys: Keys, id: string, timing: Timing, nowMs: number, anew = false): Promise<void> {
  await withTicks(redis, keys, async (queue) => {
    if (anew) await queue.removeJobScheduler(id)
    // BullMQ goes by the clocks of those who ask it.
    const repeat = 'cron' in timing ? { pattern: timing.cron, tz: timing.timezone } : { every: timing.everyMs, startDate: Date.now() + (nextSlot(timing, nowMs) ?? nowMs) - nowMs }
    try {
      await queue.upsertJobScheduler(id, repeat, { name: 'tick', data: { scheduleId: id }, opts: tickOptions })
    } catch (error) {
      // The tick for its next time is there already, and in hand.
      if (!(error instanceof Error && /already exists|slots? .*(busy|taken)/i.test(error.message))) throw error
    }
  })
}

/** Wakes a consumer now. */
export async function tickNow(redis: Redis, keys: Keys, id: string): Promise<void> {
  await withTicks(redis, keys, (queue) => queue.add('tick', { scheduleId: id }, tickOptions))
}

/** Nobody is woken any more. */
export async function stopTicks(redis: Redis, keys: Keys, id: string): Promise<void> {
  await withTicks(redis, keys, (queue) => queue.removeJobScheduler(id))
}
