import { spawnSync } from 'node:child_process'
import { describe, expect, it } from 'vitest'
import { exitCodeOf, framed, unwrapStdout } from '../../src/providers/e2b/command.js'

/** Runs a wrapped script as E2B does. */
function run(script: string, env: NodeJS.ProcessEnv = process.env): { exitCode: number | null; stdout: string | undefined } {
  const { cmd, args } = framed(script, 'MARK')
  const { status, stdout } = spawnSync(cmd, args, { encoding: 'utf8', maxBuffer: 64 * 1024 * 1024, env })
  return { exitCode: status, stdout: unwrapStdout(stdout, 'MARK') }
}

describe('a wrapped script', () => {
  it.each([
    ['exit 0', 0, ''],
    ['printf "a\\nb"; exit 42', 42, 'a\nb'],
    ['kill -KILL $$', 137, ''],
    ['kill -TERM $$', 143, ''],
    ['echo before; kill -KILL $PPID; sleep 0.1', 137, 'before\n'],
    [`printf '%s' 'it'\\''s $HOME \\ \`x\` "q"'`, 0, 'it\'s $HOME \\ `x` "q"'],
    ['echo MARK; echo twice', 0, 'MARK\ntwice\n'],
    ['[ -e /proc/$$/fd/3 ] || [ -e /proc/$$/fd/4 ] || echo closed; echo hidden >&2', 0, 'closed\n'],
  ])('%s', (script, exitCode, stdout) => {
    expect(run(script)).toEqual({ exitCode, stdout })
  })

  it.each(['/nowhere', ''])('finds the system’s tools with the PATH %j', (PATH) => {
    expect(run('ls / >/dev/null && echo "$PATH"', { ...process.env, HOME: '/home/user', PATH })).toEqual({
      exitCode: 0,
      stdout: `${PATH ? `${PATH}:` : ''}/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/home/user/.local/bin:/home/user/bin\n`,
    })
  })

  it.each([
    [7, undefined, 7],
    [-1, 'signal: killed', 137],
    [-1, 'signal: terminated', 143],
    [-1, 'signal: segmentation fault (core dumped)', 139],
    [-1, 'signal: something new', 137],
    [-1, undefined, 137],
  ])('that E2B ends with %i and %s has the exit code %i', (exitCode, error, expected) => {
    expect(exitCodeOf(exitCode, error)).toBe(expected)
  })
})
