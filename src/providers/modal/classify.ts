import { errorMessage, InfrastructureError, type ErrorOwner, type InfrastructureErrorKind } from '../../job/errors.js'
import { isRegistryFault } from '../registry-fault.js'

/**
 * Sorts what the Modal SDK throws into the one vocabulary.
 *
 * The SDK throws four sorts of things: errors of its own classes (told by `name`), `ClientError` straight from gRPC (a
 * class that it does not export, told by `name` and a numeric `code`), plain `Error`s (told by their text), and
 * `AbortError` for a call that was cancelled. Case by case:
 *
 * | thrown | kind |
 * |---|---|
 * | ClientError 16 UNAUTHENTICATED, 7 PERMISSION_DENIED | auth |
 * | plain "Profile is missing credentials", InvalidError about credentials | auth |
 * | ClientError 8 RESOURCE_EXHAUSTED with a retry policy | rate-limited, with its wait |
 * | ClientError 8 whose text speaks of a rate or of throttling | rate-limited |
 * | ClientError 8 otherwise, ResourceExhaustedError | capacity when creating, rate-limited elsewhere |
 * | ClientError 7, 8, 12 or 16 in gRPC's own words: a proxy's page with 403, 200, 404 or 401, and no word of Modal's | transient |
 * | ClientError 3 INVALID_ARGUMENT, 11 OUT_OF_RANGE, 12 UNIMPLEMENTED; InvalidError | invalid |
 * | InvalidError "Unexpected exit status" | transient |
 * | ClientError 5 NOT_FOUND, NotFoundError | invalid (app, image, environment); transient in a sandbox: see below |
 * | ClientError 9 FAILED_PRECONDITION | invalid when creating, checking or injecting headers; transient in a sandbox |
 * | ClientError 6 ALREADY_EXISTS, AlreadyExistsError | transient: the name's holder ended while it was looked up |
 * | ClientError 14 UNAVAILABLE, 4 DEADLINE_EXCEEDED | provider-down: the SDK retried already; transient in a sandbox |
 * | ClientError 1, 2, 10, 13, 15 (CANCELLED, UNKNOWN, ABORTED, INTERNAL, DATA_LOSS) | transient |
 * | ConflictError (the sandbox has finished), ClientClosedError, "Command router access is not available" | transient: see below |
 * | "Deadline exceeded while …", SandboxTimeoutError, TimeoutError | timeout when running a command, transient elsewhere |
 * | "Image build for … failed with the exception", "… unknown status" | invalid |
 * | "Image build for … terminated", "… timed out" | transient |
 * | "Image build for … failed" for a registry that is asked too often, times out or answers 5xx | transient |
 * | the SDK's own checks of parameters ("… must be …", "… cannot be …") | invalid |
 * | AbortError, anything else | transient |
 *
 * None of these is proof that a sandbox is gone. The adapter asks Modal itself after each of them that leaves it open
 * (`mayMeanLost`) and only then says `sandbox-lost`.
 */
export function classify(error: unknown, context: ClassifyContext): InfrastructureError {
  if (error instanceof InfrastructureError) return error
  const isRegistrys = imageFailure.test(errorMessage(error)) && isRegistryFault(errorMessage(error), context.image?.name)
  const kind = isRegistrys ? 'transient' : kindOf(error, context)
  const hidden = hide(describe(error), context.secrets)
  return new InfrastructureError({
    kind,
    owner: isRegistrys ? 'sandbox' : ownerOf(error, kind, context),
    source: context.source,
    message: `${context.source}: ${context.what} failed (${hidden.text})${mend(kind, context)}`,
    retryAfterMs: kind === 'rate-limited' ? context.retryAfterMs : undefined,
    // The raw error would bring back what was taken out of its message.
    cause: hidden.changed ? undefined : error,
  })
}

export interface ClassifyContext {
  readonly source: string
  /** What was tried, for the message: "creating a sandbox". */
  readonly what: string
  readonly during: 'create' | 'exec' | 'inject' | 'sandbox' | 'list' | 'check'
  /** The image that a create asks for, and whose it is. */
  readonly image?: { readonly name: string; readonly owner: ErrorOwner } | undefined
  /** What the server asked to wait, if it did. */
  readonly retryAfterMs?: number | undefined
  /** Values that must not show in the message. */
  readonly secrets?: readonly string[] | undefined
}

/** Whether the sandbox may be gone, so that Modal has to be asked. */
export function mayMeanLost(error: InfrastructureError): boolean {
  return error.kind === 'transient' || error.kind === 'provider-down'
}

function isOfApi(error: unknown): boolean {
  return error instanceof Error && 'path' in error && String(error.path).includes('.ModalClient/')
}

const imageFailure = /^Image build for /

/**
 * Left out where the kind and the call tell. Modal's words for an app, an environment or a token are of what the configuration names;
 * those of an image are of whoever named it.
 */
