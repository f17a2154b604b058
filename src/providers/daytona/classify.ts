import { InfrastructureError, errorMessage, type ErrorOwner, type InfrastructureErrorKind } from '../../job/errors.js'
import { cutText } from '../../job/harmless-text.js'
import type { DaytonaResources } from './create-params.js'
import { isBecomingReady, snapshotState } from './snapshot-state.js'

/**
 * Sorts what the Daytona SDK throws into the one vocabulary. By case, the first that fits:
 *
 * | raw | sorted |
 * |---|---|
 * | 400 "Total CPU (memory, disk, GPU) limit exceeded. Maximum allowed: N" | `capacity`; `invalid` when the request alone is above N, or N is 0 |
 * | 400 "… limit (quota) reached (exceeded)", "No available runners", code `NO_AVAILABLE_RUNNERS` | `capacity` |
 * | 400 "Snapshot X is pending (pulling, building)" | `transient` |
 * | 400 "Snapshot X is inactive (error, …)" | `invalid`; one of the operator's entry is activated first, see ./snapshot.ts |
 * | 429 | `rate-limited`, with the wait of `retry-after-sandbox-create` or of any other `retry-after…` header |
 * | 401; 403 (also a suspended organisation) | `auth` |
 * | 408 and 504 from the daemon (`exec`: its own limit on the command) | `timeout` |
 * | 408, 504 otherwise | `transient` |
 * | 400 `SANDBOX_NOT_STARTED`, 400 or 409 "state change in progress", other 409 | `transient` |
 * | 400, 404, 410 and 422 that are not Daytona's own answer, see `isOwnWord` | `transient` |
 * | 404 and 410 of a sandbox | `transient`: only a `get` may say that it is lost, see `mayBeLost` |
 * | 400, 404, 413, 422 otherwise | `invalid` |
 * | 503; connection refused, host unknown or unreachable | `provider-down` |
 * | 500, 502 and every other 5xx; connection reset; the SDK's own HTTP deadline | `transient` |
 * | a status below 400: the answer was cut after its head | `transient` |
 * | "Timeout" of the SDK's own waiting (create, delete) | `timeout` |
 * | arguments that the SDK refused before sending anything | `invalid` |
 * | no credentials given to the SDK | `auth` |
 * | anything else | `transient` |
 *
 * Nothing here says `sandbox-lost`: the provider does, after `get` has confirmed it. The raw error goes no further, not
 * as the cause either: what Daytona says may repeat the API key, a command or its environment.
 */
export function classify(raw: unknown, context: ClassifyContext): InfrastructureError {
  if (raw instanceof InfrastructureError) return raw
  const error = readError(raw)
  const sorted = sort(error, context)
  const detail = describe(error, context)
  const mend = sorted.mend === undefined ? '' : `; ${sorted.mend}`
  return new InfrastructureError({
    kind: sorted.kind,
    owner: sorted.owner ?? presumed(sorted.kind, context),
    source: context.source,
    message: `${context.source}: ${context.call} failed: ${detail}${mend}`,
    retryAfterMs: sorted.kind === 'rate-limited' ? retryAfterMs(error.headers) : undefined,
  })
}

/** A check asks for nothing of a job's; and a key that the API refuses is the consumer's, whatever it was wanted for. */
function presumed(kind: InfrastructureErrorKind, { call }: ClassifyContext): ErrorOwner | undefined {
  if (kind === 'invalid' && call === 'check') return 'consumer-configuration'
  return kind === 'auth' && call !== 'exec' ? 'consumer-keys' : undefined
}

/** The SDK calls that can fail, as messages name them. */
export type DaytonaCall = 'create' | 'get' | 'exec' | 'kill' | 'list' | 'extend' | 'check'

export interface ClassifyContext {
  readonly source: string
  readonly call: DaytonaCall
  /** What a create asked for, to tell a full pool from a request that is too large for it. */
  readonly resources?: DaytonaResources | undefined
  /** Whose the image or the snapshot is that a create asks for. */
  readonly image?: ErrorOwner | undefined
  /** Names the API key's variable in the mend of an `auth` error. */
  readonly apiKeyEnv: string
  /** Never repeated in a message. */
  readonly apiKey?: string | undefined
}

/**
 * Whether an error of a call to a known sandbox may mean that the sandbox is gone. Daytona shows that as 400, 401, 403,
 * 404, 410 or a gateway's error, and every one of these has other causes too: ask `get`.
 */
export function mayBeLost(raw: unknown): boolean {
  if (raw instanceof InfrastructureError) return raw.kind === 'transient'
  const { status, name } = readError(raw)
  if (status === undefined) return name === 'DaytonaConnectionError'
  return status < 400 || [400, 401, 403, 404, 409, 410].includes(status) || (status >= 500 && status !== 504)
}

