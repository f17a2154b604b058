import { horizonMs, leastPaidMs, parksWithin, type Refusal } from '../job/budget.js'
import { costMicros, rateOf, toMicros, type Billed } from '../job/cost.js'
import { errorMessage, FenceLostError } from '../job/errors.js'
import type { RunRecord } from '../job/run-record.js'
import type { JobSpec } from '../job/spec.js'
import type { Moment } from '../job/usage.js'
import type { Covered } from '../store/budgets.js'
import type { ConsumerContext } from './consumer-context.js'
import { eligibleHere } from './placing/candidates.js'

/** How often it is looked, while a command runs, whether the job is to be parked, in milliseconds. */
const looks = { least: 100, most: 5_000 }

/** A budget has too little for a job to go on: it is parked. */
export class BudgetReached extends Error {
  override readonly name = 'BudgetReached'
  constructor(
    readonly refusal: Refusal,
    readonly covered: Pick<Covered, 'dayEndsAtMs' | 'stamp'>,
  ) {
    super(`the budget of the ${refusal.of} has too little`)
  }
}

/** What it takes of a run's context. */
export interface BudgetedRun {
  readonly shared: Pick<ConsumerContext, 'budgets' | 'providers' | 'deploymentProviders' | 'git' | 'settings' | 'log' | 'now'>
  readonly jobId: string
  readonly spec: JobSpec
  readonly fence: number
  readonly record: RunRecord
  readonly moment: Moment
  readonly deadlineMs: number
  amend(patch: Partial<RunRecord>): void
}

/**
 * What a job's sandboxes may still cost, as its supervisor sees to it: reserved before one is made, and again a third of a period later and so on, so that two
 * thirds of a period are left to park the job in when there is no more. A job without a budget costs no call.
 *
 *   not reserved ──before a create──► reserved ──renewed──► reserved … ──refused──► due: parked where it can be
 *        └──refused──► parked, no sandbox is made                        ▲  └──granted, since the budget was raised──┐
 *                                                                        └───────────────────────────────────────────┘
 *
 * Of a step without `resume`, and of a job that can't be saved before its end, all of its time is reserved at once: it is not parked within.
 */
export class JobBudget {
  private timer: NodeJS.Timeout | undefined
  private reached: BudgetReached | null = null
  private renewing = false
  /** Until when an attempt's sandbox is paid for that can't be parked before, in milliseconds of its life; `whole`: for all of the job's time. */
  private paid: { readonly attempt: number; readonly untilMs: number; readonly whole: boolean } | null = null

  constructor(private readonly run: BudgetedRun) {}

  /** That there is too little to go on for longer than what is reserved; null while there is enough. */
  get due(): BudgetReached | null {
    return this.reached
  }

  /** How long a command may be waited for until `due` is to be asked again, in milliseconds. */
  get waitMs(): number {
    return this.applies ? Math.min(looks.most, Math.max(looks.least, this.run.shared.settings.budgetPeriodMs / 12)) : Infinity
  }

  /** As of `CommandRun.move`, for a command whose work is not needed: null where there is no budget. */
  get breakOff(): { readonly waitMs: number; readonly isDue: boolean; readonly graceMs: number } | null {
    if (!this.applies) return null
    const { waitMs } = this
    const isDue = () => this.reached !== null
    const graceMs = this.run.shared.settings.stopGraceMs
    return { waitMs, get isDue() { return isDue() }, graceMs }
  }

  start(): void {
    const { shared } = this.run
    const priced = [...shared.providers.values()].some(({ price }) => price !== undefined)
    if (shared.budgets === undefined || !priced) return
    this.timer = setInterval(() => void this.renew(), shared.settings.budgetPeriodMs / 3)
  }

  stop(): void {
    clearInterval(this.timer)
  }

  /**
   * Reserves what the next sandbox will cost, before it is made.
   * @param repeated it may have been made already: then it goes on.
   * @throws BudgetReached when there is too little.
   */
  async beforeCreate(provider: string, attempt: number, repeated: boolean): Promise<void> {
    const { shared, spec } = this.run
    const rate = this.applies ? rateOf(shared.providers.get(provider)?.price, spec.resources, shared.budgets?.currency ?? '') : null
    if (rate === null) return
    const { horizonMs: untilMs, whole } = this.horizon()
    this.paid = { attempt, untilMs, whole }
    const reached = await this.cover(attempt, 0, costMicros(rate, untilMs), untilMs)
    if (reached !== null && !repeated) throw reached
    const { parking } = this.run.record
    if (parking === undefined || parking.reason === null) return
    await shared.budgets?.unpark(this.run.jobId, spec.tenant)
    this.run.amend({ parking: { ...parking, reason: null } })
  }

  /**
   * Reserves for the step that comes next.
   * @throws BudgetReached when there is too little; nothing of the step has begun.
   */
  async beforeStep(): Promise<void> {
    const { record, spec } = this.run
    if (!this.applies || record.sandbox?.billed === undefined) return
    const reached = await this.renewCurrent(record.sandbox.billed, true)
    // What can't be saved goes on to its end once it has begun.
    if (reached !== null && (spec.push !== false || record.stepIndex === 0)) throw reached
  }

