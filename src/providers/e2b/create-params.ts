import { InfrastructureError } from '../../job/errors.js'
import type { SandboxRequest } from '../provider.js'
import { overMaximum } from '../refusal.js'
import type { E2bProviderConfig } from './config.js'
import { egressFor, type Egress } from './network.js'

/**
 * A request in the SDK's words: the template, and what the sandbox may reach.
 * @throws InfrastructureError `invalid` for what E2B, or the plan and the templates that the configuration tells of, can't do.
 */
export function createParams(config: E2bProviderConfig, request: SandboxRequest): { readonly template: string; readonly egress: Egress } {
  const invalid = (problem: string) => new InfrastructureError({ kind: 'invalid', source: config.name, message: `${config.name}: create: ${problem}` })
  const template = request.image ?? config.template
  if (request.lifetimeMs > config.maxLifetime) {
    throw invalid(`a lifetime of ${request.lifetimeMs} ms is over maxLifetime, ${config.maxLifetime} ms; ask for less, or set maxLifetime to your plan's`)
  }
  const tooMuch = overMaximum(request.resources, config.templates[template] ?? {}, `the template "${template}"`)
  if (tooMuch !== undefined) throw invalid(`${tooMuch}; name a template that has as much, or ask for less`)
  return { template, egress: egressFor(config.name, request.network, request.gitHosts) }
}
