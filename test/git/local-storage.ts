import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { GitStorage } from '@pierre/storage'
import { generateDevelopmentKeys, startCodeStorage, type CodeStorageServer } from '../../src/embedded/index.js'
import { CodeStorageHost, type GitAccess } from '../../src/git/index.js'

const run = promisify(execFile)

export interface LocalStorage {
  readonly server: CodeStorageServer
  readonly privateKey: string
  /** The real SDK, pointed at the server. */
  readonly sdk: GitStorage
  readonly host: CodeStorageHost
  readonly folder: string
  /** What the server logged. */
  readonly log: readonly string[]
  /** The SDK's git URLs are always https; the local server speaks http. */
  url(sdkUrl: string): string
  close(): Promise<void>
}

export const org = 'acme'

export async function localStorage(options: { now?: () => number; maxLfsObjectBytes?: number; signingKeys?: readonly string[] } = {}): Promise<LocalStorage> {
  const folder = await mkdtemp(join(tmpdir(), 'switchyard-git-'))
  const keys = generateDevelopmentKeys()
  const log: string[] = []
  const server = await startCodeStorage({ dataDir: join(folder, 'data'), org, publicKeys: [keys.publicKey], log: (line) => log.push(line), ...options })
  const sdk = new GitStorage({ name: org, key: keys.privateKey, apiBaseUrl: server.apiUrl, storageBaseUrl: server.url.replace('http://', '') })
  const host = new CodeStorageHost({ org, privateKey: keys.privateKey, storageUrl: server.url, apiUrl: server.apiUrl })
  return {
    server,
    privateKey: keys.privateKey,
    sdk,
    host,
    folder,
    log,
    url: (sdkUrl) => sdkUrl.replace('https://', 'http://'),
    close: async () => {
      await server.close()
      await rm(folder, { recursive: true, force: true, maxRetries: 10 })
    },
  }
}

export interface GitResult {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** Runs git as a user would, away from this machine's configuration. */
export async function git(cwd: string, ...args: string[]): Promise<GitResult> {
  const env = {
    PATH: process.env['PATH'],
    HOME: cwd,
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_TERMINAL_PROMPT: '0',
    LC_ALL: 'C',
    GIT_AUTHOR_NAME: 'Test',
    GIT_AUTHOR_EMAIL: 'test@example.invalid',
    GIT_COMMITTER_NAME: 'Test',
    GIT_COMMITTER_EMAIL: 'test@example.invalid',
  }
  try {
    return { code: 0, ...(await run('git', args, { cwd, env, maxBuffer: 64 * 1024 * 1024 })) }
  } catch (error) {
    const failed = error as { code?: unknown; stdout?: string; stderr?: string }
    if (typeof failed.code !== 'number') throw error
    return { code: failed.code, stdout: failed.stdout ?? '', stderr: failed.stderr ?? '' }
  }
}

/** Runs git and gives its output; throws when it fails. */
export async function gitOk(cwd: string, ...args: string[]): Promise<string> {
  const result = await git(cwd, ...args)
  if (result.code !== 0) throw new Error(`git ${args[0] ?? ''} failed: ${result.stderr}`)
  return result.stdout.trim()
}

/** A URL with the token in it: tests push as a user with a minted URL would. */
export function withToken(access: GitAccess): string {
  const url = new URL(access.url)
  url.username = access.username
  url.password = access.token
  return url.href
}

/** A new work tree with one commit on `main`. */
export async function workTree(folder: string, name: string): Promise<string> {
  const path = join(folder, name)
  await gitOk(folder, 'init', '--quiet', '--initial-branch=main', path)
  await commitFile(path, 'README.md', '# Hello\n')
  return path
}

/** Commits a file and gives the new head. */
export async function commitFile(path: string, file: string, content: string): Promise<string> {
  await writeFile(join(path, file), content)
  await gitOk(path, 'add', '--all')
  await gitOk(path, 'commit', '--quiet', '--message', `Change ${file}`)
  return gitOk(path, 'rev-parse', 'HEAD')
}
