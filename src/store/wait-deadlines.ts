import type { Redis } from 'ioredis'
import { z } from 'zod'
import type { JobSpec } from '../job/spec.js'
import type { Keys } from './keys.js'
import { lastRun, nextGeneration, queuedFacts, queuedFields, runFields } from './next-run.js'
import { queueScript, runScript } from './scripts.js'

/** A job whose time to wait is over, as the queue holds it. */
export interface OverdueJob {
  readonly jobId: string
  /** What the queue holds of it, as JSON; null when it does not hold it any more. */
  readonly data: string | null
  /** Of the run that is next. */
  readonly generation: number
  /** A consumer has, or had, this run in hand: it ends it itself. */
  readonly taken: boolean
  /** It is not to be run yet. */
  readonly delayed: boolean
  /** When it might first be run, by the clock of who enqueued it; null where that says nothing of the next run. */
  readonly fromMs: number | null
}

interface WaitingJob {
  readonly jobId: string
  /** After how long the job may run, in milliseconds, and its time to wait begins. Default 0. */
  readonly delayMs?: number | undefined
  readonly spec: Pick<JobSpec, 'waitTimeoutMs'>
}

const answers = z.array(z.string())
const fields = z.array(z.string().nullable())
const optionsSchema = z.object({ delay: z.number().optional() })

/**
 * Which jobs may wait for their first sandbox for so long only, by Redis' clock. Consumers that take jobs see to it when they choose one;
 * this is for whoever finds that nobody does: the queue is paused, say.
 */
export class WaitDeadlines {
  constructor(
    private readonly redis: Redis,
    private readonly keys: Keys,
  ) {}

  /**
   * Part of a pipeline of a connection that `createRedis` made. Nothing is sent for jobs without `waitTimeout`.
   */
  queueAdd(pipeline: object, jobs: readonly WaitingJob[]): void {
    const bounded = boundsOf(jobs)
    if (bounded.length > 0) queueScript(pipeline, 'waits-add', [this.keys.waits()], bounded)
  }

  /** As `queueAdd`, by itself; of those that are there their time, or what is left of it, begins anew. */
  async add(jobs: readonly WaitingJob[]): Promise<void> {
    const bounded = boundsOf(jobs)
    if (bounded.length > 0) await runScript(this.redis, 'waits-add', [this.keys.waits()], bounded)
  }

  /** Jobs whose time to wait has been over for at least `forMs`, at most `count`: one command when there is none. */
  async overdue(forMs: number, count: number): Promise<OverdueJob[]> {
    const ids = answers.parse(await runScript(this.redis, 'waits-due', [this.keys.waits()], [forMs, count]))
    if (ids.length === 0) return []
    const pipeline = this.redis.pipeline()
    for (const id of ids) pipeline.hmget(this.keys.job(id), 'data', 'opts', ...queuedFields).hmget(this.keys.run(id), 'generation', ...runFields).zscore(this.keys.bullmq('delayed'), id)
    const found = ((await pipeline.exec()) ?? []).map(([error, answer]) => {
      if (error !== null) throw error
      return answer
    })
    return ids.map((jobId, index) => {
      const [data = null, options = null, ...queuedValues] = fields.parse(found[3 * index])
      const [generation = null, ...runValues] = fields.parse(found[3 * index + 1])
      const queued = queuedFacts(queuedValues)
      const last = generation === null ? null : lastRun(runValues, Number(generation))
      const next = queued === null ? null : last === null ? queued.attemptsMade + 1 : nextGeneration(queued, last)
      const fromMs = queued === null || next !== 1 ? null : queued.addedAtMs + delayIn(options)
      return { jobId, data, generation: next ?? last?.generation ?? 1, taken: next === null, delayed: found[3 * index + 2] !== null, fromMs }
    })
  }

  /** Of these, whose time was over, none waits any more: it has ended, or is in somebody's hands. One that was run again meanwhile waits anew, and stays. */
  async settle(jobIds: readonly string[]): Promise<void> {
    if (jobIds.length > 0) await runScript(this.redis, 'waits-settle', [this.keys.waits()], jobIds)
  }
}

function boundsOf(jobs: readonly WaitingJob[]): (string | number)[] {
  return jobs.flatMap(({ jobId, delayMs = 0, spec }) => (spec.waitTimeoutMs === undefined ? [] : [jobId, delayMs + spec.waitTimeoutMs]))
}

function delayIn(options: string | null): number {
  try {
    return optionsSchema.parse(JSON.parse(options ?? '{}')).delay ?? 0
  } catch {
    // Somebody wrote them by hand: no other job is to wait for ever because of that.
    return 0
  }
}
