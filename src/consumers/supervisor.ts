import { FenceLostError, InfrastructureError, SwitchyardError, errorMessage } from '../job/errors.js'
import { workBranch } from '../job/names.js'
import type { JobError, JobResult } from '../job/result.js'
import { isUnavailability } from '../store/index.js'
import { reportFor } from './provider-reports.js'
import { restarts } from './restarts.js'
import { react, type ErrorContext, type Reaction } from './reactions.js'
import { UnconfiguredProviderError, type RunContext } from './run-context.js'
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
 * or another consumer. Errors are sorted by `react` into: again, elsewhere, fail, leave. An interruption (cancel, the job's
 * timeout) aborts `ctx.work`, so the phase throws, and is turned into the outcome here.
 */
export type SupervisionEnd =
  | { readonly kind: 'ended'; readonly result: JobResult }
  /** The job failed and begins again from the start: supervise it anew, under the same fence. */
  | { readonly kind: 'restarted' }
  | { readonly kind: 'left' }

export async function supervise(ctx: RunContext): Promise<SupervisionEnd> {
  const deadline = setTimeout(() => ctx.interrupt({ kind: 'timeout' }), Math.max(0, ctx.deadlineMs - ctx.shared.now()))
  const heartbeat = setInterval(() => void keepAlive(ctx), ctx.shared.settings.sandboxLifetimeMs / 3)
  // A sandbox that was taken over may have waited for long, and its job may be handed on again before the next heartbeat.
  if (ctx.record.phase !== 'closing') void keepAlive(ctx)
  let tries = 0
  try {
    for (;;) {
      const { phase } = ctx.record
      const concluding = mustConclude(ctx)
      ctx.boardLog.progress(ctx.record, ctx.spec)
      try {
        if (ctx.leave.aborted) return { kind: 'left' }
        if (concluding) await conclude(ctx)
        else if (phase === 'closing' && restarts(ctx.record, ctx.spec)) {
          await restart(ctx)
          return { kind: 'restarted' }
        } else if (phase === 'closing') return { kind: 'ended', result: await closing(ctx) }
        else await perform(ctx)
        tries = 0
      } catch (error) {
        if (await endsSupervision(ctx, error)) return { kind: 'left' }
        // The interruption itself made the phase throw; what made the conclusion fail is an error like any other.
        if (!concluding && mustConclude(ctx)) continue
        tries = ctx.record.phase === phase ? tries + 1 : 1
        try {
          if ((await recover(ctx, error, tries)) === 'left') return { kind: 'left' }
        } catch (second) {
          // Nothing was decided: the phase is entered again, and meets what it met before, or not.
          if (await endsSupervision(ctx, second)) return { kind: 'left' }
          ctx.shared.log.warn({ jobId: ctx.jobId, phase, message: ctx.secrets.patterns.mask(errorMessage(second)) }, 'an error could not be dealt with; tried again')
          await pause(Math.min(10_000, 100 * 2 ** Math.min(tries, 10)), ctx)
        }
      }
    }
  } finally {
    clearTimeout(deadline)
    clearInterval(heartbeat)
  }
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
      return preparing(ctx)
    case 'setup':
      return setup(ctx)
    case 'steps':
      return steps(ctx)
    case 'pushing':
      return ctx.record.outcome?.status === 'succeeded' ? pushing(ctx, ctx.work) : saveFailedWork(ctx)
    case 'promoting':
      return promoting(ctx, ctx.leave)
    case 'closing':
    case 'ended':
      throw new Error(`run ${ctx.jobId}: nothing to perform in phase ${ctx.record.phase}`)
  }
}

/** The work of a job that did not succeed is pushed too, within bounds: it must not keep a sandbox for long. */
async function saveFailedWork(ctx: RunContext): Promise<void> {
  const grace = new AbortController()
  const timer = setTimeout(() => grace.abort(new Error('the time to save the work is up')), ctx.shared.settings.saveGraceMs)
  try {
    await pushPatiently(ctx, AbortSignal.any([ctx.aftermath, grace.signal]))
  } catch (error) {
    if (ctx.aftermath.aborted || error instanceof FenceLostError) throw error
    await ctx.say(`the work of this failed job was not pushed: ${errorMessage(error)}; its last checkpoint is kept`)
    await ctx.update({ phase: 'closing' })
  } finally {
    clearTimeout(timer)
  }
}

