import type { Redis } from 'ioredis'
import { z } from 'zod'
import type { Keys } from './keys.js'
import { runScript } from './scripts.js'

/** An entry of the event stream in a reader's hands. */
export interface TakenEntry {
  /** Its id in the stream, or what stands for it where it is not in there. */
  readonly id: string
  /** The how many-th time it was taken, from 1. */
  readonly attempt: number
  /** As it was written; may be anything. */
  readonly json: string
  /** The number of the last entry of the job's log; null in what an earlier release wrote. */
  readonly logEnd: number | null
}

/** An event that was given up by a group. */
export interface DeadLetter extends TakenEntry {
  /** Among the dead letters. */
  readonly letterId: string
  readonly error: string
  /** Milliseconds since 1970, by Redis' clock. */
  readonly diedAtMs: number
}

/** How a group of readers stands. */
export interface EventGroupState {
  readonly group: string
  /** Events that are kept and nobody of the group has read. */
  readonly unread: number
  /** Events that were read and are not done: handled now, waiting for their next attempt, or behind one of their job. */
  readonly pending: number
  readonly deadLetters: number
  /** How many events died so far, and how many of these their bound has removed since. */
  readonly died: number
  readonly dropped: number
  /** How many events were trimmed before the group had handled them. */
  readonly missed: number
  /** Why its receiver is sent nothing more, and since when (milliseconds since 1970); null while it is. */
  readonly stopped: { readonly why: string; readonly atMs: number } | null
}

/** When an event is given up, and how much is kept of what was. */
export interface EventPatience {
  readonly attempts: number
  readonly maxDeadLetters: number
  readonly maxDeadLetterBytes: number
}

/** What a group is given: events of some kinds, or those that go to a webhook of their job with this number. */
export type EventsWanted = { readonly kinds: readonly string[] } | { readonly hook: number }

const pairsSchema = z.array(z.string()).transform((flat) => {
  const fields: Record<string, string> = {}
  for (let index = 0; index + 1 < flat.length; index += 2) fields[flat[index] ?? ''] = flat[index + 1] ?? ''
  return fields
})
const takeReply = z.tuple([
  z.array(z.tuple([z.string(), z.number(), z.string(), z.string()])),
  z.number(),
  z.string(),
  z.number(),
])
const settleReply = z.tuple([z.enum(['stale', 'done', 'again', 'dead']), z.number()])
const letterFields = z.object({ id: z.string(), attempts: z.coerce.number(), error: z.string(), at: z.coerce.number(), log: z.string(), event: z.string() })
const groupsReply = z.array(z.array(z.unknown()))
const logEndOf = (text: string) => (text === '' ? null : Number(text))

/** A group of readers of the completion events; its rules are those of lua/event-group.lua. */
export class EventGroup {
  readonly #redis: Redis
  readonly #keys: readonly string[]
  readonly #own: readonly string[]

  constructor(
    redis: Redis,
    keys: Keys,
    readonly group: string,
  ) {
    this.#redis = redis
    this.#own = keys.eventGroup(group)
    this.#keys = [keys.events(), ...this.#own]
  }

