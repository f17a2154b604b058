import { setTimeout as delay } from 'node:timers/promises'
import { accessOf } from '../producers/agent-queue.js'
import { newestEvent, untilAborted } from '../store/index.js'
import type { ApiContext } from './context.js'

const lookEveryMs = 500

/** Whether there are new events, looked up for all streams at once: what idle ones cost Redis does not grow with their number. */
export class NewEvents {
  #newest: string | undefined
  #look: Promise<void> | undefined

  constructor(private readonly api: Pick<ApiContext, 'queue'>) {}

  /** The sequence of the newest event; `0-0` when there is none. @throws RedisUnavailableError. */
  async last(): Promise<string> {
    const { use, keys } = accessOf(this.api.queue)
    return await use(({ redis }) => newestEvent(redis, keys))
  }

  /** Waits, for a look at least, until the newest event is another one than this. @throws the signal's reason. */
  async behind(sequence: string, signal: AbortSignal): Promise<void> {
    do {
      this.#look ??= this.#lookUp().finally(() => (this.#look = undefined))
      await untilAborted(this.#look, signal)
    } while (this.#newest === undefined || this.#newest === sequence)
  }

  async #lookUp(): Promise<void> {
    await delay(lookEveryMs)
    // While Redis is away nothing is new.
    this.#newest = await this.last().catch(() => undefined)
  }
}
