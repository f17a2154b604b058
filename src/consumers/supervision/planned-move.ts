import { InfrastructureError, errorMessage } from '../../job/errors.js'
import type { RunRecord } from '../../job/run-record.js'
import type { Step } from '../../job/spec.js'
import { isRefusal } from '../../providers/refused-create.js'
import { hasRoom } from '../../store/provider-load.js'
import { describeWord } from '../../store/operator-word.js'
import { ownerName } from '../../store/slot-owners.js'
import { usedSoFar } from '../../job/usage.js'
import { eligibleHere, limitsOf } from '../placing/candidates.js'
import { sandboxName } from '../placing/sandbox-name.js'
import type { RunContext } from '../run-context.js'
import { killInBackground } from './give-up.js'
import { installOptions } from './package-policy.js'
import { pause } from './pause.js'
import { createSandbox, takePlace } from './phases/placing.js'

/**
 * A step with `resume` outlives a sandbox whose lifetime can't be extended any more, and leaves one whose provider an operator drains (`--move`). The next sandbox is made ready beside the one at work
 * where a place is free; then the step's command gets TERM and its grace, a last checkpoint is made, and the job goes on in the other.
 *
 *   at work ──soon──► wished ──place──► creating ──created──► ready ──┐
 *                        │ (waits for a place: its reason)            ├──► stopping ──last checkpoint──► moved
 *                        └────────────────── late ────────────────────┘        (no exit code counts)
 *
 * `next` in the record is null, then without anything (wished), with the intent to create, with the sandbox. From `wished` on the job's
 * place is the next sandbox's, and that of the sandbox at work is its own, as one that was given up has it: each is freed once what is in
 * it is gone, and a tenant's cap, which counts jobs, counts the pair once. Whoever takes over goes on from whatever `next` says. A
 * sandbox that is lost in between leaves the job to the next one; a step that ends by itself leaves nothing to move, or lets the job move
 * before its next step. What is still there when the job ends is killed in `closing`.
 */

/** How long a provider that refused the next sandbox is not asked for it, in milliseconds. */
const refusedMs = 5_000

/** How often it is looked whether the end of the sandbox is known, or has moved, in milliseconds. */
const lookMs = 5_000

export interface MoveTimes {
  /** When the next sandbox is made. */
  readonly soonMs: number
  /** When the step's command is stopped, whether there is another sandbox or not. */
  readonly lateMs: number
}

/** When a sandbox is to be left, in milliseconds since 1970; null when its end is not known. */
export function moveTimes(sandbox: Pick<NonNullable<RunRecord['sandbox']>, 'createdAtMs' | 'endsAtMs'>, plannedMoveMs: number): MoveTimes | null {
  const { createdAtMs, endsAtMs } = sandbox
  if (endsAtMs === undefined) return null
  const aheadMs = Math.min(plannedMoveMs, Math.max(0, endsAtMs - createdAtMs) / 3)
  return { soonMs: endsAtMs - aheadMs, lateMs: endsAtMs - aheadMs / 2 }
}

/** How long the command may take to end, in milliseconds: a part of what is left, so that the checkpoint has the rest. */
export function graceMs(times: MoveTimes, stopGraceMs: number): number {
  return Math.max(1, Math.min(stopGraceMs, (times.lateMs - times.soonMs) / 3))
}

/** Looks after the next sandbox while a step's command runs. */
export class PlannedMove {
  private readonly ending = new AbortController()
  private timer: NodeJS.Timeout | undefined
  private preparing: Promise<void> = Promise.resolve()

  private constructor(
    private readonly ctx: RunContext,
    private readonly times: () => MoveTimes | null,
  ) {
    this.arm()
  }

  /** @returns null for a step that can't go on elsewhere. */
  static of(ctx: RunContext, step: Step): PlannedMove | null {
    if (step.resume === undefined || ctx.spec.push === false) return null
    return new PlannedMove(ctx, () => {
      const { sandbox } = ctx.record
      if (sandbox === null) return null
      const times = moveTimes(sandbox, ctx.shared.settings.plannedMoveMs)
      // Where an operator drains the provider, from now on, but only to another sandbox: until there is one it works on here.
      return ctx.shared.drains.of(sandbox.provider) === null ? times : { soonMs: 0, lateMs: times?.lateMs ?? Infinity }
    })
  }

