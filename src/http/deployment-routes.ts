import { z } from '@hono/zod-openapi'
import { accessOf } from '../producers/agent-queue.js'
import { tenantLoads } from '../store/index.js'
import { requireAllTenants } from './caller.js'
import { type ApiApp, type ApiContext, guard, json, route } from './context.js'

/** As Redis gives it. */
const cursor = z.string().regex(/^\d{1,20}$/, 'is none that this list gave').refine((text) => !/^\d{1,20}$/.test(text) || BigInt(text) < 2n ** 64n, 'is none that this list gave')

/** The deployment as a whole: its providers, its consumers and its tenants. */
export function addDeploymentRoutes(app: ApiApp, api: ApiContext): void {
  app.openapi(
    route({
      method: 'get', path: '/v1/providers', operationId: 'listProviders', summary: 'What each provider holds, and why it may take no more', tags: ['deployment'],
      middleware: [guard(api, 'read')],
      responses: { 200: { description: 'By name.', content: json('ProviderList') } },
    }),
    async (context) => {
      requireAllTenants(context.var.caller)
      return context.json({ providers: await api.queue.providers() }, 200)
    },
  )

  app.openapi(
    route({
      method: 'get', path: '/v1/tenants', operationId: 'listTenants', summary: 'Tenants that have jobs, or had until lately: how many of them run, and how many may', tags: ['deployment'],
      middleware: [guard(api, 'read')],
      request: { query: z.strictObject({ cursor: cursor.optional().describe('Go on behind an earlier page.') }) },
      responses: { 200: { description: 'A page, in no order; of the key’s tenants, if it is limited to some. A tenant may come twice.', content: json('TenantList') } },
    }),
    async (context) => {
      const { caller } = context.var
      const { use, keys } = accessOf(api.queue)
      return context.json(await use(({ redis }) => tenantLoads(redis, keys, caller.tenants ?? context.req.valid('query').cursor ?? '0')), 200)
    },
  )

  app.openapi(
    route({
      method: 'get', path: '/v1/fleet', operationId: 'getFleet', summary: 'The deployment at a glance: providers, consumers, what runs and what waits and why; bounded lists', tags: ['deployment'],
      middleware: [guard(api, 'read')],
      responses: { 200: { description: 'What its page shows.', content: json('Fleet') } },
    }),
    async (context) => {
      requireAllTenants(context.var.caller)
      return context.json(await api.queue.fleet(), 200)
    },
  )
}
