import { z } from '@hono/zod-openapi'
import { IdempotencyConflictError, UnknownJobError } from '../job/errors.js'
import { parseCarrier, type TraceCarrier } from '../job/trace-carrier.js'
import type { JobSpecInput } from '../job/spec.js'
import type { JobStatus } from '../job/status.js'
import { ResultTimeoutError } from '../producers/index.js'
import { audited } from './audit.js'
import { type Caller, listedTenants, maySee, ownSpec } from './caller.js'
import { type ApiApp, type ApiContext, bodyOf, guard, json, problems, requireStillIn, route } from './context.js'
import { once, withJobKeys } from './idempotency-key.js'
import { requireMayEnqueue, requireMayRetry } from './run-limits.js'
import { cancelSchema, manyJobsSchema, retrySchema } from './schemas.js'

const jobId = z.object({ jobId: z.string().min(1).max(200) })
const onFailed = z.strictObject({ onFailed: z.enum(['keep', 'rerun'], { error: 'must be "keep" or "rerun"' }).optional().describe('What becomes of a failed job that has the same idempotency key.') })
const idempotencyKey = z.object({ 'idempotency-key': z.string().optional().describe('A request that is sent again with its key, a quoted text, is answered as the first one was and does nothing. Remembered for a day.') })
const longestWaitMs = 60_000
const mostListed = 200

/** Jobs: enqueue, look at, cancel, run again. */
export function addJobRoutes(app: ApiApp, api: ApiContext): void {
  const { queue } = api

  app.openapi(
    route({
      method: 'post', path: '/v1/jobs', operationId: 'createJob', summary: 'Enqueue a job', tags: ['jobs'],
      middleware: [guard(api, 'write'), audited(api, 'createJob')],
      request: { query: onFailed, headers: idempotencyKey, body: { required: true, content: json('JobSpec') } },
      responses: { 201: { description: 'It waits; or, with an idempotency key that is known, the job that has it.', content: json('Enqueued') }, ...problems(400, 409, 413, 415) },
    }),
    async (context) => {
      const { value, bytes } = await bodyOf(context, api, z.unknown())
      const options = context.req.valid('query')
      return await once(context, api, bytes, async (jobKey) => {
        const [spec] = withJobKeys([ownSpec(context.var.caller, value)], jobKey)
        requireMayEnqueue(queue, context.var.caller, [spec])
        const { jobId: id } = await asGiven([value], () => queue.enqueue(spec as JobSpecInput, { ...options, ...traceOf(context.req.raw) }))
        context.set('targets', [id])
        return { status: 201, body: { jobId: id }, location: `jobs/${encodeURIComponent(id)}` }
      })
    },
  )

  app.openapi(
    route({
      method: 'post', path: '/v1/jobs/bulk', operationId: 'createJobs', summary: 'Enqueue up to 1,000 jobs: all of them, or none', tags: ['jobs'],
      middleware: [guard(api, 'write'), audited(api, 'createJobs')],
      request: { query: onFailed, headers: idempotencyKey, body: { required: true, content: json('ManyJobs') } },
      responses: { 201: { description: 'In the order given.', content: json('ManyEnqueued') }, ...problems(400, 409, 413, 415) },
    }),
    async (context) => {
      const { value, bytes } = await bodyOf(context, api, manyJobsSchema)
      const options = context.req.valid('query')
      return await once(context, api, bytes, async (jobKey) => {
        const specs = withJobKeys(value.jobs.map((spec) => ownSpec(context.var.caller, spec)), jobKey)
        requireMayEnqueue(queue, context.var.caller, specs, (index) => `jobs[${index}].`)
        const handles = await asGiven(value.jobs, () => queue.enqueueMany(specs as JobSpecInput[], { ...options, ...traceOf(context.req.raw) }))
        context.set('targets', handles.map((handle) => handle.jobId))
        return { status: 201, body: { jobs: handles.map((handle) => ({ jobId: handle.jobId })) } }
      })
    },
  )

  app.openapi(
    route({
      method: 'get', path: '/v1/jobs', operationId: 'listJobs', summary: 'Jobs, the newest first, a page at a time', tags: ['jobs'],
      middleware: [guard(api, 'read')],
      request: {
        query: z.strictObject({
          state: z.enum(['waiting', 'running', 'parked', 'succeeded', 'failed', 'cancelled'], { error: 'must be "waiting", "running", "parked", "succeeded", "failed" or "cancelled"' }).optional(),
          tenant: z.string().min(1, 'is empty; leave it out').max(100).optional(),
          repository: z.string().min(1, 'is empty; leave it out').max(200).optional(),
          since: z.iso.datetime({ offset: true, error: 'must be a time with its zone, such as "2026-12-01T08:00:00Z"' }).optional().describe('Only those that were enqueued then or later.'),
          error: z.string().regex(/^[A-Za-z_-]{1,60}$/, 'must be a kind of error such as "provider-down", or a code such as "SWY_STEP_FAILED"').optional().describe('Only ended jobs with an error of this kind, or with this code.'),
          limit: z.coerce.number({ error: 'must be a whole number' }).int('must be a whole number').min(1, `must be from 1 to ${mostListed}`).max(mostListed, `must be from 1 to ${mostListed}`).optional().describe('Default 50.'),
          cursor: z.string().max(10_000).optional().describe('Go on behind an earlier page; the other parameters must be the same.'),
        }),
      },
      responses: { 200: { description: 'A page.', content: json('JobList') } },
    }),
    async (context) => {
      const { tenant, since, ...rest } = context.req.valid('query')
      const page = await queue.list({ ...rest, tenant: listedTenants(context.var.caller, tenant), ...(since === undefined ? {} : { since: new Date(since) }) })
      return context.json({ jobs: [...page], cursor: page.cursor }, 200)
    },
  )

  app.openapi(
    route({
      method: 'get', path: '/v1/jobs/{jobId}', operationId: 'getJob', summary: 'Where a job stands, and its result', tags: ['jobs'],
      middleware: [guard(api, 'read')],
      request: {
        params: jobId,
        query: z.strictObject({
          waitMs: z.coerce.number({ error: 'must be a whole number of milliseconds' }).int('must be a whole number of milliseconds').min(0, 'must be at least 0').max(longestWaitMs, `must be at most ${longestWaitMs}`).optional()
            .describe('Answer when the job has ended, or after so many milliseconds with how it stands then.'),
        }),
      },
      responses: { 200: { description: 'The job.', content: json('Job') }, ...problems(404) },
    }),
    async (context) => {
      const id = context.req.valid('param').jobId
      const { waitMs = 0 } = context.req.valid('query')
      const job = await visibleJob(api, context.var.caller, id)
      if (waitMs === 0 || job.result !== null) return context.json(job, 200)
      await ended(api, id, waitMs, context.req.raw.signal)
      await requireStillIn(api, context)
      return context.json(await visibleJob(api, context.var.caller, id), 200)
    },
  )

  app.openapi(
    route({
      method: 'post', path: '/v1/jobs/{jobId}/cancel', operationId: 'cancelJob', summary: 'Cancel a job', tags: ['jobs'],
      middleware: [guard(api, 'write'), audited(api, 'cancelJob')],
      request: { params: jobId, headers: idempotencyKey, body: { required: false, content: json('Cancel') } },
      responses: { 200: { description: 'What came of it.', content: json('Cancelled') }, ...problems(400, 404, 409, 413, 415) },
    }),
    async (context) => {
      const id = context.req.valid('param').jobId
      const { value, bytes } = await bodyOf(context, api, cancelSchema, { optional: true })
      await requireVisible(api, context.var.caller, id)
      return await once(context, api, bytes, async () => ({ status: 200, body: { outcome: await queue.job(id).cancel(value.reason ?? `cancelled by ${context.var.caller.name}`) } }))
    },
  )

  app.openapi(
    route({
      method: 'post', path: '/v1/jobs/{jobId}/retry', operationId: 'retryJob', summary: 'Run an ended job again, from the start or from its last checkpoint', tags: ['jobs'],
      middleware: [guard(api, 'write'), audited(api, 'retryJob')],
      request: { params: jobId, headers: idempotencyKey, body: { required: false, content: json('Retry') } },
      responses: { 200: { description: 'What came of it.', content: json('Retried') }, ...problems(400, 404, 409, 413, 415) },
    }),
    async (context) => {
      const id = context.req.valid('param').jobId
      const { value, bytes } = await bodyOf(context, api, retrySchema, { optional: true })
      await requireVisible(api, context.var.caller, id)
      await requireMayRetry(queue, context.var.caller, id)
      return await once(context, api, bytes, async () => ({ status: 200, body: { outcome: await queue.retry(id, value) } }))
    },
  )
}

