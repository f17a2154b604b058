/** A changed file as `git diff --raw --numstat` tells it. */
export interface ChangedFile {
  readonly path: string
  readonly oldPath: string | null
  /** A, M, D, R, T … */
  readonly state: string
  readonly additions: number
  readonly deletions: number
  /** False where only its mode or its name is another, or all that is another was left out, such as blanks. */
  readonly contentChanged: boolean
  readonly modeChanged: boolean
}

/** Reads the output of `git diff --raw --numstat -z`. */
export function parseChangedFiles(output: string): ChangedFile[] {
  const parts = output.split('\0')
  const files: { path: string; oldPath: string | null; state: string; modeChanged: boolean }[] = []
  const counts = new Map<string, { additions: number; deletions: number }>()
  let index = 0
  const next = () => parts[index++] ?? ''
  while (index < parts.length) {
    const record = next()
    if (record.startsWith(':')) {
      const [oldMode, mode] = record.slice(1).split(' ')
      const state = record.slice(record.lastIndexOf(' ') + 1)
      const modeChanged = oldMode !== mode
      const first = next()
      if (/^[RC]/.test(state)) files.push({ state, modeChanged, oldPath: first, path: next() })
      else files.push({ state, modeChanged, oldPath: null, path: first })
    } else if (record !== '') {
      const [additions = '', deletions = '', path = ''] = record.split('\t')
      // A rename has an empty path here, and the old and the new one behind it. Binary files count "-".
      let name = path
      if (path === '') {
        next()
        name = next()
      }
      counts.set(name, { additions: Number(additions) || 0, deletions: Number(deletions) || 0 })
    }
  }
  return files.map((file) => ({ ...file, ...(counts.get(file.path) ?? { additions: 0, deletions: 0 }), contentChanged: counts.has(file.path) }))
}
