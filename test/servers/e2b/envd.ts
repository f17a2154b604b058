/**
 * The service inside each sandbox: commands (Connect streams), files and health.
 *
 * As at E2B, a command outlives its stream: a client that goes away leaves it running, with its output dropped, and a
 * later `Connect` gets only what is printed from then on. A stream whose timeout passes kills the command, but only the
 * leader of its process group. A client that reads slowly stops the command through its full pipe.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { posix } from 'node:path'
import { z } from 'zod'
import type { Fault } from '../shared-faults.js'
import type { HostedProcess, SandboxHost } from '../sandbox-host.js'
import { ConnectFailure, endStream, envelope, httpStatusOf, readBody, unwrap } from './connect-protocol.js'
import type { E2bSandbox, SandboxDetails } from './control-plane.js'

const startRequest = z.object({
  process: z.object({
    cmd: z.string().min(1),
    args: z.array(z.string()).default([]),
    envs: z.record(z.string(), z.string()).default({}),
    cwd: z.string().optional(),
  }),
  stdin: z.boolean().default(false),
})
const selector = z.object({ process: z.object({ pid: z.int() }) })
const signalRequest = selector.extend({ signal: z.enum(['SIGNAL_SIGKILL', 'SIGNAL_SIGTERM']) })
const inputRequest = selector.extend({ input: z.object({ stdin: z.base64() }) })

/** The end of a command by a signal is told in Go's words. */
const signalWords: Readonly<Record<string, string>> = { SIGKILL: 'killed', SIGTERM: 'terminated', SIGINT: 'interrupt', SIGSEGV: 'segmentation fault' }

interface Command {
  readonly config: z.output<typeof startRequest>['process']
  readonly process: HostedProcess
  readonly streams: Set<Stream>
}

/** One client that follows a command. */
interface Stream {
  readonly response: ServerResponse
  readonly fault: Fault | undefined
  outputBytes: number
}

/** Who commands run as when a call names nobody. */
const defaultUser = 'user'

export class Envd {
  private readonly commands = new Map<string, Map<number, Command>>()
  /** Who there is in the sandboxes' template. */
  readonly users = new Set(['user', 'root'])
  /** Every open answer by sandbox: they break when it ends. */
  private readonly open = new Map<string, Set<ServerResponse>>()

  constructor(
    private readonly host: SandboxHost<SandboxDetails>,
    /** What a command's environment holds besides what it is given. */
    private readonly baseEnvironment: (sandboxId: string) => Record<string, string>,
  ) {}

  /** The sandbox has ended: its streams break, as when its machine goes. */
  sandboxEnded(id: string): void {
    for (const response of this.open.get(id) ?? []) response.destroy()
    this.open.delete(id)
    this.commands.delete(id)
  }

  /** Ties an answer to its sandbox, to break with it. */
  track(id: string, response: ServerResponse): void {
    const responses = this.open.get(id) ?? new Set()
    this.open.set(id, responses.add(response))
    response.once('close', () => responses.delete(response))
  }

  /** `Start` and `Connect`: a stream of events. Failures before the first event are told in the stream, as Connect does. */
  async stream(method: 'Start' | 'Connect', sandbox: E2bSandbox, request: IncomingMessage, response: ServerResponse, fault: Fault | undefined): Promise<void> {
    const body = await readBody(request)
    response.writeHead(200, { 'content-type': 'application/connect+json' })
    if (fault?.action === 'corrupt' && fault.variant === 'garbage') {
      response.end('<html>not an envelope</html>')
      return
    }
    try {
      await this.checkUser(sandbox.id, request)
      const command = method === 'Start' ? await this.start(sandbox, unwrap(body)) : this.command(sandbox.id, selector.parse(unwrap(body)).process.pid)
      this.follow(command, sandbox, request, { response, fault, outputBytes: 0 })
    } catch (error) {
      response.end(endStream(asFailure(error)))
    }
  }

