import { errorMessage, InfrastructureError } from '../job/errors.js'

/**
 * Loads a provider's SDK when the first call needs it: it is an optional peer, so a deployment without that provider neither
 * installs nor loads it.
 * @param otherwise a clause: what else mends it.
 * @param version what to install when it is missing, such as `2.51`.
 * @throws InfrastructureError `invalid` when it is not installed or does not load.
 */
export async function loadOptionalPackage<Module>(source: string, name: string, version: string, load: () => Promise<Module>, otherwise = 'remove this provider'): Promise<Module> {
  try {
    return await load()
  } catch (error) {
    const missing = error instanceof Error && 'code' in error && error.code === 'ERR_MODULE_NOT_FOUND'
    throw new InfrastructureError({
      kind: 'invalid',
      owner: 'consumer-configuration',
      source,
      message: missing
        ? `${source}: the package "${name}" is not installed; run "npm install ${name}@${version}", or ${otherwise}`
        : `${source}: the package "${name}" can't be loaded (${errorMessage(error)}); install ${name}@${version} again`,
      cause: error,
    })
  }
}
