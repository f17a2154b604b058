import { type ChildProcess, spawn } from 'node:child_process'
import { constants } from 'node:os'
import type { Writable } from 'node:stream'
import { started } from '../../job/started.js'
import type { ShellCommand } from '../provider.js'
import { withoutInherited } from './inherited-descriptors.js'
import { killTree } from './process-identity.js'

/** The longest script, in bytes: it becomes one argument, of which Linux takes 128 KiB with its end. */
export const maxScriptBytes = 120 * 1024

/** More standard output than this is an error: a cut that nobody sees would be worse. */
export const maxStdoutBytes = 16 * 1024 * 1024

/** What a shell reads to become the command. The environment goes this way too, so that neither argv nor a disk ever holds a value. */
export function commandText(command: ShellCommand, options: { readonly maxFileMiB: number | null; readonly newSession: boolean; readonly mark?: number }): string {
  return [
    // The one mark on the standard error that the command began; from here on it is the command's and nobody's.
    'printf + >&2',
    'exec 2>/dev/null',
    // Shells call it one or the other, or not at all.
    ...(options.mark === undefined ? [] : [`{ ulimit -w ${options.mark} || ulimit -x ${options.mark}; } 2>/dev/null`]),
    // In blocks of 512 bytes, as POSIX has it.
    ...(options.maxFileMiB === null ? [] : [`ulimit -f ${options.maxFileMiB * 2048}`]),
    ...Object.entries(command.env ?? {}).map(([name, value]) => `export ${name}=${quoted(value)}`),
    ...(command.cwd === undefined ? [] : [`cd -- ${quoted(command.cwd)} || exit 1`]),
    `exec ${options.newSession ? '/usr/bin/setsid ' : ''}/bin/sh -c ${quoted(command.script)} </dev/null`,
    '',
  ].join('\n')
}

/** @returns what no shell can take, as a sentence without the value; undefined when all is well. */
export function commandProblem(command: ShellCommand): string | undefined {
  const bytes = Buffer.byteLength(command.script)
  if (bytes > maxScriptBytes) return `the script is ${bytes} bytes, over the limit of ${maxScriptBytes}`
  if (command.script.includes('\0')) return 'the script holds a NUL byte'
  if (command.cwd?.includes('\0') === true) return 'cwd holds a NUL byte'
  for (const [name, value] of Object.entries(command.env ?? {})) {
    if (!/^[A-Za-z_]\w*$/.test(name)) return `env: "${name}" is not a name of letters, digits and "_"`
    if (value.includes('\0')) return `env.${name}: holds a NUL byte`
    if (Buffer.byteLength(value) > maxScriptBytes) return `env.${name}: is longer than ${maxScriptBytes} bytes`
  }
  return undefined
}

/** One word of the shell's, whatever it holds. */
export function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`
}

export interface Invocation {
  readonly file: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
  readonly cwd: string
  /** What the innermost shell reads. */
  readonly input: string
  /** Open file descriptors that become 3, 4, … */
  readonly descriptors?: readonly number[]
  /** How many processes stand before the one that reads the input; none when left out. */
  readonly depth?: number
}

export interface CommandOutcome {
  /** Whether the command itself was started; if not, `said` tells why. */
  readonly started: boolean
  readonly exitCode: number
  readonly stdout: string
  readonly said: string
  readonly tooMuch: boolean
}

/** Runs a command to its end, or kills it with all its children when the signal aborts or it prints too much. */
export async function runCommand(invocation: Invocation, signal: AbortSignal): Promise<CommandOutcome> {
  signal.throwIfAborted()
  const child = await started(
    spawn(invocation.file, invocation.args, {
      env: { ...invocation.env },
      cwd: invocation.cwd,
      detached: true,
      stdio: withoutInherited(['pipe', 'pipe', 'pipe', ...(invocation.descriptors ?? [])]),
    }),
  )
  const [stdin, stdout, stderr] = [child.stdin, child.stdout, child.stderr]
  if (stdin === null || stdout === null || stderr === null) throw new Error('a process was started without pipes')
  let tooMuch = false
  const output = collect(stdout, maxStdoutBytes, () => {
    tooMuch = true
    end()
  })
  const messages = collect(stderr, 4096, () => undefined)
  const end = () => {
    try {
      if (child.pid !== undefined) killTree(child.pid, invocation.depth ?? 0)
    } catch (error) {
      child.emit('error', error)
    }
  }
  signal.addEventListener('abort', end, { once: true })
  if (signal.aborted) end()
  try {
    feed(stdin, invocation.input)
    const exitCode = await settled(child, [output, messages])
    const said = messages.read()
    return { started: said.startsWith('+'), exitCode, stdout: output.read(), said: said.replace(/^\+/, '').trim(), tooMuch }
  } finally {
    signal.removeEventListener('abort', end)
    for (const stream of [stdin, stdout, stderr]) stream.destroy()
  }
}

/**
 * Waits for the process's end and for all of its output. What it started in the background may hold the pipes open for
 * longer: then the output is whole when nothing has come for a moment after the end. The end of a process may be told before what it wrote, and this
 * process may have had no turn for all of that moment: nothing has come only when the pipes were looked at since.
 */
async function settled(child: ChildProcess, outputs: readonly Collector[]): Promise<number> {
  return new Promise<number>((resolve, reject) => {
    let quiet: NodeJS.Timeout | undefined
    let closed = false
    child.once('error', reject)
    child.once('exit', (code, signal) => {
      const exitCode = code ?? 128 + (signal === null ? 0 : constants.signals[signal])
      let seen = -1
      const look = () => {
        const size = outputs.reduce((sum, output) => sum + output.size(), 0)
        if (closed || size === seen) {
          resolve(exitCode)
          return
        }
        seen = size
        // Timers come before the pipes in a turn of the event loop, and this behind them.
        quiet = setTimeout(() => setImmediate(look), 100)
      }
      child.once('close', () => {
        closed = true
        clearTimeout(quiet)
        resolve(exitCode)
      })
      look()
    })
  })
}

interface Collector {
  read(): string
  size(): number
}

function collect(stream: NodeJS.ReadableStream, limit: number, onLimit: () => void): Collector {
  const chunks: Buffer[] = []
  let size = 0
  stream.on('data', (chunk: Buffer) => {
    if (size > limit) return
    size += chunk.length
    if (size > limit) onLimit()
    else chunks.push(chunk)
  })
  // A reset pipe is the end of a killed process's output; its exit says the rest.
  stream.on('error', () => undefined)
  return { read: () => Buffer.concat(chunks).toString('utf8'), size: () => size }
}

/** A process that never reads breaks the pipe; that it did not start is told by its missing mark. */
function feed(stdin: Writable, text: string): void {
  stdin.on('error', () => undefined)
  stdin.end(text)
}