/** Passing errors are met again and again until the time is up: this sandbox holds the only copy of the work. */
async function pushPatiently(ctx: RunContext, signal: AbortSignal): Promise<void> {
  let last: unknown
  for (let tries = 1; ; tries++) {
    try {
      await pushing(ctx, signal)
      return
    } catch (thrown) {
      // The error that there was, not that the time is up.
      if (signal.aborted) throw last ?? thrown
      const error = await confirmLoss(ctx, thrown, tries)
      last = error
      if (!(error instanceof InfrastructureError) || !passingKinds.includes(error.kind)) throw error
      ctx.shared.log.info({ jobId: ctx.jobId, tries, kind: error.kind, message: ctx.secrets.patterns.mask(error.message) }, 'work of a failed job not pushed yet')
      await pause(Math.min(5_000, error.retryAfterMs ?? 100 * 2 ** Math.min(tries, 10)), ctx)
    }
  }
}
const passingKinds: readonly string[] = ['transient', 'timeout', 'rate-limited', 'provider-down', 'capacity']

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
  if (interruption?.kind === 'cancel') {
    await ctx.update({ phase: 'closing', running: null, outcome: { status: 'cancelled', error: { kind: 'cancelled', message: interruption.reason } } })
    return
  }
  const { phase, running } = ctx.record
  const error: JobError = { kind: 'timeout', message: `the job did not end within its timeout of ${ctx.spec.timeoutMs / 1000} s` }
  const saves = ctx.spec.push !== false && (phase === 'steps' || phase === 'pushing')
  await ctx.update({ outcome: { status: 'failed', error }, phase: saves ? 'pushing' : 'closing', running: null })
  if (!saves || running === null) return
  const { settings } = ctx.shared
  try {
    await ctx.sandbox().runner.stop(running.key, settings.stopGraceMs, { timeoutMs: settings.stopGraceMs + settings.callTimeoutMs, signal: ctx.aftermath })
  } catch (error) {
    if (ctx.aftermath.aborted || error instanceof FenceLostError) return
    await ctx.say(`the step under way could not be stopped before its work was saved: ${errorMessage(error)}`)
  }
}

async function recover(ctx: RunContext, thrown: unknown, tries: number): Promise<'goes on' | 'left'> {
  if (thrown instanceof UnconfiguredProviderError) {
    ctx.shared.log.error({ jobId: ctx.jobId }, thrown.message)
    // Put back at once it would come back at once, while no other consumer is there.
    await pause(ctx.shared.settings.pollMs, ctx)
    return 'left'
  }
  const where = ctx.record.sandbox?.provider ?? ctx.record.creating?.provider ?? null
  const error = await confirmLoss(ctx, thrown, tries)
  const context: ErrorContext = {
    source: await errorSource(ctx, error, where),
    tries,
    refusals: (where === null ? 0 : (ctx.refusals.get(where) ?? 0)) + 1,
  }
  const reaction = react(error, context)
  ctx.shared.log.info({ jobId: ctx.jobId, phase: ctx.record.phase, provider: where, reaction: reaction.kind, message: ctx.secrets.patterns.mask(errorMessage(error)) }, 'error while supervising')
  if (ctx.record.phase === 'closing' && reaction.kind !== 'leave') {
    // There is nowhere to go from here but on: the end of a job must be written, however long it takes.
    await pause(Math.min(30_000, 100 * 2 ** Math.min(tries, 10)), ctx)
    return 'goes on'
  }
  switch (reaction.kind) {
    case 'leave':
      return 'left'
    case 'retry':
      await pause(reaction.delayMs, ctx)
      return 'goes on'
    case 'fail':
      await ctx.update({ outcome: { status: 'failed', error: ctx.masked(reaction.error) }, phase: 'closing', running: null })
      return 'goes on'
    case 'move':
      // Sent one after the other, so that neither waits for the other's answer: the next sandbox is asked for the sooner.
      await Promise.all([tellLedger(ctx, error, where), move(ctx, reaction, where, context.refusals)])
      return 'goes on'
  }
}

