import { z } from 'zod'
import { errorMessage } from '../job/errors.js'

/** Answers requests of the HTTP API: a server far away, or the API of this process. */
export type AnswerRequest = (request: Request) => Response | Promise<Response>

export interface ApiCallsOptions {
  readonly answer: AnswerRequest
  /** The API's own, with a `/` at its end. */
  readonly baseUrl: string
  /** Sent with every request: the key. */
  readonly headers?: Readonly<Record<string, string>> | undefined
}

/** What a call was refused for. Its sentences are for whoever called. */
export class CallRefusedError extends Error {
  override readonly name = 'CallRefusedError'
  constructor(
    /** An `ErrorCode`, or one of a later release. */
    readonly code: string,
    readonly sentences: readonly string[],
  ) {
    super(sentences[0] ?? code)
  }
}

export interface CallOptions {
  readonly query?: Readonly<Record<string, string | number | undefined>> | undefined
  /** Sent as JSON. */
  readonly body?: unknown
  readonly signal?: AbortSignal | undefined
}

/** More than any answer that the API gives to what is asked here. */
const longestAnswerBytes = 32 * 1024 * 1024
const problemSchema = z.object({ code: z.string().max(100), detail: z.string(), problems: z.array(z.string()).optional() })

/** Calls of the HTTP API, as the tools make them. */
export class ApiCalls {
  constructor(private readonly options: ApiCallsOptions) {}

  async get<Schema extends z.ZodType>(schema: Schema, path: string, options: CallOptions = {}): Promise<z.output<Schema>> {
    return this.#parse(schema, await this.#send('GET', path, options))
  }

  async post<Schema extends z.ZodType>(schema: Schema, path: string, options: CallOptions = {}): Promise<z.output<Schema>> {
    return this.#parse(schema, await this.#send('POST', path, options))
  }

  /** Server-sent events, until they end or whoever reads stops. */
  async *events(path: string, options: CallOptions): AsyncGenerator<{ readonly event: string; readonly data: unknown }, void, undefined> {
    const response = await this.#send('GET', path, options)
    const decoder = new TextDecoder()
    let rest = ''
    for await (const bytes of bodyOf(response)) {
      rest += decoder.decode(bytes, { stream: true })
      if (rest.length > longestAnswerBytes) throw this.#strange('sends an event without an end')
      const blocks = rest.split('\n\n')
      rest = blocks.pop() ?? ''
      for (const block of blocks) {
        const fields = new Map(block.split('\n').map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)] as const))
        const [event, data] = [fields.get('event'), fields.get('data')]
        if (event !== undefined && data !== undefined) yield { event, data: this.#json(data) }
      }
    }
  }

  async #send(method: string, path: string, { query = {}, body, signal }: CallOptions): Promise<Response> {
    const url = new URL(path, this.options.baseUrl)
    for (const [name, value] of Object.entries(query)) if (value !== undefined) url.searchParams.set(name, String(value))
    const headers = { ...this.options.headers, ...(body === undefined ? {} : { 'content-type': 'application/json' }) }
    // A redirect would take the key elsewhere.
    const request = new Request(url, { method, headers, redirect: 'manual', ...(body === undefined ? {} : { body: jsonOf(body) }), ...(signal === undefined ? {} : { signal }) })
    let response: Response
    try {
      response = await this.options.answer(request)
    } catch (error) {
      signal?.throwIfAborted()
      throw new CallRefusedError('SWY_HTTP_UNAVAILABLE', [`the HTTP API at ${url.origin} can't be reached (${reasonOf(error)}); see that "switchyard serve" runs there`])
    }
    if (response.ok) return response
    const problem = problemSchema.safeParse(this.#json(await textOf(response).catch(() => '')))
    if (!problem.success) throw this.#strange(`answered ${response.status}, and not as the HTTP API does`)
    const { code, detail, problems = [] } = problem.data
    throw new CallRefusedError(code, problems.length === 0 ? [detail] : problems)
  }

  async #parse<Schema extends z.ZodType>(schema: Schema, response: Response): Promise<z.output<Schema>> {
    const parsed = schema.safeParse(this.#json(await textOf(response).catch((error: unknown) => {
      throw this.#strange(`broke off its answer (${reasonOf(error)})`)
    })))
    if (!parsed.success) throw this.#strange('answered with something else than the HTTP API does')
    return parsed.data
  }

  #json(text: string): unknown {
    try {
      return JSON.parse(text)
    } catch {
      return undefined
    }
  }

  #strange(what: string): CallRefusedError {
    return new CallRefusedError('SWY_HTTP_UNAVAILABLE', [`${new URL(this.options.baseUrl).origin} ${what}; see that the URL is that of "switchyard serve"`])
  }
}

function jsonOf(body: unknown): string {
  try {
    return JSON.stringify(body)
  } catch (error) {
    // The stack has an end, and so has what JSON can be made of.
    if (error instanceof RangeError) throw new CallRefusedError('SWY_INPUT_INVALID', ['arguments: are nested too deeply; send fewer levels'])
    throw error
  }
}

function bodyOf(response: Response): AsyncIterable<Uint8Array> {
  return (response.body ?? []) as unknown as AsyncIterable<Uint8Array>
}

async function textOf(response: Response): Promise<string> {
  const parts: Uint8Array[] = []
  let size = 0
  for await (const part of bodyOf(response)) {
    size += part.length
    if (size > longestAnswerBytes) throw new Error(`it is over ${longestAnswerBytes} bytes`)
    parts.push(part)
  }
  return Buffer.concat(parts).toString('utf8')
}

/** What `fetch` says itself is only that it failed. */
function reasonOf(error: unknown): string {
  const cause = error instanceof Error ? error.cause : undefined
  if (cause instanceof Error) return 'code' in cause && typeof cause.code === 'string' ? cause.code : errorMessage(cause)
  return errorMessage(error)
}
