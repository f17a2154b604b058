import { open, readdir, readFile, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { InfrastructureError } from '../job/errors.js'
import type { GitAccess, GitCallOptions } from './host.js'
import { TemporaryRepository } from './temporary-repository.js'

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

/**
 * Fetches a commit, `depth` commits deep, and hands it to `deliver` as a pack.
 * @throws InfrastructureError `invalid` when it is more than `maxBytes`.
 */
export async function fetchAsPack(
  source: string,
  access: GitAccess,
  { maxBytes, ...wanted }: HeldCommit & { readonly depth: number; readonly maxBytes: number },
  options: GitCallOptions,
  deliver: (pack: CarriedPack) => Promise<void>,
): Promise<void> {
  await TemporaryRepository.use(source, access, options, async (repository) => {
    await repository.fetchCommit(wanted)
    const names = (await readdir(join(repository.path, 'objects', 'pack'))).filter((name) => name.endsWith('.pack'))
    const name = /^pack-([0-9a-f]{40})\.pack$/.exec(names.length === 1 ? (names[0] ?? '') : '')?.[1]
    if (name === undefined) throw new Error(`git fetched ${names.length} packs where one was expected`)
    const file = await open(repository.packPath(name))
    try {
      const bytes = (await file.stat()).size
      if (bytes > maxBytes) {
        const message = `${source}: the repository's files are ${bytes} bytes as a pack, and no more than ${maxBytes} are carried into a sandbox; raise the limit, or let the sandbox fetch them itself`
        throw new InfrastructureError({ kind: 'invalid', source, message })
      }
      const read = async (offset: number, length: number) => {
        const piece = Buffer.alloc(length)
        const { bytesRead } = await file.read(piece, 0, length, offset)
        return piece.subarray(0, bytesRead)
      }
      await deliver({ name, bytes, shallow: await shallowCommits(repository.path), read })
    } finally {
      await file.close()
    }
  })
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

export interface PackToPush {
  readonly read: GitAccess
  readonly write: GitAccess
  readonly sha: string
  readonly branch: string
  /** The last commit that the host has of what leads to `sha`. */
  readonly parent: HeldCommit
  /** Writes the commits, and says what they are by name and how deep the history of `parent` is that they may build on. */
  /** Asked right before the push; what it throws prevents that. */
  readonly beforePush: () => Promise<void>
  readonly bring: (write: (piece: Buffer) => Promise<void>) => Promise<{ readonly name: string; readonly depth: number }>
}

/**
 * Takes commits of unknown origin as a pack and pushes one of them to a branch. A pack holds no refs: which commit goes where is this
 * side's word alone. Every object is checked; hooks, filters and checkouts have no part in it.
 * @throws InfrastructureError `invalid` when the commits are not what they should be.
 */
export async function pushPack(source: string, { read, write, sha, branch, parent, beforePush, bring }: PackToPush, options: GitCallOptions): Promise<void> {
  await TemporaryRepository.use(source, read, options, async (repository) => {
    const { name, depth } = await bringTo(source, repository, bring)
    await repository.takePack(name)
    // The trees that the commits build on, without contents: what is to be sent is told from them.
    await repository.fetchCommit({ ...parent, depth: Math.min(Math.max(depth, 1), deepestHistory), filter: 'blob:none' })
    if ((await repository.commit(sha)) !== sha) {
      throw new InfrastructureError({ kind: 'invalid', source, message: `${source}: the commit ${sha} is not among those that came out of the sandbox` })
    }
    await beforePush()
    await repository.pushForward(write, sha, branch)
  })
}

async function bringTo(source: string, repository: TemporaryRepository, bring: PackToPush['bring']): Promise<{ name: string; depth: number }> {
  // It gets its name once it is whole: git does not look at it before.
  const arriving = join(repository.path, 'arriving.pack')
  const file = await open(arriving, 'wx', 0o600)
  try {
    const write = async (piece: Buffer) => {
      try {
        await file.writeFile(piece)
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
        throw new InfrastructureError({ kind: 'transient', source, message: `${source}: the consumer's folder for temporary files is full; give TMPDIR more room`, cause: error })
      }
    }
    const brought = await bring(write)
    await rename(arriving, repository.packPath(brought.name))
    return brought
  } finally {
    await file.close()
  }
}
