/**
 * Faults on order, for the servers that speak the providers' wire protocols.
 *
 * A `FaultPlan` is a queue of faults. A server asks `take(call, sandboxId)` at the start of each call and does what the
 * first matching fault says; how a fault looks on the wire (an HTTP status, a gRPC code) is the server's affair.
 * `adminApp` serves the plan and the counters over HTTP:
 *
 * - `GET /admin/state`: the counters of `ServerState`, for checkers that don't trust the client
 * - `POST /admin/faults` with a fault or an array of them: adds them; `DELETE /admin/faults` forgets them all
 * - `PUT /admin/mode` with `{"down": …}` and `{"listDelayMs": …}`: the whole provider down or up, a listing that lags
 * - `DELETE /admin/sandboxes/:id`: that sandbox dies as if its machine had
 */
import { Hono } from 'hono'
import { z } from 'zod'

const fields = {
  /** The call's name, such as `create`; `*` for every call. */
  call: z.string().min(1).default('*'),
  /** Only calls that concern this sandbox. */
  sandboxId: z.string().optional(),
  /** How many matching calls pass unharmed first. */
  skip: z.int().min(0).default(0),
  /** How many matching calls it strikes; 0 for all until the plan is cleared. */
  times: z.int().min(0).default(1),
}

/**
 * - `refuse`: the connection breaks before anything is done
 * - `hang`: the call is never answered; nothing is done
 * - `delay`: the call is done after `delayMs`
 * - `status`: the answer is an error; `status` is an HTTP status or a gRPC code, as the server speaks. Nothing is done.
 * - `lose-answer`: the call is done, then the connection breaks
 * - `late-answer`: the call is done at once and answered after `delayMs`
 * - `cut-stream`: the answer's stream breaks after `afterBytes` of output
 * - `corrupt`: the answer is spoiled in the way that `variant` names; which there are, the server says
 * - `kill-sandbox`: the sandbox that the call concerns dies first, then the call goes on
 */
export const faultSchema = z.discriminatedUnion('action', [
  z.strictObject({ ...fields, action: z.literal('refuse') }),
  z.strictObject({ ...fields, action: z.literal('hang') }),
  z.strictObject({ ...fields, action: z.literal('delay'), delayMs: z.int().min(0) }),
  z.strictObject({
    ...fields,
    action: z.literal('status'),
    status: z.int(),
    message: z.string().default('injected fault'),
    headers: z.record(z.string(), z.string()).default({}),
    /** No body at all, as a proxy in between answers. */
    empty: z.boolean().default(false),
    /** A page that is no answer of the service's, as a proxy or another server at its address gives: it takes the place of the body. */
    page: z.string().optional(),
  }),
  z.strictObject({ ...fields, action: z.literal('lose-answer') }),
  z.strictObject({ ...fields, action: z.literal('late-answer'), delayMs: z.int().min(0) }),
  z.strictObject({ ...fields, action: z.literal('cut-stream'), afterBytes: z.int().min(0).default(0) }),
  z.strictObject({ ...fields, action: z.literal('corrupt'), variant: z.string().default('') }),
  z.strictObject({ ...fields, action: z.literal('kill-sandbox') }),
])
export type Fault = z.output<typeof faultSchema>
export type FaultInput = z.input<typeof faultSchema>

export const modeSchema = z.strictObject({
  /** Every call's connection breaks (`refuse`) or is never answered (`hang`). */
  down: z.enum(['refuse', 'hang', 'up']).optional(),
  /** The listing shows the state of that long ago. */
  listDelayMs: z.int().min(0).optional(),
})

/** The faults of one server and how often each call was made. */
export class FaultPlan {
  private faults: Fault[] = []
  private readonly counts = new Map<string, number>()
  down: 'refuse' | 'hang' | 'up' = 'up'
  listDelayMs = 0

  add(...inputs: FaultInput[]): void {
    this.faults.push(...inputs.map((input) => faultSchema.parse(input)))
  }

  /** Forgets all faults; the provider is up again and its listing up to date. The counters stay. */
  clear(): void {
    this.faults = []
    this.down = 'up'
    this.listDelayMs = 0
  }

  setMode(mode: z.output<typeof modeSchema>): void {
    this.down = mode.down ?? this.down
    this.listDelayMs = mode.listDelayMs ?? this.listDelayMs
  }

  /** Counts the call and returns the fault that strikes it, if any. Ask once a call. */
  take(call: string, sandboxId?: string): Fault | undefined {
    this.counts.set(call, (this.counts.get(call) ?? 0) + 1)
    if (this.down !== 'up') return faultSchema.parse({ call, action: this.down })
    for (const fault of this.faults) {
      if (fault.call !== '*' && fault.call !== call) continue
      if (fault.sandboxId !== undefined && fault.sandboxId !== sandboxId) continue
      if (fault.skip > 0) {
        fault.skip -= 1
        continue
      }
      if (fault.times === 1) this.faults = this.faults.filter((other) => other !== fault)
      else if (fault.times > 1) fault.times -= 1
      return { ...fault }
    }
    return undefined
  }

  /** How often each call was made since the start, by name. */
  calls(): Record<string, number> {
    return Object.fromEntries([...this.counts].sort(([left], [right]) => left.localeCompare(right)))
  }

  pending(): readonly Fault[] {
    return this.faults
  }
}

/** What `/admin/state` tells. */
export interface ServerState {
  readonly live: number
  /** The most sandboxes that ever lived at once. */
  readonly maxLive: number
  readonly created: number
  /** How the ended ones ended. */
  readonly ended: Readonly<Record<'killed' | 'expired' | 'crashed', number>>
  readonly sandboxes: readonly { readonly id: string; readonly createdAtMs: number; readonly expiresAtMs: number }[]
}

/** The admin endpoint. Mount it at the root of a server of its own, or hand it the paths below `/admin`. */
export function adminApp(plan: FaultPlan, host: { state(): ServerState; destroy(id: string, reason: 'crashed'): Promise<boolean> }): Hono {
  const app = new Hono()
  app.onError((error, context) => context.json({ error: error.message }, error instanceof z.ZodError || error instanceof SyntaxError ? 400 : 500))
  app.get('/admin/state', (context) =>
    context.json({ ...host.state(), calls: plan.calls(), down: plan.down, listDelayMs: plan.listDelayMs, faults: plan.pending() }),
  )
  app.post('/admin/faults', async (context) => {
    const body: unknown = await context.req.json()
    plan.add(...z.array(faultSchema).parse(Array.isArray(body) ? body : [body]))
    return context.json({ faults: plan.pending() })
  })
  app.delete('/admin/faults', (context) => {
    plan.clear()
    return context.body(null, 204)
  })
  app.put('/admin/mode', async (context) => {
    plan.setMode(modeSchema.parse(await context.req.json()))
    return context.body(null, 204)
  })
  app.delete('/admin/sandboxes/:id', async (context) =>
    (await host.destroy(context.req.param('id'), 'crashed')) ? context.body(null, 204) : context.json({ error: 'no such sandbox' }, 404),
  )
  return app
}
