import type { Logger } from 'pino'
import { errorMessage } from '../../job/errors.js'
import type { ProviderReport } from '../../store/slot-ledger.js'

/**
 * What a consumer tells the ledger of the way into sandboxes: which ones can't be reached although they live, and, now and then, that
 * one answered. Of one sandbox alone that says nothing of its provider; when many can't be reached and none answers, the ledger
 * opens the provider's breaker, once for all of them, until one answers again.
 */
export class SandboxAnswers {
  private readonly toldAtMs = new Map<string, number>()
  private readonly unreachableAt = new Set<string>()
  private readonly telling = new Set<Promise<void>>()

  /** @param everyMs how often at most it is told that sandboxes answer. */
  constructor(
    private readonly report: (provider: string, report: ProviderReport) => Promise<void>,
    private readonly log: Pick<Logger, 'warn'>,
    private readonly now: () => number,
    /** For how long no sandbox must have answered before that is the provider's outage, in milliseconds. */
    private readonly quietMs: number,
    private readonly everyMs = 5_000,
  ) {}

  /** A call into a sandbox was answered, whatever the answer. */
  answered(provider: string): void {
    const toldAtMs = this.toldAtMs.get(provider)
    const ms = this.now()
    // After an outage at once: a breaker hangs on it. A clock that was set back counts as time that has passed.
    if (!this.unreachableAt.delete(provider) && toldAtMs !== undefined && ms >= toldAtMs && ms - toldAtMs < this.everyMs) return
    this.toldAtMs.set(provider, ms)
    this.tell(provider, { kind: 'answered' })
  }

  /** A sandbox that lives, by its provider's word, can't be reached. */
  unreachable(provider: string, sandboxId: string): void {
    this.unreachableAt.add(provider)
    this.tell(provider, { kind: 'unreachable', sandboxId, quietMs: this.quietMs })
  }

  /** Waits for what is on its way. */
  async close(): Promise<void> {
    await Promise.all(this.telling)
  }

  private tell(provider: string, report: ProviderReport): void {
    const told: Promise<void> = this.report(provider, report)
      .catch((error: unknown) => this.log.warn({ provider, message: errorMessage(error) }, 'what a sandbox answered was not reported; told again with the next'))
      .finally(() => this.telling.delete(told))
    this.telling.add(told)
  }
}
