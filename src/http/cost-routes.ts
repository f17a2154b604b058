import { z } from '@hono/zod-openapi'
import type { Context, MiddlewareHandler } from 'hono'
import { isDay } from '../job/days.js'
import { accessOf } from '../producers/agent-queue.js'
import type { Operator } from '../producers/index.js'
import { costsOf } from '../store/index.js'
import { listedTenants, requireAllTenants } from './caller.js'
import { type ApiApp, type ApiContext, bodyOf, type Env, guard, json, problems, route } from './context.js'
import { operateRequests } from './operate-schemas.js'

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
  addBudgetRoutes(app, api)
}

const forAll: MiddlewareHandler<Env> = async (context, next) => {
  requireAllTenants(context.var.caller)
  await next()
}

function operatorOf(context: Context<Env>): Operator {
  const { id, name } = context.var.caller
  return { id, name }
}

/** An admin's key; each change is in the audit log by the step that makes it. */
function addBudgetRoutes(app: ApiApp, api: ApiContext): void {
  const { budgets } = api.queue
  const tenant = z.object({ tenant: z.string().min(1).max(100) })
  const job = z.object({ jobId: z.string().min(1).max(500) })
  const body = { required: true, content: json('SetBudget') }
  const responses = { 200: { description: 'What changed.', content: json('BudgetChanged') }, ...problems(400, 404, 413, 415) }
  const middleware = [guard(api, 'admin'), forAll]
  app.openapi(
    route({
      method: 'get', path: '/v1/budgets', operationId: 'listBudgets', summary: 'What tenants may cost a day, and jobs altogether', tags: ['operate'],
      middleware: [guard(api, 'read'), forAll],
      responses: { 200: { description: 'As they were set, or are configured here.', content: json('BudgetList') } },
    }),
    async (context) => context.json(await budgets.list(), 200),
  )
  app.openapi(
    route({ method: 'put', path: '/v1/budgets/tenants/{tenant}', operationId: 'setTenantBudget', summary: 'Set what a tenant’s sandboxes may cost a day', tags: ['operate'], middleware, request: { params: tenant, body }, responses }),
    async (context) => context.json(await budgets.setTenant(context.req.valid('param').tenant, (await bodyOf(context, api, operateRequests.SetBudget)).value.amount, operatorOf(context)), 200),
  )
  app.openapi(
    route({ method: 'delete', path: '/v1/budgets/tenants/{tenant}', operationId: 'removeTenantBudget', summary: 'Back to the configured budget', tags: ['operate'], middleware, request: { params: tenant }, responses }),
    async (context) => context.json(await budgets.setTenant(context.req.valid('param').tenant, null, operatorOf(context)), 200),
  )
  app.openapi(
    route({ method: 'put', path: '/v1/budgets/jobs/{jobId}', operationId: 'setJobBudget', summary: 'Set what a job’s sandboxes may cost together', tags: ['operate'], middleware, request: { params: job, body }, responses }),
    async (context) => context.json(await budgets.setJob(context.req.valid('param').jobId, (await bodyOf(context, api, operateRequests.SetBudget)).value.amount, operatorOf(context)), 200),
  )
  app.openapi(
    route({ method: 'delete', path: '/v1/budgets/jobs/{jobId}', operationId: 'removeJobBudget', summary: 'Back to the budget that the job has itself', tags: ['operate'], middleware, request: { params: job }, responses }),
    async (context) => context.json(await budgets.setJob(context.req.valid('param').jobId, null, operatorOf(context)), 200),
  )
}
