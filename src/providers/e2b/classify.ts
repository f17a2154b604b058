/**
 * Sorts whatever the E2B SDK throws into Switchyard's one vocabulary.
 *
 * On the control plane (create, connect, get, list, kill, network):
 * - no API key, or 401 and 403 → `auth`
 * - 429 that speaks of concurrent sandboxes → `capacity`; any other 429 → `rate-limited`. The SDK does not hand on the
 *   Retry-After header, so the wait is found out by trying.
 * - 400, 403, 404, 422 and 503 that are not E2B's own answer (`isForeign`) → `transient`, with a hint to look at the URLs: they say nothing
 *   of what was asked, and of a create not even that it was refused
 * - 503 (no machine has room) → `capacity`; 503 "no compatible node" → `invalid`: no machine ever fits the template
 * - 500 "Failed to place sandbox: …" with a node's own reason → `invalid`; the template's, as is a 403 for it
 * - 504 (placement took too long) and every other 5xx, 408 and 409 → `transient`; a create may have gone through
 * - 404 of a create → `invalid`: no such template. 404 for a sandbox → `transient`: the caller must ask `get`.
 * - 400 "Max instance length exceeded" for a sandbox → `transient`: it is about to end, and `get` will say so
 * - 400 (lifetime over the plan's, network rules that the team may not use), 413 and 422 → `invalid`
 * - any other 4xx, such as a 404 that is not E2B's → `transient`, with a hint to look at the URLs
 * - `fetch failed` before anything was sent (refused, no such host, no connection in time) → `provider-down`
 * - `fetch failed` for another reason (reset, closed, TLS) and broken JSON → `transient`
 * - the SDK's own request timeout (a DOMException, not e2b.TimeoutError) → `timeout`
 *
 * In the sandbox (exec):
 * - "not found", which the SDK also says for 429, 502, 503 and 504 → `transient`: the caller must ask `get`
 * - a stream that broke: "killed or reached its end of life", "terminated", a missing last frame → `transient`, likewise
 * - `[deadline_exceeded]` → `timeout`; `[canceled]` → `timeout` too, since a cancelled call never gets here (see `bounded`)
 * - a working directory that does not exist, in envd's own sentence → `invalid`; any other "invalid argument" → `transient`, for
 *   the SDK says that of a garbled stream as well, and envd quotes whole commands in it. A command that envd could not start is the
 *   sandbox's.
 * - 401 "invalid username" → `invalid`: the configured user, or the template's own, is not there
 * - 429 → `rate-limited`; a refused access token → `auth`, once a fresh one was tried
 *
 * Anything else → `transient`. `sandbox-lost` is never decided here: only `get` can confirm it.
 *
 * No message of an exec carries the SDK's text, which may quote the command; others carry it with secrets struck out.
 */
import { STATUS_CODES } from 'node:http'
import { InfrastructureError, errorMessage, type ErrorOwner, type InfrastructureErrorKind } from '../../job/errors.js'

export interface ClassifyContext {
  /** The provider's configured name. */
  readonly source: string
  /** What was being done, such as "create". */
  readonly what: 'create' | 'connect' | 'get' | 'list' | 'kill' | 'extend' | 'check' | 'exec' | 'network'
  /** The environment variable to name when credentials are refused. */
  readonly apiKeyEnv: string
  /** Whose the template is that a create asks for. */
  readonly template?: ErrorOwner | undefined
  /** Whether commands have run in this sandbox, as the same user. */
  readonly ranBefore?: boolean | undefined
  /** The user that the configuration has commands run as. */
  readonly user?: string | undefined
  /** Texts that must not show in a message. */
  readonly secrets: readonly string[]
}

interface Sorted {
  readonly kind: InfrastructureErrorKind
  /** Left out where the kind and the call tell. */
  readonly owner?: ErrorOwner | undefined
  readonly because: string
}

export function classify(raw: unknown, context: ClassifyContext): InfrastructureError {
  if (raw instanceof InfrastructureError) return raw
  const { kind, because, owner = presumed(kind, context) } = sort(raw, context)
  const told = context.what === 'exec' ? '' : quoted(raw, context.secrets)
  return new InfrastructureError({ kind, owner, source: context.source, message: `${context.source}: ${context.what}: ${because}${told}` })
}

