import { setMaxListeners } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import type { Redis } from 'ioredis'
import { counted } from '../job/counted.js'
import { type ErrorCode, errorMessage, SwitchyardError } from '../job/errors.js'
import { createRedis, EventGroup, type EventsWanted, isUnavailability, Keys, type RedisConfig, type TakenEntry, unavailable, untilAborted } from '../store/index.js'
import type { EventKind } from '../job/event-kinds.js'
import { type TrimmedEvent, trimmedEvent } from './completion-event.js'
import { deliveredEvent, type JobEvent, type JobEventOf } from './job-event.js'
import { type AnySubscribeOptions, backoffOf, checkGroup, type CheckedOptions, checkOptions, entryBefore, type SubscribeOptions } from './subscribe-options.js'

/** Called with each event; the event is done with when its promise resolves, and comes again when it rejects. */
export type EventHandler<Kind extends EventKind = 'completed'> = (event: JobEventOf<Kind>) => Promise<void> | void

/** Thrown by a handler that knows when to try again: not before so long, and not before the usual wait. */
export class RetryLaterError extends SwitchyardError {
  override readonly code: ErrorCode = 'SWY_UNSPECIFIED'
  constructor(
    message: string,
    /** Milliseconds. */
    readonly afterMs: number,
  ) {
    super(message)
  }
}

/** Thrown by a handler that has not begun, for want of room: the event comes again after so many milliseconds, and that was no attempt. */
export class PutOffError extends SwitchyardError {
  override readonly code: ErrorCode = 'SWY_UNSPECIFIED'
  constructor(readonly afterMs: number) {
    super('put off')
  }
}

/** Thrown by a handler whose receiver wants this event no more, or no event at all: then nothing is handed to it until it is resumed. */
export class UnwantedError extends SwitchyardError {
  override readonly code: ErrorCode = 'SWY_UNSPECIFIED'
  constructor(
    message: string,
    readonly what: 'event' | 'all',
  ) {
    super(message)
  }
}

export interface Subscription {
  /** Stops reading, waits for handlers under way and closes the connections. What they leave comes to others. */
  close(): Promise<void>
}

const blockMs = 2_000
const pauseAfterFaultMs = 500
/** What a dead letter says of its last error. */
const keptErrorCharacters = 2_000
/** How long events are kept unless configured otherwise. */
const longestLaterMs = 7 * 86_400_000

/**
 * Hands every event of the types that were asked for (completion events, unless `types` says otherwise) to one reader of a group, at least once. Readers of the same group share the work;
 * every group gets every event. Processes may come and go: what a dead one had taken comes to another after
 * `redeliverAfterMs`. An event may come twice, so handlers keep ids where that matters.
 *
 * The events of one job come in their order, each when the one before is done with; those of different jobs hold up
 * nothing of each other. One whose handler fails comes again, to whichever reader has room, after a wait that doubles
 * each time, and is a dead letter after `attempts` of them: see `AgentQueue.events`.
 *
 * The stream is bounded (100,000 events, 256 MiB, 7 days unless configured otherwise: `consumer.events`): a group that stays
 * away longer misses the oldest ones, and `onTrimmed` says so.
 * @throws InvalidInputError when the group or the options are wrong; faults of the connection go to `onError` and are tried again.
 */
export function subscribe<Kind extends EventKind = 'completed'>(redis: RedisConfig, group: string, handler: EventHandler<Kind>, options: SubscribeOptions<Kind> = {}): Subscription {
  const checked = checkOptions(options)
  // Of the kinds that it is given, an event is of no other type.
  const handle = (event: JobEvent) => handler(event as JobEventOf<Kind>)
  return new GroupReader(redis, checkGroup(group), handle, options as AnySubscribeOptions, checked, { wanted: { kinds: checked.types }, backoffMs: (attempt) => backoffOf(attempt, checked) })
}

/** An event, and how it stands in the stream, where more is said of it than whoever reads it is told. */
export type EntryHandler = (event: JobEvent, entry: TakenEntry) => Promise<void> | void

/**
 * As `subscribe`, for readers of Switchyard's own.
 * @param reading.wanted in place of `types`; `backoffMs` is how long a failed event waits after its n-th attempt.
 */
export function subscribeEntries(redis: RedisConfig, group: string, handler: EntryHandler, options: AnySubscribeOptions, reading: Reading): Subscription {
  return new GroupReader(redis, checkGroup(group), handler, options, checkOptions(options), reading)
}

export interface Reading {
  readonly wanted: EventsWanted
  readonly backoffMs: (attempt: number) => number
  /** Stands for where the events go. One that wants no more (`UnwantedError`) is given none; another one in its place is. */
  readonly receiver?: string | undefined
  /** Told of the connection for commands, before any is sent. */
  readonly onConnection?: ((connection: Redis) => void) | undefined
}

