import { setMaxListeners } from 'node:events'
import { UnrecoverableError, type Job } from 'bullmq'
import { z } from 'zod'
import { setTimeout as delay } from 'node:timers/promises'
import { errorMessage, InfrastructureError, InvalidInputError, NewerReleaseError } from '../../job/errors.js'
import type { JobResult } from '../../job/result.js'
import { newRunRecord } from '../../job/run-record.js'
import { parseQueuedSpec, type JobSpec } from '../../job/spec.js'
import { beginning } from '../placing/beginning.js'
import { BoardLog } from '../output/board-log.js'
import type { LockKeeper, Moment } from './lock-keeper.js'
import type { ConsumerContext } from '../consumer-context.js'
import { RunContext } from '../run-context.js'
import { resolveSecrets, type ResolvedSecrets, type SecretSource } from '../output/secrets.js'
import { SecretPatterns } from '../output/redaction.js'
import { supervise } from '../supervision/supervisor.js'

export interface TakenJob {
  readonly job: Job
  readonly jobId: string
  /** Of BullMQ's lock. */
  readonly token: string
  /** Before the lock was asked for. */
  readonly takenAt: Moment
  /** The provider at which a place was taken for it just now, when it was chosen; null when it was chosen before. */
  readonly placeAt: string | null
}

/** What the queue holds of a job; the spec is checked by a schema of its own. */
const jobDataSchema = z.object({ spec: z.unknown() })

/**
 * A job in this consumer's hands, from the moment it was taken out of the queue until it is finished there, or handed over.
 * BullMQ's own state follows the run record: if this process dies between the two, whoever takes the job next finds it ended
 * and only finishes it in the queue.
 */
export class JobRun {
  private readonly leaving = new AbortController()
  private ctx: RunContext | undefined
  private cancelReason: string | undefined
  private lockLost = false

  constructor(
    private readonly shared: ConsumerContext,
    private readonly taken: TakenJob,
    private readonly secretSource: SecretSource,
    private readonly locks: LockKeeper,
  ) {
    // Whatever is under way for the job listens to it; on a slow machine that is more than Node's ten.
    setMaxListeners(0, this.leaving.signal)
  }

  cancel(reason: string): void {
    this.cancelReason = reason
    this.ctx?.interrupt({ kind: 'cancel', reason })
  }

  /** Stop supervising; the sandbox goes on. */
  leave(): void {
    this.leaving.abort(new Error('supervision is handed over'))
  }

  /**
   * Never throws. Afterwards the job has ended, or is back in the queue before all others, or will be once its lock runs out.
   */
  async carryOut(): Promise<void> {
    const { jobId, token, job } = this.taken
    this.locks.hold(jobId, token, this.taken.takenAt, () => {
      this.lockLost = true
      this.leave()
    })
    const boardLog = new BoardLog(job, this.shared.log)
    try {
      const result = await this.run(boardLog).catch((error: unknown) => this.leaveToNewer(error))
      await boardLog.close()
      if (result !== null) {
        // The end gives the lock up; a renewal that crosses it must not take that for a loss.
        this.locks.release(jobId, token)
        await this.finish(result)
        return
      }
      if (this.lockLost || !this.locks.holds(jobId, token)) {
        this.shared.log.info({ jobId }, 'job let go: its lease has run out')
        return
      }
      this.locks.release(jobId, token)
      await job.moveToWait(token)
      // Should this process die here: a job that waits with a place but is not listed is found by any consumer's relisting.
      await this.shared.ready.front(jobId)
    } catch (error) {
      if (error instanceof UnreadableJobError) {
        this.shared.log.error({ jobId, message: error.message }, 'not a job of Switchyard')
        await this.shared.ready.close(jobId)
        await job.moveToFailed(new UnrecoverableError(error.message), token, false)
        return
      }
      // Without its lock renewed the job stalls and is taken by the next consumer: nothing is lost.
      this.shared.log.error({ jobId, message: errorMessage(error) }, 'job left to the next consumer')
    } finally {
      this.locks.release(jobId, token)
    }
  }