/** Whether Daytona says itself that there is no such sandbox; to be believed only of a `get` on the control plane. */
export function isNotFound(raw: unknown): boolean {
  const error = readError(raw)
  return error.status === 404 && isOwnWord(error)
}

/** Whether the API has no such call, as one that is hosted by oneself may not. */
export function isUnknownCall(raw: unknown): boolean {
  return readError(raw).status === 404
}

/** Whether a create was refused because its name is taken. */
export function isConflict(raw: unknown): boolean {
  return readError(raw).status === 409
}

/** Whether a create's own request was refused for what it asks; no answer to a look at a sandbox is like that. */
export function isBadRequest(raw: unknown): boolean {
  return [400, 413, 422].includes(readError(raw).status ?? 0)
}

/**
 * Whether an answer is Daytona's, which says everything in JSON. A proxy in between, or another server while the API is renewed, answers
 * 404 and 400 by a page of its own, and an API of another version says "Cannot GET" of a path that it does not know: neither knows of sandboxes.
 */
function isOwnWord({ message, headers }: Pick<RawError, 'message' | 'headers'>): boolean {
  const type = typeof headers === 'object' && headers !== null ? String(Reflect.get(headers, 'content-type')) : ''
  return /\bjson\b/i.test(type) && !/^Cannot [A-Z]+ \//.test(message)
}

/** Whether the sandbox is in between two states, where Daytona refuses every change: wait and try again. */
export function isStateChange(raw: unknown): boolean {
  const { status, message } = readError(raw)
  return (status === 400 || status === 409) && /state change in progress|is in a state transition/i.test(message)
}

interface RawError {
  readonly name: string
  readonly message: string
  readonly status: number | undefined
  readonly code: string | undefined
  readonly origin: string | undefined
  readonly headers: unknown
}

interface Sorted {
  readonly kind: InfrastructureErrorKind
  /** Left out where the kind and the call tell. */
  readonly owner?: ErrorOwner | undefined
  readonly mend?: string
}

/** Reads the SDK's errors by their shape: its classes can't be imported without loading it. */
function readError(raw: unknown): RawError {
  const fields: Readonly<Record<string, unknown>> = typeof raw === 'object' && raw !== null ? { ...raw } : {}
  return {
    name: raw instanceof Error ? raw.name : '',
    message: errorMessage(raw),
    status: typeof fields.statusCode === 'number' ? fields.statusCode : undefined,
    code: typeof fields.code === 'string' ? fields.code : undefined,
    origin: typeof fields.source === 'string' ? fields.source : undefined,
    headers: fields.headers,
  }
}

function sort(error: RawError, context: ClassifyContext): Sorted {
  if (error.status === undefined) return sortWithoutStatus(error, context)
  if (error.status < 400) return { kind: 'transient' }
  if (error.status >= 500) return sortServerError(error, context)
  return sortClientError(error, error.status, context)
}

function sortClientError(error: RawError, status: number, context: ClassifyContext): Sorted {
  const ofSandbox = context.call === 'exec' || context.call === 'get' || context.call === 'kill' || context.call === 'extend'
  if ([400, 404, 410, 422].includes(status) && !isOwnWord(error)) return { kind: 'transient', mend: 'that is no answer of Daytona\'s; check apiUrl, and proxies in between' }
  switch (status) {
    case 401:
      return { kind: 'auth', mend: `check the API key in ${context.apiKeyEnv}` }
    case 403:
      if (/region .* is not available/i.test(error.message)) return { kind: 'invalid', owner: 'consumer-configuration', mend: 'set target to a region of the organisation\'s' }
      return { kind: 'auth', mend: `check the permissions of the API key in ${context.apiKeyEnv}, and that the organisation is not suspended` }
    case 408:
      return { kind: context.call === 'exec' ? 'timeout' : 'transient' }
    case 409:
      return { kind: 'transient' }
    case 429:
      return { kind: 'rate-limited' }
    case 404:
    case 410:
      return ofSandbox ? { kind: 'transient' } : { kind: 'invalid', owner: context.image, mend: 'check the names of the image, the snapshot and the target' }
    case 400:
      return sortBadRequest(error, context)
    default:
      return { kind: 'invalid', mend: 'the request can\'t succeed as it is' }
  }
}

