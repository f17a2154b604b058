/**
 * A script for `/bin/sh -c`, made safe for a provider that only runs `bash -l -c`.
 *
 * The SDK keeps all output in memory and hands it over decoded; a login shell may print or exit of its own. So the script
 * runs in a shell of its own, its standard output is cut in the sandbox at `maxStdoutBytes` (the rest is read and
 * dropped, so that the script never blocks), its standard error is dropped there (see ExecResult), its exit code is passed
 * on (128 + n for a signal), and a mark tells where its output begins.
 */

/** How much of a script's output is kept. */
export const maxStdoutBytes = 8 * 1024 * 1024

/**
 * The longest script. Linux takes 128 KiB for one argument, quoting may double a script, and the frame around it is
 * shorter than the rest.
 */
export const maxScriptBytes = 60_000

export function wrapScript(script: string, mark: string): string {
  return [
    `printf '%s\\n' '${mark}'`,
    'exec 3>&1',
    `code=$({ { /bin/sh -c ${bashQuote(script)} 2>/dev/null 3>&- 4>&-; printf %s "$?" >&4; } | { head -c ${maxStdoutBytes} >&3; cat >/dev/null; }; } 4>&1)`,
    // Empty when the script killed the shell around it.
    'exit "${code:-137}"',
  ].join('\n')
}

/** What the script printed; undefined when it never began, because the login shell's profile ended the shell. */
export function unwrapStdout(stdout: string, mark: string): string | undefined {
  const start = stdout.indexOf(`${mark}\n`)
  return start === -1 ? undefined : stdout.slice(start + mark.length + 1)
}

/** In bash's `$'…'` only two characters need a backslash, so a text at most doubles. */
function bashQuote(text: string): string {
  return `$'${text.replace(/[\\']/g, '\\$&')}'`
}

const signalNumbers: Readonly<Record<string, number>> = { hangup: 1, interrupt: 2, aborted: 6, killed: 9, 'segmentation fault': 11, terminated: 15 }

/** E2B tells a shell's death by a signal as exit code -1 and `signal: killed`. */
export function exitCodeOf(exitCode: number, error: string | undefined): number {
  if (exitCode >= 0) return exitCode
  return 128 + (signalNumbers[/signal: ([a-z ]+)/.exec(error ?? '')?.[1]?.trim() ?? ''] ?? 9)
}
