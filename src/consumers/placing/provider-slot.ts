import type { ProviderPrice } from '../../job/cost.js'
import type { Provider } from '../../providers/provider.js'
import type { ProviderLimit } from '../../store/provider-load.js'
import type { CredentialMode } from '../transfer/credentials.js'

/** A configured provider with its limit. */
export interface ProviderSlot {
  readonly provider: Provider
  readonly limit: Omit<ProviderLimit, 'provider'>
  /** What its sandboxes cost; the policy `cheapest` goes by it. */
  readonly price?: ProviderPrice | undefined
  /** A digest of its adapter's configuration; consumers with another one may be able to run other jobs. */
  readonly configuration?: string | undefined
  /** Where the git host's tokens go. Default `minted`. */
  readonly credentials?: CredentialMode | undefined
}
