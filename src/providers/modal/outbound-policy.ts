import type { ExperimentalOutboundPolicy } from 'modal'
import type { ModalNetworkParams } from './network.js'
import type { ModalSdk } from './sdk.js'

/** By host name, then by header name. */
export type InjectedHeaders = Readonly<Record<string, Readonly<Record<string, string>>>>

/** A reserved name that nothing answers to. */
const nowhere = 'nowhere.invalid'

/**
 * The policy that adds these headers outside of the sandbox. Modal changes a policy only where one was set at create, so
 * that one without headers still has an entry, for a host that does not exist.
 */
export function outboundPolicy(sdk: ModalSdk, headers: InjectedHeaders): ExperimentalOutboundPolicy {
  const entries = Object.entries(headers).filter(([, byName]) => Object.keys(byName).length > 0)
  const effective: typeof entries = entries.length > 0 ? entries : [[nowhere, { 'x-switchyard': 'none' }]]
  return effective.reduce(
    (policy, [domain, byName]) => policy.withHeaderReplacement({ domain: domain.toLowerCase(), headers: mapValues(byName, literal) }),
    new sdk.ExperimentalOutboundPolicy(),
  )
}

/** Modal refuses a policy in a sandbox without network, and beside a list of allowed host names. */
export function takesOutboundPolicy(network: ModalNetworkParams): boolean {
  return network.blockNetwork === undefined && (network.outboundDomainAllowlist ?? []).length === 0
}

/** Modal fills `$KEY` in from its own secrets; `$$` stands for the sign itself. */
function literal(value: string): string {
  return value.replaceAll('$', '$$$$')
}

function mapValues(record: Readonly<Record<string, string>>, map: (value: string) => string): Record<string, string> {
  return Object.fromEntries(Object.entries(record).map(([name, value]) => [name, map(value)]))
}
