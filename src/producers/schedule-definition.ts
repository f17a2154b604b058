import { z } from 'zod'
import { NewerReleaseError } from '../job/errors.js'
import type { ScheduleRules } from '../job/schedule.js'
import { type JobSpec, parseQueuedSpec } from '../job/spec.js'
import { shownSpec } from './queue-view.js'

/** A checked schedule: its rules, and the job that each of its runs is. */
export type ScheduleDefinition = ScheduleRules & { readonly spec: JobSpec }

const definitionSchema = z.strictObject({
  timing: z.union([z.strictObject({ cron: z.string(), timezone: z.string() }), z.strictObject({ everyMs: z.int().min(1) })]),
  missed: z.enum(['skip', 'once', 'all']),
  overlap: z.enum(['allow', 'skip', 'replace']),
  spec: z.unknown(),
})

/** As much as is needed to show one. */
const shownSchema = z.looseObject({
  timing: z.union([z.looseObject({ cron: z.string(), timezone: z.string() }), z.looseObject({ everyMs: z.number() })]),
  missed: z.string(),
  overlap: z.string(),
  spec: z.unknown(),
})

/** As `readDefinition`, for people: what a newer release wrote is shown as it stands. Null for what can't be. */
export function shownDefinition(json: string): ScheduleDefinition | null {
  const parsed = shownSchema.safeParse(JSON.parse(json))
  const spec = parsed.success ? shownSpec(parsed.data.spec) : undefined
  if (!parsed.success || spec === undefined) return null
  const { timing, missed, overlap } = parsed.data
  // Words that this release does not know are its reader's to look up.
  return { timing: 'cron' in timing ? { cron: String(timing.cron), timezone: String(timing.timezone) } : { everyMs: timing.everyMs }, missed: missed as ScheduleRules['missed'], overlap: overlap as ScheduleRules['overlap'], spec }
}

/** @throws NewerReleaseError for one that this release can't read. */
export function readDefinition(id: string, json: string): ScheduleDefinition {
  const parsed = definitionSchema.safeParse(JSON.parse(json))
  if (!parsed.success) throw new NewerReleaseError(`schedule "${id}" can't be read by this release; update this process to the one that wrote it`)
  return { ...parsed.data, spec: parseQueuedSpec(parsed.data.spec) }
}
