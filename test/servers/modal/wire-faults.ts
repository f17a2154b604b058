/**
 * What the faults of `FaultPlan` look like in gRPC. Calls are named `create`, `list`, `get` (SandboxWaitV2), `kill`, `exec`
 * (TaskExecStart), `read` (TaskExecStdioRead), `wait` (TaskExecWait) and `token` (AuthTokenGet); every other one by its
 * name in code, such as `imageGetOrCreate`. `status` is a gRPC code; with the header `retry-after-secs` the error asks to be retried.
 */
import { ServerError, Status, type CallContext, type ServerMiddleware } from 'nice-grpc'
import type { Fault, FaultPlan } from '../shared-faults.js'
import type { ModalDefinitions } from './definitions.js'
import type { Front } from './front.js'

const shortNames: Readonly<Record<string, string>> = {
  SandboxCreateV2: 'create',
  SandboxListV2: 'list',
  SandboxWaitV2: 'get',
  SandboxTerminateV2: 'kill',
  TaskExecStart: 'exec',
  TaskExecStdioRead: 'read',
  TaskExecWait: 'wait',
  AuthTokenGet: 'token',
}

/** The fault that a handler itself has to act on: where in its stream to break. */
export interface WithFault {
  readonly cutAfterBytes: number | undefined
}

export interface FaultTools {
  readonly plan: FaultPlan
  readonly definitions: ModalDefinitions
  front(): Front
  /** How many calls are under way, by name. */
  readonly open: Map<string, number>
  /** The sandbox that a request speaks of, by its id or its task's. */
  sandboxOf(request: unknown): string | undefined
  crash(sandboxId: string): Promise<unknown>
}

/** Counts the calls that are under way. Use it before `faultMiddleware`, which holds some of them up. */
export function countOpen({ open }: Pick<FaultTools, 'open'>): ServerMiddleware {
  return async function* count(call, context) {
    const name = callName(call.method.path)
    const over = new AbortController()
    open.set(name, (open.get(name) ?? 0) + 1)
    // Whichever comes first: a handler may take longer than its caller waits.
    AbortSignal.any([over.signal, context.signal]).addEventListener('abort', () => open.set(name, (open.get(name) ?? 0) - 1), { once: true })
    try {
      return yield* call.next(call.request, context)
    } finally {
      over.abort()
    }
  }
}

export function faultMiddleware(tools: FaultTools): ServerMiddleware<WithFault> {
  return async function* strike(call, context) {
    const name = callName(call.method.path)
    const sandboxId = call.requestStream ? undefined : tools.sandboxOf(call.request)
    const fault = tools.plan.take(name, sandboxId)
    const next = (cutAfterBytes?: number) => call.next(call.requestStream ? call.request : call.request, Object.assign(context, { cutAfterBytes }))
    switch (fault?.action) {
      case undefined:
        return yield* next()
      case 'refuse':
        return await broken(tools, context)
      case 'hang':
        await forever(context.signal)
        throw new ServerError(Status.UNAVAILABLE, 'the server stopped')
      case 'delay':
        await pause(fault.delayMs, context.signal)
        return yield* next()
      case 'status':
        throw statusError(tools.definitions, fault, context)
      case 'lose-answer': {
        // A unary call yields nothing before it returns.
        const done = next()
        while ((await done.next()).done !== true);
        return await broken(tools, context)
      }
      case 'late-answer': {
        const answer = yield* next()
        await pause(fault.delayMs, context.signal)
        return answer
      }
      case 'cut-stream':
        return yield* next(fault.afterBytes)
      case 'kill-sandbox':
        if (sandboxId !== undefined) await tools.crash(sandboxId)
        return yield* next()
      case 'corrupt':
        throw new ServerError(Status.UNIMPLEMENTED, `this server knows no corruption "${fault.variant}"`)
    }
  }
}

function callName(path: string): string {
  const method = path.slice(path.lastIndexOf('/') + 1)
  return shortNames[method] ?? `${method.charAt(0).toLowerCase()}${method.slice(1)}`
}

/** Breaks the connection by which the call came. What is thrown afterwards reaches nobody. */
export async function broken(tools: Pick<FaultTools, 'front'>, context: CallContext): Promise<never> {
  tools.front().break(context.peer)
  await forever(context.signal)
  throw new ServerError(Status.UNAVAILABLE, 'connection broken')
}

function statusError(definitions: ModalDefinitions, fault: Extract<Fault, { action: 'status' }>, context: CallContext): ServerError {
  const code: Status = fault.status
  const seconds = fault.headers['retry-after-secs']
  return seconds === undefined ? new ServerError(code, fault.message) : throttled(definitions, context, code, fault.message, Number(seconds))
}

/** An error whose details ask the client to retry after a while, which the SDK does without limit unless told otherwise. */
export function throttled(definitions: ModalDefinitions, context: CallContext, code: Status, message: string, retryAfterSecs: number): ServerError {
  const policy = definitions.retryPolicy.encode({ retryAfterSecs }).finish()
  const details = [{ typeUrl: 'type.googleapis.com/modal.client.RPCRetryPolicy', value: policy }]
  context.trailer.set('grpc-status-details-bin', Buffer.from(definitions.rpcStatus.encode({ code, message, details }).finish()))
  return new ServerError(code, message)
}

async function forever(signal: AbortSignal): Promise<void> {
  if (!signal.aborted) await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
}

async function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, milliseconds)
    signal.addEventListener(
      'abort',
      () => {
        clearTimeout(timer)
        resolve()
      },
      { once: true },
    )
  })
}