  /** How long the step's command may be waited for until `isDue` is to be asked again, in milliseconds. */
  get waitMs(): number {
    const times = this.times()
    const { waitMs } = this.ctx.budget
    if (times === null) return waitMs
    const now = this.ctx.shared.now()
    // While the next one is on its way it may be ready any moment.
    return Math.max(0, Math.min(waitMs, now < times.soonMs ? times.soonMs - now : Math.min(1_000, times.lateMs - now)))
  }

  get isDue(): boolean {
    if (this.ctx.budget.due !== null) return true
    const times = this.times()
    return times !== null && (isReady(this.ctx.record.next) || this.ctx.shared.now() >= times.lateMs)
  }

  get graceMs(): number {
    const times = this.times()
    return times === null ? this.ctx.shared.settings.stopGraceMs : graceMs(times, this.ctx.shared.settings.stopGraceMs)
  }

  /** Afterwards nothing more is begun; what was stays in the record. */
  async stop(): Promise<void> {
    clearTimeout(this.timer)
    this.ending.abort(new Error('the step is over'))
    await this.preparing
  }

  /** Looked at again and again, since the end of a lifetime may become known late, and moves. */
  private arm(): void {
    const times = this.times()
    const inMs = times === null ? lookMs : Math.max(0, times.soonMs - this.ctx.shared.now())
    this.timer = setTimeout(() => {
      const due = this.times()
      if (due !== null && this.ctx.shared.now() >= due.soonMs) this.preparing = this.prepare()
      else this.arm()
    }, Math.min(inMs, lookMs))
  }

  /** Never throws: without a next sandbox the job waits for a place once it has left this one. */
  private async prepare(): Promise<void> {
    const { ctx } = this
    const signal = AbortSignal.any([ctx.work, this.ending.signal])
    const isOver = () => signal.aborted
    for (let tries = 1; !isOver() && !isReady(ctx.record.next); tries++) {
      try {
        await prepareNext(ctx, signal)
      } catch (error) {
        if (isOver()) return
        ctx.shared.log.info({ jobId: ctx.jobId, message: ctx.secrets.patterns.mask(errorMessage(error)) }, 'next sandbox of a job that moves soon not ready yet')
        await pause(Math.min(5_000, 200 * 2 ** tries), ctx)
      }
    }
  }
}

function isReady(next: RunRecord['next']): boolean {
  return next?.sandbox != null
}

async function prepareNext(ctx: RunContext, signal: AbortSignal): Promise<void> {
  const { shared, record } = ctx
  const { sandbox } = record
  if (sandbox === null) throw new Error(`run ${ctx.jobId}: a planned move without a sandbox`)
  if (record.next === null) {
    await ctx.update({ next: { creating: null, sandbox: null } })
    const drain = shared.drains.of(sandbox.provider)
    await ctx.say(drain === null ? `the sandbox at ${sandbox.provider} ends soon, and its lifetime can't be extended: the job is going to move` : `${sandbox.provider} is drained ${describeWord(drain)}: the job is going to move`)
  }
  const attempt = record.attempts.length + 1
  let creating = ctx.record.next?.creating ?? null
  const repeated = creating !== null
  if (creating === null) {
    const ofSandbox = { kind: 'sandbox', sandboxId: sandbox.id } as const
    if ((await shared.ledger.leaseOfOwner(ownerName(ofSandbox))) === null) await shared.owners.entrust({ runId: ctx.runId, fence: ctx.fence }, ofSandbox)
    const provider = await takePlace(ctx, signal)
    creating = { provider, name: sandboxName(shared.deployment, ctx.runId, record.generation, attempt), atMs: shared.now() }
    signal.throwIfAborted()
    await ctx.update({ next: { creating, sandbox: null } })
  }
  const made = await createSandbox(ctx, { provider: creating.provider, name: creating.name, attempt, repeated }, ctx.work).catch(async (error: unknown) => {
    if (!(error instanceof InfrastructureError) || !isRefusal(error)) throw error
    // Nothing was made: another place is asked for, elsewhere.
    await ctx.releasePlace()
    await ctx.update({ next: { creating: null, sandbox: null } })
    ctx.exclude(creating.provider, shared.now() + refusedMs, error.kind)
    throw error
  })
  const { runner, capabilities } = ctx.sandbox(made)
  const wanted = installOptions(shared.settings, ctx.spec.network, capabilities, shared.git.hosts)
  // Whatever is wrong with it is found out in its turn, by `preparing`.
  await runner.install({ ...wanted, timeoutMs: shared.settings.callTimeoutMs, signal: ctx.work }).catch(() => undefined)
  await ctx.update({ next: { creating: null, sandbox: made } })
}

