import { type ErrorCode, InvalidInputError, SwitchyardError } from '../job/errors.js'
import { HttpRefusalError } from './refusal.js'

/** RFC 9457. */
export interface Problem {
  /** `urn:switchyard:error:` and the code. */
  readonly type: string
  readonly title: string
  readonly status: number
  /** One sentence: what is wrong, and the mend. */
  readonly detail: string
  readonly code: ErrorCode
  /** Of wrong input: every problem, one sentence each. */
  readonly problems?: readonly string[]
}

const titles: Readonly<Record<number, string>> = {
  400: 'The request is malformed',
  401: 'A valid API key is needed',
  403: 'Not allowed',
  404: 'Not found',
  405: 'Not for this path',
  408: 'Too slow',
  409: 'In conflict with what is there',
  413: 'Too large',
  415: 'Not a content type that is taken',
  422: 'The input is wrong',
  429: 'Too many requests',
  431: 'The header is too large',
  500: 'A defect of Switchyard’s own',
  503: 'Not available now',
}

/** What the codes of a queue's own errors are in HTTP; whatever is not here is our own fault. */
const statuses: Partial<Readonly<Record<ErrorCode, number>>> = {
  SWY_INPUT_INVALID: 422,
  SWY_IDEMPOTENCY_CONFLICT: 409,
  SWY_CHECKPOINT_GONE: 409,
  SWY_KEY_TAKEN: 409,
  SWY_JOB_UNKNOWN: 404,
  SWY_SCHEDULE_UNKNOWN: 404,
  SWY_NAME_UNKNOWN: 404,
  SWY_REDIS_UNAVAILABLE: 503,
  SWY_QUEUE_CLOSED: 503,
  SWY_NEWER_RELEASE: 503,
  SWY_OLDER_RELEASE: 503,
  // Of the artifact store: its key, its settings.
  SWY_CONSUMER_KEY_REFUSED: 503,
  SWY_CONSUMER_CONFIGURATION: 503,
  SWY_DEPLOYMENT: 503,
}

const mostProblems = 100
const longestSentence = 2_000

/** A refusal, and the headers that go with it. */
export interface ProblemAnswer {
  readonly problem: Problem
  readonly headers: Readonly<Record<string, string>>
}

/** What an error is to whoever asked. Of one that nobody foresaw nothing is told: what it says may be of somebody else. */
export function problemOf(error: unknown): ProblemAnswer {
  if (error instanceof HttpRefusalError) return { problem: problem(error.status, error.code, error.message), headers: error.headers }
  if (error instanceof SwitchyardError) {
    const status = statuses[error.code]
    if (status !== undefined) {
      const problems = error instanceof InvalidInputError ? { problems: error.problems.slice(0, mostProblems).map(cut) } : {}
      return { problem: { ...problem(status, error.code, error.message), ...problems }, headers: status === 503 ? { 'retry-after': '1' } : {} }
    }
  }
  return { problem: problem(500, 'SWY_INTERNAL', 'something went wrong that should not; the server’s own log says what'), headers: {} }
}

export function problem(status: number, code: ErrorCode, detail: string): Problem {
  return { type: `urn:switchyard:error:${code}`, title: titles[status] ?? 'Refused', status, detail: cut(detail), code }
}

export function problemResponse({ problem: body, headers }: ProblemAnswer): Response {
  return new Response(JSON.stringify(body), { status: body.status, headers: { ...headers, 'content-type': 'application/problem+json' } })
}

function cut(text: string): string {
  return text.length > longestSentence ? `${text.slice(0, longestSentence)}…` : text
}
