import { setMaxListeners } from 'node:events'
import { errorMessage, errorType } from '../../job/errors.js'
import type { ProviderSlot } from '../placing/provider-slot.js'
import { noMetrics, type Metrics } from '../../telemetry/metrics.js'
import { claimAndReap, type ReapParts } from './reap-round.js'

/** What a provider's listing showed. */
export interface ProviderListing {
  readonly provider: string
  /** This deployment's sandboxes. */
  readonly own: number
  /** Sandboxes of the same account that are not: they take from the provider's limit. */
  readonly foreign: number
}

export interface ReaperOptions extends Omit<ReapParts, 'signal'> {
  readonly providers: ReadonlyMap<string, ProviderSlot>
  /** About how often each provider is looked at, by whichever consumer comes first. */
  readonly intervalMs: number
  readonly onListing: (listing: ProviderListing) => Promise<void>
  readonly metrics?: Metrics | undefined
  /** Done besides at each interval: the branches of ended jobs. */
  readonly sweep?: ((options: { gapMs: number; budgetMs: number; signal: AbortSignal }) => Promise<unknown>) | undefined
}

/** A round that was asked for is made at most so often. */
const hurriedGapMs = 1_000

/**
 * Lets no sandbox be forgotten: kills those of this deployment that no live run owns, whoever left them behind, and frees the places
 * of what is gone. All consumers run one; a provider is looked at by one of them at a time, once an interval.
 *
 *   asleep ──interval (jittered), or `soon`──► round at each provider ──► asleep
 */
export class Reaper {
  private readonly stopping = new AbortController()
  private loop: Promise<void> | undefined
  private wakeAtMs = Infinity
  private readonly asked = new Set<string>()
  private reschedule: (() => void) | undefined

  constructor(private readonly options: ReaperOptions) {}

  start(): void {
    // Every call of a round listens to it, at all providers at once.
    setMaxListeners(0, this.stopping.signal)
    this.loop = this.run()
  }

  /** Something was left behind at a provider just now: look there in `delayMs` instead of at the next interval. */
  soon(provider: string, delayMs: number): void {
    this.asked.add(provider)
    const atMs = this.options.now() + delayMs
    if (atMs >= this.wakeAtMs) return
    this.wakeAtMs = atMs
    this.reschedule?.()
  }

  /** Breaks a round off where it is; another consumer makes the next one. */
  async stop(): Promise<void> {
    this.stopping.abort(new Error('the consumer stops'))
    this.reschedule?.()
    await this.loop
  }

  private async run(): Promise<void> {
    const { intervalMs, now, providers } = this.options
    let dueAtMs = now() + Math.random() * intervalMs
    while (!this.isStopped()) {
      await this.sleepUntil(dueAtMs)
      if (this.isStopped()) return
      this.options.onTurn?.()
      if (dueAtMs <= now()) {
        await Promise.all([this.reap([...providers.keys()], intervalMs * 0.9), this.sweep()])
        dueAtMs = now() + intervalMs * (0.75 + Math.random() / 2)
      }
      if (this.wakeAtMs <= now()) {
        const asked = [...this.asked]
        this.asked.clear()
        this.wakeAtMs = Infinity
        const refused = await this.reap(asked, hurriedGapMs)
        for (const provider of refused) this.soon(provider, hurriedGapMs)
      }
    }
  }

  /** Returns where another consumer was at it. */
  private async reap(names: readonly string[], gapMs: number): Promise<string[]> {
    const { providers, onListing, log, metrics = noMetrics } = this.options
    const refused: string[] = []
    await Promise.all(
      names.map(async (name) => {
        const provider = providers.get(name)?.provider
        if (provider === undefined) return
        try {
          const round = await claimAndReap({ ...this.options, signal: this.stopping.signal }, provider, gapMs)
          if (round === null) {
            refused.push(name)
            return
          }
          metrics.add('switchyard.sandbox.reaped', [name], round.sandboxes.filter(({ killed }) => killed).length)
          metrics.add('switchyard.sandbox.reap.failures', [name], round.sandboxes.filter(({ verdict, killed }) => verdict === 'orphan' && !killed).length)
          if (round.foreign !== null) await onListing({ provider: name, own: round.sandboxes.length - round.foreign, foreign: round.foreign })
        } catch (error) {
          if (!this.isStopped()) metrics.add('cicd.system.errors', ['reaper', errorType(error)])
          if (!this.isStopped()) log.warn({ provider: name, message: errorMessage(error) }, 'reaper round broken off; made again at the next interval')
        }
      }),
    )
    return refused
  }

  private async sweep(): Promise<void> {
    const { sweep, intervalMs, log } = this.options
    try {
      await sweep?.({ gapMs: intervalMs * 0.9, budgetMs: intervalMs / 2, signal: this.stopping.signal })
    } catch (error) {
      if (!this.isStopped()) log.warn({ message: errorMessage(error) }, 'branches of ended jobs not swept; tried again at the next interval')
    }
  }

  private async sleepUntil(dueAtMs: number): Promise<void> {
    const { now } = this.options
    for (;;) {
      const leftMs = Math.min(dueAtMs, this.wakeAtMs) - now()
      if (leftMs <= 0 || this.isStopped()) return
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, leftMs)
        this.reschedule = () => {
          clearTimeout(timer)
          resolve()
        }
      })
      this.reschedule = undefined
    }
  }

  private isStopped(): boolean {
    return this.stopping.signal.aborted
  }
}
