import { FenceLostError, SwitchyardError, errorMessage } from '../../job/errors.js'
import { cancelCode } from '../../job/cancel-code.js'
import { timeoutSentence } from '../../job/deadlines.js'
import type { JobError, JobResult } from '../../job/result.js'
import { isUnavailability, type NextJob } from '../../store/index.js'
import { saveFailedWork } from './failed-work.js'
import { stopStep } from './stop-step.js'
import { pause } from './pause.js'
import { recover } from './recovery.js'
import { restarts } from './restarts.js'
import { measured } from '../measured.js'
import { BudgetReached } from '../job-budget.js'
import { park, type Parked } from './parking.js'
import type { RunContext } from '../run-context.js'
import { closing, restart } from './phases/closing.js'
import { placing } from './phases/placing.js'
import { preparing } from './phases/preparing.js'
import { promoting } from './phases/promoting.js'
import { pushing } from './phases/pushing.js'
import { setup, steps } from './phases/steps.js'

/**
 * Supervises one job to its end, or until this consumer must leave it.
 *
 *   placing ──► preparing ──► setup ──► steps ──► pushing ──► promoting ──► closing ──► ended
 *      ▲            │           │         │          │            │            ▲
 *      └────────────┴── sandbox or provider lost ────┘            │            │
 *                   └── step failed, cancel, timeout, invalid ────┴────────────┘
 *
 * From `closing` a failed job that has attempts left (`restarts`) begins again at `placing`, in its own place.
 *
 * Each phase is a function that does what is left of it and moves the record on; it may be entered again at any point by this
 * or another consumer. Errors are sorted by `decide` into: again, wait, elsewhere, fail, leave. An interruption (cancel, the job's
 * timeout) aborts `ctx.work`, so the phase throws, and is turned into the outcome here.
 */
export type SupervisionEnd =
  /** `next`: a job that was chosen for this consumer as this one's place came free. */
  | { readonly kind: 'ended'; readonly result: JobResult; readonly next: NextJob | null }
  /** The job failed and begins again from the start: supervise it anew, under the same fence. */
  | { readonly kind: 'restarted' }
  /** A budget has too little: it is nobody's until that time, or until it is woken. */
  | ({ readonly kind: 'parked' } & Parked)
  /** `because`: another consumer may be able to go on, and this one not before long. */
  | { readonly kind: 'left'; readonly because: string | null }

export async function supervise(ctx: RunContext): Promise<SupervisionEnd> {
  let timer: NodeJS.Timeout | undefined
  const heartbeat = setInterval(() => void keepAlive(ctx), ctx.shared.settings.sandboxLifetimeMs / 3)
  // A sandbox that was taken over may have waited for long, and its job may be handed on again before the next heartbeat.
  if (ctx.record.phase !== 'closing') void keepAlive(ctx)
  ctx.budget.start()
  let reached: BudgetReached | null = null
  let tries = 0
  let sinceMs = 0
  try {
    for (;;) {
      ctx.cameRound()
      const { phase } = ctx.record
      clearTimeout(timer)
      timer = armDeadline(ctx)
      const concluding = mustConclude(ctx)
      ctx.boardLog.progress(ctx.record, ctx.spec)
      try {
        if (ctx.leave.aborted) return { kind: 'left', because: null }
        if (concluding) await conclude(ctx)
        else if (reached !== null) {
          const parked = await park(ctx, reached)
          if (parked !== null) return { kind: 'parked', ...parked }
          reached = null
        }
        else if (phase === 'closing' && restarts(ctx.record, ctx.spec)) {
          await restart(ctx)
          return { kind: 'restarted' }
        } else if (phase === 'closing') return { kind: 'ended', ...(await closing(ctx)) }
        else await perform(ctx)
        tries = 0
        await ctx.endWait()
      } catch (error) {
        if (await endsSupervision(ctx, error)) return { kind: 'left', because: null }
        // The interruption itself made the phase throw; what made the conclusion fail is an error like any other.
        if (!concluding && mustConclude(ctx)) continue
        if (error instanceof BudgetReached) {
          reached = error
          continue
        }
        tries = ctx.record.phase === phase && !ctx.takeProgress() ? tries + 1 : 1
        if (tries === 1) sinceMs = ctx.shared.now()
        try {
          const recovery = await recover(ctx, error, { tries, sinceMs })
          if (recovery.kind === 'left') return recovery
        } catch (second) {
          // Nothing was decided: the phase is entered again, and meets what it met before, or not.
          if (await endsSupervision(ctx, second)) return { kind: 'left', because: null }
          ctx.shared.log.warn({ jobId: ctx.jobId, phase, message: ctx.secrets.patterns.mask(errorMessage(second)) }, 'an error could not be dealt with; tried again')
          await pause(Math.min(10_000, 100 * 2 ** Math.min(tries, 10)), ctx)
        }
      }
    }
  } finally {
    clearTimeout(timer)
    ctx.budget.stop()
    clearInterval(heartbeat)
  }
}

