import type { Redis } from 'ioredis'
import { z } from 'zod'
import { jobIdOf } from '../job/names.js'
import type { Keys } from './keys.js'

/** `jobId` is the job's id among all queues. The reason beside it is for consumers of earlier releases, who hear nothing without one: it counts what the run's record says. */
const cancelSchema = z.object({ jobId: z.string() })

/**
 * A process's one pub/sub connection: requests to cancel, the ends of jobs, and turns that were given up. Pub/sub is at most once: whatever is
 * said here is also in the run record, and `onReconnect` says when something may have been missed.
 */
export class Signals {
  readonly #subscriber: Redis
  readonly #keys: Keys
  readonly #cancelHandlers = new Set<(jobId: string) => void>()
  readonly #doneHandlers = new Set<(jobId: string) => void>()
  readonly #turnHandlers = new Set<() => void>()
  readonly #reconnectHandlers = new Set<() => void>()

  /** @param subscriber a connection of its own, made for the purpose `subscriber`; `close` closes it. */
  constructor(subscriber: Redis, keys: Keys) {
    this.#subscriber = subscriber
    this.#keys = keys
    subscriber.on('message', this.#onMessage)
    subscriber.on('ready', this.#onReady)
  }

  /** Calls `handler` for each request to cancel a supervised job of this queue, of any consumer. Returns how to stop. */
  async onCancel(handler: (jobId: string) => void): Promise<() => void> {
    this.#cancelHandlers.add(handler)
    await this.#subscriber.subscribe(this.#keys.cancelChannel())
    return () => void this.#cancelHandlers.delete(handler)
  }

  /** Calls `handler` for each job of this queue that ends. Returns how to stop. */
  async onDone(handler: (jobId: string) => void): Promise<() => void> {
    this.#doneHandlers.add(handler)
    await this.#subscriber.subscribe(this.#keys.doneChannel())
    return () => void this.#doneHandlers.delete(handler)
  }

  /** Calls `handler` when a consumer of this queue has given up its turn to hold the index against BullMQ. Returns how to stop. */
  async onTurnFree(handler: () => void): Promise<() => void> {
    this.#turnHandlers.add(handler)
    await this.#subscriber.subscribe(this.#keys.turnChannel())
    return () => void this.#turnHandlers.delete(handler)
  }

  /**
   * Calls `handler` after each reconnect, once the subscriptions are back: look into the records of the jobs that matter, and
   * nothing falls in between. Returns how to stop.
   */
  onReconnect(handler: () => void): () => void {
    this.#reconnectHandlers.add(handler)
    return () => void this.#reconnectHandlers.delete(handler)
  }

  /** Stops and closes the connection. */
  close(): void {
    this.#subscriber.off('message', this.#onMessage).off('ready', this.#onReady)
    this.#subscriber.disconnect()
  }

  readonly #onMessage = (channel: string, message: string): void => {
    if (channel === this.#keys.doneChannel()) {
      const jobId = jobIdOf(this.#keys.queueName, message)
      if (jobId === null) return
      for (const handler of this.#doneHandlers) handler(jobId)
    } else if (channel === this.#keys.cancelChannel()) {
      const runId = parseCancel(message)
      const jobId = runId === null ? null : jobIdOf(this.#keys.queueName, runId)
      if (jobId === null) return
      for (const handler of this.#cancelHandlers) handler(jobId)
    } else if (channel === this.#keys.turnChannel() && message === this.#keys.queueName) {
      for (const handler of this.#turnHandlers) handler()
    }
  }

  readonly #onReady = (): void => {
    // ioredis subscribes again by itself; these are answered after it.
    const heard = [[this.#cancelHandlers, this.#keys.cancelChannel()], [this.#doneHandlers, this.#keys.doneChannel()], [this.#turnHandlers, this.#keys.turnChannel()]] as const
    const channels = heard.flatMap(([handlers, channel]) => (handlers.size > 0 ? [channel] : []))
    Promise.all(channels.map((channel) => this.#subscriber.subscribe(channel))).then(
      () => {
        for (const handler of this.#reconnectHandlers) handler()
      },
      // The connection was closed for good, or is away again: then there is another reconnect.
      () => undefined,
    )
  }
}

/** Null for what somebody else says on the channel: whatever is meant for us is in the run's record as well. */
function parseCancel(message: string): string | null {
  try {
    return cancelSchema.safeParse(JSON.parse(message)).data?.jobId ?? null
  } catch {
    return null
  }
}
