import { spawn, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, readFile, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ExecResult, Provider, ShellCommand } from '../../src/providers/provider.js'
import type { RunnerOptions } from '../../src/runner/calls.js'
import { createRunner } from '../../src/runner/client.js'
import type { OutputSlice, Runner } from '../../src/runner/runner.js'
import { whole } from '../whole.js'

const everyShell = ['sh', 'dash', 'bash', 'bash --posix', 'busybox'] as const
export type Shell = (typeof everyShell)[number]
/** The shells that tests try: those of Debian and of Alpine, and all of them with `npm run test:long`. */
export const shells: readonly Shell[] = whole ? everyShell : ['sh', 'busybox']

export function has(program: string): boolean {
  return (process.env['PATH'] ?? '').split(':').some((folder) => folder !== '' && existsSync(join(folder, program)))
}

export const hasShell = (shell: Shell): boolean => has(shell.split(' ')[0]!)

export interface ProcessSandbox {
  readonly provider: Provider
  readonly home: string
  /** Every command text that was run, and what it printed. */
  readonly calls: { readonly command: ShellCommand; readonly result: ExecResult; readonly stderr: string }[]
  /** Added to the environment of every command; may be changed at any time. */
  readonly env: Record<string, string>
  /** Changes or fails a call; return undefined to let it be. */
  fault: ((command: ShellCommand, number: number) => Promise<ExecResult> | undefined) | undefined
  runner(options?: Partial<RunnerOptions>): Runner
  /** Kills what was left and removes the home folder. */
  close(): Promise<void>
}

/**
 * A sandbox that is nothing but a home folder: commands run as processes of this machine, in a shell of choice. The real
 * local provider has one shell; the runner must work in all of them.
 */
export async function processSandbox(options: { shell?: Shell; home?: string; env?: Record<string, string>; maxCommandBytes?: number; path?: string } = {}): Promise<ProcessSandbox> {
  const folder = await mkdtemp(join(tmpdir(), 'switchyard-runner-'))
  const home = options.home ?? join(folder, 'home')
  const programs = join(folder, 'programs')
  await mkdir(home, { recursive: true })
  await mkdir(programs)
  await installShell(options.shell ?? 'sh', programs)
  // A provider may start commands anywhere, also beside files that are called like the repository's.
  const cwd = join(folder, 'elsewhere')
  await mkdir(cwd)
  await writeFile(join(cwd, 'README.md'), 'not the repository\'s\n')
  const calls: ProcessSandbox['calls'] = []
  let number = 0
  const sandbox: ProcessSandbox = {
    home,
    calls,
    env: { ...options.env },
    fault: undefined,
    provider: {
      name: 'test',
      kind: 'test',
      capabilities: { sharedSystem: true, resources: { cpu: false, memory: false, disk: false }, maxCommandBytes: options.maxCommandBytes ?? 100_000 },
      exec: async (_id: string, command: ShellCommand, call: { signal?: AbortSignal }) => {
        number += 1
        const faulty = await sandbox.fault?.(command, number)
        if (faulty !== undefined) return faulty
        const env = { PATH: `${programs}:${options.path ?? process.env['PATH'] ?? ''}`, HOME: home, ...sandbox.env, ...command.env }
        const done = await run(join(programs, 'sh'), command.script, { cwd, env }, call.signal)
        calls.push({ command, ...done })
        return done.result
      },
    } as unknown as Provider,
    runner: (given = {}) => createRunner({ provider: sandbox.provider, sandboxId: 'one', backoffMs: () => 1, ...given }),
    close: async () => {
      await killAllIn(home)
      // An ordinary user can't empty a folder without rights.
      spawnSync('chmod', ['-R', 'u+rwX', folder])
      await rm(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 })
    },
  }
  return sandbox
}