/** The job's time counts from its first sandbox on, so the deadline changes as it goes. */
function armDeadline(ctx: RunContext): NodeJS.Timeout | undefined {
  const { deadline } = ctx
  if (deadline === null) return undefined
  // Node fires longer timers at once.
  return setTimeout(() => ctx.interrupt({ kind: deadline.kind }), Math.min(2 ** 31 - 1, Math.max(0, deadline.atMs - ctx.shared.now())))
}

/** Another consumer's turn: this one leaves, has lost the job, or can't write what it would have to write. */
async function endsSupervision(ctx: RunContext, error: unknown): Promise<boolean> {
  if (ctx.leave.aborted || error instanceof FenceLostError) return true
  // A Redis that is away is waited for. One that answers and refuses (no memory, a full disk) is no reason for a job to fail.
  if (error instanceof SwitchyardError || !isUnavailability(error)) return false
  ctx.shared.log.warn({ jobId: ctx.jobId, message: errorMessage(error) }, 'Redis refuses what a job’s supervisor has to write; the job is left to the next consumer')
  await pause(ctx.shared.settings.pollMs, ctx)
  return true
}

async function perform(ctx: RunContext): Promise<void> {
  switch (ctx.record.phase) {
    case 'placing':
      return placing(ctx)
    case 'preparing':
      return measured(ctx, { metric: 'switchyard.clone.duration', span: 'clone', labels: (outcome) => [ctx.record.sandbox?.provider ?? '', outcome], outcomeOf: () => 'ok' }, () => preparing(ctx))
    case 'setup':
      return setup(ctx)
    case 'steps':
      return steps(ctx)
    case 'pushing':
      return measured(ctx, { metric: 'switchyard.push.duration', span: 'push', labels: (outcome) => [outcome], outcomeOf: () => 'ok' }, () => (ctx.record.outcome?.status === 'succeeded' ? pushing(ctx, ctx.work) : saveFailedWork(ctx)))
    case 'promoting':
      return measured(ctx, { metric: 'switchyard.promotion.duration', span: 'promote', labels: (outcome) => [outcome], outcomeOf: () => 'ok' }, () => promoting(ctx, ctx.leave))
    case 'closing':
    case 'ended':
      throw new Error(`run ${ctx.jobId}: nothing to perform in phase ${ctx.record.phase}`)
  }
}

/**
 * An interruption counts until the work is on its branch, a cancel also for a job that failed and whose work is still being saved;
 * a promotion under way is not taken back.
 */
function mustConclude({ interruption, record: { outcome, phase } }: RunContext): boolean {
  if (interruption === null) return false
  return outcome === null || (phase === 'pushing' && (interruption.kind === 'cancel' || outcome.status === 'succeeded'))
}

async function conclude(ctx: RunContext): Promise<void> {
  const { interruption } = ctx
  const collects = (ctx.spec.artifacts ?? []).length > 0
  if (interruption?.kind === 'cancel') {
    const { running } = ctx.record
    await ctx.update({ phase: 'closing', running: null, outcome: { status: 'cancelled', error: { kind: 'cancelled', message: interruption.reason, code: cancelCode(interruption.reason) } } })
    // What is collected stands still.
    if (running !== null && collects) await stopStep(ctx, running.key, ctx.leave)
    return
  }
  const { phase, running } = ctx.record
  const error: JobError = { kind: 'timeout', message: ctx.secrets.patterns.mask(timeoutSentence(interruption?.kind === 'waitTimeout' ? 'waitTimeout' : 'timeout', ctx.spec, ctx.waitingFor)), code: 'SWY_JOB_TIMEOUT' }
  const saves = ctx.spec.push !== false && (phase === 'steps' || phase === 'pushing')
  await ctx.update({ outcome: { status: 'failed', error }, phase: saves ? 'pushing' : 'closing', running: null })
  if (!(saves || collects) || running === null) return
  await stopStep(ctx, running.key)
}

async function keepAlive(ctx: RunContext): Promise<void> {
  const { sandbox } = ctx.record
  const provider = sandbox === null ? undefined : ctx.shared.providers.get(sandbox.provider)?.provider
  if (sandbox === null || provider?.capabilities.extend !== true) return
  const { settings } = ctx.shared
  try {
    const lifetime = await provider.extend(sandbox.id, settings.sandboxLifetimeMs, { timeoutMs: settings.callTimeoutMs, signal: ctx.leave })
    const endsAtMs = lifetime?.lifetimeEndsAtMs
    // Goes with the next write of the record; whoever takes over meanwhile asks again.
    if (endsAtMs !== undefined && ctx.record.sandbox?.id === sandbox.id) ctx.amend({ sandbox: { ...ctx.record.sandbox, endsAtMs: Math.round(endsAtMs) } })
  } catch (error) {
    ctx.shared.log.warn({ jobId: ctx.jobId, provider: sandbox.provider, message: errorMessage(error) }, 'sandbox lifetime not extended; tried again at the next heartbeat')
  }
}
