import type * as Modal from 'modal'
import type { ModalClient, ModalClientParams } from 'modal'
import { InfrastructureError } from '../../job/errors.js'
import { loadOptionalPackage } from '../optional-package.js'
import type { ModalProviderConfig } from './config.js'
import { observeCalls } from './observe-calls.js'

export type ModalSdk = typeof Modal

/** What the adapter needs of the SDK: the module, for its classes, and one client of it. */
export interface ModalConnection {
  readonly sdk: ModalSdk
  readonly client: ModalClient
}

/** The only version that this adapter was tried with: the package has no stable wire protocol. */
export const testedVersion = '0.11.1'

/**
 * Loads the SDK and makes a client. Nothing is sent yet.
 * @param environment where the token is looked up by the names in `config`.
 * @param load loads the SDK; the installed package when left out.
 * @throws InfrastructureError `invalid` when the package is missing, `auth` when the token is.
 */
export async function connect(config: ModalProviderConfig, environment: Readonly<Record<string, string | undefined>>, load?: () => Promise<ModalSdk>): Promise<ModalConnection> {
  const { tokenId, tokenSecret } = readToken(config, environment)
  const sdk = await loadSdk(config.name, load)
  const parameters: ModalClientParams = {
    tokenId,
    tokenSecret,
    // The SDK would wait without limit for as long as the server throttles it. Switchyard's ledger does the waiting.
    maxThrottleWaitSecs: 0,
    grpcMiddleware: [observeCalls],
    logger: silent,
    ...(config.environment === undefined ? {} : { environment: config.environment }),
  }
  return { sdk, client: withServerUrl(config.serverUrl, () => new sdk.ModalClient(parameters)) }
}

/**
 * @throws InfrastructureError `auth` that names the variable which is not set.
 */
export function readToken(config: ModalProviderConfig, environment: Readonly<Record<string, string | undefined>>): { tokenId: string; tokenSecret: string } {
  const read = (name: string): string => {
    const value = environment[name]
    if (value !== undefined && value.trim() !== '') return value.trim()
    throw new InfrastructureError({
      kind: 'auth',
      owner: 'consumer-keys',
      source: config.name,
      message: `${config.name}: the environment variable ${name} is not set; put a Modal token into ${config.tokenIdEnv} and ${config.tokenSecretEnv}`,
    })
  }
  return { tokenId: read(config.tokenIdEnv), tokenSecret: read(config.tokenSecretEnv) }
}

async function loadSdk(source: string, load = () => import('modal')): Promise<ModalSdk> {
  return loadOptionalPackage(source, 'modal', testedVersion, load)
}

/**
 * The SDK reads its server's URL from the environment alone, once, when a client is made. That is synchronous, so
 * nothing else can see the variable while it is set.
 */
function withServerUrl(url: string | undefined, make: () => ModalClient): ModalClient {
  const before = process.env['MODAL_SERVER_URL']
  if (url !== undefined) process.env['MODAL_SERVER_URL'] = url
  try {
    const client = make()
    // A user's ~/.modal.toml or MODAL_SANDBOX_V2 may ask for the old backend, whose calls and limits differ.
    client.profile.sandboxV2 = true
    return client
  } finally {
    if (before === undefined) delete process.env['MODAL_SERVER_URL']
    else process.env['MODAL_SERVER_URL'] = before
  }
}

/** The SDK logs command texts at debug and chats at warn; what matters comes back as an error. */
const silent = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined }
