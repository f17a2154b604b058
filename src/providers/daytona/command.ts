import type { ShellCommand } from '../provider.js'

/** Carries the script into the sandbox; removed from the environment before the script starts. */
export const scriptVariable = 'SWITCHYARD_SCRIPT'
/** Likewise the mark that tells where the script's output begins. */
export const markVariable = 'SWITCHYARD_MARK'

/**
 * What Daytona's daemon is told to run, the same for every command, because:
 * - daemons differ in how they take a command text apart (a shell, or a splitter that knows quotes but no backslash);
 *   this text reads the same to all of them. The script travels in the environment and is never quoted.
 * - the daemon reports -1 for a process that a signal ended; the outer shell, which goes on after the inner one, makes
 *   128 + n of it.
 * - the daemon mixes both outputs; without the standard error what it returns is the standard output.
 * - the daemon's own shell (zsh where the image has it) reads start-up files, which may print into every answer or end the shell: the
 *   mark tells where the script's output begins, and that it began at all. See `commandEnvironment` as well.
 */
export const shellCommandText =
  `/bin/sh -c 'exec 2>/dev/null; echo "$${markVariable}"; set -- "$${scriptVariable}"; unset ${scriptVariable} ${markVariable}; ` +
  `if test "$ZDOTDIR" = /nonexistent; then unset ZDOTDIR; fi; /bin/sh -c "$1"; exit $?'`

/**
 * The kernel takes at most 128 KiB as one argument or variable. Some is left for the variable's name and for a shell
 * that adds to it.
 */
export const maxCommandBytes = 120 * 1024

/** The environment for `shellCommandText`. Secrets are in it, so it must go nowhere else. No file of the sandbox's user is read by zsh. */
export function commandEnvironment(command: ShellCommand, mark: string): Record<string, string> {
  return { ZDOTDIR: '/nonexistent', ...command.env, [scriptVariable]: command.script, [markVariable]: mark }
}

/** What the script printed; undefined when it never began. */
export function stdoutAfter(result: string, mark: string): string | undefined {
  const start = result.indexOf(`${mark}\n`)
  return start === -1 ? undefined : result.slice(start + mark.length + 1)
}
