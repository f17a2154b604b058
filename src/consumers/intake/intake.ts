import { randomUUID } from 'node:crypto'
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'
import type { Job } from 'bullmq'
import { z } from 'zod'
import { errorMessage, errorType } from '../../job/errors.js'
import type { Dispatched, Inbox, Means, Stand, Taker } from '../../store/index.js'
import { limitsOf } from '../placing/candidates.js'
import type { Announcer } from './announcer.js'
import { type Cancellable, CancelRequests } from './cancel-requests.js'
import { JobRun, type Followed, type TakenJob } from './job-run.js'
import type { LockKeeper } from './lock-keeper.js'
import { NewerJobs } from './newer-jobs.js'
import type { Relisting } from './relisting.js'
import type { ConsumerContext } from '../consumer-context.js'
import type { SecretSource } from '../output/secrets.js'
import { WaitingConstraints } from './waiting-constraints.js'

/** How long a consumer is believed to be idle. Well above the poll interval, at which it says so again. */
const idleTtlMs = 5_000
/** Whoever is believed longest is woken first: each job under way takes something off, so that the least busy are preferred. */
const handicapMs = 20
const mostHandicapMs = 2_500

/** How often jobs in hand are accounted for: well below what the index takes for a time in which nobody had them. */
const accrueMs = 30_000

export interface IntakeParts {
  readonly context: ConsumerContext
  readonly inbox: Inbox
  readonly locks: LockKeeper
  readonly secrets: SecretSource
  readonly relisting: Relisting
  readonly announcer: Announcer
  /** How long no live consumer may be able to run a job before it is given up, in milliseconds. */
  readonly graceMs: number
  /** An operator wants this consumer to hand its jobs over and stop. */
  readonly onLeave: (asked: { readonly by: string; readonly reason: string | null }) => void
  /** Takes the first job of the queue under a token, or none; never waits. */
  readonly takeJob: (token: string) => Promise<Job | undefined>
  /** The job in what BullMQ answered to the end of another one under that token; undefined when there is none. */
  readonly jobIn: (given: unknown, token: string) => Promise<Job | undefined>
}

/** At how many looks what this consumer can't run is told once: with the looks themselves it asks Redis under five times a second. */
const refusalPolls = 3

/** What is looked at of a job's data to account for it; the whole is checked by whoever runs it. */
const accounted = z.object({ spec: z.object({ tenant: z.string().max(100).optional().catch(undefined), secrets: z.array(z.string()).optional().catch(undefined) }) }).catch({ spec: {} })

/** What was chosen for this consumer. */
type Found = Pick<Dispatched, 'jobId' | 'waited' | 'stand' | 'provider'>

/** A job in this consumer's hands. */
interface UnderWay extends Cancellable {
  readonly leave: () => void
  done: Promise<void>
}

/**
 * Looks for jobs, one after the other:
 *
 *   looking ──► nothing to do ──► idle, until woken, or a provider may have room again, or a poll interval has passed
 *      └──────► a job with its place: taken out of the queue and supervised; meanwhile the next look
 *
 * A job that ends brings the next one along, whose turn it is for the place that comes free, without a look; about once in a poll interval it is
 * looked all the same, since a look sees more: what was handed over, what is delayed or overdue, what nobody knows yet.
 *
 * The next job and its place are chosen in one step (`ReadyJobs.dispatch`), so a job without a place stays in the queue, in
 * order, for whoever gets one. Jobs that were stalled or handed over come first; they hold their places already, and only those
 * are taken for which this consumer has the provider and the secrets (lua/ready-dispatch.lua). What it can't run it says, about once in two
 * poll intervals: when nobody can, for long enough, the job is taken and ended with the reasons of all. While the git host refuses
 * this consumer's key it takes nothing.
 */
export class Intake {
  private readonly runs = new Map<string, UnderWay>()
  readonly cancels: CancelRequests
  /** Jobs that were chosen and are on their way out of the queue. */
  private readonly takes = new Set<Promise<void>>()
  private readonly stopping = new AbortController()
  private readonly waiting: WaitingConstraints
  private readonly newerJobs: NewerJobs
  private nudged = false
  private wakeUp: (() => void) | undefined
  private loops: Promise<void>[] = []
  private dispatches = 0
  /** Jobs that were chosen for this consumer and that BullMQ has not given it yet, and where each has its place. What it gives comes in another order. */
  private readonly chosen = new Map<string, string | null>()
  /** By a clock that nobody can set, in milliseconds. */
  private lookedAtMs = -Infinity
  private refusalsToldAtMs = -Infinity
  /** Whether the queue had as many active jobs as it may, at the last look. */
  private atConcurrency = false
  /** When there may be room again without a place given back, in milliseconds from the last look. */
  private opensInMs = Infinity

