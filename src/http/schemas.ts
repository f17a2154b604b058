import { z } from 'zod'
import type { JobEvent } from '../events/index.js'
import { artifactSchema, collectedSchema } from '../job/artifacts.js'
import { costSchema } from '../job/cost.js'
import type { LogLine } from '../job/log.js'
import { jobResultSchema, unsavedPathSchema } from '../job/result.js'
import { rulesSchema } from '../job/schedule.js'
import { jobSpecSchema } from '../job/spec.js'
import type { EndedJob, Fleet, FleetConsumer, FleetCounts, FleetJob, FleetTenant, WaitingJob } from '../job/fleet.js'
import type { JobStatus } from '../job/status.js'
import type { BudgetChange, JobBudgetSet, TenantBudget } from '../producers/index.js'
import type { KeptAuditEntry, ProviderLoad, TenantCost, TenantStanding } from '../store/index.js'
import { withNamedParts } from './named-schemas.js'
import { drainWordSchema, limitWordSchema, operateRequests, operateResponses, shareWordSchema, wordSchema } from './operate-schemas.js'
import { openApiSchema, type JsonSchema } from './schema-parts.js'

/** What goes in and out of the API. Each has a name in the OpenAPI document (`components`). */

const atMs = z.int().describe('Milliseconds since 1970.')

/** A job as `JobStatus` says it stands. */
export const jobSchema = z.object({
  jobId: z.string(),
  repository: z.string(),
  tenant: z.string().nullable(),
  state: z.enum(['waiting', 'running', 'parked', 'succeeded', 'failed', 'cancelled']).describe('parked: it has no sandbox until a budget has more. The last three are final.'),
  reason: z.string().nullable().describe('Why a waiting or running job does not move; null when it does.'),
  phase: z.string().nullable(),
  provider: z.string().nullable(),
  sandboxId: z.string().nullable(),
  step: z.string().nullable().describe('The step under way, such as "2/3 agent".'),
  cost: costSchema.nullable().describe('What its sandboxes have cost, about until now while it runs; null where no provider has a price.'),
  attempts: z.int(),
  checkpointSha: z.string().nullable(),
  checkpointProblem: z.string().nullable(),
  unsaved: z.array(unsavedPathSchema),
  unsavedMore: z.int(),
  enqueuedAtMs: atMs,
  startedAtMs: atMs.nullable(),
  endedAtMs: atMs.nullable(),
  result: jobResultSchema.nullable(),
} satisfies Record<keyof JobStatus, z.ZodType>)

export const enqueuedSchema = z.object({ jobId: z.string() })
export const jobListSchema = z.object({
  jobs: z.array(jobSchema),
  cursor: z.string().nullable().describe('For the next page; null when there is none. A page may be short, even empty, and still have one.'),
})
export const manyJobsSchema = z.strictObject({ jobs: z.array(z.unknown(), { error: 'must be a list of jobs' }).min(1, 'is empty; give at least one job').max(1_000, 'holds more than 1000 jobs; send them in several requests') })
export const manyEnqueuedSchema = z.object({ jobs: z.array(enqueuedSchema) })
export const cancelSchema = z.strictObject({ reason: z.string({ error: 'must be a text' }).min(1, 'is empty; leave it out').max(1_000, 'is longer than 1000 characters').optional() })
export const cancelledSchema = z.object({ outcome: z.enum(['cancelled', 'requested', 'ended']).describe('cancelled: it was waiting and has ended; requested: its supervisor stops it; ended: it had ended before.') })
export const retrySchema = z.strictObject({ from: z.enum(['start', 'checkpoint'], { error: 'must be "start" or "checkpoint"' }).optional() })
export const retriedSchema = z.object({ outcome: z.enum(['retried', 'pending']).describe('pending: it waits or runs already, and nothing was done.') })
export const artifactListSchema = collectedSchema.extend({ artifacts: z.array(artifactSchema.extend({ link: z.string().nullable().describe('Opens it for as long as was asked; null when no links were asked for, and for what is in a folder of the consumers’.') })) })
export const healthSchema = z.object({ status: z.string() })
export const problemSchema = z.object({
  type: z.string(),
  title: z.string(),
  status: z.int(),
  detail: z.string(),
  code: z.string().describe('Stable from release to release; docs/errors.md says of each what mends it.'),
  problems: z.array(z.string()).optional().describe('Of wrong input: every problem, one sentence each.'),
})

