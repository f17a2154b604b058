import type { Logger } from 'pino'
import { errorMessage } from '../../job/errors.js'
import type { ProviderLoad, SlotLedger } from '../../store/index.js'

export interface DrainWatchParts {
  readonly ledger: Pick<SlotLedger, 'sharedLoads'>
  /** This consumer's providers. */
  readonly providers: () => readonly string[]
  /** Whether there is a job that might have to move. */
  readonly isBusy: () => boolean
  readonly everyMs: number
  readonly log: Logger
}

/** Knows which providers an operator wants to be left by what runs there, a few seconds after it was said. */
export class DrainWatch {
  private timer: NodeJS.Timeout | undefined
  private wanted: ReadonlyMap<string, NonNullable<ProviderLoad['drain']>> = new Map()

  constructor(private readonly parts: DrainWatchParts) {}

  start(): void {
    this.timer = setInterval(() => void this.look(), this.parts.everyMs)
  }

  stop(): void {
    clearInterval(this.timer)
  }

  /** Who wants what runs at a provider to move; null when nobody does. */
  of(provider: string): NonNullable<ProviderLoad['drain']> | null {
    return this.wanted.get(provider) ?? null
  }

  /** Looks now. Never throws: what was known holds until the next look. */
  async look(): Promise<void> {
    const { ledger, providers, isBusy, log } = this.parts
    if (!isBusy()) {
      // What was known may be taken back by the time that there is a job again.
      this.wanted = new Map()
      return
    }
    try {
      const loads = await ledger.sharedLoads(providers().map((provider) => ({ provider })))
      this.wanted = new Map(loads.flatMap(({ provider, drain }) => (drain?.move === true ? [[provider, drain] as const] : [])))
    } catch (error) {
      log.warn({ message: errorMessage(error) }, 'it is not known which providers are to be left; asked again')
    }
  }
}
