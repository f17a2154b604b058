/** What answers on a sandbox's worker: starts commands in it and keeps their whole output, for clients that resume by offset. */
import { constants } from 'node:os'
import { ServerError, Status, type CallContext } from 'nice-grpc'
import { ExecLog } from './exec-log.js'
import { broken, type FaultTools, type WithFault } from './wire-faults.js'
import type { Host, ModalExec, ModalSandbox, World } from './world.js'

interface ExecStart {
  readonly taskId: string
  readonly execId: string
  readonly commandArgs: readonly string[]
  readonly timeoutSecs?: number | undefined
  readonly workdir?: string | undefined
  readonly secretSources: readonly { readonly env?: { readonly contents: Readonly<Record<string, string>> } | undefined }[]
}
interface ExecRef {
  readonly taskId: string
  readonly execId: string
}

const standardError = 2

export interface CommandRouterParts {
  readonly world: World
  readonly host: Host
  readonly tools: Pick<FaultTools, 'front'>
  /** Tell a command's death by a signal as a negative code, which Modal's workers do as well as by its number. */
  readonly negativeCodes: boolean
  /** What a command's environment holds besides what it is given. */
  readonly baseEnvironment: (sandboxId: string) => Record<string, string>
}

export function commandRouter(parts: CommandRouterParts): Record<string, unknown> {
  const { world, host, tools } = parts

  const find = async (taskId: string, context: CallContext): Promise<ModalSandbox> => {
    const token = context.metadata.get('authorization')?.replace(/^Bearer /, '') ?? ''
    if (!world.tokens.has(token)) throw new ServerError(Status.UNAUTHENTICATED, 'invalid token')
    const sandbox = world.byTask(taskId)
    if (sandbox === undefined) throw new ServerError(Status.NOT_FOUND, `task ${taskId} not found`)
    // A machine that died answers nothing; one that lives knows that the sandbox is no more.
    if (sandbox.endReason === 'crashed') return await broken(tools, context)
    if (sandbox.endReason !== undefined) throw new ServerError(Status.NOT_FOUND, `task ${taskId} has ended`)
    return sandbox
  }
  const findExec = async ({ taskId, execId }: ExecRef, context: CallContext): Promise<{ sandbox: ModalSandbox; exec: ModalExec }> => {
    const sandbox = await find(taskId, context)
    const exec = sandbox.execs.get(execId)
    if (exec === undefined) throw new ServerError(Status.NOT_FOUND, `exec ${execId} not found`)
    return { sandbox, exec }
  }
  /** What a client that waits sees when the sandbox ends under it. */
  const orEnded = async <Result>(sandbox: ModalSandbox, context: CallContext, result: Promise<Result>): Promise<Result> =>
    Promise.race([result, sandbox.ended.then(() => ended(sandbox, context))])
  const ended = async (sandbox: ModalSandbox, context: CallContext): Promise<never> => {
    if (sandbox.endReason === 'crashed') return await broken(tools, context)
    throw new ServerError(Status.NOT_FOUND, `task ${sandbox.taskId} has ended`)
  }

  const starting = new Map<string, Promise<ModalExec>>()

  return {
    taskExecStart: async (request: ExecStart, context: CallContext) => {
      const sandbox = await find(request.taskId, context)
      // A repetition after a lost answer bears the same id and must not run the command again.
      const exec = starting.get(request.execId) ?? start(parts, sandbox, request)
      starting.set(request.execId, exec)
      try {
        sandbox.execs.set(request.execId, await exec)
      } catch (error) {
        if (host.get(sandbox.id) === undefined) await sandbox.ended.then(() => ended(sandbox, context))
        throw new ServerError(Status.INVALID_ARGUMENT, `failed to start the command: ${error instanceof Error ? error.message : String(error)}`)
      } finally {
        starting.delete(request.execId)
      }
      return {}
    },

    async *taskExecStdioRead(request: ExecRef & { readonly offset: number; readonly fileDescriptor: number }, context: CallContext & WithFault) {
      const { sandbox, exec } = await findExec(request, context)
      const log = request.fileDescriptor === standardError ? exec.stderr : exec.stdout
      let left = context.cutAfterBytes
      for await (const data of log.read(request.offset, context.signal)) {
        if (left !== undefined && data.length > left) {
          if (left > 0) yield { data: data.subarray(0, left) }
          await broken(tools, context)
        }
        if (left !== undefined) left -= data.length
        yield { data }
      }
      if (left !== undefined) await broken(tools, context)
      // Output that ended because the sandbox did is not a command's end.
      if (!context.signal.aborted && host.get(sandbox.id) === undefined) {
        await sandbox.ended
        await ended(sandbox, context)
      }
    },

    taskExecWait: async (request: ExecRef, context: CallContext) => {
      const { sandbox, exec } = await findExec(request, context)
      const outcome = await orEnded(sandbox, context, exec.done)
      // A sandbox that is being killed takes its commands along.
      return host.get(sandbox.id) === undefined ? sandbox.ended.then(() => ended(sandbox, context)) : outcome
    },

    taskExecPoll: async (request: ExecRef, context: CallContext) => {
      const { exec } = await findExec(request, context)
      return Promise.race([exec.done, Promise.resolve({})])
    },

    taskExecStdinWrite: async (request: ExecRef & { readonly offset: number; readonly data: Uint8Array; readonly eof: boolean }, context: CallContext) => {
      const { exec } = await findExec(request, context)
      const fresh = request.data.subarray(Math.max(0, exec.stdinOffset - request.offset))
      exec.stdinOffset += fresh.length
      if (fresh.length > 0) exec.process.stdin?.write(fresh)
      if (request.eof) exec.process.stdin?.end()
      return {}
    },

    taskSetOutboundPolicy: async (request: { readonly taskId: string; readonly experimentalOutboundPolicy: unknown }, context: CallContext) => {
      const sandbox = await find(request.taskId, context)
      if (sandbox.outboundPolicy === undefined) throw new ServerError(Status.FAILED_PRECONDITION, 'the sandbox was created without an outbound policy')
      sandbox.outboundPolicy = request.experimentalOutboundPolicy
      return {}
    },
  }
}