  /**
   * A newer release's job: put back for a consumer that can read it. Not at once, since it comes back at once while there is
   * none. Returns null: the job is left.
   */
  private async leaveToNewer(error: unknown): Promise<null> {
    if (!(error instanceof NewerReleaseError)) throw error
    const { jobId } = this.taken
    const { store, ready, ledger, log, settings } = this.shared
    log.error({ jobId, message: error.message }, 'job left to a consumer of a newer release')
    // Where it has no sandbox yet, a place that was chosen with it would stand empty meanwhile.
    const begun = await store.read(jobId).catch((unread: unknown) => {
      if (unread instanceof NewerReleaseError) return 'unread' as const
      throw unread
    })
    const lease = begun === null ? await ledger.leaseOf(jobId) : null
    if (lease !== null) await ready.close(jobId)
    await delay(settings.stallCheckMs, undefined, { signal: this.leaving.signal }).catch(() => undefined)
    return null
  }

  /** The result, or null when the job was left. */
  private async run(boardLog: BoardLog): Promise<JobResult | null> {
    const { jobId, job } = this.taken
    const { store, holder } = this.shared
    const spec = readSpec(job)
    const fresh = newRunRecord({ jobId, generation: job.attemptsMade + 1, repository: spec.repository, startedAtMs: this.shared.now() })
    const secrets = this.findSecrets(spec)
    const { placeAt } = this.taken
    const first = placeAt === null || secrets.problem !== null ? fresh : await beginning(this.shared, spec, fresh, placeAt, this.leaving.signal)
    // Whoever was frozen meanwhile must not take the job from its next holder.
    if (!this.locks.holds(jobId, this.taken.token)) return null
    const begun = await store.acquire(jobId, { holder, fresh: first, placeAt: first.creating?.provider })
    // The reaper took the place for a forgotten one: the phase `placing` gets another.
    const acquired = begun.kind === 'placeless' ? await store.acquire(jobId, { holder, fresh }) : begun
    if (acquired.kind === 'ended') {
      // Cancelled between the choice of a place for it and now, or closed by a consumer that died right after.
      await this.shared.ready.close(jobId)
      return acquired.result
    }

    // Of a job that is to be cancelled nothing is begun.
    const cancelled = acquired.cancel !== null || this.cancelReason !== undefined
    let record = acquired.created && cancelled ? fresh : acquired.record
    for (;;) {
      const ctx = new RunContext(this.shared, jobId, spec, acquired.fence, record, secrets.found, boardLog, this.leaving.signal, acquired.created && record.creating !== null, () =>
        this.locks.holds(jobId, this.taken.token),
      )
      this.ctx = ctx
      const cancelReason = acquired.cancel?.reason ?? this.cancelReason
      if (cancelReason !== undefined) ctx.interrupt({ kind: 'cancel', reason: cancelReason })
      if (secrets.problem !== null && ctx.record.outcome === null) {
        await ctx.update({ outcome: { status: 'failed', error: { kind: 'invalid', message: secrets.problem, owner: 'consumer-keys', code: 'SWY_CONSUMER_SECRET_MISSING' } }, phase: 'closing' })
      }
      const end = await supervise(ctx)
      if (end.kind !== 'restarted') return end.kind === 'ended' ? end.result : null
      // Interruptions, exclusions and refusals were those of the attempt that has ended.
      record = ctx.record
    }
  }

  private findSecrets(spec: JobSpec): { found: ResolvedSecrets; problem: string | null } {
    try {
      return { found: resolveSecrets(spec.secrets, this.secretSource), problem: null }
    } catch (error) {
      if (!(error instanceof InfrastructureError)) throw error
      return { found: { env: {}, patterns: new SecretPatterns() }, problem: error.message }
    }
  }

  private async finish(result: JobResult): Promise<void> {
    const { job, token } = this.taken
    if (result.status === 'succeeded') await job.moveToCompleted(result, token, false)
    else await job.moveToFailed(new UnrecoverableError(`${result.status}: ${result.error?.message ?? 'no reason given'}`), token, false)
  }
}

/** A job in the queue that is no job of Switchyard's: it was added around AgentQueue. It fails with the reason. */
class UnreadableJobError extends Error {
  override readonly name = 'UnreadableJobError'
}

function readSpec(job: Job): JobSpec {
  const data = jobDataSchema.safeParse(job.data)
  if (!data.success) throw new UnreadableJobError('job data: has no spec; enqueue jobs with AgentQueue')
  try {
    return parseQueuedSpec(data.data.spec)
  } catch (error) {
    if (error instanceof InvalidInputError) throw new UnreadableJobError(error.message)
    throw error
  }
}
