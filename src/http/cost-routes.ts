import { z } from '@hono/zod-openapi'
import { isDay } from '../job/days.js'
import { accessOf } from '../producers/agent-queue.js'
import { costsOf } from '../store/index.js'
import { listedTenants } from './caller.js'
import { type ApiApp, type ApiContext, guard, json, route } from './context.js'

/** What sandboxes cost. */
export function addCostRoutes(app: ApiApp, api: ApiContext): void {
  app.openapi(
    route({
      method: 'get', path: '/v1/costs', operationId: 'listCosts', summary: 'What sandboxes cost, by tenant and day', tags: ['deployment'],
      middleware: [guard(api, 'read')],
      request: {
        query: z.strictObject({
          since: z.string().refine(isDay, 'is no day; give one such as "2026-12-01"').optional().describe('The first day; 40 are kept. Default: today.'),
          tenant: z.string().min(1).max(100).optional().describe('Whose. Default: everybody’s, or those of the key.'),
        }),
      },
      responses: { 200: { description: 'The latest day first.', content: json('CostList') } },
    }),
    async (context) => {
      const { since, tenant } = context.req.valid('query')
      const listed = listedTenants(context.var.caller, tenant)
      const { use, keys, timeZone } = accessOf(api.queue)
      const tenants = typeof listed === 'string' ? [listed] : listed
      return context.json({ costs: await use(({ redis }) => costsOf(redis, keys, { since, tenants, timeZone, nowMs: Date.now() })) }, 200)
    },
  )
}
