import type { Redis } from 'ioredis'
import { z } from 'zod'
import { billedSchema, costSchema } from '../job/cost.js'
import type { Keys } from './keys.js'
import { runScript } from './scripts.js'

/** What a list shows of a job of the queue; nothing of it is truth. */
export interface JobGlance {
  readonly jobId: string
  /** The repository, of what Switchyard has put there. */
  readonly name: string
  /** What the job's supervisor showed last. */
  readonly progress: JobProgress
  /** Milliseconds since 1970. */
  readonly enqueuedAtMs: number
  readonly endedAtMs: number | null
  /** How it ended, as BullMQ has it; null where it did not, or not so. */
  readonly failedReason: string | null
  readonly returned: string | null
  readonly consumer: string | null
  readonly reason: string | null
  /** The end of its output. */
  readonly output: string
}

const progressSchema = z.object({
  phase: z.string().nullable().catch(null),
  provider: z.string().nullable().catch(null),
  step: z.string().nullable().catch(null),
  attempt: z.number().catch(0),
  sinceMs: z.number().nullable().catch(null),
  tenant: z.string().nullable().catch(null),
  spent: costSchema.nullable().catch(null),
  billed: z.array(billedSchema).max(4).catch([]),
  waiting: z.string().nullable().catch(null),
})
export type JobProgress = z.output<typeof progressSchema>

const nothing: JobProgress = { phase: null, provider: null, step: null, attempt: 0, sinceMs: null, tenant: null, spent: null, billed: [], waiting: null }
const reply = z.array(z.array(z.string()).length(9))
/** How many jobs one script looks at. */
const mostJobs = 200

/**
 * Looks at jobs, at most 200, in one command, however large they are.
 * @param outputBytes how much of the end of each one's output is wanted; 0 for none.
 */
export async function jobGlances(redis: Redis, keys: Keys, jobIds: readonly string[], outputBytes: number): Promise<JobGlance[]> {
  const ids = jobIds.slice(0, mostJobs)
  if (ids.length === 0) return []
  const answers = reply.parse(await runScript(redis, 'jobs-glance', ids.flatMap((id) => [keys.job(id), keys.run(id), keys.log(id)]), [outputBytes]))
  return ids.map((jobId, index) => {
    const [name = '', progress = '', enqueued = '', ended = '', failed = '', returned = '', holder = '', reason = '', output = ''] = answers[index] ?? []
    return {
      jobId,
      name,
      progress: readProgress(progress),
      enqueuedAtMs: Number(enqueued === '' ? 0 : enqueued),
      endedAtMs: ended === '' ? null : Number(ended),
      failedReason: failed === '' ? null : failed,
      returned: returned === '' ? null : returned,
      consumer: holder === '' ? null : holder,
      reason: reason === '' ? null : reason,
      output,
    }
  })
}

/** Anybody can write anything there. */
function readProgress(json: string): JobProgress {
  try {
    return progressSchema.safeParse(JSON.parse(json)).data ?? nothing
  } catch {
    return nothing
  }
}
