import { z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { eventKinds, type JobEvent, type KeptEvent } from '../events/index.js'
import type { JobStatus } from '../job/status.js'
import { maySee } from './caller.js'
import { type ApiApp, type ApiContext, type Env, guard, problems, route } from './context.js'
import { eventStream, type ServerSentEvent } from './event-stream.js'
import { visibleJob } from './job-routes.js'
import { NewEvents } from './new-events.js'
import { malformed } from './refusal.js'
import { componentRef } from './schemas.js'
import { StreamLimits } from './stream-limits.js'

const yesNo = z.enum(['true', 'false'], { error: 'must be "true" or "false"' })
/** @param data the component that an event's data is. */
const stream = (data: string) => ({ 'text/event-stream': { schema: { type: 'string' as const }, 'x-event-data': componentRef(data) } })
const lastEventId = z.object({ 'last-event-id': z.string().optional().describe('The id of the last event that was read; the next ones are sent.') })
const eventsPerRead = 100

/** What goes on, as server-sent events. */
export function addStreamRoutes(app: ApiApp, api: ApiContext): void {
  const limits = new StreamLimits()
  const newEvents = new NewEvents(api)

  app.openapi(
    route({
      method: 'get', path: '/v1/jobs/{jobId}/logs', operationId: 'streamJobLogs', tags: ['jobs'],
      summary: 'A job’s output: events `log` with `LogLine` as data, and `end` when no more comes',
      middleware: [guard(api, 'read')],
      request: {
        params: z.object({ jobId: z.string().min(1).max(200) }),
        headers: lastEventId,
        query: z.strictObject({
          follow: yesNo.optional().describe('Whether to wait for more until the job has ended. Default true.'),
          after: z.string().regex(/^\d{1,15}$/, 'must be the seq of a piece').optional().describe('As Last-Event-ID, which comes first.'),
        }),
      },
      responses: { 200: { description: 'The stream.', content: stream('LogLine') }, ...problems(404) },
    }),
    async (context) => {
      const id = context.req.valid('param').jobId
      const { follow = 'true', after } = context.req.valid('query')
      const last = context.req.header('last-event-id')
      if (last !== undefined && !/^\d{1,15}$/.test(last)) throw malformed('last-event-id: is none that this stream gave; leave it out to begin at the start')
      const { state } = await visibleJob(api, context.var.caller, id)
      return respond(context, api, limits, (signal) => logEvents(api, id, { follow: follow === 'true', after: Number(last ?? after ?? 0), signal }, state))
    },
  )

  app.openapi(
    route({
      method: 'get', path: '/v1/events', operationId: 'streamEvents', tags: ['events'],
      summary: 'The deployment’s events as CloudEvents, each named by its type; those of the key’s tenants alone',
      middleware: [guard(api, 'read')],
      request: {
        headers: lastEventId,
        query: z.strictObject({ after: z.string().regex(/^\d{1,19}-\d{1,19}$/, 'must be the sequence of an event').optional().describe('As Last-Event-ID, which comes first; 0-0 for all that are kept. Default: from now on.') }),
      },
      responses: { 200: { description: 'The stream.', content: stream('Event') } },
    }),
    async (context) => {
      const last = context.req.header('last-event-id')
      if (last !== undefined && !/^\d{1,19}-\d{1,19}$/.test(last)) throw malformed('last-event-id: is none that this stream gave; leave it out to begin now')
      const { caller } = context.var
      const from = last ?? context.req.valid('query').after ?? (await newEvents.last())
      return respond(context, api, limits, (signal) => kept(api, newEvents, from, signal, ({ event }) => event !== null && maySee(caller, tenantOf(event))), from)
    },
  )
}

function respond(context: Context<Env>, api: ApiContext, limits: StreamLimits, open: (signal: AbortSignal) => AsyncIterable<ServerSentEvent>, firstId?: string): Response {
  // Nobody would read its body.
  if (context.req.raw.method === 'HEAD') return context.body(null, 200, { 'content-type': 'text/event-stream; charset=utf-8' })
  const leave = limits.enter(context.var.caller.id)
  const { raw } = context.req
  return eventStream(open, {
    signal: AbortSignal.any([api.stop, raw.signal]),
    heartbeatMs: api.heartbeatMs,
    firstId,
    mayRead: async () => {
      await api.callerOf(raw)
    },
    onError: (error) => api.log.error({ err: error }, 'a stream of the HTTP API broke off'),
    onEnd: leave,
  })
}

/**
 * @param before the job's state before its log is read. Of what is not followed the end says that one: where the job ends meanwhile there may be more than was read.
 * @throws UnknownJobError for a job that is gone in the middle: whoever comes back is told so.
 */
async function* logEvents({ queue }: ApiContext, id: string, options: { readonly follow: boolean; readonly after: number; readonly signal: AbortSignal }, before: JobStatus['state']): AsyncGenerator<ServerSentEvent> {
  for await (const { data: _data, ...line } of queue.job(id).logs(options)) yield { event: 'log', id: String(line.seq), data: line }
  const { state } = await queue.job(id).status()
  yield { event: 'end', data: { state: options.follow ? state : before } }
}

async function* kept({ queue }: ApiContext, newEvents: NewEvents, from: string, signal: AbortSignal, wanted: (event: KeptEvent<JobEvent>) => boolean): AsyncGenerator<ServerSentEvent> {
  let after = from
  for (;;) {
    signal.throwIfAborted()
    const found = await queue.events.read({ from: { after }, limit: eventsPerRead, types: eventKinds })
    for (const each of found) {
      after = each.sequence
      if (wanted(each) && each.event !== null) yield { event: each.event.type, id: each.sequence, data: each.event }
    }
    if (found.length === 0) await newEvents.behind(after, signal)
  }
}

const ofTenant = z.object({ data: z.object({ tenant: z.string() }) })

function tenantOf(event: object): string | null {
  return ofTenant.safeParse(event).data?.data.tenant ?? null
}
