import { z } from 'zod'
import { artifactPatternProblem, maxArtifactPatterns, plainArtifactPattern } from './artifact-patterns.js'
import { budgetAmount } from './budget-amount.js'
import { checkpointPathProblem, defaultMaxPathsMiB, maxCheckpointPaths, plainCheckpointPath } from './checkpoint-paths.js'
import { authorProblem, messageProblem } from './commit-text.js'
import { duration } from './duration.js'
import { errorMessage, InvalidInputError, NewerReleaseError } from './errors.js'
import { eventKindsSchema, jobWebhookSchema, maxJobWebhooks } from './event-kinds.js'
import { hasOnlyUnknownFields, invalidInput, parseInput } from './explain.js'
import { branchNameProblem, repositoryProblem } from './names.js'
import { stepName } from './step-name.js'
import { tenantName } from './tenant-name.js'

/** The size of a spec as JSON that is accepted unless configured otherwise: 1 MiB. */
export const defaultMaxSpecBytes = 1024 * 1024

/** How many steps a job may have, and how many of setup. */
const maxSteps = 10_000

/** How far ahead a job may be enqueued: 366 days. Later times are typing errors. */
const longestAheadMs = 366 * 24 * 60 * 60 * 1000

const branchName = z.string().superRefine((name, context) => {
  const problem = branchNameProblem(name)
  if (problem !== undefined) context.addIssue({ code: 'custom', message: `"${name}" ${problem}; give a branch name that git takes` })
})

const repository = z
  .string({ error: 'is missing; give the id of the repository, such as "acme/web"' })
  .superRefine((id, context) => {
    const problem = repositoryProblem(id)
    if (problem !== undefined) context.addIssue({ code: 'custom', message: `"${id}" ${problem}` })
  })
  .describe('The repository at the git host, such as acme/web.')

