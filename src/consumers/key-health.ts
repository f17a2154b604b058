import type { Logger } from 'pino'
import { errorMessage, InfrastructureError } from '../job/errors.js'
import type { KeyTrouble } from '../store/roster.js'

/** Whose key it is: the git host's, or a provider's by its name. */
export type KeyOf = { readonly git: true } | { readonly provider: string }

export interface KeyHealthParts {
  /** Asks the other side whether it takes the key, read anew where it stands in a file. @throws InfrastructureError. */
  readonly check: (of: KeyOf, signal: AbortSignal) => Promise<unknown>
  /** How long after a refusal the key is tried again, in milliseconds. */
  readonly probeMs: number
  readonly onChange: () => void
  readonly log: Logger
  /** Milliseconds since 1970. */
  readonly now: () => number
}

/**
 * Which of this consumer's keys are refused. A key is the consumer's own: its refusal is no job's fault and no provider's, so the
 * jobs that need it are left to consumers whose key is taken.
 *
 *   taken ──refused──► refused ──probe: taken──► taken
 *                        ▲ └──probe: refused, or no answer──┐
 *                        └──────────────────────────────────┘
 */
export class KeyHealth {
  private readonly refusals = new Map<string, { readonly of: KeyOf; readonly message: string; readonly sinceMs: number; timer: NodeJS.Timeout | undefined }>()
  private readonly stopping = new AbortController()

  constructor(private readonly parts: KeyHealthParts) {}

  /** What this consumer can't use for its keys, the longest first. */
  troubles(): KeyTrouble[] {
    return [...this.refusals].map(([of, { message, sinceMs }]) => ({ of, message, sinceMs }))
  }

  isRefused(of: KeyOf): boolean {
    return this.refusals.has(nameOf(of))
  }

  /** Why, in one sentence; null when it is taken. */
  problem(of: KeyOf): string | null {
    return this.refusals.get(nameOf(of))?.message ?? null
  }

  /** The other side has refused the key, or what it stands for. */
  refused(of: KeyOf, message: string): void {
    const name = nameOf(of)
    if (this.refusals.has(name) || this.stopping.signal.aborted) return
    this.refusals.set(name, { of, message: `${message} (a key in one of keyFiles is read anew; one in the environment needs a rolling restart)`, sinceMs: this.parts.now(), timer: undefined })
    this.parts.log.error({ key: name, message }, 'a key of this consumer is refused: it takes no job that needs it until it is right again; a key in one of keyFiles is read anew, one in the environment needs a rolling restart')
    this.parts.onChange()
    this.probeLater(of)
  }

  /**
   * Finds out whether an error of the other side's was about this consumer's key, and not about one repository or sandbox.
   * @returns whether it is refused.
   */
  async confirmRefusal(of: KeyOf, signal: AbortSignal): Promise<boolean> {
    if (this.isRefused(of)) return true
    try {
      await this.parts.check(of, AbortSignal.any([signal, this.stopping.signal]))
      return false
    } catch (error) {
      if (!isRefusal(error)) return false
      this.refused(of, errorMessage(error))
      return true
    }
  }

  stop(): void {
    this.stopping.abort(new Error('the consumer stops'))
    for (const { timer } of this.refusals.values()) clearTimeout(timer)
  }

  private probeLater(of: KeyOf): void {
    const entry = this.refusals.get(nameOf(of))
    if (entry === undefined || this.stopping.signal.aborted) return
    entry.timer = setTimeout(() => void this.probe(of), this.parts.probeMs)
  }

  private async probe(of: KeyOf): Promise<void> {
    try {
      await this.parts.check(of, this.stopping.signal)
      this.refusals.delete(nameOf(of))
      this.parts.log.info({ key: nameOf(of) }, 'the key is taken again; jobs that need it are taken again')
      this.parts.onChange()
    } catch (error) {
      if (this.stopping.signal.aborted) return
      this.parts.log.debug({ key: nameOf(of), message: errorMessage(error) }, 'the key is not taken yet')
      this.probeLater(of)
    }
  }
}

/** Whether an error is the other side's word about the key or the configuration, and not silence. */
export function isRefusal(error: unknown): error is InfrastructureError {
  return error instanceof InfrastructureError && (error.kind === 'auth' || error.kind === 'invalid')
}

function nameOf(of: KeyOf): string {
  return 'git' in of ? 'git' : of.provider
}
