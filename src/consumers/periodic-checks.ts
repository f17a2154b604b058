import type { Logger } from 'pino'
import { errorMessage } from '../job/errors.js'

/** What a consumer looks at again and again beside its jobs. A look that fails is said in the log and comes again; the next one begins when the last is over. */
export class PeriodicChecks {
  private readonly timers = new Map<string, NodeJS.Timeout>()
  private stopped = false

  constructor(private readonly log: Logger) {}

  /**
   * Begins to look, for the first time after `everyMs`.
   * @param look calls `againIn` where the next look is to come sooner, in so many milliseconds.
   * @param failed what the log says of a look that fails; no two checks say the same.
   * @returns looks now, and goes on from there. Never fails.
   */
  every(everyMs: number, failed: string, look: (againIn: (ms: number) => void) => Promise<void>): () => Promise<void> {
    const after = (ms: number) => {
      clearTimeout(this.timers.get(failed))
      if (!this.stopped) this.timers.set(failed, setTimeout(() => void now(), ms))
    }
    const now = async () => {
      let nextMs = everyMs
      try {
        await look((ms) => (nextMs = Math.min(everyMs, ms)))
      } catch (error) {
        this.log.warn({ message: errorMessage(error) }, failed)
      }
      after(nextMs)
    }
    after(everyMs)
    return now
  }

  stop(): void {
    this.stopped = true
    for (const timer of this.timers.values()) clearTimeout(timer)
  }
}
