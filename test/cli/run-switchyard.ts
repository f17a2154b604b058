import { fork, spawn, type ChildProcess, type ChildProcessByStdio } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import type { Readable } from 'node:stream'
import { areCompiled, loaderArgs, ownFile } from '../own-programs.js'
import type { CommandAsked, CommandEnded } from './command-process.js'

/** The checkout's own `switchyard`, which runs from source. */
export const fromCheckout: readonly [string, ...string[]] = [resolve('script/switchyard')]

/** What the tests start by default. */
export const program: readonly [string, ...string[]] = areCompiled ? [process.execPath, ...loaderArgs, ownFile('src/cli/main.ts')] : fromCheckout

export interface Run {
  readonly child: ChildProcessByStdio<null, Readable, Readable>
  stdout(): string
  stderr(): string
  /** Resolves with the exit code, or null when a signal ended it. */
  readonly ended: Promise<number | null>
  /** Waits until stdout or stderr matches. */
  saw(pattern: RegExp): Promise<void>
}

/** A folder of its own for a test, to which everything temporary of what it runs goes. */
export interface Place {
  readonly folder: string
  readonly temporary: string
  run(args: readonly string[], environment?: Readonly<Record<string, string>>, command?: readonly [string, ...string[]]): Run
  /**
   * What a command that ends by itself prints and exits with. They go one after the other in one process of the place's: for what a process of its own
   * shows, as signals, pipes and how it ends, there is `run`. `below` is the folder below the place's own in which it is typed.
   */
  command(args: readonly string[], environment?: Readonly<Record<string, string>>, below?: string): Promise<CommandEnded>
  /** As `run`, with what a shell does around it: `$SWITCHYARD` stands for the command. On a terminal where `script` makes one. */
  shell(text: string, more?: { readonly terminal?: boolean }): Run
  /** What is left: files in the temporary folder, and processes that were started from here. */
  left(): Promise<{ readonly files: readonly string[]; readonly processes: readonly string[] }>
  remove(): Promise<void>
}

export async function makePlace(): Promise<Place> {
  const top = await mkdtemp(join(tmpdir(), 'sy-cli-'))
  const folder = join(top, 'here')
  const temporary = join(top, 'tmp')
  await Promise.all([mkdir(folder), mkdir(temporary)])
  const started: Run[] = []
  const environmentWith = (environment: Readonly<Record<string, string>> = {}) => {
    const inherited = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('SWITCHYARD_') && !name.startsWith('VITEST')))
    return { ...inherited, NODE_OPTIONS: '', TMPDIR: temporary, ...environment }
  }
  const start = (file: string, args: readonly string[], environment?: Readonly<Record<string, string>>): Run => {
    const child = spawn(file, args, {
      cwd: folder,
      env: environmentWith(environment),
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const run = follow(child)
    started.push(run)
    return run
  }
  let commands: ChildProcess | undefined
  let last: Promise<unknown> = Promise.resolve()
  const endCommands = async () => {
    await last
    if (commands === undefined || commands.exitCode !== null || commands.signalCode !== null) return
    const ended = once(commands, 'exit')
    commands.kill('SIGKILL')
    await ended
    commands = undefined
  }
  const ask = async (asked: CommandAsked): Promise<CommandEnded> => {
    const child = (commands ??= fork(ownFile('test/cli/command-process.ts'), { cwd: folder, env: environmentWith(), execArgv: [...loaderArgs], stdio: ['ignore', 'ignore', 'inherit', 'ipc'] }))
    return new Promise((resolveEnded, reject) => {
      const onExit = (code: number | null) => reject(new Error(`the process ended with ${code ?? 'a signal'} in: switchyard ${asked.args.join(' ')}`))
      child.once('exit', onExit).once('message', (ended: CommandEnded) => {
        child.off('exit', onExit)
        resolveEnded(ended)
      })
      child.send(asked)
    })
  }
  return {
    folder,
    temporary,
    command(args, environment = {}, below = '.') {
      const ended = last.then(() => ask({ args, environment, folder: join(folder, below) }))
      last = ended.catch(() => undefined)
      return ended
    },
    run(args, environment, [file, ...before] = program) {
      return start(file, [...before, ...args], environment)
    },
    shell(text, { terminal = false } = {}) {
      const environment = { SWITCHYARD: program.join(' '), TERM: 'xterm' }
      return terminal ? start('script', ['-qefc', text, '/dev/null'], environment) : start('sh', ['-c', text], environment)
    },
    async left() {
      await endCommands()
      return { files: await readdir(temporary), processes: await processesThatName(top) }
    },
    async remove() {
      await endCommands()
      for (const { child } of started) if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
      await Promise.all(started.map(({ ended }) => ended))
      await rm(top, { recursive: true, force: true, maxRetries: 10 })
    },
  }
}

/** Collects what a process prints. */
export function follow(child: ChildProcessByStdio<null, Readable, Readable>): Run {
  let stdout = ''
  let stderr = ''
  const watchers = new Set<() => void>()
  const onData = () => {
    for (const watcher of watchers) watcher()
  }
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
    onData()
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
    onData()
  })
  const ended = new Promise<number | null>((resolveEnd) => child.once('close', (code) => resolveEnd(code)))
  return {
    child,
    stdout: () => stdout,
    stderr: () => stderr,
    ended,
    async saw(pattern) {
      await new Promise<void>((resolveSaw, reject) => {
        const check = () => {
          if (!pattern.test(stdout) && !pattern.test(stderr)) return
          watchers.delete(check)
          resolveSaw()
        }
        watchers.add(check)
        check()
        void ended.then((code) => {
          check()
          if (watchers.delete(check)) reject(new Error(`it ended with ${code ?? 'a signal'} before ${String(pattern)} was seen:\n${stdout}\n${stderr}`))
        })
      })
    },
  }
}

/** Processes whose command line or working folder names a folder. Empty where there is no /proc. */
async function processesThatName(folder: string): Promise<string[]> {
  const ids = await readdir('/proc').catch(() => [])
  const found = await Promise.all(
    ids.filter((id) => /^\d+$/.test(id) && Number(id) !== process.pid).map(async (id) => {
      const commandLine = await readFile(`/proc/${id}/cmdline`, 'utf8').catch(() => '')
      const environment = await readFile(`/proc/${id}/environ`, 'utf8').catch(() => '')
      return commandLine.includes(folder) || environment.includes(folder) ? `${id} ${commandLine.replaceAll('\0', ' ')}` : undefined
    }),
  )
  return found.filter((entry) => entry !== undefined)
}
