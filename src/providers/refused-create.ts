import type { InfrastructureError } from '../job/errors.js'

/** Whether an error of a create says that nothing was made, as far as its own request goes; see `Provider.create`. */
export function isRefusal({ kind, sandboxMayExist }: Pick<InfrastructureError, 'kind' | 'sandboxMayExist'>): boolean {
  return !sandboxMayExist && ['capacity', 'rate-limited', 'auth', 'invalid'].includes(kind)
}

/** The same error, not to be taken for proof that there is no sandbox. */
export function unsettled(error: InfrastructureError): InfrastructureError {
  return error.with({ sandboxMayExist: true })
}