/** How much later a handler wants its event. What it makes of a receiver's words may be no number, or for ever, when all behind it would wait as long. */
function laterMs(error: unknown): number {
  return error instanceof RetryLaterError && error.afterMs > 0 ? Math.min(error.afterMs, longestLaterMs) : 0
}

/** An entry is: taken → handled (a heartbeat keeps it in hand) → done with; or failed, and left to whoever takes it after its backoff. */
class GroupReader implements Subscription {
  readonly #blocking: Redis
  readonly #commands: Redis
  readonly #stream: string
  readonly #group: EventGroup
  readonly #onError: (error: unknown) => void
  readonly #stop = new AbortController()
  /** Set while closing without Redis: answers are not waited for any more. */
  readonly #abandon = new AbortController()
  readonly #inHand = new Map<TakenEntry, Promise<void>>()
  readonly #loop: Promise<void>
  #readUpTo = '0-0'
  /** A blocked read under way; it only tells that something came. */
  #read: Promise<unknown> | undefined
  /** Ends the wait for more. */
  #wake: () => void = () => undefined
  #newFirst = false

  constructor(
    private readonly redis: RedisConfig,
    group: string,
    private readonly handler: EntryHandler,
    private readonly callbacks: AnySubscribeOptions,
    private readonly options: CheckedOptions,
    private readonly reading: Reading,
  ) {
    const keys = new Keys(options.prefix)
    // Each handler under way may listen.
    setMaxListeners(0, this.#stop.signal, this.#abandon.signal)
    this.#stream = keys.events()
    const warn = (error: unknown) => process.emitWarning(error instanceof Error ? error : String(error))
    this.#onError = (error) => {
      try {
        ;(callbacks.onError ?? warn)(error)
      } catch (fault) {
        // One that fails itself must not end the reading, nor keep an event from being settled.
        warn(fault)
      }
    }
    this.#blocking = createRedis(redis, 'blocking')
    this.#commands = createRedis(redis, 'commands')
    reading.onConnection?.(this.#commands)
    this.#group = new EventGroup(this.#commands, keys, group)
    this.#loop = this.#run()
  }

  async close(): Promise<void> {
    if (!this.#stopping()) {
      this.#stop.abort()
      this.#wake()
      // Ends a blocked read at once.
      this.#blocking.disconnect()
      // Answers are worth waiting for only while Redis is there; without them the events come again.
      const giveUp = () => this.#abandon.abort(new Error('Redis went away while the subscription was closing'))
      if (this.#commands.status === 'ready') this.#commands.on('close', giveUp)
      else giveUp()
    }
    await this.#loop
    this.#commands.disconnect()
  }

  async #run(): Promise<void> {
    const heartbeat = setInterval(() => void this.#keepInHand(), Math.max(this.options.redeliverAfterMs / 3, 3))
    let opened = false
    try {
      while (!this.#stopping()) {
        try {
          if (!opened) {
            await this.#untilStopped(this.#group.open(this.#start(), this.#readUpTo !== '0-0'))
            opened = true
          }
          await this.#turn()
        } catch (error) {
          if (this.#stopping()) break
          // A Redis that came back without its data has lost the group too.
          if (error instanceof Error && error.message.includes('NOGROUP')) {
            opened = false
            continue
          }
          this.#fault(error)
          // Only the stop makes it fail, and ends the loop.
          await delay(pauseAfterFaultMs, undefined, { signal: this.#stop.signal }).catch(() => undefined)
        }
      }
      await Promise.all(this.#inHand.values())
    } finally {
      clearInterval(heartbeat)
    }
  }

  #start(): string {
    // A group that was lost meanwhile begins behind what this reader knows of: its options say where a new one does.
    if (this.#readUpTo !== '0-0') return this.#readUpTo
    const { from } = this.options
    if (from === 'now') return '$'
    return from === 'start' ? '0' : entryBefore(from)
  }

  /** Takes what there is room for, and waits for a reason to look again. */
  async #turn(): Promise<void> {
    // Whatever ends from here on may have made room, or the next event of its job due.
    const wake = new Promise<void>((resolve) => {
      this.#wake = resolve
    })
    const { concurrency, redeliverAfterMs } = this.options
    const room = concurrency - this.#inHand.size
    if (room === 0) {
      await wake
      return
    }
    // What has failed before takes half of the room at most, so that handlers which fail slowly hold up no others.
    const retried = [...this.#inHand.keys()].filter(({ attempt }) => attempt > 1).length
    const dueRoom = Math.max(0, Math.max(1, Math.floor(concurrency / 2)) - retried)
    this.#newFirst = !this.#newFirst
    const taken = await this.#untilStopped(this.#group.take({ room, dueRoom, newFirst: this.#newFirst, leaseMs: redeliverAfterMs }, this.options, this.reading.wanted, this.reading.receiver))
    this.#readUpTo = taken.readUpTo
    for (const entry of taken.entries) {
      const handled = this.#handle(entry).finally(() => {
        this.#inHand.delete(entry)
        this.#wake()
      })
      this.#inHand.set(entry, handled)
    }
    if (taken.more || taken.entries.length > 0) return
    // Without room for what has failed, the end of a handler is what to wait for.
    const dueInMs = dueRoom === 0 ? blockMs : Math.min(taken.dueInMs ?? blockMs, blockMs)
    const timer = new AbortController()
    try {
      await Promise.race([this.#blockedRead(), wake, delay(dueInMs, undefined, { signal: timer.signal }).catch(() => undefined)])
    } finally {
      timer.abort()
    }
  }

  /** Ends when the stream has more than was read, or after a while. One that is under way goes on. */
  async #blockedRead(): Promise<void> {
    this.#read ??= this.#blocking.xread('COUNT', 1, 'BLOCK', blockMs, 'STREAMS', this.#stream, this.#readUpTo).finally(() => (this.#read = undefined))
    await this.#untilStopped(this.#read)
  }

  async #untilStopped<T>(promise: Promise<T>): Promise<T> {
    return await untilAborted(promise, this.#stop.signal)
  }

  #stopping(): boolean {
    return this.#stop.signal.aborted
  }

  /** Never fails: what does is told. */
  async #handle(entry: TakenEntry): Promise<void> {
    let event: JobEvent | null = null
    try {
      if (entry.id.startsWith('trimmed-')) {
        await this.#inTime(this.#tellTrimmed(trimmedEvent(entry.json)))
      } else {
        event = deliveredEvent(entry.json, entry)
        await this.#inTime(this.handler(event, entry))
      }
    } catch (error) {
      await this.#failed(entry, event, error)
      return
    }
    try {
      await untilAborted(this.#group.done(entry), this.#abandon.signal)
    } catch (error) {
      this.#fault(error)
    }
  }

  #tellTrimmed(event: TrimmedEvent): Promise<void> | void {
    if (this.callbacks.onTrimmed !== undefined) return this.callbacks.onTrimmed(event)
    const { count, after, before } = event.data
    this.#onError(new SwitchyardError(`group ${event.subject}: ${counted(count, 'event was', 'events were')} trimmed before it had handled ${count === 1 ? 'it' : 'them'}, between ${after} and ${before}; add readers, or keep more (consumer.events)`))
  }

  async #failed(entry: TakenEntry, event: JobEvent | null, error: unknown): Promise<void> {
    const putOff = error instanceof PutOffError
    if (!putOff) this.#onError(error)
    try {
      if (putOff) {
        await untilAborted(this.#group.putOff(entry, error.afterMs), this.#abandon.signal)
        return
      }
      const why = errorMessage(error).slice(0, keptErrorCharacters)
      const unwanted = error instanceof UnwantedError ? error.what : 'nothing'
      const patience = unwanted === 'event' ? { ...this.options, attempts: entry.attempt } : this.options
      const failed = this.#group.failed(entry, why, Math.round(Math.max(this.reading.backoffMs(entry.attempt), laterMs(error))), patience, unwanted === 'all' ? this.reading.receiver : '')
      if ((await untilAborted(failed, this.#abandon.signal)) === 'dead') this.callbacks.onDead?.(event, error)
    } catch (fault) {
      this.#fault(fault)
    }
  }

  /** Tells of what Redis said, or did not say. */
  #fault(error: unknown): void {
    this.#onError(isUnavailability(error) ? unavailable(this.redis, error) : error)
  }

  async #inTime(handled: Promise<void> | void): Promise<void> {
    const { handlerTimeoutMs } = this.options
    const timer = new AbortController()
    const timeout = delay(handlerTimeoutMs, undefined, { signal: timer.signal }).then(
      () => {
        throw new SwitchyardError(`the event's handler has not ended within ${handlerTimeoutMs} ms; bound what it waits for, or give a longer handlerTimeoutMs`)
      },
      () => undefined,
    )
    try {
      await Promise.race([handled, timeout])
    } finally {
      timer.abort()
    }
  }

  async #keepInHand(): Promise<void> {
    if (this.#inHand.size === 0) return
    try {
      await untilAborted(this.#group.keep([...this.#inHand.keys()], this.options.redeliverAfterMs), this.#abandon.signal)
    } catch (error) {
      this.#fault(error)
    }
  }
}
