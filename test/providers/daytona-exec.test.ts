import { createHash, randomUUID } from 'node:crypto'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { SandboxInfo, ShellCommand } from '../../src/providers/provider.js'
import { maxCommandBytes } from '../../src/providers/daytona/command.js'
import type { DaemonKind } from '../servers/daytona/toolbox.js'
import { plainPlaces } from '../servers/sandbox-host.js'
import { failureOf, soon, startDaytona, type DaytonaFixture } from './daytona-fixture.js'

/** Nobody else's on this machine. */
const secret = `secret-${randomUUID()}`

// Daemons take a command apart in different ways; the adapter must not care.
describe.each<DaemonKind>(['shell', 'splitter'])('exec on a daemon with a %s', (daemon) => {
  let daytona: DaytonaFixture
  let sandbox: SandboxInfo
  beforeAll(async () => {
    daytona = await startDaytona({ daemon, ...(daemon === 'splitter' ? { places: plainPlaces() } : {}) })
    sandbox = await daytona.create()
  })
  afterEach(() => daytona.server.plan.clear())
  afterAll(() => daytona.close())
  const exec = (script: string, more: Partial<ShellCommand> = {}) => daytona.provider.exec(sandbox.id, { script, ...more }, soon)

  it.each([
    ['quotes', `printf '%s' "it's \\"quoted\\" \\\\ \\$HOME"`, 'it\'s "quoted" \\ $HOME'],
    ['several lines', 'a=1\nb=2\nprintf %s "$((a + b))"', '3'],
    ['a here-document', 'cat <<\'END\'\n$HOME `id` "x"\nEND', '$HOME `id` "x"\n'],
    ['other alphabets', 'printf %s "ünïcödé 漢字 🙂"', 'ünïcödé 漢字 🙂'],
    ['pipes and globs', 'printf "b\\na\\n" | sort | tr "\\n" " "', 'a b '],
    ['a comment at the end', 'printf done # comment', 'done'],
  ])('takes %s as they are', async (_what, script, stdout) => {
    expect(await exec(script)).toEqual({ exitCode: 0, stdout })
  })

  it('returns the standard output without the standard error, which the daemon mixes in', async () => {
    expect(await exec('echo out; echo err >&2; nonsense-command; echo end')).toEqual({ exitCode: 0, stdout: 'out\nend\n' })
  })

  it.each([
    ['exit 3', 3],
    // Both end a session's shell, whose exit code Daytona then never writes.
    ['set -e; false; echo no', 1],
    ['exec false', 1],
    ['nonsense-command', 127],
    // The daemon itself says -1 for a signal.
    ['kill -TERM $$', 143],
    ['kill -KILL $$', 137],
  ])('gives the exit code of "%s"', async (script, exitCode) => {
    expect(await exec(script)).toEqual({ exitCode, stdout: '' })
  })

  it('gives variables to the command, also with every special character, and leaves none of its own', async () => {
    const value = 'a b\'c"d$e`f\\g\nh=!*'
    expect((await exec('printf %s "$VALUE"', { env: { VALUE: value } })).stdout).toBe(value)
    expect((await exec('env')).stdout).not.toContain('SWITCHYARD_SCRIPT')
  })

  it('shows no variable in the arguments of any process', async () => {
    // A part of the pattern alone would be in the search's own arguments.
    const { stdout } = await exec(`cat /proc/[0-9]*/cmdline | tr "\\0" "\\n" | grep -c "${secret.slice(0, -1)}[${secret.slice(-1)}]"; true`, { env: { TOKEN: secret } })
    expect(stdout).toBe('0\n')
  })

  it('keeps secrets out of what Daytona tells of the sandbox', async () => {
    await exec('true', { env: { TOKEN: secret } })
    const response = await fetch(`${daytona.server.apiUrl}/sandbox/${sandbox.id}`, { headers: { authorization: `Bearer ${daytona.server.apiKey}` } })
    expect(await response.text()).not.toContain(secret)
  })

  it('runs in the folder that it is told, and names one that is not there', async () => {
    expect((await exec('mkdir -p "a b" && cd "a b" && pwd')).exitCode).toBe(0)
    const home = (await exec('pwd')).stdout.trim()
    expect((await exec('pwd', { cwd: `${home}/a b` })).stdout).toBe(`${home}/a b\n`)
    const error = await failureOf(exec('pwd', { cwd: `${home}/nowhere` }))
    expect(error.kind).toBe('invalid')
    expect(error.message).toContain(`${home}/nowhere`)
  })

  it('carries the longest script and an output of many megabytes byte by byte', async () => {
    const long = `printf %s '${'x'.repeat(maxCommandBytes - 12)}'`
    expect(Buffer.byteLength(long)).toBeLessThanOrEqual(maxCommandBytes)
    expect((await exec(long)).stdout).toHaveLength(maxCommandBytes - 12)
    const { stdout } = await exec('i=0; while [ $i -lt 5000 ]; do printf "%01023d\\n" $i; i=$((i + 1)); done')
    const expected = Array.from({ length: 5000 }, (_item, index) => `${String(index).padStart(1023, '0')}\n`).join('')
    expect(digest(stdout)).toBe(digest(expected))
  })

  it('keeps the marks that break Daytona’s streams', async () => {
    const { stdout } = await exec('i=0; while [ $i -lt 2000 ]; do printf "\\001\\001\\001out\\002\\002\\002err"; i=$((i + 1)); done')
    expect(digest(stdout)).toBe(digest('\u0001\u0001\u0001out\u0002\u0002\u0002err'.repeat(2000)))
  })

  it('starts what outlives the command, when that lets go of the output', async () => {
    await exec('(sleep 0.2; echo late > late) >/dev/null 2>&1 &')
    await expect.poll(async () => (await exec('cat late')).stdout).toBe('late\n')
  })

  it('ends at its deadline, and the daemon kills the command soon after', async () => {
    const error = await failureOf(daytona.provider.exec(sandbox.id, { script: 'echo $$ > pid; exec sleep 60' }, { timeoutMs: 3_000 }))
    expect(error.kind).toBe('timeout')
    await expect.poll(async () => (await exec('test -s pid && ! kill -0 "$(cat pid)"')).exitCode).toBe(0)
  })

  it('calls a cut answer and one that makes no sense an unknown outcome, never a success', async () => {
    const { plan } = daytona.server
    for (const fault of [
      { call: 'execute', action: 'cut-stream', afterBytes: 0 },
      { call: 'execute', action: 'cut-stream', afterBytes: 20 },
      { call: 'execute', action: 'lose-answer' },
      { call: 'execute', action: 'corrupt', variant: 'html' },
      { call: 'execute', action: 'corrupt', variant: 'no-exit-code' },
    ] as const) {
      plan.add(fault)
      const error = await failureOf(exec('echo done'))
      expect({ fault, kind: error.kind }).toEqual({ fault, kind: 'transient' })
    }
    expect((await exec('echo done')).stdout).toBe('done\n')
  })

  it('is one call to the provider', async () => {
    const before = daytona.server.plan.calls()
    await exec('true')
    const after = daytona.server.plan.calls()
    expect(after).toEqual({ ...before, execute: (before.execute ?? 0) + 1 })
  })

  it('refuses a variable of the name that carries the command', async () => {
    expect((await failureOf(exec('true', { env: { SWITCHYARD_SCRIPT: 'x' } }))).kind).toBe('invalid')
  })
})

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
