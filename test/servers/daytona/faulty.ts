/** How the faults of a `FaultPlan` look over HTTP. */
import type { HttpBindings } from '@hono/node-server'
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response'
import type { Context } from 'hono'
import type { Fault, FaultPlan } from '../shared-faults.js'

export type HttpContext = Context<{ Bindings: HttpBindings }>

/**
 * Runs a call under the plan. `corrupt` is left to the call itself, which gets the fault.
 * `kill` ends the sandbox that the call concerns.
 */
export async function underPlan(
  plan: FaultPlan,
  call: string,
  context: HttpContext,
  work: (fault: Fault | undefined) => Promise<Response>,
  sandbox?: { readonly id: string; kill(): Promise<unknown> },
): Promise<Response> {
  const fault = plan.take(call, sandbox?.id)
  switch (fault?.action) {
    case undefined:
    case 'corrupt':
      return await work(fault)
    case 'refuse':
      return breakConnection(context)
    case 'hang':
      return await untilClientLeaves(context)
    case 'delay':
      await wait(fault.delayMs)
      return await work(undefined)
    case 'late-answer': {
      const response = await work(undefined)
      await wait(fault.delayMs)
      return response
    }
    case 'lose-answer':
      await work(undefined)
      return breakConnection(context)
    case 'status':
      if (fault.page !== undefined) return new Response(fault.page, { status: fault.status, headers: { 'content-type': 'text/html', ...fault.headers } })
      return new Response(fault.empty ? null : JSON.stringify({ statusCode: fault.status, message: fault.message }), {
        status: fault.status,
        headers: { ...(fault.empty ? {} : { 'content-type': 'application/json' }), ...fault.headers },
      })
    case 'cut-stream': {
      const whole = Buffer.from(await (await work(undefined)).arrayBuffer())
      const { outgoing } = context.env
      outgoing.writeHead(200, { 'content-type': 'application/json', 'content-length': whole.length })
      await new Promise<void>((resolve) => outgoing.write(whole.subarray(0, fault.afterBytes), () => resolve()))
      outgoing.destroy()
      return RESPONSE_ALREADY_SENT
    }
    case 'kill-sandbox':
      await sandbox?.kill()
      return await work(undefined)
  }
}

function breakConnection(context: HttpContext): Response {
  context.env.outgoing.destroy()
  return RESPONSE_ALREADY_SENT
}

async function untilClientLeaves(context: HttpContext): Promise<Response> {
  const { outgoing } = context.env
  if (!outgoing.destroyed) await new Promise<void>((resolve) => outgoing.once('close', () => resolve()))
  return RESPONSE_ALREADY_SENT
}

async function wait(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms))
}
