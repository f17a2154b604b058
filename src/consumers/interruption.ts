/** Why the work on a job is broken off. */
export type Interruption = { readonly kind: 'cancel'; readonly reason: string } | { readonly kind: 'timeout' | 'waitTimeout' }

/**
 * Whether and why a job's work is to be broken off.
 *
 *   working ──timeout──► timed out (may still be saved) ──cancel──► cancelled
 *      └─────────────────────────cancel─────────────────────────────────▲
 *   and from each of them: left, when this consumer must leave the job alone
 */
export class Interruptions {
  /** Aborts when the job's work must be broken off: cancel, timeout, or this consumer leaving it. */
  readonly work: AbortSignal
  /**
   * Aborts on cancel and on leaving. For what is still done after a job's work was broken off or has failed: saving it, asking
   * after its sandbox, waiting to try again.
   */
  readonly aftermath: AbortSignal
  private readonly breaking = new AbortController()
  private readonly cancelling = new AbortController()
  private interruption: Interruption | null = null

  /** @param leave aborts when this consumer must leave the job alone: hand-over, or its fence or lease is lost. */
  constructor(leave: AbortSignal) {
    this.work = this.breaking.signal
    this.aftermath = this.cancelling.signal
    const left = () => {
      this.breaking.abort(leave.reason)
      this.cancelling.abort(leave.reason)
    }
    // Cheaper than two of AbortSignal.any, of which each job would have two; `leave` lives no longer than the job's supervision here.
    if (leave.aborted) left()
    else leave.addEventListener('abort', left, { once: true })
  }

  get current(): Interruption | null {
    return this.interruption
  }

  /** Breaks off the work; the first reason stays, but a cancel counts more than a timeout. */
  interrupt(interruption: Interruption): void {
    if (this.interruption !== null && (this.interruption.kind === 'cancel' || interruption.kind !== 'cancel')) return
    this.interruption = interruption
    this.breaking.abort(new Error(interruption.kind))
    if (interruption.kind === 'cancel') this.cancelling.abort(new Error('cancel'))
  }
}