/** A job that the caller may see; another tenant's is as unknown as one that never was. @throws UnknownJobError. */
export async function visibleJob({ queue }: ApiContext, caller: Caller, id: string): Promise<JobStatus> {
  const [status] = await queue.statuses([id])
  if (status == null || !maySee(caller, status.tenant)) throw new UnknownJobError(id)
  return status
}

/** As `visibleJob`, for calls that say themselves that a job is unknown. */
export async function requireVisible(api: ApiContext, caller: Caller, id: string): Promise<void> {
  if (caller.tenants !== null) await visibleJob(api, caller, id)
}

/** Waits until a job has ended, the time is over, the API stops or nobody waits any more. */
async function ended({ queue, stop }: ApiContext, id: string, timeoutMs: number, gone: AbortSignal): Promise<void> {
  const signal = AbortSignal.any([stop, gone])
  try {
    await queue.job(id).result({ timeoutMs, signal })
  } catch (error) {
    if (!(error instanceof ResultTimeoutError) && !signal.aborted) throw error
  }
}

/** Names a key of idempotency as it was sent, where it went to the queue as the tenant's own. */
/** The span that a request bears, by its headers `traceparent` and `tracestate`; a wrong one is none. */
function traceOf({ headers }: Request): { readonly trace?: TraceCarrier } {
  const trace = parseCarrier({ traceparent: headers.get('traceparent'), tracestate: headers.get('tracestate') })
  return trace === null ? {} : { trace }
}

async function asGiven<T>(specs: readonly unknown[], enqueue: () => Promise<T>): Promise<T> {
  try {
    return await enqueue()
  } catch (error) {
    if (!(error instanceof IdempotencyConflictError) || !error.idempotencyKey.startsWith('tenant:')) throw error
    if (specs.length > 1) throw new IdempotencyConflictError('of one of the jobs', error.jobId)
    const [spec] = specs
    const key = typeof spec === 'object' && spec !== null && 'idempotencyKey' in spec ? String(spec.idempotencyKey) : error.idempotencyKey
    throw new IdempotencyConflictError(key, error.jobId)
  }
}
