import { readFileSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { getRequestListener } from '@hono/node-server'
import type { Hono, MiddlewareHandler } from 'hono'
import type { Logger } from 'pino'
import type { ArtifactStore } from '../artifacts/index.js'
import { InvalidInputError, SwitchyardError } from '../job/errors.js'
import { accessOf, type AgentQueue } from '../producers/agent-queue.js'
import { ApiKeys } from './api-keys.js'
import { addArtifactRoutes } from './artifact-routes.js'
import { addAuditRoute } from './audit.js'
import { addCostRoutes } from './cost-routes.js'
import { type Caller, callerIn, requireAllTenants } from './caller.js'
import { type ApiApp, type ApiContext, bearerOf, type Env, guard, json, newApp, problems, route } from './context.js'
import { addDeploymentRoutes } from './deployment-routes.js'
import { addJobRoutes } from './job-routes.js'
import { defaultKeyTries, KeyTries } from './key-tries.js'
import { problemOf, problemResponse } from './problem.js'
import { defaultRateLimit, type RateLimit, RateLimiter } from './rate-limit.js'
import { forbidden, HttpRefusalError, malformed, unauthenticated } from './refusal.js'
import { addOperateRoutes } from './operate-routes.js'
import { remoteAddressBehind } from './remote-address.js'
import { addScheduleRoutes } from './schedule-routes.js'
import { componentSchemas } from './schemas.js'
import { StreamLimits } from './stream-limits.js'
import { addStreamRoutes } from './stream-routes.js'

export interface ApiOptions {
  /** Whose jobs are served; it stays the caller's to close. */
  readonly queue: AgentQueue
  /** Where jobs' artifacts are, as the consumers have it: for links to them. */
  readonly artifacts?: ArtifactStore | undefined
  /** How large a request's body may be, in bytes. Default 4 MiB, at least twice the queue's `maxSpecBytes`. */
  readonly maxBodyBytes?: number | undefined
  /**
   * Who asks, in place of the keys of `switchyard keys`: for an application that knows its users already. Null for nobody who may.
   * The caller's `id` is what the audit log names.
   */
  readonly authenticate?: ((request: Request) => Promise<Caller | null> | Caller | null) | undefined
  /** How many requests a key may make. Default 6,000 a minute; `none` for any number. */
  readonly rateLimit?: RateLimit | 'none' | undefined
  /** How many keys that open nothing an address may send before it is told to wait; counted by each server. Default 60 a minute; `none` for any number. */
  readonly keyTries?: RateLimit | 'none' | undefined
  /** Networks of proxies whose `X-Forwarded-For` says where a request comes from, such as `10.0.0.0/8`. Default: none. */
  readonly trustedProxies?: readonly string[] | undefined
  /** How often a stream in which nothing happens says so, in milliseconds. Default 15,000. */
  readonly heartbeatMs?: number | undefined
  /** What `GET /metrics` answers to a key that may read everybody's. Left out: there is no such path. */
  readonly metrics?: (() => Promise<{ readonly contentType: string; readonly text: string }>) | undefined
  /** Answers `POST /mcp`, for those whose keys may at least read. Left out, there is no such path. */
  readonly mcp?: McpEndpoint | undefined
  /** Told of what fails and of what callers change; pino's will do. Default: failures become process warnings. */
  readonly log?: Pick<Logger, 'info' | 'error'> | undefined
}

/** Answers a request to a path of which the API knows only who may use it. */
export type McpEndpoint = (
  request: Request,
  api: {
    /** The API itself, for the calls that come of the request. */
    readonly answer: (request: Request) => Response | Promise<Response>
    readonly maxBodyBytes: number
    /** Aborted when the API stops. */
    readonly stop: AbortSignal
    /** To be called once, when the answer was read or nobody reads it any more. */
    readonly onEnd: () => void
  },
) => Promise<Response>

/** The HTTP API of a queue, without a server. */
export interface Api {
  /** To be mounted in an application of Hono's: `app.route('/switchyard', api.app)`. */
  readonly app: Hono<Env>
  /** For whatever speaks in requests and responses as `fetch` does. */
  readonly fetch: (request: Request) => Response | Promise<Response>
  /** For `node:http`, Express and Fastify; before whatever reads bodies there. */
  readonly listener: (request: IncomingMessage, response: ServerResponse) => Promise<void>
  /** Ends streams and waits, and lets `/readyz` answer 503. Requests are still answered. */
  stop(): void
}

const leastBodyBytes = 4 * 1024 * 1024
const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }

/**
 * The HTTP API of a queue: its routes are in the document at `/openapi.json`, and every refusal is `application/problem+json` with a stable code.
 * @throws InvalidInputError when an option is wrong.
 */
