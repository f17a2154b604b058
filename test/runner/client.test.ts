import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, describe, expect, it } from 'vitest'
import { InfrastructureError } from '../../src/job/errors.js'
import type { ExecResult, Provider } from '../../src/providers/provider.js'
import { parseAnswer } from '../../src/runner/answer.js'
import { runnerFailure } from '../../src/runner/failures.js'
import { scriptSource, uploadTexts } from '../../src/runner/script.js'
import { callOptions, has, processSandbox, readToEnd, runStep, type ProcessSandbox } from './process-sandbox.js'

const sandboxes: ProcessSandbox[] = []
async function open(options: Parameters<typeof processSandbox>[0] = {}): Promise<ProcessSandbox> {
  const sandbox = await processSandbox(options)
  sandboxes.push(sandbox)
  await mkdir(join(sandbox.home, 'repository'), { recursive: true })
  return sandbox
}
afterEach(async () => {
  await Promise.all(sandboxes.splice(0).map((sandbox) => sandbox.close()))
})

const transient = () => Promise.reject(new InfrastructureError({ kind: 'transient', source: 'test', message: 'test: cut' }))

describe('the script', () => {
  it.skipIf(!has('shellcheck'))('passes shellcheck', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'switchyard-shellcheck-'))
    try {
      await writeFile(join(folder, 'runner.sh'), scriptSource)
      const { stdout } = await promisify(execFile)('shellcheck', ['--shell=sh', join(folder, 'runner.sh')]).catch((error: unknown) => error as { stdout: string })
      expect(stdout).toBe('')
    } finally {
      await rm(folder, { recursive: true, maxRetries: 10 })
    }
  })

  it('is installed in pieces that the provider takes, and leaves only itself', async () => {
    const sandbox = await open({ maxCommandBytes: 4_096 })
    const facts = await sandbox.runner().install(callOptions)
    expect(facts.repositoryPath).toBe(join(sandbox.home, 'repository'))
    expect(facts.gitVersion).toMatch(/^\d+\.\d+/)
    expect(sandbox.calls.length).toBeGreaterThan(8)
    expect(sandbox.calls.every((call) => call.command.script.length <= 4_096)).toBe(true)
    expect(await readdir(join(sandbox.home, '.switchyard'))).toEqual([expect.stringMatching(/^runner-[0-9a-f]{12}\.sh$/)])
  })

  it('is installed again when it vanished or was changed', async () => {
    const sandbox = await open()
    const runner = sandbox.runner()
    expect((await runStep(runner, 'rm ~/.switchyard/runner-*', { key: 'one' })).exitCode).toBe(0)
    const rewrite = 'for f in ~/.switchyard/runner-*; do echo "echo changed >~/changed" >$f; done'
    expect((await runStep(runner, rewrite, { key: 'two' })).exitCode).toBe(0)
    expect((await runStep(runner, 'echo still here', { key: 'three' })).stdout.toString()).toBe('still here\n')
    expect(await readdir(sandbox.home)).not.toContain('changed')
  })

  it('can be uploaded again after any lost answer', async () => {
    const sandbox = await open({ maxCommandBytes: 8_192 })
    // The command runs, its answer is lost: every second time.
    let number = 0
    const exec: Provider['exec'] = (...args) => sandbox.provider.exec(...args)
    const provider = {
      ...sandbox.provider,
      exec: async (...args: Parameters<Provider['exec']>) => {
        const result = await exec(...args)
        number += 1
        return number % 9 === 0 ? transient() : result
      },
    }
    const runner = sandbox.runner({ provider })
    expect((await runStep(runner, 'echo done')).stdout.toString()).toBe('done\n')
    for (const text of uploadTexts('file', Buffer.from('content'), 'abc', 8_192)) {
      for (let time = 0; time < 3; time += 1) expect((await exec('one', { script: text }, callOptions)).stdout).toContain('@switchyard abc done')
    }
  })
})

describe('a sandbox whose commands leave no process to run anything in', () => {
  it('is tried a few times, and then the job is told so', async () => {
    const sandbox = await open()
    const runner = sandbox.runner()
    await runner.install(callOptions)
    // As dash, bash and busybox all do when they can't fork: the trap is the last that they run.
    let starved = 0
    sandbox.fault = ({ script }) => {
      starved += 1
      const said = /@switchyard [0-9a-f]+ starved/.exec(script)?.[0] ?? 'no trap'
      return starved === 2 ? undefined : Promise.resolve({ exitCode: 2, stdout: `${said}\n` })
    }
    await runner.start({ key: 'step', run: 'true', cwd: undefined, env: {} }, callOptions)
    expect(starved).toBe(2)
    await expect(runner.stop('step', 0, callOptions)).rejects.toMatchObject({ kind: 'invalid', owner: 'job', message: expect.stringContaining('no process to run anything in') as string })
    expect(starved).toBe(6)
  })
})