const ref = z.string().superRefine((name, context) => {
  const problem = branchNameProblem(name.replace(/^refs\/(heads|tags)\//, ''))
  if (problem !== undefined) context.addIssue({ code: 'custom', message: `"${name}" ${problem}; give a branch, a tag or a commit's sha` })
})

const command = z
  .string({ error: 'is missing; give the command that the step runs' })
  .refine((text) => text.trim() !== '', 'is empty; give the command that the step runs')
  .refine((text) => !text.includes('\0'), 'holds a NUL byte; no shell can run that')

const environmentName = z
  .string()
  .regex(/^[A-Za-z_]\w*$/, 'must be a name of letters, digits and "_" that does not start with a digit')
const environment = z.record(
  environmentName,
  z.string({ error: 'must be a string; write "1", not 1' }).refine((text) => !text.includes('\0'), 'holds a NUL byte'),
)

const relativePath = z
  .string()
  .min(1, 'is empty; leave it out to stay in the repository')
  .refine((path) => !path.startsWith('/') && !path.split('/').includes('..') && !path.includes('\0'), 'must be a path inside the repository, such as "packages/web"')

const stepObject = z.strictObject({
  name: z.string().min(1, 'is empty; leave it out to name the step by its number').max(100, 'is longer than 100 characters').optional(),
  run: command.describe('Shell commands, run by sh (by bash where the sandbox has it).'),
  timeout: duration.optional().describe('How long the step may take, such as 40m. Past it the job fails.'),
  cwd: relativePath.optional().describe('The folder to run in, relative to the repository.'),
  env: environment.optional(),
  resume: command
    .optional()
    .describe('Run instead of "run" when the step goes on in another sandbox, with what it had under checkpoint.paths: such as claude --resume "$ID" -p "Go on".'),
})

/** A step as it runs. */
export interface Step {
  readonly name: string
  readonly run: string
  readonly timeoutMs: number | undefined
  readonly cwd: string | undefined
  readonly env: Readonly<Record<string, string>>
  /** Run instead, when the step begins again after a move and its memory has moved along. */
  readonly resume: string | undefined
}

function toStep(input: string | z.output<typeof stepObject>, fallbackName: string): Step {
  const step = typeof input === 'string' ? { run: input } : input
  return { name: step.name ?? fallbackName, run: step.run, timeoutMs: step.timeout, cwd: step.cwd, env: step.env ?? {}, resume: step.resume }
}

const steps = z.array(z.union([command, stepObject], { error: 'must be a command, or an object such as { run: "npm test" }' }))

const authorName = z.string().superRefine((text, context) => {
  const problem = authorProblem('name', text)
  if (problem !== undefined) context.addIssue({ code: 'custom', message: `"${text}" ${problem}; give a name such as "Ada Lovelace"` })
})

const authorEmail = z.string().superRefine((text, context) => {
  const problem = authorProblem('address', text)
  if (problem !== undefined) context.addIssue({ code: 'custom', message: `"${text}" ${problem}; give an address such as "ada@example.com"` })
})

const message = z.string().superRefine((text, context) => {
  const problem = messageProblem(text)
  if (problem !== undefined) context.addIssue({ code: 'custom', message: `${problem}; give a message, or leave it out for the default one` })
})

const checkpointPath = z
  .string()
  .superRefine((path, context) => {
    const problem = checkpointPathProblem(path)
    if (problem !== undefined) context.addIssue({ code: 'custom', message: `"${path}" ${problem}` })
  })
  .transform(plainCheckpointPath)

/** A line of text at a git host: a title, a label, a person. */
const hostLine = (longest: number, what: string) =>
  z
    .string()
    .min(1, 'is empty; leave it out')
    .max(longest, `is longer than ${longest} characters`)
    .refine((text) => !/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\p{Bidi_Control}]/u.test(text), `holds a line break or a control character; give ${what} on one line`)

/** What git hosts take of a body, with room for the summary that is put below it. */
const longestBody = 20_000

const pullRequest = z.strictObject({
  base: branchName.optional().describe('The branch that the work is to go to; the default branch if left out.'),
  title: hostLine(200, 'a title').optional().describe('Default: the first line of push.message, or the job’s id.'),
  body: z.string().max(longestBody, `is longer than ${longestBody} characters`).optional().describe('Markdown. A summary of the result is put below it.'),
  draft: z.boolean({ error: 'must be true or false' }).default(false),
  labels: z.array(hostLine(50, 'a label').refine((label) => !label.includes(','), 'holds a comma; give each label by itself')).max(20, 'are more than 20').default([]),
  reviewers: z.array(hostLine(100, 'a name').refine((name) => !/\s|,/.test(name), 'holds a space or a comma; give each reviewer by itself')).max(15, 'are more than 15').default([]).describe('GitHub and GitLab: user names, and teams as ORGANISATION/TEAM at GitHub. Bitbucket: uuids or account ids.'),
})

const artifactPattern = z
  .string()
  .superRefine((pattern, context) => {
    const problem = artifactPatternProblem(pattern)
    if (problem !== undefined) context.addIssue({ code: 'custom', message: `"${pattern}" ${problem}` })
  })
  .transform(plainArtifactPattern)

const runAt = z.iso
  .datetime({ offset: true, error: 'must be a time with its zone, such as "2026-12-01T08:00:00Z"; of a Date, give date.toISOString()' })
  .refine((text) => Date.parse(text) <= Date.now() + longestAheadMs, 'is more than a year ahead; enqueue the job later')
  // Languages write one moment differently; a job is the same whichever enqueued it.
  .overwrite((text) => (Number.isNaN(Date.parse(text)) ? text : new Date(text).toISOString()))

const providerName = z.string().regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'must be lower-case letters, digits and "-"')

/** What a sandbox may reach. A list names the hosts that are allowed; the git host is so besides. */
export const networkPolicy = z.union([z.enum(['open', 'git-only', 'none']), z.array(z.string().min(1)).min(1, 'is empty; name at least one host, or use "git-only"')], {
  error: 'must be "open", "git-only", "none" or a list of hosts such as ["packages.example.com"]',
})
export type NetworkPolicy = z.output<typeof networkPolicy>

/** Of one list: a pattern as of gitignore. They are handed on with commas between. */
const lfsPatterns = z.array(z.string().min(1, 'is empty').max(1000, 'is longer than 1000 characters').regex(/^[^,\p{Cc}]+$/u, 'must hold no comma and no control character')).max(100, 'are more than 100')

