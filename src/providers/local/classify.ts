import { errorMessage, InfrastructureError, InvalidInputError, type InfrastructureErrorKind } from '../../job/errors.js'

/** Sorts what the operating system says into the one vocabulary. */
const kinds: Readonly<Record<string, InfrastructureErrorKind>> = {
  // No more processes or memory on this machine: elsewhere there is room.
  EAGAIN: 'capacity',
  ENOMEM: 'capacity',
  ENOSPC: 'capacity',
  EDQUOT: 'capacity',
  EMFILE: 'transient',
  ENFILE: 'transient',
  EINTR: 'transient',
  // The state folder, or a tool that was there when the provider was made.
  EACCES: 'provider-down',
  EPERM: 'provider-down',
  EROFS: 'provider-down',
  ENOTDIR: 'provider-down',
  E2BIG: 'invalid',
}

export function classify(source: string, what: string, error: unknown): InfrastructureError {
  if (error instanceof InfrastructureError) return error
  // A folder that can't be used is this consumer's own matter: it is told at its start, and no job fails for it.
  if (error instanceof InvalidInputError) {
    return new InfrastructureError({ kind: what === 'check' ? 'invalid' : 'provider-down', source, message: `${source}: ${error.message}`, cause: error })
  }
  const code = (error as NodeJS.ErrnoException | undefined)?.code
  const kind = (typeof code === 'string' ? kinds[code] : undefined) ?? 'transient'
  // That this process has too many files open says nothing of what other consumers' machines have.
  const owner = what === 'create' && (code === 'EMFILE' || code === 'ENFILE') ? 'consumer-configuration' : undefined
  return new InfrastructureError({ kind, owner, source, message: `${source}: ${what} failed: ${errorMessage(error)}`, cause: error })
}
