import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { Redis } from 'ioredis'
import { z } from 'zod'
import { InvalidInputError } from '../job/errors.js'
import { createRedis, Keys, type RedisConfig, untilAborted } from '../store/index.js'
import { runScript } from '../store/scripts.js'
import { type CompletionEvent, parseCompletionEvent } from './completion-event.js'

/** Called with each event; the event is done with when its promise resolves, and comes again when it rejects. */
export type EventHandler = (event: CompletionEvent) => Promise<void> | void

export interface SubscribeOptions {
  /** The deployment's prefix. */
  readonly prefix?: string | undefined
  /** Where a group that is new begins: with everything that is kept (`start`, the default), or with what comes (`now`). */
  readonly from?: 'start' | 'now' | undefined
  /** How many events are handled side by side. Default 1: one after the other, in order while nothing fails. */
  readonly concurrency?: number | undefined
  /** After how many milliseconds an event comes again whose handler failed or whose reader died. Default 15,000. */
  readonly redeliverAfterMs?: number | undefined
  /** Told of every failed handler, unreadable event and fault of the connection. Default: a process warning. */
  readonly onError?: ((error: unknown) => void) | undefined
  /** This reader's name within the group; made up when left out. */
  readonly reader?: string | undefined
}

export interface Subscription {
  /** Stops reading, waits for handlers under way and closes the connections. Events not acknowledged come to others. */
  close(): Promise<void>
}

const entrySchema = z.tuple([z.string(), z.array(z.string()).nullable()])
type Entry = z.output<typeof entrySchema>
const readReply = z.array(z.tuple([z.string(), z.array(entrySchema)])).nullable()
const claimReply = z.tuple([z.string(), z.array(entrySchema.nullable())]).rest(z.unknown())

const blockMs = 2_000
const pauseAfterFaultMs = 500

/**
 * Hands every completion event to one reader of a group, at least once. Readers of the same group share the work;
 * every group gets every event. Processes may come and go: what a dead one had taken comes to another after
 * `redeliverAfterMs`. An event may come twice, so handlers keep ids where that matters.
 *
 * The stream is bounded (100,000 events unless configured otherwise): a group that stays away longer than that misses
 * the oldest ones.
 *
 * A reader is: reading → handling (the entry is kept its own by a heartbeat) → acknowledged, or left pending → claimed
 * again by any reader of the group.
 * @throws InvalidInputError when the options are wrong; faults of the connection go to `onError` and are tried again.
 */
export function subscribe(redis: RedisConfig, group: string, handler: EventHandler, options: SubscribeOptions = {}): Subscription {
  if (group === '') throw new InvalidInputError('group: is empty; give the name of the consumer group')
  return new GroupReader(redis, group, handler, options)
}

class GroupReader implements Subscription {
  readonly #blocking: Redis
  readonly #commands: Redis
  readonly #stream: string
  readonly #reader: string
  readonly #concurrency: number
  readonly #redeliverAfterMs: number
  readonly #onError: (error: unknown) => void
  readonly #stop = new AbortController()
  /** Set while closing without Redis: acknowledgements are not waited for any more. */
  readonly #abandon = new AbortController()
  readonly #inHand = new Set<string>()
  readonly #loop: Promise<void>
  #nextClaimAtMs = 0
  #claimCursor = '0-0'

  constructor(
    redis: RedisConfig,
    private readonly group: string,
    private readonly handler: EventHandler,
    private readonly options: SubscribeOptions,
  ) {
    this.#stream = new Keys(options.prefix).events()
    this.#reader = options.reader ?? randomUUID()
    this.#concurrency = options.concurrency ?? 1
    this.#redeliverAfterMs = options.redeliverAfterMs ?? 15_000
    this.#onError = options.onError ?? ((error) => process.emitWarning(error instanceof Error ? error : String(error)))
    this.#blocking = createRedis(redis, 'blocking')
    this.#commands = createRedis(redis, 'commands')
    this.#loop = this.#run()
  }

