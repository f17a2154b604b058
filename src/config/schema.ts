import { z } from 'zod'
import { artifactsConfigSchema } from '../artifacts/index.js'
import { credentialModes } from '../consumers/transfer/credentials.js'
import type { PlacementPolicy } from '../consumers/placing/placement.js'
import { consumerSettingsSchema } from '../consumers/settings.js'
import { webhookSettingsSchema } from '../webhooks/settings.js'
import { eventKindsSchema } from '../job/event-kinds.js'
import { budgetAmount } from '../job/budget-amount.js'
import { timeZoneProblem } from '../job/days.js'
import { networkProblem } from '../job/networks.js'
import { linkTemplates } from '../job/page-links.js'
import { defaultMaxSpecBytes } from '../job/spec.js'
import { defaultRedisUrl, redisConfigSchema } from '../store/redis-config.js'
import { tenantName } from '../job/tenant-name.js'

/**
 * The configuration as users write it, without the parts that belong to an adapter: those are checked by the adapter's
 * own schema (see ./providers.ts and ./git-host.ts), so that a configuration never loads an adapter that it does not name.
 */

const slug = (what: string, longest: number) =>
  z
    .string({ error: `must be a text; give ${what}` })
    .regex(
      new RegExp(`^[a-z0-9]([a-z0-9-]{0,${longest - 2}}[a-z0-9])?$`),
      `must be at most ${longest} lower-case letters, digits and "-", with no "-" at either end`,
    )

const whole = (what: string) => z.int({ error: `must be a whole number of ${what}` })

export const providerLimitSchema = z.strictObject(
  {
    sandboxes: whole('sandboxes').min(1, 'must be at least 1').max(100_000, 'must be at most 100000').describe('How many sandboxes may run at once, of all consumers together.'),
    cpu: z.number({ error: 'must be a number of CPUs' }).positive('must be more than 0').optional().describe('CPUs of all sandboxes together, where a pool of them is sold.'),
    memoryMiB: whole('MiB').min(64, 'must be at least 64').optional().describe('Memory of all sandboxes together, where a pool of it is sold.'),
    createsPerSecond: z.number({ error: 'must be a number of sandboxes a second, such as 5 or 0.5' }).positive('must be more than 0').max(10_000, 'must be at most 10000').optional().describe('How many sandboxes are made a second, where the provider limits that.'),
    createBurst: whole('sandboxes').min(1, 'must be at least 1').max(100_000, 'must be at most 100000').optional().describe('How many may be made at once after a quiet time. Default: those of one second.'),
  },
  { error: 'is missing; give the number of sandboxes that may run at once, such as { sandboxes: 20 }' },
)

const amount = (what: string) => z.number({ error: `must be an amount ${what}` }).min(0, 'must be at least 0').max(1_000_000, 'must be at most 1000000').optional()
const perHour = amount('per hour')
const providerPriceSchema = z.strictObject(
  {
    perSandboxHour: perHour.describe('For each hour of a sandbox, in the currency of costs.'),
    perCpuHour: perHour.describe('For each CPU of it and hour.'),
    perMemoryGiBHour: perHour.describe('For each GiB of its memory and hour.'),
    perCreate: amount('per sandbox').describe('For each sandbox that is made.'),
    minimumSeconds: z.number({ error: 'must be a number of seconds' }).min(0, 'must be at least 0').max(86_400, 'must be at most 86400').optional().describe('What is billed at least of each sandbox.'),
  },
  { error: 'must be an object such as { perCpuHour: 0.05, perMemoryGiBHour: 0.02 }, in one currency for all providers' },
)

/** What every provider's entry has, whatever its adapter; the rest belongs to the adapter. */
export const providerEntrySchema = z.looseObject(
  {
    name: slug('the name by which jobs, logs and limits call this provider', 32).describe('By which jobs, logs and limits call this provider.'),
    type: z.string({ error: 'is missing; give "local", "e2b", "modal", "daytona", "docker" or "custom"' }).describe('Its adapter: "local", "e2b", "modal", "daytona", "docker" or "custom".'),
    limit: providerLimitSchema.describe('What all consumers together may use of it.'),
    price: providerPriceSchema.optional().describe('What its sandboxes cost; see docs/budgets.md.'),
    credentials: z.enum(credentialModes, { error: 'must be "minted", "injected" or "brokered"' }).optional().describe('Where the git host’s tokens go. Default "minted".'),
  },
  { error: 'must be an object such as { name: "local", type: "local", limit: { sandboxes: 4 } }' },
)

