import { z } from '@hono/zod-openapi'
import type { Context, MiddlewareHandler } from 'hono'
import type { Operator } from '../producers/index.js'
import { parseWhere } from '../producers/index.js'
import { ApiKeys, type NewApiKey } from './api-keys.js'
import { audited } from './audit.js'
import { requireAllTenants } from './caller.js'
import { requireNoRunLimits } from './run-limits.js'
import { type ApiApp, type ApiContext, bodyOf, type Env, guard, json, problems, route } from './context.js'
import { operateRequests as requests } from './operate-schemas.js'

const provider = z.object({ provider: z.string().min(1).max(100) })
const tenant = z.object({ tenant: z.string().min(1).max(200) })
const consumer = z.object({ consumer: z.string().min(1).max(200) })
const refusals = problems(400, 404, 413, 415)

/** What operators do: drain, pause, limits, shares, many jobs at once. An admin's key; each change is in the audit log by the step that makes it. */
export function addOperateRoutes(app: ApiApp, api: ApiContext): void {
  addProviderRoutes(app, api)
  addTenantRoutes(app, api)
  addQueueRoutes(app, api)
  addBulkRoutes(app, api)
  addConsumerRoutes(app, api)
  addEventRoutes(app, api)
  addKeyRoutes(app, api)
}

const forAll: MiddlewareHandler<Env> = async (context, next) => {
  requireAllTenants(context.var.caller)
  await next()
}

const admin = (api: ApiContext) => [guard(api, 'admin'), forAll]

function operatorOf(context: Context<Env>): Operator {
  const { id, name } = context.var.caller
  return { id, name }
}

function body(component: string, required: boolean) {
  return { required, content: json(component) }
}

function addProviderRoutes(app: ApiApp, api: ApiContext): void {
  const { operations } = api.queue
  app.openapi(
    route({
      method: 'post', path: '/v1/providers/{provider}/drain', operationId: 'drainProvider', summary: 'Have no new sandboxes made at a provider; what runs there goes on', tags: ['operate'],
      middleware: admin(api),
      request: { params: provider, body: body('DrainProvider', false) },
      responses: { 200: { description: 'What changed.', content: json('ProviderDrained') }, ...refusals },
    }),
    async (context) => {
      const { value } = await bodyOf(context, api, requests.DrainProvider, { optional: true })
      return context.json(await operations.drainProvider(context.req.valid('param').provider, { ...value, by: operatorOf(context) }), 200)
    },
  )
  app.openapi(
    route({
      method: 'post', path: '/v1/providers/{provider}/resume', operationId: 'resumeProvider', summary: 'Have sandboxes made there again', tags: ['operate'],
      middleware: admin(api),
      request: { params: provider },
      responses: { 200: { description: 'What changed.', content: json('ProviderDrained') }, ...problems(404) },
    }),
    async (context) => context.json(await operations.resumeProvider(context.req.valid('param').provider, { by: operatorOf(context) }), 200),
  )
  app.openapi(
    route({
      method: 'put', path: '/v1/providers/{provider}/limit', operationId: 'limitProvider', summary: 'Set another limit than the configured one, in every consumer', tags: ['operate'],
      middleware: admin(api),
      request: { params: provider, body: body('LimitProvider', true) },
      responses: { 200: { description: 'What changed.', content: json('ProviderLimited') }, ...refusals },
    }),
    async (context) => {
      const { sandboxes, ...options } = (await bodyOf(context, api, requests.LimitProvider)).value
      return context.json(await operations.limitProvider(context.req.valid('param').provider, sandboxes, { ...options, by: operatorOf(context) }), 200)
    },
  )
  app.openapi(
    route({
      method: 'delete', path: '/v1/providers/{provider}/limit', operationId: 'resetProviderLimit', summary: 'Back to the configured limit', tags: ['operate'],
      middleware: admin(api),
      request: { params: provider },
      responses: { 200: { description: 'What changed.', content: json('ProviderLimited') }, ...problems(404) },
    }),
    async (context) => context.json(await operations.limitProvider(context.req.valid('param').provider, null, { by: operatorOf(context) }), 200),
  )
}

