/**
 * Sorts whatever comes of a call to the engine into Switchyard's one vocabulary.
 *
 * - no socket, or nothing listens on it → `provider-down`; a socket that this user may not open → `auth`
 * - no room on the engine's disk, no memory, no more processes, no free network address (a 500 that says so) → `capacity`
 * - what a create's image, or the entry's network, runtime or user, is refused for → `invalid`, of whoever named it. Podman says 500 of that.
 * - 404 of a create that speaks of an image → `invalid`. Any other 404, and 409 (stopped, being removed) → `transient`: the
 *   caller must ask `get`.
 * - an exec as a user that is not in the container's /etc/passwd (any more) → `transient`, the sandbox's
 * - 400 → `invalid`, such as an image without /bin/sh; 401 and 403 (an authorization plug-in) → `auth`
 * - 503 (Docker that stops) → `provider-down`; every other 5xx → `transient`: the engine says 500 of almost everything
 * - a broken connection or an answer that can't be read → `transient`
 *
 * `sandbox-lost` is never decided here: only `get` can confirm it. No message of an exec carries the engine's text, which may
 * quote the command.
 */
import { errorMessage, InfrastructureError, type ErrorOwner, type InfrastructureErrorKind } from '../../job/errors.js'
import { EngineError } from './engine.js'

export interface ClassifyContext {
  readonly source: string
  readonly what: 'create' | 'get' | 'list' | 'kill' | 'extend' | 'check' | 'exec'
  readonly socketPath: string
  /** Whose the image is that a create asks for. */
  readonly image?: ErrorOwner | undefined
  /** The user of the provider's entry. */
  readonly user?: string | undefined
}

export function classify(raw: unknown, context: ClassifyContext): InfrastructureError {
  if (raw instanceof InfrastructureError) return raw
  const { kind, owner, because } = raw instanceof EngineError ? sortStatus(raw, context) : sortConnection(raw, context)
  const told = context.what === 'exec' || !(raw instanceof EngineError) ? '' : ` (${raw.message})`
  return new InfrastructureError({ kind, owner, source: context.source, message: `${context.source}: ${context.what}: ${because}${told}` })
}

interface Sorted {
  readonly kind: InfrastructureErrorKind
  /** Left out where the kind and the call tell. */
  readonly owner?: ErrorOwner | undefined
  readonly because: string
}

/** What is wrong with what a create names; it would be the same at the next try. */
function sortNamed({ status, message }: EngineError, { image, user }: ClassifyContext): Sorted | undefined {
  if (status === 404 && /image/i.test(message)) return { kind: 'invalid', owner: image, because: 'the engine does not have the image; pull or build it there, or name another one' }
  if (/invalid reference format|repository name must be/i.test(message)) return { kind: 'invalid', owner: image, because: 'the image’s name is none that the engine takes; name another one' }
  const ofEntry = (because: string): Sorted => ({ kind: 'invalid', owner: 'consumer-configuration', because })
  if (/\bnetwork \S+ not found|unable to find network/i.test(message)) return ofEntry('the engine does not have the network of this provider’s entry; make it there, or set network to another one')
  if (/(unknown|invalid) runtime|runtime \S+ not found/i.test(message)) return ofEntry('the engine does not have the runtime of this provider’s entry; install it there, or leave runtime out')
  if (!/unable to find user|no matching entries in passwd/i.test(message)) return undefined
  return user === undefined ? { kind: 'invalid', owner: image, because: 'the image’s user is not in its /etc/passwd; build it again, or name another one' } : ofEntry(`the image has no user "${user}"; set user to one that it has, or to a number`)
}

function sortStatus(error: EngineError, context: ClassifyContext): Sorted {
  const { status, message } = error
  const { what } = context
  const named = what === 'create' ? sortNamed(error, context) : undefined
  if (named !== undefined) return named
  if (status >= 500 && /no space left|disk quota|cannot allocate memory|resource temporarily unavailable|no available (ipv4|ip) address|no free network|could not find an available|could not find free|fully subnetted|too many open files/i.test(message)) {
    return { kind: 'capacity', because: 'the engine’s machine has no room for a sandbox' }
  }
  if (status === 404 || status === 409) return { kind: 'transient', because: 'the container is gone or does not run' }
  if (what === 'exec' && /unable to find user|no matching entries in passwd/i.test(message)) {
    return { kind: 'transient', owner: 'sandbox', because: 'the user that commands run as is not in the container’s /etc/passwd any more' }
  }
  if (status === 400) return { kind: 'invalid', because: 'the engine refused the request' }
  if (status === 401 || status === 403) return { kind: 'auth', owner: 'consumer-keys', because: 'the engine refused the call; let its authorization plug-in allow it' }
  if (status === 503) return { kind: 'provider-down', because: 'the engine does not serve calls at present' }
  return { kind: 'transient', because: `the engine answered ${status}` }
}

function sortConnection(raw: unknown, { socketPath }: ClassifyContext): Sorted {
  const code = (raw as NodeJS.ErrnoException | undefined)?.code
  switch (code) {
    case 'ENOENT':
    case 'ECONNREFUSED':
    case 'ENOTSOCK':
      return { kind: 'provider-down', because: `nothing listens on ${socketPath}; start Docker or "podman system service", or set socketPath` }
    case 'EACCES':
    case 'EPERM':
      return { kind: 'auth', owner: 'consumer-keys', because: `this user may not open ${socketPath}; add it to the socket’s group` }
    default:
      return { kind: 'transient', because: code === undefined ? `the answer could not be read (${raw instanceof Error ? raw.name : errorMessage(raw)})` : `the connection broke (${code})` }
  }
}
