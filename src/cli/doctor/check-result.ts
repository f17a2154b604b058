import type { InfrastructureErrorKind } from '../../job/errors.js'

/** What is checked: Redis, the git host, the store of artifacts, the receivers of webhooks, or one of the providers. */
export interface Subject {
  readonly kind: 'redis' | 'git' | 'artifacts' | 'webhooks' | 'provider'
  /** The configured name of a provider; otherwise the kind. */
  readonly name: string
  /** Of a provider: what it is, such as `e2b`; undefined where that is not known. */
  readonly type?: string | undefined
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
