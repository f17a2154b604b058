import type { MiddlewareHandler } from 'hono'
import { z } from '@hono/zod-openapi'
import { accessOf } from '../producers/agent-queue.js'
import { appendAudit, type AuditEntry, readAudit } from '../store/index.js'
import { requireAllTenants } from './caller.js'
import { type ApiApp, type ApiContext, type Env, guard, json, route } from './context.js'

const mostTargets = 20

/** Notes who did what with what outcome: in Redis, where it is bounded, and in the log. Behind `guard`. */
export function audited({ queue, log }: ApiContext, action: string): MiddlewareHandler<Env> {
  return async (context, next) => {
    await next()
    const targets = context.get('targets') ?? [context.req.param('jobId') ?? context.req.param('scheduleId')].filter((id) => id !== undefined)
    const { id, name } = context.var.caller
    const entry: AuditEntry = { by: id, name, action, targets: targets.slice(0, mostTargets), count: targets.length, status: context.res.status }
    log.info({ audit: entry }, `${action} by ${id}: ${entry.status}`)
    const { use, keys } = accessOf(queue)
    // What was done is done.
    await use(({ redis }) => appendAudit(redis, keys, entry)).catch((error: unknown) => log.error({ err: error, audit: entry }, 'the audit log could not be written'))
  }
}

/** `GET /v1/audit`. */
export function addAuditRoute(app: ApiApp, api: ApiContext): void {
  app.openapi(
    route({
      method: 'get', path: '/v1/audit', operationId: 'listAudit', summary: 'Who did what, the newest first', tags: ['deployment'],
      middleware: [guard(api, 'admin')],
      request: {
        query: z.strictObject({
          limit: z.coerce.number({ error: 'must be a whole number' }).int('must be a whole number').min(1, 'must be from 1 to 200').max(200, 'must be from 1 to 200').optional().describe('Default 50.'),
          before: z.string().regex(/^\d{1,19}-\d{1,19}$/, 'must be the id of an entry').optional().describe('Go on before this entry.'),
        }),
      },
      responses: { 200: { description: 'Entries; about 10,000 are kept.', content: json('AuditList') } },
    }),
    async (context) => {
      requireAllTenants(context.var.caller)
      const { limit = 50, before = null } = context.req.valid('query')
      const { use, keys } = accessOf(api.queue)
      return context.json({ entries: await use(({ redis }) => readAudit(redis, keys, before, limit)) }, 200)
    },
  )
}
