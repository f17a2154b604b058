import { type FileHunks, wholeLines } from '../job/patch.js'

/** The most that a host is asked to give of changed lines, in bytes: of all files together, and of one. */
const mostBytes = 256 * 1024
const mostFileBytes = 64 * 1024

/** What git is told to give at most: of more, the last file is left out. */
export const mostPatchBytes = 4 * 1024 * 1024

/** Of each file's part of a patch, its hunks; files that have none, such as binary ones, are left out. */
export function hunksOf(files: Iterable<{ readonly path: string; readonly patch: string }>): FileHunks[] {
  const found: FileHunks[] = []
  let left = mostBytes
  for (const { path, patch } of files) {
    const begin = patch.startsWith('@@ ') ? 0 : patch.indexOf('\n@@ ') + 1
    if (begin === 0 && !patch.startsWith('@@ ')) continue
    const whole = patch.slice(begin)
    const text = wholeLines(whole, Math.min(left, mostFileBytes))
    left -= Buffer.byteLength(text)
    found.push({ path, text, cut: text.length < whole.length })
    if (left <= 0) break
  }
  return found
}

/**
 * The parts of `git diff --patch`, one a file in the order of `--raw`. A file's own lines never begin a part: they have a sign before them.
 * @param complete false where the output was cut off, so that the last part may be.
 */
export function filePatches(output: string, changed: readonly { readonly path: string; readonly state: string }[], complete: boolean): { readonly path: string; readonly patch: string }[] {
  // Not by "^", which is also behind the other line ends that a file may hold.
  const parts = output.split(/(?<=\n)(?=diff --git )/)
  if (!complete) parts.pop()
  // A change of type is written as a deletion and a creation.
  return changed.map(({ path, state }) => ({ path, patch: parts.splice(0, state.startsWith('T') ? 2 : 1).join('') }))
}
