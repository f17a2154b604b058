import type * as E2b from 'e2b'
import { InfrastructureError } from '../../job/errors.js'
import { loadOptionalPackage } from '../optional-package.js'
import type { E2bProviderConfig } from './config.js'

/** The SDK's module. Only its types are imported here: the package is optional. */
export type E2bSdk = typeof E2b
export type E2bSandbox = InstanceType<E2bSdk['Sandbox']>

/**
 * Loads `e2b` when the first call needs it.
 * @throws InfrastructureError `invalid` when it is not installed or does not load.
 */
export async function loadE2bSdk(source: string, load: () => Promise<E2bSdk> = () => import('e2b')): Promise<E2bSdk> {
  return loadOptionalPackage(source, 'e2b', '2.51', load)
}

/** @throws InfrastructureError `auth` that names the variable which is not set. */
export function readApiKey(config: E2bProviderConfig, environment: NodeJS.ProcessEnv): string {
  const key = environment[config.apiKeyEnv]?.trim()
  if (key !== undefined && key !== '') return key
  throw new InfrastructureError({
    kind: 'auth',
    owner: 'consumer-keys',
    source: config.name,
    message: `${config.name}: the environment variable ${config.apiKeyEnv} is not set; put an E2B API key into it`,
  })
}

/** What every call of the SDK gets. */
export function connectionOptions(config: E2bProviderConfig, apiKey: string): Pick<E2b.ConnectionOpts, 'apiKey' | 'apiUrl' | 'sandboxUrl' | 'debug' | 'retries'> {
  return {
    apiKey,
    ...(config.apiUrl === undefined ? {} : { apiUrl: config.apiUrl }),
    ...(config.sandboxUrl === undefined ? {} : { sandboxUrl: config.sandboxUrl }),
    // With E2B_DEBUG in the environment the SDK would make no call at all, and every kill would look like a success.
    debug: false,
    // Switchyard decides what to wait for: a full provider is no reason to sit still.
    retries: 0,
  }
}
