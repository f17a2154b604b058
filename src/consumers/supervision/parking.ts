import { heldForBudget, neverFits, parksInVain, placeOf, waitsForBudget } from '../../job/budget.js'
import { sumOf } from '../../job/cost.js'
import type { RunRecord } from '../../job/run-record.js'
import { costOf, usedSoFar } from '../../job/usage.js'
import type { BudgetReached } from '../job-budget.js'
import type { RunContext } from '../run-context.js'
import { killInBackground } from './give-up.js'

/**
 * A job whose budget has too little is parked: its work is at the git host, its sandbox is killed, its place is another job's, and BullMQ holds it as
 * delayed until the budget's day turns, or it is woken because the budget was raised or something that was reserved came free.
 *
 *   supervised ──too little──► parked ──woken──► waiting for its turn ──placed──► reserved: goes on from its checkpoint
 *                   │             ▲                                        └──too little: parked again, without a sandbox
 *                   └── for the second time where it stood the first time, or never enough: fails
 *
 * What waits behind it in the index, and needs more at the least than its tenant's day has left, is held there (`ReadyJobs.hold`): it is not chosen to be refused.
 *
 * Its time stands still. Whoever takes it over before the queue has it as delayed finds that it has no sandbox, and parks it again.
 */
export interface Parked {
  /** When it is looked at again at the latest, in milliseconds since 1970. */
  readonly untilMs: number
  /** By which budgets it was refused, once its own reservation was given back; see `Covered`. Empty where there is enough by now. */
  readonly stamp: string
  /** What it needs of its tenant's budget, in micro-units; null where it waits for its own. */
  readonly needed: number | null
  /** Why all that stand in the index with it wait for their tenant's budget too, which has too little for any of them, and until when; null where it may have enough for some. */
  readonly others: { readonly why: string; readonly untilMs: number } | null
}

/** A job whose own budget is used up waits for that to be raised; it is looked at again after so long all the same, in milliseconds. */
const longestMs = 30 * 86_400_000
/** A sandbox's death is waited for so long, in milliseconds; it has a place of its own meanwhile. */
const killPatienceMs = 5_000

/** @returns null when the job fails instead; its record says why. */
export async function park(ctx: RunContext, reached: BudgetReached): Promise<Parked | null> {
  const { refusal } = reached
  const { record, spec, shared } = ctx
  const problem = problemOf(ctx, reached)
  if (problem !== null) {
    const saves = spec.push !== false && record.sandbox !== null && record.phase === 'steps'
    await ctx.update({ outcome: { status: 'failed', error: { ...problem, kind: 'invalid', owner: 'job' } }, phase: saves ? 'pushing' : 'closing', running: null, ...(record.sandbox === null ? { creating: null, attempts: untried(record) } : {}) })
    return null
  }
  const reason = waitsForBudget(refusal, spec.tenant)
  const { sandbox, next, creating } = record
  const now = shared.now()
  const cost = sumOf([costOf(sandbox, ctx.moment), costOf(next?.sandbox ?? null, ctx.moment)])
  // Without a sandbox since then it is where it was.
  const before = record.attempts.slice(record.parking?.attempts ?? 0).some(({ sandboxId }) => sandboxId !== null) ? undefined : record.parking
  const attempts = sandbox === null ? untried(record) : ctx.patchAttempt({ endedAt: new Date(now).toISOString(), outcome: 'parked', ...(cost === null ? {} : { cost }) })
  const had = record.attempts.some(({ sandboxId }) => sandboxId !== null)
  const doomed = [sandbox, next?.sandbox ?? null].filter((each) => each !== null)
  // From here on each that lives has a place of its own.
  if (sandbox !== null && next === null) await ctx.entrustPlace(sandbox.provider, { kind: 'sandbox', sandboxId: sandbox.id })
  if (next?.sandbox != null) await ctx.entrustPlace(next.sandbox.provider, { kind: 'sandbox', sandboxId: next.sandbox.id })
  else if (next?.creating != null) await ctx.entrustPlace(next.creating.provider, { kind: 'create', runId: ctx.runId, attempt: attempts.length + 1, atMs: now })
  await ctx.update(
    {
      phase: 'placing',
      sandbox: null,
      creating: null,
      next: null,
      running: null,
      resumes: false,
      setupIndex: 0,
      attempts,
      abandoned: [...record.abandoned, ...doomed.map(({ provider, id }) => ({ provider, id }))],
      usedMs: Math.round(usedSoFar(record, ctx.moment)),
      firstSandboxAtMs: null,
      parking: {
        reason,
        atMs: before?.atMs ?? now,
        timeUsedMs: record.firstSandboxAtMs === null ? (record.parking?.timeUsedMs ?? 0) : Math.max(1, now - record.firstSandboxAtMs),
        place: before?.place ?? (had ? placeOf(record) : ''),
        attempts: attempts.length,
      },
    },
    reason,
  )
  if (record.parking?.reason !== reason) await ctx.say(`parked: it ${reason}`)
  shared.log.info({ jobId: ctx.jobId, creating: creating?.provider, of: refusal.of }, 'job parked')
  await Promise.race([Promise.all(doomed.map((each) => killInBackground(ctx, each))), new Promise((resolve) => setTimeout(resolve, killPatienceMs).unref())])
  const settled = await ctx.budget.settle(reached)
  return { untilMs: untilOf(ctx, reached), stamp: settled?.covered.stamp ?? '', needed: settled?.refusal.of === 'tenant' ? settled.refusal.needed : null, others: settled === null ? null : othersOf(ctx, settled) }
}