  /** The user that a command is to run as, which the makers' service looks for in the sandbox's /etc/passwd before anything else. */
  private async checkUser(sandboxId: string, request: IncomingMessage): Promise<void> {
    const user = Buffer.from(request.headers.authorization?.replace(/^Basic /i, '') ?? '', 'base64').toString().split(':')[0] ?? ''
    const name = user === '' ? defaultUser : user
    if (this.users.has(name) && (await this.host.hasUser(sandboxId, name))) return
    throw new ConnectFailure('unauthenticated', user === '' ? `invalid default user: '${name}'` : `invalid username: '${name}'`)
  }

  async unary(method: string, sandbox: E2bSandbox, input: unknown): Promise<unknown> {
    switch (method) {
      case 'List':
        return { processes: [...(this.commands.get(sandbox.id) ?? [])].map(([pid, { config }]) => ({ pid, config })) }
      case 'SendSignal': {
        const { process, signal } = signalRequest.parse(input)
        if (!this.command(sandbox.id, process.pid).process.kill(signal === 'SIGNAL_SIGKILL' ? 'SIGKILL' : 'SIGTERM')) throw noProcess(process.pid)
        return {}
      }
      case 'SendInput': {
        const { process, input: data } = inputRequest.parse(input)
        this.command(sandbox.id, process.pid).process.stdin?.write(Buffer.from(data.stdin, 'base64'))
        return {}
      }
      case 'CloseStdin':
        this.command(sandbox.id, selector.parse(input).process.pid).process.stdin?.end()
        return {}
      default:
        throw new ConnectFailure('unimplemented', `${method} is not implemented`)
    }
  }

  /** Writes a file, with the folders above it. */
  async write(sandbox: E2bSandbox, path: string, content: Buffer): Promise<{ name: string; type: 'file'; path: string }> {
    const absolute = posix.resolve(sandbox.home, path)
    const script = 'mkdir -p "$(dirname "$1")" && cat > "$1"'
    const process = await this.host.exec(sandbox.id, { file: '/bin/sh', args: ['-c', script, 'sh', absolute], stdin: true })
    process.stdout.resume()
    process.stderr.resume()
    process.stdin?.end(content)
    if ((await process.ended).exitCode !== 0) throw new Error(`can't write ${absolute}`)
    return { name: posix.basename(absolute), type: 'file', path: absolute }
  }

  /** A file's bytes; undefined when there is no such file. */
  async read(sandbox: E2bSandbox, path: string): Promise<Buffer | undefined> {
    const process = await this.host.exec(sandbox.id, { file: '/bin/sh', args: ['-c', 'cat "$1"', 'sh', posix.resolve(sandbox.home, path)] })
    process.stderr.resume()
    const chunks: Buffer[] = []
    for await (const chunk of process.stdout as AsyncIterable<Buffer>) chunks.push(chunk)
    return (await process.ended).exitCode === 0 ? Buffer.concat(chunks) : undefined
  }

  private async start(sandbox: E2bSandbox, input: unknown): Promise<Command> {
    const { process: config, stdin } = startRequest.parse(input)
    const cwd = config.cwd === undefined ? undefined : posix.resolve(sandbox.home, config.cwd)
    if (cwd !== undefined && !(await this.holds(sandbox.id, 'test -e "$1"', cwd))) throw new ConnectFailure('invalid_argument', `cwd '${cwd}' does not exist`)
    if (cwd !== undefined && !(await this.holds(sandbox.id, 'cd "$1"', cwd))) {
      // The whole command is quoted, whatever it says.
      throw new ConnectFailure('invalid_argument', `error starting process '${[config.cmd, ...config.args].join(' ')}': fork/exec /bin/sh: not a directory`)
    }
    const process = await this.host.exec(sandbox.id, { file: config.cmd, args: config.args, env: { ...this.baseEnvironment(sandbox.id), ...sandbox.details.envVars, ...config.envs }, cwd, stdin })
    const command: Command = { config, process, streams: new Set() }
    const commands = this.commands.get(sandbox.id) ?? new Map<number, Command>()
    this.commands.set(sandbox.id, commands.set(process.pid, command))
    process.stdout.on('data', (chunk: Buffer) => this.publish(command, 'stdout', chunk))
    process.stderr.on('data', (chunk: Buffer) => this.publish(command, 'stderr', chunk))
    void process.ended.then(({ exitCode, signal }) => {
      commands.delete(process.pid)
      const status = signal === null ? `exit status ${exitCode ?? 0}` : `signal: ${signalWords[signal] ?? signal}`
      const end = { exitCode: signal === null ? (exitCode ?? 0) : -1, exited: signal === null, status, ...(exitCode === 0 ? {} : { error: status }) }
      for (const stream of command.streams) this.finish(stream, end)
    })
    return command
  }

