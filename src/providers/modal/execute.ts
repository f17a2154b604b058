import type { Sandbox } from 'modal'
import { InfrastructureError } from '../../job/errors.js'
import type { ExecResult, ShellCommand } from '../provider.js'

/** The most standard output that is kept of one command. Switchyard's own commands print at most 4 MiB. */
const maxStdoutBytes = 16 * 1024 * 1024

/** How much longer than our own deadline the worker lets a command run, so that ours always comes first. */
const workerGraceMs = 5_000

/** Modal gives a command an input that never ends. `sh -c` again, so that the script's own bytes and lines stay as they are. */
const withEmptyInput = ['/bin/sh', '-c', 'exec /bin/sh -c "$0" </dev/null']

export interface ExecuteOptions {
  readonly source: string
  readonly timeoutMs: number
  readonly signal: AbortSignal
}

/**
 * Runs a command and reads its output through the SDK, which resumes a cut stream by its offset.
 *
 * The SDK waits for a dead worker for ever unless the command has a timeout, and a command that reached it ends with
 * exit code 137 or with a thrown "Deadline exceeded", whichever is noticed first. So every command gets a timeout, later
 * than the caller's own: the worker kills what nobody waits for any more, and 137 keeps its one meaning, SIGKILL.
 */
export async function execute(sandbox: Sandbox, command: ShellCommand, options: ExecuteOptions): Promise<ExecResult> {
  const process = await sandbox.exec([...withEmptyInput, command.script], {
    mode: 'binary',
    stdout: 'pipe',
    stderr: 'ignore',
    timeoutMs: Math.ceil((options.timeoutMs + workerGraceMs) / 1000) * 1000,
    ...(command.cwd === undefined ? {} : { workdir: command.cwd }),
    ...(command.env === undefined ? {} : { env: { ...command.env } }),
  })
  const ending = new AbortController()
  const signal = AbortSignal.any([options.signal, ending.signal])
  try {
    const [stdout, exitCode] = await Promise.all([
      readAll(process.stdout.getReader(), options.source, signal),
      // With the signal, which the documented `wait` lacks: without it a dead worker's connection would stay open.
      process._wait(signal),
    ])
    // A worker tells a death by signal n as 128 + n or as -n.
    return { exitCode: exitCode < 0 ? 128 - exitCode : exitCode, stdout }
  } finally {
    ending.abort()
  }
}

async function readAll(reader: ReadableStreamDefaultReader<Uint8Array>, source: string, signal: AbortSignal): Promise<string> {
  // A stream that failed rejects its cancellation with the error that its reader gets anyway.
  const cancel = () => void reader.cancel().catch(() => undefined)
  signal.addEventListener('abort', cancel, { once: true })
  try {
    signal.throwIfAborted()
    const chunks: Uint8Array[] = []
    let size = 0
    for (;;) {
      const { done, value } = await reader.read()
      signal.throwIfAborted()
      if (done) return Buffer.concat(chunks).toString('utf8')
      size += value.byteLength
      if (size > maxStdoutBytes) {
        throw new InfrastructureError({ kind: 'invalid', source, message: `${source}: a command printed more than ${maxStdoutBytes} bytes; print less, or to a file` })
      }
      chunks.push(value)
    }
  } catch (error) {
    cancel()
    throw error
  } finally {
    signal.removeEventListener('abort', cancel)
  }
}