/** What becomes of files of Git LFS. */
export const lfsPolicy = z.union([z.enum(['auto', 'off']), z.strictObject({ include: lfsPatterns.optional(), exclude: lfsPatterns.optional() })], { error: 'must be "auto", "off" or { include, exclude }' })
export type LfsPolicy = z.output<typeof lfsPolicy>

const defaultTimeoutMs = 3_600_000

/** What a provider says of a host: a name or an address, without a port. */
const injectHost = z.string().regex(/^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$/, 'must be one host name such as "api.example.com", without a scheme, a port or "*"').transform((host) => host.toLowerCase())
const injectHeader = z
  .string()
  .regex(/^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$/, 'must be the name of a header such as "x-api-key"')
  .refine((name) => !/^(host|content-length|transfer-encoding|connection)$/i.test(name), 'says how a request is sent; name another header')
const injection = z.strictObject({
  host: injectHost.describe('The host whose requests get the header.'),
  header: injectHeader.describe('The header that holds the value, such as "x-api-key" or "Authorization".'),
  prefix: z.string().regex(/^[\x20-\x7e]{1,100}$/, 'must be printable ASCII, at most 100 characters').optional().describe('What stands before the value, such as "Bearer ".'),
  fallback: z
    .literal('environment', { error: 'must be "environment", or left out' })
    .optional()
    .describe('What to do at a provider that adds no headers: give the value to the commands, as other secrets. Left out: the job is not run there.'),
})
const namedSecret = z.union([environmentName, z.strictObject({ name: environmentName, inject: injection })], { error: 'must be a name such as "API_KEY", or { name, inject: { host, header } }' })
/** A secret as the queue holds it, whose value a provider adds to requests outside of the sandbox. */
const secretInjection = injection.extend({ name: environmentName })
export type SecretInjection = z.output<typeof secretInjection>
/** With its value, as a consumer holds it. */
export type InjectedSecret = SecretInjection & { readonly value: string }

/** Whether a job needs a provider that adds headers. @param injects as of a spec, or of its constraints. */
export function needsInjection(injects: true | readonly Pick<SecretInjection, 'fallback'>[] | undefined): boolean {
  return injects === true || (injects ?? []).some(({ fallback }) => fallback === undefined)
}

