import { createReadStream } from 'node:fs'
import { rm } from 'node:fs/promises'
import { isNotServed, TemporaryRepository, type TreeEntry } from './temporary-repository.js'
import type { GitAccess, GitCallOptions } from './host.js'

/** Files out of a commit that the host has, read by the consumer: what it holds is the job's, so names and modes are told as they are. */

export interface CommitToRead {
  readonly sha: string
  /** The full ref that stands at it; null when none is known. */
  readonly ref: string | null
  /** Folders and files to look in; all of it when one of them is empty. */
  readonly within: readonly string[]
  /** Whether a path is wanted. */
  readonly wants: (path: string) => Promise<boolean>
  /** How many files are read at most. */
  readonly most: number
  /**
   * Of a checkpoint: paths in the repository that its state may hold beside its tree (`checkpoint.paths`); what is there comes in place of what the tree has.
   */
  readonly statePaths: readonly string[]
}

export interface CommitFile {
  readonly path: string
  readonly sizeBytes: number
}

export interface CommitReader {
  /** What is wanted and can't be had: a clause says why. */
  readonly odd: (path: string, reason: string) => void
  /** Which of these are to be read, before they are. */
  readonly admit: (files: readonly CommitFile[]) => Promise<readonly CommitFile[]>
  /** Handles one file, and is waited for. */
  readonly take: (file: CommitFile, pieces: AsyncIterable<Buffer>) => Promise<void>
}

const pointerStart = 'version https://git-lfs.github.com/spec/v1'

/**
 * Reads files out of a commit.
 * @returns whether there were more of them than `most`, or more than can be looked through.
 * @throws InfrastructureError as every call to a git host.
 */
export async function readCommitFiles(source: string, access: GitAccess, commit: CommitToRead, options: GitCallOptions, reader: CommitReader): Promise<{ readonly more: boolean }> {
  return TemporaryRepository.use(source, access, options, async (repository) => {
    await repository.fetchCommit({ sha: commit.sha, ref: commit.ref, depth: commit.statePaths.length === 0 ? 1 : 2, filter: 'blob:none' })
    const within = commit.within.includes('') ? [] : commit.within
    const tree = await repository.entries(commit.sha, within)
    const wanted = new Map<string, TreeEntry>()
    for (const entry of [...tree.entries, ...(await stateEntries(repository, commit))]) {
      if (!(await commit.wants(entry.path))) continue
      if (entry.mode === '120000') reader.odd(entry.path, 'it is a link, and links are not followed')
      else if (entry.mode.startsWith('100')) wanted.set(entry.path, entry)
      if (wanted.size > commit.most) break
    }
    const entries = [...wanted.values()].slice(0, commit.most)
    if (entries.length > 0) await readEntries(repository, entries, reader)
    return { more: tree.truncated || wanted.size > commit.most }
  })
}

async function readEntries(repository: TemporaryRepository, entries: readonly TreeEntry[], reader: CommitReader): Promise<void> {
  const oids = [...new Set(entries.map(({ oid }) => oid))]
  // All at once: one by one, as git would fetch them, takes a request each. A host that refuses this knows no filters, and sent them before.
  await repository.fetchExactly(oids, { filter: 'blob:none' }).catch((error: unknown) => {
    if (!isNotServed(error)) throw error
  })
  const sizes = await repository.sizes(oids)
  const oidOf = new Map(entries.map(({ path, oid }) => [path, oid]))
  const files = entries.flatMap(({ path, oid }) => {
    const sizeBytes = sizes.get(oid)
    if (sizeBytes === undefined) reader.odd(path, 'the git host does not serve it')
    return sizeBytes === undefined ? [] : [{ path, sizeBytes }]
  })
  for (const file of await reader.admit(files)) {
    const unpacked = await repository.unpacked(oidOf.get(file.path) ?? '')
    try {
      if (await isPointer(file, unpacked)) reader.odd(file.path, 'it is a Git LFS file, of which the commit has only the pointer')
      else await reader.take(file, createReadStream(unpacked) as AsyncIterable<Buffer>)
    } finally {
      await rm(unpacked, { force: true })
    }
  }
}

async function isPointer({ sizeBytes }: CommitFile, unpacked: string): Promise<boolean> {
  if (sizeBytes > 1024) return false
  let text = ''
  for await (const piece of createReadStream(unpacked)) text += String(piece)
  return text.startsWith(pointerStart)
}

/** What a checkpoint's state holds of `checkpoint.paths`, by the paths that they had. Only what the job itself names is looked for. */
async function stateEntries(repository: TemporaryRepository, { sha, statePaths }: CommitToRead): Promise<TreeEntry[]> {
  if (statePaths.length === 0) return []
  const state = (await repository.parents(sha)).at(-1)
  if (state === undefined) return []
  const { entries: held } = await repository.entries(state, ['meta', 'paths'])
  const meta = held.find(({ path }) => path === 'meta')
  // A commit of the agent's, and no state.
  if (meta === undefined) return []
  const numbers = new Map((await repository.run(['cat-file', 'blob', meta.oid])).split('\n').flatMap((line) => {
    const [, number = '', path = ''] = /^P (\d{1,6}) (.+)$/.exec(line) ?? []
    return statePaths.includes(path) ? [[number, path] as const] : []
  }))
  return held.flatMap((entry) => {
    const [, number = '', rest = ''] = /^paths\/(\d{1,6})(\/.+)?$/s.exec(entry.path) ?? []
    const path = numbers.get(number)
    return path === undefined ? [] : [{ ...entry, path: `${path}${rest}` }]
  })
}
