/** @jsxRuntime automatic */
/** @jsxImportSource hono/jsx */
import { Hono, type Context } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { streamSSE } from 'hono/streaming'
import { CheckpointGoneError, errorMessage, InvalidInputError, KeyTakenError, RedisUnavailableError, UnknownJobError, UnknownNameError } from '../job/errors.js'
import type { JobView } from '../job/fleet.js'
import { Feed, type FeedEvent } from './feed.js'
import type { Links } from '../job/page-links.js'
import { assets, assetsVersion } from './pages/assets.js'
import { fleetFragments, FleetPage, fleetParts } from './pages/fleet-page.js'
import { endedActs, jobFragments, JobPage } from './pages/job-page.js'
import { Sentence, type Place } from './pages/layout.js'
import { jobPath, markup } from './pages/parts.js'
import { operated, operateRoutes } from './operate-routes.js'
import type { BoardOperator, MonitoredQueue } from './source.js'

/** The pages of our own: the fleet, a job, and what happens to them by and by. */
export interface FleetRoutesOptions {
  readonly queue: MonitoredQueue
  readonly base: string
  readonly writable: boolean
  readonly links: Links
  /** Goes along with every form that this visitor sends. */
  readonly tokenFor: (context: Context) => string
  /** Who sends a request, for the audit log. */
  readonly operatorFor: (context: Context) => BoardOperator
  /** How often is looked at most, in milliseconds. */
  readonly everyMs?: number | undefined
  /** Told of what was changed, and by whom if that is known. */
  readonly onChange?: ((change: { readonly action: 'cancelJob' | 'retryJob'; readonly jobId: string }) => void) | undefined
}

const defaultEveryMs = 2_000
/** A browser comes back by itself, and is asked for its session again. */
const longestStreamMs = 5 * 60_000
const mostStreams = 200
/** Jobs whose looks are remembered. */
const mostJobs = 200
/** Of a form. */
export const longestForm = 4_096

/** What a page says after a change, by what stands in its address. */
const said: Readonly<Record<string, string>> = {
  cancelled: 'The job is cancelled.',
  requested: 'The job is asked to stop; its work so far is saved first.',
  ended: 'The job had ended before.',
  retried: 'The job runs again.',
  pending: 'The job waits or runs already; nothing was done.',
  changed: 'The job has succeeded meanwhile, by another run; nothing was done.',
}

/** Style and script: for everybody, so that the login has them too. */
export function assetRoutes(): Hono {
  const app = new Hono()
  for (const [name, { type, text }] of Object.entries(assets)) {
    app.get(`/fleet/${name}`, (context) => context.body(text, 200, { 'content-type': type, 'cache-control': context.req.url.endsWith(`?${assetsVersion}`) ? 'public, max-age=31536000, immutable' : 'no-cache' }))
  }
  return app
}

