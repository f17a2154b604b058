import { spawn } from 'node:child_process'
import { createHash, randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, readFile, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { Runner } from '../../src/runner/runner.js'
import { whole } from '../whole.js'
import { callOptions, hasShell, processSandbox, processesIn, readToEnd, runStep, shells, type ProcessSandbox } from './process-sandbox.js'

let sandbox: ProcessSandbox
let runner: Runner

async function open(options: Parameters<typeof processSandbox>[0] = {}): Promise<void> {
  sandbox = await processSandbox(options)
  runner = sandbox.runner()
  await runner.install(callOptions)
  await mkdir(join(sandbox.home, 'repository'))
}
afterEach(async () => {
  // Whatever ran, the provider may mix the standard error in: there must be none.
  const stderr = sandbox.calls.map((call) => call.stderr).join('')
  await sandbox.close()
  expect(stderr).toBe('')
})

const everyByte = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte))
const marker = (name: string) => join(sandbox.home, name)

describe.each(shells.map((shell) => ({ shell })))('in $shell', ({ shell }) => {
  beforeEach(async (context) => {
    if (!hasShell(shell)) context.skip()
    await open({ shell })
  })

  it('gives every byte of both streams and the exit code', async () => {
    await writeFile(marker('bytes'), everyByte)
    const done = await runStep(runner, 'cat ~/bytes ~/bytes; cat ~/bytes >&2; printf "no newline at the end"; exit 7')
    expect(done.stdout.equals(Buffer.concat([everyByte, everyByte, Buffer.from('no newline at the end')]))).toBe(true)
    expect(done.stderr.equals(everyByte)).toBe(true)
    expect(done.exitCode).toBe(7)
    expect(sandbox.calls.every((call) => /^[\n\r\t -~]*$/.test(call.result.stdout))).toBe(true)
  })

  it.each([
    ['true', 0],
    ['set -e; false; echo not reached', 1],
    ['exit 3', 3],
    ['exec sh -c "exit 4"', 4],
    ['kill -9 $$', 137],
    ['kill -TERM $$; sleep 30', 143],
    ['kill -INT $$; sleep 30', 130],
    // Its whole process group, and its parent with it.
    ['kill -TERM 0; sleep 30', 143],
    ['kill -9 $PPID; sleep 30', 137],
    ['no-such-program-here', 127],
  ])('%s ends with %i', async (run, code) => {
    expect((await runStep(runner, run)).exitCode).toBe(code)
  })

  it('gives commands no input, the default signals, their folder and their environment', async () => {
    await mkdir(join(sandbox.home, 'repository', 'a b'))
    const env = { PLAIN: 'a "quoted" $value\nof two lines ü', IFS: 'x', step: 'mine', run: 'mine', nonce: 'mine', HOME: sandbox.home, UID: '5', PATH: `/nowhere:${process.env['PATH'] ?? ''}` }
    const run = `cat; pwd; printf '%s|%s|%s|%s|%s\\n' "$PLAIN" "$step" "$run" "$nonce" "$PATH"; env | grep -c '^SWITCHYARD_ENV'; sh -c 'kill -INT $$; echo survived'; sh -c 'kill -QUIT $$; echo survived'`
    const done = await runStep(runner, run, { cwd: 'a b', env })
    expect(done.stdout.toString()).toBe(`${sandbox.home}/repository/a b\n${env.PLAIN}|mine|mine|mine|${env.PATH}\n0\n`)
  })

  it('runs a step once, also when two starts race, and lets another client read from any offset', async () => {
    const command = { key: 'once', run: 'echo started >>~/count; echo one; echo two; echo three', cwd: undefined, env: {} }
    await Promise.all([runner.start(command, callOptions), sandbox.runner().start(command, callOptions), sandbox.runner().start(command, callOptions)])
    expect((await readToEnd(runner, 'once')).stdout.toString()).toBe('one\ntwo\nthree\n')
    await runner.start(command, callOptions)
    expect((await readToEnd(sandbox.runner(), 'once', { from: { stdout: 4, stderr: 0 } })).stdout.toString()).toBe('two\nthree\n')
    expect(await readFile(marker('count'), 'utf8')).toBe('started\n')
  })

  it('ends a step whose daemon holds the output open, and lets the daemon live until stop', async () => {
    const done = await runStep(runner, 'echo before; sleep 300 & echo after')
    expect([done.stdout.toString(), done.exitCode]).toEqual(['before\nafter\n', 0])
    expect(await processesIn(sandbox.home)).not.toEqual([])
    await runner.stop('step-1', 100, callOptions)
    await vi.waitFor(async () => expect(await processesIn(sandbox.home)).toEqual([]), { timeout: 60_000 })
  })

  it('stops the group, what left it, and what ignores TERM', async () => {
    const run = `
      sh -c 'trap "" TERM; echo stubborn; while :; do sleep 1; done' &
      setsid sh -c 'echo daemon; sleep 300' </dev/null &
      (setsid sh -c 'setsid sleep 300 & exec sleep 300' >/dev/null 2>&1 &)
      trap 'echo cleaned up; exit 9' TERM
      echo ready
      while :; do sleep 0.1; done`
    await runner.start({ key: 'stop', run, cwd: undefined, env: {} }, callOptions)
    await vi.waitFor(async () => {
      const { stdout } = await runner.read('stop', { stdoutOffset: 0, stderrOffset: 0, waitMs: 500, maxBytes: 1000 }, callOptions)
      expect(Buffer.from(stdout).toString().split('\n').sort()).toEqual(['', 'daemon', 'ready', 'stubborn'])
    }, { timeout: 60_000 })
    await runner.stop('stop', 1_000, callOptions)
    const done = await readToEnd(runner, 'stop')
    expect(done.stdout.toString()).toContain('cleaned up')
    expect(done.exitCode).toBe(9)
    await vi.waitFor(async () => expect(await processesIn(sandbox.home)).toEqual([]), { timeout: 60_000 })
    await runner.stop('stop', 1_000, callOptions)
    await runner.stop('never-started', 1_000, callOptions)
  })

  it('takes a step whose supervisor was killed right after its claim as ended with 137', async () => {
    const step = join(sandbox.home, '.switchyard', 'steps', 'claimed')
    await mkdir(step, { recursive: true })
    for (const name of ['out', 'err', 'run.1']) await writeFile(join(step, name), '')
    const { pid } = spawn('true')
    await symlink(`${pid}:1`, join(step, 'pid'))
    expect(await readToEnd(runner, 'claimed')).toMatchObject({ exitCode: 137 })
    expect(await runner.start({ key: 'claimed', run: 'echo never', cwd: undefined, env: {} }, callOptions)).toMatchObject({ exitCode: 137 })
  })

  it('takes a step whose supervisor was killed as ended with 137', async () => {
    await runner.start({ key: 'orphan', run: 'echo out; sleep 300', cwd: undefined, env: {} }, callOptions)
    await vi.waitFor(async () => {
      const { stdout } = await runner.read('orphan', { stdoutOffset: 0, stderrOffset: 0, waitMs: 500, maxBytes: 100 }, callOptions)
      expect(Buffer.from(stdout).toString()).toBe('out\n')
    }, { timeout: 60_000 })
    for (const pid of await processesIn(sandbox.home)) process.kill(pid, 'SIGKILL')
    expect(await readToEnd(runner, 'orphan')).toMatchObject({ exitCode: 137 })
  })

  it('reads a step of which a file goes while its folder is listed', async (context) => {
    // busybox leaves such a file out.
    if (shell === 'busybox') context.skip()
    const programs = await mkdtemp(join(tmpdir(), 'switchyard-programs-'))
    try {
      const real = (process.env['PATH'] ?? '').split(':').map((folder) => join(folder, 'ls')).find((file) => existsSync(file))!
      // Between the total and what is left.
      await writeFile(join(programs, 'ls'), `#!/bin/sh\n${real} "$@" | sed '1a\\-????????? ? ? ? ?            ? running'\n`)
      await chmod(join(programs, 'ls'), 0o755)
      await sandbox.close()
      await open({ shell, path: `${programs}:${process.env['PATH'] ?? ''}` })
      const before = sandbox.calls.length
      const done = await runStep(runner, 'echo out; echo err >&2; sleep 0.2; exit 3')
      expect([done.stdout.toString(), done.stderr.toString(), done.exitCode]).toEqual(['out\n', 'err\n', 3])
      expect(sandbox.calls.slice(before).filter(({ result }) => result.exitCode !== 0)).toEqual([])
    } finally {
      await rm(programs, { recursive: true, maxRetries: 10 })
    }
  })
})

