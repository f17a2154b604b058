import { join } from 'node:path'
import type { UncheckedConfig } from '../../config/schema.js'
import type { CodeStorageAccess } from '../local-stack.js'
import type { Services } from './services.js'

/** What a demo's jobs run on, besides Redis and the consumer. */
export interface Stage {
  readonly services: Services['kind']
  /** What plays the providers, for people. */
  readonly says: string
  readonly entries: NonNullable<UncheckedConfig['providers']>
  /** Where the adapters look up their keys. */
  readonly environment: Readonly<Record<string, string | undefined>>
  /** What relative paths of the entries are relative to; this folder when left out. */
  readonly directory?: string
  /** The providers that another customer fills up before the failover job comes by; see ./outage.ts. */
  readonly full: readonly string[]
  /** Where the repository lives, when that is not a local Code Storage. */
  readonly codeStorage?: CodeStorageAccess
  /** Has a sandbox die as if its machine had; left out where it can only be killed by the provider's own API. */
  killSandbox?(provider: string, sandboxId: string): Promise<void>
  close(): Promise<void>
}

/**
 * Two providers on this machine, so that there is another one to go on at.
 * @param own what their entries say besides.
 */
export function localStage(folder: string, own: { readonly readOnlyPaths?: readonly string[]; readonly loopbackPorts?: readonly number[] } = {}): Stage {
  return {
    services: 'local',
    says: 'two local providers',
    entries: ['local-a', 'local-b'].map((name) => ({ ...localEntry(name, folder), ...own })),
    environment: process.env,
    full: [],
    close: () => Promise.resolve(),
  }
}

/** @param folder for the sandboxes' files; whoever made it removes it. */
export function localEntry(name: string, folder: string): Stage['entries'][number] {
  return { name, type: 'local', limit: { sandboxes: 2 }, stateDir: join(folder, 'sandboxes') }
}