describe('few calls', () => {
  const whole = { stdoutOffset: 0, stderrOffset: 0, waitMs: 20_000, maxBytes: 65_536 }
  const step = (run: string) => ({ key: 'step', run, cwd: undefined, env: {} })

  it('install the script and look around in one, where both fit into it', async () => {
    const sandbox = await open()
    await sandbox.runner().install(callOptions)
    expect(sandbox.calls).toHaveLength(1)
  })

  it('install the script and look around in two, where only each fits', async () => {
    const sandbox = await open()
    await sandbox.runner().install(callOptions)
    const exactly = Buffer.byteLength(sandbox.calls[0]!.command.script) - 1
    const smaller = await open({ maxCommandBytes: exactly })
    const facts = await smaller.runner().install(callOptions)
    expect(facts.gitVersion).toMatch(/^\d+\.\d+/)
    expect(smaller.calls).toHaveLength(2)
  })

  it('start a step and read all of it in one, when it ends within the wait', async () => {
    const sandbox = await open()
    const runner = sandbox.runner()
    await runner.install(callOptions)
    const silent = await runner.start(step('exit 4'), callOptions, whole)
    expect(silent).toMatchObject({ exitCode: 4, stdoutSize: 0, stderrSize: 0 })
    expect(sandbox.calls).toHaveLength(2)
    const loud = await runner.start({ ...step('echo out; echo err >&2; exit 3'), key: 'loud' }, callOptions, whole)
    const from = { stdout: loud.stdout.length, stderr: loud.stderr.length }
    // On a busy machine the end may come later than the output does.
    const rest = await readToEnd(runner, 'loud', { from })
    expect(Buffer.concat([loud.stdout, rest.stdout]).toString()).toBe('out\n')
    expect(Buffer.concat([loud.stderr, rest.stderr]).toString()).toBe('err\n')
    expect(rest.exitCode).toBe(3)
  })

  it('start a step a second time and only read on, from the byte that is asked for', async () => {
    const sandbox = await open()
    const runner = sandbox.runner()
    await runStep(runner, 'echo ran >>"$HOME/ran"; echo 0123456789', { key: 'step' })
    const again = await sandbox.runner().start(step('echo ran >>"$HOME/ran"; echo 0123456789'), callOptions, { ...whole, stdoutOffset: 6 })
    expect(Buffer.from(again.stdout).toString()).toBe('6789\n')
    expect(again.exitCode).toBe(0)
    expect((await runStep(runner, 'wc -l <"$HOME/ran"', { key: 'count' })).stdout.toString().trim()).toBe('1')
  })

  it('start a step without waiting for it or bringing its output, when no read is asked for', async () => {
    const sandbox = await open()
    const runner = sandbox.runner()
    const slice = await runner.start(step('echo out; sleep 60'), callOptions)
    expect(slice).toMatchObject({ exitCode: null, stdout: new Uint8Array(), stderr: new Uint8Array() })
    await runner.stop('step', 0, callOptions)
  })
})