/** A piece of a job's output, as `streamJobLogs` sends it. */
export const logLineSchema = z.object({
  seq: z.int().describe('Rises with each piece of a job; the event’s id.'),
  step: z.string().describe('The step’s name, or "switchyard" for what the system says itself.'),
  stream: z.enum(['stdout', 'stderr', 'system']),
  attempt: z.int(),
  offset: z.int().describe('Where in the step’s stream the first byte stands.'),
  atMs,
  text: z.string().describe('Invalid bytes are U+FFFD.'),
} satisfies Record<keyof Omit<LogLine, 'data'>, z.ZodType>)
/** An event of a job's life, of whichever kind; what each kind's data holds is in schema/event.json. */
export const eventSchema = z.object({
  specversion: z.string(),
  id: z.string().describe('The same however often it is delivered.'),
  source: z.string(),
  type: z.string().describe('Such as `dev.switchyard.job.started`; of the end of a job `…succeeded`, `…failed` or `…cancelled`.'),
  subject: z.string().describe('The job’s id.'),
  time: z.iso.datetime(),
  datacontenttype: z.string(),
  data: z.looseObject({ jobId: z.string(), tenant: z.string().nullable() }).describe('Of the end of a job its `JobResult`.'),
  sequence: z.string().optional(),
  logend: z.int().optional(),
} satisfies Record<keyof JobEvent, z.ZodType>)
export const scheduleSchema = z.object({
  id: z.string(),
  cron: z.string().nullable(),
  timezone: z.string().nullable(),
  everyMs: z.int().nullable(),
  missed: z.enum(['skip', 'once', 'all']),
  overlap: z.enum(['allow', 'skip', 'replace']),
  paused: z.boolean(),
  nextRunAt: z.string().nullable().describe('Past when nobody has seen to it yet; null while it is paused.'),
  last: z.object({ scheduledAt: z.string(), jobId: z.string(), status: z.string().nullable() }).nullable(),
  skipped: z.object({ scheduledAt: z.string(), count: z.int(), why: z.string() }).nullable().describe('What was not begun last, and why.'),
  repository: z.string(),
  tenant: z.string().nullable(),
})
export const scheduleListSchema = z.object({ schedules: z.array(scheduleSchema) })
export const providerListSchema = z.object({
  providers: z.array(
    z.object({
      provider: z.string(),
      limit: z.number().describe('The configured one, or what an operator has set in its place.'),
      configuredLimit: z.number(),
      set: limitWordSchema.nullable(),
      drain: drainWordSchema.nullable().describe('Who wants no new sandboxes there.'),
      effectiveLimit: z.number().describe('The limit in force: less what others run in the account, and not more than the provider lets hope for.'),
      foreign: z.number(),
      used: z.number(),
      waiting: z.number(),
      cpu: z.number(),
      cpuLimit: z.number().nullable(),
      memoryMiB: z.number(),
      memoryMiBLimit: z.number().nullable(),
      breaker: z.enum(['closed', 'open', 'half-open', 'probing']),
      openUntilMs: z.number().nullable(),
      openedBy: z.string().nullable(),
      createsPerSecond: z.number().nullable(),
      blockedUntilMs: z.number().nullable(),
      startP50Ms: z.number().nullable(),
      startP95Ms: z.number().nullable(),
      startMaxMs: z.number().nullable(),
    } satisfies Record<keyof ProviderLoad, z.ZodType>),
  ),
})
export const tenantListSchema = z.object({
  tenants: z.array(z.object({ tenant: z.string(), running: z.int(), cap: z.int().nullable(), weight: z.number(), pause: wordSchema.nullable(), set: shareWordSchema.nullable() } satisfies Record<keyof TenantStanding, z.ZodType>)),
  cursor: z.string().nullable(),
})
export const budgetChangedSchema = z.object({ changed: z.boolean().describe('False when it was so before, and nothing was done.'), before: z.int().nullable().describe('What was set before, in millionths; null for nothing.') } satisfies Record<keyof BudgetChange, z.ZodType>)
export const budgetListSchema = z.object({
  tenants: z.array(
    z.object({
      tenant: z.string().nullable().describe('Null for jobs that name none; "*" for each that has no budget of its own.'),
      micros: z.int().nullable().describe('A day’s, in millionths of the currency’s unit.'),
      spentMicros: z.int().nullable().describe('Today.'),
      reservedMicros: z.int().nullable(),
      by: z.string().nullable().describe('Who set it; null where the configuration says.'),
    } satisfies Record<keyof TenantBudget, z.ZodType>),
  ),
  jobs: z.array(z.object({ jobId: z.string(), micros: z.int(), by: z.string() } satisfies Record<keyof JobBudgetSet, z.ZodType>)),
})
export const costListSchema = z.object({
  costs: z.array(
    z.object({
      day: z.string().describe('By the deployment’s time zone.'),
      tenant: z.string().nullable().describe('Null for jobs that name none; "*" for all beyond the 10,000 that are counted on a day.'),
      micros: z.int().describe('Millionths of the currency’s unit.'),
      currency: z.string(),
    } satisfies Record<keyof TenantCost, z.ZodType>),
  ),
})
const nullableText = z.string().nullable()
const fleetProviderSchema = providerListSchema.shape.providers.element
  .omit({ createsPerSecond: true, startMaxMs: true, configuredLimit: true, set: true, drain: true })
  .extend({ drained: nullableText.describe('Which operator wants no new sandboxes there.'), limited: nullableText.describe('Which operator has set the limit.') })
