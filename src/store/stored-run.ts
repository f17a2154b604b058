import { z } from 'zod'
import { NewerReleaseError } from '../job/errors.js'
import { invalidInput } from '../job/explain.js'
import { type JobResult, jobResultSchema, wholeResult } from '../job/result.js'
import { type RunRecord, runRecordSchema } from '../job/run-record.js'
import { type LastRun, lastRun, runFields } from './next-run.js'
import { recordIn } from './stored-record.js'

/** A request to cancel a job. */
export interface CancelRequest {
  readonly reason: string
  /** Milliseconds since 1970. */
  readonly atMs: number
}

/** What Redis holds of a job's current run. */
export interface StoredRun {
  readonly generation: number
  readonly fence: number
  /** The consumer that took it last; null when it was cancelled before anybody took it. */
  readonly holder: string | null
  /** Null when it was cancelled before anybody took it. */
  readonly record: RunRecord | null
  /** Why it does not move, such as "waiting for capacity: …". */
  readonly reason: string | null
  readonly cancel: CancelRequest | null
  /** Not null once the run has ended. */
  readonly result: JobResult | null
  /** By what it is told whether it is still the job's. */
  readonly last: LastRun
  /** When it was written last, in milliseconds since 1970 by the writer's clock. */
  readonly atMs: number
}

const hashSchema = z.object({
  generation: z.coerce.number().int().min(1),
  fence: z.coerce.number().int().min(0),
  holder: z.string().optional(),
  record: z.string().optional(),
  reason: z.string().optional(),
  cancelReason: z.string().optional(),
  cancelAtMs: z.coerce.number().optional(),
  result: z.string().optional(),
  atMs: z.coerce.number(),
})

/**
 * Reads a run's hash; null when there is only a request to cancel that waits for its job's first holder.
 * @param runId the job's id among all queues, which the hash is kept under.
 * @param forShow a record that this release can't read is left out and `reason` says so.
 * @throws NewerReleaseError otherwise.
 */
export function parseRun(hash: Record<string, string>, runId: string, forShow = false): StoredRun | null {
  if (hash['generation'] === undefined) return null
  const run = hashSchema.parse(hash)
  const stored = {
    generation: run.generation,
    fence: run.fence,
    holder: run.holder ?? null,
    reason: run.reason ?? null,
    cancel: run.cancelReason === undefined || run.result !== undefined ? null : { reason: run.cancelReason, atMs: run.cancelAtMs ?? run.atMs },
    last: lastRun(runFields.map((field) => hash[field] ?? null), run.generation),
    atMs: run.atMs,
  }
  try {
    const result = run.result === undefined ? null : readResult(run.result, runId, 'the result')
    return { ...stored, record: run.record === undefined ? null : readRecord(hash, result, 'the run record'), result }
  } catch (error) {
    if (!forShow || !(error instanceof NewerReleaseError)) throw error
    return { ...stored, record: null, result: null, reason: error.message }
  }
}

/**
 * The record in a run's hash.
 * @param result the run's, once it has ended.
 * @throws NewerReleaseError as of `readResult`.
 */
export function readRecord(hash: Readonly<Record<string, string>>, result: JobResult | null, what: string): RunRecord {
  return checkStored(runRecordSchema, recordIn(hash, result), what)
}

/**
 * An ended run's result.
 * @param runId what it is held under.
 * @throws NewerReleaseError when it is not what this release knows. Fields that it doesn't know are kept, see `lastingObject`.
 */
export function readResult(json: string, runId: string, what: string): JobResult {
  return checkStored(jobResultSchema, wholeResult(JSON.parse(json), runId), what)
}

function checkStored<Schema extends z.ZodType>(schema: Schema, stored: unknown, what: string): z.output<Schema> {
  const parsed = schema.safeParse(stored)
  if (parsed.success) return parsed.data
  throw new NewerReleaseError(`${what} can't be read by this release (${invalidInput(parsed.error.issues, 'it').message}); update this process to the one that wrote it`)
}

export function toCancel(reason: string | null, atMs: string | null): CancelRequest | null {
  return reason === null ? null : { reason, atMs: Number(atMs ?? 0) }
}