export function createApi(options: ApiOptions): Api {
  const { queue } = options
  const stop = new AbortController()
  const log = options.log ?? { info: () => undefined, error: (fields: unknown) => process.emitWarning(errorIn(fields)) }
  const app = newApp()
  const api: ApiContext = { queue, artifacts: options.artifacts, log, maxBodyBytes: bodyLimit(options), callerOf: limited(callerOf(options), options), byKeys: options.authenticate === undefined, count: counter(options), heartbeatMs: options.heartbeatMs, stop: stop.signal }

  app.onError((error) => {
    const answer = problemOf(error)
    if (answer.problem.status === 500) log.error({ err: error }, 'a request to the HTTP API failed')
    return problemResponse(answer)
  })
  app.use(answersForOneReader, onlySameOrigin)
  app.openAPIRegistry.registerComponent('securitySchemes', 'key', { type: 'http', scheme: 'bearer', description: 'A key of `switchyard keys create`.' })
  for (const [name, schema] of Object.entries(componentSchemas())) app.openAPIRegistry.registerComponent('schemas', name, schema)
  addHealthRoutes(app, api)
  addMetrics(app, api, options.metrics)
  addJobRoutes(app, api)
  addArtifactRoutes(app, api)
  addStreamRoutes(app, api)
  addScheduleRoutes(app, api)
  addDeploymentRoutes(app, api)
  addOperateRoutes(app, api)
  addCostRoutes(app, api)
  addAuditRoute(app, api)
  addDocument(app)
  // Of a server of Node's it knows the connection.
  const fetch = (request: Request, bindings?: object) => app.fetch(request, bindings)
  if (options.mcp !== undefined) addMcpRoute(app, api, options.mcp, fetch)
  const only = (methods: readonly string[], paths: readonly string[]) => paths.map((path) => [path, methods] as const)
  refuseTheRest(app, [...only(['GET', 'HEAD'], options.metrics === undefined ? ['/openapi.json'] : ['/openapi.json', '/metrics']), ...only(['POST'], options.mcp === undefined ? [] : ['/mcp'])])

  return {
    app,
    fetch: (request) => fetch(request),
    listener: listenerOf(fetch),
    stop: () => stop.abort(new SwitchyardError('the HTTP API stops')),
  }
}

function listenerOf(fetch: (request: Request, bindings: object) => Response | Promise<Response>): Api['listener'] {
  const errorHandler = () => problemResponse(problemOf(malformed('the request is no valid one of HTTP; look at its method, its host and its path')))
  const listener = getRequestListener(fetch, { overrideGlobalObjects: false, errorHandler })
  return async (request: ParsedMessage, response) => {
    // What Express has parsed already.
    if (request.readableEnded && request.body !== undefined && request.rawBody === undefined) request.rawBody = Buffer.from(JSON.stringify(request.body))
    await listener(request, response)
  }
}

type ParsedMessage = IncomingMessage & { readonly body?: unknown; rawBody?: Buffer }

function bodyLimit({ queue, maxBodyBytes }: ApiOptions): number {
  if (maxBodyBytes !== undefined && (!Number.isInteger(maxBodyBytes) || maxBodyBytes < 1_024)) throw new InvalidInputError('maxBodyBytes: must be a whole number of bytes from 1024 on')
  return maxBodyBytes ?? Math.max(leastBodyBytes, 2 * accessOf(queue).maxSpecBytes)
}

function callerOf({ queue, authenticate }: ApiOptions): (request: Request) => Promise<Caller> {
  if (authenticate === undefined) {
    const keys = new ApiKeys(queue)
    return async (request) => await keys.callerOf(bearerOf(request))
  }
  return async (request) => {
    const caller = callerIn(await authenticate(request))
    if (caller === null) throw unauthenticated('authorization: the request is not authenticated')
    return caller
  }
}

/** Refuses keys that open nothing otherwise, once too many came from one address. */
function limited(ask: (request: Request) => Promise<Caller>, { keyTries = defaultKeyTries, trustedProxies = [] }: ApiOptions): ApiContext['callerOf'] {
  const addressOf = remoteAddressBehind(trustedProxies)
  if (keyTries === 'none') return ask
  const tries = new KeyTries(checkedLimit(keyTries, 'keyTries'))
  return async (request, peer) => {
    try {
      return await ask(request)
    } catch (error) {
      // Without a key there is nothing to try.
      if (error instanceof HttpRefusalError && error.status === 401 && request.headers.has('authorization')) await tries.count(addressOf(peer, request.headers.get('x-forwarded-for') ?? undefined))
      throw error
    }
  }
}

function checkedLimit(limit: RateLimit, name: string): RateLimit {
  const { requests, perSeconds } = limit
  if (!Number.isInteger(requests) || requests < 1 || !Number.isInteger(perSeconds) || perSeconds < 1) throw new InvalidInputError(`${name}: requests and perSeconds must be whole numbers from 1 on`)
  return limit
}