/** While the job still holds its place: what was refused is counted among what is in use. */
async function tellLedger(ctx: RunContext, error: unknown, where: string | null): Promise<void> {
  const report = error instanceof InfrastructureError ? reportFor(error) : null
  if (where !== null && report !== null) await ctx.shared.ledger.report(where, report)
}

/** Before a sandbox is given up for calls that keep failing, its provider is asked whether it is still there. */
async function confirmLoss(ctx: RunContext, error: unknown, tries: number): Promise<unknown> {
  if (!(error instanceof InfrastructureError) || (error.kind !== 'transient' && error.kind !== 'timeout') || tries < 2) return error
  const { sandbox } = ctx.record
  const provider = sandbox === null ? undefined : ctx.shared.providers.get(sandbox.provider)?.provider
  if (sandbox === null || provider === undefined) return error
  try {
    const found = await provider.get(sandbox.id, { timeoutMs: ctx.shared.settings.callTimeoutMs, signal: ctx.aftermath })
    if (found !== undefined) return error
    return new InfrastructureError({ kind: 'sandbox-lost', source: sandbox.provider, message: `${sandbox.provider}: sandbox ${sandbox.id} is gone`, cause: error })
  } catch (probeError) {
    ctx.aftermath.throwIfAborted()
    return probeError instanceof InfrastructureError ? probeError : error
  }
}

/**
 * Whose error it is. Fetches and pushes run in the sandbox but can fail because of the git host: a refused token always is
 * its word, and after a passing fault the host is asked from here as well.
 */
async function errorSource(ctx: RunContext, error: unknown, where: string | null): Promise<'provider' | 'git'> {
  if (where === null) return 'git'
  const { phase } = ctx.record
  if (!(error instanceof InfrastructureError) || error.source === where || (phase !== 'preparing' && phase !== 'pushing')) {
    return phase === 'promoting' ? 'git' : 'provider'
  }
  if (error.kind === 'auth' || error.kind === 'invalid') return 'git'
  if (error.kind !== 'transient' && error.kind !== 'timeout') return 'provider'
  try {
    await ctx.shared.git.resolve(ctx.spec.repository, null, { timeoutMs: ctx.shared.settings.callTimeoutMs, signal: ctx.aftermath })
    return 'provider'
  } catch {
    ctx.aftermath.throwIfAborted()
    // The answer is the failure itself: the host does not serve this consumer either.
    return 'git'
  }
}

/** Gives the sandbox, if any, up and goes on elsewhere, in this very run: no trip through the queue. */
async function move(ctx: RunContext, reaction: Extract<Reaction, { kind: 'move' }>, where: string | null, refusals: number): Promise<void> {
  const { now, settings } = ctx.shared
  const { sandbox, outcome, attempts, phase } = ctx.record
  const error = ctx.masked(reaction.error)
  if (where !== null) {
    if (sandbox === null) ctx.refusals.set(where, refusals)
    ctx.exclude(where, now() + reaction.excludeMs, error.kind)
  }
  if (phase === 'pushing' && (await pushLanded(ctx))) {
    await ctx.update({ pushed: true, phase: ctx.spec.promote !== undefined && outcome?.status === 'succeeded' ? 'promoting' : 'closing' })
    return
  }
  const endedAt = new Date(now()).toISOString()
  const refused = sandbox === null && (error.kind === 'capacity' || error.kind === 'rate-limited')
  const spent = attempts.slice(ctx.record.restart?.attemptsBefore ?? 0).filter((attempt) => attempt.sandboxId !== null).length
  const exhausted = spent >= settings.maxAttempts
  // All of what follows is sent in this order without waiting for answers; what writes checks the fence by itself.
  const saved = ctx.update({
    sandbox: null,
    creating: null,
    running: null,
    phase: exhausted ? 'closing' : 'placing',
    outcome: exhausted ? { status: 'failed', error } : null,
    // A provider without room was no attempt: nothing was tried there.
    attempts: refused ? attempts.slice(0, -1) : ctx.patchAttempt({ endedAt, outcome: sandbox === null ? 'unavailable' : 'lost', error }),
    abandoned: sandbox === null || reaction.confirmed ? ctx.record.abandoned : [...ctx.record.abandoned, { provider: sandbox.provider, id: sandbox.id }],
    usedMs: ctx.record.usedMs + (sandbox === null ? 0 : Math.max(0, now() - sandbox.createdAtMs)),
  })
  // What may still live keeps its place, and the job gets another one.
  const place = () => {
    if (sandbox !== null && !reaction.confirmed) return ctx.entrustPlace(sandbox.provider, { kind: 'sandbox', sandboxId: sandbox.id })
    if (sandbox === null && where !== null && mayHaveCreated(error.kind)) return ctx.entrustPlace(where, { kind: 'create', jobId: ctx.jobId, attempt: attempts.length, atMs: now() })
    return ctx.releasePlace()
  }
  const said = () => {
    if (sandbox !== null) return ctx.say(`sandbox at ${sandbox.provider} given up (${error.kind}): ${error.message}`)
    // Once, not at every try: a job may wait for a full provider for hours.
    return refused && refusals === 1 ? ctx.say(`${where ?? 'the provider'} had no place (${error.kind}): ${error.message}`) : undefined
  }
  await Promise.all([saved, place(), said()])
  if (sandbox !== null) void killInBackground(ctx, sandbox)
}

