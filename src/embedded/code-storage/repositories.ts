import { createHash, randomUUID } from 'node:crypto'
import { mkdir, readFile, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { z } from 'zod'
import { runGit, type GitOutcome } from '../../git/git-process.js'
import type { KeySettings } from '../../git/signing.js'
import { ownedByAnother, removeLeftovers } from './leftovers.js'

const metadataSchema = z.object({ id: z.string(), createdAt: z.iso.datetime() })
const metadataFile = 'code-storage.json'

/** Where git keeps the refs of the ephemeral namespace. */
export const namespacePrefix = 'refs/namespaces/ephemeral/'

/** A bare repository on disk. Ephemeral branches are the git namespace `ephemeral` in it, so both share all objects. */
export interface Repository {
  readonly id: string
  readonly path: string
  readonly createdAt: string
}

/** The repositories below a folder. Each is a bare one whose folder name is made from its id, so that ids with `/` don't nest. */
export class RepositoryStore {
  readonly #folder: string
  readonly #dataDir: string
  constructor(
    dataDir: string,
    readonly git: GitRunner,
  ) {
    this.#dataDir = dataDir
    this.#folder = join(dataDir, 'repositories')
  }

  /** Makes the folder, and removes what a server that was killed has left in it: halves of repositories, of pushes and of commits. */
  async open(): Promise<void> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 })
    if (await ownedByAnother(this.#dataDir)) return
    for (const name of await readdir(this.#folder)) {
      const path = join(this.#folder, name)
      if (name.startsWith('tmp-')) await rm(path, { recursive: true, force: true })
      else if (name.endsWith('.git')) await removeLeftovers(path)
    }
  }

  async find(id: string): Promise<Repository | null> {
    return this.#read(this.#path(id))
  }

  /**
   * @param copy another repository whose refs, and what they hold, the new one starts with.
   * @returns null when there is one of that id already.
   */
  async create(id: string, defaultBranch: string, copy?: { from: Repository; refspecs: readonly string[] }): Promise<Repository | null> {
    if ((await this.find(id)) !== null) return null
    const temporary = join(this.#folder, `tmp-${randomUUID()}`)
    const createdAt = new Date().toISOString()
    try {
      const outcome = await this.git(null, ['init', '--quiet', '--bare', '--template=', `--initial-branch=${defaultBranch}`, temporary])
      if (outcome.exitCode !== 0) throw new Error(`git init failed: ${outcome.stderr.trim()}`)
      if (copy !== undefined) {
        const made = { id, path: temporary, createdAt }
        const fetched = await this.git(made, ['-c', 'protocol.file.allow=always', 'fetch', '--quiet', '--no-tags', '--no-write-fetch-head', copy.from.path, ...copy.refspecs])
        if (fetched.exitCode !== 0) throw new Error(`git fetch failed: ${fetched.stderr.trim()}`)
      }
      await writeFile(join(temporary, metadataFile), JSON.stringify({ id, createdAt }))
      await rename(temporary, this.#path(id))
    } catch (error) {
      await rm(temporary, { recursive: true, force: true })
      // Two creations at once: a folder that is not empty can't be renamed over.
      if ((error as NodeJS.ErrnoException).code === 'ENOTEMPTY' || (error as NodeJS.ErrnoException).code === 'EEXIST') return null
      throw error
    }
    return { id, path: this.#path(id), createdAt }
  }

  /** @returns false when it was gone already. */
  async delete(repository: Repository): Promise<boolean> {
    const temporary = join(this.#folder, `tmp-${randomUUID()}`)
    try {
      await rename(repository.path, temporary)
    } catch (error) {
      // Somebody else was faster.
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
      throw error
    }
    await rm(temporary, { recursive: true, force: true, maxRetries: 3 })
    return true
  }

  /** All of them, by id. */
  async list(): Promise<Repository[]> {
    const names = (await readdir(this.#folder)).filter((name) => name.endsWith('.git'))
    const found = await Promise.all(names.map((name) => this.#read(join(this.#folder, name))))
    return found.filter((repository) => repository !== null).sort((a, b) => (a.id < b.id ? -1 : 1))
  }

  async #read(path: string): Promise<Repository | null> {
    let text: string
    try {
      text = await readFile(join(path, metadataFile), 'utf8')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
      throw error
    }
    return { ...metadataSchema.parse(JSON.parse(text)), path }
  }

  #path(id: string): string {
    const readable = id.replaceAll(/[^\w.-]/g, '-').slice(0, 80)
    return join(this.#folder, `${readable}-${createHash('sha256').update(id).digest('hex').slice(0, 16)}.git`)
  }
}

/** The repositories of a local Code Storage's data folder, by id, whether a server has it or not. None where there is no such folder. */
export async function storedRepositories(dataDir: string): Promise<{ readonly id: string; readonly path: string }[]> {
  const store = new RepositoryStore(resolve(dataDir), () => Promise.reject(new Error('nothing is run here')))
  try {
    return await store.list()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

/** Runs git plumbing in a repository (null: in none). */
export type GitRunner = (
  repository: Repository | null,
  args: readonly string[],
  options?: { input?: string; env?: Readonly<Record<string, string>>; maxOutputBytes?: number; cpuSeconds?: number },
) => Promise<GitOutcome>

/**
 * @param signal aborts when the server closes.
 * @param keys where git finds the keys that may sign commits.
 */
export function gitRunner(signal: AbortSignal, timeoutMs: number, keys: KeySettings = { config: {}, env: {} }): GitRunner {
  return (repository, args, options = {}) =>
    runGit({ args, cwd: repository?.path, timeoutMs, signal, config: { 'safe.directory': '*', 'core.filesRefLockTimeout': '2000', ...keys.config }, ...options, env: { ...keys.env, ...(repository === null ? {} : { GIT_DIR: repository.path }), ...options.env } })
}
