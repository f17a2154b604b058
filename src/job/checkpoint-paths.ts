/** How much all of `checkpoint.paths` may hold together unless the spec says otherwise, in MiB. */
export const defaultMaxPathsMiB = 256

/** How many there may be. */
export const maxCheckpointPaths = 50

/**
 * Whether a path may be saved with the checkpoints: one in the repository, or one in the home after `~/`.
 * @returns the problem as half a sentence with its mend, or undefined when it may.
 */
export function checkpointPathProblem(path: string): string | undefined {
  const inHome = path.startsWith('~/')
  const parts = (inHome ? path.slice(2) : path).split('/').filter((part) => part !== '' && part !== '.')
  if (/[\u0000-\u001f\u007f]/.test(path)) return 'holds a control character'
  if (Buffer.byteLength(path) > 1_000) return 'is longer than 1000 bytes'
  if (path.startsWith('/')) return 'is absolute; write it relative to the repository, or to the home as "~/…"'
  if (path.startsWith('~') && !inHome && path !== '~') return 'names somebody’s home; write "~/…" for the home of the sandbox’s user, or "./~…" for what is so called in the repository'
  if (path === '~' || (inHome && parts.length === 0)) return 'is the whole home; name the folders in it'
  if (path === '') return 'is empty; name a file or a folder'
  if (parts.length === 0) return 'is the repository itself, which is saved anyway; leave it out'
  if (parts.includes('..')) return 'holds ".."; name what lies in the repository or in the home'
  if (parts.some((part) => part.toLowerCase() === '.git')) return 'leads into git’s own folder, which is saved in a way of its own; leave it out'
  if (inHome && parts[0] === '.switchyard') return 'is Switchyard’s own; leave it out'
  if (inHome && parts[0] === 'repository') return 'is in the repository; write it relative to that'
  return undefined
}

/** A path as the runner takes it: without empty parts, `.` and a slash at its end; what begins with `~` in the repository as `./~…`. */
export function plainCheckpointPath(path: string): string {
  const inHome = path.startsWith('~/')
  const parts = path.split('/').filter((part) => part !== '' && part !== '.')
  const plain = parts.join('/')
  return !inHome && plain.startsWith('~') ? `./${plain}` : plain
}