/** A check asks for nothing of a job's; and a key that the API refuses is the consumer's, whatever it was wanted for. */
function presumed(kind: InfrastructureErrorKind, { what }: ClassifyContext): ErrorOwner | undefined {
  if (kind === 'invalid' && what === 'check') return 'consumer-configuration'
  if (kind === 'auth') return what === 'exec' ? 'sandbox' : 'consumer-keys'
  return undefined
}

function sort(raw: unknown, context: ClassifyContext): Sorted {
  const { what, apiKeyEnv } = context
  const name = raw instanceof Error ? raw.name : ''
  const message = errorMessage(raw)
  const status = statusOf(raw)
  switch (name) {
    case 'AuthenticationError':
      if (what === 'exec' && /invalid (default )?user(name)?: '|no user specified/.test(message)) return sortUser(context)
      return what === 'exec'
        ? { kind: 'auth', because: 'the sandbox refused its access token, also a fresh one' }
        : { kind: 'auth', because: `the API key was refused; put a valid one into ${apiKeyEnv}` }
    case 'RateLimitError':
      return /concurrent/i.test(message)
        ? { kind: 'capacity', because: 'the account runs as many sandboxes as its plan allows; wait, or raise the limit with E2B' }
        : { kind: 'rate-limited', because: 'too many calls in a short time' }
    case 'ServiceBusyError':
      if (isForeign(message)) return foreign(503)
      if (/no compatible node/i.test(message)) return { kind: 'invalid', owner: context.template, because: 'no machine of E2B’s fits what the template requires, so that waiting does not help; build it again, or name another one' }
      return { kind: 'capacity', because: 'E2B has no room for a sandbox at present' }
    case 'SandboxNotFoundError':
      return { kind: 'transient', because: 'the sandbox did not answer or is gone' }
    case 'InvalidArgumentError':
      return sortInvalidArgument(message, what)
    case 'TemplateError':
      return { kind: 'invalid', owner: context.template, because: 'the template is too old for this SDK; build it again' }
    case 'TimeoutError':
      return sortTimeout(raw, message)
    case 'TypeError':
      return sortSocketFailure(raw)
    default:
      return status === undefined ? { kind: 'transient', because: streamProblem(message) } : sortStatus(status, message, context)
  }
}

/** The SDK says "invalid argument" also of a stream that it can't read; that must not be final. */
function sortInvalidArgument(message: string, what: ClassifyContext['what']): Sorted {
  if (what !== 'exec') return { kind: 'invalid', because: 'E2B refused an argument' }
  if (/^(\[invalid_argument\] )?cwd '[^\n]*' does not exist$/.test(message)) return { kind: 'invalid', because: 'the working directory does not exist in the sandbox' }
  // envd's own word of this sandbox: it was reached.
  return /^(\[invalid_argument\] )?error starting process /.test(message)
    ? { kind: 'transient', owner: 'sandbox', because: 'the sandbox could not start the command: its shell is not there, or the command is too long' }
    : { kind: 'transient', because: 'the answer could not be read' }
}

/** Two classes share the name: the SDK's, for streams, and the platform's DOMException, for a request that took too long. */
function sortTimeout(raw: unknown, message: string): Sorted {
  if (raw instanceof DOMException) return { kind: 'timeout', because: 'there was no answer in time' }
  if (/\[(deadline_exceeded|canceled)\]/.test(message)) return { kind: 'timeout', because: 'the command did not end in time; it was killed' }
  return { kind: 'transient', because: 'the connection broke, perhaps because the sandbox ended' }
}

const neverSent = ['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH', 'UND_ERR_CONNECT_TIMEOUT']

function sortSocketFailure(raw: unknown): Sorted {
  const codes = causesOf(raw).map((cause) => ('code' in cause ? String(cause.code) : ''))
  return codes.some((code) => neverSent.includes(code))
    ? { kind: 'provider-down', because: 'E2B can’t be reached' }
    : { kind: 'transient', because: 'the connection to E2B broke' }
}

/** envd's word for a user that it does not know, which it says before it has started anything. */
function sortUser({ user: configured, ranBefore }: ClassifyContext): Sorted {
  if (configured !== undefined && ranBefore === true) return { kind: 'invalid', owner: 'sandbox', because: `the user "${configured}" does not exist in the sandbox any more; what removed it has to leave it there` }
  return configured === undefined
    ? { kind: 'invalid', owner: 'sandbox', because: 'the user that the template’s commands run as does not exist in the sandbox any more; what removed it has to leave it there' }
    : { kind: 'invalid', owner: 'consumer-configuration', because: `the sandbox has no user "${configured}"; set user to one that the template has, or leave it out` }
}

/** A node's own words for why it can't ever start a sandbox of this template. */
const refusedPlacement = /^(500: )?Failed to place sandbox: (?!placement timed out|sandbox creation failed on )\S/

function sortStatus(status: number, message: string, { what, template }: ClassifyContext): Sorted {
  if ([400, 403, 404, 422].includes(status) && isForeign(message)) return foreign(status)
  if (what !== 'create' && /max instance length exceeded/i.test(message)) return { kind: 'transient', because: 'the sandbox’s lifetime is over: the plan gives no more' }
  if (what === 'create' && status === 403 && /access to template/i.test(message)) return { kind: 'invalid', owner: template, because: 'the account may not use the template; name one of its own, or have it shared' }
  if (what === 'create' && status === 500 && refusedPlacement.test(message)) return { kind: 'invalid', owner: template, because: 'E2B can’t start a sandbox of this template, and says that no repetition helps; build it again, or name another one' }
  if (status === 403) return { kind: 'auth', because: 'the account may not do this; look at its state and plan in E2B’s dashboard' }
  if (status === 404 && what === 'create') return { kind: 'invalid', owner: template, because: 'E2B does not know the template; build it, or name another one' }
  if (status === 400 || status === 413 || status === 422) return { kind: 'invalid', ...mendOf(message, template) }
  if (status === 504) return { kind: 'transient', because: 'E2B did not place the sandbox in time' }
  if (status >= 500 || status === 408 || status === 409) return { kind: 'transient', because: `E2B answered ${status}` }
  return foreign(status)
}

function foreign(status: number): Sorted {
  return { kind: 'transient', because: `the answer was ${status} and not one of E2B’s; look at apiUrl, sandboxUrl and proxies in between` }
}

/** What the SDK puts before an answer's own words. */
const sdkWords = /^(\d{3}: |Service temporarily unavailable, please retry( - )?)/

/** Whether an answer is a proxy's or a load balancer's: a page, its one line, or nothing but its status. E2B says everything in JSON with a message. */
function isForeign(message: string): boolean {
  const said = message.replace(sdkWords, '').trim()
  return said === '' || said.startsWith('<') || Object.values(STATUS_CODES).includes(said) || /^(upstream |no healthy upstream|default backend|404 page not found|error code: )/i.test(said)
}

function mendOf(message: string, template: ErrorOwner | undefined): Pick<Sorted, 'owner' | 'because'> {
  if (/timeout cannot be greater/i.test(message)) return { owner: 'consumer-configuration', because: 'the lifetime is longer than the plan allows; set maxLifetime to the plan’s' }
  if (/transform rules are not available/i.test(message)) return { owner: 'consumer-configuration', because: 'this team may not have headers injected; ask E2B, or use other credentials than "injected"' }
  if (/\btemplate\b/i.test(message)) return { owner: template, because: 'E2B refused the template; build it again, or name another one' }
  return { because: 'E2B refused the request' }
}

function streamProblem(message: string): string {
  if (/terminated|EndStreamResponse|premature|socket/i.test(message)) return 'the output stream broke off'
  return 'an error that E2B’s SDK does not explain'
}

function statusOf(raw: unknown): number | undefined {
  if (typeof raw === 'object' && raw !== null && 'statusCode' in raw && typeof raw.statusCode === 'number') return raw.statusCode
  const code = raw instanceof Error ? /^(\d{3}): /.exec(raw.message)?.[1] : undefined
  return code === undefined ? undefined : Number(code)
}

function causesOf(raw: unknown): Error[] {
  if (!(raw instanceof Error)) return []
  const inner = raw instanceof AggregateError ? (raw.errors as unknown[]) : []
  return [raw, ...inner.flatMap(causesOf), ...causesOf(raw.cause)]
}

const longestQuote = 300

function quoted(raw: unknown, secrets: readonly string[]): string {
  const struck = secrets.filter((secret) => secret !== '').reduce((text, secret) => text.replaceAll(secret, '…'), errorMessage(raw))
  return ` (${struck.length > longestQuote ? `${struck.slice(0, longestQuote)}…` : struck})`
}
