import type { Redis } from 'ioredis'
import { z } from 'zod'
import type { Keys } from './keys.js'

/** How much a queue holds. */
export interface QueueFigures {
  /** By BullMQ's states; `waiting` is what nobody has taken and nothing delays. */
  readonly jobs: Readonly<Record<'waiting' | 'delayed' | 'active' | 'completed' | 'failed', number>>
  readonly paused: boolean
  /** When the oldest waiting job was enqueued, in milliseconds since 1970; null when none waits. */
  readonly oldestAtMs: number | null
  /** When the job was enqueued that is in hand for longest; null when none is. */
  readonly oldestActiveAtMs: number | null
}

/** Priorities whose first job is looked at: one with more than these in use is asked about those first in the queue. */
const mostPriorities = 16
/** BullMQ's score of a waiting job is its priority times this, and its arrival. */
const perPriority = 2 ** 32
const timestamp = z.coerce.number()

/** Counts a queue: a few commands, of which none costs more the more waits. */
export async function queueFigures(redis: Redis, keys: Keys): Promise<QueueFigures> {
  const part = (name: string) => `${keys.prefix}:${keys.queueName}:${name}`
  const [wait, pausedList, prioritized, delayed, active, completed, failed, paused, last, longestActive] = await Promise.all([
    redis.llen(part('wait')),
    redis.llen(part('paused')),
    redis.zcard(part('prioritized')),
    redis.zcard(part('delayed')),
    redis.llen(part('active')),
    redis.zcard(part('completed')),
    redis.zcard(part('failed')),
    redis.hexists(part('meta'), 'paused'),
    redis.lindex(part('wait'), -1),
    redis.lindex(part('active'), -1),
  ])
  const firsts = last === null ? [] : [last]
  // The first of each priority came before the others of it.
  let from = '-inf'
  for (let looked = 0; prioritized > 0 && looked < mostPriorities; looked++) {
    const [jobId, score] = await redis.zrangebyscore(part('prioritized'), from, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    if (jobId === undefined || score === undefined) break
    firsts.push(jobId)
    from = String((Math.floor(Number(score) / perPriority) + 1) * perPriority)
  }
  const enqueuedAtMs = async (jobIds: readonly string[]) => {
    const times = await Promise.all(jobIds.map((jobId) => redis.hget(keys.job(jobId), 'timestamp')))
    const known = times.flatMap((text) => (text === null ? [] : timestamp.safeParse(text).data ?? []))
    return known.length === 0 ? null : Math.min(...known)
  }
  const [oldestAtMs, oldestActiveAtMs] = await Promise.all([enqueuedAtMs(firsts), enqueuedAtMs(longestActive === null ? [] : [longestActive])])
  return { jobs: { waiting: wait + pausedList + prioritized, delayed, active, completed, failed }, paused: paused === 1, oldestAtMs, oldestActiveAtMs }
}

/** How far a group of readers is behind: when the oldest event was written that it has not read, in milliseconds since 1970; null when there is none. */
export async function oldestUnreadAtMs(redis: Redis, keys: Keys, group: string): Promise<number | null> {
  const [account = ''] = keys.eventGroup(group)
  const last = await redis.hget(account, 'last')
  if (last === null) return null
  const [next] = await redis.xrange(keys.events(), `(${last}`, '+', 'COUNT', 1)
  return next === undefined ? null : Number(next[0].split('-')[0])
}

/** How many events there were in all. */
export async function eventsAdded(redis: Redis, keys: Keys): Promise<number> {
  return Number((await redis.hget(keys.eventAccount(), 'added')) ?? 0)
}