const specObject = z.strictObject({
  repository,
  ref: ref.optional().describe('A branch, a tag or a sha; the default branch if left out.'),
  setup: steps.default([]).describe('Run at the start of every sandbox the job gets, so again after a failover.'),
  steps: steps.min(1, 'is empty; give at least one step'),
  env: environment.default({}),
  secrets: z
    .array(namedSecret)
    .default([])
    .describe('Names of environment variables of the consumer. Their values never enter the queue. With inject the provider adds the value to requests outside of the sandbox, which never holds it.'),
  lfs: lfsPolicy
    .optional()
    .describe('Files of Git LFS: "auto" (the default) fetches what the checkout needs where the sandbox has git-lfs, "off" leaves the pointers, { include, exclude } fetches what these patterns say. New ones are uploaded with the work.'),
  push: z
    .union([
      z.literal(false),
      z.strictObject({
        message: message.optional(),
        author: z.strictObject({ name: authorName, email: authorEmail }).optional(),
        keep: z.boolean().optional().describe('Keep the ephemeral branch past its retention.'),
        nestedRepositories: z
          .enum(['files', 'gitlink'], { error: 'must be "files" or "gitlink"' })
          .optional()
          .describe('What becomes of repositories within the repository that are no submodules: their files are saved as files (the default), or as git does, a link to a commit that stays in the sandbox.'),
      }),
    ], { error: 'must be false, or an object such as { message: "Fix the test" }; what a job makes is pushed unless it is false' })
    .default({})
    .describe('false: the job gets read-only tokens and nothing is pushed.'),
  promote: z
    .strictObject({
      to: branchName,
      strategy: z.enum(['ff_only', 'ff_prefer', 'merge'], { error: 'must be "ff_only", "ff_prefer" or "merge"' }).default('ff_only'),
      pullRequest: pullRequest.optional().describe('Open a pull request (a merge request at GitLab) from `to` to `base`, or update the one that is open.'),
    })
    .optional(),
  checkpoint: z
    .strictObject({
      everySeconds: z.number().min(1, 'must be at least 1').max(86_400, 'must be at most 86400 (a day)').default(60),
      paths: z
        .array(checkpointPath)
        .max(maxCheckpointPaths, `names more than ${maxCheckpointPaths} paths; name the folders above them`)
        .optional()
        .describe('What else is saved with the checkpoints and moves along: paths in the repository, ignored ones too, or in the home as ~/…'),
      maxPathsMiB: z
        .int('must be a whole number of MiB')
        .min(1, 'must be at least 1')
        .max(10_240, 'must be at most 10240 (10 GiB)')
        .optional()
        .describe(`How much they may hold together. Default ${defaultMaxPathsMiB}.`),
    })
    .default({ everySeconds: 60 }),
  artifacts: z
    .array(artifactPattern)
    .max(maxArtifactPatterns, `are more than ${maxArtifactPatterns}; name the folders above them`)
    .optional()
    .describe('Files of the repository that are stored when the job ends, however it does, ignored ones too: paths, folders and patterns such as "coverage/**". The result lists them.'),
  providers: z
    .strictObject({
      allow: z.array(providerName).min(1, 'is empty; leave it out to allow every provider').optional(),
      prefer: z.array(providerName).default([]),
      deny: z.array(providerName).default([]),
    })
    .default({ prefer: [], deny: [] }),
  resources: z
    .strictObject({
      cpu: z.number().positive('must be more than 0').max(256).optional(),
      memoryMiB: z.int('must be a whole number of MiB').min(64, 'must be at least 64').max(4 * 1024 * 1024).optional(),
      diskMiB: z.int('must be a whole number of MiB').min(64, 'must be at least 64').optional(),
    })
    .default({}),
  image: z.string().min(1).optional().describe('The image or template to start from; the provider’s default if left out.'),
  network: networkPolicy.default('open'),
  timeout: duration.default(defaultTimeoutMs).describe('How long the job may run, from its first sandbox on; with attempts, each of them. Default 1h.'),
  waitTimeout: duration.optional().describe('How long the job may wait for its first sandbox, such as 30m. Default: without limit.'),
  delay: duration.optional().describe('How long the job is not to be run yet, from when it is enqueued, such as 10m.'),
  runAt: runAt.optional().describe('When the job is to be run at the earliest, such as 2026-12-01T08:00:00Z. A time that is past is now.'),
  attempts: z
    .int('must be a whole number')
    .min(1, 'must be at least 1')
    .max(100, 'must be at most 100')
    .optional()
    .describe('How often the whole job is run, from the start and on a branch of its own each time, until it succeeds. Default 1.'),
  priority: z
    .int('must be a whole number')
    .min(1, 'must be at least 1 (1 runs first)')
    .max(1_000_000, 'must be at most 1000000')
    .default(100)
    .describe('Lower runs first, as in BullMQ. Default 100.'),
  idempotencyKey: z.string().min(1, 'is empty; leave it out').max(500).optional(),
  tenant: tenantName().optional(),
  budget: z
    .strictObject({ amount: budgetAmount }, { error: 'must be an object such as { amount: 2.5 }' })
    .optional()
    .describe('What the job’s sandboxes may cost together, in the deployment’s currency; then it is parked until that is raised. See docs/budgets.md.'),
  concurrency: z
    .strictObject({
      key: z.string().min(1, 'is empty; name what such jobs must not do at once, such as "acme/web:main"').max(200, 'is longer than 200 characters; give a shorter one'),
      limit: z.int('must be a whole number').min(1, 'must be at least 1').max(1_000, 'must be at most 1000').default(1).describe('How many jobs with this key may run at once. Default 1.'),
      then: z
        .enum(['wait', 'cancel-running', 'cancel-waiting', 'drop'], { error: 'must be "wait", "cancel-running", "cancel-waiting" or "drop"' })
        .default('wait')
        .describe('What becomes of this job and of others with the key when it comes and they are too many: it waits; it takes the place of those that run and wait; of those that wait; or it is cancelled itself. Default "wait".'),
    })
    .optional()
    .describe('Jobs of all queues of the deployment that share this key do not run at once.'),
  events: eventKindsSchema.optional().describe('What is told of the job besides its end, to whoever subscribes to it: "enqueued", "started", "step.finished", "checkpointed", "moved", "parked", "promoted".'),
  webhooks: z
    .array(jobWebhookSchema)
    .max(maxJobWebhooks, `are more than ${maxJobWebhooks}; let a receiver pass events on`)
    .optional()
    .describe('Where the job’s events are posted to, signed; see docs/webhooks.md.'),
  metadata: z.record(z.string(), z.json()).default({}),
})

