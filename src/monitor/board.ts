import { randomBytes } from 'node:crypto'
import type { AddressInfo } from 'node:net'
import type { Server } from 'node:http'
import { createBullBoard } from '@bull-board/api'
import { HonoAdapter } from '@bull-board/hono'
import { createAdaptorServer } from '@hono/node-server'
import { serveStatic } from '@hono/node-server/serve-static'
import { Queue } from 'bullmq'
import { Hono, type MiddlewareHandler } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { secureHeaders } from 'hono/secure-headers'
import type { Redis } from 'ioredis'
import { errorMessage, InvalidInputError } from '../job/errors.js'
import { boardAccess, type BoardAccess } from './board-access.js'
import { holdsCut, shownValue } from './formatters.js'
import type { Scrape } from './monitor-server.js'
import { WebhookDeliveries } from './webhook-deliveries.js'
import { WebhooksAdapter } from './webhooks-adapter.js'
import { WaitingAdapter, type ReasonLookup } from './waiting-adapter.js'

export interface BoardQueue {
  readonly name: string
  readonly prefix: string
  readonly description?: string
  /** What its jobs wait for, asked for the jobs that a page shows. */
  readonly reasons: ReasonLookup
}

export interface BoardOptions {
  /** An open connection with `maxRetriesPerRequest` set; it stays the caller's to close. */
  readonly redis: Redis
  /** The BullMQ queues to show. */
  readonly queues: readonly BoardQueue[]
  readonly host: string
  /** 0 for any free port. */
  readonly port: number
  /**
   * Asked for by every page but `/healthz`. Left out: a password is made, and `loginUrl` is the way in. `none`: nobody is asked, which
   * lets in whatever runs on this machine. On another address than loopback a password must be given.
   */
  readonly credentials?: { readonly username: string; readonly password: string } | 'none' | undefined
  /** The deployment's prefix, to show the deliveries of its webhooks as a queue. Left out: they are not shown. */
  readonly webhooks?: { readonly prefix: string } | undefined
  /** What `GET /metrics` answers, to those who may look. Left out: there is none. */
  readonly metrics?: (() => Promise<Scrape>) | undefined
  /** Whether jobs can be retried, promoted and removed. Default false: every change answers 405. */
  readonly writable?: boolean
}

export interface Board {
  /** `http://host:port/` without credentials. */
  readonly url: string
  /** A link that logs a browser in, until this board is closed; for whoever started it. The URL alone with `credentials: 'none'`. */
  readonly loginUrl: string
  close(): Promise<void>
}

/**
 * Serves Bull Board, and `GET /healthz`, which answers 200 while Redis does and 503 otherwise.
 * @throws InvalidInputError when the address can't be listened on, or is open to others and there are no credentials.
 */
export async function startBoard(options: BoardOptions): Promise<Board> {
  if (typeof options.credentials !== 'object' && !isLoopback(options.host)) {
    throw new InvalidInputError(
      `board.host: "${options.host}" can be reached by others, so the board needs a password; set SWITCHYARD_BOARD_PASSWORD, or listen on 127.0.0.1`,
    )
  }
  const queues = options.queues.map((shown) => ({ shown, queue: new Queue(shown.name, { prefix: shown.prefix, connection: options.redis, skipWaitingForReady: true }) }))
  // An error event that nobody listens to ends the process; the health check tells of a Redis that is gone.
  for (const { queue } of queues) queue.on('error', () => undefined)
  const closeQueues = () => Promise.all(queues.map(({ queue }) => queue.close()))
  const { credentials = { username: 'admin', password: randomBytes(24).toString('base64url') } } = options
  const access = credentials === 'none' ? null : boardAccess({ ...credentials, now: Date.now })
  const server = createAdaptorServer({ fetch: application(options, queues, access).fetch }) as Server
  try {
    await listen(server, options.host, options.port)
  } catch (error) {
    await closeQueues()
    throw error
  }
  const { port } = server.address() as AddressInfo
  const url = `http://${options.host.includes(':') ? `[${options.host}]` : options.host}:${port}/`
  return {
    url,
    loginUrl: `${url}${access?.loginPath ?? ''}`,
    async close() {
      await new Promise<void>((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      })
      await closeQueues()
    },
  }
}

