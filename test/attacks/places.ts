import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { E2bProvider, e2bProviderConfigSchema } from '../../src/providers/e2b/index.js'
import { LocalProvider, type LocalProviderOptions } from '../../src/providers/local/index.js'
import { bubblewrapWorks } from '../servers/bubblewrap-places.js'
import { startE2bServer } from '../servers/e2b/server.js'
import { podmanUnavailable } from '../servers/podman.js'
import { startDocker } from '../providers/docker-fixture.js'
import type { Place } from './harness.js'
import type { PlaceName } from './attacks.js'

/** Opens a place of this machine. */
export type OpenPlace = () => Promise<Place>

const root = process.getuid?.() === 0

/** The places that this machine and this user have. */
export async function placesHere(): Promise<ReadonlyMap<PlaceName, OpenPlace>> {
  const places = new Map<PlaceName, OpenPlace>()
  if (process.platform === 'linux' && (await bubblewrapWorks())) {
    const withPasta = await hasOwnNetwork()
    // A root consumer without pasta has the user's gap there and no other; one table can't hold every pair.
    if (root && withPasta) places.set('root', () => local('root', {}))
    if (!root) places.set(withPasta ? 'user' : 'user without pasta', () => local(withPasta ? 'user' : 'user without pasta', {}))
  }
  if (process.platform === 'linux') places.set('plain', () => local('plain', { isolation: 'none' }))
  if (process.platform === 'linux' && (await bubblewrapWorks())) places.set('servers', servers)
  if ((await podmanUnavailable()) === undefined) places.set('docker', docker)
  return places
}

async function hasOwnNetwork(): Promise<boolean> {
  const stateDir = await mkdtemp(join(tmpdir(), 'switchyard-attack-'))
  try {
    return !(await new LocalProvider({ stateDir }).check({ timeoutMs: 60_000 })).some((warning) => warning.includes('loopback included'))
  } finally {
    await rm(stateDir, { recursive: true })
  }
}

async function local(name: PlaceName, options: LocalProviderOptions): Promise<Place> {
  const stateDir = await mkdtemp(join(tmpdir(), 'switchyard-attack-'))
  const provider = new LocalProvider({ stateDir, ...options })
  const narrow = new LocalProvider({ stateDir, ...options, name: 'narrow', maxProcesses: 32 })
  return {
    name,
    provider,
    ...(options.isolation === 'none' ? {} : { narrow }),
    network: 'open',
    ownProcesses: options.isolation !== 'none',
    close: async () => {
      await Promise.all([provider.close(), narrow.close()])
      await rm(stateDir, { recursive: true })
    },
  }
}

/** Without a network: the engine of the tests can give containers this machine's own or none. */
async function docker(): Promise<Place> {
  const fixture = await startDocker()
  return { name: 'docker', provider: fixture.provider, network: 'none', ownProcesses: true, close: () => fixture.close() }
}

/** What the demo and the tests have in place of E2B, Modal and Daytona: the same sandboxes behind each, so one stands for all. */
async function servers(): Promise<Place> {
  const server = await startE2bServer()
  const config = e2bProviderConfigSchema.parse({ apiUrl: server.url, sandboxUrl: server.url })
  const provider = new E2bProvider(config, { environment: { E2B_API_KEY: server.apiKey } })
  return { name: 'servers', provider, network: 'open', ownProcesses: false, close: () => server.close() }
}