describe('a call', () => {
  it('is tried again after transient errors, with growing pauses, and no longer than its time', async () => {
    const sandbox = await open()
    const pauses: number[] = []
    const sleep = (ms: number) => {
      pauses.push(ms)
      return Promise.resolve()
    }
    const runner = sandbox.runner({ sleep, backoffMs: (failed) => failed * 10 })
    sandbox.fault = (_command, number) => (number <= 2 ? transient() : undefined)
    await runner.install(callOptions)
    expect(pauses).toEqual([10, 20])
    sandbox.fault = () => transient()
    await expect(runner.install(callOptions)).rejects.toMatchObject({ kind: 'transient' })
    expect(pauses).toEqual([10, 20, 10, 20, 30])
    let now = 0
    const hurried = sandbox.runner({ sleep: async (ms) => void (now += ms), backoffMs: () => 400, now: () => now, tries: 99 })
    await expect(hurried.install({ timeoutMs: 1_000 })).rejects.toMatchObject({ kind: 'transient' })
    expect(now).toBe(800)
  })

  it('ends at once after any other error, and when it is cancelled', async () => {
    const sandbox = await open()
    let calls = 0
    sandbox.fault = () => {
      calls += 1
      return Promise.reject(new InfrastructureError({ kind: 'sandbox-lost', source: 'test', message: 'test: gone' }))
    }
    await expect(sandbox.runner().install(callOptions)).rejects.toMatchObject({ kind: 'sandbox-lost' })
    expect(calls).toBe(1)
    const cancel = new AbortController()
    sandbox.fault = () => {
      cancel.abort(new Error('cancelled'))
      return transient()
    }
    await expect(sandbox.runner({ backoffMs: () => 60_000 }).install({ timeoutMs: 600_000, signal: cancel.signal })).rejects.toThrow('cancelled')
  })

  it("takes a provider that did not answer in time for a passing fault, not for the end of the job's time", async () => {
    const sandbox = await open()
    sandbox.fault = () => Promise.reject(new InfrastructureError({ kind: 'timeout', source: 'test', message: 'test: exec did not answer within 5 ms' }))
    await expect(sandbox.runner().install(callOptions)).rejects.toMatchObject({ kind: 'transient' })
  })

  it('understands an answer between the lines of a login shell, and tries again when it was cut', async () => {
    const sandbox = await open()
    await sandbox.runner().install(callOptions)
    const exec: Provider['exec'] = (...args) => sandbox.provider.exec(...args)
    let cut = 0
    const provider = {
      ...sandbox.provider,
      exec: async (...args: Parameters<Provider['exec']>) => {
        const { stdout } = await exec(...args)
        cut += 1
        return { exitCode: 0, stdout: cut % 2 === 1 ? stdout.slice(0, -5) : `Welcome!\r\n$ ${stdout.replaceAll('\n', '\r\n')}logout\r\n` }
      },
    }
    const done = await runStep(sandbox.runner({ provider }), 'echo out; echo err >&2; exit 2')
    expect([done.stdout.toString(), done.stderr.toString(), done.exitCode]).toEqual(['out\n', 'err\n', 2])
  })

  it('asks a second time before it believes what one answer alone says, and starts no step twice for it', async () => {
    const garbled: Readonly<Record<string, (stdout: string) => Promise<ExecResult>>> = {
      line: async (stdout) => ({ exitCode: 0, stdout: stdout.replace('\nok -', '\nok -\nWarning: clock skew') }),
      twice: async (stdout) => ({ exitCode: 0, stdout: stdout.replace(/\ncode .*/, '$&$&') }),
      nonsense: async (stdout) => ({ exitCode: 0, stdout: stdout.replace(/\ncode .*/, '\ncode x') }),
      bytes: async (stdout) => ({ exitCode: 0, stdout: stdout.replace(/\n(b3V0)/, '\n$1\n<html>') }),
      'no-shell': async () => ({ exitCode: 127, stdout: '' }),
      refused: async () => { throw new InfrastructureError({ kind: 'invalid', source: 'test', message: 'test: the shell ended before the command began' }) },
    }
    const sandbox = await open()
    await sandbox.runner().install(callOptions)
    let [spoilt, most] = [0, 1]
    let garble: (stdout: string) => Promise<ExecResult> = garbled['refused']!
    const exec = async (...args: Parameters<Provider['exec']>) => {
      const result = await sandbox.provider.exec(...args)
      return spoilt++ < most ? garble(result.stdout) : result
    }
    const runner = sandbox.runner({ provider: { ...sandbox.provider, exec } })
    const read = { stdoutOffset: 0, stderrOffset: 0, waitMs: 10_000, maxBytes: 1_000 }
    for (const [key, how] of Object.entries(garbled)) {
      garble = how
      ;[spoilt, most] = [0, 1]
      const done = await runner.start({ key, run: `echo ${key} >> ~/runs; echo out`, cwd: undefined, env: {} }, callOptions, read)
      expect([Buffer.from(done.stdout).toString(), done.exitCode], key).toEqual(['out\n', 0])
      ;[spoilt, most] = [0, Infinity]
      await expect(runner.read(key, read, callOptions), key).rejects.toMatchObject({ kind: 'invalid' })
      expect(spoilt, key).toBe(2)
    }
    expect((await readFile(join(sandbox.home, 'runs'), 'utf8')).trim().split('\n')).toEqual(Object.keys(garbled))
  })

  it('names the image and the mend when git, the shell or its tools are missing', async () => {
    const programs = await mkdtemp(join(tmpdir(), 'switchyard-programs-'))
    try {
      const sandbox = await open({ env: { PATH: programs } })
      sandbox.fault = () => Promise.resolve({ exitCode: 127, stdout: '' })
      const runner = sandbox.runner({ image: 'scratch:1' })
      await expect(runner.install(callOptions)).rejects.toMatchObject({ kind: 'invalid', message: expect.stringMatching(/"scratch:1" has no POSIX shell; use an image with git/) as string })
      // Nothing but busybox, which has no git.
      sandbox.fault = undefined
      if (has('busybox')) {
        await promisify(execFile)('busybox', ['--install', '-s', programs])
        await expect(runner.install(callOptions)).rejects.toMatchObject({ kind: 'invalid', message: expect.stringMatching(/"scratch:1" has no git; use an image with git/) as string })
        await rm(join(programs, 'base64'))
        await expect(runner.install(callOptions)).rejects.toMatchObject({ kind: 'invalid', message: expect.stringContaining('has no base64') as string })
      }
    } finally {
      await rm(programs, { recursive: true, maxRetries: 10 })
    }
  })

  it('says that the home folder can not be written to', async () => {
    const sandbox = await open()
    Object.assign(sandbox.env, { HOME: '/proc/no-home' })
    await expect(sandbox.runner().install(callOptions)).rejects.toMatchObject({ kind: 'invalid', message: expect.stringContaining('home folder') as string })
  })
})