/** Whether only this machine can reach an address to listen on. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(host)
}

function application(options: BoardOptions, queues: readonly { readonly queue: Queue; readonly shown: BoardQueue }[], access: BoardAccess | null): Hono {
  const writable = options.writable ?? false
  const adapters = queues.map(({ queue, shown: { description, reasons } }) => {
    const adapter = new WaitingAdapter(queue, { readOnlyMode: !writable, ...(description === undefined ? {} : { description }) }, reasons)
    adapter.setFormatter('data', (data: unknown) => shownValue(data))
    adapter.setFormatter('returnValue', (value: unknown) => shownValue(value))
    adapter.setFormatter('progress', (value: unknown) => shownValue(value))
    return adapter
  })
  const { webhooks } = options
  const deliveries = webhooks === undefined ? [] : [new WebhooksAdapter(new WebhookDeliveries(options.redis, webhooks.prefix), { readOnlyMode: !writable, description: 'deliveries of events' })]
  for (const adapter of deliveries) adapter.setFormatter('data', (data: unknown) => shownValue(data))
  const serverAdapter = new HonoAdapter(serveStatic)
  createBullBoard({
    queues: [...adapters, ...deliveries],
    serverAdapter,
    options: { uiConfig: { boardTitle: 'Switchyard', hideRedisDetails: true, hideDocsLink: true } },
  })

  const app = new Hono()
  app.use(securityHeaders)
  app.get('/healthz', async (context) => {
    const healthy = await options.redis.ping().then(() => true, () => false)
    return context.json({ status: healthy ? 'ok' : 'redis unavailable' }, healthy ? 200 : 503)
  })
  if (typeof options.credentials !== 'object') app.use(onlyLoopbackNames)
  app.use(onlySameOriginChanges)
  if (access !== null) {
    app.route('/', access.routes)
    app.use(access.guard)
  }
  if (writable) app.use(bodyLimit({ maxSize: largestChange, onError: (context) => context.text(`A change is at most ${largestChange} bytes.`, 413) }), onlyWholeData)
  else app.use(onlyReads)
  const { metrics } = options
  if (metrics !== undefined) {
    app.get('/metrics', async (context) => {
      const { contentType, text } = await metrics()
      return context.body(text, 200, { 'content-type': contentType })
    })
  }
  app.use(withoutWebFonts)
  app.use(asOwnMistakes)
  app.route('/', serverAdapter.registerPlugin())
  return app
}

/** Of a change's body: a spec of the largest size, and what Bull Board puts around it. */
const largestChange = 4 * 1024 * 1024

/** What the board's page asks for. */
const shownStates = new Set(['latest', 'active', 'waiting', 'waiting-children', 'prioritized', 'completed', 'failed', 'delayed', 'paused'])

/** Bull Board calls it its own fault too when it is asked for a state that there is none of, or a job is not as its page showed it. */
const asOwnMistakes: MiddlewareHandler = async (context, next) => {
  const state = context.req.query('status')
  if (state !== undefined && !shownStates.has(state)) return context.json({ error: `status: must be one of ${[...shownStates].join(', ')}` }, 400)
  await next()
  if (context.res.status !== 500) return undefined
  const said = await context.res.clone().text()
  if (/is not in the [\w-]+ state|Missing (key|lock) for job/.test(said)) context.res = context.json({ error: 'The job is not as the page shows it any more; load the page again.' }, 409)
  return undefined
}

const securityHeaders = secureHeaders({
  xFrameOptions: 'DENY',
  referrerPolicy: 'no-referrer',
  contentSecurityPolicy: {
    defaultSrc: [`'self'`],
    // The page sets style attributes; its scripts are all files.
    styleSrc: [`'self'`, `'unsafe-inline'`],
    scriptSrc: [`'self'`],
    imgSrc: [`'self'`, 'data:'],
    objectSrc: [`'none'`],
    baseUri: [`'self'`],
    formAction: [`'self'`],
    frameAncestors: [`'none'`],
  },
})

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

async function listen(server: Server, host: string, port: number): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(new InvalidInputError(`board: can't listen on ${host}:${port} (${errorMessage(error)}); choose another board.host or board.port`)))
    server.listen(port, host, resolve)
  })
}
