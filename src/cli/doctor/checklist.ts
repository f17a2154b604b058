import { InfrastructureError, InvalidInputError, RedisUnavailableError, errorMessage } from '../../job/errors.js'
import type { SecretPatterns } from '../../consumers/output/secret-patterns.js'
import type { CheckResult, Subject } from './check-result.js'
import { mendOf } from './mends.js'

/** What a check found: a text, or a text with what to be warned of. */
export interface Found<Value> {
  readonly value: Value
  readonly detail: string
  readonly warnings?: readonly string[]
}

/** The checks of one subject, in order, with how long each took. A failed one is a row and no exception. */
export class Checklist {
  readonly results: CheckResult[] = []

  constructor(
    readonly subject: Subject,
    private readonly secrets: SecretPatterns,
    /** When it aborts, what is under way is broken off. */
    private readonly signal: AbortSignal,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** @returns what `work` found, or undefined when it failed. */
  async run<Value>(check: string, work: () => Promise<Found<Value>>): Promise<Value | undefined> {
    const startedMs = this.now()
    try {
      const { value, detail, warnings = [] } = await work()
      this.add(check, warnings.length === 0 ? 'ok' : 'warning', startedMs, [detail, ...warnings].filter((text) => text !== '').join('; '))
      return value
    } catch (error) {
      const broken = this.signal.aborted && !(error instanceof InfrastructureError)
      if (broken) this.add(check, 'interrupted', startedMs, errorMessage(error))
      else this.fail(check, error, startedMs)
      return undefined
    }
  }

  skip(check: string, because: string): void {
    this.add(check, 'skipped', this.now(), because)
  }

  private fail(check: string, error: unknown, startedMs: number): void {
    const kind = kindOf(error)
    const mend = error instanceof RedisUnavailableError ? error.mend : undefined
    this.add(check, 'failed', startedMs, errorMessage(error), { errorKind: kind, mend: mend ?? mendOf(this.subject, check, kind) })
  }

  private add(check: string, outcome: CheckResult['outcome'], startedMs: number, detail: string, failure: Partial<CheckResult> = {}): void {
    this.results.push({
      subject: this.subject.kind,
      name: this.subject.name,
      check,
      outcome,
      durationMs: Math.max(0, Math.round(this.now() - startedMs)),
      detail: this.secrets.mask(detail.replace(/\s+/g, ' ').trim()),
      mend: null,
      errorKind: null,
      ...failure,
    })
  }
}

function kindOf(error: unknown): NonNullable<CheckResult['errorKind']> {
  if (error instanceof InfrastructureError) return error.kind
  if (error instanceof InvalidInputError) return 'invalid'
  if (error instanceof RedisUnavailableError) return 'provider-down'
  return 'internal'
}
