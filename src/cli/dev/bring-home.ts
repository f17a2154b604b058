import { mkdir, rename } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { runGit } from '../../git/git-process.js'
import { SwitchyardError } from '../../job/errors.js'

/**
 * Brings what jobs made into the checkout that their repository was filled from, as `refs/remotes/switchyard/…`, by git and straight from the
 * repository on this disk. Nothing else changes there: no branch, no tag, no file, no configuration.
 */

/** A branch of a repository on this disk. */
export interface StoredBranch {
  /** As git there knows it: of the ephemeral namespace or not. */
  readonly ref: string
  /** As users know it: `agent/4711`, `main`. */
  readonly name: string
  readonly commit: string
}

export interface HomeBranch {
  /** As `git log` takes it: `switchyard/agent/4711`. */
  readonly name: string
  readonly commit: string
}

const ephemeral = 'refs/namespaces/ephemeral/refs/heads/'
const heads = 'refs/heads/'
const remote = 'refs/remotes/'

/** The folder's checkout; undefined when it is none. */
export async function checkoutOf(folder: string): Promise<string | undefined> {
  const { exitCode, stdout } = await git(['-C', folder, 'rev-parse', '--show-toplevel'])
  return exitCode === 0 ? stdout.toString('utf8').replace(/\n$/, '') : undefined
}

/** The branches of a repository on this disk that hold a commit other than what it was filled with. */
export async function storedBranches(bare: string, filledWith: string | undefined): Promise<StoredBranch[]> {
  const { exitCode, stdout, stderr } = await git(['-C', bare, 'for-each-ref', '--format=%(objectname) %(refname)', heads, ephemeral])
  if (exitCode !== 0) throw new SwitchyardError(`${bare}: can't be read by git (${stderr.trim()})`)
  return stdout.toString('utf8').split('\n').filter((line) => line !== '').map((line) => {
    const [commit = '', ref = ''] = line.split(' ')
    return { ref, name: ref.slice((ref.startsWith(ephemeral) ? ephemeral : heads).length), commit }
  }).filter(({ commit }) => commit !== filledWith)
}

/**
 * @returns where each is now, in their order. One whose name is taken by a folder of names, or is below another name, is found by its commit.
 * @throws SwitchyardError when one can't be fetched.
 */
export async function bringHome(bare: string, checkout: string, branches: readonly StoredBranch[]): Promise<HomeBranch[]> {
  const found: HomeBranch[] = []
  for (const branch of branches) {
    const named = { name: `switchyard/${branch.name}`, commit: branch.commit }
    const first = await fetched(bare, checkout, branch, named)
    const other = { ...named, name: `switchyard/by-commit/${branch.commit.slice(0, 12)}` }
    const problem = first === undefined ? undefined : await fetched(bare, checkout, branch, other)
    if (problem !== undefined) throw new SwitchyardError(`${checkout}: can't be given the branch ${branch.name} (${first ?? problem})`)
    found.push(first === undefined ? named : other)
  }
  return found
}

/** @returns what git said when it failed. */
async function fetched(bare: string, checkout: string, branch: StoredBranch, to: HomeBranch): Promise<string | undefined> {
  const { exitCode, stdout } = await git(['-C', checkout, 'rev-parse', '--verify', '--quiet', `${remote}${to.name}`])
  if (exitCode === 0 && stdout.toString('utf8').trim() === branch.commit) return undefined
  const flags = ['--quiet', '--no-tags', '--no-write-fetch-head', '--no-auto-gc', '--no-recurse-submodules', '--refmap=']
  const outcome = await git(['-C', checkout, 'fetch', ...flags, bare, `+${branch.ref}:${remote}${to.name}`])
  return outcome.exitCode === 0 ? undefined : (outcome.stderr.split('\n').find((line) => /fatal|error/.test(line)) ?? `git ended with ${outcome.exitCode ?? 'a signal'}`)
}

/**
 * Moves a repository out of what is about to be removed, all of its branches as ordinary ones, so that `git clone` finds them.
 * @returns where it is now.
 */
export async function keepRepository(bare: string, kept: string, nowMs: number): Promise<string> {
  await mkdir(kept, { recursive: true, mode: 0o700 })
  const path = join(kept, `${new Date(nowMs).toISOString().slice(0, 19).replaceAll(':', '')}-${basename(bare)}`)
  await rename(bare, path)
  // They are in it in any case; this is for who clones it.
  await git(['-C', path, 'fetch', '--quiet', '--no-tags', '--no-write-fetch-head', '--no-auto-gc', '--refmap=', path, `${ephemeral}*:${heads}*`])
  return path
}

/** The folders are this user's own, or such as they named. */
const trusted = { 'safe.directory': '*', 'protocol.file.allow': 'always' }

function git(args: readonly string[]) {
  return runGit({ args, config: trusted, timeoutMs: 120_000 })
}
