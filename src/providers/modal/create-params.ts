import type { SandboxCreateParams } from 'modal'
import { InfrastructureError } from '../../job/errors.js'
import type { SandboxRequest } from '../provider.js'
import { overMaximum } from '../refusal.js'
import type { ModalProviderConfig } from './config.js'
import { modalNetwork } from './network.js'
import { takesOutboundPolicy } from './outbound-policy.js'

export interface ModalCreate {
  readonly params: SandboxCreateParams & { readonly timeoutMs: number }
  /** Whether an outbound policy is wanted and can be set. */
  readonly takesOutboundPolicy: boolean
}

/**
 * A request in the SDK's words.
 * @param injectsHeaders headers will be wanted in this sandbox, whoever asks for it.
 * @throws InfrastructureError `invalid` for what Modal can't do.
 */
export function createParams(config: ModalProviderConfig, request: SandboxRequest, injectsHeaders = false): ModalCreate {
  const invalid = (problem: string) => new InfrastructureError({ kind: 'invalid', source: config.name, message: `${config.name}: ${problem}` })
  if (request.lifetimeMs > config.maxLifetime) {
    throw invalid(`a lifetime of ${request.lifetimeMs} ms is over the limit of ${config.maxLifetime} ms (maxLifetime; Modal's own is 24 h); shorten the job's timeout`)
  }
  if (request.resources.diskMiB !== undefined) {
    throw invalid("resources.diskMiB can't be set at Modal; leave it out, or use a provider that can")
  }
  const tooMuch = overMaximum(request.resources, config.maxResources, 'a sandbox at Modal')
  if (tooMuch !== undefined) throw invalid(`${tooMuch}; ask for less, or correct maxResources`)
  const network = modalNetwork(config.name, request)
  if (injectsHeaders && !takesOutboundPolicy(network)) {
    throw invalid('network: Modal injects no headers beside a list of allowed host names, the git host’s among them; use "open", allow another provider, or have credentials "minted" or "brokered" configured for this one')
  }
  const { cpu, memoryMiB } = request.resources
  return {
    params: {
      name: request.name,
      tags: { ...request.tags },
      // The SDK takes whole seconds only.
      timeoutMs: Math.ceil(request.lifetimeMs / 1000) * 1000,
      ...network,
      ...(cpu === undefined ? {} : { cpu }),
      ...(memoryMiB === undefined ? {} : { memoryMiB }),
      ...(config.regions === undefined ? {} : { regions: config.regions }),
      ...(config.cloud === undefined ? {} : { cloud: config.cloud }),
    },
    takesOutboundPolicy: config.injectHeaders && takesOutboundPolicy(network),
  }
}
