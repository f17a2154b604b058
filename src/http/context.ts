import { createRoute, OpenAPIHono, type RouteConfig } from '@hono/zod-openapi'
import type { Context, MiddlewareHandler } from 'hono'
import type { Logger } from 'pino'
import type { ArtifactStore } from '../artifacts/index.js'
import { invalidInput, parseInput } from '../job/explain.js'
import { z } from 'zod'
import type { AgentQueue } from '../producers/agent-queue.js'
import type { ApiKeyScope } from '../store/index.js'
import { readJson } from './body.js'
import { type Caller, requireScope } from './caller.js'
import { unauthenticated } from './refusal.js'
import { componentRef } from './schemas.js'

export interface Env {
  readonly Variables: {
    readonly caller: Caller
    /** What the request made or changed, for the audit log; by default the job or schedule that its path names. */
    readonly targets?: readonly string[] | undefined
  }
}
export type ApiApp = OpenAPIHono<Env>

/** What the routes share. */
export interface ApiContext {
  readonly queue: AgentQueue
  /** Where jobs' artifacts are, for links; undefined when nobody said. */
  readonly artifacts: ArtifactStore | undefined
  readonly log: Pick<Logger, 'info' | 'error'>
  readonly maxBodyBytes: number
  /** Whose key it is. @param peer the address that the connection is from, where it is known. @throws HttpRefusalError 401, 429. */
  readonly callerOf: (request: Request, peer?: string) => Promise<Caller>
  /** Whether callers are known by their keys. An application that knows them otherwise may look at a request's body, which is there once. */
  readonly byKeys: boolean
  /** Counts a request. @returns headers for its answer. @throws HttpRefusalError 429. */
  readonly count: (caller: Caller) => Promise<Readonly<Record<string, string>>>
  /** How often a stream in which nothing happens says so, in milliseconds. */
  readonly heartbeatMs: number | undefined
  /** Aborted when the API stops: whatever waits or streams ends. */
  readonly stop: AbortSignal
}

/** Wrong parameters are refused as any other input. */
export function newApp(): ApiApp {
  return new OpenAPIHono<Env>({
    defaultHook: (result) => {
      if (!result.success) throw invalidInput(result.error.issues, result.target === 'query' ? 'query' : 'parameters')
    },
  })
}

/** Lets only those through whose key has the scope; everything behind it finds them as `caller`. */
export function guard({ callerOf, count }: ApiContext, scope: ApiKeyScope): MiddlewareHandler<Env> {
  return async (context, next) => {
    const caller = await callerOf(context.req.raw, peerOf(context))
    const headers = await count(caller)
    requireScope(caller, scope)
    context.set('caller', caller)
    await next()
    for (const [name, value] of Object.entries(headers)) context.res.headers.set(name, value)
  }
}

/** A body that takes longer is sent by somebody who takes their time: meanwhile the key may have been revoked, or be over. */
const soonMs = 100

/** For what comes of a request a while after it was let in. @throws HttpRefusalError 401, 429. */
export async function requireStillIn({ callerOf }: Pick<ApiContext, 'callerOf'>, context: Context): Promise<void> {
  await callerOf(context.req.raw, peerOf(context))
}

const peerSchema = z.object({ incoming: z.object({ socket: z.object({ remoteAddress: z.string() }) }) })

/** The address that a request's connection is from, as a server of Node's has it; undefined elsewhere. */
function peerOf(context: Context): string | undefined {
  return peerSchema.safeParse(context.env).data?.incoming.socket.remoteAddress
}

/** The key that a request bears. @throws HttpRefusalError 401. */
export function bearerOf(request: Request): string {
  const header = request.headers.get('authorization')
  const key = header === null ? undefined : /^Bearer +([\w~+/.-]{1,500}=*) *$/i.exec(header)?.[1]
  if (key === undefined) throw unauthenticated(`authorization: ${header === null ? 'is missing' : 'is no bearer key'}; send "Authorization: Bearer sy_…" with a key from "switchyard keys create"`)
  return key
}

export interface CheckedBody<Value> {
  readonly value: Value
  readonly bytes: Uint8Array
}

/**
 * A body of JSON, checked.
 * @param options.optional whether it may be left out, for `{}`.
 */
export async function bodyOf<Schema extends z.ZodType>(context: Context, api: ApiContext, schema: Schema, options: { readonly optional?: boolean } = {}): Promise<CheckedBody<z.output<Schema>>> {
  const beganMs = performance.now()
  const { value, bytes } = await readJson(context, api.maxBodyBytes)
  if (api.byKeys && performance.now() - beganMs > soonMs) await requireStillIn(api, context)
  return { value: parseInput(schema, value === undefined && options.optional === true ? {} : value, 'body'), bytes }
}

const refusals: Readonly<Record<number, string>> = {
  400: 'Malformed: no JSON, no UTF-8, no valid request.',
  401: 'No key, or one that opens nothing.',
  403: 'The key may not do this, or the request comes from a page of another origin.',
  404: 'There is none, or it is another tenant’s.',
  409: 'In conflict with what is there.',
  413: 'Too large.',
  415: 'Not JSON in UTF-8.',
  422: 'The input is wrong; `problems` says what.',
  429: 'The key has made too many requests, or has too many streams open; `Retry-After` says when to ask again.',
  431: 'The header is over 16 KiB.',
  500: 'A defect of Switchyard’s own.',
  503: 'Redis is away, or the server stops.',
}

/** The refusals of a route, for its document. */
export function problems<Status extends keyof typeof refusals>(...statuses: Status[]) {
  return Object.fromEntries(statuses.map((status) => [status, { description: refusals[status] ?? '', content: { 'application/problem+json': { schema: componentRef('Problem') } } }]))
}

/** A body or an answer of JSON, by the name of its component. */
export function json(component: string) {
  return { 'application/json': { schema: componentRef(component) } }
}

/** A route that asks for a key; what every such one can answer is added. Its answers are typed by what is sent, not by the document. */
export function route<Config extends RouteConfig & { readonly operationId: string }>(config: Config): Omit<Config, 'responses'> & Pick<RouteConfig, 'responses' | 'path'> {
  return createRoute({ security: [{ key: [] }], ...config, responses: { ...config.responses, ...problems(400, 401, 403, 422, 429, 431, 500, 503) } })
}
