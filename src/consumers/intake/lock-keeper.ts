import type { Logger } from 'pino'
import { errorMessage } from '../../job/errors.js'

/**
 * A moment by two clocks, both in milliseconds: one that nobody can set, and the time of day, which goes on while the whole
 * machine is suspended.
 */
export type Moment = readonly [monotonicMs: number, wallMs: number]

interface Lease {
  readonly token: string
  readonly onLost: () => void
  /** When the last renewal that was answered was sent, or the take. */
  sinceMoment: Moment
}

/**
 * Keeps this consumer's BullMQ locks, all with one command per third of a lease:
 *
 *   held ──renewed in time──► held
 *    ├──── Redis says that it has run out, or is another's ────► lost
 *    ├──── not renewed for a lease by this process's clocks ───► lost
 *    └──── taken anew by this very consumer: Redis went back ──► lost
 *
 * A lock that is lost is lost for good, even when nobody has taken the job yet: its supervision ends at once. By the second
 * way a consumer that was frozen, or cut off from Redis, knows by itself that another one may be at the job: what it is about
 * to do asks `holds` first.
 */
export class LockKeeper {
  private readonly held = new Map<string, Lease>()
  private timer: NodeJS.Timeout | undefined
  private extending = false

  constructor(
    private readonly extend: (jobIds: string[], tokens: string[]) => Promise<string[]>,
    private readonly leaseMs: number,
    private readonly log: Logger,
    readonly moment: () => Moment = () => [performance.now(), Date.now()],
    /** Told at each renewal that begins, also where there is nothing to renew. */
    private readonly onTurn: () => void = () => undefined,
  ) {}

  start(): void {
    this.timer = setInterval(() => void this.renew(), this.leaseMs / 3)
  }

  stop(): void {
    clearInterval(this.timer)
  }

  /** @param takenAt a moment before the lock was asked for. */
  hold(jobId: string, token: string, takenAt: Moment, onLost: () => void): void {
    const before = this.held.get(jobId)
    if (before !== undefined && before.token !== token) this.lose(jobId, before, 'lease lost; this consumer has taken the job anew')
    this.held.set(jobId, { token, sinceMoment: takenAt, onLost })
  }

  /** Whether the job is this consumer's at this very moment, whatever has happened since the last timer ran. */
  holds(jobId: string, token: string): boolean {
    const lease = this.held.get(jobId)
    return lease?.token === token && !this.hasRunOut(lease)
  }

  release(jobId: string, token: string): void {
    if (this.held.get(jobId)?.token === token) this.held.delete(jobId)
  }

  private hasRunOut({ sinceMoment }: Lease): boolean {
    const now = this.moment()
    return now[0] - sinceMoment[0] >= this.leaseMs || now[1] - sinceMoment[1] >= this.leaseMs
  }

  private async renew(): Promise<void> {
    for (const [jobId, lease] of this.held) if (this.hasRunOut(lease)) this.lose(jobId, lease, 'lease not renewed in time; the job is left to whoever finds it')
    if (!this.extending) this.onTurn()
    // While Redis is away the command waits; a second one behind it would only renew again.
    if (this.extending || this.held.size === 0) return
    this.extending = true
    const entries = [...this.held]
    const sentAt = this.moment()
    try {
      const lost = new Set(
        await this.extend(
          entries.map(([jobId]) => jobId),
          entries.map(([, { token }]) => token),
        ),
      )
      for (const [jobId, lease] of entries) {
        // Meanwhile the job may have ended, or have been taken again under another token.
        if (this.held.get(jobId) !== lease) continue
        if (lost.has(jobId)) this.lose(jobId, lease, 'lease lost; another consumer goes on with the job')
        else lease.sinceMoment = sentAt
      }
    } catch (error) {
      this.log.warn({ message: errorMessage(error) }, 'leases not renewed; tried again')
    } finally {
      this.extending = false
    }
  }

  private lose(jobId: string, lease: Lease, what: string): void {
    this.held.delete(jobId)
    this.log.warn({ jobId }, what)
    lease.onLost()
  }
}