function ownerOf(error: unknown, kind: InfrastructureErrorKind, context: ClassifyContext): ErrorOwner | undefined {
  // A command may need Modal's API first, and then it is the token that was refused.
  if (kind === 'auth') return onWorker(context) && !isOfApi(error) ? 'sandbox' : 'consumer-keys'
  if (kind !== 'invalid') return undefined
  if (context.during === 'check' || context.during === 'inject' || context.during === 'list') return 'consumer-configuration'
  const text = errorMessage(error)
  if (imageFailure.test(text) || /\bimage\b/i.test(text)) return context.image?.owner
  return isNotFound(error) || /\b(app|environment|region|cloud|workspace)\b/i.test(text) ? 'consumer-configuration' : undefined
}

/** The gRPC code of the SDK's raw errors. */
function grpcCode(error: unknown): number | undefined {
  if (!(error instanceof Error) || error.name !== 'ClientError' || !('code' in error)) return undefined
  return typeof error.code === 'number' ? error.code : undefined
}

/** Whether Modal said that there is no such thing. */
export function isNotFound(error: unknown): boolean {
  return grpcCode(error) === 5 || (error instanceof Error && error.name === 'NotFoundError')
}

export function isAlreadyExists(error: unknown): boolean {
  return grpcCode(error) === 6 || (error instanceof Error && error.name === 'AlreadyExistsError')
}

export function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === 'AbortError'
}

function kindOf(error: unknown, context: ClassifyContext): InfrastructureErrorKind {
  const code = grpcCode(error)
  if (code !== undefined) return kindOfCode(code, errorMessage(error), context)
  const text = errorMessage(error)
  if (/missing credentials|credentials cannot both|OAuth refresh token/i.test(text)) return 'auth'
  return kindOfName(error instanceof Error ? error.name : '', text, context) ?? kindOfText(text, context)
}

function kindOfCode(code: number, message: string, context: ClassifyContext): InfrastructureErrorKind {
  const inSandbox = onWorker(context) || context.during === 'sandbox'
  if ([7, 8, 12, 16].includes(code) && /Received (HTTP status code \d|message larger than)/.test(message)) return 'transient'
  switch (code) {
    case 7:
    case 16:
      return 'auth'
    case 8:
      if (context.retryAfterMs !== undefined || /\brate\b|throttl|too many requests/i.test(message)) return 'rate-limited'
      return context.during === 'create' ? 'capacity' : 'rate-limited'
    case 3:
    case 11:
    case 12:
      return 'invalid'
    case 5:
      return inSandbox ? 'transient' : 'invalid'
    case 9:
      return inSandbox && context.during !== 'inject' ? 'transient' : 'invalid'
    case 4:
    case 14:
      return onWorker(context) ? 'transient' : 'provider-down'
    default:
      return 'transient'
  }
}

function kindOfName(name: string, text: string, context: ClassifyContext): InfrastructureErrorKind | undefined {
  switch (name) {
    case 'InvalidError':
      // The worker said that a command ended, but not how: nothing that asking otherwise would mend.
      return text.startsWith('Unexpected exit status') ? 'transient' : 'invalid'
    case 'NotFoundError':
      return onWorker(context) || context.during === 'sandbox' ? 'transient' : 'invalid'
    case 'ResourceExhaustedError':
      return context.during === 'create' ? 'capacity' : 'rate-limited'
    case 'TimeoutError':
    case 'SandboxTimeoutError':
      return onWorker(context) ? 'timeout' : 'transient'
    case 'AlreadyExistsError':
    case 'ConflictError':
    case 'ClientClosedError':
    case 'AbortError':
      return 'transient'
    default:
      return undefined
  }
}

function kindOfText(message: string, context: ClassifyContext): InfrastructureErrorKind {
  if (/^Image build for \S+ failed/.test(message)) return 'invalid'
  if (/^Image build for /.test(message)) return 'transient'
  if (/^Deadline exceeded/.test(message)) return onWorker(context) ? 'timeout' : 'transient'
  if (/\bmust (also )?(be|specify|not be|contain)\b|\bcannot be\b|^Invalid |is invalid for|are not supported|only support/i.test(message)) return 'invalid'
  return 'transient'
}

/** Whether it was the sandbox's own worker that was called, and not Modal's API. */
function onWorker(context: ClassifyContext): boolean {
  return context.during === 'exec' || context.during === 'inject'
}

/** One line, bounded: an image's build log can be long. */
function describe(error: unknown): string {
  const text = errorMessage(error).replaceAll(/\s+/g, ' ').trim()
  return text.length > 400 ? `${text.slice(0, 400)}…` : text
}

function hide(text: string, secrets: readonly string[] = []): { text: string; changed: boolean } {
  // Short values such as "1" are no secrets, and taking them out would leave nothing to read.
  const clean = secrets.filter((secret) => secret.length >= 6).reduce((rest, secret) => rest.replaceAll(secret, '[redacted]'), text)
  return { text: clean, changed: clean !== text }
}

function mend(kind: InfrastructureErrorKind, context: ClassifyContext): string {
  if (kind === 'auth') return '; give a valid Modal token in the configured environment variables'
  if (kind === 'invalid' && context.during === 'create') return '; check the image, the resources, the app and the environment of this request'
  if (kind === 'invalid' && context.during === 'inject') {
    return '; headers can be injected only where the sandbox was created with injectHeaders and a network that is "open" or a list of addresses'
  }
  return ''
}
