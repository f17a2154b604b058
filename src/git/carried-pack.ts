import { open, readdir, readFile, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { InfrastructureError } from '../job/errors.js'
import type { GitAccess, GitCallOptions } from './host.js'
import { ForeignCommits, IncompleteCommits, type ForeignLimits } from './foreign-commits.js'
import { isNotServed, TemporaryRepository } from './temporary-repository.js'

/**
 * Commits carried between a git host and a place that must not talk to it. On the way they lie in a bare repository of this machine
 * that lives as long as the call; memory is needed for a piece at a time.
 */

/** A commit that the host has. */
export interface HeldCommit {
  readonly sha: string
  /** The full ref that stands at it; null when none is known. */
  readonly ref: string | null
}

export interface CarriedPack {
  /** Its checksum. */
  readonly name: string
  readonly bytes: number
  /** The commits at which the history is cut off, a line each. */
  readonly shallow: string
  read(offset: number, length: number): Promise<Buffer>
}

/** What is fetched for a clone: a commit, `depth` commits deep; or a checkpoint, with all that leads from `baseSha` to it. */
export interface WantedCommit extends HeldCommit {
  /** Where the host serves no commit by its sha alone, also for a checkpoint. */
  readonly depth: number
  /** Where the job of a checkpoint began. */
  readonly baseSha?: string | undefined
}

/**
 * Fetches a commit and hands it to `deliver` as a pack.
 * @throws InfrastructureError `invalid` when it is more than `maxBytes`.
 */
export async function fetchAsPack<Result>(
  source: string,
  access: GitAccess,
  { maxBytes, ...wanted }: WantedCommit & { readonly maxBytes: number },
  options: GitCallOptions,
  deliver: (pack: CarriedPack) => Promise<Result>,
): Promise<Result> {
  return TemporaryRepository.use(source, access, options, async (repository) => {
    await fetchWanted(repository, wanted)
    const name = await onePack(repository, wanted)
    const file = await open(repository.packPath(name))
    try {
      const bytes = (await file.stat()).size
      if (bytes > maxBytes) {
        const message = `${source}: the repository's files are ${bytes} bytes as a pack, and no more than ${maxBytes} are carried into a sandbox; raise the limit, or let the sandbox fetch them itself`
        throw new InfrastructureError({ kind: 'invalid', owner: 'job', source, message })
      }
      const read = async (offset: number, length: number) => {
        const piece = Buffer.alloc(length)
        const { bytesRead } = await file.read(piece, 0, length, offset)
        return piece.subarray(0, bytesRead)
      }
      return await deliver({ name, bytes, shallow: await shallowCommits(repository.path), read })
    } finally {
      await file.close()
    }
  })
}

/** A checkpoint without any depth, on its base: a depth would cut off what it holds of stashes, branches and history made anew. */
async function fetchWanted(repository: TemporaryRepository, { sha, ref, depth, baseSha }: WantedCommit): Promise<void> {
  if (baseSha === undefined || baseSha === sha) {
    await repository.fetchCommit({ sha, ref, depth })
    return
  }
  try {
    await repository.fetchExactly([baseSha], { depth: 1 })
  } catch (error) {
    if (!isNotServed(error)) throw error
    await repository.fetchCommit({ sha, ref, depth })
    return
  }
  await repository.fetchCommit({ sha, ref })
}

async function onePack(repository: TemporaryRepository, { sha, baseSha = sha }: WantedCommit): Promise<string> {
  const names = (await readdir(join(repository.path, 'objects', 'pack'))).filter((name) => name.endsWith('.pack'))
  const name = /^pack-([0-9a-f]{40})\.pack$/.exec(names.length === 1 ? (names[0] ?? '') : '')?.[1]
  if (name !== undefined) return name
  if (names.length === 0) throw new Error('git fetched no pack where one was expected')
  const made = await repository.run(['pack-objects', '-q', '--revs', '--delta-base-offset', repository.packPath('').slice(0, -'-.pack'.length)], { input: `${sha}\n${baseSha}\n` })
  return made.trim()
}

async function shallowCommits(path: string): Promise<string> {
  try {
    return await readFile(join(path, 'shallow'), 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return ''
    throw error
  }
}

/** The deepest history that is fetched because a sandbox says that its commits build on it. */
const deepestHistory = 10_000
/** Of so many commits that a sandbox's build on, the trees are searched for files that git itself reads. */
const mostSearched = 8

/** What a sandbox says about the commits that it gave. */
export interface BroughtCommits {
  /** The pack's checksum. */
  readonly name: string
  readonly bytes: number
  /** The host's commits that they build on; empty when there are too many to name. */
  readonly borders: readonly string[]
  /** How deep the history of the last commit that the host has is that they may build on. */
  readonly depth: number
}

export interface PackToPush {
  readonly read: GitAccess
  readonly write: GitAccess
  readonly sha: string
  readonly branch: string
  /** The last commit that the host has of what leads to `sha`. */
  readonly parent: HeldCommit
  readonly limits: ForeignLimits
  /** Asked right before the push; what it throws prevents that. */
  readonly beforePush: () => Promise<void>
  /** Writes the commits, and says what they are. */
  readonly bring: (write: (piece: Buffer) => Promise<void>) => Promise<BroughtCommits>
}

/**
 * Takes commits of unknown origin as a pack and pushes one of them to a branch. A pack holds no refs: which commit goes where is this
 * side's word alone. What the commits build on is fetched from the host, into a repository that never sees the pack.
 * @throws InfrastructureError `invalid` when the commits are not what they should be.
 */
export async function pushPack(source: string, { read, write, sha, branch, parent, limits, beforePush, bring }: PackToPush, options: GitCallOptions): Promise<void> {
  await TemporaryRepository.use(source, read, options, async (host) => {
    const commits = await ForeignCommits.within(source, host, limits, options)
    const brought = await bringTo(source, host.path, commits, bring)
    await fetchBorders(host, brought, parent)
    await commits.take(brought.name, brought.bytes)
    if (!(await commits.has(sha))) {
      throw new InfrastructureError({ kind: 'invalid', owner: 'job', source, message: `${source}: the commit ${sha} is not among those that came out of the sandbox` })
    }
    await beforePush()
    try {
      await commits.push(write, sha, branch)
    } catch (error) {
      if (!(error instanceof IncompleteCommits)) throw error
      // A host that can't be asked what it has gets more than it needs, which takes the files that the commits build on.
      await host.run(['fetch', '--quiet', '--no-tags', '--no-write-fetch-head', '--refetch', '--no-filter', `--depth=${historyDepth(brought.depth)}`, 'origin', parent.sha])
      await beforePush()
      await commits.push(write, sha, branch)
    }
  })
}

/** Fetches the trees of what the commits build on, without contents but for the files that git itself reads. */
async function fetchBorders(host: TemporaryRepository, { borders, depth }: BroughtCommits, parent: HeldCommit): Promise<void> {
  const filter = 'blob:none'
  const found = await fetchNamed(host, borders)
  if (!found) await host.fetchCommit({ ...parent, depth: historyDepth(depth), filter })
  const oids = new Set<string>()
  for (const border of found ? borders.slice(0, mostSearched) : [parent.sha]) {
    for (const oid of await host.filesNamed(border, /(^|\/)\.git(attributes|modules)$/)) oids.add(oid)
  }
  // A host that refuses this knows no filters, and sent them before.
  if (oids.size > 0) await host.fetchExactly([...oids], { filter }).catch(ifNotServed)
}

async function fetchNamed(host: TemporaryRepository, borders: readonly string[]): Promise<boolean> {
  if (borders.length === 0) return false
  try {
    await host.fetchExactly(borders, { depth: 1, filter: 'blob:none' })
    return true
  } catch (error) {
    if (isNotServed(error)) return false
    throw error
  }
}

function ifNotServed(error: unknown): void {
  if (!isNotServed(error)) throw error
}

const historyDepth = (depth: number) => Math.min(Math.max(depth, 1), deepestHistory)

async function bringTo(source: string, folder: string, commits: ForeignCommits, bring: PackToPush['bring']): Promise<BroughtCommits> {
  // It gets its name once it is whole: git does not look at it before.
  const arriving = join(folder, 'arriving.pack')
  const file = await open(arriving, 'wx', 0o600)
  try {
    const write = async (piece: Buffer) => {
      try {
        await file.writeFile(piece)
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
        throw new InfrastructureError({ kind: 'transient', owner: 'consumer-configuration', source, message: `${source}: the consumer's folder for temporary files is full; give TMPDIR more room`, cause: error })
      }
    }
    const brought = await bring(write)
    await rename(arriving, commits.packPath(brought.name))
    return brought
  } finally {
    await file.close()
  }
}