describe('answers', () => {
  const answer = '@switchyard 1 begin\nok -\ncode 3\nout:\nYWJj\nZGVm\n.\n@switchyard 1 end\n'

  it('hold fields and bytes', () => {
    const parsed = parseAnswer(answer, '1')
    expect(parsed?.failure).toBeUndefined()
    expect(parsed?.fields.get('code')).toBe('3')
    expect(parsed?.blobs.get('out')?.toString()).toBe('abcdef')
  })

  it('that were cut anywhere, or belong to another call, are none', () => {
    for (let length = 0; length < answer.length - 1; length += 1) expect(parseAnswer(answer.slice(0, length), '1')).toBeUndefined()
    expect(parseAnswer(answer, '2')).toBeUndefined()
    expect(parseAnswer('@switchyard 1 end\n@switchyard 1 begin\n', '1')).toBeUndefined()
  })
})

describe('failures', () => {
  const context = { source: 'e2b', image: 'the image "x"', verb: 'push', secrets: ['secret-1'], diskIsChosen: false }
  it.each([
    ['git', "fatal: Authentication failed for 'http://x'", 'auth'],
    ['git', 'error: RPC failed; HTTP 503', 'transient'],
    ['git', 'fatal: unable to access: Could not resolve host: x', 'transient'],
    ['git', 'fatal: remote error: upload-pack: not our ref 1234', 'invalid'],
    ['git', '!\trefs/a:refs/b\t[rejected] (fetch first)', 'invalid'],
    ['git', 'fatal: write error: No space left on device', 'invalid'],
    ['git', 'error: unable to write file binary.bin', 'invalid'],
    ['git', 'remote: fatal: write error: No space left on device\nerror: remote unpack failed: index-pack abnormal exit', 'transient'],
    ['git', 'error: remote unpack failed: unable to create temporary object directory: No space left on device', 'transient'],
    ['git', 'remote: quota exceeded\n!\ta:b\t[remote rejected] (pre-receive hook declined)', 'invalid'],
    ['git', 'fatal: something never seen', 'transient'],
    ['disk-broken', "dd: failed to open 'room': Read-only file system", 'transient'],
    ['killed', '137', 'transient'],
    ['disk', '', 'invalid'],
    ['busy', '', 'transient'],
    ['never-heard-of', '', 'invalid'],
  ])('"%s: %s" is %s', (keyword, detail, kind) => {
    expect(runnerFailure(keyword, detail, context).kind).toBe(kind)
  })

  it('advise what the provider lets a job do about a full disk', () => {
    expect(runnerFailure('disk', '', { ...context, diskIsChosen: true }).message).toMatch(/write less, or set resources\.diskMiB$/)
    for (const [keyword, said] of [['disk', ''], ['git', 'fatal: write error: No space left on device']] as const) expect(runnerFailure(keyword, said, context).message).toMatch(/write less, or run the job where sandboxes have more: from another template, or at another provider$/)
  })

  it('never hold a secret', () => {
    expect(runnerFailure('git', 'fatal: bad secret-1 in url', context).message).toContain('bad *** in url')
  })
})
