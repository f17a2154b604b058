import type { InfrastructureErrorKind } from '../job/errors.js'

/** What went wrong with a call over HTTP: an answer with a status, none at all, or one that is not what was agreed. */
export type HttpFailure =
  | { readonly kind: 'status'; readonly status: number; readonly retryAfter?: string | null | undefined; readonly nowMs?: number }
  | { readonly kind: 'no-answer'; readonly cause: 'timeout' | 'unreachable' | 'broken-off' }
  | { readonly kind: 'unexpected-body' }

export interface SortedFailure {
  readonly kind: InfrastructureErrorKind
  readonly retryAfterMs?: number | undefined
}

/**
 * Sorts a failed HTTP call into the one vocabulary:
 *
 * | what happened | kind | why |
 * |---|---|---|
 * | 401, 403 | `auth` | the token or its scopes are refused; another try is refused too |
 * | 429 | `rate-limited` | with `Retry-After` where it was given |
 * | 408, 425, 500, 502, 503, 504 and other 5xx | `transient` | the host says itself that it is passing |
 * | 501, 505 and every other 4xx | `invalid` | the same request gets the same answer |
 * | no connection (refused, no such host), no answer in time | `provider-down` | nobody is there |
 * | a connection that broke off | `transient` | somebody was there |
 * | a 2xx body that does not fit its schema | `transient` | most often a proxy in between; bounded by the caller's tries |
 */
export function sortHttpFailure(failure: HttpFailure): SortedFailure {
  if (failure.kind === 'no-answer') return { kind: failure.cause === 'broken-off' ? 'transient' : 'provider-down' }
  if (failure.kind === 'unexpected-body') return { kind: 'transient' }
  const { status } = failure
  if (status === 401 || status === 403) return { kind: 'auth' }
  if (status === 429) return { kind: 'rate-limited', retryAfterMs: retryAfterMs(failure.retryAfter, failure.nowMs) }
  if (status === 408 || status === 425) return { kind: 'transient' }
  if (status === 501 || status === 505) return { kind: 'invalid' }
  return { kind: status >= 500 || status < 400 ? 'transient' : 'invalid' }
}

function retryAfterMs(header: string | null | undefined, nowMs = 0): number | undefined {
  if (header === null || header === undefined || header.trim() === '') return undefined
  const seconds = Number(header)
  const ms = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(header) - nowMs
  return Number.isFinite(ms) ? Math.max(0, Math.round(ms)) : undefined
}

/** A failure of `fetch` itself, by the codes that undici and Node put into its chain of causes. */
export function fetchFailure(error: unknown): HttpFailure {
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) {
    const code = 'code' in cause ? String(cause.code) : ''
    if (/TIMEOUT|ETIMEDOUT/.test(code) || cause.name === 'TimeoutError') return { kind: 'no-answer', cause: 'timeout' }
    if (/^(ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|EHOSTDOWN)$/.test(code) || code.includes('CERT')) {
      return { kind: 'no-answer', cause: 'unreachable' }
    }
  }
  return { kind: 'no-answer', cause: 'broken-off' }
}

const gitWords: readonly (readonly [RegExp, InfrastructureErrorKind])[] = [
  [/Authentication failed|could not read (Username|Password)|terminal prompts disabled|Access denied/i, 'auth'],
  [/repository '.*' not found|Repository not found|does not appear to be a git repository/i, 'invalid'],
  [/denied by policy|hook declined|protected branch|deny updating|remote rejected/i, 'auth'],
  [/couldn't find remote ref|not our ref|unadvertised object|bad object/i, 'invalid'],
  [/Could not resolve (host|proxy)|Failed to connect|Couldn't connect|Connection refused|Connection timed out|SSL certificate problem/i, 'provider-down'],
  [/Operation (timed out|too slow)/i, 'provider-down'],
]

/**
 * Sorts what git printed about a failed network command, in the C locale. A status that the host answered with decides as
 * it does for HTTP; then git's own sentences; what is not known is `transient`, such as a connection that broke off.
 */
export function sortGitFailure(stderr: string, timedOut: boolean): SortedFailure {
  if (timedOut) return sortHttpFailure({ kind: 'no-answer', cause: 'timeout' })
  const status = /(?:returned error:|HTTP) (\d{3})\b/.exec(stderr)?.[1]
  if (status !== undefined) return sortHttpFailure({ kind: 'status', status: Number(status) })
  return { kind: gitWords.find(([words]) => words.test(stderr))?.[1] ?? 'transient' }
}

/** The line of git's output that says what failed, without the URL's noise; at most 300 characters. */
export function gitReason(stderr: string): string {
  const lines = stderr.split(/[\r\n]+/).map((line) => line.trim()).filter((line) => line !== '')
  const telling =
    lines.find((line) => /denied by policy|rejected\]/.test(line)) ?? lines.find((line) => /^(fatal|error|remote):/.test(line)) ?? lines.at(-1)
  return (telling ?? 'git said nothing').slice(0, 300)
}