  constructor(private readonly parts: IntakeParts) {
    this.waiting = new WaitingConstraints(parts.context)
    this.newerJobs = new NewerJobs(parts.context.settings.stallCheckMs, () => performance.now())
    this.cancels = new CancelRequests({ store: parts.context.store, log: parts.context.log, runs: this.runs })
  }

  start(): void {
    const { liveness, settings } = this.parts.context
    for (const loop of ['inbox', 'intake', 'relisting']) liveness.watch(loop, settings.stuckAfterMs + settings.pollMs)
    this.loops = [this.readInbox(), this.takeJobs(), this.keepTrue()]
  }

  /** There may be something to take: look now. */
  nudge(): void {
    this.nudged = true
    this.wakeUp?.()
  }

  /** Takes no more jobs and hands the ones under way over. */
  async stop(): Promise<void> {
    this.stopping.abort(new Error('the consumer stops'))
    this.wakeUp?.()
    for (const run of this.runs.values()) run.leave()
    await Promise.all(this.loops)
    await Promise.all(this.takes)
    // One that ends may have brought another along.
    while (this.runs.size > 0) await Promise.all([...this.runs.values()].map(({ done }) => done))
  }

  /** See `ConsumerContext.taker`. */
  taker(): Taker | null {
    const { context, announcer } = this.parts
    const looks = performance.now() - this.lookedAtMs >= context.settings.pollMs
    if (looks || this.isStopped() || this.busy() > context.settings.maxJobs || context.keys.isRefused({ git: true })) return null
    return { holder: context.holder, viewId: announcer.means().viewId }
  }

  private isStopped(): boolean {
    return this.stopping.signal.aborted
  }

  private async readInbox(): Promise<void> {
    const { inbox, context } = this.parts
    while (!this.isStopped()) {
      context.liveness.cameRound('inbox')
      try {
        const message = await inbox.next(1_000, this.stopping.signal)
        if (message?.kind === 'work') {
          if (message.given !== undefined) {
            await this.takeGiven(message.given)
            continue
          }
          if (message.asked !== undefined) this.waiting.hear(message.asked, this.parts.announcer.means().secrets)
          this.nudge()
        } else if (message?.kind === 'leave') {
          this.parts.onLeave(message)
        } else if (message?.kind === 'grant' && !context.waits.deliver(message.leaseId, message.provider)) {
          await context.ledger.withdraw(message.leaseId)
        }
      } catch (error) {
        if (this.isStopped()) return
        context.metrics.add('cicd.system.errors', ['inbox', errorType(error)])
        context.log.warn({ message: errorMessage(error) }, 'inbox not read; tried again')
        // Not as `idle`, which a nudge ends at once for as long as the look that it asks for has not come.
        await sleep(context.settings.pollMs, undefined, { signal: this.stopping.signal }).catch(() => undefined)
      }
    }
  }

  private async takeJobs(): Promise<void> {
    const { context, inbox } = this.parts
    while (!this.isStopped()) {
      context.liveness.cameRound('intake')
      this.nudged = false
      this.opensInMs = Infinity
      try {
        if (!this.isFull() && !context.keys.isRefused({ git: true }) && (await this.takeOne())) continue
      } catch (error) {
        if (this.isStopped()) break
        context.metrics.add('cicd.system.errors', ['intake', errorType(error)])
        context.log.warn({ message: errorMessage(error) }, 'no job taken; tried again')
      }
      await this.idle(Math.min(context.settings.pollMs, this.opensInMs))
    }
    await inbox.unregisterIdle()
  }

  /** Returns true when it should be asked again at once. When it returns false, this consumer counts as idle. */
  private async takeOne(): Promise<boolean> {
    const { relisting, announcer } = this.parts
    const means = announcer.means()
    const found = await this.look(means)
    this.waiting.learn(found, means.secrets)
    this.opensInMs = found.opensInMs ?? Infinity
    this.atConcurrency = found.atConcurrency
    const listed = await relisting.list(found.unlisted)
    if (found.what === 'again') return true
    if (found.what === 'take') {
      // One that waited to be taken is taken before the next look, which would find it again.
      if (found.idle || found.jobId === null) return (await this.take(found)) || !found.idle
      void this.takeMeanwhile(found)
      // The take is sent before the next look: that finds the queue without this job.
      await nextTurn()
      return true
    }
    if (found.unknown.length > 0) return true
    if (found.sharesLost) {
      await announcer.announce()
      return false
    }
    return listed || (await this.tellRefusals(means.profileId))
  }

