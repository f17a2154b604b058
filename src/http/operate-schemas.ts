import { z } from 'zod'
import type { BulkFailure, BulkResult, Change } from '../producers/index.js'
import type { LiveConsumer, OperatorWord } from '../store/index.js'
import type { ApiKeyInfo } from './api-keys.js'

/** What operators send and get. */

const atMs = z.int().describe('Milliseconds since 1970.')

/** What holds because an operator said so. */
const word = { by: z.string(), reason: z.string().nullable(), atMs, untilMs: z.int().nullable().describe('Null for until it is taken back.') } satisfies Record<keyof OperatorWord, z.ZodType>
export const wordSchema = z.object(word)
export const drainWordSchema = z.object({ ...word, move: z.boolean().describe('Whether jobs that run there are asked to move.') })
export const limitWordSchema = z.object({ ...word, limit: z.number() })
export const shareWordSchema = z.object({ ...word, weight: z.number(), cap: z.int().nullable() })

function changeOf<Word extends z.ZodType>(schema: Word) {
  return z.object({
    changed: z.boolean().describe('False when it was so before, and nothing was done.'),
    before: schema.nullable(),
    after: schema.nullable(),
    ignoredBy: z.array(z.string()).describe('Live consumers of a release that does not heed this: they go on as before.'),
  } satisfies Record<keyof Change<unknown>, z.ZodType>)
}

// What it may be is said by the operations themselves.
const reason = z.string({ error: 'must be a text' }).optional().describe('Shown wherever a job waits because of it; at most 200 characters.')
const forMs = z.number({ error: 'must be a number of milliseconds' }).optional().describe('After how many milliseconds it is over by itself.')
const isNew = z.boolean({ error: 'must be true or false' }).optional().describe('Also for a tenant that has no jobs, account or share yet.')
const bulk = {
  where: z.string({ error: 'is missing; say which jobs, such as "state=failed tenant=acme since=2h error=provider-down"' }).describe('`name=value` with spaces between, all of which must hold: `state`, `tenant`, `repository`, `since`, `error`.'),
  dryRun: z.boolean({ error: 'must be true or false' }).optional().describe('Only find them.'),
  limit: z.int('must be a whole number').min(1, 'must be from 1 to 1000').max(1_000, 'must be from 1 to 1000').optional().describe('How many jobs at most. Default 1,000.'),
}

export const operateRequests = {
  DrainProvider: z.strictObject({ reason, forMs, move: z.boolean({ error: 'must be true or false' }).optional().describe('Ask jobs that run there to move, each at its next checkpoint, once another provider has a place.') }),
  LimitProvider: z.strictObject({ sandboxes: z.number({ error: 'is missing; give a whole number of sandboxes' }), reason, forMs }),
  PauseTenant: z.strictObject({ reason, forMs, isNew }),
  ShareTenant: z.strictObject({ weight: z.number({ error: 'is missing; give a number' }), cap: z.number({ error: 'must be a whole number of jobs' }).optional(), reason, forMs, isNew }),
  SetBudget: z.strictObject({ amount: z.number({ error: ({ input }) => `${input === undefined ? 'is missing; give' : 'must be'} an amount of the deployment’s currency, such as 20` }) }),
  GiveReason: z.strictObject({ reason }),
  PauseQueue: z.strictObject({ reason, forMs }),
  DrainQueue: z.strictObject({
    confirm: z.literal(true, { error: 'must be true; this ends every job that waits' }).optional(),
    dryRun: z.boolean({ error: 'must be true or false' }).optional(),
    reason,
  }).refine(({ confirm, dryRun }) => confirm === true || dryRun === true, { path: ['confirm'], message: 'must be true; this ends every job that waits' }),
  RetryJobs: z.strictObject({ ...bulk, from: z.enum(['start', 'checkpoint'], { error: 'must be "start" or "checkpoint"' }).optional() }),
  CancelJobs: z.strictObject({ ...bulk, reason }),
  RedeliverEvents: z.strictObject({
    group: z.string({ error: 'is missing; give the name of a group of readers' }),
    ids: z.union([z.literal('all'), z.array(z.string()).min(1, 'is empty; give at least one id, or "all"').max(1_000, 'holds more than 1000 ids')], { error: 'is missing; give ids of dead events, or "all"' }),
  }),
  NewKey: z.strictObject({
    name: z.string({ error: 'is missing; say what the key is for, such as "ci"' }),
    scope: z.enum(['read', 'write', 'admin'], { error: 'must be "read", "write" or "admin"' }),
    tenants: z.array(z.string()).optional().describe('Left out for everybody’s jobs.'),
    repositories: z.array(z.string()).optional().describe('What it may have jobs run on, such as `acme/web`, or `acme/*` for all that begin so. Left out for all.'),
    secrets: z.array(z.string()).optional().describe('Which secrets its jobs may name; empty for none. Left out for all.'),
    lifetimeMs: z.number({ error: 'must be a number of milliseconds' }).optional().describe('Left out for a key that does not expire.'),
  }),
} as const

