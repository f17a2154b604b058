import { createHash } from 'node:crypto'
import { hostname } from 'node:os'
import type { Logger } from 'pino'
import { errorMessage, NewerReleaseError } from '../../job/errors.js'
import { heeded, type Means, type Roster, type SharesInForce } from '../../store/index.js'
import type { KeyHealth } from '../key-health.js'
import type { PlacementPolicy } from '../placing/placement.js'
import { profileOf, type Configured } from './profile.js'

export interface AnnouncerParts {
  readonly consumer: string
  readonly roster: Roster
  readonly configured: () => Configured
  /** How it chooses among providers, as configured. */
  readonly policy: PlacementPolicy
  readonly health: Pick<KeyHealth, 'troubles' | 'isRefused'>
  /** Whether it has as many jobs as it may have. */
  readonly full: () => boolean
  /** How many jobs it has in hand. */
  readonly running: () => number
  /** How many it may have. */
  readonly places: number
  /** The tenants' shares as configured; null when none are. */
  readonly shares: SharesInForce['shares'] | null
  /** An announcement is renewed each third of it, and believed for twice as long. */
  readonly leaseMs: number
  readonly startedAtMs: number
  /** Told after each announcement, also one that failed. */
  readonly onTurn?: (() => void) | undefined
  /** A newer release lays out otherwise what Redis holds: this consumer must leave it alone. */
  readonly onNewer?: (() => void) | undefined
  /** Redis has lost writes. */
  readonly onLost?: (() => void) | undefined
  readonly log: Logger
}

/** Announces this consumer, over and over: what it has, which of its keys are refused, and the tenants' shares that it knows. */
export class Announcer {
  private shares: SharesInForce | null
  private around: readonly string[] = []
  private longestTtlMs = 0
  private timer: NodeJS.Timeout | undefined
  private underWay: Promise<void> = Promise.resolve()
  private stopped = false
  private draining = false
  private leaving = false
  private meansKnown: { readonly means: Means; readonly untilMs: number } | null = null

  constructor(private readonly parts: AnnouncerParts) {
    this.shares = parts.shares === null ? null : { shares: parts.shares, sinceMs: null }
  }

  /** Announces for the first time: before that this consumer takes no job. @throws what Redis says. */
  async start(): Promise<void> {
    await this.tell()
    this.timer = setInterval(() => void this.announce(), this.parts.leaseMs / 3)
  }

  /** Announces now; a failure is logged, and made good by the next. */
  async announce(): Promise<void> {
    // A key is refused now, or taken.
    this.meansKnown = null
    this.underWay = this.underWay.then(async () => {
      if (this.stopped) return
      await this.tell().catch((error: unknown) => {
        const message = errorMessage(error)
        if (!(error instanceof NewerReleaseError)) {
          this.parts.log.warn({ message }, 'consumer not announced; tried again')
          return
        }
        // Its leaving takes longer than the next announcement.
        if (this.leaving) return
        this.leaving = true
        this.parts.log.error({ message }, 'this consumer leaves Redis to a newer release')
        if (!this.draining) this.parts.onNewer?.()
      })
      this.parts.onTurn?.()
    })
    await this.underWay
  }

  /** From now on it says that it takes no more jobs; it goes on saying so until it stops. */
  async leave(): Promise<void> {
    this.draining = true
    await this.announce()
  }

  async stop(): Promise<void> {
    this.halt()
    await this.underWay
    await this.parts.roster.withdraw(this.parts.consumer)
  }

  /** Says nothing more, whatever others believe. */
  halt(): void {
    this.stopped = true
    clearInterval(this.timer)
  }

  /** What this consumer can use now, or a tenth of a second ago: each job asks. */
  means(): Means {
    if (this.meansKnown !== null && performance.now() < this.meansKnown.untilMs) return this.meansKnown.means
    const { id, profile } = profileOf(this.parts.configured())
    const providers = profile.providers.filter((provider) => !this.parts.health.isRefused({ provider }))
    const means = { profileId: id, viewId: `${id}-${digestOf([this.deploymentProviders().toSorted(), this.preferences()])}`, providers, secrets: profile.secrets, shares: this.shares !== null }
    this.meansKnown = { means, untilMs: performance.now() + meansKnownMs }
    return means
  }

  /** The longest lease of the live consumers, where that is far longer than this one's, else this one's. */
  longestLeaseMs(): number {
    return Math.max(this.parts.leaseMs, leaseOf(this.longestTtlMs))
  }

  /** The providers that live consumers of this queue have, this one's included. */
  deploymentProviders(): readonly string[] {
    return [...new Set([...this.parts.configured().providers.keys(), ...this.around])]
  }

  /**
   * What decides the order in which it would use its providers, besides what decides which. The index asks each view once: after a change of the configuration it would go by
   * the old order for as long as jobs of a kind come and come.
   */
  private preferences(): unknown {
    const { policy, configured } = this.parts
    // What a function goes by besides its text follows the loads (`ChoiceInGroup`).
    return [typeof policy === 'function' ? String(policy) : policy, [...configured().providers].map(([name, { price }]) => [name, price ?? null])]
  }

  private async tell(): Promise<void> {
    const { consumer, roster, configured, health, full, running, places, startedAtMs, leaseMs } = this.parts
    const { id, profile } = profileOf(configured())
    const { shares, providers, lost, longestTtlMs } = await roster.announce(
      { consumer, profileId: id, profile, troubles: health.troubles(), full: full(), startedAtMs, shares: this.shares, heeds: heeded, host: hostname(), pid: process.pid, running: running(), places, draining: this.draining },
      announcementMs(leaseMs),
    )
    this.shares = shares ?? this.shares
    this.around = providers
    this.longestTtlMs = longestTtlMs
    this.meansKnown = null
    if (lost === null) return
    this.parts.onLost?.()
    const what = `what was written to it since ${lost.sinceMs === null ? 'a time that it does not know any more' : new Date(lost.sinceMs).toISOString()}`
    this.parts.log.error({ sinceMs: lost.sinceMs }, `Redis has lost ${what}: it went back to an older state, or was emptied; jobs that were enqueued since are gone, and what has ended since runs again (docs/redis.md)`)
  }
}

const meansKnownMs = 100

/** 8 hexadecimal digits. */
function digestOf(what: unknown): string {
  return createHash('sha256').update(JSON.stringify(what)).digest('hex').slice(0, 8)
}

/** How many leases long an announcement is believed. */
const leasesBelieved = 2

/** How long an announcement is believed, in milliseconds. */
export function announcementMs(leaseMs: number): number {
  return leasesBelieved * leaseMs
}

/** The lease of a consumer whose announcement is believed for so long. */
function leaseOf(ttlMs: number): number {
  return ttlMs / leasesBelieved
}

/** How long no live consumer may be able to run a job before it is given up: as long as two announcements. In milliseconds. */
export function defaultGraceMs(leaseMs: number): number {
  return 2 * announcementMs(leaseMs)
}
