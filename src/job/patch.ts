import { z } from 'zod'

/** The lines of a file that a job has changed, as git's unified text has them. */
export interface FileHunks {
  readonly path: string
  /** From the first `@@` on; whatever stands in the file. */
  readonly text: string
  /** There are more. */
  readonly cut: boolean
}

/**
 * What a job's page shows of the lines that it has changed: the beginning of them, masked, kept beside its result and gone with it. For showing only: the
 * work itself is in git.
 */
export const shownPatchSchema = z.object({
  /** Whose changes these are. */
  commit: z.string(),
  files: z.array(z.object({ path: z.string(), text: z.string(), cut: z.boolean() })),
  /** False where the git host gives no lines. */
  known: z.boolean(),
})
export type ShownPatch = z.output<typeof shownPatchSchema>

/** A longer line is cut: the rest of a bundle's only line says nothing. */
const longestLine = 500
const mostFiles = 100

/**
 * As much of it as `maxBytes` takes, whole lines, and of one file at most a quarter, so that a lock file does not take all.
 * @param hunks null where the git host gives none.
 * @param mask hides secrets; asked before anything is cut, so that none is halved.
 */
export function shownPatch(commit: string, hunks: readonly FileHunks[] | null, maxBytes: number, mask: (text: string) => string): ShownPatch {
  const files: ShownPatch['files'] = []
  let left = maxBytes
  for (const { path, text, cut } of (hunks ?? []).slice(0, mostFiles)) {
    const lines = mask(text).split('\n').map((line) => (line.length > longestLine ? `${line.slice(0, longestLine)}…` : line))
    const whole = lines.join('\n')
    const kept = wholeLines(whole, Math.min(left, Math.ceil(maxBytes / 4)))
    left -= Buffer.byteLength(kept)
    files.push({ path: mask(path).slice(0, 1_000), text: kept, cut: cut || kept.length < whole.length })
  }
  return { commit, files, known: hunks !== null }
}

/** The beginning of a text, at most so many bytes of UTF-8, up to the end of a line. */
export function wholeLines(text: string, maxBytes: number): string {
  const bytes = Buffer.from(text)
  if (bytes.length <= maxBytes) return text
  return bytes.subarray(0, bytes.subarray(0, Math.max(0, maxBytes)).lastIndexOf(0x0a) + 1).toString('utf8')
}
