import type { Logger } from 'pino'
import { errorMessage } from '../../job/errors.js'

/**
 * What a consumer tells the ledger of sandboxes that were created: their start times, and with them that the provider works. The first
 * in a while is told at once, since a breaker's probe may hang on it; what follows within `everyMs` is told together.
 *
 *   quiet ──created──► told, waiting ──everyMs, nothing new──► quiet
 *                       ▲    └──everyMs, some were created, or the telling failed──┐
 *                       └──────────────────────────────────────────────────────────┘
 */
export class StartReports {
  private readonly byProvider = new Map<string, { startsMs: number[]; timer: NodeJS.Timeout | undefined; telling: Promise<void> }>()
  private closed = false

  constructor(
    private readonly report: (provider: string, startsMs: readonly number[]) => Promise<void>,
    private readonly log: Pick<Logger, 'warn'>,
    private readonly everyMs = 250,
  ) {}

  created(provider: string, startMs: number): void {
    const state = this.byProvider.get(provider) ?? { startsMs: [], timer: undefined, telling: Promise.resolve() }
    this.byProvider.set(provider, state)
    state.startsMs.push(startMs)
    if (state.timer === undefined) this.tell(provider, state)
  }

  /** Tells what is left, once. */
  async close(): Promise<void> {
    this.closed = true
    for (const [provider, state] of this.byProvider) {
      clearTimeout(state.timer)
      if (state.startsMs.length > 0) this.tell(provider, state)
    }
    await Promise.all([...this.byProvider.values()].map(({ telling }) => telling))
  }

  private tell(provider: string, state: { startsMs: number[]; timer: NodeJS.Timeout | undefined; telling: Promise<void> }): void {
    const startsMs = state.startsMs.splice(0)
    const told = this.report(provider, startsMs).catch((error: unknown) => {
      this.log.warn({ provider, message: errorMessage(error) }, 'start times not reported; tried again')
      state.startsMs.unshift(...startsMs.slice(-100))
    })
    state.telling = Promise.all([state.telling, told]).then(() => undefined)
    if (this.closed) return
    state.timer = setTimeout(() => {
      state.timer = undefined
      if (state.startsMs.length > 0) this.tell(provider, state)
    }, this.everyMs)
  }
}
