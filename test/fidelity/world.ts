import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createTransfer } from '../../src/consumers/transfer/create-transfer.js'
import type { SavedCommit, Transfer } from '../../src/consumers/transfer/transfer.js'
import type { CheckpointResult, Runner } from '../../src/runner/runner.js'
import { gitOk, localStorage, withToken, type LocalStorage } from '../git/local-storage.js'
import { callOptions, processSandbox, type ProcessSandbox } from '../runner/process-sandbox.js'
import { finalCommit, identity } from '../runner/repository.js'
import { bash, look, type View } from './view.js'

/** How commits get in and out; `injected` differs from `minted` by the token's way alone. */
export const modes = ['minted', 'brokered'] as const
export type Mode = (typeof modes)[number]

/** A job as a consumer would run it, without a queue: real sandboxes, the real runner, a real git host and the real transfers. */
export interface Job {
  readonly mode: Mode
  readonly repository: string
  readonly base: string
  readonly checkpointBranch: string
  readonly workBranch: string
}

export class World {
  readonly #storage: LocalStorage
  readonly #origins = new Map<string, Promise<{ id: string; base: string }>>()
  readonly #sandboxes: ProcessSandbox[] = []
  #jobs = 0

  private constructor(storage: LocalStorage) {
    this.#storage = storage
  }

  static async start(): Promise<World> {
    return new World(await localStorage())
  }

  /** A job on a repository that `origin`, a script for bash, makes on `main`. The same script gives the same repository. */
  async job(origin: string, mode: Mode): Promise<Job> {
    const made = this.#origins.get(origin) ?? this.#make(origin, `team/project-${this.#origins.size + 1}`)
    this.#origins.set(origin, made)
    const { id, base } = await made
    const number = ++this.#jobs
    return { mode, repository: id, base, checkpointBranch: `checkpoint/${number}`, workBranch: `agent/${number}` }
  }

  async #make(origin: string, id: string): Promise<{ id: string; base: string }> {
    const { storage, folder } = { storage: this.#storage, folder: join(this.#storage.folder, id.replace('/', '-')) }
    const repo = await storage.sdk.createRepo({ id, defaultBranch: 'main' })
    await mkdir(folder)
    await gitOk(storage.folder, 'init', '--quiet', '--initial-branch=main', folder)
    const who = { GIT_AUTHOR_NAME: 'Origin', GIT_AUTHOR_EMAIL: 'origin@example.invalid', GIT_COMMITTER_NAME: 'Origin', GIT_COMMITTER_EMAIL: 'origin@example.invalid', GIT_CONFIG_NOSYSTEM: '1' }
    await bash(`set -e\n${origin}`, { home: storage.folder, env: who }, folder)
    await gitOk(folder, 'push', '--quiet', storage.url(await repo.getRemoteURL({ permissions: ['git:write'] })), 'HEAD:refs/heads/main')
    return { id, base: await gitOk(folder, 'rev-parse', 'HEAD') }
  }

  /** A fresh sandbox for a job. `env` is what its image sets, where a "~" at the beginning is the home. */
  async sandbox(job: Job, env: Readonly<Record<string, string>> = {}): Promise<Site> {
    const sandbox = await processSandbox()
    for (const [name, value] of Object.entries(env)) sandbox.env[name] = value.replace(/^~/, sandbox.home)
    this.#sandboxes.push(sandbox)
    const runner = sandbox.runner()
    const transfer = createTransfer(job.mode, {
      runner,
      git: this.#storage.host,
      repository: job.repository,
      onSecret: () => undefined,
      confirmHeld: () => Promise.resolve(),
      injectHeaders: undefined,
      settings: { callTimeoutMs: callOptions.timeoutMs, maxPackBytes: 512 * 1024 * 1024 },
    })
    return new Site(job, sandbox, runner, transfer)
  }

