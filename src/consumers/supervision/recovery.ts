import { InfrastructureError, errorMessage } from '../../job/errors.js'
import { isRefusal } from '../../providers/refused-create.js'
import { limitsOf } from '../placing/candidates.js'
import { usedSoFar } from '../ending/job-result.js'
import { confirmLoss } from './lost-sandbox.js'
import { pause } from './pause.js'
import { pushLanded } from './push-landed.js'
import { reportFor } from '../placing/provider-reports.js'
import { react, type ErrorContext, type Reaction } from './reactions.js'
import type { RunContext } from '../run-context.js'
import { UnconfiguredProviderError } from '../sandbox-access.js'

/**
 * What follows from an error while a job is supervised: what it is and whose is found out here, `react` decides, and it is done:
 * the same again after a pause, the job moved to another provider, failed, or left to another consumer.
 */
export async function recover(ctx: RunContext, thrown: unknown, tries: number): Promise<'goes on' | 'left'> {
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
      await Promise.all([tellLedger(ctx, error, where), move(ctx, reaction, { where, refusals: context.refusals, mayExist: mayHaveCreated(error) })])
      return 'goes on'
  }
}

/** While the job still holds its place: what was refused is counted among what is in use. */
async function tellLedger(ctx: RunContext, error: unknown, where: string | null): Promise<void> {
  const report = error instanceof InfrastructureError ? reportFor(error) : null
  if (where !== null && report !== null) await ctx.shared.ledger.report(where, report)
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
async function move(
  ctx: RunContext,
  reaction: Extract<Reaction, { kind: 'move' }>,
  { where, refusals, mayExist }: { readonly where: string | null; readonly refusals: number; readonly mayExist: boolean },
): Promise<void> {
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
  const refused = sandbox === null && !mayExist && (error.kind === 'capacity' || error.kind === 'rate-limited')
  const spent = attempts.slice(ctx.record.restart?.attemptsBefore ?? 0).filter((attempt) => attempt.sandboxId !== null).length
  const exhausted = spent >= settings.maxAttempts
  // All of what follows is sent in this order without waiting for answers; what writes checks the fence by itself.
  const saved = ctx.update({
    sandbox: null,
    creating: null,
    running: null,
    resumes: false,
    phase: exhausted ? 'closing' : 'placing',
    outcome: exhausted ? { status: 'failed', error } : null,
    // A provider without room was no attempt: nothing was tried there.
    attempts: refused ? attempts.slice(0, -1) : ctx.patchAttempt({ endedAt, outcome: sandbox === null ? 'unavailable' : 'lost', error }),
    abandoned: sandbox === null || reaction.confirmed ? ctx.record.abandoned : [...ctx.record.abandoned, { provider: sandbox.provider, id: sandbox.id }],
    usedMs: usedSoFar(ctx.record, now()),
  })
  // What may still live keeps its place, and the job gets another one.
  const place = () => {
    if (sandbox !== null && !reaction.confirmed) return ctx.entrustPlace(sandbox.provider, { kind: 'sandbox', sandboxId: sandbox.id })
    if (sandbox === null && where !== null && mayExist) return ctx.entrustPlace(where, { kind: 'create', jobId: ctx.jobId, attempt: attempts.length, atMs: now() })
    return ctx.releasePlace()
  }
  const said = () => {
    if (sandbox !== null) return ctx.say(`sandbox at ${sandbox.provider} given up (${error.kind}): ${error.message}`)
    // Once, not at every try: a job may wait for a full provider for hours.
    return refused && refusals === 1 ? ctx.say(`${where ?? 'the provider'} had no place (${error.kind}): ${error.message}`) : undefined
  }
  const placeGivenUp = place()
  // What the next phase asks first, behind that: where there may be a place now.
  const loads = exhausted ? null : ctx.shared.ledger.sharedLoads(limitsOf(ctx.shared.providers))
  const [known] = await Promise.all([loads, saved, placeGivenUp, said()])
  if (known !== null) ctx.placeGivenUp(known)
  if (sandbox !== null) void killInBackground(ctx, sandbox)
}

/** Of a create that failed; see `Provider.create`. */
function mayHaveCreated(error: unknown): boolean {
  return !(error instanceof InfrastructureError) || !isRefusal(error)
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
