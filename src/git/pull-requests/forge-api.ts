import type { z } from 'zod'
import { InfrastructureError, errorMessage } from '../../job/errors.js'
import { cutText, harmlessLine } from '../../job/harmless-text.js'
import { keysIn, struckOut } from '../../job/struck-out.js'
import { fetchFailure, sortHttpFailure, type HttpFailure } from '../failures.js'
import type { GitCallOptions } from '../host.js'

export interface ForgeApiOptions {
  /** The host's configured name, for messages. */
  readonly source: string
  /** Base of the API, without a slash at its end. */
  readonly url: string
  /** Headers that name the caller: the key for one repository. */
  readonly authorize: (repository: string) => Promise<Readonly<Record<string, string>>>
  readonly fetch?: typeof globalThis.fetch | undefined
  /** Milliseconds since 1970. */
  readonly now: () => number
}

export interface ForgeCall {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH'
  /** Below the API's base; its parts are encoded. */
  readonly path: string
  /** Where that is below another base, which goes by the API's own. */
  readonly base?: ((url: string) => string) | undefined
  readonly repository: string
  readonly query?: Readonly<Record<string, string>> | undefined
  readonly body?: object | undefined
  /** Refusals that the caller reads itself. */
  readonly allowed?: readonly number[] | undefined
}

export interface ForgeAnswer {
  readonly status: number
  readonly body: unknown
}

const maxAnswerBytes = 8 * 1024 * 1024

/**
 * JSON calls to a host's own API. What fails is sorted as every call to a git host (`sortHttpFailure`), but that a refusal here is the
 * key's, which may push and can't see or open pull requests: 401, 403 and 404. GitHub says 403 for too many calls, too.
 */
export class ForgeApi {
  constructor(private readonly options: ForgeApiOptions) {}

  async call({ method, path, base = (own) => own, repository, query = {}, body, allowed = [] }: ForgeCall, { timeoutMs, signal }: GitCallOptions): Promise<ForgeAnswer> {
    signal?.throwIfAborted()
    const { url, authorize, fetch = globalThis.fetch } = this.options
    const time = AbortSignal.timeout(timeoutMs)
    const search = new URLSearchParams(query).toString()
    const what = `${method} ${path}`
    const authorization = await authorize(repository)
    const headers = { accept: 'application/json', 'user-agent': 'switchyard', ...authorization, ...(body === undefined ? {} : { 'content-type': 'application/json' }) }
    try {
      const response = await fetch(`${base(url)}/${path}${search === '' ? '' : `?${search}`}`, {
        method,
        headers,
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        // A key goes where the configuration says and nowhere else.
        redirect: 'manual',
        signal: signal === undefined ? time : AbortSignal.any([signal, time]),
      })
      const text = await readBounded(response)
      const answer = parseJson(response.ok ? text : struckOut(text, keysIn(authorization)))
      if (response.ok || allowed.includes(response.status)) return { status: response.status, body: answer }
      throw this.#refused(response, `${what} answered ${response.status}${saidIn(answer)}`)
    } catch (error) {
      signal?.throwIfAborted()
      if (error instanceof InfrastructureError) throw error
      const failure: HttpFailure = time.aborted ? { kind: 'no-answer', cause: 'timeout' } : fetchFailure(error)
      throw this.error(sortHttpFailure(failure), `${what} failed: ${time.aborted ? `no answer within ${timeoutMs} ms` : causeOf(error)}`)
    }
  }

  /** An answer's body as its schema says. @throws InfrastructureError `transient` when it is something else: most often a proxy in between. */
  read<Schema extends z.ZodType>(schema: Schema, { status, body }: ForgeAnswer, what: string): z.output<Schema> {
    const parsed = schema.safeParse(body)
    if (parsed.success) return parsed.data
    throw this.error(sortHttpFailure({ kind: 'unexpected-body' }), `${what} answered ${status} with a body that is not what its documentation says (field "${parsed.error.issues[0]?.path.join('.') ?? ''}")`)
  }

  error(sorted: Pick<InfrastructureError, 'kind'> & Partial<Pick<InfrastructureError, 'owner' | 'retryAfterMs'>>, message: string): InfrastructureError {
    return new InfrastructureError({ ...sorted, source: this.options.source, message: `${this.options.source}: pull request: ${message}` })
  }

  #refused({ status, headers }: Response, message: string): InfrastructureError {
    const nowMs = this.options.now()
    const limited = status === 403 && (headers.get('retry-after') !== null || headers.get('x-ratelimit-remaining') === '0')
    const resetSeconds = Number(headers.get('x-ratelimit-reset') ?? NaN)
    const retryAfter = headers.get('retry-after') ?? (Number.isFinite(resetSeconds) ? String(Math.max(1, Math.ceil(resetSeconds - nowMs / 1000))) : null)
    if (limited || status === 429) return this.error(sortHttpFailure({ kind: 'status', status: 429, retryAfter, nowMs }), message)
    if ([401, 403, 404].includes(status)) return this.error({ kind: 'auth', owner: 'consumer-keys' }, `${message}; give the consumer a key that may read and write this repository's pull requests (git.api.tokenEnv, or the token that pushes)`)
    if (status >= 300 && status < 400) return this.error({ kind: 'invalid', owner: 'consumer-configuration' }, `${message}, which leads elsewhere; name the repository as it is called now, and mend git.api.url`)
    return this.error(sortHttpFailure({ kind: 'status', status }), message)
  }
}

async function readBounded(response: Response): Promise<string> {
  const parts: Uint8Array[] = []
  let bytes = 0
  for await (const part of (response.body ?? []) as AsyncIterable<Uint8Array>) {
    bytes += part.length
    if (bytes > maxAnswerBytes) throw new Error(`the answer is over ${maxAnswerBytes} bytes`)
    parts.push(part)
  }
  return Buffer.concat(parts).toString('utf8')
}

function parseJson(text: string): unknown {
  try {
    return text === '' ? undefined : JSON.parse(text)
  } catch {
    // A proxy's page: what needs a body says so when it reads it.
    return undefined
  }
}

/** What a refusal says, whatever the host's form for it, in one short line. */
export function saidIn(body: unknown): string {
  const texts: string[] = []
  const collect = (value: unknown, depth: number): void => {
    if (texts.length >= 5 || depth > 4) return
    if (typeof value === 'string') texts.push(value)
    else if (Array.isArray(value)) value.forEach((each) => collect(each, depth + 1))
    else if (typeof value === 'object' && value !== null) {
      for (const [name, inner] of Object.entries(value)) if (!/url|type|status/.test(name)) collect(inner, depth + 1)
    }
  }
  collect(body, 0)
  return texts.length === 0 ? '' : `: ${harmlessLine(cutText(texts.join('; ').replaceAll(/\s+/g, ' '), 300))}`
}

function causeOf(error: unknown): string {
  let text = errorMessage(error)
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) text = cause.message === '' ? cause.name : cause.message
  return cutText(text, 300)
}