/** The zod schema of a job as users write it; its output is what the queue holds. */
export const jobSpecSchema = specObject
  .superRefine((spec, context) => {
    if (spec.promote !== undefined && spec.push === false) {
      context.addIssue({ code: 'custom', path: ['promote'], message: 'needs a push; leave out "push: false" or leave out "promote"' })
    }
    const denied = new Set(spec.providers.deny)
    for (const name of [...(spec.providers.allow ?? []), ...spec.providers.prefer]) {
      if (denied.has(name)) {
        context.addIssue({ code: 'custom', path: ['providers', 'deny'], message: `"${name}" is denied and also allowed or preferred; name it once` })
      }
    }
    if (spec.promote?.pullRequest?.base === spec.promote?.to && spec.promote?.pullRequest !== undefined) {
      context.addIssue({ code: 'custom', path: ['promote', 'pullRequest', 'base'], message: 'is the branch that the work is promoted to; give another, or another promote.to' })
    }
    const names = new Set<string>()
    if (spec.delay !== undefined && spec.runAt !== undefined) context.addIssue({ code: 'custom', path: ['runAt'], message: 'is given together with delay; give one of the two' })
    for (const [field, list, fallback] of [['setup', spec.setup, 'setup'], ['steps', spec.steps, 'step']] as const) {
      list.forEach((step, index) => {
        const name = (typeof step === 'string' ? undefined : step.name) ?? `${fallback} ${index + 1}`
        // Output is kept by step name, so a name must mean one step.
        if (names.has(name)) context.addIssue({ code: 'custom', path: [field, index, 'name'], message: `"${name}" is used twice; give each step a name of its own` })
        names.add(name)
      })
    }
    const paths = spec.checkpoint.paths ?? []
    paths.forEach((path, index) => {
      const above = paths.find((other, at) => (other === path ? at < index : path.startsWith(`${other}/`)))
      if (above !== undefined) context.addIssue({ code: 'custom', path: ['checkpoint', 'paths', index], message: `"${path}" is in "${above}", which is named as well; leave it out` })
    })
    spec.setup.forEach((step, index) => {
      if (typeof step === 'string' || step.resume === undefined) return
      context.addIssue({ code: 'custom', path: ['setup', index, 'resume'], message: 'is for steps; setup runs anew in every sandbox' })
    })
    spec.steps.forEach((step, index) => {
      if (typeof step === 'string' || step.resume === undefined) return
      const refuse = (problem: string) => context.addIssue({ code: 'custom', path: ['steps', index, 'resume'], message: problem })
      if (spec.push === false) refuse('needs checkpoints; leave out "push: false"')
      else if (paths.length === 0) refuse('needs checkpoint.paths; name the folders in which the command keeps what it resumes from')
    })
    const headers = new Set<string>()
    spec.secrets.forEach((secret, index) => {
      if (typeof secret === 'string') return
      const refuse = (field: string, problem: string) => context.addIssue({ code: 'custom', path: ['secrets', index, 'inject', field], message: problem })
      const { host, header, fallback } = secret.inject
      const key = `${host} ${header.toLowerCase()}`
      if (headers.has(key)) refuse('header', `"${header}" of ${host} is set twice; set it once`)
      headers.add(key)
      if (fallback === undefined && !isLetThrough(spec.network, host)) refuse('host', `"${host}" is not let through by network; name it there`)
    })
    const secretNames = spec.secrets.map(nameOf)
    const timesNamed = new Map<string, number>()
    for (const name of secretNames) timesNamed.set(name, (timesNamed.get(name) ?? 0) + 1)
    secretNames.forEach((name, index) => {
      if (typeof spec.secrets[index] === 'object' && (timesNamed.get(name) ?? 0) > 1) context.addIssue({ code: 'custom', path: ['secrets', index, 'name'], message: `"${name}" is named twice; name it once` })
    })
    for (const name of secretNames) {
      if (Object.hasOwn(spec.env, name)) context.addIssue({ code: 'custom', path: ['env', name], message: 'is also named in secrets; give it in one of the two' })
    }
  })
  .transform(({ setup, steps: written, timeout, waitTimeout, delay, secrets, ...rest }) => ({
    ...rest,
    secrets: secrets.map(nameOf),
    injects: injectionsOf(secrets),
    timeoutMs: timeout,
    waitTimeoutMs: waitTimeout,
    delayMs: delay,
    setup: setup.map((step, index) => toStep(step, stepName(index, 'setup'))),
    steps: written.map((step, index) => toStep(step, stepName(index))),
  }))