  /**
   * Makes the group unless it is there.
   * @param from `$` for what comes, or the id of the entry behind which it begins.
   * @param again whether the caller had it before, and Redis has lost it: what is known of where it was comes before `from`.
   * @returns whether it was made.
   */
  async open(from: string, again = false): Promise<boolean> {
    return (await runScript(this.#redis, 'event-open', this.#keys, [this.group, from, again ? 1 : ''])) === 1
  }

  /**
   * Takes what is to be handled, and passes by what is not wanted.
   * @param ask.room how many at most; `dueRoom` of them may be such as have failed before, and `newFirst` puts these behind.
   * @param ask.leaseMs when it comes to others unless `keep` is called before.
   * @param receiver stands for where they go; nothing is taken for one that was stopped.
   * @returns also in how many milliseconds more is due (null: nothing is), up to where the stream was read, and whether there may be more now.
   * @throws NOGROUP from Redis when the group is not there.
   */
  async take(
    ask: { readonly room: number; readonly dueRoom: number; readonly newFirst: boolean; readonly leaseMs: number },
    patience: EventPatience,
    wanted: EventsWanted,
    receiver = '',
  ): Promise<{ entries: TakenEntry[]; dueInMs: number | null; readUpTo: string; more: boolean }> {
    const { attempts, maxDeadLetters, maxDeadLetterBytes } = patience
    const reply = await runScript(this.#redis, 'event-take', this.#keys, [
      this.group, ask.room, ask.dueRoom, ask.newFirst ? 1 : 0, ask.leaseMs, attempts, maxDeadLetters, maxDeadLetterBytes,
      'hook' in wanted ? `#${wanted.hook}` : `,${wanted.kinds.join(',')},`, receiver,
    ])
    const [entries, dueInMs, readUpTo, more] = takeReply.parse(reply)
    return {
      entries: entries.map(([id, attempt, json, log]) => ({ id, attempt, json, logEnd: logEndOf(log) })),
      dueInMs: dueInMs < 0 ? null : dueInMs,
      readUpTo,
      more: more === 1,
    }
  }

  /** @returns whether another event of its job is due by that. */
  async done(entry: TakenEntry): Promise<boolean> {
    const reply = await runScript(this.#redis, 'event-settle', this.#keys, [this.group, entry.id, entry.attempt, 'done'])
    return settleReply.parse(reply)[1] === 1
  }

  /**
   * @param stopped the receiver that wants no more: nothing is taken for it until `resume`.
   * @returns what becomes of it: it is tried again after `backoffMs`, it is a dead letter now, or others had taken it since (`stale`).
   */
  async failed(entry: TakenEntry, why: string, backoffMs: number, patience: EventPatience, stopped = ''): Promise<'again' | 'dead' | 'stale'> {
    const { attempts, maxDeadLetters, maxDeadLetterBytes } = patience
    const reply = await runScript(this.#redis, 'event-settle', this.#keys, [
      this.group, entry.id, entry.attempt, `!${why}`, backoffMs, attempts, maxDeadLetters, maxDeadLetterBytes, stopped,
    ])
    const [outcome] = settleReply.parse(reply)
    return outcome === 'done' ? 'stale' : outcome
  }

  /** Gives an entry back of which nothing was tried: it comes again after `afterMs`, with as many attempts before it. */
  async putOff(entry: TakenEntry, afterMs: number): Promise<void> {
    await runScript(this.#redis, 'event-settle', this.#keys, [this.group, entry.id, entry.attempt, 'later', afterMs])
  }

  /** Lets a receiver that was stopped have what there is. @returns whether it was stopped. */
  async resume(): Promise<boolean> {
    return (await this.#redis.hdel(this.#own[0] ?? '', 'stopped')) === 1
  }

  /** What every look of a reader changes; null when nobody has looked yet. */
  async clock(): Promise<string | null> {
    return await this.#redis.hget(this.#own[0] ?? '', 'clock')
  }

  /** Removes the group when nobody has looked for so long, and since that clock was seen. @returns whether it is gone. */
  async removeUnread(clock: string, idleMs: number): Promise<boolean> {
    return (await runScript(this.#redis, 'event-remove', this.#keys, [this.group, idleMs, clock])) === 1
  }

  /** Keeps entries in this reader's hands for another `leaseMs`. */
  async keep(entries: readonly TakenEntry[], leaseMs: number): Promise<void> {
    await runScript(this.#redis, 'event-keep', this.#keys, [this.group, leaseMs, ...entries.flatMap(({ id, attempt }) => [id, attempt])])
  }

  /** Dead letters, the oldest first. @param page.after the letter behind which to begin. */
  async deadLetters(page: { readonly after?: string | undefined; readonly limit: number }): Promise<DeadLetter[]> {
    // Redis takes no interval that begins behind the last id there can be.
    if (page.after === '18446744073709551615-18446744073709551615') return []
    const from = page.after === undefined ? '-' : `(${page.after}`
    const found = await this.#redis.xrange(this.#own.at(-1) ?? '', from, '+', 'COUNT', page.limit)
    return found.map(([letterId, flat]) => {
      const { id, attempts, error, at, log, event } = letterFields.parse(pairsSchema.parse(flat))
      return { letterId, id, attempt: attempts, json: event, logEnd: logEndOf(log), error, diedAtMs: at }
    })
  }

  /** Sets the group to where it gets every event behind this entry, again or for the first time. */
  async replay(after: string): Promise<void> {
    await runScript(this.#redis, 'event-replay', this.#keys, [this.group, after])
  }

  /** Gives dead letters back to the group, with all their attempts before them. @returns how many there were. */
  async redeliver(letterIds: readonly string[]): Promise<number> {
    if (letterIds.length === 0) return 0
    return z.number().parse(await runScript(this.#redis, 'event-redeliver', this.#keys, [this.group, ...letterIds]))
  }
}

const keptFields = z.object({ id: z.string().optional(), event: z.string().default(''), log: z.string().default('') })

/** An event's JSON, with the id that lua/event-append.lua left out. */
function withId(json: string, id: string | undefined): string {
  return id === undefined || !json.startsWith('{') || json.startsWith('{"id":') ? json : `{"id":${JSON.stringify(id)},${json.slice(1)}`
}

/** Events of the stream behind an entry, the oldest first. */
export async function eventsAfter(redis: Redis, keys: Keys, after: string, limit: number): Promise<Pick<TakenEntry, 'id' | 'json' | 'logEnd'>[]> {
  const found = await redis.xrange(keys.events(), `(${after}`, '+', 'COUNT', limit)
  return found.map(([id, flat]) => {
    const { id: eventId, event, log } = keptFields.parse(pairsSchema.parse(flat))
    return { id, json: withId(event, eventId), logEnd: logEndOf(log) }
  })
}

/** Events behind a point that are gone: how many at most, and the first that is kept. */
export interface TrimmedBehind {
  /** All that were trimmed so far: of those nobody knows any more which were before the point. */
  readonly atMost: number
  /** The sequence of the first event that is kept; null where none is. */
  readonly firstKept: string | null
}

const numberedFields = z.object({ n: z.coerce.number().optional() })

/** What was trimmed behind an entry, as far as can be told; null when all that came behind it is there. */
export async function trimmedBehind(redis: Redis, keys: Keys, after: string): Promise<TrimmedBehind | null> {
  const [first] = await redis.xrange(keys.events(), '-', '+', 'COUNT', 1)
  if (first === undefined) {
    const added = Number((await redis.hget(keys.eventAccount(), 'added')) ?? 0)
    return added === 0 ? null : { atMost: added, firstKept: null }
  }
  const [firstKept, flat] = first
  const { n = 1 } = numberedFields.parse(pairsSchema.parse(flat))
  return n <= 1 || !isBefore(after, firstKept) ? null : { atMost: n - 1, firstKept }
}

/** Whether one entry's id is before another's. */
function isBefore(a: string, b: string): boolean {
  const [aMs = 0n, aNumber = 0n] = a.split('-').map(BigInt)
  const [bMs = 0n, bNumber = 0n] = b.split('-').map(BigInt)
  return aMs === bMs ? aNumber < bNumber : aMs < bMs
}

/** How all groups stand, by name; two round trips. */
export async function eventGroups(redis: Redis, keys: Keys): Promise<EventGroupState[]> {
  const groups = groupsReply.parse(await redis.xinfo('GROUPS', keys.events()).catch(noStream)).map((flat) => String(flat[flat.indexOf('name') + 1]))
  const pipeline = redis.pipeline()
  pipeline.hget(keys.eventAccount(), 'added').xlen(keys.events())
  for (const group of groups) {
    const [account = '', , state = '', , , , dead = ''] = keys.eventGroup(group)
    pipeline.hlen(state).xlen(dead).hmget(account, 'died', 'dropped', 'missed', 'read').hget(account, 'stopped')
  }
  const [added, kept, ...answers] = ((await pipeline.exec()) ?? []).map(([error, answer]) => {
    if (error !== null) throw error
    return answer
  })
  return groups.map((group, index) => {
    const [pending, deadLetters, counts, stopped] = answers.slice(4 * index, 4 * index + 4)
    const [died = 0, dropped = 0, missed = 0, read = 0] = z.array(z.coerce.number()).parse(counts)
    // Redis' own count of them is wrong once some were trimmed.
    const unread = Math.max(Math.min(Number(added ?? 0) - read, Number(kept)), 0)
    return { group, unread, pending: z.number().parse(pending), deadLetters: z.number().parse(deadLetters), died, dropped, missed, stopped: stoppedIn(stopped) }
  })
}

const stoppedSchema = z.object({ why: z.string(), atMs: z.number() })

function stoppedIn(stored: unknown): EventGroupState['stopped'] {
  return typeof stored === 'string' ? stoppedSchema.parse(JSON.parse(stored)) : null
}

/** Before the first event and the first reader. */
function noStream(error: unknown): [] {
  if (error instanceof Error && error.message.includes('no such key')) return []
  throw error
}
