import { createBullBoard } from '@bull-board/api'
import type { QueueJobJson } from '@bull-board/api/dist/types.js'
import { HonoAdapter } from '@bull-board/hono'
import { getRequestListener } from '@hono/node-server'
import { serveStatic } from '@hono/node-server/serve-static'
import { Queue } from 'bullmq'
import { Hono, type Context, type MiddlewareHandler } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { secureHeaders } from 'hono/secure-headers'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Redis } from 'ioredis'
import { errorMessage, InvalidInputError } from '../job/errors.js'
import { type BoardAccess, someone } from './board-access.js'
import { mistakeIn } from './board-mistakes.js'
import { assetRoutes, fleetRoutes, type FleetRoutesOptions } from './fleet-routes.js'
import { holdsCut, shownValue } from './formatters.js'
import { JobsAdapter } from './jobs-adapter.js'
import { checkLinks, Links, type LinkTemplates } from '../job/page-links.js'
import type { Scrape } from './monitor-server.js'
import { jobPath } from './pages/parts.js'
import { SchedulesAdapter } from './schedules-adapter.js'
import type { BoardOperator, MonitoredQueue } from './source.js'
import { WebhookDeliveries } from './webhook-deliveries.js'
import { WebhooksAdapter } from './webhooks-adapter.js'

/** A queue that Bull Board shows. */
export interface BoardQueue {
  readonly name: string
  readonly prefix: string
  readonly description?: string | undefined
  /** Says how its jobs stand, cancels them and runs them again. Left out: a plain BullMQ queue. The first that has one is the fleet's. */
  readonly monitored?: MonitoredQueue | undefined
}

export interface ApplicationOptions {
  /** An open connection with `maxRetriesPerRequest` set. */
  readonly redis: Redis
  readonly queues: readonly BoardQueue[]
  /** The deployment's prefix, to show the deliveries of its webhooks. */
  readonly webhooks?: { readonly prefix: string } | undefined
  /** What `GET /metrics` answers, to those who may look. Left out: there is none. */
  readonly metrics?: (() => Promise<Scrape>) | undefined
  readonly writable: boolean
  /** The path below which all of it is, such as `/ops`; empty for none. */
  readonly base: string
  readonly links?: LinkTemplates | undefined
  /** Who may look; null when somebody else sees to that. */
  readonly access: BoardAccess | null
  /** Whether requests must name this machine: where nobody is asked for a password. */
  readonly onlyLoopback: boolean
  readonly fleetEveryMs?: number | undefined
  readonly onChange?: FleetRoutesOptions['onChange']
}

export interface Application {
  /** For whatever speaks in requests and responses as `fetch` does; takes paths with the base and without. */
  readonly fetch: (request: Request) => Response | Promise<Response>
  /** For `node:http`, Express and Fastify. */
  readonly listener: (request: IncomingMessage, response: ServerResponse) => Promise<void>
  close(): Promise<void>
}

/** Bull Board, the pages of our own and `GET /healthz` as one application. @throws InvalidInputError when the base or a link's template is wrong. */
export function application(options: ApplicationOptions): Application {
  const { base } = options
  if (!/^(\/[\w.~-]+)*$/.test(base)) throw new InvalidInputError(`basePath: "${base}" must be empty, or begin with "/" and not end with it, such as "/ops"`)
  const links = new Links(checkLinks(options.links ?? {}))
  const queues = options.queues.map((shown) => ({ shown, queue: new Queue(shown.name, { prefix: shown.prefix, connection: options.redis, skipWaitingForReady: true }) }))
  // An error event that nobody listens to ends the process; the health check tells of a Redis that is gone.
  for (const { queue } of queues) queue.on('error', () => undefined)
  const app = routes(options, queues, links)
  const fetch = (request: Request) => app.fetch(withoutBase(request, base))
  return {
    fetch,
    listener: getRequestListener(fetch, { overrideGlobalObjects: false }),
    async close() {
      await Promise.all(queues.map(({ queue }) => queue.close()))
    },
  }
}

function withoutBase(request: Request, base: string): Request {
  const url = new URL(request.url)
  if (base === '' || (url.pathname !== base && !url.pathname.startsWith(`${base}/`))) return request
  url.pathname = url.pathname.slice(base.length) === '' ? '/' : url.pathname.slice(base.length)
  return new Request(url, request)
}