const counts = z.object({ waiting: z.int(), delayed: z.int(), active: z.int() })
const bulkFailureSchema = z.object({ jobId: z.string(), code: z.string(), message: z.string() } satisfies Record<keyof BulkFailure, z.ZodType>)
const keySchema = z.object({
  id: z.string(),
  name: z.string(),
  scope: z.enum(['read', 'write', 'admin']),
  tenants: z.array(z.string()).nullable(),
  repositories: z.array(z.string()).nullable(),
  secrets: z.array(z.string()).nullable(),
  state: z.enum(['valid', 'expired', 'revoked']),
  createdAtMs: atMs,
  expiresAtMs: atMs.nullable(),
  usedAtMs: atMs.nullable(),
  revokedAtMs: atMs.nullable(),
} satisfies Record<keyof ApiKeyInfo, z.ZodType>)

export const operateResponses = {
  ProviderDrained: changeOf(drainWordSchema),
  ProviderLimited: changeOf(limitWordSchema).extend({ configured: z.number() }),
  TenantPaused: changeOf(wordSchema),
  TenantShared: changeOf(shareWordSchema),
  Queue: z.object({ name: z.string(), paused: z.boolean(), pause: wordSchema.nullable().describe('Who paused it, as far as is known.'), counts }),
  QueuePaused: changeOf(wordSchema),
  BulkResult: z.object({
    found: z.int().describe('How many jobs were found, up to the limit.'),
    more: z.boolean().describe('There are more than that, to which nothing was done.'),
    jobIds: z.array(z.string()).describe('Those to which it was done; of a dry run those to which it would be.'),
    unchanged: z.int().describe('Those that had come elsewhere meanwhile, and were left alone.'),
    failed: z.array(bulkFailureSchema),
  } satisfies Record<keyof BulkResult, z.ZodType>),
  ConsumerList: z.object({
    consumers: z.array(
      z.object({
        consumer: z.string(),
        queue: z.string(),
        release: z.string(),
        providers: z.array(z.string()),
        secrets: z.array(z.string()).describe('Their names.'),
        troubles: z.array(z.object({ of: z.string(), message: z.string(), sinceMs: z.number() })).describe('Keys that are refused to it.'),
        full: z.boolean(),
        startedAtMs: z.number(),
        heeds: z.array(z.string()).describe('What of operators’ words it heeds.'),
        host: z.string().nullable(),
        pid: z.int().nullable(),
        running: z.int().nullable(),
        places: z.int().nullable(),
        draining: z.boolean(),
        seenAtMs: z.number().nullable(),
      } satisfies Record<keyof LiveConsumer, z.ZodType>),
    ),
  }),
  ConsumerDrained: z.object({ consumer: z.string(), changed: z.boolean() }),
  DeadEventList: z.object({
    events: z.array(z.object({ id: z.string().describe('To redeliver it, and to go on behind it.'), jobId: z.string().nullable(), type: z.string().nullable(), attempts: z.int(), error: z.string(), diedAtMs: z.number() })),
  }),
  Redelivered: z.object({ group: z.string(), redelivered: z.int() }),
  Key: keySchema,
  KeyList: z.object({ keys: z.array(keySchema) }),
  MadeKey: z.object({ key: z.string().describe('It can’t be looked up later.'), info: keySchema }),
  Revoked: z.object({ revoked: z.boolean().describe('Whether it opened anything until now.') }),
} as const
