import type { ShellCommand } from '../provider.js'

/** Carries the script into the sandbox; removed from the environment before the script starts. */
export const scriptVariable = 'SWITCHYARD_SCRIPT'

/**
 * What Daytona's daemon is told to run, the same for every command, because:
 * - daemons differ in how they take a command text apart (a shell, or a splitter that knows quotes but no backslash);
 *   this text reads the same to all of them. The script travels in the environment and is never quoted.
 * - the daemon reports -1 for a process that a signal ended; the outer shell, which goes on after the inner one, makes
 *   128 + n of it.
 * - the daemon mixes both outputs; without the standard error what it returns is the standard output.
 */
export const shellCommandText =
  `/bin/sh -c 'exec 2>/dev/null; set -- "$${scriptVariable}"; unset ${scriptVariable}; /bin/sh -c "$1"; exit $?'`

/**
 * The kernel takes at most 128 KiB as one argument or variable. Some is left for the variable's name and for a shell
 * that adds to it.
 */
export const maxCommandBytes = 120 * 1024

/** The environment for `shellCommandText`. Secrets are in it, so it must go nowhere else. */
export function commandEnvironment(command: ShellCommand): Record<string, string> {
  return { ...command.env, [scriptVariable]: command.script }
}
