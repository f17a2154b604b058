import { copyFile, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { InfrastructureError } from '../job/errors.js'
import { gitReason } from './failures.js'
import { runGit, type GitCommand, type GitOutcome } from './git-process.js'
import type { GitAccess, GitCallOptions } from './host.js'
import { isLostRace, isNotServed, refusal, type TemporaryRepository } from './temporary-repository.js'

/** Larger files are copied through, not held in memory, unless they come as a difference to another one. */
const bigFileThreshold = '16m'
/** The processor time that any pack may take, and what each MiB of it may take more, in seconds. */
const cpuSeconds = { atLeast: 30, perMiB: 1 }
/** Smaller than what a sound object may need. */
const leastObjectBytes = 256 * 1024 * 1024

/** What reading a pack may take. */
export interface ForeignLimits {
  /** How large an object may be of which git has to hold all, in bytes: not less than 256 MiB. It takes up to three times that. */
  readonly maxObjectBytes: number
  /** The processor time of each process, in seconds. Default: by the pack's size. */
  readonly cpuSeconds?: number | undefined
}

/**
 * Commits of unknown origin, in a bare repository of their own which sees the objects of another one: what was fetched from the host.
 *
 * Git reads them in processes that have no token, and whose memory and processor time are bounded. Only the push has one, by a pipe which
 * is empty before git reads the first object: what it starts to read them finds nothing. Nothing is checked out, and no hook, filter or
 * configuration of anybody's has a part in it.
 */
export class ForeignCommits {
  readonly #path: string
  #cpuSeconds: number

  private constructor(
    private readonly source: string,
    private readonly host: TemporaryRepository,
    private readonly options: GitCallOptions,
    private readonly limits: ForeignLimits,
  ) {
    this.#path = join(host.path, 'foreign.git')
    this.#cpuSeconds = this.#allowedCpuSeconds(0)
  }

  /**
   * Makes an empty one, within the folder of `host` and as long-lived.
   */
  static async within(source: string, host: TemporaryRepository, limits: ForeignLimits, options: GitCallOptions): Promise<ForeignCommits> {
    const commits = new ForeignCommits(source, host, options, limits)
    await host.run(['init', '--quiet', '--bare', '--template=', commits.#path])
    await mkdir(join(commits.#path, 'objects', 'info'), { recursive: true })
    await writeFile(join(commits.#path, 'objects', 'info', 'alternates'), `${join(host.path, 'objects')}\n`)
    return commits
  }

  /** Where a pack is to be written before `take`. */
  packPath(name: string): string {
    return join(this.#path, 'objects', 'pack', `pack-${name}.pack`)
  }

  /**
   * Makes a pack at `packPath` part of the repository. Every object in it is checked, none is ever run or written out. Files that git
   * itself reads are checked too where they are the host's: they are fetched for it.
   * @throws InfrastructureError `invalid` when git does not take it, or when it takes too much memory or processor time.
   */
  async take(name: string, bytes: number): Promise<void> {
    this.#cpuSeconds = this.#allowedCpuSeconds(bytes)
    await this.#seeHostsHistory()
    let checked = await this.#index(name)
    if (checked.missing.length > 0) {
      await this.#fetchMissing(checked.missing)
      checked = await this.#index(name)
    }
    const { outcome, missing } = checked
    if (outcome.exitCode === 0 && missing.length === 0) return
    const reason = outcome.exitCode === 0 ? `the object ${missing[0] ?? ''} is missing` : outcome.timedOut ? 'it was not checked in time' : gitReason(outcome.stderr)
    // What this machine lacks says nothing about the pack.
    const kind = outcome.timedOut || /No space left|unable to (create|write)|quota/i.test(outcome.stderr) ? 'transient' : 'invalid'
    throw this.#notTaken(kind, reason)
  }

  /** @returns whether there is such a commit. */
  async has(sha: string): Promise<boolean> {
    const outcome = await this.#git(['rev-parse', '--verify', '--quiet', `${sha}^{commit}`])
    return outcome.exitCode === 0 && outcome.stdout.toString('utf8').trim() === sha
  }

  /**
   * Pushes a commit to a branch, never forced. A branch that stands there already is success.
   * @throws InfrastructureError `invalid` when the branch has other commits, or the commits are incomplete.
   */
  async push(access: GitAccess, sha: string, branch: string): Promise<void> {
    await this.#seeHostsHistory()
    // Asks first what the host has, so as not to send it again. `useSparse` would take a file that moved for a new one, which is not here.
    const args = ['push', '--quiet', '--porcelain', '--no-verify', '--no-thin', access.url, `${sha}:refs/heads/${branch}`]
    const outcome = await this.#git(args, {
      credentials: { username: access.username, token: access.token },
      credentialsBy: 'pipe',
      config: { 'push.negotiate': 'true', 'pack.useSparse': 'false' },
    })
    if (outcome.exitCode === 0) return
    const report = outcome.stdout.toString('utf8')
    if (isLostRace(report)) {
      const message = `${this.source}: the branch "${branch}" has commits that this push does not build on, and a push is never forced`
      throw new InfrastructureError({ kind: 'invalid', owner: 'job', code: 'SWY_PUSH_REFUSED', source: this.source, message })
    }
    // What the host itself says about its objects begins otherwise.
    const incomplete = outcome.stderr.split('\n').find((line) => /^(fatal|error): .*(unable to read|could not read|missing|bad (object|tree)|failed to traverse)/i.test(line))
    if (incomplete !== undefined) throw new IncompleteCommits(this.source, incomplete)
    throw refusal(this.source, `pushing to ${branch} at ${access.url}`, report, outcome)
  }

  /** Shallow commits of the host's history are that here as well. */
  async #seeHostsHistory(): Promise<void> {
    await copyFile(join(this.host.path, 'shallow'), join(this.#path, 'shallow')).catch((error: unknown) => {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    })
  }

  /** @returns with it, those objects that it can't be checked without: files that git itself reads (`.gitattributes`, `.gitmodules`), of the host's. */
  async #index(name: string): Promise<{ readonly outcome: GitOutcome; readonly missing: readonly string[] }> {
    const outcome = await this.#git(['index-pack', '--fsck-objects', '--threads=1', this.packPath(name)])
    const unread = [...outcome.stderr.matchAll(/object ([0-9a-f]{40}): git(?:attributes|modules)Missing/g)].map(([, oid = '']) => oid)
    // It prints the `.gitmodules` that it lacks, and at last the pack's own name.
    const printed = outcome.stdout.toString('utf8').split('\n').filter((line) => /^[0-9a-f]{40}$/.test(line))
    const lacks = printed.filter((oid) => oid !== name)
    const other = outcome.stderr.split('\n').some((line) => line.startsWith('error:') && !/git(attributes|modules)Missing/.test(line))
    return { outcome, missing: outcome.timedOut || other || (outcome.exitCode !== 0 && unread.length === 0) ? [] : [...new Set([...unread, ...lacks])] }
  }

  async #fetchMissing(oids: readonly string[]): Promise<void> {
    try {
      await this.host.fetchExactly(oids, { filter: 'blob:none' })
    } catch (error) {
      if (!isNotServed(error)) throw error
      throw this.#notTaken('invalid', `they build on the object ${oids[0] ?? ''}, which the git host does not give`)
    }
  }

  /** Runs git with no token but by `credentialsBy: 'pipe'`. @throws InfrastructureError `invalid` when it takes too much processor time or memory. */
  async #git(args: readonly string[], more: Pick<GitCommand, 'credentials' | 'credentialsBy' | 'config'> = {}): Promise<GitOutcome> {
    const outcome = await runGit({
      ...more,
      args,
      cwd: this.#path,
      config: { 'core.bigFileThreshold': bigFileThreshold, 'pack.threads': '1', ...more.config },
      env: { GIT_ALLOC_LIMIT: String(Math.max(this.limits.maxObjectBytes, leastObjectBytes)) },
      cpuSeconds: this.#cpuSeconds,
      timeoutMs: this.options.timeoutMs,
      signal: this.options.signal,
    })
    if (outcome.outOfCpu) throw this.#notTaken('invalid', `reading them takes more than ${this.#cpuSeconds} seconds of processor time`)
    const tooLarge = /attempting to allocate (\d+) over limit (\d+)/.exec(outcome.stderr)
    if (tooLarge !== null) throw this.#notTaken('invalid', `an object of theirs takes ${tooLarge[1] ?? ''} bytes of memory, and no more than ${tooLarge[2] ?? ''} are given to one`)
    return outcome
  }

  /** Never so much that the call's time would be over first, which says nothing about the pack. */
  #allowedCpuSeconds(packBytes: number): number {
    const forPack = cpuSeconds.atLeast + Math.ceil((packBytes / 1024 / 1024) * cpuSeconds.perMiB)
    return this.limits.cpuSeconds ?? Math.max(1, Math.min(forPack, Math.floor(this.options.timeoutMs / 2000)))
  }

  #notTaken(kind: 'invalid' | 'transient', reason: string): InfrastructureError {
    return new InfrastructureError({ kind, owner: kind === 'transient' ? 'consumer-configuration' : 'job', source: this.source, message: `${this.source}: the commits that came out of the sandbox are not taken: ${reason}` })
  }
}

/** The commits build on objects that are not here. The host may have them. */
export class IncompleteCommits extends InfrastructureError {
  constructor(source: string, reason: string) {
    super({ kind: 'invalid', owner: 'job', source, message: `${source}: the commits that came out of the sandbox are not taken: they are incomplete (${reason})` })
  }
}
