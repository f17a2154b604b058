import type { Logger } from 'pino'
import { errorMessage } from '../../job/errors.js'
import { needsInjection } from '../../job/spec.js'
import type { Provider, SandboxWish } from '../../providers/provider.js'
import { overMaximum } from '../../providers/refusal.js'
import type { ProviderLimit, ProviderLoad } from '../../store/provider-load.js'
import type { CredentialMode } from '../transfer/credentials.js'
import { eligibleProviders, placementOrder, type Candidate, type Eligibility, type PlacementPolicy } from './placement.js'
import type { ProviderSlot } from './provider-slot.js'

/** The limits of all configured providers, as the ledger takes them, in the order of the configuration. */
export function limitsOf(providers: ReadonlyMap<string, ProviderSlot>): ProviderLimit[] {
  return [...providers].map(([provider, { limit }]) => ({ provider, ...limit }))
}

/**
 * The configured providers as placement sees them, with what the ledger says of each.
 * @param gitHosts what sandboxes have to reach.
 */
export function candidatesOf(providers: ReadonlyMap<string, ProviderSlot>, loads: readonly ProviderLoad[], gitHosts: readonly string[]): Candidate[] {
  return [...providers].map(([name, { provider, limit, price, credentials }]) => {
    const load = loads.find((each) => each.provider === name)
    return {
      provider: name,
      limit: load?.effectiveLimit ?? limit.sandboxes,
      used: load?.used ?? 0,
      maxLifetimeMs: provider.capabilities.maxLifetimeMs,
      sharedFileSystem: provider.capabilities.sharedFileSystem,
      network: usableNetwork(provider.capabilities.network, credentials),
      refusal: (wish) =>
        poolProblem(name, limit, wish) ?? injectionProblem(provider, wish) ?? provider.refusal?.({ ...wish, gitHosts, injectsHeaders: credentials === 'injected' || needsInjection(wish.injects) }),
      startP50Ms: load?.startP50Ms ?? null,
      price,
    }
  })
}

/** What `eligibleProviders` says of the providers of this consumer, and of its deployment. */
export interface ProvidersAround {
  readonly providers: ReadonlyMap<string, ProviderSlot>
  readonly deploymentProviders: () => readonly string[]
  readonly git: { readonly hosts: readonly string[] }
}

/** Which providers of this consumer could ever run a job. */
export function eligibleHere({ providers, deploymentProviders, git }: ProvidersAround, spec: Parameters<typeof eligibleProviders>[0]): Eligibility {
  return eligibleProviders(spec, candidatesOf(providers, [], git.hosts), deploymentProviders())
}

/** A job that asks for more than all of a provider's sandboxes may have together would wait for it for ever. */
function poolProblem(name: string, limit: ProviderSlot['limit'], wish: SandboxWish): string | undefined {
  const problem = overMaximum(wish.resources, { cpu: limit.cpu, memoryMiB: limit.memoryMiB }, 'the pool of this provider')
  return problem === undefined ? undefined : `${name}: ${problem}; ask for less, or raise its limit`
}

function injectionProblem(provider: Provider, { injects }: SandboxWish): string | undefined {
  if (provider.injectHeaders !== undefined || injects === undefined || !needsInjection(injects)) return undefined
  const { name, kind, keptSecrets = [] } = provider
  // Of constraints the names are not known: whoever has the job in hand looks at them.
  const lacking = injects === true ? keptSecrets.length === 0 : injects.some((each) => each.fallback === undefined && !keptSecrets.includes(each.name))
  if (!lacking) return undefined
  const mend = { modal: 'set injectHeaders in its settings', daytona: 'name a secret of the organisation in its settings' }[kind] ?? 'allow a provider that does'
  return `${name}: secrets: this provider adds no headers to requests outside of its sandboxes; ${mend}, or give inject.fallback: "environment"`
}

/** In a sandbox without network nothing can be fetched but by the consumer. */
function usableNetwork(network: Candidate['network'], credentials: CredentialMode | undefined): Candidate['network'] {
  return { ...network, none: network.none && credentials === 'brokered' }
}

/** Places by `most-free` when a user's own policy throws: a mistake in it must not stop all jobs. */
export function guardedPolicy(policy: PlacementPolicy, log: Logger): PlacementPolicy {
  if (typeof policy !== 'function') return policy
  return (candidates, job) => {
    try {
      return policy(candidates, job)
    } catch (error) {
      log.error({ message: errorMessage(error) }, 'the placement policy threw; placed by most-free')
      const nothing = { eligible: candidates.map(({ provider }) => provider), attempts: [], exclusions: new Map<string, never>() }
      return placementOrder(candidates, { ...job, prefer: [], ...nothing }, 'most-free', 0)
    }
  }
}
