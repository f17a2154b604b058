import type { Logger } from 'pino'
import { errorMessage } from '../job/errors.js'

/**
 * Keeps this consumer's BullMQ locks, all with one command per third of a lease. A lock that could not be kept is lost for
 * good, even when nobody has taken the job yet: its supervision ends at once.
 */
export class LockKeeper {
  private readonly held = new Map<string, { token: string; onLost: () => void }>()
  private timer: NodeJS.Timeout | undefined
  private extending = false

  constructor(
    private readonly extend: (jobIds: string[], tokens: string[]) => Promise<string[]>,
    private readonly leaseMs: number,
    private readonly log: Logger,
  ) {}

  start(): void {
    this.timer = setInterval(() => void this.renew(), this.leaseMs / 3)
  }

  stop(): void {
    clearInterval(this.timer)
  }

  hold(jobId: string, token: string, onLost: () => void): void {
    this.held.set(jobId, { token, onLost })
  }

  release(jobId: string, token: string): void {
    if (this.held.get(jobId)?.token === token) this.held.delete(jobId)
  }

  private async renew(): Promise<void> {
    // While Redis is away the command waits; a second one behind it would only renew again.
    if (this.extending || this.held.size === 0) return
    this.extending = true
    const entries = [...this.held]
    try {
      const lost = await this.extend(
        entries.map(([jobId]) => jobId),
        entries.map(([, { token }]) => token),
      )
      for (const jobId of lost) {
        const entry = entries.find(([id]) => id === jobId)?.[1]
        // Meanwhile the job may have ended, or have been taken again under another token.
        if (entry === undefined || this.held.get(jobId) !== entry) continue
        this.held.delete(jobId)
        this.log.warn({ jobId }, 'lease lost; another consumer goes on with the job')
        entry.onLost()
      }
    } catch (error) {
      this.log.warn({ message: errorMessage(error) }, 'leases not renewed; tried again')
    } finally {
      this.extending = false
    }
  }
}
