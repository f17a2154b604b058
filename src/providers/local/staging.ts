/**
 * How a root consumer's sandboxes are an unprivileged user's on the host, each another's: what they may see is laid out in a mount
 * namespace of their own (stage.sh), where that user can reach it, however closed the folders are that hold it.
 */
export interface Staging {
  readonly unshare: string
  readonly setpriv: string
  /** A folder that every machine has, covered by that layout in the sandbox's own mount namespace alone. */
  readonly target: string
  /** The text of stage.sh. */
  readonly script: string
}

/** Numbers that systemd keeps for users who come and go, and that distributions give to nobody. */
export const firstUser = 61_184
export const lastUser = 65_519

/** @returns the command as the user runs it. `sources`: a file with what `layOut` gathered, one a line. */
export function stagedCommand({ unshare, setpriv, target, script }: Staging, user: number, sources: string, command: readonly string[]): string[] {
  return [unshare, '--mount', '--propagation', 'private', '--', '/bin/sh', '-c', script, 'stage', String(user), target, sources, setpriv, ...command]
}

/** @returns the command as the user runs it on the host, without a layout. */
export function asUser({ setpriv }: Staging, user: number, command: readonly string[]): string[] {
  return [setpriv, '--reuid', String(user), '--regid', String(user), '--clear-groups', '--inh-caps=-all', '--no-new-privs', '--', ...command]
}

/** Gathers what is to be laid out. @returns `at`, which tells where a path will be, and the gathered paths. */
export function layOut(staging: Staging | undefined): { readonly at: (path: string) => string; readonly sources: readonly string[] } {
  const sources: string[] = []
  const at = (path: string) => (staging === undefined ? path : `${staging.target}/${sources.push(path) - 1}`)
  return { at, sources }
}
