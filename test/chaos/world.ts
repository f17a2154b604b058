import { mkdtemp, mkdir, rm, writeFile, chmod, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ProviderEntry } from '../../src/config/schema.js'
import { generateDevelopmentKeys, startCodeStorage, startRedis, type CodeStorageServer, type EmbeddedRedis } from '../../src/embedded/index.js'
import { CodeStorageHost } from '../../src/git/index.js'
import { LocalProvider } from '../../src/providers/local/index.js'
import { git } from '../e2e/deployment.js'
import { serverNames, startProviderServer, type ProviderServer } from './provider-servers.js'
import { RedisClock } from './redis-clock.js'
import { SlowDisk } from './slow-disk.js'

/** What the consumers live in: Redis, git and the providers, each of which can be broken. */
export interface World {
  readonly dir: string
  readonly redis: EmbeddedRedis
  readonly host: CodeStorageHost
  readonly gitOptions: { readonly org: string; readonly storageUrl: string; readonly apiUrl: string }
  /** The git host's key, and one that it does not know. */
  readonly keys: { readonly right: string; readonly stale: string }
  readonly servers: readonly ProviderServer[]
  /** This machine as a provider, when it takes part. */
  readonly local: { readonly provider: LocalProvider; readonly limit: number } | null
  readonly entries: readonly ProviderEntry[]
  readonly environment: Readonly<Record<string, string>>
  readonly repositories: readonly string[]
  /** Under the git server and the sandboxes of the providers' servers. */
  readonly disk: SlowDisk
  /** Null where it can't be set, or need not. */
  readonly redisClock: RedisClock | null
  storage(): CodeStorageServer
  /** Closes the git server, breaking all its connections, and starts it again at the same address with the same data. */
  restartStorage(awayMs: number): Promise<void>
  close(): Promise<void>
}

export async function startWorld(limits: Readonly<Record<string, number>>, options: { readonly redisClock?: boolean } = {}): Promise<World> {
  const dir = await mkdtemp(join(tmpdir(), 'switchyard-chaos-'))
  const disk = await SlowDisk.install()
  const redisClock = options.redisClock === true ? await RedisClock.install() : null
  const { privateKey } = generateDevelopmentKeys()
  const storageOptions = { dataDir: join(dir, 'storage'), org: 'acme', publicKeys: [privateKey] }
  const names = Object.keys(limits).filter((name) => serverNames.includes(name))
  const [redis, firstStorage, ...servers] = await Promise.all([
    startRedis({ appendOnly: true }),
    startCodeStorage(storageOptions),
    ...names.map((name) => startProviderServer(name, limits[name] ?? 1)),
  ])
  let storage = firstStorage
  const port = Number(new URL(storage.url).port)
  const gitOptions = { org: 'acme', storageUrl: storage.url, apiUrl: storage.apiUrl }
  const host = new CodeStorageHost({ ...gitOptions, privateKey })
  const stateDir = join(dir, 'sandboxes')
  const localLimit = limits['local']
  const local = localLimit === undefined ? null : { provider: new LocalProvider({ name: 'local', stateDir }), limit: localLimit }
  const repositories = ['acme/one', 'acme/two', 'acme/three']
  for (const repository of repositories) await seed(host, dir, repository)

  return {
    dir,
    redis,
    host,
    gitOptions,
    keys: { right: privateKey, stale: generateDevelopmentKeys().privateKey },
    servers,
    local,
    entries: [...(localLimit === undefined ? [] : [{ name: 'local', type: 'local', stateDir, limit: { sandboxes: localLimit } }]), ...servers.map(({ entry }) => entry)],
    environment: Object.assign({}, ...servers.map(({ environment }) => environment)) as Record<string, string>,
    repositories,
    disk,
    redisClock,
    storage: () => storage,
    async restartStorage(awayMs) {
      await storage.close()
      await new Promise((resolve) => setTimeout(resolve, awayMs))
      storage = await startCodeStorage({ ...storageOptions, port })
    },
    async close() {
      if (local !== null) {
        for await (const { id } of local.provider.list({}, { timeoutMs: 10_000 })) await local.provider.kill(id, { timeoutMs: 10_000 })
        await local.provider.close()
      }
      await Promise.all(servers.map((server) => server.close()))
      await storage.close()
      await redis.close()
      await redisClock?.close()
      await disk.close()
      await rm(dir, { recursive: true, force: true, maxRetries: 3 })
    },
  }
}

/** A repository with the tree that all job scripts begin with; see `baseTree`. */
async function seed(host: CodeStorageHost, dir: string, repository: string): Promise<void> {
  await host.client.createRepository(repository, 'main', { timeoutMs: 10_000 })
  const work = join(dir, `seed-${repository.replace('/', '-')}`)
  for (const folder of ['', 'keep', 'old']) await mkdir(join(work, folder), { recursive: true })
  const files: Record<string, string | Buffer> = {
    'README.md': 'base\n',
    'keep/kept.txt': 'kept\n',
    'old/first.txt': 'goes away\n',
    'old/second.txt': 'may go away\n',
    'run.sh': '#!/bin/sh\necho base\n',
    'data.bin': Buffer.from([0, 255, 10, 13, 0, 7]),
  }
  for (const [path, content] of Object.entries(files)) await writeFile(join(work, path), content)
  await chmod(join(work, 'run.sh'), 0o755)
  await symlink('keep/kept.txt', join(work, 'latest'))
  await git(work, 'init', '-q', '-b', 'main')
  await git(work, 'add', '-A')
  await git(work, 'commit', '-qm', 'Begin')
  const access = await host.writeAccess(repository, { branch: 'main' })
  const target = new URL(access.url.replace('+ephemeral.git', '.git'))
  target.username = access.username
  target.password = access.token
  await git(work, 'push', '-q', target.href, 'main')
}