function routes(options: ApplicationOptions, queues: readonly { readonly queue: Queue; readonly shown: BoardQueue }[], links: Links): Hono {
  const { writable, base, access, webhooks } = options
  const operatorFor = (context: Context) => access?.operatorFor(context) ?? someone
  const monitored = queues.map(({ shown }) => shown.monitored).find((each) => each !== undefined)
  const adapters = queues.map(({ queue, shown }) => jobsAdapter(queue, shown, options, links))
  const deliveries = webhooks === undefined ? [] : [new WebhooksAdapter(new WebhookDeliveries(options.redis, webhooks.prefix), { readOnlyMode: !writable, description: 'deliveries of events' })]
  for (const adapter of deliveries) adapter.setFormatter('data', (data: unknown) => shownValue(data))
  const schedules = queues.flatMap(({ shown }) => (shown.monitored === undefined ? [] : [new SchedulesAdapter(shown.monitored, Date.now)]))
  const serverAdapter = new HonoAdapter(serveStatic)
  createBullBoard({
    queues: [...adapters, ...deliveries, ...schedules],
    serverAdapter,
    options: {
      uiConfig: {
        boardTitle: 'Switchyard',
        hideRedisDetails: true,
        hideDocsLink: true,
        jobDetails: { defaultTab: 'Progress' },
        ...(monitored === undefined ? {} : { miscLinks: [{ text: 'Fleet', url: `${base}/fleet` }] }),
      },
    },
  })

  const app = new Hono()
  app.use(securityHeaders)
  app.get('/healthz', async (context) => {
    const healthy = await options.redis.ping().then(() => true, () => false)
    return context.json({ status: healthy ? 'ok' : 'redis unavailable' }, healthy ? 200 : 503)
  })
  if (options.onlyLoopback) app.use(onlyLoopbackNames)
  app.use(onlySameOriginChanges)
  app.route('/', assetRoutes())
  if (access !== null) {
    app.route('/', access.routes)
    app.use(access.guard)
  }
  if (!writable) app.use(onlyReads)
  const { metrics } = options
  if (metrics !== undefined) {
    app.get('/metrics', async (context) => {
      const { contentType, text } = await metrics()
      return context.body(text, 200, { 'content-type': contentType })
    })
  }
  if (monitored !== undefined) {
    const { fleetEveryMs: everyMs, onChange } = options
    app.route('/', fleetRoutes({ queue: monitored, base, writable, links, tokenFor: (context) => access?.tokenFor(context) ?? '', operatorFor, everyMs, onChange }))
  }
  if (writable && monitored !== undefined) app.use(audited(monitored, operatorFor))
  if (writable) app.use(bodyLimit({ maxSize: largestChange, onError: (context) => context.text(`A change is at most ${largestChange} bytes.`, 413) }), onlyWholeData)
  app.use(withoutWebFonts)
  app.use(asOwnMistakes(options.redis))
  app.route('/', serverAdapter.registerPlugin())
  // Afterwards: what is served is asked for without it, and only the page's own addresses have it.
  serverAdapter.setBasePath(base === '' ? '/' : base)
  return app
}

function jobsAdapter(queue: Queue, { description, monitored }: BoardQueue, { writable, base }: ApplicationOptions, links: Links): JobsAdapter {
  // Bull Board has no button for a job that is in hand.
  const externalJobUrl = ({ id, processedOn, finishedOn }: Pick<QueueJobJson, 'id' | 'processedOn' | 'finishedOn'>) => ({ href: jobPath(base, String(id ?? '')), displayText: writable && processedOn != null && finishedOn == null ? 'Open its page, to cancel it' : 'Open its page' })
  const settings = { readOnlyMode: !writable, ...(description === undefined ? {} : { description }), ...(monitored === undefined ? {} : { externalJobUrl }) }
  const statuses = monitored === undefined ? (ids: readonly string[]) => Promise.resolve(ids.map(() => null)) : (ids: readonly string[]) => monitored.statuses(ids)
  const adapter = new JobsAdapter(queue, settings, { statuses, view: monitored === undefined ? undefined : (id) => monitored.view(id), actions: monitored, links })
  for (const field of ['data', 'returnValue', 'progress'] as const) adapter.setFormatter(field, (value: unknown) => shownValue(value))
  return adapter
}

/** Of a change's body: a spec of the largest size, and what Bull Board puts around it. */
const largestChange = 4 * 1024 * 1024

/** What the board's page asks for. */
const shownStates = new Set(['latest', 'active', 'waiting', 'waiting-children', 'prioritized', 'completed', 'failed', 'delayed', 'paused'])

/** Bull Board calls it its own fault too when it is asked for a state that there is none of, a job is not as its page showed it, or Redis can't be used. */
const asOwnMistakes = (redis: Redis): MiddlewareHandler => async (context, next) => {
  const state = context.req.query('status')
  const [, ofAll] = /\/api\/queues\/[^/]+\/(?:clean|retry)\/([^/]+)$/.exec(context.req.path) ?? []
  if (context.req.method === 'PUT' && ofAll !== undefined && ofAll !== 'wait' && !shownStates.has(ofAll)) return context.json({ error: `status: must be one of ${[...shownStates].join(', ')}` }, 400)
  if (state !== undefined && !shownStates.has(state)) return context.json({ error: `status: must be one of ${[...shownStates].join(', ')}` }, 400)
  await next()
  if (context.res.status !== 500) return undefined
  const mistake = mistakeIn(await context.res.clone().text(), redis)
  if (mistake !== null) context.res = context.json({ error: mistake.error }, mistake.status)
  return undefined
}

