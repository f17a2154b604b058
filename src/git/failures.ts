import type { ErrorCode, ErrorOwner, InfrastructureErrorKind } from '../job/errors.js'
import { cutText } from '../job/harmless-text.js'

/** What went wrong with a call over HTTP: an answer with a status, none at all, or one that is not what was agreed. */
export type HttpFailure =
  | { readonly kind: 'status'; readonly status: number; readonly retryAfter?: string | null | undefined; readonly nowMs?: number }
  | { readonly kind: 'no-answer'; readonly cause: 'timeout' | 'unreachable' | 'broken-off' }
  | { readonly kind: 'unexpected-body' }

export interface SortedFailure {
  readonly kind: InfrastructureErrorKind
  readonly owner: ErrorOwner
  readonly code?: ErrorCode | undefined
  readonly retryAfterMs?: number | undefined
}

/**
 * Sorts a failed HTTP call into the one vocabulary:
 *
 * | what happened | kind | whose | why |
 * |---|---|---|---|
 * | 401 | `auth` | the consumer's keys | the token is refused; another try is refused too |
 * | 403 | `auth` | the host, for this repository | who asks is known, and may not |
 * | 429 | `rate-limited` | the host | with `Retry-After` where it was given |
 * | 408, 425, 500, 502, 503, 504 and other 5xx | `transient` | the host | it says itself that it is passing |
 * | 501, 505 and every other 4xx | `invalid` | the job | the same request gets the same answer |
 * | no connection (refused, no such host), no answer in time | `provider-down` | the host | nobody is there |
 * | a connection that broke off | `transient` | the host | somebody was there |
 * | a 2xx body that does not fit its schema | `transient` | the host | most often a proxy in between; bounded by the caller's tries |
 *
 * Where tokens are made for a repository each, a 401 may be about one of them only: whoever would stop working for it asks the host
 * about another repository first.
 */
export function sortHttpFailure(failure: HttpFailure): SortedFailure {
  if (failure.kind === 'no-answer') return { kind: failure.cause === 'broken-off' ? 'transient' : 'provider-down', owner: 'git-host' }
  if (failure.kind === 'unexpected-body') return { kind: 'transient', owner: 'git-host' }
  const { status } = failure
  if (status === 401) return { kind: 'auth', owner: 'consumer-keys' }
  if (status === 403) return { kind: 'auth', owner: 'git-repository' }
  if (status === 429) return { kind: 'rate-limited', owner: 'git-host', retryAfterMs: retryAfterMs(failure.retryAfter, failure.nowMs) }
  if (status === 408 || status === 425) return { kind: 'transient', owner: 'git-host' }
  if (status === 501 || status === 505) return { kind: 'invalid', owner: 'job' }
  return status >= 500 || status < 400 ? { kind: 'transient', owner: 'git-host' } : { kind: 'invalid', owner: 'job' }
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

const gitWords: readonly (readonly [RegExp, SortedFailure])[] = [
  [/Authentication failed|could not read (Username|Password)|terminal prompts disabled/i, { kind: 'auth', owner: 'consumer-keys' }],
  [/Access denied/i, { kind: 'auth', owner: 'git-repository' }],
  [/repository '.*' not found|Repository not found|does not appear to be a git repository/i, { kind: 'invalid', owner: 'job' }],
  // Said with the same words as a refusal, but of what passes.
  [/remote rejected\].*\((.*unpacker error|.*internal (server )?error|cannot lock ref.*|failed to (lock|update ref).*|.*transaction.*)\)/i, { kind: 'transient', owner: 'git-host' }],
  [/denied by policy|hook declined|protected branch|deny updating|remote rejected/i, { kind: 'invalid', owner: 'job', code: 'SWY_PUSH_REFUSED' }],
  [/couldn't find remote ref|not our ref|unadvertised object|bad object/i, { kind: 'invalid', owner: 'job' }],
  [/Could not resolve (host|proxy)|Failed to connect|Couldn't connect|Connection refused|Connection timed out|SSL certificate problem/i, { kind: 'provider-down', owner: 'git-host' }],
  [/Operation (timed out|too slow)/i, { kind: 'provider-down', owner: 'git-host' }],
]

/**
 * Sorts what git printed about a failed network command, in the C locale. A status that the host answered with decides as
 * it does for HTTP; then git's own sentences; what is not known is `transient`, such as a connection that broke off. What the host
 * refuses of a push (a hook, a protected branch or path, a size) is final for that push.
 */
export function sortGitFailure(stderr: string, timedOut: boolean): SortedFailure {
  if (timedOut) return sortHttpFailure({ kind: 'no-answer', cause: 'timeout' })
  // What the host's hooks say ("remote: …") quotes what a job has made, such as the name of a file that is too large.
  const own = stderr.split(/[\r\n]+/).filter((line) => !/^\s*remote:/.test(line)).join('\n')
  const status = /(?:returned error:|HTTP) (\d{3})\b/.exec(own)?.[1]
  if (status === '413') return { kind: 'invalid', owner: 'job', code: 'SWY_PUSH_REFUSED' }
  if (status !== undefined) return sortHttpFailure({ kind: 'status', status: Number(status) })
  return gitWords.find(([words]) => words.test(stderr))?.[1] ?? { kind: 'transient', owner: 'git-host' }
}

/**
 * The line of git's output that says what failed, without the URL's noise; at most 300 characters. Of a push that the host refused,
 * its own words as well.
 */
export function gitReason(stderr: string): string {
  const lines = stderr.split(/[\r\n]+/).map((line) => line.trim()).filter((line) => line !== '')
  const rejected = lines.find((line) => /rejected\]/.test(line))
  const remote = lines.filter((line) => /^remote:/.test(line)).map((line) => line.replace(/^remote:\s*/, '')).filter((line) => /\w/.test(line))
  if (rejected !== undefined && remote.length > 0) return cutText(`remote: ${remote.join(' ')} (${/\(([^)]*)\)$/.exec(rejected)?.[1] ?? 'rejected'})`, 300)
  const telling =
    lines.find((line) => /denied by policy|rejected\]/.test(line)) ?? lines.find((line) => /^(fatal|error|remote):/.test(line)) ?? lines.at(-1)
  return cutText(telling ?? 'git said nothing', 300)
}
