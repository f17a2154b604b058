import type { Provider } from '../../providers/provider.js'

/** Where the git host's tokens go in a provider's sandboxes; see transfer/transfer.ts. */
export const credentialModes = ['minted', 'injected', 'brokered'] as const
export type CredentialMode = (typeof credentialModes)[number]

/** Why a provider can't have these credentials, as a sentence that names the field and the mend; undefined when it can. */
export function credentialsProblem(field: string, provider: Pick<Provider, 'name' | 'kind' | 'injectHeaders'>, mode: CredentialMode | undefined): string | undefined {
  if (mode !== 'injected' || provider.injectHeaders !== undefined) return undefined
  const mend = provider.kind === 'modal' ? 'leave injectHeaders out of its settings' : 'use "brokered", which keeps tokens out of sandboxes everywhere, or "minted"'
  return `${field}: "injected" needs a provider that adds headers outside of its sandboxes, and "${provider.name}" (${provider.kind}) does not; ${mend}`
}