const common = { objectSrc: [`'none'`], formAction: [`'self'`], frameAncestors: [`'none'`] }

const boardHeaders = secureHeaders({
  xFrameOptions: 'DENY',
  referrerPolicy: 'no-referrer',
  contentSecurityPolicy: {
    defaultSrc: [`'self'`],
    // Bull Board's page sets style attributes; its scripts are all files.
    styleSrc: [`'self'`, `'unsafe-inline'`],
    scriptSrc: [`'self'`],
    imgSrc: [`'self'`, 'data:'],
    baseUri: [`'self'`],
    ...common,
  },
})

/** Of the pages of our own, which hold no script and no style themselves. */
const ownHeaders = secureHeaders({
  xFrameOptions: 'DENY',
  referrerPolicy: 'no-referrer',
  contentSecurityPolicy: { ...common, defaultSrc: [`'none'`], styleSrc: [`'self'`], scriptSrc: [`'self'`], connectSrc: [`'self'`], imgSrc: ['data:'], baseUri: [`'none'`] },
})

const securityHeaders: MiddlewareHandler = async (context, next) => await (/^\/(fleet|login)(\/|$)/.test(context.req.path) ? ownHeaders : boardHeaders)(context, next)

/** Whether only this machine can reach an address to listen on. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(host)
}

/**
 * A web page that somebody on this machine looks at can make its own name resolve to 127.0.0.1 and then read what
 * listens there. Such requests bear the page's name as their host; without a password they are refused.
 */
const onlyLoopbackNames: MiddlewareHandler = async (context, next) => {
  const { hostname } = new URL(context.req.url)
  if (!isLoopback(hostname.replace(/^\[|\]$/g, ''))) {
    return context.text(`The host "${hostname}" is not this machine; open the board as http://127.0.0.1, or set a password.`, 403)
  }
  await next()
  return undefined
}

/** Whatever Bull Board's next release can change: this board changes nothing. */
const onlyReads: MiddlewareHandler = async (context, next) => {
  if (['GET', 'HEAD'].includes(context.req.method)) { await next(); return; }
  context.header('allow', 'GET, HEAD')
  return context.text('This board is read-only; start it with --writable to change jobs.', 405)
}

/**
 * Bull Board's Edit and Duplicate begin with what it shows of a job, where values are masked and long texts cut. Saved so, a job would
 * run with that.
 */
const onlyWholeData: MiddlewareHandler = async (context, next) => {
  if (['GET', 'HEAD'].includes(context.req.method)) { await next(); return; }
  // Bull Board reads a body as JSON whatever it is called.
  const body: unknown = await context.req.raw.clone().json().catch(() => null)
  if (!holdsCut(body)) { await next(); return; }
  return context.json({ error: 'Not saved: the text holds masked or cut values in place of the job’s own. Write them out, or enqueue the job from its source.' }, 422)
}

/** Notes what Bull Board has changed, in the words of its own API. */
function audited({ operations }: MonitoredQueue, operatorFor: (context: Context) => BoardOperator): MiddlewareHandler {
  return async (context, next) => {
    await next()
    const { method, path } = context.req
    if (['GET', 'HEAD'].includes(method) || context.res.status >= 400) return
    // What was done is done.
    await operations.audit(operatorFor(context), 'bullBoard', [`${method} ${path}`.slice(0, 500)]).catch((error: unknown) => process.emitWarning(`the audit log could not be written: ${errorMessage(error)}`))
  }
}

/** Changes are taken only from the board's own pages, also where no token is asked for. */
const onlySameOriginChanges: MiddlewareHandler = async (context, next) => {
  if (!['GET', 'HEAD'].includes(context.req.method)) {
    const site = context.req.header('sec-fetch-site')
    const origin = context.req.header('origin')
    const foreign = site === undefined ? origin !== undefined && origin !== new URL(context.req.url).origin : site !== 'same-origin' && site !== 'none'
    if (foreign) return context.text('Changes are taken only from the board’s own pages.', 403)
  }
  await next()
  return undefined
}

/** The page asks a font service for its fonts, which tells that service who looks at the board. */
const withoutWebFonts: MiddlewareHandler = async (context, next) => {
  await next()
  if (context.res.headers.get('content-type')?.startsWith('text/html') !== true) return
  const page = await context.res.text()
  context.res = context.html(page.replace(/<link[^>]*href="https:\/\/fonts\.[^>]*>/g, ''))
}