/** A 400 is Daytona's answer to a full pool, to a sandbox that is not there, and to a request that is wrong. */
function sortBadRequest(error: RawError, context: ClassifyContext): Sorted {
  const quota = /total (cpu|memory|disk|gpu) limit exceeded(?:.*?maximum allowed: *(\d+(?:\.\d+)?))?/i.exec(error.message)
  if (quota !== null) {
    const wanted = requested(context.resources, quota[1])
    const allowed = quota[2] === undefined ? undefined : Number(quota[2])
    if (allowed === 0) return { kind: 'invalid', owner: 'consumer-configuration', mend: 'the organisation has none of it in this region; set target to another one, or have the limit raised' }
    if (wanted !== undefined && allowed !== undefined && wanted > allowed) {
      return { kind: 'invalid', mend: `this job alone asks for ${wanted}; lower its resources, or raise the organisation's limits` }
    }
    return { kind: 'capacity' }
  }
  if (error.code === 'NO_AVAILABLE_RUNNERS' || /no available runners/i.test(error.message)) return { kind: 'capacity' }
  if (/(sandbox|sandboxes|resource)\b.*\b(limit|quota) (reached|exceeded)/i.test(error.message)) return { kind: 'capacity' }
  if (error.code === 'SANDBOX_NOT_STARTED' || isStarting(error.message)) return { kind: 'transient' }
  const snapshot = snapshotState(error.message)
  if (isBecomingReady(snapshot)) return { kind: 'transient', mend: 'it is not ready yet' }
  if (snapshot !== undefined) return { kind: 'invalid', owner: context.image, mend: 'activate or build it in Daytona\'s dashboard, or name another one' }
  if (/default region|\bregion\b.*not found/i.test(error.message)) return { kind: 'invalid', owner: 'consumer-configuration', mend: 'set target, or the organisation\'s default region' }
  if (context.call === 'create' && /\b(snapshot|image|dockerfile)\b/i.test(error.message)) return { kind: 'invalid', owner: context.image, mend: 'change the image, the snapshot, the target or the resources' }
  if (context.call === 'create') return { kind: 'invalid', mend: 'change the image, the snapshot, the target or the resources' }
  return { kind: 'invalid' }
}

function isStarting(message: string): boolean {
  return /state change in progress|is the sandbox started|not (started|running)/i.test(message)
}

function sortServerError(error: RawError, context: ClassifyContext): Sorted {
  if (error.status === 503) return { kind: 'provider-down' }
  if (error.status === 504 && context.call === 'exec' && error.origin === 'DAYTONA_DAEMON') return { kind: 'timeout' }
  return { kind: 'transient' }
}

function sortWithoutStatus(error: RawError, context: ClassifyContext): Sorted {
  switch (error.name) {
    case 'DaytonaConnectionTimeoutError':
      return { kind: 'transient' }
    case 'DaytonaTimeoutError':
      return { kind: 'timeout' }
    case 'DaytonaInvalidArgumentError':
      return { kind: 'invalid' }
    case 'DaytonaAuthenticationError':
      return { kind: 'auth', owner: 'consumer-keys', mend: `set ${context.apiKeyEnv}` }
    default:
      // The SDK drops the socket's error code; its message keeps it.
      return /ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|CERT_|certificate/.test(error.message)
        ? { kind: 'provider-down', mend: 'check apiUrl and the network' }
        : { kind: 'transient' }
  }
}

function requested(resources: DaytonaResources | undefined, word: string | undefined): number | undefined {
  switch (word?.toLowerCase()) {
    case 'cpu':
      return resources?.cpu
    case 'memory':
      return resources?.memory
    case 'disk':
      return resources?.disk
    default:
      return undefined
  }
}

function describe(error: RawError, context: ClassifyContext): string {
  const facts = [error.status === undefined ? error.name : `HTTP ${error.status}`, error.code].filter(Boolean).join(' ')
  // The daemon may repeat the command.
  if (context.call === 'exec') return facts === '' ? 'the outcome is unknown' : facts
  const said = context.apiKey === undefined || context.apiKey === '' ? error.message : error.message.replaceAll(context.apiKey, '***')
  const message = cutText(said.replace(/\s+/g, ' ').trim(), 300)
  return facts === '' ? message : `${message} (${facts})`
}

/**
 * Daytona names the limit that was hit in the header's name: `retry-after-sandbox-create`, `retry-after-authenticated`
 * and so on. The longest wait counts.
 */
function retryAfterMs(headers: unknown): number | undefined {
  if (typeof headers !== 'object' || headers === null) return undefined
  const waits: number[] = []
  for (const [name, value] of Object.entries(headers)) {
    if (!/^retry-after\b/i.test(name)) continue
    const text = String(value)
    const seconds = Number(text)
    const ms = text.trim() === '' || Number.isNaN(seconds) ? Date.parse(text) - Date.now() : seconds * 1000
    if (Number.isFinite(ms) && ms >= 0) waits.push(Math.ceil(ms))
  }
  return waits.length === 0 ? undefined : Math.max(...waits)
}
