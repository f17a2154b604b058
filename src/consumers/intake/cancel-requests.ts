import type { Logger } from 'pino'
import { errorMessage } from '../../job/errors.js'
import type { RunStore } from '../../store/index.js'

/** A run in this consumer's hands. */
export interface Cancellable {
  readonly cancel: (reason: string) => void
}

export interface CancelRequestParts {
  readonly store: Pick<RunStore, 'cancelRequests'>
  readonly log: Pick<Logger, 'warn'>
  /** What this consumer has in hand, by job. */
  readonly runs: ReadonlyMap<string, Cancellable>
}

/**
 * Looks for requests to cancel the runs in hand. What counts is in a run's record: a signal only says where to look, since it may be late and of the run before.
 * There is one look at a time: whatever is said meanwhile is asked with the next one, all of it at once, so that any number of signals costs no more.
 */
export class CancelRequests {
  private readonly wanted = new Set<string>()
  private looking = false

  constructor(private readonly parts: CancelRequestParts) {}

  /** Somebody has said that the job is to be cancelled. */
  async heed(jobId: string): Promise<void> {
    if (this.parts.runs.has(jobId)) this.wanted.add(jobId)
    await this.look()
  }

  /** A signal may have gone by unheard, as while the connection for it was away. */
  async heedAll(): Promise<void> {
    for (const jobId of this.parts.runs.keys()) this.wanted.add(jobId)
    await this.look()
  }

  private async look(): Promise<void> {
    if (this.looking) return
    this.looking = true
    const { store, log, runs } = this.parts
    try {
      while (this.wanted.size > 0) {
        const jobIds = [...this.wanted]
        this.wanted.clear()
        // Whoever is in hand when the answer comes may be another run.
        const asked = new Map(jobIds.map((jobId) => [jobId, runs.get(jobId)]))
        try {
          for (const [jobId, { reason }] of await store.cancelRequests(jobIds)) asked.get(jobId)?.cancel(reason)
        } catch (error) {
          log.warn({ message: errorMessage(error) }, 'requests to cancel not read; tried again')
        }
      }
    } finally {
      this.looking = false
    }
  }
}
