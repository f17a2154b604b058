import type { Redis } from 'ioredis'
import { z } from 'zod'
import { checkObject, isEntryId } from '../job/call-options.js'
import { InvalidInputError } from '../job/errors.js'
import { didYouMean } from '../job/nearest-name.js'
import { type DeadLetter, EventGroup, type EventGroupState, eventGroups, eventsAfter, type Keys, type TrimmedBehind, trimmedBehind } from '../store/index.js'
import type { EventKind } from '../job/event-kinds.js'
import type { CompletionEvent } from './completion-event.js'
import { checkKinds, deliveredEvent, type JobEvent, type JobEventOf, kindOf } from './job-event.js'
import { checkGroup, entryBefore, type EventPoint } from './subscribe-options.js'

/** An event that a group has tried as often as it may, and given up. */
export interface DeadEvent {
  /** Among the group's dead letters; for `redeliver`, and to go on behind it. */
  readonly id: string
  /** Null when it can't be read: what is in its place is `json`. */
  readonly event: JobEvent | null
  readonly json: string
  /** How often it was tried. */
  readonly attempts: number
  /** What the last attempt ended with. */
  readonly error: string
  /** Milliseconds since 1970. */
  readonly diedAtMs: number
}

/** An event as the deployment keeps it. */
export interface KeptEvent<Event extends JobEvent = CompletionEvent> {
  /** Where it stands; the next ones are behind it. */
  readonly sequence: string
  /** Null when it can't be read: what is in its place is `json`. */
  readonly event: Event | null
  readonly json: string
}

const lettersPerRoundTrip = 100
/** How many entries are looked at in a round trip when not all are wanted. */
const entriesPerLook = 1_000
const letterIds = z.array(z.string().regex(/-/).refine(isEntryId))

/** The groups that read a deployment's events, and what they have given up. */
export class EventGroups {
  constructor(
    private readonly keys: Keys,
    private readonly use: <T>(work: (redis: Redis) => Promise<T>) => Promise<T>,
  ) {}

  /** How every group stands: what it has not read, has under way, has given up, and has missed. */
  async list(): Promise<EventGroupState[]> {
    return await this.use((redis) => eventGroups(redis, this.keys))
  }

  /**
   * Events that are kept, the oldest first; no group learns of it.
   * @param options.from where to begin; with all that are kept when left out. The next ones are those after the last one's `sequence`. What was trimmed by
   * then is left out; `trimmed` says whether anything was.
   * @param options.limit how many at most, from 1 to 1,000. Default 100.
   * @param options.types which events. Default `['completed']`. What can't be read is among them whatever they are.
   * @throws InvalidInputError when the point, the limit or a type is none.
   */
  async read(options?: { from?: EventPoint | undefined; limit?: number | undefined; types?: undefined }): Promise<KeptEvent[]>
  async read<Kind extends EventKind>(options: { from?: EventPoint | undefined; limit?: number | undefined; types: readonly Kind[] }): Promise<KeptEvent<JobEventOf<Kind>>[]>
  async read(options: { from?: EventPoint | undefined; limit?: number | undefined; types?: readonly EventKind[] | undefined } = {}): Promise<KeptEvent<JobEvent>[]> {
    checkObject(options, 'options')
    const { from, limit = 100 } = options
    const types = checkKinds(options.types ?? ['completed'], 'types')
    if (!Number.isInteger(limit) || limit < 1 || limit > 1_000) throw new InvalidInputError('limit: must be a whole number from 1 to 1000')
    const after = from === undefined ? '0-0' : entryBefore(from)
    return await this.use(async (redis) => {
      const found: KeptEvent<JobEvent>[] = []
      for (let last = after; ; ) {
        const entries = await eventsAfter(redis, this.keys, last, found.length === 0 ? limit : entriesPerLook)
        for (const { id, json, logEnd } of entries) {
          const event = readEvent(json, { id, logEnd })
          if (event === null || types.includes(kindOf(event))) found.push({ sequence: id, event, json })
          if (found.length === limit) return found
        }
        const next = entries.at(-1)
        if (next === undefined) return found
        last = next.id
      }
    })
  }