  private async holds(sandboxId: string, script: string, path: string): Promise<boolean> {
    const process = await this.host.exec(sandboxId, { file: '/bin/sh', args: ['-c', script, 'sh', path] })
    process.stdout.resume()
    process.stderr.resume()
    return (await process.ended).exitCode === 0
  }

  private follow(command: Command, sandbox: E2bSandbox, request: IncomingMessage, stream: Stream): void {
    const { response, fault } = stream
    response.write(envelope({ event: { start: { pid: command.process.pid } } }))
    if (fault?.action === 'cut-stream' && fault.afterBytes === 0) {
      response.destroy()
      return
    }
    command.streams.add(stream)
    const keepAliveSeconds = Number(request.headers['keepalive-ping-interval'] ?? 90)
    const keepAlive = setInterval(() => response.write(envelope({ event: { keepalive: {} } })), keepAliveSeconds * 1000)
    const timeoutMs = Number(request.headers['connect-timeout-ms'] ?? 0)
    const deadline = timeoutMs === 0 ? undefined : setTimeout(() => {
      command.process.kill('SIGKILL')
      response.end(endStream(new ConnectFailure('deadline_exceeded', 'context deadline exceeded')))
    }, timeoutMs)
    response.once('close', () => {
      clearInterval(keepAlive)
      clearTimeout(deadline)
      command.streams.delete(stream)
      this.resume(command) // Nobody may be left to hold it back.
    })
    if (this.host.get(sandbox.id) === undefined) response.destroy()
  }

  private publish(command: Command, name: 'stdout' | 'stderr', chunk: Buffer): void {
    const frame = envelope({ event: { data: { [name]: chunk.toString('base64') } } })
    for (const stream of command.streams) {
      const cutAfter = stream.fault?.action === 'cut-stream' ? stream.fault.afterBytes : Infinity
      if (stream.outputBytes + chunk.length >= cutAfter) {
        stream.response.write(envelope({ event: { data: { [name]: chunk.subarray(0, cutAfter - stream.outputBytes).toString('base64') } } }), () => stream.response.destroy())
        command.streams.delete(stream)
        continue
      }
      stream.outputBytes += chunk.length
      if (!stream.response.write(frame)) {
        command.process.stdout.pause()
        command.process.stderr.pause()
        stream.response.once('drain', () => this.resume(command))
      }
    }
  }

  private resume(command: Command): void {
    if ([...command.streams].some(({ response }) => response.writableNeedDrain)) return
    command.process.stdout.resume()
    command.process.stderr.resume()
  }

  private finish({ response, fault }: Stream, end: object): void {
    if (fault?.action === 'corrupt' && fault.variant === 'no-exit-code') {
      response.end(endStream())
      return
    }
    response.write(envelope({ event: { end } }))
    if (fault?.action === 'corrupt' && fault.variant === 'no-end-of-stream') response.end()
    else response.end(endStream())
  }

  private command(sandboxId: string, pid: number): Command {
    const command = this.commands.get(sandboxId)?.get(pid)
    if (command === undefined) throw noProcess(pid)
    return command
  }
}

function noProcess(pid: number): ConnectFailure {
  return new ConnectFailure('not_found', `process with pid ${pid} not found`)
}

function asFailure(error: unknown): ConnectFailure {
  if (error instanceof ConnectFailure) return error
  if (error instanceof z.ZodError) return new ConnectFailure('invalid_argument', error.message)
  return new ConnectFailure('internal', error instanceof Error ? error.message : String(error))
}

export function unaryError(error: unknown): { status: number; body: { code: string; message: string } } {
  const failure = asFailure(error)
  return { status: httpStatusOf[failure.code], body: { code: failure.code, message: failure.message } }
}