async function installShell(shell: Shell, programs: string): Promise<void> {
  if (shell === 'busybox') {
    await run('/bin/sh', `busybox --install -s '${programs}'`, { cwd: programs, env: { PATH: process.env['PATH'] ?? '' } }, undefined)
    return
  }
  if (shell === 'bash') {
    // Called by the name of sh it would be in its POSIX mode.
    await writeFile(join(programs, 'sh'), '#!/bin/bash\nexec bash "$@"\n')
    await chmod(join(programs, 'sh'), 0o755)
    return
  }
  const program = shell === 'bash --posix' ? 'bash' : shell
  const path = (process.env['PATH'] ?? '').split(':').map((folder) => join(folder, program)).find((file) => existsSync(file))
  if (path === undefined) throw new Error(`${program} is not on this machine`)
  await symlink(path, join(programs, 'sh'))
}

function run(program: string, script: string, where: { cwd: string; env: Record<string, string> }, signal: AbortSignal | undefined): Promise<{ result: ExecResult; stderr: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, ['-c', script], { ...where, stdio: ['ignore', 'pipe', 'pipe'], detached: true, ...(signal === undefined ? {} : { signal }) })
    const out: Buffer[] = []
    const err: Buffer[] = []
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk))
    child.stderr.on('data', (chunk: Buffer) => err.push(chunk))
    child.on('error', reject)
    child.on('close', (code, signalName) => {
      resolve({ result: { exitCode: code ?? (signalName === 'SIGKILL' ? 137 : 143), stdout: Buffer.concat(out).toString('latin1') }, stderr: Buffer.concat(err).toString() })
    })
  })
}

/** The processes whose environment says that they live in this home folder. */
export async function processesIn(home: string): Promise<number[]> {
  const found: number[] = []
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry) || Number(entry) === process.pid) continue
    const environ = await readFile(`/proc/${entry}/environ`, 'latin1').catch(() => '')
    if (environ.split('\0').includes(`HOME=${home}`) || environ.includes(`SWITCHYARD_STEP=${home}/`)) found.push(Number(entry))
  }
  return found
}

async function killAllIn(home: string): Promise<void> {
  for (const pid of await processesIn(home)) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
    }
  }
}

export const callOptions = { timeoutMs: 60_000 }

export interface StepOutput {
  readonly stdout: Buffer
  readonly stderr: Buffer
  readonly exitCode: number
  readonly reads: number
}

/** Starts a step and reads it to its end, as a supervisor does. */
export async function runStep(runner: Runner, run: string, options: { key?: string; env?: Record<string, string>; cwd?: string; maxBytes?: number } = {}): Promise<StepOutput> {
  const key = options.key ?? 'step-1'
  await runner.start({ key, run, cwd: options.cwd, env: options.env ?? {} }, callOptions)
  return readToEnd(runner, key, options)
}

export async function readToEnd(
  runner: Runner,
  key: string,
  options: { maxBytes?: number; from?: { stdout: number; stderr: number }; onSlice?: (slice: OutputSlice) => void } = {},
): Promise<StepOutput> {
  const out: Buffer[] = []
  const err: Buffer[] = []
  let stdoutOffset = options.from?.stdout ?? 0
  let stderrOffset = options.from?.stderr ?? 0
  for (let reads = 1; ; reads += 1) {
    const slice = await runner.read(key, { stdoutOffset, stderrOffset, waitMs: 10_000, maxBytes: options.maxBytes ?? 1024 * 1024 }, callOptions)
    stdoutOffset += slice.stdout.length
    stderrOffset += slice.stderr.length
    if (options.onSlice === undefined) {
      out.push(Buffer.from(slice.stdout))
      err.push(Buffer.from(slice.stderr))
    } else options.onSlice(slice)
    if (slice.exitCode !== null && stdoutOffset >= slice.stdoutSize && stderrOffset >= slice.stderrSize) {
      return { stdout: Buffer.concat(out), stderr: Buffer.concat(err), exitCode: slice.exitCode, reads }
    }
  }
}
