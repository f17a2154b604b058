import type { Redis } from 'ioredis'
import { deliveredEvent } from '../events/job-event.js'
import { DeliveryLog, EventGroup, type EventGroupState, eventGroups, eventsAfter, Keys } from '../store/index.js'
import { isWebhookGroup } from '../webhooks/index.js'

/** What the board shows of an event and a receiver; all of it is read where the deliverers keep it. */
export interface ShownDelivery {
  /** Unique among all that are shown. */
  readonly id: string
  readonly state: 'completed' | 'failed' | 'delayed'
  readonly group: string
  /** Null when it can't be read, or is gone. */
  readonly event: unknown
  readonly attempts: number
  /** Milliseconds since 1970: when it was delivered, or died, or is due. */
  readonly atMs: number
  readonly durationMs: number
  /** Empty unless it failed. */
  readonly error: string
  /** Where it went, as far as that is known. */
  readonly outcome: object | null
}

/** How many of each kind are looked at for a page. */
const most = 1_000
const separator = '~'

/** The deliveries of a deployment's webhooks: done (the last thousand attempts), due again, and dead. */
export class WebhookDeliveries {
  readonly #keys: Keys
  readonly #log: DeliveryLog

  constructor(
    private readonly redis: Redis,
    prefix: string,
  ) {
    this.#keys = new Keys(prefix)
    this.#log = new DeliveryLog(redis, this.#keys)
  }

  async counts(): Promise<{ completed: number; failed: number; delayed: number }> {
    const groups = await this.#groups()
    const due = await Promise.all(groups.map(({ group }) => this.redis.zcard(this.#keys.eventGroup(group)[1] ?? '')))
    const sum = (numbers: readonly number[]) => numbers.reduce((total, number) => total + number, 0)
    return { completed: (await this.#completed()).length, failed: sum(groups.map(({ deadLetters }) => deadLetters)), delayed: sum(due) }
  }

  /** @param start from 0; `end` is among them. */
  async list(states: readonly ShownDelivery['state'][], start: number, end: number): Promise<ShownDelivery[]> {
    const found: ShownDelivery[] = []
    if (states.includes('completed')) found.push(...(await this.#completed()))
    for (const { group, stopped } of await this.#groups()) {
      if (states.includes('failed')) found.push(...(await this.#dead(group, Math.min(most, end + 1))))
      if (states.includes('delayed')) found.push(...(await this.#due(group, Math.min(most, end + 1))).map((each) => withStop(each, stopped)))
    }
    return found.sort((one, other) => other.atMs - one.atMs).slice(start, end + 1)
  }

  async find(id: string): Promise<ShownDelivery | undefined> {
    const [kind, group = '', entry = ''] = id.split(separator)
    if (kind === 'done') return (await this.#completed()).find((each) => each.id === id)
    const state = (await this.#groups()).find((each) => each.group === group)
    if (state === undefined) return undefined
    const due = kind === 'due' ? (await this.#due(group, most)).find((each) => each.id === id) : undefined
    if (kind === 'due') return due === undefined ? undefined : withStop(due, state.stopped)
    if (kind !== 'dead' || !/^\d+-\d+$/.test(entry)) return undefined
    const [letter] = await new EventGroup(this.redis, this.#keys, group).deadLetters({ after: before(entry), limit: 1 })
    return letter?.letterId === entry ? shownLetter(group, letter) : undefined
  }

  /** Gives a dead event back to its receiver. @returns false when it is not dead any more. */
  async redeliver(id: string): Promise<boolean> {
    const [kind, group = '', entry = ''] = id.split(separator)
    return kind === 'dead' && (await new EventGroup(this.redis, this.#keys, group).redeliver([entry])) === 1
  }

  /** Whether a receiver of the deployment is sent nothing more, because it said so. */
  async isStopped(): Promise<boolean> {
    return (await this.#groups()).some(({ stopped }) => stopped !== null)
  }

  async #groups(): Promise<EventGroupState[]> {
    return (await eventGroups(this.redis, this.#keys)).filter(({ group }) => isWebhookGroup(group))
  }

  async #completed(): Promise<ShownDelivery[]> {
    const latest = await this.#log.latest(most)
    return latest
      .filter(({ error }) => error === '')
      .map(({ id, group, event, type, to, status, attempt, atMs, durationMs }) => ({ id: ['done', group, id].join(separator), state: 'completed', group, event: { id: event, type }, attempts: attempt, atMs: atMs + durationMs, durationMs, error: '', outcome: { to, status } }))
  }

  async #dead(group: string, limit: number): Promise<ShownDelivery[]> {
    return (await new EventGroup(this.redis, this.#keys, group).deadLetters({ limit })).map((letter) => shownLetter(group, letter))
  }

  async #due(group: string, limit: number): Promise<ShownDelivery[]> {
    const [, due = '', state = ''] = this.#keys.eventGroup(group)
    const flat = await this.redis.zrange(due, '0', String(limit - 1), 'WITHSCORES')
    const shown: ShownDelivery[] = []
    for (let index = 0; index + 1 < flat.length; index += 2) {
      const [sequence = '', score = '0'] = flat.slice(index, index + 2)
      const [taken, [kept]] = await Promise.all([this.redis.hget(state, sequence), /^\d+-\d+$/.test(sequence) ? eventsAfter(this.redis, this.#keys, before(sequence), 1) : []])
      const event = kept?.id === sequence ? read(kept.json, sequence) : null
      shown.push({ id: ['due', group, sequence].join(separator), state: 'delayed', group, event, attempts: Number(taken?.split(' ')[0] ?? 0), atMs: Number(score), durationMs: 0, error: '', outcome: null })
    }
    return shown
  }
}

/** What waits for a receiver that wants no more waits until it is resumed. */
function withStop(shown: ShownDelivery, stopped: EventGroupState['stopped']): ShownDelivery {
  return stopped === null ? shown : { ...shown, error: `stopped: ${stopped.why}; switchyard events resume --group ${shown.group}` }
}

function shownLetter(group: string, { id, letterId, json, attempt, error, diedAtMs }: { id: string; letterId: string; json: string; attempt: number; error: string; diedAtMs: number }): ShownDelivery {
  return { id: ['dead', group, letterId].join(separator), state: 'failed', group, event: read(json, id), attempts: attempt, atMs: diedAtMs, durationMs: 0, error, outcome: null }
}

/** The entry right before one of a stream. */
function before(entry: string): string {
  const [ms = '0', number = '0'] = entry.split('-')
  return BigInt(number) > 0n ? `${ms}-${BigInt(number) - 1n}` : `${BigInt(ms) - 1n}-18446744073709551615`
}

/** As it is delivered, or as it is kept where it is none; without the receivers' URLs, which may hold what only they should know. */
function read(json: string, sequence: string): unknown {
  try {
    const event: unknown = whole(json, sequence) ?? JSON.parse(json)
    if (typeof event !== 'object' || event === null) return null
    const { hooks: _hooks, ...rest } = event as { hooks?: unknown }
    return rest
  } catch {
    return null
  }
}

function whole(json: string, sequence: string): unknown {
  try {
    return deliveredEvent(json, { id: sequence, logEnd: null })
  } catch {
    return null
  }
}
