import { type ErrorCode, SwitchyardError } from '../job/errors.js'

/** A request that is refused before a queue is asked. `message` is one sentence with the mend; it repeats no secret. */
export class HttpRefusalError extends SwitchyardError {
  override readonly name = 'HttpRefusalError'
  override readonly code: ErrorCode
  constructor(
    readonly status: number,
    code: ErrorCode,
    message: string,
    /** Sent along. */
    readonly headers: Readonly<Record<string, string>> = {},
  ) {
    super(message)
    this.code = code
  }
}

export function malformed(message: string): HttpRefusalError {
  return new HttpRefusalError(400, 'SWY_HTTP_MALFORMED', message)
}

/** @param error what RFC 6750 calls it, for a key that was given. */
export function unauthenticated(message: string, error?: 'invalid_token'): HttpRefusalError {
  return new HttpRefusalError(401, 'SWY_HTTP_UNAUTHENTICATED', message, { 'www-authenticate': `Bearer realm="switchyard"${error === undefined ? '' : `, error="${error}"`}` })
}

export function forbidden(message: string): HttpRefusalError {
  return new HttpRefusalError(403, 'SWY_HTTP_FORBIDDEN', message)
}
