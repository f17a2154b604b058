/**
 * Waits for places that the ledger grants through this consumer's inbox. `expect` comes before the ledger is asked, so a grant
 * that overtakes the answer is kept.
 */
export class SlotWaits {
  private readonly waits = new Map<string, { granted: string | null; wake: (() => void) | null }>()

  /** How many jobs wait for a place, or have just asked for one. */
  get size(): number {
    return this.waits.size
  }

  /** From now on grants of this lease are kept. */
  expect(leaseId: string): { within(timeoutMs: number, signal: AbortSignal): Promise<string | null> } {
    const wait = this.waits.get(leaseId) ?? { granted: null, wake: null }
    this.waits.set(leaseId, wait)
    return {
      /** The provider that was granted, or null when none was in time. @throws the signal's reason. */
      within: async (timeoutMs, signal) => {
        signal.throwIfAborted()
        if (wait.granted === null) {
          await new Promise<void>((resolve) => {
            const done = () => {
              clearTimeout(timer)
              signal.removeEventListener('abort', done)
              wait.wake = null
              resolve()
            }
            const timer = setTimeout(done, timeoutMs)
            signal.addEventListener('abort', done)
            wait.wake = done
          })
          signal.throwIfAborted()
        }
        return wait.granted
      },
    }
  }

  /** Hands a grant to whoever expects it. Returns false when nobody does: it must be given back. */
  deliver(leaseId: string, provider: string): boolean {
    const wait = this.waits.get(leaseId)
    if (wait === undefined) return false
    wait.granted = provider
    wait.wake?.()
    return true
  }

  forget(leaseId: string): void {
    this.waits.delete(leaseId)
  }
}
