import type { InfrastructureErrorKind } from './error-kinds.js'

/**
 * Whose fault an error is. Together with its kind it decides what follows (`decide` in src/consumers/supervision/reactions.ts):
 *
 * - `job`: its commands, its content, its spec. The same elsewhere; it concerns nobody else.
 * - `sandbox`: this one sandbox. Another may do; says nothing of its provider.
 * - `provider-create`: the provider, as it makes, finds and kills sandboxes.
 * - `provider-data-plane`: the way into sandboxes that exist. Of many sandboxes at once it is the provider's outage.
 * - `git-repository`: the git host, for this repository only.
 * - `git-host`: the git host, for everybody.
 * - `consumer-keys`: a key or a secret of this consumer is missing or refused. Other consumers may have the right one.
 * - `consumer-configuration`: what else is set at this consumer, or its machine.
 * - `deployment`: what no consumer of the deployment has, or a defect of Switchyard's own.
 */
export const errorOwners = [
  'job',
  'sandbox',
  'provider-create',
  'provider-data-plane',
  'git-repository',
  'git-host',
  'consumer-keys',
  'consumer-configuration',
  'deployment',
] as const
export type ErrorOwner = (typeof errorOwners)[number]

/**
 * The call that an error came out of: `create` for what a provider does with sandboxes as a whole (create, get, list, kill,
 * extend), `exec` for a call into one, `git` for a call of the consumer's to the git host.
 */
export type ErrorOrigin = 'create' | 'exec' | 'git'

/** Whose fault an error is of which whoever threw it does not say, such as one of a user's own provider. */
export function presumedOwner(kind: InfrastructureErrorKind, origin: ErrorOrigin): ErrorOwner {
  switch (kind) {
    case 'invalid':
      return 'job'
    case 'sandbox-lost':
      return 'sandbox'
    case 'auth':
      return origin === 'exec' ? 'sandbox' : 'consumer-keys'
    case 'capacity':
    case 'rate-limited':
    case 'transient':
    case 'provider-down':
    case 'timeout':
      return passingOwners[origin]
  }
}

const passingOwners = { create: 'provider-create', exec: 'provider-data-plane', git: 'git-host' } as const satisfies Record<ErrorOrigin, ErrorOwner>
