import { randomUUID } from 'node:crypto'
import type { Job } from 'bullmq'
import type { Redis } from 'ioredis'
import { errorMessage } from '../job/errors.js'
import { wake, type Inbox, type Keys } from '../store/index.js'
import { JobRun, type TakenJob } from './job-run.js'
import type { LockKeeper } from './lock-keeper.js'
import { placementOrder, type Candidate } from './placement.js'
import type { ConsumerContext } from './run-context.js'
import type { SecretSource } from './secrets.js'

/** New jobs wait behind every job that is in a consumer's hands already. */
const intakeRank = 1_048_575
const idleTtlMs = 5_000

export interface IntakeParts {
  readonly context: ConsumerContext
  readonly redis: Redis
  readonly keys: Keys
  readonly inbox: Inbox
  readonly locks: LockKeeper
  readonly secrets: SecretSource
  /** Takes the first job of the queue under a token, or none; never waits. */
  readonly takeJob: (token: string) => Promise<Job | undefined>
}

/**
 * Takes jobs, one after the other, each only once there is a place for it:
 *
 *   looking ──► nothing to do ──► idle, until woken or a poll interval has passed
 *      │  └───► orphans: a job whose consumer is gone holds its place already and is taken without one
 *      └──────► work: a place is reserved (or waited for), then the first job is taken and bound to it
 *
 * A place is reserved before a job is taken, so that a job without a place stays in the queue, in order, for whoever gets one.
 */
export class Intake {
  private readonly runs = new Map<string, { cancel: (reason: string) => void; leave: () => void; done: Promise<void> }>()
  private readonly stopping = new AbortController()
  private nudged = false
  private wakeUp: (() => void) | undefined
  private loops: Promise<void>[] = []
  private reservations = 0

  constructor(private readonly parts: IntakeParts) {}

  start(): void {
    this.loops = [this.readInbox(), this.takeJobs()]
  }

  /** There may be something to take: look now. */
  nudge(): void {
    this.nudged = true
    this.wakeUp?.()
  }

  cancel(jobId: string, reason: string): void {
    this.runs.get(jobId)?.cancel(reason)
  }

  /** Takes no more jobs and hands the ones under way over. */
  async stop(): Promise<void> {
    this.stopping.abort(new Error('the consumer stops'))
    this.wakeUp?.()
    for (const run of this.runs.values()) run.leave()
    await Promise.all([...this.runs.values()].map(({ done }) => done))
    await Promise.all(this.loops)
  }

  private isStopped(): boolean {
    return this.stopping.signal.aborted
  }

  private async readInbox(): Promise<void> {
    const { inbox, context } = this.parts
    while (!this.isStopped()) {
      try {
        const message = await inbox.next(1_000, this.stopping.signal)
        if (message?.kind === 'work') this.nudge()
        else if (message?.kind === 'grant' && !context.waits.deliver(message.leaseId, message.provider)) {
          await context.ledger.withdraw(message.leaseId)
        }
      } catch (error) {
        if (this.isStopped()) return
        context.log.warn({ message: errorMessage(error) }, 'inbox not read; tried again')
        await this.idle(context.settings.pollMs)
      }
    }
  }

  private async takeJobs(): Promise<void> {
    const { context, inbox } = this.parts
    while (!this.isStopped()) {
      this.nudged = false
      try {
        if (this.runs.size < context.settings.maxJobs && (await this.takeOne())) continue
        // First say that a wake-up is welcome, then look once more, then sleep: no job slips in between.
        if (this.runs.size < context.settings.maxJobs) {
          await inbox.registerIdle(idleTtlMs)
          if (await this.takeOne()) continue
        }
      } catch (error) {
        if (this.isStopped()) return
        context.log.warn({ message: errorMessage(error) }, 'no job taken; tried again')
      }
      await this.idle(context.settings.pollMs)
    }
    await inbox.unregisterIdle()
  }