const providerEntries = z
  .array(providerEntrySchema, { error: 'must be a list of providers' })
  .superRefine((entries, context) => {
    const seen = new Set<string>()
    entries.forEach((entry, index) => {
      if (seen.has(entry.name)) {
        context.addIssue({
          code: 'custom',
          path: [index, 'name'],
          message: `"${entry.name}" is used twice; give every provider a name of its own, also two accounts of one kind`,
        })
      }
      seen.add(entry.name)
    })
  })

export const gitEntrySchema = z.looseObject(
  { type: z.enum(['code-storage', 'https'], { error: 'must be "code-storage" or "https"' }).describe('Code Storage, or any git host by HTTPS.') },
  { error: 'must be an object such as { type: "code-storage", … }' },
)

const environmentName = z
  .string({ error: 'must be the name of an environment variable' })
  .regex(/^[A-Za-z_]\w*$/, 'must be the name of an environment variable: letters, digits and "_", no digit first')

const policyNames = ['most-free', 'priority', 'cheapest', 'fastest'] as const
const placementPolicySchema = z.custom<PlacementPolicy>((value) => typeof value === 'function' || policyNames.some((name) => name === value), {
  error: `must be ${policyNames.map((name) => `"${name}"`).join(', ')} or a function that orders providers`,
})

const tenantShareSchema = z.strictObject(
  {
    weight: z.number({ error: 'must be a number' }).positive('must be more than 0').max(1_000_000, 'must be at most 1000000').default(1).describe('How large the tenant’s share is beside the others’.'),
    cap: whole('jobs').min(1, 'must be at least 1; leave it out for none').optional().describe('How many of its jobs run at once at most.'),
  },
  { error: 'must be an object such as { weight: 2, cap: 10 }' },
)

const costsSchema = z.strictObject(
  {
    currency: z.string({ error: 'must be a currency such as "USD"' }).regex(/^[A-Z]{3}$/, 'must be three capital letters such as "USD"').default('USD').describe('What all prices and budgets are in.'),
    timeZone: z
      .string({ error: 'must be a time zone such as "Europe/Berlin"' })
      .superRefine((text, context) => {
        const problem = timeZoneProblem(text)
        if (problem !== undefined) context.addIssue({ code: 'custom', message: problem })
      })
      .default('UTC')
      .describe('By whose days costs are counted, and budgets hold.'),
    budgets: z
      .record(z.string().max(100), budgetAmount, { error: 'must be an object such as { acme: 20, "*": 5 }' })
      .default({})
      .describe('What the sandboxes of a tenant may cost a day; "*" stands for each that is not named, "" for the jobs that name none.'),
  },
  { error: 'must be an object such as { currency: "EUR", timeZone: "Europe/Berlin" }' },
)

export const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const

const otlpSchema = z.strictObject(
  {
    endpoint: z.url({ protocol: /^https?$/, error: 'must be an http or https URL, such as "http://collector:4318"' }).describe('The collector’s address.'),
    traces: z.boolean({ error: 'must be true or false' }).default(true).describe('Whether traces are sent.'),
    metrics: z.boolean({ error: 'must be true or false' }).default(true).describe('Whether metrics are sent.'),
    everyMs: whole('milliseconds').min(1_000, 'must be at least 1000').max(3_600_000, 'must be at most 3600000 (an hour)').default(60_000).describe('How often metrics are sent.'),
  },
  { error: 'must be an object such as { endpoint: "http://collector:4318" }' },
)