function counter({ queue, rateLimit = defaultRateLimit }: ApiOptions): ApiContext['count'] {
  if (rateLimit === 'none') return async () => ({})
  const limiter = new RateLimiter(queue, checkedLimit(rateLimit, 'rateLimit'))
  return async (caller) => await limiter.count(caller)
}

/** Nothing is kept by caches, and nothing is taken for a page. */
const answersForOneReader: MiddlewareHandler = async (context, next) => {
  await next()
  context.res.headers.set('cache-control', 'no-store')
  context.res.headers.set('x-content-type-options', 'nosniff')
}

/** A page of another site has no business here, whatever its visitor may do. */
const onlySameOrigin: MiddlewareHandler = async (context, next) => {
  const origin = context.req.header('origin')
  if (origin !== undefined && origin !== new URL(context.req.url).origin && !sameHost(origin, context.req.header('host'))) {
    throw forbidden('origin: pages of other origins are not served; call the API from a server')
  }
  await next()
}

/** Behind something that speaks TLS the scheme is another one. */
function sameHost(origin: string, host: string | undefined): boolean {
  return host !== undefined && URL.canParse(origin) && new URL(origin).host === host
}

function addHealthRoutes(app: ApiApp, { queue, stop }: ApiContext): void {
  app.openapi(
    route({ method: 'get', path: '/healthz', operationId: 'getHealth', summary: 'Whether this process answers', tags: ['health'], security: [], responses: { 200: { description: 'It does.', content: json('Health') } } }),
    (context) => context.json({ status: 'ok' }, 200),
  )
  app.openapi(
    route({ method: 'get', path: '/readyz', operationId: 'getReadiness', summary: 'Whether requests can be answered: Redis is there, and the server does not stop', tags: ['health'], security: [], responses: { 200: { description: 'They can.', content: json('Health') }, ...problems(503) } }),
    async (context) => {
      if (stop.aborted) throw new HttpRefusalError(503, 'SWY_HTTP_UNAVAILABLE', 'this server stops; ask another one')
      await accessOf(queue).use(({ redis }) => redis.ping())
      return context.json({ status: 'ok' }, 200)
    },
  )
}

/** Beside the document: it is Prometheus', and no client's. */
function addMetrics(app: ApiApp, api: ApiContext, metrics: ApiOptions['metrics']): void {
  if (metrics === undefined) return
  app.get('/metrics', guard(api, 'read'), async (context) => {
    requireAllTenants(context.var.caller)
    const { contentType, text } = await metrics()
    return context.body(text, 200, { 'content-type': contentType })
  })
}

function addDocument(app: ApiApp): void {
  let document: string | undefined
  app.get('/openapi.json', (context) => {
    document ??= JSON.stringify(
      app.getOpenAPI31Document({
        openapi: '3.1.0',
        info: { title: 'Switchyard', version, description: 'Enqueue agents’ jobs, follow and cancel them. Every refusal is a `Problem` (RFC 9457) with a stable `code`.', license: { name: 'Apache-2.0' } },
        // Relative to the document.
        servers: [{ url: '.' }],
      }),
    )
    return context.body(document, 200, { 'content-type': 'application/json' })
  })
}

/** No part of the document: it speaks another protocol. */
function addMcpRoute(app: ApiApp, api: ApiContext, mcp: McpEndpoint, answer: Api['fetch']): void {
  const limits = new StreamLimits()
  app.post('/mcp', guard(api, 'read'), async (context) => await mcp(context.req.raw, { answer, maxBodyBytes: api.maxBodyBytes, stop: api.stop, onEnd: limits.enter(context.var.caller.id) }))
}

/** Other methods of paths that there are, and paths that there are not. */
function refuseTheRest(app: ApiApp, besides: readonly (readonly [string, readonly string[]])[]): void {
  const methods = new Map<string, Set<string>>(besides.map(([path, known]) => [path, new Set(known)]))
  for (const definition of app.openAPIRegistry.definitions) {
    if (definition.type !== 'route') continue
    const path = definition.route.path.replaceAll(/\/{(.+?)}/g, '/:$1')
    const known = methods.get(path) ?? new Set()
    known.add(definition.route.method.toUpperCase())
    if (definition.route.method === 'get') known.add('HEAD')
    methods.set(path, known)
  }
  for (const [path, known] of methods) {
    const allow = [...known].sort().join(', ')
    app.all(path, () => {
      throw new HttpRefusalError(405, 'SWY_HTTP_METHOD', `the method is not one of this path, which takes ${allow}`, { allow })
    })
  }
  app.all('*', () => {
    throw new HttpRefusalError(404, 'SWY_HTTP_NOT_FOUND', 'there is no such path; /openapi.json lists those that there are')
  })
}

function errorIn(fields: unknown): Error | string {
  return typeof fields === 'object' && fields !== null && 'err' in fields && fields.err instanceof Error ? fields.err : 'a request to the HTTP API failed'
}