function addTenantRoutes(app: ApiApp, api: ApiContext): void {
  const { operations } = api.queue
  app.openapi(
    route({
      method: 'post', path: '/v1/tenants/{tenant}/pause', operationId: 'pauseTenant', summary: 'Have none of a tenant’s waiting jobs begun; those that run go on', tags: ['operate'],
      middleware: admin(api),
      request: { params: tenant, body: body('PauseTenant', false) },
      responses: { 200: { description: 'What changed.', content: json('TenantPaused') }, ...refusals },
    }),
    async (context) => {
      const { value } = await bodyOf(context, api, requests.PauseTenant, { optional: true })
      return context.json(await operations.pauseTenant(context.req.valid('param').tenant, { ...value, by: operatorOf(context) }), 200)
    },
  )
  app.openapi(
    route({
      method: 'post', path: '/v1/tenants/{tenant}/resume', operationId: 'resumeTenant', summary: 'Have its jobs begun again', tags: ['operate'],
      middleware: admin(api),
      request: { params: tenant },
      responses: { 200: { description: 'What changed.', content: json('TenantPaused') }, ...problems(404) },
    }),
    async (context) => context.json(await operations.resumeTenant(context.req.valid('param').tenant, { by: operatorOf(context) }), 200),
  )
  app.openapi(
    route({
      method: 'put', path: '/v1/tenants/{tenant}/share', operationId: 'shareTenant', summary: 'Give a tenant another share of the places than the configured one', tags: ['operate'],
      middleware: admin(api),
      request: { params: tenant, body: body('ShareTenant', true) },
      responses: { 200: { description: 'What changed.', content: json('TenantShared') }, ...refusals },
    }),
    async (context) => {
      const { weight, cap, ...options } = (await bodyOf(context, api, requests.ShareTenant)).value
      return context.json(await operations.shareTenant(context.req.valid('param').tenant, { weight, cap }, { ...options, by: operatorOf(context) }), 200)
    },
  )
  app.openapi(
    route({
      method: 'delete', path: '/v1/tenants/{tenant}/share', operationId: 'resetTenantShare', summary: 'Back to the configured share', tags: ['operate'],
      middleware: admin(api),
      request: { params: tenant },
      responses: { 200: { description: 'What changed.', content: json('TenantShared') }, ...problems(404) },
    }),
    async (context) => context.json(await operations.shareTenant(context.req.valid('param').tenant, null, { by: operatorOf(context) }), 200),
  )
}

function addQueueRoutes(app: ApiApp, api: ApiContext): void {
  const { operations } = api.queue
  app.openapi(
    route({
      method: 'get', path: '/v1/queue', operationId: 'getQueue', summary: 'Whether the queue is paused, and how many jobs wait and run', tags: ['operate'],
      middleware: [guard(api, 'read'), forAll],
      responses: { 200: { description: 'The queue.', content: json('Queue') } },
    }),
    async (context) => context.json(await operations.queue(), 200),
  )
  app.openapi(
    route({
      method: 'post', path: '/v1/queue/pause', operationId: 'pauseQueue', summary: 'Have no job of this queue begun or gone on with; those that run go on', tags: ['operate'],
      middleware: admin(api),
      request: { body: body('PauseQueue', false) },
      responses: { 200: { description: 'What changed.', content: json('QueuePaused') }, ...problems(413, 415) },
    }),
    async (context) => {
      const { value } = await bodyOf(context, api, requests.PauseQueue, { optional: true })
      return context.json(await operations.pauseQueue({ ...value, by: operatorOf(context) }), 200)
    },
  )
  app.openapi(
    route({
      method: 'post', path: '/v1/queue/resume', operationId: 'resumeQueue', summary: 'Have its jobs begun again', tags: ['operate'],
      middleware: admin(api),
      responses: { 200: { description: 'What changed.', content: json('QueuePaused') } },
    }),
    async (context) => context.json(await operations.resumeQueue({ by: operatorOf(context) }), 200),
  )
  app.openapi(
    route({
      method: 'post', path: '/v1/queue/drain', operationId: 'drainQueue', summary: 'End all jobs that wait, each as cancelled; 1,000 at most in a request', tags: ['operate'],
      middleware: admin(api),
      request: { body: body('DrainQueue', true) },
      responses: { 200: { description: 'What was done.', content: json('BulkResult') }, ...problems(413, 415) },
    }),
    async (context) => {
      const { reason, dryRun } = (await bodyOf(context, api, requests.DrainQueue)).value
      return context.json(await operations.drainQueue({ reason, dryRun, limit: 1_000, by: operatorOf(context) }), 200)
    },
  )
}

function addBulkRoutes(app: ApiApp, api: ApiContext): void {
  const { operations } = api.queue
  app.openapi(
    route({
      method: 'post', path: '/v1/operations/retry-jobs', operationId: 'retryJobs', summary: 'Run all ended jobs again that are found; without a state the failed ones', tags: ['operate'],
      middleware: admin(api),
      request: { body: body('RetryJobs', true) },
      responses: { 200: { description: 'What was done.', content: json('BulkResult') }, ...problems(413, 415) },
    }),
    async (context) => {
      requireNoRunLimits(context.var.caller)
      const { where, ...options } = (await bodyOf(context, api, requests.RetryJobs)).value
      return context.json(await operations.retryJobs(parseWhere(where, Date.now()), { ...options, by: operatorOf(context) }), 200)
    },
  )
  app.openapi(
    route({
      method: 'post', path: '/v1/operations/cancel-jobs', operationId: 'cancelJobs', summary: 'Cancel all jobs that are found; without a state those that have not ended', tags: ['operate'],
      middleware: admin(api),
      request: { body: body('CancelJobs', true) },
      responses: { 200: { description: 'What was done.', content: json('BulkResult') }, ...problems(413, 415) },
    }),
    async (context) => {
      const { where, ...options } = (await bodyOf(context, api, requests.CancelJobs)).value
      return context.json(await operations.cancelJobs(parseWhere(where, Date.now()), { ...options, by: operatorOf(context) }), 200)
    },
  )
}