async function start({ host, negativeCodes, baseEnvironment }: CommandRouterParts, sandbox: ModalSandbox, request: ExecStart): Promise<ModalExec> {
  const known = sandbox.execs.get(request.execId)
  if (known !== undefined) return known
  const [file = '', ...args] = request.commandArgs
  const env = Object.assign({}, baseEnvironment(sandbox.id), ...request.secretSources.map((source) => source.env?.contents ?? {})) as Record<string, string>
  const cwd = request.workdir === '' ? undefined : request.workdir
  if (cwd !== undefined && !(await isFolder(host, sandbox.id, cwd))) throw new Error(`working directory ${cwd} does not exist`)
  const process = await host.exec(sandbox.id, { file, args, env, cwd, stdin: true })
  const stdout = keep(process.stdout)
  const stderr = keep(process.stderr)
  const timer = request.timeoutSecs === undefined ? undefined : setTimeout(() => process.kill('SIGKILL', true), request.timeoutSecs * 1000)
  timer?.unref()
  const done = process.ended.then(({ exitCode, signal }) => {
    clearTimeout(timer)
    if (signal === null) return { code: exitCode ?? 0 }
    return negativeCodes ? { code: -constants.signals[signal] } : { signal: constants.signals[signal] }
  })
  return { timeoutSecs: request.timeoutSecs, stdout, stderr, process, done, stdinOffset: 0 }
}

async function isFolder(host: Host, sandboxId: string, path: string): Promise<boolean> {
  const { stdout, stderr, ended } = await host.exec(sandboxId, { file: 'test', args: ['-d', path] })
  stdout.resume()
  stderr.resume()
  return (await ended).exitCode === 0
}

function keep(stream: NodeJS.ReadableStream): ExecLog {
  const log = new ExecLog()
  stream.on('data', (chunk: Buffer) => log.append(chunk))
  stream.once('close', () => log.end())
  stream.once('end', () => log.end())
  return log
}