  async close(): Promise<void> {
    if (!this.#stopping()) {
      this.#stop.abort()
      // Ends a blocked read at once; entries that it might still have taken stay pending and come to others.
      this.#blocking.disconnect()
      // Acknowledgements are worth waiting for only while Redis is there; without them the events come again.
      const giveUp = () => this.#abandon.abort(new Error('Redis went away while the subscription was closing'))
      if (this.#commands.status === 'ready') this.#commands.on('close', giveUp)
      else giveUp()
    }
    await this.#loop
    try {
      if (!this.#abandon.signal.aborted) await this.#prune()
    } catch (error) {
      // The group may be gone, or Redis; a name that stays is removed by another reader's start.
      this.#onError(error)
    }
    this.#commands.disconnect()
  }

  async #run(): Promise<void> {
    const heartbeat = setInterval(() => void this.#keepInHand(), Math.max(this.#redeliverAfterMs / 3, 10))
    let grouped = false
    try {
      while (!this.#stopping()) {
        try {
          if (!grouped) {
            await this.#createGroup()
            await this.#prune()
            grouped = true
          }
          const claimed = await this.#claim()
          const entries = claimed.length > 0 ? claimed : await this.#read()
          await Promise.all(entries.map((entry) => this.#handle(entry)))
        } catch (error) {
          if (this.#stopping()) return
          // A Redis that came back without its data has lost the group too.
          if (error instanceof Error && error.message.startsWith('NOGROUP')) {
            grouped = false
            continue
          }
          this.#onError(error)
          // Only the stop makes it fail, and ends the loop.
          await delay(pauseAfterFaultMs, undefined, { signal: this.#stop.signal }).catch(() => undefined)
        }
      }
    } finally {
      clearInterval(heartbeat)
    }
  }

  #stopping(): boolean {
    return this.#stop.signal.aborted
  }

  async #createGroup(): Promise<void> {
    try {
      const created = this.#blocking.xgroup('CREATE', this.#stream, this.group, this.options.from === 'now' ? '$' : '0', 'MKSTREAM')
      await untilAborted(created, this.#stop.signal)
    } catch (error) {
      if (!(error instanceof Error && error.message.startsWith('BUSYGROUP'))) throw error
    }
  }

  async #read(): Promise<Entry[]> {
    const wait = Math.min(blockMs, this.#redeliverAfterMs)
    const reply = this.#blocking.xreadgroup(
      'GROUP', this.group, this.#reader, 'COUNT', this.#concurrency, 'BLOCK', wait, 'STREAMS', this.#stream, '>',
    )
    return readReply.parse(await untilAborted(reply, this.#stop.signal))?.[0]?.[1] ?? []
  }

  /** Takes over what nobody has acknowledged for too long: of dead readers, and of failed handlers. */
  async #claim(): Promise<Entry[]> {
    if (Date.now() < this.#nextClaimAtMs) return []
    const reply = this.#blocking.xautoclaim(
      this.#stream, this.group, this.#reader, this.#redeliverAfterMs, this.#claimCursor, 'COUNT', this.#concurrency,
    )
    const [cursor, entries] = claimReply.parse(await untilAborted(reply, this.#stop.signal))
    this.#claimCursor = cursor
    // One pass over all that is pending, then a pause: nothing becomes due faster than that.
    if (cursor === '0-0') this.#nextClaimAtMs = Date.now() + Math.min(this.#redeliverAfterMs / 2, 5_000)
    return entries.filter((entry) => entry !== null)
  }

  async #handle([id, fields]: Entry): Promise<void> {
    this.#inHand.add(id)
    try {
      // Redis 6.2 hands out entries that were trimmed while pending, without content.
      if (fields !== null) {
        const json = fields[fields.indexOf('event') + 1] ?? ''
        await this.handler(parseCompletionEvent(JSON.parse(json)))
      }
      await untilAborted(this.#commands.xack(this.#stream, this.group, id), this.#abandon.signal)
    } catch (error) {
      this.#onError(error)
    } finally {
      this.#inHand.delete(id)
    }
  }

  async #keepInHand(): Promise<void> {
    if (this.#inHand.size === 0) return
    try {
      const claimed = this.#commands.xclaim(this.#stream, this.group, this.#reader, 0, ...this.#inHand, 'JUSTID')
      await untilAborted(claimed, this.#abandon.signal)
    } catch (error) {
      this.#onError(error)
    }
  }

  /** Removes this and other readers' names that hold nothing: each process would leave one for ever. */
  async #prune(): Promise<void> {
    const pruned = runScript(this.#commands, 'events-prune', [this.#stream], [this.group, this.#stopping() ? this.#reader : '', 86_400_000])
    await untilAborted(pruned, this.#stopping() ? this.#abandon.signal : this.#stop.signal)
  }
}
