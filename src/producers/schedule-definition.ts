import { z } from 'zod'
import { NewerReleaseError } from '../job/errors.js'
import type { ScheduleRules } from '../job/schedule.js'
import { type JobSpec, parseQueuedSpec } from '../job/spec.js'

/** A checked schedule: its rules, and the job that each of its runs is. */
export type ScheduleDefinition = ScheduleRules & { readonly spec: JobSpec }

const definitionSchema = z.strictObject({
  timing: z.union([z.strictObject({ cron: z.string(), timezone: z.string() }), z.strictObject({ everyMs: z.int().min(1) })]),
  missed: z.enum(['skip', 'once', 'all']),
  overlap: z.enum(['allow', 'skip', 'replace']),
  spec: z.unknown(),
})

/** @throws NewerReleaseError for one that this release can't read. */
export function readDefinition(id: string, json: string): ScheduleDefinition {
  const parsed = definitionSchema.safeParse(JSON.parse(json))
  if (!parsed.success) throw new NewerReleaseError(`schedule "${id}" can't be read by this release; update this process to the one that wrote it`)
  return { ...parsed.data, spec: parseQueuedSpec(parsed.data.spec) }
}
