import { createHash } from 'node:crypto'
import type { ProviderSlot } from '../placing/provider-slot.js'
import type { Profile } from '../../store/index.js'

export interface Configured {
  readonly queue: string
  readonly release: string
  readonly gitHosts: readonly string[]
  readonly providers: ReadonlyMap<string, ProviderSlot>
  /** Names of the secrets that have a value now; null when the source can't say. */
  readonly secrets: readonly string[] | null
}

/** Says that every secret may be there, where the source of the secrets can't tell. */
const anySecret = '*'

/**
 * What a consumer announces of itself, and a digest of all that decides which jobs it can run: consumers that are configured
 * alike have the same, so what one of them refuses all of them do.
 */
export function profileOf({ queue, release, gitHosts, providers, secrets }: Configured): { readonly id: string; readonly profile: Profile } {
  const profile: Profile = { queue, release, providers: [...providers.keys()], secrets: secrets === null ? [anySecret] : [...secrets].sort() }
  const decisive = [...providers.values()].map(({ provider, limit, credentials, configuration }) => ({
    name: provider.name,
    kind: provider.kind,
    capabilities: provider.capabilities,
    pool: [limit.cpu ?? null, limit.memoryMiB ?? null],
    credentials: credentials ?? 'minted',
    configuration: configuration ?? null,
  }))
  const id = createHash('sha256').update(JSON.stringify([profile, gitHosts, decisive])).digest('hex').slice(0, 16)
  return { id, profile }
}