type NamedSecret = z.output<typeof namedSecret>

function nameOf(secret: NamedSecret): string {
  return typeof secret === 'string' ? secret : secret.name
}

function injectionsOf(secrets: readonly NamedSecret[]): SecretInjection[] | undefined {
  const injected = secrets.flatMap((secret) => (typeof secret === 'string' ? [] : [{ name: secret.name, ...secret.inject }]))
  return injected.length === 0 ? undefined : injected
}

/** Names of a list may begin with "*."; what is an address range is not looked into. */
function isLetThrough(network: NetworkPolicy, host: string): boolean {
  if (!Array.isArray(network)) return network === 'open'
  return network.some((entry) => entry.toLowerCase() === host || entry.includes('/') || (entry.startsWith('*.') && host.endsWith(entry.slice(1).toLowerCase())))
}

/** A job as users write it. */
export type JobSpecInput = z.input<typeof jobSpecSchema>
/** A validated job: defaults filled in, durations in milliseconds, steps as objects. */
export type JobSpec = z.output<typeof jobSpecSchema>

/**
 * Validates a job spec.
 * @param maxBytes the size that its JSON may have.
 * @throws InvalidInputError with a sentence for every problem.
 */
export function parseJobSpec(input: unknown, maxBytes: number = defaultMaxSpecBytes): JobSpec {
  const sized = z.unknown().superRefine((value, context) => {
    const text = jsonOf(value)
    if (typeof text !== 'string') {
      context.addIssue({ code: 'custom', message: text.problem })
      return
    }
    const bytes = Buffer.byteLength(text)
    if (bytes > maxBytes) {
      context.addIssue({ code: 'custom', message: `is ${bytes} bytes as JSON, over the limit of ${maxBytes}; commit large inputs to the repository instead` })
    }
    // Before each is looked at: half a million wrong ones would keep whoever checks them for seconds.
    for (const [field, list] of Object.entries(typeof value === 'object' && value !== null ? value : {})) {
      if ((field === 'steps' || field === 'setup') && Array.isArray(list) && list.length > maxSteps) {
        context.addIssue({ code: 'custom', path: [field], message: `are more than ${maxSteps}; put them into a script of the repository` })
      }
    }
  })
  parseInput(sized, input, 'job spec')
  return parseInput(jobSpecSchema, input, 'job spec')
}

/** Deeper values can't be read by everything that reads a queue. */
const deepestNesting = 100

/** A value as the queue will hold it, or why it can't. */
function jsonOf(value: unknown): string | { readonly problem: string } {
  if (isDeeper(value, deepestNesting)) return { problem: `is nested more than ${deepestNesting} levels deep, or within itself; make it flatter` }
  try {
    // Of a function or a symbol it makes nothing.
    const text: unknown = JSON.stringify(value)
    return typeof text === 'string' ? text : 'null'
  } catch (error) {
    return { problem: `can't be written as JSON (${errorMessage(error)}); give texts, numbers, lists and objects alone` }
  }
}

/** By levels, since a value within itself has no end. */
function isDeeper(value: unknown, most: number): boolean {
  let level: unknown[] = [value]
  for (let depth = 0; depth <= most; depth++) {
    const below = new Set(level.flatMap((part) => (typeof part === 'object' && part !== null ? (Object.values(part) as unknown[]).filter((inner) => typeof inner === 'object' && inner !== null) : [])))
    if (below.size === 0) return false
    level = [...below]
  }
  return true
}

