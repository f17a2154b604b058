/**
 * A script for `/bin/sh -c`, made safe for a provider whose SDK keeps all output in memory and hands it over decoded, and knows only
 * login shells.
 *
 * The frame around the script cuts its standard output in the sandbox at `maxStdoutBytes` (the rest is read and dropped, so
 * that the script never blocks), drops its standard error there (see ExecResult), passes its exit code on (128 + n for a
 * signal), and prints a mark that tells where its output begins. Where there is no PATH that leads to the system's own tools, one is made.
 */

/** How much of a script's output is kept. */
export const maxStdoutBytes = 8 * 1024 * 1024

/** The longest script: Linux takes 128 KiB for one argument, and a frame for a login shell's one argument quotes it. */
export const maxScriptBytes = 60_000

/** The system's tools last, so that the image's own choice wins; and where tools are installed for one user. */
const systemPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$HOME/.local/bin:$HOME/bin'

/** For `/bin/sh -c FRAME sh MARK SCRIPT`. */
const frame = [
  `PATH="\${PATH:+$PATH:}${systemPath}"; export PATH`,
  `printf '%s\\n' "$1"`,
  'exec 3>&1',
  `code=$({ { /bin/sh -c "$2" 2>/dev/null 3>&- 4>&-; printf %s "$?" >&4; } | { head -c ${maxStdoutBytes} >&3; cat >/dev/null; }; } 4>&1)`,
  // Empty when the script killed the shell around it.
  'exit "${code:-137}"',
].join('\n')

/** A command with its arguments that runs a script in its frame. */
export function framed(script: string, mark: string): { readonly cmd: string; readonly args: string[] } {
  return { cmd: '/bin/sh', args: ['-c', frame, 'sh', mark, script] }
}

/** What the script printed; undefined when it never began. */
export function unwrapStdout(stdout: string, mark: string): string | undefined {
  const start = stdout.indexOf(`${mark}\n`)
  return start === -1 ? undefined : stdout.slice(start + mark.length + 1)
}

const signalNumbers: Readonly<Record<string, number>> = { hangup: 1, interrupt: 2, aborted: 6, killed: 9, 'segmentation fault': 11, terminated: 15 }

/** E2B tells a shell's death by a signal as exit code -1 and `signal: killed`. */
export function exitCodeOf(exitCode: number, error: string | undefined): number {
  if (exitCode >= 0) return exitCode
  return 128 + (signalNumbers[/signal: ([a-z ]+)/.exec(error ?? '')?.[1]?.trim() ?? ''] ?? 9)
}
