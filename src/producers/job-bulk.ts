import { counted } from '../job/counted.js'
import { InvalidInputError, RedisUnavailableError, SwitchyardError, UnknownJobError, errorMessage } from '../job/errors.js'
import type { JobPage, ListOptions } from './job-pages.js'
import type { JobFilter } from './job-where.js'
import type { JobStatus } from '../job/status.js'

/** What is done to many jobs. */
export interface BulkOptions {
  /** How many jobs at most, from 1 to 100,000. Default 1,000. */
  readonly limit?: number | undefined
  /** Only find them. */
  readonly dryRun?: boolean | undefined
}

/** One that it could not be done to. */
export interface BulkFailure {
  readonly jobId: string
  readonly code: string
  readonly message: string
}

export interface BulkResult {
  /** How many jobs the filter found, up to the limit. */
  readonly found: number
  /** Whether there are more than that, to which nothing was done. */
  readonly more: boolean
  /** The ids of those to which it was done; with `dryRun` of those to which it would be. */
  readonly jobIds: readonly string[]
  /** Those that had come elsewhere meanwhile (ended, or waiting again), and were left alone. */
  readonly unchanged: number
  readonly failed: readonly BulkFailure[]
}

/** Thrown where Redis went away, or refused writes, while something was done to many jobs. */
export class BulkInterruptedError extends RedisUnavailableError {
  override readonly name = 'BulkInterruptedError'

  /** @param result what was done until then; the jobs whose calls were under way may have been seen to or not. */
  constructor(action: string, readonly result: BulkResult, cause: RedisUnavailableError, isAllDone = false) {
    const done = `${result.jobIds.length} of ${counted(result.found, 'job')} were seen to`
    super(`${action}: ${done}, and ${isAllDone ? 'the audit log has no entry of it' : 'nothing more was begun'}: ${cause.message}`, { cause }, cause.mend)
  }
}

export const defaultBulkLimit = 1_000
export const mostBulk = 100_000
const jobsPerPage = 500
const atOnce = 10

/**
 * Finds jobs, all of them first, since what is done to them changes what is found; then does it to each, some at a time. What fails for one is noted,
 * and the others go on; only where Redis is away it ends.
 * @param action what it is called.
 * @param states one list after the other.
 * @param work is told when the run that was found had ended, null where it had not; returns whether anything was done.
 * @throws InvalidInputError for a limit that can't be, RedisUnavailableError, BulkInterruptedError once something was done.
 */
export async function toMany(
  action: string,
  list: (options: ListOptions) => Promise<JobPage>,
  filter: JobFilter,
  states: readonly JobStatus['state'][],
  { limit = defaultBulkLimit, dryRun = false }: BulkOptions,
  work: (jobId: string, endedAtMs: number | null) => Promise<boolean>,
): Promise<BulkResult> {
  if (!Number.isInteger(limit) || limit < 1 || limit > mostBulk) throw new InvalidInputError(`limit: must be a whole number from 1 to ${mostBulk}`)
  const { found, more } = await find(list, filter, states, limit)
  if (dryRun) return { found: found.size, more, jobIds: [...found.keys()], unchanged: 0, failed: [] }
  const done: string[] = []
  let away: RedisUnavailableError | undefined
  const failed: BulkFailure[] = []
  let unchanged = 0
  const left = [...found]
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      for (let next = left.shift(); next !== undefined; next = left.shift()) {
        const [jobId, endedAtMs] = next
        try {
          if (await work(jobId, endedAtMs)) done.push(jobId)
          else unchanged += 1
        } catch (error) {
          if (error instanceof RedisUnavailableError) {
            left.length = 0
            away ??= error
            return
          }
          // It was removed meanwhile.
          if (error instanceof UnknownJobError) unchanged += 1
          else failed.push({ jobId, code: error instanceof SwitchyardError ? error.code : 'SWY_INTERNAL', message: errorMessage(error) })
        }
      }
    }),
  )
  const result = { found: found.size, more, jobIds: done, unchanged, failed }
  if (away !== undefined) throw done.length === 0 ? away : new BulkInterruptedError(action, result, away)
  return result
}

async function find(list: (options: ListOptions) => Promise<JobPage>, filter: JobFilter, states: readonly JobStatus['state'][], limit: number): Promise<{ found: Map<string, number | null>; more: boolean }> {
  const found = new Map<string, number | null>()
  for (const state of states) {
    let cursor: string | null | undefined
    while (cursor !== null) {
      const page: JobPage = await list({ ...filter, state, limit: jobsPerPage, reasons: false, cursor })
      for (const { jobId, endedAtMs } of page) {
        if (found.size === limit && !found.has(jobId)) return { found, more: true }
        found.set(jobId, endedAtMs)
      }
      cursor = page.cursor
    }
  }
  return { found, more: false }
}