function addConsumerRoutes(app: ApiApp, api: ApiContext): void {
  app.openapi(
    route({
      method: 'get', path: '/v1/consumers', operationId: 'listConsumers', summary: 'The live consumers: where each runs, its jobs and places, what it has', tags: ['operate'],
      middleware: [guard(api, 'read'), forAll],
      responses: { 200: { description: 'Of all queues.', content: json('ConsumerList') } },
    }),
    async (context) => context.json({ consumers: await api.queue.consumers() }, 200),
  )
  app.openapi(
    route({
      method: 'post', path: '/v1/consumers/{consumer}/drain', operationId: 'drainConsumer', summary: 'Have a consumer hand its jobs over and stop, as SIGTERM does', tags: ['operate'],
      middleware: admin(api),
      request: { params: consumer, body: body('GiveReason', false) },
      responses: { 200: { description: 'What was done.', content: json('ConsumerDrained') }, ...refusals },
    }),
    async (context) => {
      const { value } = await bodyOf(context, api, requests.GiveReason, { optional: true })
      return context.json(await api.queue.operations.drainConsumer(context.req.valid('param').consumer, { ...value, by: operatorOf(context) }), 200)
    },
  )
}

function addEventRoutes(app: ApiApp, api: ApiContext): void {
  const { events } = api.queue
  app.openapi(
    route({
      method: 'get', path: '/v1/events/dead', operationId: 'listDeadEvents', summary: 'Events that a group of readers has given up, the oldest first', tags: ['operate'],
      middleware: admin(api),
      request: {
        query: z.strictObject({
          group: z.string({ error: 'is missing; give the name of a group of readers' }),
          after: z.string().regex(/^\d{1,19}-\d{1,19}$/, 'must be the id of a dead event').optional().describe('Go on behind this one.'),
          limit: z.coerce.number({ error: 'must be a whole number' }).int('must be a whole number').min(1, 'must be from 1 to 1000').max(1_000, 'must be from 1 to 1000').optional().describe('Default 50.'),
        }),
      },
      responses: { 200: { description: 'A page.', content: json('DeadEventList') } },
    }),
    async (context) => {
      const dead = await events.dead(context.req.valid('query'))
      return context.json({ events: dead.map(({ id, event, attempts, error, diedAtMs }) => ({ id, jobId: event?.subject ?? null, type: event?.type ?? null, attempts, error, diedAtMs })) }, 200)
    },
  )
  app.openapi(
    route({
      method: 'post', path: '/v1/events/redeliver', operationId: 'redeliverEvents', summary: 'Give dead events back to their group, with all their attempts before them', tags: ['operate'],
      middleware: [...admin(api), audited(api, 'redeliverEvents')],
      request: { body: body('RedeliverEvents', true) },
      responses: { 200: { description: 'How many were given back.', content: json('Redelivered') }, ...problems(413, 415) },
    }),
    async (context) => {
      const { group, ids } = (await bodyOf(context, api, requests.RedeliverEvents)).value
      context.set('targets', [group])
      return context.json({ group, redelivered: await events.redeliver({ group, ids }) }, 200)
    },
  )
}

function addKeyRoutes(app: ApiApp, api: ApiContext): void {
  const keysOf = (context: Context<Env>) => new ApiKeys(api.queue, operatorOf(context))
  app.openapi(
    route({
      method: 'get', path: '/v1/keys', operationId: 'listKeys', summary: 'The API keys, the newest first, without what opens anything', tags: ['operate'],
      middleware: admin(api),
      responses: { 200: { description: 'All; those that have ended in the last 30 days too.', content: json('KeyList') } },
    }),
    async (context) => context.json({ keys: await keysOf(context).list() }, 200),
  )
  app.openapi(
    route({
      method: 'post', path: '/v1/keys', operationId: 'createKey', summary: 'Make an API key', tags: ['operate'],
      middleware: admin(api),
      request: { body: body('NewKey', true) },
      responses: { 201: { description: 'The key, which can’t be looked up later.', content: json('MadeKey') }, ...problems(413, 415) },
    }),
    async (context) => {
      requireNoRunLimits(context.var.caller)
      return context.json(await keysOf(context).create((await bodyOf(context, api, requests.NewKey)).value as NewApiKey), 201)
    },
  )
  app.openapi(
    route({
      method: 'delete', path: '/v1/keys/{keyId}', operationId: 'revokeKey', summary: 'Have a key open nothing from now on', tags: ['operate'],
      middleware: admin(api),
      request: { params: z.object({ keyId: z.string().regex(/^[0-9a-f]{16}$/, 'must be 16 characters of 0-9 and a-f, as the list shows it') }) },
      responses: { 200: { description: 'What was done.', content: json('Revoked') } },
    }),
    async (context) => context.json({ revoked: await keysOf(context).revoke(context.req.valid('param').keyId) }, 200),
  )
}
