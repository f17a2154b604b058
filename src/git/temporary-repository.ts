import { mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { InfrastructureError } from '../job/errors.js'
import { gitReason, sortGitFailure } from './failures.js'
import type { GitCommand, GitOutcome } from './git-process.js'
import type { GitAccess, GitCallOptions } from './host.js'
import { expectSuccess, remoteGit } from './ls-remote.js'
import type { Identity } from './rules.js'
import { signingFolderPrefix, type KeySettings } from './signing.js'

/** Of the names of repositories in the folder for temporary files. */
const prefix = 'switchyard-repository-'

export interface TreeEntry {
  /** As git has it: `100644`, `100755` for files, `120000` for links, `160000` for repositories within. */
  readonly mode: string
  readonly oid: string
  readonly path: string
}

/** A bare repository of the consumer, for the length of one call. No token is ever written into it, and nothing is checked out. */
export class TemporaryRepository {
  private constructor(
    private readonly source: string,
    readonly path: string,
    private readonly access: GitAccess,
    private readonly options: GitCallOptions,
  ) {}

  /** Makes one, runs `work` with it and removes it, however `work` ends. The call's time is for all of it together. */
  static async use<Result>(
    source: string,
    access: GitAccess,
    options: GitCallOptions,
    work: (repository: TemporaryRepository) => Promise<Result>,
  ): Promise<Result> {
    const path = await mkdtemp(join(tmpdir(), prefix))
    try {
      const repository = new TemporaryRepository(source, path, access, options)
      await repository.run(['init', '--quiet', '--bare', '--template=', path])
      await repository.run(['config', 'remote.origin.url', access.url])
      return await work(repository)
    } finally {
      await rm(path, { recursive: true, force: true, maxRetries: 3 })
    }
  }

  /**
   * Removes what killed processes left behind: every repository, and every folder with a signing key, that is older than any call can
   * take. Other users' are let be.
   * @param olderThanMs milliseconds since 1970.
   */
  static async removeLeftovers(olderThanMs: number): Promise<void> {
    for (const name of await readdir(tmpdir())) {
      if (![prefix, signingFolderPrefix, 'switchyard-artifacts-'].some((start) => name.startsWith(start))) continue
      const path = join(tmpdir(), name)
      try {
        if ((await stat(path)).mtimeMs < olderThanMs) await rm(path, { recursive: true, force: true })
      } catch (error) {
        if (!['ENOENT', 'EACCES', 'EPERM'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error
      }
    }
  }

  /**
   * How much processor time may go into one thing that is worked out of commits, in seconds: of renames among thousands of files, git compares each
   * with each. Never so much that the call's time would be over first, which would read as the host's.
   */
  get workOutSeconds(): number {
    return Math.max(1, Math.floor(this.options.timeoutMs / 3_000))
  }

  /** Runs git and gives its output. @throws InfrastructureError with git's reason when it fails. */
  async run(args: readonly string[], more: Pick<GitCommand, 'input' | 'env' | 'config' | 'cpuSeconds'> = {}): Promise<string> {
    const outcome = await this.#git(args, more)
    expectSuccess(this.source, `git ${args[0] ?? ''} for ${this.access.url}`, outcome)
    return outcome.stdout.toString('utf8')
  }

  /** As `run`, but of long output only the beginning, and whether that is all. */
  async beginningOf(args: readonly string[], { maxBytes, cpuSeconds }: { readonly maxBytes: number; readonly cpuSeconds?: number }): Promise<{ readonly text: string; readonly complete: boolean }> {
    const outcome = await this.#git(args, { maxOutputBytes: maxBytes, cpuSeconds })
    if (!outcome.truncated) expectSuccess(this.source, `git ${args[0] ?? ''} for ${this.access.url}`, outcome)
    return { text: outcome.stdout.toString('utf8'), complete: !outcome.truncated }
  }

  /**
   * Fetches refs or commits without the objects that the filter leaves out; git fetches those later when it needs them.
   * A host which knows no filters sends them all.
   */
  async fetch(what: readonly string[], filter: 'tree:0' | 'blob:none', depth?: number): Promise<void> {
    const shallow = depth === undefined ? [] : [`--depth=${depth}`]
    await this.run(['fetch', '--quiet', '--no-tags', '--no-write-fetch-head', `--filter=${filter}`, ...shallow, 'origin', ...what])
  }

  /**
   * Fetches commits, or other objects, by their shas, and what leads to them: `depth` commits deep, or as far as the history that is
   * here already.
   */
  async fetchExactly(shas: readonly string[], { depth, filter }: { readonly depth?: number; readonly filter?: 'blob:none' } = {}): Promise<void> {
    await this.#fetchWhole(shas, depth, filter)
  }

  async #fetchWhole(what: readonly string[], depth: number | undefined, filter: 'blob:none' | undefined): Promise<void> {
    const options = [...(depth === undefined ? [] : [`--depth=${depth}`]), ...(filter === undefined ? [] : [`--filter=${filter}`])]
    await this.run(['fetch', '--quiet', '--no-tags', '--no-write-fetch-head', ...options, 'origin', ...what], { config: { 'fetch.unpackLimit': '1' } })
  }

  /**
   * Fetches a commit and what leads to it, as `fetchExactly`.
   * @param ref where the commit stands, for hosts that serve none by its sha alone; null when that is not known.
   * @throws InfrastructureError `invalid` when the ref stands elsewhere by now.
   */
  async fetchCommit({ sha, ref, depth, filter }: { readonly sha: string; readonly ref: string | null; readonly depth?: number; readonly filter?: 'blob:none' }): Promise<void> {
    try {
      await this.#fetchWhole([sha], depth, filter)
    } catch (error) {
      if (ref === null || !isNotServed(error)) throw error
      await this.#fetchWhole([ref], depth, filter)
      if ((await this.commit(sha)) !== null) return
      throw new InfrastructureError({
        kind: 'invalid',
        owner: 'job',
        source: this.source,
        message: `${this.source}: ${ref} moved while it was fetched, and the git host does not serve a commit by its sha alone; run the job again`,
      })
    }
  }

  packPath(name: string): string {
    return join(this.path, 'objects', 'pack', `pack-${name}.pack`)
  }

  /** @returns the ids of a commit's files with such a path; none when it has too many files to look through. */
  async filesNamed(revision: string, path: RegExp): Promise<string[]> {
    const outcome = await this.#git(['ls-tree', '-r', '-z', '--full-tree', revision], { maxOutputBytes: 64 * 1024 * 1024 })
    if (outcome.truncated) return []
    expectSuccess(this.source, 'git ls-tree', outcome)
    // MODE TYPE OID, a tab, PATH
    return outcome.stdout.toString('utf8').split('\0').flatMap((entry) => {
      const [fields = '', name = ''] = entry.split('\t')
      return fields.includes(' blob ') && path.test(name) ? [fields.slice(-40)] : []
    })
  }

  /**
   * The entries of a revision's tree that lie at or below some paths, without those of trees: all when there are no paths.
   * @returns also whether there were more than can be looked through.
   */
  async entries(revision: string, paths: readonly string[]): Promise<{ readonly entries: TreeEntry[]; readonly truncated: boolean }> {
    const outcome = await this.#git(['ls-tree', '-r', '-z', '--full-tree', revision, ...(paths.length === 0 ? [] : ['--', ...paths])], { maxOutputBytes: 64 * 1024 * 1024 })
    if (!outcome.truncated) expectSuccess(this.source, 'git ls-tree', outcome)
    const entries = outcome.stdout.toString('utf8').split('\0').flatMap((entry) => {
      const [, mode = '', oid = '', path = ''] = /^(\d{6}) [a-z]+ ([0-9a-f]{40})\t(.+)$/s.exec(entry) ?? []
      return path === '' ? [] : [{ mode, oid, path }]
    })
    return { entries, truncated: outcome.truncated }
  }

  /** The sizes of objects, in bytes; of one that is not there, none. */
  async sizes(oids: readonly string[]): Promise<Map<string, number>> {
    const said = await this.run(['cat-file', '--batch-check=%(objectname) %(objectsize)'], { input: `${oids.join('\n')}\n` })
    return new Map(said.split('\n').flatMap((line) => {
      const [, oid = '', size] = /^([0-9a-f]{40}) (\d+)$/.exec(line) ?? []
      return size === undefined ? [] : [[oid, Number(size)] as const]
    }))
  }

  /** Writes a file's content into a file in the repository's folder. @returns its path. */
  async unpacked(oid: string): Promise<string> {
    return join(this.path, basename((await this.run(['unpack-file', oid])).trim()))
  }

  /** @returns null when there is none. */
  async commit(revision: string): Promise<string | null> {
    const outcome = await this.#git(['rev-parse', '--verify', '--quiet', `${revision}^{commit}`])
    return outcome.exitCode === 0 ? outcome.stdout.toString('utf8').trim() : null
  }

  /** A commit as it is. */
  async raw(sha: string): Promise<Buffer> {
    const outcome = await this.#git(['cat-file', 'commit', sha])
    expectSuccess(this.source, 'git cat-file', outcome)
    return outcome.stdout
  }

  /** Holds a commit's signature against the keys in the settings. @returns git's exit code and its words. */
  async verify(sha: string, { config, env }: Pick<GitCommand, 'config' | 'env'>): Promise<{ exitCode: number | null; said: string }> {
    const outcome = await this.#git(['verify-commit', '--raw', sha], { config, env })
    return { exitCode: outcome.exitCode, said: outcome.stderr }
  }

  async parents(revision: string): Promise<string[]> {
    const [, ...parents] = (await this.run(['rev-list', '--parents', '--max-count=1', revision])).trim().split(' ')
    return parents
  }

  async isAncestor(ancestor: string, descendant: string): Promise<boolean> {
    const outcome = await this.#git(['merge-base', '--is-ancestor', ancestor, descendant])
    if (outcome.exitCode !== 1) expectSuccess(this.source, 'git merge-base', outcome)
    return outcome.exitCode === 0
  }

  /** Makes a merge commit on top of `ours`, signed where there is a key. Nothing is pushed. */
  async merge(
    ours: string,
    theirs: string,
    { message, author, key }: { message: string; author: Identity; key?: KeySettings },
  ): Promise<{ readonly sha: string } | { readonly conflicts: readonly string[] }> {
    // All files at once: one by one, as git would fetch them in the merge, takes a request each.
    await this.run(['fetch', '--quiet', '--no-tags', '--no-write-fetch-head', '--refetch', '--no-filter', 'origin', ours, theirs])
    const outcome = await this.#git(['merge-tree', '--write-tree', '-z', '--name-only', '--no-messages', ours, theirs], { cpuSeconds: this.workOutSeconds })
    const [tree = '', ...conflicts] = outcome.stdout.toString('utf8').split('\0').filter((part) => part !== '')
    if (outcome.exitCode === 1) return { conflicts: [...new Set(conflicts)] }
    expectSuccess(this.source, 'git merge-tree (git 2.38 or later)', outcome)
    const env = {
      ...key?.env,
      GIT_AUTHOR_NAME: author.name,
      GIT_AUTHOR_EMAIL: author.email,
      GIT_COMMITTER_NAME: author.name,
      GIT_COMMITTER_EMAIL: author.email,
    }
    const sign = key === undefined ? [] : ['-S']
    const sha = (await this.run(['commit-tree', ...sign, tree.trim(), '-p', ours, '-p', theirs], { input: message, env, config: key?.config })).trim()
    return { sha }
  }

  /**
   * Moves a remote ref as a compare-and-swap: it must stand at `expected` (null: not exist).
   * @returns false when it does not.
   */
  async push(sha: string, ref: string, expected: string | null): Promise<boolean> {
    const outcome = await this.#git(['push', '--porcelain', `--force-with-lease=${ref}:${expected ?? ''}`, 'origin', `${sha}:${ref}`])
    if (outcome.exitCode === 0) return true
    const report = outcome.stdout.toString('utf8')
    if (isLostRace(report)) return false
    throw refusal(this.source, `moving ${ref} at ${this.access.url}`, report, outcome)
  }

  /**
   * Moves a branch to a commit that is here, wherever that stands to the other, from exactly the one that is named.
   * @param access a token that may.
   * @throws InfrastructureError when it stands elsewhere, or the host refuses.
   */
  async moveBranch(access: GitAccess, sha: string, ref: string, from: string): Promise<void> {
    const args = ['push', '--porcelain', `--force-with-lease=${ref}:${from}`, access.url, `${sha}:${ref}`]
    const outcome = await remoteGit(this.source, args, { access, options: this.options, cwd: this.path })
    if (outcome.exitCode !== 0) throw refusal(this.source, `moving ${ref} at ${access.url}`, outcome.stdout.toString('utf8'), outcome)
  }

  /** Deletes a remote ref; gone before is fine. */
  async deleteRemote(ref: string): Promise<void> {
    const outcome = await this.#git(['push', '--porcelain', 'origin', `:${ref}`])
    if (outcome.exitCode === 0 || outcome.stderr.includes('remote ref does not exist')) return
    throw refusal(this.source, `deleting ${ref} at ${this.access.url}`, outcome.stdout.toString('utf8'), outcome)
  }

  /** Goes as far as a push does before it sends anything: the host has looked at the token, and says what may be pushed to. */
  async checkPush(ref: string): Promise<void> {
    const outcome = await this.#git(['push', '--dry-run', '--porcelain', 'origin', `:${ref}`])
    if (outcome.exitCode === 0 || outcome.stderr.includes('remote ref does not exist')) return
    throw refusal(this.source, `asking to push to ${ref} at ${this.access.url}`, outcome.stdout.toString('utf8'), outcome)
  }

  #git(args: readonly string[], more: Pick<GitCommand, 'input' | 'env' | 'config' | 'maxOutputBytes' | 'cpuSeconds'> = {}): Promise<GitOutcome> {
    return remoteGit(this.source, args, { access: this.access, options: this.options, cwd: this.path, ...more })
  }
}

/** Whether a host serves no commit by its sha alone, or does not have it. */
export function isNotServed(error: unknown): boolean {
  return error instanceof InfrastructureError && /not our ref|unadvertised object|does not allow request/.test(error.message)
}

/** The error of a push that was refused or failed. */
export function refusal(source: string, what: string, report: string, outcome: GitOutcome): InfrastructureError {
  const said = `${outcome.stderr}\n${report}`
  const sorted = sortGitFailure(said, outcome.timedOut)
  const reason = outcome.timedOut ? 'it did not end in time' : gitReason(said)
  return new InfrastructureError({ ...sorted, source, message: `${source}: ${what} failed: ${reason}` })
}

/** Whether `git push --porcelain` says that the ref stood elsewhere than expected. */
export function isLostRace(report: string): boolean {
  return report
    .split('\n')
    .some((line) => line.startsWith('!') && /\((stale info|fetch first|non-fast-forward|already exists|failed to update ref|cannot lock ref.*|reference already exists)\)|incorrect old value/.test(line))
}