export const fleetSchema = z.object({
  atMs: atMs.describe('By Redis’ clock.'),
  queue: z.string(),
  paused: z.boolean(),
  pausedBy: nullableText.describe('Which operator has paused it, as far as that is known.'),
  counts: z.object({ inHand: z.int(), waiting: z.int(), delayed: z.int(), succeeded: z.int(), failed: z.int() } satisfies Record<keyof FleetCounts, z.ZodType>),
  providers: z.array(fleetProviderSchema),
  consumers: z.array(
    z.object({
      consumer: z.string(),
      queue: z.string(),
      release: z.string(),
      providers: z.array(z.string()),
      jobs: z.number().nullable().describe('In hand when it last said so.'),
      maxJobs: z.number().nullable(),
      full: z.boolean(),
      draining: z.boolean(),
      startedAtMs: z.number(),
      troubles: z.array(z.object({ of: z.string(), message: z.string(), sinceMs: z.number() })).describe('Keys that are refused.'),
    } satisfies Record<keyof FleetConsumer, z.ZodType>),
  ),
  consumersMore: z.int(),
  waiting: z.object({
    looked: z.int().describe('Of how many of those that are next the reasons were looked up.'),
    reasons: z.array(z.object({ reason: nullableText, jobs: z.int() })),
    next: z.array(z.object({ jobId: z.string(), repository: z.string(), tenant: nullableText, enqueuedAtMs: z.number(), reason: nullableText } satisfies Record<keyof WaitingJob, z.ZodType>)),
  }),
  tenants: z.array(z.object({ tenant: z.string(), running: z.int(), cap: z.int().nullable(), weight: z.number(), paused: nullableText.describe('Which operator has paused it.') } satisfies Record<keyof FleetTenant, z.ZodType>)),
  tenantsMore: z.int(),
  running: z.array(
    z.object({
      jobId: z.string(),
      repository: z.string(),
      tenant: nullableText,
      phase: nullableText,
      provider: nullableText,
      step: nullableText,
      attempt: z.number(),
      reason: nullableText,
      consumer: nullableText,
      startedAtMs: z.number().nullable(),
      enqueuedAtMs: z.number(),
      cost: costSchema.nullable().describe('About until now.'),
      lastLine: z.string(),
    } satisfies Record<keyof FleetJob, z.ZodType>),
  ),
  runningMore: z.int(),
  ended: z.array(z.object({ jobId: z.string(), repository: z.string(), status: z.enum(['succeeded', 'failed', 'cancelled']), reason: nullableText, endedAtMs: z.number() } satisfies Record<keyof EndedJob, z.ZodType>)),
} satisfies Record<keyof Fleet, z.ZodType>)
export const auditListSchema = z.object({
  entries: z.array(
    z.object({
      id: z.string(),
      atMs,
      by: z.string().describe('The id of an API key, or what the application says.'),
      name: z.string(),
      action: z.string().describe('The operation’s id in this document.'),
      targets: z.array(z.string()),
      count: z.int(),
      status: z.int(),
      before: z.unknown().describe('Of what an operator changed, how it was; null for nothing.'),
      after: z.unknown().describe('How it is.'),
    } satisfies Record<keyof KeptAuditEntry, z.ZodType>),
  ),
})