  /** Holds the index against BullMQ, and the tenants' accounts against the clock, whatever else this consumer does. */
  private async keepTrue(): Promise<void> {
    const { context, relisting } = this.parts
    let accruedAtMs = performance.now()
    while (!this.isStopped()) {
      context.liveness.cameRound('relisting')
      try {
        if (await relisting.run()) this.nudge()
        if (performance.now() - accruedAtMs >= accrueMs) {
          accruedAtMs = performance.now()
          await context.ready.accrue([...this.runs.keys()])
        }
      } catch (error) {
        if (!this.isStopped()) context.metrics.add('cicd.system.errors', ['relisting', errorType(error)])
        if (!this.isStopped()) context.log.warn({ message: errorMessage(error) }, 'waiting jobs not held against the queue; tried again')
      }
      await sleep(context.settings.pollMs, undefined, { signal: this.stopping.signal }).catch(() => undefined)
    }
    try {
      await relisting.stop()
    } catch (error) {
      context.log.warn({ message: errorMessage(error) }, 'the turn to hold waiting jobs against the queue is not given up; it lapses within seconds')
    }
  }

  private async look(means: Means): Promise<Dispatched> {
    const { context, graceMs } = this.parts
    const known = this.waiting.take(means.viewId)
    this.lookedAtMs = performance.now()
    try {
      return await context.ready.dispatch({
        holder: context.holder,
        leaseId: `${context.holder}/${this.dispatches++}`,
        limits: limitsOf(context.providers),
        known,
        choice: this.waiting.choice,
        means,
        graceMs,
        room: context.settings.maxJobs - this.busy(),
        idleMs: idleTtlMs - Math.min(mostHandicapMs, this.busy() * handicapMs),
      })
    } catch (error) {
      this.waiting.unsaid(known)
      throw error
    }
  }

  /** Returns true when there is a job to end now. */
  private async tellRefusals(profileId: string): Promise<boolean> {
    const { context, graceMs } = this.parts
    // Either way: the clock may have been set back.
    if (Math.abs(context.now() - this.refusalsToldAtMs) < refusalPolls * context.settings.pollMs) return false
    const refused = this.waiting.nextRefused()
    if (refused.length === 0) return false
    this.refusalsToldAtMs = context.now()
    return (await context.ready.refuse(profileId, 'constraints', refused, graceMs)).size > 0
  }

  /** How many jobs it supervises. */
  get inHand(): number {
    return this.runs.size
  }

  /** Whether it has as many jobs as it may have. */
  isFull(): boolean {
    return this.busy() >= this.parts.context.settings.maxJobs
  }

  /** Why it takes no job now, for people; null when it does, as far as it knows. */
  async whyIdle(isPaused: () => Promise<boolean>): Promise<string | null> {
    if (await isPaused()) return 'waiting: the queue is paused'
    const problem = this.parts.context.keys.problem({ git: true })
    if (problem !== null) return `waiting for a consumer whose key is taken (git: ${problem})`
    return this.isFull() ? 'waiting for a consumer with room' : null
  }

  /** Jobs that wait for a place, as in an outage, take no room from others; but one consumer has no more than twice as many in hand. */
  private busy(): number {
    const { waits, settings } = this.parts.context
    const inHand = this.runs.size + this.takes.size
    return Math.max(inHand - waits.size, inHand - settings.maxJobs)
  }

  /** Takes a job that was chosen for this consumer as it came, or as its place came free: no look is needed for it. */
  private async takeGiven({ jobId, provider, idle }: { readonly jobId: string; readonly provider: string; readonly idle: boolean }): Promise<void> {
    const { context, inbox } = this.parts
    if (this.isStopped() || this.isFull() || context.keys.isRefused({ git: true })) {
      await inbox.passOn()
      return
    }
    const taking = this.takeMeanwhile({ jobId, provider, waited: null, stand: { kind: 'able' } })
    // It says that it is idle again when it has this one.
    if (!idle) void taking.then(() => this.nudge())
  }

