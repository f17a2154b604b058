import type { ProviderLoad } from '../../store/provider-load.js'

/** How many waiters one script keeps alive. */
const renewedPerScript = 100

export interface SlotWaitsParts {
  /** How often one of those that wait for the same providers asks the ledger, in milliseconds. */
  readonly askMs: number
  /** How often those that have not asked are kept in the ledger's line, in milliseconds: well within the time for which it believes in them. */
  readonly renewMs: number
  /** Keeps these in the line. Answers those that do not stand there any more: they are granted, or the ledger has lost them. Never throws. */
  readonly renew: (leaseIds: readonly string[]) => Promise<readonly string[]>
  /** Milliseconds of a clock that never goes back. */
  readonly elapsed: () => number
}

/** What the ledger has said to one that asked without getting a place. */
export interface Asked {
  readonly loads: readonly ProviderLoad[]
  /** In how many milliseconds there may be a place though none is given back; null when nobody knows. */
  readonly opensInMs: number | null
}

/** Those that wait for the same providers. */
interface Line {
  dueAtMs: number
  loads: readonly ProviderLoad[]
}

interface Wait {
  granted: string | null
  wake: (() => void) | null
  /** The line in which it stands, by its providers; null before it has asked, and when it is to ask anew. */
  line: string | null
}

/**
 * Waits for places that the ledger grants through this consumer's inbox. A place goes to whoever stands first in the ledger's line, whoever asks: of many
 * jobs that wait for the same providers, as after an outage, one asks for all, and the others are kept in the line by one call for a hundred.
 * `expect` comes before the ledger is asked, so a grant that overtakes the answer is kept.
 */
export class SlotWaits {
  private readonly waits = new Map<string, Wait>()
  private readonly lines = new Map<string, Line>()
  private timer: NodeJS.Timeout | undefined
  private renewing = false

  constructor(private readonly parts: SlotWaitsParts) {}

  /** How many jobs wait for a place, or have just asked for one. */
  get size(): number {
    return this.waits.size
  }

  /** From now on grants of this lease are kept. */
  expect(leaseId: string): SlotWait {
    const wait = this.waits.get(leaseId) ?? { granted: null, wake: null, line: null }
    this.waits.set(leaseId, wait)
    this.timer ??= setInterval(() => {
      // While Redis is away no calls pile up.
      if (this.renewing) return
      this.renewing = true
      void this.renew().finally(() => (this.renewing = false))
    }, this.parts.renewMs)
    return {
      begin: (providers) => {
        const name = nameOf(providers)
        const line = this.lines.get(name)
        const nowMs = this.parts.elapsed()
        if (wait.line === name && line !== undefined && nowMs < line.dueAtMs) return line.loads
        // It asks for all that wait there.
        wait.line = name
        this.lines.set(name, { loads: line?.loads ?? [], dueAtMs: nowMs + this.parts.askMs })
        return null
      },
      asked: ({ loads, opensInMs }) => {
        const line = this.lines.get(wait.line ?? '')
        if (line === undefined) return
        line.loads = loads
        line.dueAtMs = Math.min(line.dueAtMs, this.parts.elapsed() + (opensInMs ?? Infinity))
      },
      lost: () => {
        wait.granted = null
        wait.line = null
      },
      dueInMs: () => Math.max(0, (this.lines.get(wait.line ?? '')?.dueAtMs ?? 0) - this.parts.elapsed()),
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
    const name = this.waits.get(leaseId)?.line ?? null
    this.waits.delete(leaseId)
    if (this.waits.size === 0) {
      clearInterval(this.timer)
      this.timer = undefined
    }
    if (name === null) return
    // It may be the one that was to ask next, and where one has got a place there may be another.
    for (const other of this.waits.values()) {
      if (other.line !== name) continue
      const line = this.lines.get(name)
      if (line !== undefined) line.dueAtMs = 0
      other.wake?.()
      return
    }
    this.lines.delete(name)
  }

  private async renew(): Promise<void> {
    const ids = [...this.waits].flatMap(([leaseId, { line, granted }]) => (line === null || line === nobody || granted !== null ? [] : [leaseId]))
    for (let start = 0; start < ids.length; start += renewedPerScript) {
      for (const leaseId of await this.parts.renew(ids.slice(start, start + renewedPerScript))) {
        const wait = this.waits.get(leaseId)
        if (wait === undefined) continue
        wait.line = null
        wait.wake?.()
      }
    }
  }
}

/** One job's wait. */
export interface SlotWait {
  /**
   * Before the ledger is asked for a place at these: null when it is to be asked now. Otherwise another one has asked, or will: what that one was told.
   */
  begin(providers: readonly string[]): readonly ProviderLoad[] | null
  /** There was no place. */
  asked(answer: Asked): void
  /** What was granted has gone to somebody else. */
  lost(): void
  /** In how many milliseconds `begin` is to be asked again. */
  dueInMs(): number
  /** The provider that was granted, or null when none was in time. @throws the signal's reason. */
  within(timeoutMs: number, signal: AbortSignal): Promise<string | null>
}

function nameOf(providers: readonly string[]): string {
  return JSON.stringify(providers.toSorted())
}

/** They wait until they may go anywhere, and stand in no line of the ledger's. */
const nobody = nameOf([])
