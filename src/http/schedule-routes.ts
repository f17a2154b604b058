import { z } from '@hono/zod-openapi'
import { UnknownScheduleError } from '../job/errors.js'
import type { ScheduleInput } from '../job/schedule.js'
import type { Schedule } from '../producers/index.js'
import { audited } from './audit.js'
import { type Caller, maySee, ownSpec } from './caller.js'
import { type ApiApp, type ApiContext, bodyOf, guard, json, problems, route } from './context.js'
import { requireMayEnqueue, requireMayRun } from './run-limits.js'

const params = z.object({ scheduleId: z.string().min(1).max(60) })

/** Schedules: list, make or change, pause, resume, remove. */
export function addScheduleRoutes(app: ApiApp, api: ApiContext): void {
  const { schedules } = api.queue

  app.openapi(
    route({
      method: 'get', path: '/v1/schedules', operationId: 'listSchedules', summary: 'The schedules, the next to run first', tags: ['schedules'],
      middleware: [guard(api, 'read')],
      responses: { 200: { description: 'All of them: there are at most 1,000.', content: json('ScheduleList') } },
    }),
    async (context) => context.json({ schedules: (await schedules.list()).filter(({ job }) => maySee(context.var.caller, job.tenant ?? null)).map(shown) }, 200),
  )

  app.openapi(
    route({
      method: 'get', path: '/v1/schedules/{scheduleId}', operationId: 'getSchedule', summary: 'A schedule', tags: ['schedules'],
      middleware: [guard(api, 'read')],
      request: { params },
      responses: { 200: { description: 'The schedule.', content: json('Schedule') }, ...problems(404) },
    }),
    async (context) => context.json(shown(await visibleSchedule(api, context.var.caller, context.req.valid('param').scheduleId)), 200),
  )

  app.openapi(
    route({
      method: 'put', path: '/v1/schedules/{scheduleId}', operationId: 'putSchedule', summary: 'Make a schedule, or change the one that has this id', tags: ['schedules'],
      middleware: [guard(api, 'write'), audited(api, 'putSchedule')],
      request: { params, body: { required: true, content: json('ScheduleInput') } },
      responses: { 200: { description: 'The schedule as it stands now.', content: json('Schedule') }, ...problems(400, 413, 415) },
    }),
    async (context) => {
      const { caller } = context.var
      const { value: given } = await bodyOf(context, api, z.unknown())
      const own = typeof given === 'object' && given !== null && 'job' in given ? { ...given, job: ownSpec(caller, given.job) } : given
      if (typeof own === 'object' && own !== null && 'job' in own) requireMayEnqueue(api.queue, caller, [own.job], () => 'job.')
      return context.json(shown(await schedules.upsert(context.req.valid('param').scheduleId, own as ScheduleInput, { tenants: caller.tenants })), 200)
    },
  )

  for (const [action, operationId, summary] of [
    ['pause', 'pauseSchedule', 'Begin no more runs until it is resumed'],
    ['resume', 'resumeSchedule', 'Go on; what was missed is seen to as the schedule says'],
  ] as const) {
    app.openapi(
      route({
        method: 'post', path: `/v1/schedules/{scheduleId}/${action}`, operationId, summary, tags: ['schedules'],
        middleware: [guard(api, 'write'), audited(api, operationId)],
        request: { params },
        responses: { 200: { description: 'The schedule as it stands now.', content: json('Schedule') }, ...problems(404) },
      }),
      async (context) => {
        const { caller } = context.var
        const id = context.req.valid('param').scheduleId
        // Whoever made it: what is resumed runs.
        if (action === 'resume') requireMayRun(caller, (await visibleSchedule(api, caller, id)).job, 'job.')
        await schedules[action](id, { tenants: caller.tenants })
        return context.json(shown(await visibleSchedule(api, caller, id)), 200)
      },
    )
  }

  app.openapi(
    route({
      method: 'delete', path: '/v1/schedules/{scheduleId}', operationId: 'removeSchedule', summary: 'Remove a schedule; its runs under way go on', tags: ['schedules'],
      middleware: [guard(api, 'write'), audited(api, 'removeSchedule')],
      request: { params },
      responses: { 204: { description: 'It is gone.' }, ...problems(404) },
    }),
    async (context) => {
      await schedules.remove(context.req.valid('param').scheduleId, { tenants: context.var.caller.tenants })
      return context.body(null, 204)
    },
  )
}

/** @throws UnknownScheduleError, also for another tenant's. */
async function visibleSchedule({ queue }: ApiContext, caller: Caller, id: string): Promise<Schedule> {
  const schedule = await queue.schedules.get(id)
  if (!maySee(caller, schedule.job.tenant ?? null)) throw new UnknownScheduleError(id)
  return schedule
}

/** Without the job, whose commands and variables are not for everybody who may look. */
function shown({ job, last, ...rest }: Schedule) {
  return {
    ...rest,
    repository: job.repository,
    tenant: job.tenant ?? null,
    last: last === null ? null : { scheduledAt: last.scheduledAt, jobId: last.jobId, status: last.result?.status ?? null },
  }
}