/** Of a create that failed; see `Provider.create`. */
function mayHaveCreated(kind: JobError['kind']): boolean {
  return !['capacity', 'rate-limited', 'auth', 'invalid'].includes(kind)
}

async function pushLanded(ctx: RunContext): Promise<boolean> {
  const { finalCommit } = ctx.record
  if (finalCommit === null) return false
  const { git, settings } = ctx.shared
  const head = await git.branchHead(ctx.spec.repository, { name: workBranch(ctx.record), ephemeral: git.ephemeral }, { timeoutMs: settings.callTimeoutMs, signal: ctx.aftermath })
  return head === finalCommit
}

/** What is left behind costs money: it is killed at once if it can be, again in `closing`, and by the reaper until it is dead. */
async function killInBackground(ctx: RunContext, sandbox: { readonly provider: string; readonly id: string }): Promise<void> {
  const provider = ctx.shared.providers.get(sandbox.provider)?.provider
  if (provider === undefined) return
  try {
    ctx.assertHeld()
    await provider.kill(sandbox.id, { timeoutMs: ctx.shared.settings.callTimeoutMs, signal: ctx.leave })
    await ctx.shared.owners.freeOf({ kind: 'sandbox', sandboxId: sandbox.id })
  } catch (error) {
    ctx.shared.log.warn({ jobId: ctx.jobId, ...sandbox, message: errorMessage(error) }, 'sandbox given up but not killed yet')
  }
}

async function keepAlive(ctx: RunContext): Promise<void> {
  const { sandbox } = ctx.record
  const provider = sandbox === null ? undefined : ctx.shared.providers.get(sandbox.provider)?.provider
  if (sandbox === null || provider?.capabilities.extend !== true) return
  const { settings } = ctx.shared
  try {
    await provider.extend(sandbox.id, settings.sandboxLifetimeMs, { timeoutMs: settings.callTimeoutMs, signal: ctx.leave })
  } catch (error) {
    ctx.shared.log.warn({ jobId: ctx.jobId, provider: sandbox.provider, message: errorMessage(error) }, 'sandbox lifetime not extended; tried again at the next heartbeat')
  }
}

/** Waits; less when something happens that this job has not heeded yet. */
async function pause(delayMs: number, ctx: RunContext): Promise<void> {
  // In the phases after an outcome `work` may be aborted already, and after a cancel `aftermath` too.
  const signal = [ctx.work, ctx.aftermath, ctx.leave].find(({ aborted }) => !aborted)
  if (signal === undefined) return
  await new Promise<void>((resolve) => {
    const done = () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, delayMs)
    signal.addEventListener('abort', done)
  })
}
