import { InfrastructureError, InvalidInputError, RedisUnavailableError, errorMessage, type InfrastructureErrorKind } from '../../job/errors.js'
import type { SecretPatterns } from '../../consumers/redaction.js'
import { mendOf } from './mends.js'

/** What is checked: Redis, the git host, or one of the providers. */
export interface Subject {
  readonly kind: 'redis' | 'git' | 'provider'
  /** The configured name of a provider; otherwise the kind. */
  readonly name: string
}

/** What a check came to. */
export interface CheckResult {
  readonly subject: Subject['kind']
  readonly name: string
  readonly check: string
  /** `skipped`: not tried, because something before it failed or it was not asked for. `interrupted`: broken off. */
  readonly outcome: 'ok' | 'warning' | 'failed' | 'skipped' | 'interrupted'
  /** Milliseconds; 0 when it was skipped. */
  readonly durationMs: number
  /** What was found, or what is wrong. Holds no secret. */
  readonly detail: string
  /** For `failed`: what to do, one sentence. */
  readonly mend: string | null
  /** For `failed`: the kind of the error. */
  readonly errorKind: InfrastructureErrorKind | 'internal' | null
}

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
    this.add(check, 'failed', startedMs, errorMessage(error), { errorKind: kind, mend: mendOf(this.subject, check, kind) })
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
