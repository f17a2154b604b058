import { setMaxListeners } from 'node:events'
import { ErrorCode, UnrecoverableError, type Job } from 'bullmq'
import { z } from 'zod'
import { errorMessage, InvalidInputError, NewerReleaseError } from '../../job/errors.js'
import type { JobResult } from '../../job/result.js'
import { askedBy } from '../../job/event-kinds.js'
import { constraintsOf } from '../../job/constraints.js'
import { waitsSince } from '../../job/deadlines.js'
import { newRunRecord, type RunRecord } from '../../job/run-record.js'
import { parseQueuedSpec, type JobSpec } from '../../job/spec.js'
import { beginning } from '../placing/beginning.js'
import { eligibleHere, limitsOf } from '../placing/candidates.js'
import { waitingReason } from '../placing/placement.js'
import { BoardLog } from '../output/board-log.js'
import type { LockKeeper, Moment } from './lock-keeper.js'
import type { NewerJobs } from './newer-jobs.js'
import { elapsedMs, type ConsumerContext } from '../consumer-context.js'
import { JobTrace } from '../job-trace.js'
import { type TraceCarrier, traceCarrierSchema } from '../../job/trace-carrier.js'
import { RunContext } from '../run-context.js'
import { longestQuietMs } from '../settings.js'
import { describeKey, describeWord, type NextJob, type ReadyJob, type Stand } from '../../store/index.js'
import { resolveSecrets, type SecretSource } from '../output/secrets.js'
import { endedByOthers, endForgottenRun } from '../ending/forgotten-run.js'
import { endOverdue, endUnrunnable, leaveProvider } from '../supervision/stranded.js'
import type { Parked } from '../supervision/parking.js'
import { supervise } from '../supervision/supervisor.js'
import { endUnreadable } from '../supervision/unreadable.js'
import { measureBegin, measureEnd, pipelineResult } from './job-metrics.js'
import { judgeFitness, nobodySentence, type Fitness } from './fitness.js'

export interface TakenJob {
  readonly job: Job
  readonly jobId: string
  /** Of BullMQ's lock. */
  readonly token: string
  /** Before the lock was asked for. */
  readonly takenAt: Moment
  /** The provider at which a place was taken for it just now, when it was chosen; null when it was chosen before. */
  readonly placeAt: string | null
  /** Why it was given to this consumer. */
  readonly stand: Stand
}

/** What a job's run takes of its consumer besides the context. */
export interface JobRunMeans {
  readonly source: SecretSource
  /** This consumer's profile, under whose name it refuses what it can't run. */
  readonly profileId: string
  /** Under which it looks for jobs; see `Means`. */
  readonly viewId: string
  readonly graceMs: number
  readonly newerJobs: NewerJobs
}

/** A job that was chosen for this consumer as another one ended, and what BullMQ gave with that one's end. */
export interface Followed {
  readonly chosen: NextJob
  /** As BullMQ's scripts answer; undefined when the end could not be written there, or nothing came with it. */
  readonly given: unknown
  /** Of the lock under which it came. */
  readonly token: string
  readonly takenAt: Moment
}

/** What the queue holds of a job; the spec is checked by a schema of its own. */
const repositorySchema = z.object({ repository: z.string() })
const jobDataSchema = z.object({ spec: z.unknown(), enqueuedAtMs: z.number().optional(), trace: traceCarrierSchema.optional() })

/**
 * A job in this consumer's hands, from the moment it was taken out of the queue until it is finished there, or handed over.
 * BullMQ's own state follows the run record: if this process dies between the two, whoever takes the job next finds it ended
 * and only finishes it in the queue.
 */
export class JobRun {
  private readonly leaving = new AbortController()
  private ctx: RunContext | undefined
  private trace = JobTrace.none
  private cancelReason: string | undefined
  private lockLost = false
  /** It was removed from the queue, or is somebody else's, before this consumer could acquire it. */
  private gone = false
  /** Its place, or its key of concurrency, was another's when it was taken: it is to be listed again. */
  private relisted: Pick<ReadyJob, 'spec' | 'begun'> | undefined
  /** It waits for a budget. */
  private unpaid: Parked | undefined
  /** As what it is counted among those in hand. */
  private countedAs: 'executing' | 'finalizing' | null = null