  /** A bare repository with a branch of a job in it, as it stands at the host. */
  async fetched(job: Job, branch: string): Promise<string> {
    const path = join(this.#storage.folder, `fetched-${job.workBranch.replace('/', '-')}-${Math.random().toString(36).slice(2)}`)
    await gitOk(this.#storage.folder, 'init', '--quiet', '--bare', path)
    await gitOk(path, 'fetch', '--quiet', withToken(await this.#storage.host.readAccess(job.repository, { ephemeral: false })), 'refs/heads/main:refs/heads/base')
    await gitOk(path, 'fetch', '--quiet', withToken(await this.#storage.host.readAccess(job.repository, { ephemeral: true })), `refs/heads/${branch}:refs/heads/work`)
    return path
  }

  /** A commit beside its job's base: its tree, its parents, and the changed paths as "LETTER TAB PATH". */
  async compare(bare: string, job: Job, sha: string): Promise<{ tree: string; parents: string[]; changed: string[] }> {
    const [tree = '', parents = ''] = (await gitOk(bare, 'log', '-1', '--format=%T%n%P', sha)).split('\n')
    const changed = await gitOk(bare, 'diff-tree', '-r', '--no-renames', '--name-status', job.base, sha)
    return { tree, parents: parents.split(' ').filter((parent) => parent !== ''), changed: changed.split('\n').filter((line) => line !== '') }
  }

  /** The difference of two trees, one of which is the agent's alone. */
  async treeDiff(bare: string, site: Site, own: string, ours: string): Promise<string> {
    await gitOk(bare, 'config', 'core.quotePath', 'true')
    await writeFile(join(bare, 'objects', 'info', 'alternates'), `${await site.objects()}\n`)
    return gitOk(bare, 'diff-tree', '-r', '--no-renames', '--raw', '--abbrev=12', own, ours)
  }

  async close(): Promise<void> {
    await Promise.all(this.#sandboxes.map((sandbox) => sandbox.close()))
    await this.#storage.close()
  }
}

/** One sandbox of a job. */
export class Site {
  readonly #job: Job
  readonly #sandbox: ProcessSandbox
  readonly #runner: Runner
  readonly #transfer: Transfer

  constructor(job: Job, sandbox: ProcessSandbox, runner: Runner, transfer: Transfer) {
    this.#job = job
    this.#sandbox = sandbox
    this.#runner = runner
    this.#transfer = transfer
  }

  get #place() {
    return { tree: join(this.#sandbox.home, 'repository'), home: this.#sandbox.home, env: { ...this.#sandbox.env, GIT_CONFIG_NOSYSTEM: '1' } }
  }

  /** The work tree of the base, as at a job's beginning. */
  async begin(): Promise<void> {
    await this.#clone({ sha: this.#job.base, ref: 'refs/heads/main', ephemeral: false }, null)
  }

  /** The work tree of a checkpoint, and, after `setup`, the rest of what it holds. `midway` gets what is there in between. @returns what could not be brought back. */
  async restore(checkpoint: CheckpointResult, setup: string, midway: () => Promise<void> = () => Promise.resolve()): Promise<readonly string[]> {
    await this.#clone(this.#saved(checkpoint), checkpoint)
    await this.run(setup)
    await midway()
    return (await this.#runner.restore({}, callOptions)).notes
  }

  async #clone(from: SavedCommit, checkpoint: CheckpointResult | null): Promise<void> {
    await this.#runner.install(callOptions)
    const { workBranch: branch, base: baseSha } = this.#job
    await this.#transfer.clone({ from, branch, checkpoint: checkpoint === null ? null : { headSha: checkpoint.headSha ?? baseSha, commitsAhead: checkpoint.commitsAhead, baseSha } }, callOptions)
  }

  #saved(checkpoint: CheckpointResult | null): SavedCommit {
    if (checkpoint === null) return { sha: this.#job.base, ref: 'refs/heads/main', ephemeral: false }
    return { sha: checkpoint.sha, ref: `refs/heads/${this.#job.checkpointBranch}`, ephemeral: true }
  }

  /** Runs a script in the work tree as a step would; stops at the first command that fails. */
  async run(script: string, options: { signal?: AbortSignal } = {}): Promise<string> {
    return bash(`set -e\n${script}`, this.#place, this.#place.tree, options)
  }

  /** Where the agent's git keeps its objects. */
  async objects(): Promise<string> {
    return join((await this.run('git rev-parse --path-format=absolute --git-common-dir')).trim(), 'objects')
  }

  look(): Promise<View> {
    return look(this.#place)
  }

  /** Saves a checkpoint on top of `before`; null when nothing has changed. */
  save(before: CheckpointResult | null): Promise<CheckpointResult | null> {
    const { base, checkpointBranch } = this.#job
    return this.#transfer.checkpoint({ from: this.#saved(before), baseSha: base, branch: checkpointBranch, message: 'Checkpoint', identity }, callOptions)
  }

  /** Makes the final commit, without pushing it. */
  commit(): ReturnType<Runner['commit']> {
    return this.#runner.commit(finalCommit, callOptions)
  }

  async push(sha: string, before: CheckpointResult | null): Promise<void> {
    await this.#transfer.push({ sha, branch: this.#job.workBranch, baseSha: this.#job.base, from: this.#saved(before) }, callOptions)
  }

  /** Ends it as a provider would that lost it. */
  close(): Promise<void> {
    return this.#sandbox.close()
  }
}
