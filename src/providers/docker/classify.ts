/**
 * Sorts whatever comes of a call to the engine into Switchyard's one vocabulary.
 *
 * - no socket, or nothing listens on it → `provider-down`; a socket that this user may not open → `auth`
 * - no room on the engine's disk, no memory, no more processes, no free network address (a 500 that says so) → `capacity`
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

function sortStatus({ status, message }: EngineError, { what, image }: ClassifyContext): Sorted {
  if (status >= 500 && /no space left|disk quota|cannot allocate memory|resource temporarily unavailable|no available (ipv4|ip) address|no free network|could not find an available/i.test(message)) {
    return { kind: 'capacity', because: 'the engine’s machine has no room for a sandbox' }
  }
  if (status === 404 && what === 'create' && /image/i.test(message)) return { kind: 'invalid', owner: image, because: 'the engine does not have the image; pull or build it there, or name another one' }
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