/**
 * Where a job goes on that leaves its sandbox, by what its record says of the next one. The attempt under way must have its end already.
 * @param startedAt of the next attempt, ISO 8601.
 */
export function toNext({ next, attempts }: Pick<RunRecord, 'next' | 'attempts'>, startedAt: string): Pick<RunRecord, 'phase' | 'sandbox' | 'creating' | 'attempts' | 'next'> {
  const began = (provider: string, sandboxId: string | null): RunRecord['attempts'] => [...attempts, { provider, sandboxId, startedAt, endedAt: null, outcome: 'running', error: null }]
  if (next?.sandbox != null) {
    return { phase: 'preparing', sandbox: { ...next.sandbox, repositoryPath: null }, creating: null, attempts: began(next.sandbox.provider, next.sandbox.id), next: null }
  }
  if (next?.creating != null) return { phase: 'placing', sandbox: null, creating: next.creating, attempts: began(next.creating.provider, null), next: null }
  return { phase: 'placing', sandbox: null, creating: null, attempts, next: null }
}

/** Whether a job that stands between two steps, with its work saved, is to leave its sandbox: an operator drains the provider, and another one has room. */
export async function isToLeave(ctx: RunContext): Promise<boolean> {
  const { shared, record } = ctx
  const { sandbox } = record
  if (sandbox === null || ctx.spec.push === false || shared.drains.of(sandbox.provider) === null) return false
  const eligibility = eligibleHere(shared, ctx.spec)
  if (!eligibility.ok) return false
  const loads = await shared.ledger.sharedLoads(limitsOf(shared.providers))
  return loads.some((load) => load.provider !== sandbox.provider && eligibility.providers.includes(load.provider) && !shared.keys.isRefused({ provider: load.provider }) && hasRoom(load))
}

/** Leaves the sandbox, whose work is saved, and goes on in the next one, or waits for a place. */
export async function moveOn(ctx: RunContext): Promise<void> {
  const { shared, record } = ctx
  const { sandbox } = record
  if (sandbox === null) throw new Error(`run ${ctx.jobId}: nothing to move from`)
  const endedAt = new Date(shared.now()).toISOString()
  const attempts = ctx.patchAttempt({ endedAt, outcome: 'moved', ...ctx.costSoFar() })
  // From `wished` on its place is its own.
  if (record.next === null) await ctx.entrustPlace(sandbox.provider, { kind: 'sandbox', sandboxId: sandbox.id })
  await ctx.update({
    ...toNext({ next: record.next, attempts }, endedAt),
    running: null,
    resumes: false,
    setupIndex: 0,
    abandoned: [...record.abandoned, { provider: sandbox.provider, id: sandbox.id }],
    usedMs: Math.round(usedSoFar(record, ctx.moment)),
  })
  shared.metrics.add('switchyard.job.moves', [sandbox.provider, 'moved'])
  void killInBackground(ctx, sandbox)
  const where = record.next?.sandbox?.provider
  await ctx.say(`left the sandbox at ${sandbox.provider}${shared.drains.of(sandbox.provider) === null ? ' before its end' : ', which is drained'}, with all its work saved; ${where === undefined ? 'the job waits for another place' : `goes on at ${where}`}`)
}