const requests = { Cancel: cancelSchema, Retry: retrySchema, ...operateRequests }
const responses = { Enqueued: enqueuedSchema, ManyEnqueued: manyEnqueuedSchema, Cancelled: cancelledSchema, Retried: retriedSchema, ArtifactList: artifactListSchema, Schedule: scheduleSchema, ScheduleList: scheduleListSchema, ProviderList: providerListSchema, TenantList: tenantListSchema, CostList: costListSchema, BudgetChanged: budgetChangedSchema, BudgetList: budgetListSchema, Fleet: fleetSchema, AuditList: auditListSchema, LogLine: logLineSchema, Event: eventSchema, Health: healthSchema, Problem: problemSchema, ...operateResponses }

/** Every component of the document, by its name. */
export function componentSchemas(): Record<string, JsonSchema> {
  const jobSpec = openApiSchema(jobSpecSchema, 'input')
  const job = openApiSchema(jobSchema, 'output') as { properties: Record<string, JsonSchema> }
  const jobList = openApiSchema(jobListSchema, 'output') as { properties: Record<string, JsonSchema> }
  const manyJobs = openApiSchema(manyJobsSchema, 'input') as { properties: Record<string, JsonSchema> }
  const schedule = openApiSchema(rulesSchema, 'input') as { properties: Record<string, JsonSchema> }
  return withNamedParts({
    JobSpec: jobSpec,
    ScheduleInput: { ...schedule, properties: { ...schedule.properties, job: componentRef('JobSpec') }, required: ['job'] },
    ManyJobs: { ...manyJobs, properties: { jobs: { ...manyJobs.properties['jobs'], items: componentRef('JobSpec') } } },
    ...Object.fromEntries(Object.entries(requests).map(([name, schema]) => [name, openApiSchema(schema, 'input')])),
    JobResult: openApiSchema(jobResultSchema, 'output'),
    Job: { ...job, properties: { ...job.properties, result: { anyOf: [componentRef('JobResult'), { type: 'null' }] } } },
    JobList: { ...jobList, properties: { ...jobList.properties, jobs: { type: 'array', items: componentRef('Job') } } },
    ...Object.fromEntries(Object.entries(responses).map(([name, schema]) => [name, openApiSchema(schema, 'output')])),
  })
}

export function componentRef(name: string): { readonly $ref: string } {
  return { $ref: `#/components/schemas/${name}` }
}