export function fleetRoutes({ queue, base, writable, links, tokenFor, operatorFor, everyMs = defaultEveryMs, onChange }: FleetRoutesOptions): Hono {
  const app = new Hono()
  const placeOf = (context: Context): Place => ({ base, writable, token: writable ? tokenFor(context) : '' })
  // What is sent to all who watch can't hold a token: forms are not among it once they are there.
  const shared = { base, writable: false, token: '', links }
  const fleet = new Feed(async () => {
    const state = await queue.fleet()
    return { queue: state.queue, parts: fleetParts(state, { base, writable }) }
  }, ({ parts }) => fleetFragments(parts), everyMs)
  const jobs = new Map<string, Feed<JobView>>()
  let streams = 0

  function jobFeed(jobId: string): Feed<JobView> {
    const known = jobs.get(jobId)
    if (known !== undefined) return known
    const feed = new Feed(async () => {
      const view = await queue.view(jobId)
      if (view === null) throw new UnknownJobError(jobId)
      return view
    }, (view) => [...jobFragments(view, shared).filter(({ id }) => id !== 'acts'), ...(view.status.result === null ? [] : [endedActs(jobId, base)])], everyMs)
    jobs.set(jobId, feed)
    // The one that was made first goes; who watches it goes on.
    for (const first of jobs.keys()) {
      if (jobs.size <= mostJobs) break
      jobs.delete(first)
    }
    return feed
  }

  /** @param seen how the job had ended on the page from which it is asked to run again; that may be hours old. */
  async function hasSucceededSince(jobId: string, seen: string | undefined): Promise<boolean> {
    if (seen === undefined || seen === 'succeeded') return false
    const [status] = await queue.statuses([jobId])
    return status?.result?.status === 'succeeded'
  }

  async function changed(context: Context, action: 'cancelJob' | 'retryJob', jobId: string): Promise<void> {
    onChange?.({ action, jobId })
    // What was done is done.
    await queue.operations.audit(operatorFor(context), action, [jobId]).catch((error: unknown) => process.emitWarning(`the audit log could not be written: ${errorMessage(error)}`))
  }

  function live<State>(context: Context, feed: Feed<State>): Response {
    if (streams >= mostStreams) return context.text('Too many pages are live; load this one again later.', 503, { 'retry-after': '30' })
    streams += 1
    const since = Number(context.req.query('since') ?? 0)
    context.header('x-accel-buffering', 'no')
    return streamSSE(context, async (stream) => {
      const over = AbortSignal.timeout(longestStreamMs)
      const gone = new AbortController()
      stream.onAbort(() => gone.abort())
      try {
        await stream.write(': \n\n')
        for await (const event of feed.watch(AbortSignal.any([over, gone.signal]), since)) await stream.writeSSE(sent(event))
      } finally {
        streams -= 1
      }
    })
  }

  app.use('/fleet/*', async (context, next) => {
    await next()
    if (context.res.headers.get('content-type')?.startsWith('text/html') === true) context.res.headers.set('cache-control', 'no-store')
  })
  app.get('/fleet', async (context) => {
    const look = await fleet.look()
    return page(context, <FleetPage {...placeOf(context)} parts={look.state.parts} queue={look.state.queue} said={operated(context.req.query('said'), context.req.query('ignored'))} live={`${base}/fleet/live?since=${look.number}`} />)
  })
  app.get('/fleet/live', (context) => live(context, fleet))
  app.get('/fleet/find', (context) => {
    const jobId = (context.req.query('job') ?? '').trim()
    return context.redirect(jobPath(base, jobId), 303)
  })
  app.get('/fleet/jobs/:jobId', async (context) => {
    const jobId = context.req.param('jobId')
    const { number, state } = await jobFeed(jobId).look()
    const path = jobPath(base, jobId)
    return page(context, <JobPage {...placeOf(context)} links={links} view={state} said={said[context.req.query('said') ?? ''] ?? null} asked={context.req.query('ask') === 'cancel'} live={state.status.result === null ? `${path}/live?since=${number}` : null} />)
  })
  app.get('/fleet/jobs/:jobId/live', (context) => live(context, jobFeed(context.req.param('jobId'))))
  app.post('/fleet/jobs/:jobId/cancel', formLimit, async (context) => {
    const jobId = context.req.param('jobId')
    const form = new URLSearchParams(await context.req.text())
    const reason = (form.get('reason') ?? '').trim().slice(0, 500)
    const outcome = await queue.job(jobId).cancel(reason === '' ? 'cancelled from its page' : reason)
    if (outcome !== 'ended') await changed(context, 'cancelJob', jobId)
    jobs.delete(jobId)
    return context.redirect(`${jobPath(base, jobId)}?said=${outcome}`, 303)
  })
  app.post('/fleet/jobs/:jobId/retry', formLimit, async (context) => {
    const jobId = context.req.param('jobId')
    const from = new URLSearchParams(await context.req.text()).get('from')
    if (from !== 'start' && from !== 'checkpoint') throw new InvalidInputError('from: must be "start" or "checkpoint"')
    const outcome = (await hasSucceededSince(jobId, context.req.query('seen'))) ? 'changed' : await queue.retry(jobId, { from })
    if (outcome === 'retried') await changed(context, 'retryJob', jobId)
    jobs.delete(jobId)
    return context.redirect(`${jobPath(base, jobId)}?said=${outcome}`, 303)
  })
  app.post('/fleet/operate/*', formLimit)
  app.route('/', operateRoutes({ to: queue.operations, base, operatorFor, onDone: () => fleet.forget() }))
  app.all('/fleet/*', (context) => page(context, <Sentence {...placeOf(context)} title="No such page" text="There is nothing at this address." />, 404))
  app.onError((error, context) => {
    const [status, title] = refusalOf(error)
    return page(context, <Sentence {...placeOf(context)} title={title} text={status === 500 ? 'The page could not be made; the process that serves it has said why.' : errorMessage(error)} />, status)
  })
  return app
}

function refusalOf(error: unknown): readonly [status: 404 | 409 | 422 | 503 | 500, title: string] {
  if (error instanceof UnknownJobError) return [404, 'No such job']
  if (error instanceof UnknownNameError) return [404, 'Not done']
  if (error instanceof CheckpointGoneError) return [409, 'Its checkpoint is gone']
  if (error instanceof KeyTakenError) return [409, 'Another job has its concurrency key']
  if (error instanceof InvalidInputError) return [422, 'Not done']
  if (error instanceof RedisUnavailableError) return [503, 'Redis is away']
  process.emitWarning(error instanceof Error ? error : errorMessage(error))
  return [500, 'Something went wrong']
}

const formLimit = bodyLimit({ maxSize: longestForm, onError: (context) => context.text('The form is too large.', 413) })

function page(context: Context, html: unknown, status: 200 | 404 | 409 | 422 | 503 | 500 = 200): Response {
  return context.body(`<!doctype html>${markup(html)}`, status, { 'content-type': 'text/html; charset=utf-8', 'cache-control': 'no-store' })
}

function sent(event: FeedEvent): { readonly event: string; readonly data: string } {
  return { event: event.event, data: JSON.stringify(event.event === 'change' ? event.parts : event.text) }
}
