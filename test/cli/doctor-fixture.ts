import { mkdtemp, mkdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { seedRepository } from '../../src/cli/seed-repository.js'
import { runDoctor, type DoctorOptions } from '../../src/cli/doctor/run-doctor.js'
import type { CheckResult } from '../../src/cli/doctor/check-result.js'
import type { UncheckedConfig } from '../../src/config/schema.js'
import { parseConfig } from '../../src/config/load.js'
import { startRedis, type EmbeddedRedis } from '../../src/embedded/index.js'
import { TokenMinter } from '../../src/git/index.js'
import { localStorage, org, type LocalStorage } from '../git/local-storage.js'
import { startDaytonaServer, type DaytonaServer } from '../servers/daytona/server.js'
import { startE2bServer, type E2bServer } from '../servers/e2b/server.js'
import { startModalServer, type ModalServer } from '../servers/modal/server.js'

export const repository = 'acme/web'
type ProviderInput = NonNullable<UncheckedConfig['providers']>[number]

/** Redis, Code Storage with a repository, and a server for each provider: what a doctor finds well. */
export interface Clinic {
  readonly redis: EmbeddedRedis
  readonly storage: LocalStorage
  readonly e2b: E2bServer
  readonly modal: ModalServer
  readonly daytona: DaytonaServer
  /** A folder for the local provider's sandboxes and for configuration files. */
  readonly folder: string
  readonly environment: Readonly<Record<string, string>>
  /** The entry of each provider, by name. */
  readonly entries: Readonly<Record<'local' | 'e2b' | 'modal' | 'daytona', ProviderInput>>
  config(changes?: UncheckedConfig): UncheckedConfig
  doctor(config?: UncheckedConfig, options?: Partial<Omit<DoctorOptions, 'config'>>): Promise<CheckResult[]>
  /** How many sandboxes live, by provider. */
  living(): Readonly<Record<string, number>>
  /** Scratch branches in either namespace. */
  scratchBranches(): Promise<string[]>
  /** Ends every fault and every sandbox. */
  reset(): Promise<void>
  close(): Promise<void>
}

export async function openClinic(): Promise<Clinic> {
  const folder = await mkdtemp(join(tmpdir(), 'switchyard-doctor-'))
  const [redis, storage, e2b, modal, daytona] = await Promise.all([
    startRedis({ dataDir: join(folder, 'redis'), appendOnly: false }),
    localStorage(),
    startE2bServer(),
    startModalServer(),
    startDaytonaServer({ missingImages: ['no-such-image:1'] }),
  ])
  const keyFile = join(folder, 'key.pem')
  await writeFile(keyFile, storage.privateKey)
  const seed = join(folder, 'seed')
  await mkdir(seed)
  await writeFile(join(seed, 'README.md'), 'hello\n')
  await seedRepository({ git: storage.host, minter: new TokenMinter({ org, privateKey: storage.privateKey }), storageUrl: storage.server.url }, repository, seed)
  const environment = {
    E2B_API_KEY: e2b.apiKey,
    MODAL_TOKEN_ID: modal.tokenId,
    MODAL_TOKEN_SECRET: modal.tokenSecret,
    DAYTONA_API_KEY: daytona.apiKey,
    MODAL_CONFIG_PATH: '/dev/null',
  }
  const limit = { sandboxes: 2 }
  const entries = {
    local: { name: 'local', type: 'local', limit, stateDir: join(folder, 'sandboxes') },
    e2b: { name: 'e2b', type: 'e2b', limit, apiUrl: e2b.url, sandboxUrl: e2b.url },
    modal: { name: 'modal', type: 'modal', limit, serverUrl: modal.url },
    // Said here, so that no second sandbox is made to find it out.
    daytona: { name: 'daytona', type: 'daytona', limit, apiUrl: daytona.apiUrl, enforcesNames: true },
  }
  const config = (changes: UncheckedConfig = {}): UncheckedConfig => ({
    deployment: 'clinic',
    redis: { url: redis.url },
    git: { type: 'code-storage', org, privateKeyFile: keyFile, storageUrl: storage.server.url, apiUrl: storage.server.apiUrl },
    providers: Object.values(entries),
    ...changes,
  })
  return {
    redis,
    storage,
    e2b,
    modal,
    daytona,
    folder,
    environment,
    entries,
    config,
    doctor: (given = config(), options = {}) =>
      runDoctor({
        config: parseConfig(given),
        directory: folder,
        environment,
        only: [],
        repository,
        image: undefined,
        timeoutMs: undefined,
        signal: new AbortController().signal,
        ...options,
      }),
    living: () => ({ e2b: e2b.host.list().length, modal: modal.host.list().length, daytona: daytona.records.list().length }),
    scratchBranches: async () => {
      const found: string[] = []
      for (const ephemeral of [true, false]) {
        for await (const { name } of storage.host.client.branches(repository, ephemeral, { timeoutMs: 10_000 })) if (name.startsWith('doctor/')) found.push(name)
      }
      return found
    },
    reset: async () => {
      storage.server.setOutage(null)
      for (const plan of [e2b.faults, modal.plan, daytona.plan]) plan.clear()
      await Promise.all([...e2b.host.list().map(({ id }) => e2b.host.destroy(id, 'killed')), ...modal.host.list().map(({ id }) => modal.host.destroy(id, 'killed'))])
      for (const record of daytona.records.list()) daytona.records.destroy(record)
    },
    close: async () => {
      await Promise.all([e2b.close(), modal.close(), daytona.close(), storage.close(), redis.close()])
      await rm(folder, { recursive: true, force: true, maxRetries: 5 })
    },
  }
}

/** Outcomes by check, of one subject. */
export function outcomes(results: readonly CheckResult[], name: string): Record<string, CheckResult['outcome']> {
  return Object.fromEntries(results.filter((result) => result.name === name).map(({ check, outcome }) => [check, outcome]))
}

/** The one check. */
export function check(results: readonly CheckResult[], name: string, what: string): CheckResult {
  const found = results.find((result) => result.name === name && result.check === what)
  if (found === undefined) throw new Error(`${name} was not checked for ${what}: ${JSON.stringify(results)}`)
  return found
}
