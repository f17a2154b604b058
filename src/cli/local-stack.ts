import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { generateDevelopmentKeys, startCodeStorage, startRedis, type CodeStorageServer, type EmbeddedRedis } from '../embedded/index.js'
import { CodeStorageHost, TokenMinter } from '../git/index.js'
import type { ConfigInput } from '../config/define.js'
import { closeInTurn } from './close-in-turn.js'
import { killAllSandboxes } from './kill-sandboxes.js'

/**
 * What `switchyard dev` and the demo run on: a private Redis server, a local Code Storage and local sandboxes, all of it
 * in one folder. It is for one machine and one person.
 */
export interface LocalStack {
  readonly redis: EmbeddedRedis
  readonly codeStorage: CodeStorageServer
  readonly git: CodeStorageHost
  readonly minter: TokenMinter
  /** The configuration with which any command reaches the stack. It names files of the folder, and holds Redis' password. */
  readonly config: ConfigInput
  /** Kills every sandbox, stops the servers and removes the folder. Every part is tried, also after one fails. */
  close(): Promise<void>
}

export interface LocalStackOptions {
  /** A folder for everything; made, and removed by `close`. */
  readonly folder: string
  readonly deployment: string
  /** The names of the local providers, and how many sandboxes each may have. */
  readonly providers: Readonly<Record<string, number>>
  readonly boardPort: number
}

const org = 'local'

/** @throws SwitchyardError when there is no Redis server or git is missing; what was started is stopped again. */
export async function startLocalStack(options: LocalStackOptions): Promise<LocalStack> {
  const { folder } = options
  const closers: (() => Promise<void>)[] = [() => rm(folder, { recursive: true, force: true, maxRetries: 5 })]
  const close = () => closeInTurn(closers)
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 })
    const redis = await startRedis({ dataDir: join(folder, 'redis'), appendOnly: false })
    closers.push(() => redis.close())
    const { privateKey, publicKey } = generateDevelopmentKeys()
    const privateKeyFile = join(folder, 'code-storage.pem')
    await writeFile(privateKeyFile, privateKey, { mode: 0o600 })
    const codeStorage = await startCodeStorage({ dataDir: join(folder, 'repositories'), org, publicKeys: [publicKey] })
    closers.push(() => codeStorage.close())
    const urls = { storageUrl: codeStorage.url, apiUrl: codeStorage.apiUrl }
    const config: ConfigInput = {
      deployment: options.deployment,
      redis: { url: redis.url },
      git: { type: 'code-storage', org, privateKeyFile, ...urls },
      providers: Object.entries(options.providers).map(([name, sandboxes]) => ({
        name,
        type: 'local',
        limit: { sandboxes },
        stateDir: join(folder, 'sandboxes'),
      })),
      board: { port: options.boardPort },
    }
    closers.push(() => killAllSandboxes(config.providers ?? []))
    return {
      redis,
      codeStorage,
      git: new CodeStorageHost({ org, privateKey, ...urls }),
      minter: new TokenMinter({ org, privateKey }),
      config,
      close,
    }
  } catch (error) {
    await close().catch(() => undefined)
    throw error
  }
}
