import { z } from 'zod'
import { duration } from './duration.js'
import { InvalidInputError } from './errors.js'
import { parseInput } from './explain.js'
import { hasDay, type Missed, nextSlot, type Overlap, type ScheduleRules } from './schedule-slots.js'
import type { JobSpecInput } from './spec.js'

export type { Missed, Overlap, ScheduleRules } from './schedule-slots.js'

/** A schedule as users write it. */
export interface ScheduleInput {
  /** Five fields (minute, hour, day of month, month, day of week), six with seconds first, or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`. */
  readonly cron?: string | undefined
  /** A period in place of `cron`, such as `15m`: at the whole multiples of it since 1970, UTC. From 1s to 7d. */
  readonly every?: string | undefined
  /** Whose clock `cron` goes by, such as `Europe/Berlin`. Default `UTC`. */
  readonly timezone?: string | undefined
  /** The job of each run, as `enqueue` takes it, without `idempotencyKey`, `delay` and `runAt`. */
  readonly job: JobSpecInput
  /** `skip` (the default): none of them is run. `once`: one run for all. `all`: each, the latest 100. */
  readonly missed?: Missed | undefined
  /** `skip` (the default): it is not begun, which the schedule then says. `allow`: both run, up to 100. `replace`: the predecessor is cancelled. */
  readonly overlap?: Overlap | undefined
}

/** What ids and the names made of them share: job ids, branches and keys begin with it. */
const idSchema = z
  .string({ error: 'must be a text' })
  .max(60, 'is longer than 60 characters')
  .regex(/^[A-Za-z0-9](?:[\w-]|\.(?!\.|$))*$/, 'must be letters, digits, "_", "-" and single dots, and begin with a letter or a digit, such as "nightly-update"')

const leastEveryMs = 1_000
const longestCron = 200
const presets = new Set(['@hourly', '@daily', '@weekly', '@monthly', '@yearly'])

/** All of a schedule but its job. */
export const rulesSchema = z
  .strictObject({
    // As it is kept: the library wants nothing around a name such as "@daily".
    cron: z.string({ error: 'must be a text such as "0 8 * * 1-5"' }).max(longestCron, `is longer than ${longestCron} characters`).trim().optional(),
    every: duration.refine((everyMs) => everyMs >= leastEveryMs, 'must be at least "1s"').optional(),
    timezone: z.string().refine(isTimezone, 'is not a time zone; give one such as "Europe/Berlin"').optional(),
    job: z.unknown(),
    missed: z.enum(['skip', 'once', 'all'], { error: 'must be "skip", "once" or "all"' }).default('skip'),
    overlap: z.enum(['allow', 'skip', 'replace'], { error: 'must be "allow", "skip" or "replace"' }).default('skip'),
  })
  .superRefine(({ cron, every, timezone }, context) => {
    const refuse = (path: string[], message: string) => context.addIssue({ code: 'custom', path, message })
    if ((cron === undefined) === (every === undefined)) refuse([cron === undefined ? 'cron' : 'every'], cron === undefined ? 'is missing, and so is "every"; give one of the two' : 'is given together with cron; give one of the two')
    if (every !== undefined && timezone !== undefined) refuse(['timezone'], 'is for cron; a period is the same everywhere')
    const problem = cron === undefined || (timezone !== undefined && !isTimezone(timezone)) ? undefined : cronProblem(cron, timezone ?? 'UTC')
    if (problem !== undefined) refuse(['cron'], `"${cron ?? ''}" ${problem}`)
  })

/** @throws InvalidInputError. */
export function parseScheduleId(id: unknown): string {
  return parseInput(idSchema, id, 'schedule id')
}

/**
 * Checks all of a schedule but its job.
 * @returns its rules, and the job as it was given.
 * @throws InvalidInputError with a sentence for every problem.
 */
export function parseSchedule(input: unknown): ScheduleRules & { readonly job: unknown } {
  const { cron, every, timezone, job, missed, overlap } = parseInput(rulesSchema, input, 'schedule')
  if (job === undefined) throw new InvalidInputError('job: is missing; give the job that is to be run')
  const own = typeof job === 'object' && job !== null ? ['idempotencyKey', 'delay', 'runAt'].filter((field) => field in job) : []
  if (own.length > 0) throw new InvalidInputError(`job.${own[0] ?? ''}: is set by the schedule for each run; leave it out`, own.map((field) => `job.${field}: is set by the schedule for each run; leave it out`))
  return { timing: cron === undefined ? { everyMs: every ?? leastEveryMs } : { cron, timezone: timezone ?? 'UTC' }, missed, overlap, job }
}

function isTimezone(name: string): boolean {
  try {
    return new Intl.DateTimeFormat('en', { timeZone: name }).resolvedOptions().timeZone !== ''
  } catch {
    return false
  }
}

/** Half a sentence, or undefined for one that can be. */
function cronProblem(text: string, timezone: string): string | undefined {
  const mend = 'give five fields such as "0 8 * * 1-5", or six with seconds first'
  if (text.startsWith('@') ? !presets.has(text) : ![5, 6].includes(text.split(/\s+/).length)) return `is no cron expression; ${mend}`
  // `H` stands for a number that each process would choose anew.
  if (/(^|[\s,])H([\s,(/]|$)/.test(text)) return 'holds "H", which means another time in each process; give a number'
  try {
    return !hasDay(text) || nextSlot({ cron: text, timezone }, Date.UTC(2026, 0, 1)) === null ? 'never comes; correct its day and month' : undefined
  } catch (error) {
    return `is no cron expression (${error instanceof Error ? error.message : String(error)}); ${mend}`
  }
}