export const configSchema = z.strictObject({
  deployment: slug('the name that marks this deployment’s sandboxes', 20)
    .default('default')
    .describe('Marks this deployment’s sandboxes at the providers. Two deployments that share an account need two names.'),
  redis: redisConfigSchema
    .transform((redis) => (redis.sentinel === undefined && redis.cluster === undefined ? { url: defaultRedisUrl, ...redis } : redis))
    .prefault({})
    .describe('Redis or Valkey, with maxmemory-policy noeviction: by its URL, by Sentinels or as a Cluster; see docs/redis.md.'),
  queue: z
    .strictObject({
      name: z
        .string({ error: 'must be a text' })
        .regex(/^[A-Za-z0-9][\w.-]{0,99}$/, 'must be letters, digits, ".", "_" and "-", at most 100 of them')
        .default('agents').describe('The BullMQ queue.'),
      prefix: z
        .string({ error: 'must be a text' })
        .regex(/^\{[\w.-]{1,100}\}$/, 'must be a name in braces such as "{switchyard}": the braces keep all keys in one slot of a Redis Cluster')
        .default('{switchyard}').describe('Before every key of the deployment; the braces keep them in one slot of a Cluster.'),
    })
    .prefault({}),
  git: gitEntrySchema.optional().describe('Where the repositories live. Consumers need it; producers do not.'),
  artifacts: artifactsConfigSchema.optional().describe('Where the files go that jobs name as artifacts: a folder, or S3.'),
  providers: providerEntries.default([]).describe('Where sandboxes run. Consumers need at least one; producers none.'),
  keyFiles: z
    .record(environmentName, z.string({ error: 'must be the path of a file' }).min(1, 'is empty; give the path of a file'), { error: 'must be an object such as { E2B_API_KEY: "/run/secrets/e2b" }' })
    .default({})
    .describe('Variables that stand in files: keys of the git host and of providers, and secrets. They are read anew at each use, so keys change without a restart.'),
  placement: z
    .strictObject({ policy: placementPolicySchema.default('most-free').describe('most-free, priority (the order of providers), cheapest, fastest (by measured starts), or in a .ts a function (candidates, job) => names.') })
    .prefault({})
    .describe('How to choose among providers with room, after the job’s own preference.'),
  costs: costsSchema.prefault({}).describe('How what sandboxes cost is counted; their prices are the providers’. All processes of a deployment say the same.'),
  tenants: z
    .record(tenantName('is empty; give the name of a tenant'), tenantShareSchema, { error: 'must be an object such as { acme: { weight: 2, cap: 10 }, "*": { weight: 1 } }' })
    .default({})
    .describe('How tenants share the places; "*" stands for all that are not named. Weights are relative; a cap is the most jobs at once.'),
  consumer: consumerSettingsSchema
    .extend({
      secrets: z
        .array(environmentName, { error: 'must be a list of names of environment variables' })
        .default([])
        .describe('The environment variables that jobs may ask for by name. Every other name is refused.'),
      retentionMs: z
        .int({ error: 'must be a whole number of milliseconds' })
        .min(60_000, 'must be at least 60000 (a minute)')
        .default(7 * 24 * 60 * 60 * 1000)
        .describe('How long results, output and records of ended jobs are kept.'),
      events: z
        .strictObject(
          {
            maxCount: whole('events').min(1, 'must be at least 1').max(10_000_000, 'must be at most 10000000').default(100_000).describe('How many events are kept.'),
            maxBytes: whole('bytes').min(1_024, 'must be at least 1024').max(2 ** 40, `must be at most ${2 ** 40}`).default(256 * 1024 * 1024).describe('How many bytes of them.'),
            maxAgeMs: whole('milliseconds').min(1_000, 'must be at least 1000 (a second)').max(10 * 365 * 86_400_000, 'must be at most 315360000000 (ten years)').default(7 * 86_400_000).describe('For how long.'),
          },
          { error: 'must be an object such as { maxCount: 100000, maxBytes: 268435456, maxAgeMs: 604800000 }' },
        )
        .prefault({})
        .describe('How many completion events are kept for subscribers, how many bytes of them, and for how long; what goes before a group has handled it is told to that group.'),
    })
    .prefault({})
    .describe('How consumers behave. Milliseconds and bytes.'),
  events: z
    .strictObject({ types: eventKindsSchema.default([]).describe('Which events are written of every job besides its end: "enqueued", "started", "step.finished", "checkpointed", "moved", "parked", "promoted". Producers and consumers are to say the same.') })
    .prefault({}),
  webhooks: webhookSettingsSchema.prefault({}).describe('Where events are posted to, and what may be called; see docs/webhooks.md.'),
  logs: z
    .strictObject({
      level: z.enum(logLevels, { error: `must be one of ${logLevels.map((level) => `"${level}"`).join(', ')}` }).default('info').describe('Of the process’ own log: JSON lines on stderr.'),
    })
    .prefault({}),
  limits: z
    .strictObject({
      specBytes: whole('bytes').min(1024, 'must be at least 1024').max(64 * 1024 * 1024, 'must be at most 67108864 (64 MiB)').default(defaultMaxSpecBytes)
        .describe('The size that a job spec may have as JSON.'),
    })
    .prefault({}),
  http: z
    .strictObject({
      host: z.string({ error: 'must be a host name or an address' }).min(1, 'is empty; give an address such as "127.0.0.1"').default('127.0.0.1').describe('The address that is listened on.'),
      port: whole('a port').min(0, 'must be 0 (any free port) to 65535').max(65_535, 'must be 0 (any free port) to 65535').default(8080).describe('The port; 0 for any free one.'),
      maxBodyBytes: whole('bytes').min(1_024, 'must be at least 1024').max(2 ** 30, `must be at most ${2 ** 30}`).optional()
        .describe('The size that a request may have. Default 4 MiB, at least twice limits.specBytes.'),
      rateLimit: z
        .strictObject({ requests: whole('requests').min(1, 'must be at least 1').describe('How many in that time.'), perSeconds: whole('seconds').min(1, 'must be at least 1').max(86_400, 'must be at most 86400').describe('The time.') }, { error: 'must be an object such as { requests: 6000, perSeconds: 60 }' })
        .default({ requests: 6_000, perSeconds: 60 })
        .describe('How many requests a key may make, counted for all servers of the deployment.'),
      keyTries: z
        .strictObject({ requests: whole('requests').min(1, 'must be at least 1').describe('How many in that time.'), perSeconds: whole('seconds').min(1, 'must be at least 1').max(86_400, 'must be at most 86400').describe('The time.') }, { error: 'must be an object such as { requests: 60, perSeconds: 60 }' })
        .default({ requests: 60, perSeconds: 60 })
        .describe('How many keys that open nothing an address may send before it is told to wait, counted by each server.'),
      trustedProxies: z
        .array(
          z.string({ error: 'must be a network such as "10.0.0.0/8"' }).superRefine((text, context) => {
            const problem = networkProblem(text)
            if (problem !== undefined) context.addIssue({ code: 'custom', message: `"${text}" ${problem}` })
          }),
        )
        .default([])
        .describe('Networks of proxies whose X-Forwarded-For says where requests come from.'),
      mcp: z.boolean({ error: 'must be true or false' }).default(false).describe('Whether there is /mcp, the Model Context Protocol over HTTP; needs the package @modelcontextprotocol/sdk.'),
    })
    .prefault({})
    .describe('Where "switchyard serve" listens. It speaks plain HTTP: put TLS before it.'),
  monitor: z
    .strictObject({
      host: z.string({ error: 'must be a host name or an address' }).min(1, 'is empty; give an address such as "127.0.0.1"').default('127.0.0.1').describe('The address that is listened on.'),
      port: whole('a port').min(0, 'must be 0 (any free port) to 65535').max(65_535, 'must be 0 (any free port) to 65535').optional().describe('The port; 0 for any free one, without it there are no probes.'),
    })
    .prefault({})
    .describe('Where "consume", "serve" and "board" listen for probes: /healthz and /readyz. Without a port they do not. It asks nobody for a password.'),
  telemetry: z
    .strictObject({ otlp: otlpSchema.optional().describe('Where traces and metrics go by OTLP over HTTP. The OTEL_* variables of OpenTelemetry win, and work without it.') })
    .prefault({}),
  board: z
    .strictObject({
      host: z.string({ error: 'must be a host name or an address' }).min(1, 'is empty; give an address such as "127.0.0.1"').default('127.0.0.1').describe('The address that is listened on.'),
      port: whole('a port').min(0, 'must be 0 (any free port) to 65535').max(65_535, 'must be 0 (any free port) to 65535').default(8090).describe('The port; 0 for any free one.'),
      username: z.string().min(1, 'is empty; leave it out or give a name').default('admin').describe('The user name that goes with the password.'),
      passwordEnv: environmentName.default('SWITCHYARD_BOARD_PASSWORD')
        .describe('The environment variable that holds the password. Needed when host is not a loopback address.'),
      writable: z.boolean({ error: 'must be true or false' }).default(false)
        .describe('Whether jobs can be cancelled, retried, promoted and removed from the board.'),
      ...linkTemplates,
    })
    .prefault({}),
}, { error: 'must be an object of settings, such as { redis: { url: "redis://127.0.0.1:6379" } }' })

/** A configuration that a program puts together, before it is checked; users write a `ConfigInput`. */
export type UncheckedConfig = z.input<typeof configSchema>
/** The checked configuration, defaults filled in; adapters' own options not yet checked. */
export type Config = z.output<typeof configSchema>
/** A provider's entry: its name, type and limit, and whatever its adapter takes. */
export type ProviderEntry = z.output<typeof providerEntrySchema>
export type ProviderLimit = z.output<typeof providerLimitSchema>