describe('output', () => {
  beforeEach(() => open())

  // In CI 30 MB: fifteen times what is held at once.
  const randomParts = whole ? 11 : 2

  it(`of ${(randomParts + 1) * 10} MB with a line of 10 MB arrives unchanged while little of it is held`, async () => {
    const run = `head -c 10000000 /dev/zero | tr '\\0' x; echo; i=0; while [ $i -lt ${randomParts} ]; do head -c 10000000 /dev/urandom | tee -a ~/sent; i=$((i + 1)); done; echo done >&2`
    const received = createHash('sha256')
    let bytes = 0
    let largest = 0
    await runner.start({ key: 'big', run, cwd: undefined, env: {} }, callOptions)
    const done = await readToEnd(runner, 'big', {
      maxBytes: 2 * 1024 * 1024,
      onSlice: ({ stdout }) => {
        largest = Math.max(largest, stdout.length)
        bytes += stdout.length
        received.update(stdout)
      },
    })
    expect(done.exitCode).toBe(0)
    expect(bytes).toBe((randomParts + 1) * 10_000_000 + 1)
    expect(largest).toBeLessThanOrEqual(2 * 1024 * 1024)
    const expected = createHash('sha256').update(Buffer.alloc(10_000_000, 'x')).update('\n').update(await readFile(marker('sent')))
    expect(received.digest('hex')).toBe(expected.digest('hex'))
    sandbox.calls.length = 0
  }, 180_000)

  it.skipIf(process.env['SWITCHYARD_SOAK'] === undefined)('of 1 GB can be read at its end at once', async () => {
    await runner.start({ key: 'huge', run: 'head -c 1000000000 /dev/zero; printf end', cwd: undefined, env: {} }, callOptions)
    let size = 0
    let ended = false
    while (!ended) {
      const slice = await runner.read('huge', { stdoutOffset: 2_000_000_000, stderrOffset: 0, waitMs: 5_000, maxBytes: 100 }, callOptions)
      size = slice.stdoutSize
      ended = slice.exitCode !== null
    }
    expect(size).toBe(1_000_000_003)
    const { stdout } = await runner.read('huge', { stdoutOffset: size - 5, stderrOffset: 0, waitMs: 0, maxBytes: 100 }, callOptions)
    expect(Buffer.from(stdout)).toEqual(Buffer.from('\0\0end'))
  }, 300_000)

  it('is shared fairly between the streams, at every offset, within the limit', async () => {
    await writeFile(marker('bytes'), Buffer.concat(Array.from({ length: 60 }, () => everyByte)))
    const all = await runStep(runner, 'cat ~/bytes; cat ~/bytes >&2')
    expect(all.stdout.length).toBe(15_360)
    for (const [offset, maxBytes] of [[0, 100], [4_095, 2], [4_096, 5_000], [8_191, 8_194], [15_359, 9_999], [15_360, 10]] as const) {
      const slice = await runner.read('step-1', { stdoutOffset: offset, stderrOffset: offset, waitMs: 0, maxBytes }, callOptions)
      const each = Math.min(15_360 - offset, Math.floor(maxBytes / 2))
      expect(Buffer.from(slice.stdout).equals(all.stdout.subarray(offset, offset + each))).toBe(true)
      expect(Buffer.from(slice.stderr).equals(all.stderr.subarray(offset, offset + each))).toBe(true)
    }
    const alone = await runner.read('step-1', { stdoutOffset: 15_360, stderrOffset: 0, waitMs: 0, maxBytes: 1_000 }, callOptions)
    expect([alone.stdout.length, alone.stderr.length]).toEqual([0, 1_000])
  })

  it('is not emptied by a command that opens /dev/stdout anew', async () => {
    const done = await runStep(runner, 'echo 1; echo 2 >/dev/stdout; echo 3; echo a >&2; echo b >/dev/stderr; echo c | tee /dev/stderr >/dev/null')
    expect(done.stdout.toString()).toBe('1\n2\n3\n')
    expect(done.stderr.toString()).toBe('a\nb\nc\n')
  })

  it('reaches many readers at once', async () => {
    const run = 'i=0; while [ $i -lt 50 ]; do echo line $i; i=$((i + 1)); sleep 0.01; done'
    await runner.start({ key: 'many', run, cwd: undefined, env: {} }, callOptions)
    const all = await Promise.all(Array.from({ length: 4 }, () => readToEnd(sandbox.runner(), 'many', { maxBytes: 64 })))
    const expected = Array.from({ length: 50 }, (_, line) => `line ${line}\n`).join('')
    expect(all.map((done) => done.stdout.toString())).toEqual([expected, expected, expected, expected])
  })

  it('is waited for no longer than asked', async () => {
    await runner.start({ key: 'silent', run: 'sleep 300', cwd: undefined, env: {} }, callOptions)
    const slice = await runner.read('silent', { stdoutOffset: 0, stderrOffset: 0, waitMs: 50, maxBytes: 10 }, callOptions)
    expect(slice).toMatchObject({ exitCode: null, stdoutSize: 0, stderrSize: 0 })
  })
})