  constructor(
    private readonly shared: ConsumerContext,
    private readonly taken: TakenJob,
    private readonly means: JobRunMeans,
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
   * @returns the job that was chosen for this consumer in its place; null when there is none.
   */
  async carryOut(): Promise<Followed | null> {
    const { jobId, token, job } = this.taken
    this.locks.hold(jobId, token, this.taken.takenAt, () => {
      this.lockLost = true
      this.leave()
    })
    const boardLog = new BoardLog(job, this.shared.log)
    this.countAs('executing')
    this.shared.liveness.watch(`job ${jobId}`, longestQuietMs(this.shared.settings))
    let followed: Followed | null = null
    try {
      const end = await this.run(boardLog).catch((error: unknown) => this.leaveToOthers(error))
      if (end !== null && end.next !== null) followed = { chosen: end.next, given: undefined, token, takenAt: this.locks.moment() }
      await boardLog.close()
      if (end !== null) {
        // The end gives the lock up; a renewal that crosses it must not take that for a loss.
        this.locks.release(jobId, token)
        const takenAt = this.locks.moment()
        const given = await this.finish(end.result, followed !== null)
        return followed === null ? null : { ...followed, given, takenAt }
      }
      if (this.gone) {
        this.shared.log.info({ jobId }, 'job let go: it was removed from the queue, or is another consumer’s')
        return null
      }
      if (this.lockLost || !this.locks.holds(jobId, token)) {
        this.shared.log.info({ jobId }, 'job let go: its lease has run out')
        return null
      }
      // What was never begun here is not handed over.
      if (this.ctx !== undefined && this.unpaid === undefined) this.shared.metrics.add('switchyard.job.handovers', ['given'])
      this.locks.release(jobId, token)
      if (this.unpaid !== undefined) {
        await this.waitForBudget(this.unpaid)
        return null
      }
      await job.moveToWait(token)
      if (this.relisted !== undefined) {
        await this.shared.ready.add([{ jobId, ...this.relisted }], { strays: true, wake: 1 })
        return null
      }
      // Should this process die here: a job that waits with a place but is not listed is found by any consumer's relisting.
      await this.shared.ready.front(jobId)
    } catch (error) {
      // Without its lock renewed the job stalls and is taken by the next consumer: nothing is lost.
      this.shared.log.error({ jobId, message: errorMessage(error) }, 'job left to the next consumer')
    } finally {
      this.countAs(null)
      // Of one that has ended it is over already.
      this.trace.end(null)
      this.shared.liveness.ended(`job ${jobId}`)
      this.locks.release(jobId, token)
      this.shared.store.letGo(jobId)
    }
    return followed
  }

  private countAs(state: 'executing' | 'finalizing' | null): void {
    const { metrics, queue } = this.shared
    if (state === this.countedAs) return
    if (this.countedAs !== null) metrics.shift('cicd.pipeline.run.active', [queue, this.countedAs], -1)
    if (state !== null) metrics.shift('cicd.pipeline.run.active', [queue, state], 1)
    this.countedAs = state
  }

  /**
   * A job that another consumer may be able to run: refused under this consumer's profile, so that it does not come back at once, and put
   * back. Returns null: the job is left.
   */
  private async leaveToOthers(error: unknown): Promise<null> {
    const { jobId } = this.taken
    const { store, ready, ledger, log, settings } = this.shared
    if (!(error instanceof NewerReleaseError) && !(error instanceof LeftToOthersError)) throw error
    const newer = error instanceof NewerReleaseError
    log[newer ? 'error' : 'info']({ jobId, message: error.message }, newer ? 'job left to a consumer of a newer release' : 'job left to a consumer that can run it')
    // A refused key may be taken the next moment; and who can't read it must not have it given up.
    const passingMs = newer ? this.means.newerJobs.leave(jobId) : settings.stallCheckMs
    const forMs = newer || error.passing ? passingMs : undefined
    // Where it has no sandbox yet, a place that was chosen with it would stand empty meanwhile.
    const begun = await store.read(jobId).catch((unread: unknown) => {
      if (unread instanceof NewerReleaseError) return 'unread' as const
      throw unread
    })
    const lease = begun === null ? await ledger.leaseOf(jobId) : null
    if (lease !== null) await ready.close(jobId)
    await ready.refuse(this.means.profileId, 'job', [{ id: jobId, why: error.message, forMs }], this.means.graceMs)
    return null
  }

  /** The result, and the job that follows, or null when the job was left. */
  private async run(boardLog: BoardLog): Promise<{ result: JobResult; next: NextJob | null } | null> {
    const { jobId, job } = this.taken
    const { store, holder } = this.shared
    // It was removed, and BullMQ has taken it by an id that stood in its list: back there it is taken out, and whoever misses it ends what it had begun.
    if ((job.name as string | undefined) === undefined) return null
    const read = readJob(job)
    if (read.problem !== null) {
      const { kind } = this.taken.stand
      // What is to be cancelled is ended whoever might have read it.
      const ends = kind === 'nobody' || kind === 'overdue' || (kind === 'stranded' && (await store.cancelRequests([jobId])).size > 0)
      if (!ends) throw new LeftToOthersError(read.problem, false)
      const result = await endUnreadable(this.shared, { jobId, generation: job.attemptsMade + 1, repository: read.repository, stalls: job.stalledCounter }, nobodySentence([read.problem]))
      measureEnd(this.shared, result, job.timestamp, null)
      return { result, next: null }
    }
    const { spec, enqueuedAtMs, trace } = read
    const runId = store.runId(jobId)
    const fresh = newRunRecord({ jobId, ...(runId === jobId ? {} : { runId }), generation: job.attemptsMade + 1, repository: spec.repository, startedAtMs: this.shared.now(), asked: askedBy(spec), tenant: spec.tenant })
    // Another consumer's choice, or the producer of a newer job, may have given its key away.
    if (spec.concurrency !== undefined) this.cancelReason ??= (await this.shared.ready.supersededBy(jobId)) ?? undefined
    const secrets = resolveSecrets(spec.secrets, this.means.source, spec.injects)
    const fitness = await this.fitness(spec, fresh.generation, secrets.missing)
    if (fitness.kind === 'leave') throw new LeftToOthersError(fitness.reason, fitness.passing)
    const { placeAt } = this.taken
    const first = placeAt === null || fitness.kind !== 'run' ? fresh : await beginning(this.shared, spec, fresh, placeAt, this.leaving.signal)
    // Whoever was frozen meanwhile must not take the job from its next holder.
    if (!this.locks.holds(jobId, this.taken.token)) return null
    const taken = { stalls: job.stalledCounter, bounded: spec.waitTimeoutMs !== undefined, token: this.taken.token }
    const acquired = await store.acquire(jobId, { holder, fresh: first, placeAt: first.creating?.provider, ...taken })
    if (acquired.kind === 'gone') {
      this.gone = true
      return null
    }
    if (acquired.kind === 'other') await this.endBefore('its job was removed from the queue, and another one added under its id')
    if (acquired.kind === 'unended') await this.endBefore(`its job was ${endedByOthers}, and is run again`, spec)
    if (acquired.kind === 'other' || acquired.kind === 'unended' || acquired.kind === 'placeless') {
      // The reaper took the place for a forgotten one, or it was another job's. With it the job's tenant and its key have what they
      // held of it, and others may have it by now: its turn comes again.
      this.relisted = { spec, begun: false }
      return null
    }
    const acquiredAtMs = (this.shared.elapsed ?? elapsedMs)()
    if (acquired.kind === 'ended') {
      // Cancelled between the choice of a place for it and now, or closed by a consumer that died right after.
      await this.shared.ready.close(jobId, undefined, { ended: true })
      return { result: acquired.result, next: null }
    }

    if (!(await this.holdsKey(spec, acquired, fitness))) return null
    if (acquired.created) measureBegin(this.shared, spec, enqueuedAtMs + (job.opts.delay ?? 0))
    else this.shared.metrics.add('switchyard.job.handovers', ['taken'])
    this.trace = JobTrace.begin(
      { queue: this.shared.queue, runId, repository: spec.repository, tenant: spec.tenant, carrier: trace, stored: acquired.record.trace ?? null, begins: acquired.created, waitedSinceMs: enqueuedAtMs + (job.opts.delay ?? 0) },
      () => this.ctx?.record.attempts ?? [],
    )
    // Of a job that is to be cancelled nothing is begun.
    const cancelled = acquired.cancel !== null || this.cancelReason !== undefined
    // All that is said of the run's times is by one clock, whoever has it.
    const shared = acquired.aheadMs === 0 ? this.shared : { ...this.shared, now: () => this.shared.now() - acquired.aheadMs }
    const waits = waitsSince({ fromMs: acquired.record.generation === 1 ? enqueuedAtMs + (job.opts.delay ?? 0) : acquired.record.startedAtMs, leftMs: acquired.waitLeftMs }, spec.waitTimeoutMs, shared.now())
    let record = acquired.created && cancelled && acquired.record.continues === null ? { ...fresh, generation: acquired.record.generation } : acquired.record
    for (;;) {
      const ctx = new RunContext(shared, jobId, spec, acquired.fence, record, secrets.found, boardLog, this.leaving.signal, acquired.created && record.creating !== null, () =>
        this.locks.holds(jobId, this.taken.token),
        waits,
        acquiredAtMs,
      )
      this.ctx = ctx
      this.countAs(ctx.closingSinceMs === null ? 'executing' : 'finalizing')
      ctx.onClosing = () => this.countAs('finalizing')
      ctx.trace = this.trace
      const tracing = this.trace.stored
      if (tracing !== undefined) ctx.amend({ trace: tracing })
      if (!acquired.created && record === acquired.record) ctx.tookOver()
      const cancelReason = acquired.cancel?.reason ?? this.cancelReason
      if (cancelReason !== undefined) ctx.interrupt({ kind: 'cancel', reason: cancelReason })
      if (fitness.kind === 'end') await endUnrunnable(ctx, fitness)
      else if (fitness.kind === 'overdue') await endOverdue(ctx, fitness.waitingFor ?? (await this.capacityReason(spec)))
      else if (fitness.kind === 'move') await leaveProvider(ctx)
      const end = await this.trace.within(() => supervise(ctx))
      if (end.kind === 'left' && end.because !== null) throw new LeftToOthersError(end.because, true)
      if (end.kind === 'ended') this.trace.end(end.result, pipelineResult(end.result))
      if (end.kind === 'ended') measureEnd(shared, end.result, record.generation === 1 ? enqueuedAtMs : record.startedAtMs, ctx.closingSinceMs)
      if (end.kind === 'parked') this.unpaid = end
      if (end.kind !== 'restarted') return end.kind === 'ended' ? end : null
      // Interruptions, exclusions and refusals were those of the attempt that has ended.
      record = ctx.record
    }
  }

  /** The run before, which has not ended and is in nobody's hands any more. @param spec where it was this job's: what it says of itself is told with that end. */
  private async endBefore(because: string, spec?: JobSpec): Promise<void> {
    const { store, owners, metrics, deployment, settings, now, eventTypes, log, reapSoon } = this.shared
    const { jobId } = this.taken
    const ending = { store, owners, onLiving: reapSoon, metrics, deployment, branchRetentionMs: settings.branchRetentionMs, now, eventTypes }
    if (await endForgottenRun(ending, jobId, spec, spec === undefined ? undefined : `the job was ${endedByOthers}`)) log.warn({ jobId }, `run ended: ${because}`)
  }

  /** Should this process die in between, the job is found as one of a dead consumer, and parked again. */
  private async waitForBudget({ untilMs, stamp, needed, others }: Parked): Promise<void> {
    const { jobId, job, token } = this.taken
    const { ready, budgets, store } = this.shared
    // Before its place is given back, which would be given to the next of them.
    if (others !== null && budgets !== undefined && this.ctx !== undefined) await ready.hold(this.ctx.spec, this.means.viewId, { ...others, stamp, days: budgets.days() })
    await ready.close(jobId, undefined, { goesOn: true })
    await job.moveToDelayed(untilMs, token)
    await budgets?.park(jobId, this.ctx?.spec.tenant, stamp, needed)
    // A request to cancel that came before it was delayed has found nothing to wake.
    if ((await store.cancelRequests([jobId])).size > 0) await budgets?.wake(jobId)
  }

  /** Asked once it is acquired: whoever takes the key from it from then on finds the run, and asks it to end. Returns false when it has to wait for its key. */
  private async holdsKey({ concurrency, ...spec }: JobSpec, { cancel, record }: { cancel: unknown; record: Pick<RunRecord, 'phase'> }, fitness: Fitness): Promise<boolean> {
    if (concurrency === undefined || cancel !== null || this.cancelReason !== undefined) return true
    // What is about to end gives its key up, if it has not.
    if (fitness.kind === 'end' || fitness.kind === 'overdue' || record.phase === 'closing') return true
    const standing = await this.shared.ready.enter(this.taken.jobId, concurrency)
    if (standing.kind === 'superseded') this.cancelReason ??= standing.why
    if (standing.kind === 'full') this.relisted = { spec: { ...spec, concurrency }, begun: true }
    return standing.kind !== 'full'
  }

  /** Asked before the job is acquired: a consumer that can't run it never judges it, and its last holder's fence stays. */
  private async fitness(spec: JobSpec, generation: number, missingSecrets: readonly string[]): Promise<Fitness> {
    const { job, jobId, stand, placeAt } = this.taken
    // A job that the index has just chosen for this consumer has not begun.
    const stored = placeAt === null ? await this.shared.store.read(jobId) : null
    const record = stored !== null && stored.generation >= generation && stored.result === null ? stored.record : null
    const provider = record?.sandbox?.provider ?? record?.creating?.provider ?? null
    const eligibility = eligibleHere(this.shared, spec)
    const { providers, keys } = this.shared
    const refused = eligibility.ok ? eligibility.providers.map((name) => keys.problem({ provider: name })) : []
    return judgeFitness({
      stand,
      missingSecrets,
      phase: record?.phase ?? null,
      provider,
      reachesProvider: provider !== null && providers.has(provider) && !keys.isRefused({ provider }),
      eligibility,
      keyProblem: refused.length > 0 && refused.every((problem) => problem !== null) ? (refused[0] ?? null) : null,
      cancelled: (stored?.cancel ?? null) !== null || this.cancelReason !== undefined,
      // BullMQ's types have it always there.
      failedChild: (job as Partial<Job>).deferredFailure ?? null,
    })
  }

  /** What a job waited for that nobody had in hand, and that consumers could run. */
  private async capacityReason(spec: JobSpec): Promise<string | null> {
    const { ledger, ready, providers, now } = this.shared
    const key = spec.concurrency === undefined ? null : await ready.keyStanding(this.taken.jobId, spec.concurrency)
    if (key !== null && key.held >= key.limit) return describeKey(key)
    const tenant = spec.tenant === undefined ? null : await ready.tenant(spec.tenant)
    if (tenant !== null && tenant.pause !== null) return `waiting: tenant ${spec.tenant ?? ''} is paused ${describeWord(tenant.pause)}`
    // This job counts among those in hand by now.
    if (tenant !== null && tenant.cap !== null && tenant.running > tenant.cap) return `waiting for tenant ${spec.tenant ?? ''}: ${tenant.cap} of at most ${tenant.cap} jobs are running`
    const [unpaid = null] = await ready.unpaid([{ tenant: spec.tenant, constraints: constraintsOf(spec).id }])
    if (unpaid !== null) return unpaid
    const eligibility = eligibleHere(this.shared, spec)
    return eligibility.ok ? waitingReason(await ledger.sharedLoads(limitsOf(providers)), eligibility.providers, new Map(), now()) : null
  }

  /** @returns what BullMQ gives as the next job, when it is asked to take one in the same step. */
  private async finish(result: JobResult, takeNext: boolean): Promise<unknown> {
    const { job, token, jobId } = this.taken
    if (result.status !== 'succeeded') return await job.moveToFailed(new UnrecoverableError(`${result.status}: ${result.error?.message ?? 'no reason given'}`), token, takeNext)
    try {
      return await job.moveToCompleted(summaryOf(result), token, takeNext)
    } catch (error) {
      if (!isOfChildren(error)) throw error
      // As BullMQ's own workers do. It would never take it as completed, and the result stays what it is.
      this.shared.log.warn({ jobId, message: errorMessage(error) }, 'job has succeeded, and counts as failed in BullMQ for the children of its flow')
      return await job.moveToFailed(new UnrecoverableError(errorMessage(error)), token, takeNext)
    }
  }
}

/** Whether BullMQ completes no such job because its children have failed, or have not ended: some were added, or run again, after it left them behind. */
function isOfChildren(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  return code === ErrorCode.JobHasFailedChildren || code === ErrorCode.JobPendingChildren
}

/** What BullMQ keeps, twice, and its board shows: the result itself, which may be large, is in the run's record and in the event. */
function summaryOf({ status, branch, commit }: JobResult): object {
  return { status, ...(branch === null ? {} : { branch, commit }) }
}

/** Another consumer may be able to run the job; this one can't. */
class LeftToOthersError extends Error {
  override readonly name = 'LeftToOthersError'
  constructor(
    message: string,
    /** This consumer may be able to, later. */
    readonly passing: boolean,
  ) {
    super(message)
  }
}

type ReadJob =
  | { readonly problem: null; readonly spec: JobSpec; readonly enqueuedAtMs: number; readonly trace: TraceCarrier | null }
  /** It can't be read: added around AgentQueue, or by a release whose specs have other values. */
  | { readonly problem: string; readonly repository: string }

/** @throws NewerReleaseError for a spec with fields that this release doesn't know. */
function readJob(job: Job): ReadJob {
  const data = jobDataSchema.safeParse(job.data)
  if (!data.success) return { problem: 'job data: has no spec; enqueue jobs with AgentQueue', repository: '' }
  try {
    return { problem: null, spec: parseQueuedSpec(data.data.spec), enqueuedAtMs: data.data.enqueuedAtMs ?? job.timestamp, trace: data.data.trace ?? null }
  } catch (error) {
    if (!(error instanceof InvalidInputError)) throw error
    return { problem: error.message, repository: repositorySchema.safeParse(data.data.spec).data?.repository ?? '' }
  }
}