  /**
   * What a group has given up, the oldest first.
   * @param options.after go on behind the dead event with this id.
   * @param options.limit how many at most, from 1 to 1,000. Default 50.
   * @throws InvalidInputError when nobody has subscribed as this group.
   */
  async dead(options: { group: string; after?: string | undefined; limit?: number | undefined }): Promise<DeadEvent[]> {
    checkObject(options, 'options')
    const { after, limit = 50 } = options
    if (!Number.isInteger(limit) || limit < 1 || limit > 1_000) throw new InvalidInputError('limit: must be a whole number from 1 to 1000')
    if (after !== undefined) checkIds([after], 'after')
    return await this.use(async (redis) => (await this.#known(redis, options.group)).deadLetters({ after, limit }).then((letters) => letters.map(toDead)))
  }

  /**
   * Gives dead events back to their group: each comes again, behind what there is of its job, with all its attempts before it.
   * @param options.ids which; `all` for those that are there now.
   * @returns how many were given back; ids that are not among the dead any more are left out.
   * @throws InvalidInputError when nobody has subscribed as this group, or an id is none.
   */
  async redeliver(options: { group: string; ids: readonly string[] | 'all' }): Promise<number> {
    checkObject(options, 'options')
    const { ids } = options
    if (ids !== 'all') checkIds(ids, 'ids')
    return await this.use(async (redis) => {
      const group = await this.#known(redis, options.group)
      if (ids !== 'all') {
        let count = 0
        for (let start = 0; start < ids.length; start += lettersPerRoundTrip) count += await group.redeliver(ids.slice(start, start + lettersPerRoundTrip))
        return count
      }
      // What dies again meanwhile is not given back a second time.
      const most = (await this.#state(redis, options.group))?.deadLetters ?? 0
      let count = 0
      let after: string | undefined
      while (count < most) {
        const letters = await group.deadLetters({ after, limit: Math.min(lettersPerRoundTrip, most - count) })
        if (letters.length === 0) break
        count += await group.redeliver(letters.map(({ letterId }) => letterId))
        after = letters.at(-1)?.letterId
      }
      return count
    })
  }

  /**
   * Gives a group every event from a point on, those that it has handled too; or skips to there. What it is not done with stays, and so do
   * its dead events.
   * @returns `trimmed`: what of that is gone already; null when nothing is.
   * @throws InvalidInputError when nobody has subscribed as this group, or the point is none.
   */
  async replay(options: { group: string; from: EventPoint }): Promise<{ readonly trimmed: TrimmedBehind | null }> {
    checkObject(options, 'options')
    const after = entryBefore(options.from)
    return await this.use(async (redis) => {
      await (await this.#known(redis, options.group)).replay(after)
      return { trimmed: await trimmedBehind(redis, this.keys, after) }
    })
  }

  /**
   * What of the events from a point on is gone already, for those who read on from where they stood: null when nothing is.
   * @throws InvalidInputError when it is no point.
   */
  async trimmed(options: { from: EventPoint }): Promise<TrimmedBehind | null> {
    checkObject(options, 'options')
    const after = entryBefore(options.from)
    return await this.use((redis) => trimmedBehind(redis, this.keys, after))
  }

  /**
   * Lets a receiver that was stopped have its events again, from where it stood.
   * @returns whether it was stopped.
   * @throws InvalidInputError when nobody has subscribed as this group.
   */
  async resume(options: { group: string }): Promise<boolean> {
    checkObject(options, 'options')
    return await this.use(async (redis) => (await this.#known(redis, options.group)).resume())
  }

  async #state(redis: Redis, group: string): Promise<EventGroupState | undefined> {
    const name = checkGroup(group)
    return (await eventGroups(redis, this.keys)).find((state) => state.group === name)
  }

  async #known(redis: Redis, name: string): Promise<EventGroup> {
    const group = checkGroup(name)
    const groups = await eventGroups(redis, this.keys)
    if (!groups.some((state) => state.group === group)) throw new InvalidInputError(`group: nobody has subscribed as "${group}"${didYouMean(group, groups.map((state) => state.group))}; check its spelling, and the prefix`)
    return new EventGroup(redis, this.keys, group)
  }
}

function checkIds(ids: unknown, field: string): void {
  if (!letterIds.safeParse(ids).success) throw new InvalidInputError(`${field}: must be ids of dead events as \`dead\` gives them, such as "1764300000000-0"`)
}

function toDead({ letterId, id, json, attempt, logEnd, error, diedAtMs }: DeadLetter): DeadEvent {
  return { id: letterId, event: readEvent(json, { id, logEnd }), json, attempts: attempt, error, diedAtMs }
}

function readEvent(json: string, entry: { id: string; logEnd: number | null }): JobEvent | null {
  try {
    return deliveredEvent(json, entry)
  } catch {
    // Not an event of this release, or not even JSON; `json` shows it.
    return null
  }
}