describe('a step', () => {
  it('takes a command longer than the provider does', async () => {
    await open({ maxCommandBytes: 8_192 })
    const text = 'ü'.repeat(100_000)
    const done = await runStep(runner, `cat <<'END' | wc -c\n${text}\nEND\nexit 5`)
    expect([done.stdout.toString().trim(), done.exitCode]).toEqual(['200001', 5])
    expect(sandbox.calls.every((call) => Buffer.byteLength(call.command.script) <= 8_192)).toBe(true)
  })

  it('that deletes what the runner keeps ends with 137 and harms no other', async () => {
    await open()
    expect((await runStep(runner, 'rm -rf ~/.switchyard')).exitCode).toBe(137)
    expect((await runStep(runner, 'echo next', { key: 'next' })).stdout.toString()).toBe('next\n')
  })

  it('with a wrong folder, key, name or a variable that no process can hold says so', async () => {
    await open()
    const start = (changed: object) => runner.start({ key: 'k', run: 'true', cwd: undefined, env: {}, ...changed }, callOptions)
    await expect(start({ cwd: 'no such' })).rejects.toMatchObject({ kind: 'invalid', message: expect.stringContaining('no folder "no such"') as string })
    await expect(start({ key: '../k' })).rejects.toMatchObject({ kind: 'invalid' })
    await expect(start({ env: { 'a b': '' } })).rejects.toMatchObject({ kind: 'invalid' })
    await expect(start({ env: { BIG: 'x'.repeat(200_000) } })).rejects.toMatchObject({ kind: 'invalid', message: expect.stringContaining('env.BIG') as string })
  })

  it('keeps its secrets out of command texts, files and process lists', async () => {
    await open()
    const canary = `canary-${randomUUID()}`
    const run = `cat /proc/[0-9]*/cmdline 2>/dev/null | tr "\\0" "\\n" | grep -c "${canary.slice(0, -1)}[${canary.slice(-1)}]"; test -n "$SECRET" && echo known`
    const done = await runStep(runner, run, { env: { SECRET: canary } })
    expect(done.stdout.toString()).toBe('0\nknown\n')
    expect(sandbox.calls.some((call) => call.command.script.includes(canary) || call.result.stdout.includes(canary))).toBe(false)
    for (const entry of await readdir(marker('.switchyard'), { recursive: true, withFileTypes: true })) {
      if (entry.isFile()) expect(await readFile(join(entry.parentPath, entry.name), 'utf8')).not.toContain(canary)
    }
  })
})
