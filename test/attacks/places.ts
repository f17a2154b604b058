import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DaytonaProvider, daytonaProviderConfigSchema } from '../../src/providers/daytona/index.js'
import { E2bProvider, e2bProviderConfigSchema } from '../../src/providers/e2b/index.js'
import { LocalProvider, type LocalProviderOptions } from '../../src/providers/local/index.js'
import { ModalProvider, modalProviderConfigSchema } from '../../src/providers/modal/index.js'
import type { Provider } from '../../src/providers/provider.js'
import { bestPlaces, bubblewrapPlaces, bubblewrapWorks, missingWalls, root as rootAccount, user } from '../servers/bubblewrap-places.js'
import { startDaytonaServer } from '../servers/daytona/server.js'
import { startE2bServer } from '../servers/e2b/server.js'
import { startModalServer } from '../servers/modal/server.js'
import { podmanUnavailable } from '../servers/podman.js'
import type { OpenPlace as OpenSandboxPlace } from '../servers/sandbox-host.js'
import { startDocker } from '../providers/docker-fixture.js'
import { narrow, type Place } from './harness.js'
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
  if (process.platform === 'linux' && (await bubblewrapWorks())) {
    if (!root) places.set('user servers', () => server('user servers', 'e2b'))
    // As root, where sandboxes are other users.
    else if ((await missingWalls()).length === 0) for (const name of ['e2b', 'modal', 'daytona'] as const) places.set(name, () => server(name, name))
  }
  if ((await podmanUnavailable()) === undefined) places.set('docker', docker)
  return places
}

async function hasOwnNetwork(): Promise<boolean> {
  const stateDir = await mkdtemp(join(tmpdir(), 'switchyard-attack-'))
  try {
    return !(await new LocalProvider({ stateDir }).check({ timeoutMs: 60_000 })).some((warning) => warning.includes('loopback included'))
  } finally {
    await rm(stateDir, { recursive: true, maxRetries: 10 })
  }
}

async function local(name: PlaceName, options: LocalProviderOptions): Promise<Place> {
  const stateDir = await mkdtemp(join(tmpdir(), 'switchyard-attack-'))
  const provider = new LocalProvider({ stateDir, ...options })
  const { maxProcesses, maxFiles, maxOpenFiles } = narrow
  const tight = new LocalProvider({ stateDir, ...options, name: 'narrow', maxProcesses, maxFiles, maxOpenFiles })
  const smallFiles = new LocalProvider({ stateDir, ...options, name: 'small-files', maxFileMiB: narrow.maxFileMiB })
  return {
    name,
    provider,
    ...(options.isolation === 'none' ? {} : { narrow: tight, smallFiles }),
    limits: ['memoryMiB', 'cpu', 'maxProcesses', 'maxFiles', 'maxFileMiB', 'maxOpenFiles', 'diskMiB'],
    network: 'open',
    ownProcesses: options.isolation !== 'none',
    close: async () => {
      await Promise.all([provider.close(), tight.close(), smallFiles.close()])
      await rm(stateDir, { recursive: true, maxRetries: 10 })
    },
  }
}

/** Without a network: the engine of the tests can give containers this machine's own or none. */
async function docker(): Promise<Place> {
  const fixture = await startDocker({}, ['perl'])
  return {
    name: 'docker',
    provider: fixture.provider,
    narrow: fixture.another({ maxProcesses: narrow.maxProcesses }),
    limits: ['memoryMiB', 'cpu', 'maxProcesses'],
    network: 'none',
    ownProcesses: true,
    close: () => fixture.close(),
  }
}

/** What the demo and the tests have in place of E2B, Modal and Daytona, each by its real SDK. */
async function server(place: PlaceName, name: 'e2b' | 'modal' | 'daytona'): Promise<Place> {
  const started = [servers[name](await bestPlaces(accounts[name])), servers[name](bubblewrapPlaces(accounts[name], { maxProcesses: narrow.maxProcesses }))]
  if (name === 'daytona') started.push(servers.daytona(await bestPlaces(accounts.daytona), true))
  const [wide, tight, brief] = await Promise.all(started)
  if (wide === undefined || tight === undefined) throw new Error('not started')
  return {
    name: place,
    provider: wide.provider,
    narrow: tight.provider,
    ...(brief === undefined ? {} : { brief: brief.provider }),
    limits: ['maxProcesses'],
    network: 'open',
    ownProcesses: true,
    close: async () => {
      for (const { provider, close } of [wide, tight, ...(brief === undefined ? [] : [brief])]) {
        await provider.close()
        await close()
      }
    },
  }
}

interface Started {
  readonly provider: Provider
  readonly close: () => Promise<void>
}

/** Who runs in a sandbox of each. */
const accounts = { e2b: user, modal: rootAccount, daytona: user } as const

const servers = {
  e2b: async (places: OpenSandboxPlace): Promise<Started> => {
    const started = await startE2bServer({ places })
    const config = e2bProviderConfigSchema.parse({ apiUrl: started.url, sandboxUrl: started.url })
    return { provider: new E2bProvider(config, { environment: { E2B_API_KEY: started.apiKey } }), close: () => started.close() }
  },
  modal: async (places: OpenSandboxPlace): Promise<Started> => {
    const started = await startModalServer({ places })
    const environment = { MODAL_TOKEN_ID: started.tokenId, MODAL_TOKEN_SECRET: started.tokenSecret }
    return { provider: new ModalProvider(modalProviderConfigSchema.parse({ serverUrl: started.url }), { environment }), close: () => started.close() }
  },
  daytona: async (places: OpenSandboxPlace, brief = false): Promise<Started> => {
    // A minute, the unit of lifetimes there, is over soon.
    const started = await startDaytonaServer({ places, createsPerMinute: 10_000, ...(brief ? { minuteMs: 4_000 } : {}) })
    return { provider: new DaytonaProvider(daytonaProviderConfigSchema.parse({ apiUrl: started.apiUrl }), { env: { DAYTONA_API_KEY: started.apiKey } }), close: () => started.close() }
  },
} as const
