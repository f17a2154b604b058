import { randomBytes } from 'node:crypto'
import { chmod, lstat, mkdir, readdir, readFile, readlink, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { GitAccess } from '../../src/git/index.js'
import { pushMade } from '../../src/consumers/transfer/transfer.js'
import type { CheckpointRequest, CheckpointResult, CommitRequest, RestoreResult, Runner } from '../../src/runner/runner.js'
import { commitFile, gitOk, localStorage, withToken, workTree, type LocalStorage } from '../git/local-storage.js'
import { callOptions } from './process-sandbox.js'

export const identity = { name: 'Switchyard', email: 'switchyard@example.invalid' }

export interface Repository {
  readonly storage: LocalStorage
  readonly id: string
  /** The head of main, and the commit before it. */
  readonly base: string
  readonly first: string
  read(ephemeral?: boolean): Promise<GitAccess>
  write(branch: string): Promise<GitAccess>
  checkpoint(parent: string, more?: Partial<CheckpointRequest>): CheckpointRequest
  /** Makes a checkpoint and pushes it to that branch. */
  save(runner: Runner, branch: string, parent: string, more?: Partial<CheckpointRequest>): Promise<CheckpointResult | null>
  /** Restores a checkpoint into a sandbox, as a job that moved. */
  restore(runner: Runner, branch: string, made: CheckpointResult, paths?: readonly string[], env?: Readonly<Record<string, string>>): Promise<RestoreResult>
  /** A bare clone of the job's branches, to look at what arrived. */
  fetched(branch: string): Promise<{ path: string; sha: string }>
  close(): Promise<void>
}

/** A repository with every kind of file at a local Code Storage. */
export async function repository(): Promise<Repository> {
  const storage = await localStorage()
  const id = 'team/project'
  await storage.sdk.createRepo({ id, defaultBranch: 'main' })
  const source = await workTree(storage.folder, 'source')
  const first = await commitFile(source, 'first.txt', 'first\n')
  await mkdir(join(source, 'src'))
  await writeFile(join(source, '.gitignore'), 'ignored/\n*.log\n')
  await writeFile(join(source, 'src', 'main.js'), 'console.log(1)\n')
  await writeFile(join(source, 'run.sh'), '#!/bin/sh\necho run\n')
  await chmod(join(source, 'run.sh'), 0o755)
  // Large enough to see on the wire whether it is sent.
  await writeFile(join(source, 'binary.bin'), randomBytes(200_000))
  await writeFile(join(source, 'odd name \n"ü".txt'), 'odd\n')
  await symlink('src/main.js', join(source, 'link'))
  const base = await commitFile(source, 'last.txt', 'last\n')
  const branchAccess = (branch: string) => storage.host.writeAccess(id, { branch })
  const seed = storage.url(await (await storage.sdk.findOne({ id }))!.getRemoteURL({ permissions: ['git:write'] }))
  await gitOk(source, 'push', '--quiet', seed, 'main')
  const checkpoint: Repository['checkpoint'] = (parent, more = {}) => ({ parent, baseSha: base, message: 'Checkpoint', identity, ...more })
  let clones = 0
  return {
    storage,
    id,
    base,
    first,
    read: (ephemeral = false) => storage.host.readAccess(id, { ephemeral }),
    write: branchAccess,
    checkpoint,
    save: async (runner, branch, parent, more = {}) => {
      const made = await runner.checkpoint(checkpoint(parent, more), callOptions)
      return pushMade(made, async (sha) => runner.push({ sha, branch, access: await branchAccess(branch) }, callOptions))
    },
    restore: async (runner, branch, made, paths = [], env = {}) => {
      const access = await storage.host.readAccess(id, { ephemeral: true })
      await runner.clone({ access, ref: `refs/heads/${branch}`, sha: made.sha, branch: 'work', checkpoint: { ...made, headSha: made.headSha ?? base, baseSha: base }, paths }, callOptions)
      return runner.restore({ paths, env }, callOptions)
    },
    fetched: async (branch) => {
      clones += 1
      const path = join(storage.folder, `fetched-${clones}`)
      await gitOk(storage.folder, 'init', '--quiet', '--bare', path)
      await gitOk(path, 'fetch', '--quiet', withToken(await storage.host.readAccess(id, { ephemeral: true })), `refs/heads/${branch}:refs/heads/got`)
      return { path, sha: await gitOk(path, 'rev-parse', 'refs/heads/got') }
    },
    close: () => storage.close(),
  }
}

export const finalCommit: CommitRequest = {
  message: 'Fix it\n\nBecause.\n\nJob: 1\n',
  author: { name: 'Añ Author', email: 'author@example.invalid' },
  committer: identity,
  dateSeconds: 1_700_000_000,
}

/** Every file below a folder but `.git`: its kind and mode, and its content or target. */
export async function snapshot(folder: string, below = ''): Promise<Record<string, string>> {
  const found: Record<string, string> = {}
  for (const entry of await readdir(join(folder, below))) {
    if (below === '' && entry === '.git') continue
    const path = join(below, entry)
    const stat = await lstat(join(folder, path))
    if (stat.isDirectory()) Object.assign(found, await snapshot(folder, path))
    else if (stat.isSymbolicLink()) found[path] = `link ${await readlink(join(folder, path))}`
    else found[path] = `${(stat.mode & 0o100) === 0 ? 'file' : 'program'} ${(await readFile(join(folder, path))).toString('base64')}`
  }
  return found
}