  private takeMeanwhile(found: Found): Promise<void> {
    const taking = this.take(found).then(
      (again) => {
        if (again) this.nudge()
      },
      (error: unknown) => {
        if (!this.isStopped()) this.parts.context.log.warn({ message: errorMessage(error) }, 'no job taken; tried again')
        this.nudge()
      },
    )
    this.takes.add(taking)
    return taking.finally(() => this.takes.delete(taking))
  }

  /** Takes the job that was found, or one that waited to be taken. Returns true when there was none any more: somebody was faster. */
  private async take(found: Found): Promise<boolean> {
    const { takeJob, locks } = this.parts
    if (found.jobId !== null) this.expect(found.jobId, found.provider)
    const token = randomUUID()
    const takenAt = locks.moment()
    const job = await takeJob(token)
    return job?.id === undefined ? found.jobId !== null : await this.begin({ job, jobId: job.id, token, takenAt }, found)
  }

  /** Supervises a job that BullMQ gave. Returns true when it is not the one that was found, and its turn has not come: it is given back. */
  private async begin(given: Pick<TakenJob, 'job' | 'jobId' | 'token' | 'takenAt'>, found: Found): Promise<boolean> {
    const { context, locks, secrets, relisting } = this.parts
    const { job, jobId, token } = given
    // What was said of the one that was found says nothing of another.
    const stand: Stand = jobId === found.jobId || jobId === found.waited ? found.stand : { kind: 'able' }
    let placeAt = this.chosen.get(jobId)
    this.chosen.delete(jobId)
    if (placeAt === undefined || jobId === found.waited) {
      const standing = await context.ready.standing(jobId, job.stalledCounter, accounted.parse(job.data).spec)
      const unjudged = found.waited !== null && jobId !== found.waited && standing.provider === null && !standing.begun
      // What came there around the index is to be listed: its tenant, its key of concurrency and what it needs count then.
      const around = !standing.inHand && !standing.begun && standing.provider === null && jobId !== found.waited
      if (standing.listed || unjudged || around) {
        // Somebody else took what waited, and BullMQ gave the next one of its own order: its turn has not come. Or it came back this very moment, before the one
        // that the look has found: whether it may be taken here is for the next look to say.
        await job.moveToWait(token)
        // BullMQ puts one with a priority before others of that, with no number of its own: among many that wait it would be found last.
        if (!standing.listed) await (standing.inHand ? context.ready.front(jobId) : relisting.list([jobId]))
        return true
      }
      // The choice of another consumer, who has taken this one's, or a job to go on with.
      placeAt = standing.begun ? null : standing.provider
    }
    const taken: TakenJob = { ...given, placeAt, stand }
    context.log.debug({ jobId }, 'job taken')
    const { profileId, viewId } = this.parts.announcer.means()
    const run = new JobRun(context, taken, { source: secrets, profileId, viewId, graceMs: this.parts.graceMs, newerJobs: this.newerJobs }, locks)
    const underWay: UnderWay = { cancel: (reason) => run.cancel(reason), leave: () => run.leave(), done: Promise.resolve() }
    this.runs.set(jobId, underWay)
    underWay.done = run.carryOut().then((followed) => this.ended(jobId, underWay, followed))
    if (this.isStopped()) run.leave()
    return false
  }

  private expect(jobId: string, provider: string | null): void {
    // Others may have taken some. Where one is missing here it is asked after.
    if (this.chosen.size > 10_000) this.chosen.clear()
    this.chosen.set(jobId, provider)
  }

  /** Never throws. */
  private async ended(jobId: string, underWay: UnderWay, followed: Followed | null): Promise<void> {
    // A consumer with room for more is told by whoever frees a place; one without has to look by itself, and so where the queue's own limit kept it.
    const full = this.isFull() || this.atConcurrency
    // One that was put back may be in this consumer's hands again by now.
    if (this.runs.get(jobId) === underWay) this.runs.delete(jobId)
    if (followed === null) {
      if (full) this.nudge()
      return
    }
    const { chosen, given, token, takenAt } = followed
    this.expect(chosen.jobId, chosen.provider)
    try {
      const job = await this.parts.jobIn(given, token)
      if (job?.id !== undefined && !(await this.begin({ job, jobId: job.id, token, takenAt }, { ...chosen, waited: null, stand: { kind: 'able' } }))) return
    } catch (error) {
      if (!this.isStopped()) this.parts.context.log.warn({ message: errorMessage(error) }, 'no job taken; tried again')
    }
    // What was chosen stands in the queue, with its place, for whoever looks.
    this.nudge()
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
