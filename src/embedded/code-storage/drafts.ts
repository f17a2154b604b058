import { randomUUID } from 'node:crypto'
import { mkdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Refs } from './refs.js'
import type { Repository } from './repositories.js'

/** A tree in the making: an index of its own in a folder that is removed at the end, however that comes. */
export class Draft {
  private constructor(
    private readonly refs: Refs,
    readonly folder: string,
  ) {}

  static async use<Result>(repository: Repository, refs: Refs, work: (draft: Draft) => Promise<Result>): Promise<Result> {
    const folder = join(repository.path, `tmp-${randomUUID()}`)
    await mkdir(folder, { mode: 0o700 })
    try {
      return await work(new Draft(refs, folder))
    } finally {
      await rm(folder, { recursive: true, force: true, maxRetries: 3 })
    }
  }

  /** Where git finds the index. */
  get variables(): Record<string, string> {
    return { GIT_INDEX_FILE: join(this.folder, 'index') }
  }

  /** Starts anew from a commit's tree, or from nothing. */
  async startFrom(commit: string | null): Promise<void> {
    await this.#run(['read-tree', ...(commit === null ? ['--empty'] : [commit])])
  }

  /** Adds the files as objects. @returns their shas, in order. */
  async hash(files: readonly string[]): Promise<string[]> {
    if (files.length === 0) return []
    const output = await this.refs.run(['hash-object', '-w', '--no-filters', '--stdin-paths'], { input: files.map((file) => `${file}\n`).join('') })
    return output.trim().split('\n')
  }

  /** The paths that are, or are below, `path`. */
  async pathsAt(path: string): Promise<string[]> {
    const output = await this.#run(['ls-files', '-z', '--', `:(top,literal)${path}`], { maxOutputBytes: 64 * 1024 * 1024 })
    return output.split('\0').filter((found) => found !== '')
  }

  /** Sets entries; a mode of `0` removes one. @throws Error with git's words, also when it refuses a path. */
  async set(entries: readonly { mode: string; sha: string; path: string }[]): Promise<void> {
    await this.#run(['update-index', '-z', '--index-info'], { input: entries.map(({ mode, sha, path }) => `${mode} ${sha}\t${path}\0`).join('') })
  }

  async tree(): Promise<string> {
    return (await this.#run(['write-tree'])).trim()
  }

  /** The text of a small file among the contents. */
  async text(file: string): Promise<string> {
    const text = await readFile(file)
    return text.subarray(0, 100).toString('utf8').trim()
  }

  async #run(args: readonly string[], options: Parameters<Refs['run']>[1] = {}): Promise<string> {
    return this.refs.run(args, { ...options, env: this.variables })
  }
}