function othersOf({ budget, spec }: RunContext, { refusal, covered }: BudgetReached): Parked['others'] {
  const needed = budget.leastOfAll
  if (refusal.of !== 'tenant' || needed === null || needed <= refusal.cap - refusal.spent - refusal.reserved) return null
  return { why: heldForBudget({ ...refusal, needed }, spec.tenant), untilMs: covered.dayEndsAtMs }
}

/** The attempts of a job that has no sandbox: the one for which none was made was none. */
function untried({ attempts }: RunRecord): RunRecord['attempts'] {
  return attempts.at(-1)?.outcome === 'running' ? attempts.slice(0, -1) : attempts
}

/** Why the job can't be parked, and fails; null when it can. */
function problemOf(ctx: RunContext, { refusal }: BudgetReached): Pick<NonNullable<NonNullable<RunRecord['outcome']>['error']>, 'message' | 'code'> | null {
  const { record, spec } = ctx
  const unsaved = record.running?.moved === true ? record.checkpointProblem : null
  if (unsaved !== null) return { code: 'SWY_BUDGET_NO_PROGRESS', message: ctx.secrets.patterns.mask(`the job ${waitsForBudget(refusal, spec.tenant)}; it can't be parked, since its work could not be saved: ${unsaved.error.message}`) }
  if (parksInVain(record)) {
    const step = spec.steps[record.stepIndex]?.name ?? 'its end'
    return { code: 'SWY_BUDGET_NO_PROGRESS', message: `the job was to be parked a second time at the same place, before or within ${step}, and had made no progress in between: it ${waitsForBudget(refusal, spec.tenant)}; give it a larger budget` }
  }
  const never = record.attempts.some(({ sandboxId }) => sandboxId !== null) ? undefined : neverFits(refusal, spec.tenant)
  return never === undefined ? null : { code: 'SWY_BUDGET_TOO_SMALL', message: never }
}

function untilOf(ctx: RunContext, { refusal, covered }: BudgetReached): number {
  const untilMs = refusal.of === 'tenant' ? covered.dayEndsAtMs : Date.now() + longestMs
  const { deadline } = ctx
  // Its time to wait for the first sandbox goes on.
  return deadline?.kind === 'waitTimeout' ? Math.min(untilMs, deadline.atMs) : untilMs
}