  /** Returns true when a job was taken, so that there may be another. */
  private async takeOne(): Promise<boolean> {
    const { redis, keys } = this.parts
    const queue = `${keys.prefix}:${keys.queueName}`
    // BullMQ puts stalled jobs into `wait`; since every job has a priority, nothing else is there.
    const answers = await redis
      .pipeline()
      .llen(`${queue}:wait`)
      .scard(keys.handover())
      .zcard(`${queue}:prioritized`)
      .zcard(`${queue}:delayed`)
      .exec()
    const [stalled = 0, handedOver = 0, waiting = 0, delayed = 0] = (answers ?? []).map(([error, count]) => {
      if (error !== null) throw error
      return Number(count)
    })
    if ((stalled > 0 || handedOver > 0) && (await this.take(null))) return true
    if (handedOver > 0) await this.clearEndedMarks()
    if (waiting === 0 && delayed === 0) return false
    const leaseId = await this.reserve()
    return leaseId === null ? false : this.take(leaseId)
  }

  private async reserve(): Promise<string | null> {
    const { context } = this.parts
    const limits = [...context.providers].map(([provider, { limit }]) => ({ provider, ...limit }))
    const loads = await context.ledger.loads(limits)
    const candidates: Candidate[] = [...context.providers].map(([name, { provider, limit }]) => ({
      provider: name,
      limit: limit.sandboxes,
      used: loads.find((load) => load.provider === name)?.used ?? 0,
      maxLifetimeMs: provider.capabilities.maxLifetimeMs,
      network: provider.capabilities.network,
    }))
    const order = placementOrder(candidates, { eligible: [...context.providers.keys()], prefer: [], attempts: [], exclusions: new Map() }, context.now())
    const leaseId = `${context.holder}/${this.reservations++}`
    const grant = context.waits.expect(leaseId)
    try {
      const { provider } = await context.ledger.reserve({
        leaseId,
        holder: context.holder,
        candidates: order.flatMap((name) => limits.filter((limit) => limit.provider === name)),
        // What the first job will want is not known yet; its own demand is checked when it is placed.
        demand: { cpu: 0, memoryMiB: 0 },
        ttlMs: context.settings.leaseMs,
        wait: { rank: intakeRank },
      })
      if (provider !== null || (await grant.within(context.settings.pollMs, this.stopping.signal)) !== null) return leaseId
      await context.ledger.withdraw(leaseId)
      return null
    } catch (error) {
      await context.ledger.withdraw(leaseId)
      throw error
    } finally {
      context.waits.forget(leaseId)
    }
  }

  private async take(leaseId: string | null): Promise<boolean> {
    const { context, takeJob, redis, keys, locks, secrets } = this.parts
    const token = randomUUID()
    let job: Job | undefined
    try {
      job = await takeJob(token)
    } finally {
      if (job?.id === undefined && leaseId !== null) await context.ledger.release(leaseId)
    }
    if (job?.id === undefined) return false
    const taken: TakenJob = { job, jobId: job.id, token }
    await redis.srem(keys.handover(), taken.jobId)
    const bound = leaseId !== null && (await context.ledger.bind(leaseId, taken.jobId))
    context.log.debug({ jobId: taken.jobId, bound }, 'job taken')
    const run = new JobRun(context, taken, secrets, locks)
    // Marked before it is put back: a consumer that finds it in the queue finds the mark as well.
    const mark = async () => {
      await redis.sadd(keys.handover(), taken.jobId)
    }
    const done = run.carryOut(mark).then(async (end) => {
      this.runs.delete(taken.jobId)
      if (end === 'handed over') await wake(redis, keys, 1)
      this.nudge()
    })
    this.runs.set(taken.jobId, { cancel: (reason) => run.cancel(reason), leave: () => run.leave(), done })
    if (this.isStopped()) run.leave()
    return true
  }

  /** Jobs that were cancelled or removed while they waited for their next consumer leave their marks behind. */
  private async clearEndedMarks(): Promise<void> {
    const { redis, keys, context } = this.parts
    const marked = await redis.smembers(keys.handover())
    const runs = await context.store.readMany(marked)
    const ended = marked.filter((_jobId, index) => (runs[index]?.result ?? null) !== null || runs[index] === null)
    if (ended.length > 0) await redis.srem(keys.handover(), ...ended)
  }

  private async idle(timeoutMs: number): Promise<void> {
    if (this.nudged || this.isStopped()) return
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, timeoutMs)
      this.wakeUp = () => {
        clearTimeout(timer)
        resolve()
      }
    })
    this.wakeUp = undefined
  }
}