/** A command alone stands for its step; so it may be in what was added by hand. */
const queuedStep = z.preprocess((step) => (typeof step === 'string' ? { run: step } : step), z
  .strictObject({ name: z.string().optional(), run: command, timeoutMs: z.int().min(1).optional(), cwd: relativePath.optional(), env: environment.default({}), resume: command.optional() })
  .transform(({ name, ...step }) => ({ name, run: step.run, timeoutMs: step.timeoutMs, cwd: step.cwd, env: step.env, resume: step.resume })))

const named = (kind?: 'setup') => (steps: z.output<typeof queuedStep>[]): Step[] => steps.map(({ name, ...step }, index) => ({ name: name ?? stepName(index, kind), ...step }))

/** A validated spec as the queue holds it: JSON, so without its undefined fields, and without what it has in any case (`shortSpec`). */
const queuedSpecSchema = specObject
  .omit({ setup: true, steps: true, timeout: true, waitTimeout: true, delay: true, secrets: true })
  .extend({
    secrets: z.array(environmentName).default([]),
    injects: z.array(secretInjection).optional(),
    timeoutMs: z.int().min(1).default(defaultTimeoutMs),
    waitTimeoutMs: z.int().min(1).optional(),
    delayMs: z.int().min(1).optional(),
    setup: z.array(queuedStep).default([]).transform(named('setup')),
    steps: z.array(queuedStep).min(1).transform(named()),
  })
  .transform((spec) => ({ ...spec, injects: spec.injects, waitTimeoutMs: spec.waitTimeoutMs, delayMs: spec.delayMs }))

/**
 * Reads a spec out of the queue, which anybody with access to Redis can write to.
 * @throws NewerReleaseError when it has fields that this release doesn't know and is right otherwise; InvalidInputError with a
 * sentence for every problem.
 */
export function parseQueuedSpec(value: unknown): JobSpec {
  if (isDeeper(value, deepestNesting)) throw new InvalidInputError(`queued spec: is nested more than ${deepestNesting} levels deep; no producer of Switchyard writes that`)
  const parsed = queuedSpecSchema.safeParse(value)
  if (parsed.success) return parsed.data
  const problem = invalidInput(parsed.error.issues, 'queued spec')
  if (hasOnlyUnknownFields(parsed.error.issues)) throw new NewerReleaseError(`${problem.message}, unless a newer release wrote it: then update this consumer`)
  throw problem
}

/** What a validated spec has unless it says otherwise. */
const usual = {
  setup: [],
  env: {},
  secrets: [],
  push: {},
  checkpoint: { everySeconds: 60 },
  providers: { prefer: [], deny: [] },
  resources: {},
  network: 'open',
  timeoutMs: defaultTimeoutMs,
  priority: 100,
  metadata: {},
} satisfies Partial<JobSpec>
const usualJson = new Map(Object.entries(usual).map(([name, value]) => [name, JSON.stringify(value)]))

/** A validated spec without what `parseQueuedSpec` and `wholeSpec` put back: what waits by the million is held so. */
export function shortSpec(spec: JobSpec): object {
  const short = (steps: readonly Step[], kind?: 'setup') =>
    steps.map(({ name, run, env, ...step }, index) => ({ ...(name === stepName(index, kind) ? {} : { name }), run, ...step, ...(Object.keys(env).length === 0 ? {} : { env }) }))
  const kept = Object.entries(spec).filter(([name, value]) => usualJson.get(name) !== JSON.stringify(value))
  return { ...Object.fromEntries(kept), ...(spec.setup.length === 0 ? {} : { setup: short(spec.setup, 'setup') }), steps: short(spec.steps) }
}

/** The opposite of `shortSpec`, which checks nothing. */
export function wholeSpec(short: object): object {
  const { setup = [], steps = [] } = short as { setup?: (object | string)[]; steps?: (object | string)[] }
  const whole = (list: readonly (object | string)[], kind?: 'setup') => list.map((step, index) => ({ name: stepName(index, kind), env: {}, ...(typeof step === 'string' ? { run: step } : step) }))
  return { ...usual, ...short, setup: whole(setup, 'setup'), steps: whole(steps) }
}