  /**
   * The job has no sandbox now: what was reserved is given back, and what it has cost is charged.
   * @returns how it stands after that, by its own giving back too; null where there is enough by now for what was refused.
   */
  async settle({ refusal }: BudgetReached): Promise<BudgetReached | null> {
    return await this.cover(null, 0, refusal.needed, 0)
  }

  /**
   * What a job that begins as this one did needs at the least, wherever this consumer may have it run, in micro-units; null where it may cost nothing.
   * It is the same for all jobs that stand in the index with it.
   */
  get leastOfAll(): number | null {
    const { shared, spec } = this.run
    const eligible = eligibleHere(shared, spec)
    const livedMs = leastPaidMs(spec) || shared.settings.budgetPeriodMs
    const costs = (eligible.ok ? eligible.providers : []).map((name) => {
      const rate = rateOf(shared.providers.get(name)?.price, spec.resources, shared.budgets?.currency ?? '')
      return rate === null ? 0 : costMicros(rate, livedMs)
    })
    const least = costs.length === 0 ? 0 : Math.min(...costs)
    return least === 0 ? null : least
  }

  private get applies(): boolean {
    const { shared, jobId, spec } = this.run
    return shared.budgets?.appliesTo(jobId, spec) === true
  }

  private horizon(): { readonly horizonMs: number; readonly whole: boolean } {
    const { spec, record, deadlineMs, shared } = this.run
    const leftMs = deadlineMs - shared.now()
    const ms = horizonMs(spec, record, { leftMs, periodMs: shared.settings.budgetPeriodMs })
    return { horizonMs: ms, whole: ms >= leftMs }
  }

  private async renew(): Promise<void> {
    const { record, shared, jobId, moment } = this.run
    if (this.renewing || !this.applies || record.sandbox?.billed === undefined) return
    this.renewing = true
    try {
      this.reached = await this.renewCurrent(record.sandbox.billed, false)
      const next = record.next?.sandbox?.billed
      if (next === undefined) return
      const livedMs = Math.max(0, moment.meterMs - next.fromMs)
      const { budgetPeriodMs } = shared.settings
      this.reached ??= await this.cover(record.attempts.length + 1, costMicros(next, livedMs), costMicros(next, livedMs + budgetPeriodMs) - costMicros(next, livedMs), budgetPeriodMs)
    } catch (error) {
      // Its run ends meanwhile, or is another's.
      if (error instanceof FenceLostError) return
      shared.log.warn({ jobId, message: errorMessage(error) }, 'what a job may cost was not reserved; tried again')
    } finally {
      this.renewing = false
    }
  }

  private async renewCurrent(billed: Billed, anew: boolean): Promise<BudgetReached | null> {
    const { record, spec, moment } = this.run
    const attempt = record.attempts.length
    const livedMs = Math.max(0, moment.meterMs - billed.fromMs)
    const within = parksWithin(spec, record)
    // Before its steps it can be parked, but is not to come to one that it can't pay for.
    const { horizonMs: ms, whole } = this.horizon()
    const paid = !within && this.paid?.attempt === attempt ? this.paid : null
    // What was paid for all of the job's time is enough: the create itself took some of the sandbox's.
    const keeps = paid !== null && ((!anew && record.phase === 'steps') || (paid.whole && livedMs + ms > paid.untilMs))
    const untilMs = keeps ? Math.max(livedMs, paid.untilMs) : livedMs + ms
    this.paid = within ? null : { attempt, untilMs, whole: keeps ? paid.whole : whole }
    const cost = costMicros(billed, livedMs)
    return await this.cover(attempt, cost, costMicros(billed, untilMs) - cost, untilMs - livedMs)
  }

  private async cover(attempt: number | null, cost: number, wanted: number, forMs: number): Promise<BudgetReached | null> {
    const { shared, jobId, spec, fence, record } = this.run
    const { budgets, settings } = shared
    if (budgets === undefined) return null
    // It goes with the next write; a successor that lacks it reserves, and says so, itself.
    if (record.budgeted === undefined) this.run.amend({ budgeted: true })
    const ended = Object.fromEntries(record.attempts.flatMap(({ outcome, cost: each }, index) => (outcome === 'running' ? [] : [[String(index + 1), each?.micros ?? 0] as const])))
    const covered = await budgets.cover(jobId, {
      fence,
      tenant: spec.tenant,
      jobCap: spec.budget === undefined ? undefined : toMicros(spec.budget.amount),
      ended,
      attempt: attempt === null ? null : { number: attempt, cost, wanted, forMs: Math.max(forMs, settings.budgetPeriodMs) },
      asked: attempt === null ? wanted : undefined,
    })
    if (covered.refusedBy === null) return null
    return new BudgetReached({ ...covered.refusedBy, currency: budgets.currency, needed: wanted, dayEnds: clockIn(covered.dayEndsAtMs, budgets.timeZone) }, covered)
  }
}

/** A time of day for people, with its zone: `00:00 Europe/Berlin`. */
function clockIn(atMs: number, timeZone: string): string {
  return `${new Intl.DateTimeFormat('en-GB', { timeZone, hour: '2-digit', minute: '2-digit', hourCycle: 'h23' }).format(atMs)} ${timeZone}`
}
