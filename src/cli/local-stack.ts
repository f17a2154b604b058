import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { generateDevelopmentKeys, startCodeStorage, startRedis, type EmbeddedRedis } from '../embedded/index.js'
import { CodeStorageHost, TokenMinter } from '../git/index.js'
import type { UncheckedConfig } from '../config/schema.js'
import { closeInTurn } from './close-in-turn.js'
import { killSandboxes } from './kill-sandboxes.js'

/**
 * What `switchyard dev` and the demo run on: a private Redis server, a local Code Storage and the sandboxes of the given
 * providers. It is for one machine and one person.
 */
export interface LocalStack {
  readonly redis: EmbeddedRedis
  readonly codeStorage: Pick<CodeStorageAccess, 'url' | 'https'>
  readonly git: CodeStorageHost
  readonly minter: TokenMinter
  /** The configuration with which any command reaches the stack. It names files of the folder, and holds Redis' password. */
  readonly config: UncheckedConfig
  /** Kills every sandbox, stops the servers and removes the folder. Every part is tried, also after one fails. */
  close(): Promise<void>
}

/** A Code Storage, a local one or one that somebody else runs. */
export interface CodeStorageAccess {
  /** Base of the git URLs. */
  readonly url: string
  /** The same by https, where that was asked for, and the file with its certificate. */
  readonly https?: { readonly url: string; readonly certificateFile: string } | undefined
  readonly git: CodeStorageHost
  readonly minter: TokenMinter
  /** Its place in the configuration. */
  readonly entry: NonNullable<UncheckedConfig['git']>
}

export interface LocalStackOptions {
  /** A folder for everything; made, and removed by `close`. */
  readonly folder: string
  readonly deployment: string
  readonly providers: NonNullable<UncheckedConfig['providers']>
  /** Where the providers' adapters look up their keys; this process's environment by default. */
  readonly environment?: Readonly<Record<string, string | undefined>> | undefined
  /** What the providers' relative paths are relative to; the working directory by default. */
  readonly directory?: string | undefined
  /** In place of a local one. */
  readonly codeStorage?: CodeStorageAccess | undefined
  readonly boardPort: number
  /** Where jobs' artifacts go. Default: in the folder, with which they go. */
  readonly artifacts?: string | undefined
  /** Whether the local Code Storage serves https as well. */
  readonly https?: boolean | undefined
}

const org = 'local'

/** @throws SwitchyardError when there is no Redis server or git is missing; what was started is stopped again. */
export async function startLocalStack(options: LocalStackOptions): Promise<LocalStack> {
  const { folder, deployment, providers } = options
  const closers: (() => Promise<void>)[] = [() => rm(folder, { recursive: true, force: true, maxRetries: 5 })]
  const close = () => closeInTurn(closers)
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 })
    const redis = await startRedis({ dataDir: join(folder, 'redis'), appendOnly: false })
    closers.push(() => redis.close())
    const { url, https, git, minter, entry } = options.codeStorage ?? (await startOwnCodeStorage(folder, options.https === true, closers))
    const config: UncheckedConfig = { deployment, redis: { url: redis.url }, git: entry, providers, artifacts: { folder: options.artifacts ?? join(folder, 'artifacts') }, webhooks: localWebhooks(options.environment ?? process.env), board: { port: options.boardPort } }
    closers.push(() => killSandboxes(providers, { deployment, directory: options.directory, environment: options.environment }))
    return { redis, codeStorage: { url, https }, git, minter, config, close }
  } catch (error) {
    await close().catch(() => undefined)
    throw error
  }
}

/** Receivers on this machine may be called, and jobs may sign with whatever is named for that. */
export function localWebhooks(environment: Readonly<Record<string, string | undefined>>): NonNullable<UncheckedConfig['webhooks']> {
  return { allowNetworks: ['127.0.0.0/8', '::1'], secrets: Object.keys(environment).filter((name) => /^(?!\d)\w*WEBHOOK_SECRET$/.test(name)) }
}

async function startOwnCodeStorage(folder: string, https: boolean, closers: (() => Promise<void>)[]): Promise<CodeStorageAccess> {
  const { privateKey, publicKey } = generateDevelopmentKeys()
  const privateKeyFile = join(folder, 'code-storage.pem')
  await writeFile(privateKeyFile, privateKey, { mode: 0o600 })
  const server = await startCodeStorage({ dataDir: join(folder, 'repositories'), org, publicKeys: [publicKey], ...(https ? { https: {} } : {}) })
  closers.push(() => server.close())
  const urls = { storageUrl: server.url, apiUrl: server.apiUrl }
  return {
    url: server.url,
    https: server.https ?? undefined,
    git: new CodeStorageHost({ org, privateKey, ...urls }),
    minter: new TokenMinter({ org, privateKey }),
    entry: { type: 'code-storage', org, privateKeyFile, ...urls },
  }
}
