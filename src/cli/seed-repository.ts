import { execFile } from 'node:child_process'
import { cp, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { promisify } from 'node:util'
import { gitEnvironment, runGit, type GitCredentials } from '../git/git-process.js'
import type { CodeStorageHost, TokenMinter } from '../git/index.js'
import { InvalidInputError, errorMessage } from '../job/errors.js'

const run = promisify(execFile)

export interface SeedTarget {
  readonly git: CodeStorageHost
  readonly minter: TokenMinter
  /** Base of the git URLs. */
  readonly storageUrl: string
}

/**
 * Creates a repository and fills its `main` with the history of a checkout: of its HEAD, uncommitted changes left out.
 * A folder that is no checkout becomes a repository of one commit. A shallow checkout gives the history that it has.
 * @returns how many commits there are, and how many paths of the checkout are not as its HEAD has them.
 * @throws InvalidInputError when the folder can't be read by git.
 */
export async function seedRepository(target: SeedTarget, repository: string, source: string): Promise<{ readonly commits: number; readonly head: string; readonly uncommitted: number }> {
  const work = await mkdtemp(join(tmpdir(), 'switchyard-seed-'))
  try {
    const mirror = join(work, 'seed.git')
    const uncommitted = await copyHistory(source, mirror, work)
    await target.git.client.createRepository(repository, 'main', { timeoutMs: 30_000 })
    const { token } = await target.minter.mint({ repository, scopes: ['git:write'], ttlSeconds: 600 })
    await git(['-C', mirror, 'push', '--quiet', `${target.storageUrl}/${repository}.git`, 'main:refs/heads/main'], { username: 't', token })
    const head = await git(['-C', mirror, 'rev-parse', 'main'])
    return { commits: Number(await git(['-C', mirror, 'rev-list', '--count', 'main'])), head, uncommitted }
  } catch (error) {
    throw new InvalidInputError(`${source}: can't be made a repository (${firstLine(errorMessage(error))})`)
  } finally {
    await rm(work, { recursive: true, force: true, maxRetries: 10 })
  }
}

/** Makes a bare repository whose `main` is the source's HEAD. @returns how many paths are not as that has them. */
async function copyHistory(source: string, mirror: string, work: string): Promise<number> {
  const shallow = await git(['-C', source, 'rev-parse', '--is-shallow-repository', '--verify', 'HEAD']).catch(() => undefined)
  if (shallow === undefined) {
    await commitFolder(source, mirror, work)
    return 0
  }
  const copied = join(work, 'history')
  await git(['init', '--quiet', '--bare', '--initial-branch=main', mirror])
  if (shallow.startsWith('true')) {
    // A server refuses a history that is cut off. Written out and read in again, the oldest commits have no parents.
    // It arrives under the name of the branch that the source is on.
    const script = `git -C "$1" fast-export --signed-tags=strip HEAD > "$3" && git -C "$2" fast-import --quiet < "$3" &&
      git -C "$2" update-ref refs/heads/main "$(git -C "$2" for-each-ref --count=1 --format='%(objectname)')"`
    await run('sh', ['-c', script, 'sh', source, mirror, copied], { env: gitEnvironment(undefined, trusted) })
  } else {
    // By way of a bundle, because fetching from a folder would not believe that another user's checkout is safe.
    await git(['-C', source, 'bundle', 'create', '--quiet', copied, 'HEAD'])
    await git(['-C', mirror, 'fetch', '--quiet', '--no-tags', copied, 'HEAD:refs/heads/main'])
  }
  // Nothing of the checkout's is written. One entry for each path, which may hold anything.
  const changed = await git(['-C', source, '-c', 'core.fsmonitor=false', '--no-optional-locks', 'status', '--porcelain', '-z', '--no-renames', '--ignore-submodules=all', '--', '.']).catch(() => '')
  return changed.split('\0').filter((entry) => entry !== '').length
}

async function commitFolder(source: string, mirror: string, work: string): Promise<void> {
  const copy = join(work, 'copy')
  // Keys are in no repository, unless somebody has put them there.
  await cp(source, copy, { recursive: true, filter: (path) => path === source || !['node_modules', '.git', '.switchyard', '.cache', '.env', '.env.local'].includes(basename(path)) })
  const identity = ['-c', 'user.name=Switchyard', '-c', 'user.email=switchyard@localhost']
  await git(['-C', copy, 'init', '--quiet', '--initial-branch=main'])
  await git(['-C', copy, 'add', '--all'])
  await git(['-C', copy, ...identity, 'commit', '--quiet', '--allow-empty', '--message', 'Start from these files'])
  await git(['clone', '--quiet', '--bare', '--no-hardlinks', copy, mirror])
}

/** The folder is one that the user named; it may belong to another user, as it often does in a container. */
const trusted = { 'safe.directory': '*', 'protocol.file.allow': 'always' }

async function git(args: readonly string[], credentials?: GitCredentials): Promise<string> {
  const { exitCode, stdout, stderr } = await runGit({ args, credentials, config: trusted, timeoutMs: 120_000 })
  if (exitCode !== 0) throw new Error(firstLine(stderr) || `git ended with ${exitCode ?? 'a signal'}`)
  return stdout.toString('utf8').trim()
}

function firstLine(text: string): string {
  return text.split('\n').find((line) => /fatal|error/.test(line)) ?? text.split('\n')[0] ?? ''
}
