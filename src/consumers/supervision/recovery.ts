import { InfrastructureError, errorMessage, errorType, type ErrorOrigin, type ErrorOwner } from '../../job/errors.js'
import type { RunRecord } from '../../job/run-record.js'
import { isRefusal } from '../../providers/refused-create.js'
import { limitsOf } from '../placing/candidates.js'
import { usedSoFar } from '../../job/usage.js'
import { saveDone } from './checkpoints.js'
import { examine } from './examination.js'
import { killInBackground } from './give-up.js'
import { pause } from './pause.js'
import { toNext } from './planned-move.js'
import { pushLanded } from './push-landed.js'
import { decide, type Reaction } from './reactions.js'
import type { RunContext } from '../run-context.js'
import { KeysRefusedError, UnconfiguredProviderError } from '../sandbox-access.js'
import { clockTime, type ProviderReport } from '../../store/index.js'

/** How often the same failed in a row, from 1, and since when, in milliseconds since 1970. */
export interface Failing {
  readonly tries: number
  readonly sinceMs: number
}

/** `because`: another consumer may be able to go on with the job, and this one not before long. */
export type Recovery = { readonly kind: 'goes on' } | { readonly kind: 'left'; readonly because: string | null }
const goesOn: Recovery = { kind: 'goes on' }

/**
 * What follows from an error while a job is supervised: what it is and whose is found out (`examine`), `decide` decides, and it is done:
 * the same again after a pause, the job moved to another provider, failed, or left to another consumer.
 */
export async function recover(ctx: RunContext, thrown: unknown, { tries, sinceMs }: Failing): Promise<Recovery> {
  if (thrown instanceof UnconfiguredProviderError) {
    ctx.shared.log.error({ jobId: ctx.jobId }, thrown.message)
    // Put back at once it would come back at once, while no other consumer is there.
    await pause(ctx.shared.settings.pollMs, ctx)
    return { kind: 'left', because: null }
  }
  if (thrown instanceof KeysRefusedError) return await leaveForKey(ctx, thrown.message)
  const where = ctx.record.sandbox?.provider ?? ctx.record.creating?.provider ?? null
  const { error, origin, lives } = await examine(ctx, thrown, tries)
  const key = await refusedKey(ctx, error, origin, where)
  // Its sandbox, if it has one, goes on; whoever has a key that is taken goes on with it.
  if (key !== null && (origin === 'git' || ctx.record.sandbox !== null)) return await leaveForKey(ctx, key)
  const refusals = (where === null ? 0 : (ctx.refusals.get(where) ?? 0)) + 1
  const { now, settings } = ctx.shared
  const { reaction, report, owner } = decide(error, {
    origin,
    tries,
    refusals,
    nowMs: now(),
    sinceMs,
    lives,
    brokeBefore: brokeBefore(ctx),
    patienceMs: settings.patienceMs,
  })
  ctx.shared.metrics.add('switchyard.errors', [owner ?? '', errorType(error), where ?? '', reaction.kind])
  ctx.shared.log.info({ jobId: ctx.jobId, phase: ctx.record.phase, provider: where, owner, reaction: reaction.kind, message: ctx.secrets.patterns.mask(errorMessage(error)) }, 'error while supervising')
  if (ctx.record.phase === 'closing' && reaction.kind !== 'leave') {
    // There is nowhere to go from here but on: the end of a job must be written, however long it takes.
    await pause(Math.min(30_000, 100 * 2 ** Math.min(tries, 10)), ctx)
    return goesOn
  }
  switch (reaction.kind) {
    case 'leave':
      return { kind: 'left', because: null }
    case 'retry':
      await pause(reaction.delayMs, ctx)
      return goesOn
    case 'wait':
      await waitFor(ctx, reaction, owner)
      return goesOn
    case 'fail':
      // Refused, and not for want of an answer: somebody may clear the way.
      if (ctx.record.phase === 'promoting' && (reaction.error.kind === 'conflict' || reaction.error.kind === 'invalid')) await saveDone(ctx)
      await ctx.update({ outcome: { status: 'failed', error: ctx.masked(reaction.error) }, phase: 'closing', running: null })
      return goesOn
    case 'move':
      // Sent one after the other, so that neither waits for the other's answer: the next sandbox is asked for the sooner.
      await Promise.all([key === null ? tellLedger(ctx, report, where) : undefined, move(ctx, reaction, { where, refusals, mayExist: mayHaveCreated(error) })])
      return goesOn
  }
}

/** What this consumer's key is refused for, in one sentence, when that is what the error is about; null when it is not. */
async function refusedKey(ctx: RunContext, error: unknown, origin: ErrorOrigin, where: string | null): Promise<string | null> {
  if (!(error instanceof InfrastructureError) || error.kind !== 'auth') return null
  const { keys } = ctx.shared
  const of = origin === 'git' ? ({ git: true } as const) : where === null ? null : { provider: where }
  if (of === null || !(await keys.confirmRefusal(of, ctx.aftermath))) return null
  return keys.problem(of) ?? error.message
}

/** The job's status says why it waits until somebody goes on with it. */
async function leaveForKey(ctx: RunContext, problem: string): Promise<Recovery> {
  const because = `a key of the consumer that had it is refused: ${problem}`
  await ctx.update({}, ctx.secrets.patterns.mask(`waiting for a consumer whose key is taken (${problem})`))
  return { kind: 'left', because: ctx.secrets.patterns.mask(because) }
}

/** While the job still holds its place: what was refused is counted among what is in use. */
async function tellLedger(ctx: RunContext, report: ProviderReport | null, where: string | null): Promise<void> {
  if (where !== null && report !== null) await ctx.shared.ledger.report(where, report)
}

/** Waits for what does not answer, and says so: once in the job's log, and in its status as long as it lasts. */
async function waitFor(ctx: RunContext, { delayMs, error, untilMs }: Extract<Reaction, { kind: 'wait' }>, owner: ErrorOwner | null): Promise<void> {
  const { sandbox } = ctx.record
  const endMs = Math.min(untilMs, ctx.deadlineMs)
  if (owner === 'provider-data-plane' && sandbox !== null) ctx.shared.answers.unreachable(sandbox.provider, sandbox.id)
  const what = owner === 'provider-data-plane' && sandbox !== null ? `sandbox ${sandbox.id} at ${sandbox.provider}, which lives but can't be reached` : owner === 'consumer-configuration' ? 'this consumer’s machine' : 'the git host'
  const text = ctx.secrets.patterns.mask(`waiting for ${what}, until ${clockTime(endMs)} at most: ${error.message}`)
  if (ctx.beginWait(what)) await ctx.say(text)
  await ctx.update({}, text)
  await pause(delayMs, ctx)
}

/** Whether the job's last sandbox broke within the step that it is at now: commands have run in this one and in that one. */
function brokeBefore({ record: { brokeAtStep, phase, stepIndex } }: RunContext): boolean {
  return phase !== 'placing' && phase !== 'preparing' && brokeAtStep === stepIndex
}

/** Gives the sandbox, if any, up and goes on elsewhere, in this very run: no trip through the queue. */
export async function move(
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
  if (sandbox !== null) ctx.shared.metrics.add('switchyard.job.work.lost', [sandbox.provider], lostSeconds(ctx.record, now()))
  const endedAt = new Date(now()).toISOString()
  const refused = sandbox === null && !mayExist && (error.kind === 'capacity' || error.kind === 'rate-limited' || (error.kind === 'auth' && where !== null && ctx.shared.keys.isRefused({ provider: where })))
  // A provider without room was not left.
  if (where !== null && !refused) ctx.shared.metrics.add('switchyard.job.moves', [where, sandbox === null ? 'unavailable' : 'lost'])
  const broke = sandbox !== null && error.owner === 'sandbox' && error.kind !== 'sandbox-lost'
  const spent = attempts.slice(ctx.record.restart?.attemptsBefore ?? 0).filter((attempt) => attempt.sandboxId !== null && attempt.outcome !== 'moved' && attempt.outcome !== 'parked').length
  const exhausted = spent >= settings.maxAttempts
  // A provider without room was no attempt: nothing was tried there.
  const ended = refused ? attempts.slice(0, -1) : ctx.patchAttempt({ endedAt, outcome: sandbox === null ? 'unavailable' : 'lost', error, ...ctx.costSoFar() })
  // A job that was about to move has another sandbox already, or its place.
  const { next } = ctx.record
  const onward = next === null || exhausted ? null : toNext({ next, attempts: ended }, endedAt)
  // All of what follows is sent in this order without waiting for answers; what writes checks the fence by itself.
  const saved = ctx.update({
    sandbox: null,
    creating: null,
    running: null,
    resumes: false,
    phase: exhausted ? 'closing' : 'placing',
    outcome: exhausted ? { status: 'failed', error } : null,
    attempts: ended,
    ...(onward === null ? {} : { ...onward, setupIndex: 0 }),
    abandoned: sandbox === null || reaction.confirmed ? ctx.record.abandoned : [...ctx.record.abandoned, { provider: sandbox.provider, id: sandbox.id }],
    usedMs: Math.round(usedSoFar(ctx.record, ctx.moment)),
    // One that broke before any command ran says nothing about the commands.
    ...(sandbox === null ? {} : { brokeAtStep: broke && phase !== 'preparing' ? ctx.record.stepIndex : null }),
  })
  const theCreate = () => ({ kind: 'create', runId: ctx.runId, attempt: attempts.length, atMs: now() }) as const
  // What may still live keeps its place, and the job gets another one.
  const place = () => {
    if (where !== null && !ctx.shared.providers.has(where)) return ctx.leavePlace(where, sandbox === null ? theCreate() : { kind: 'sandbox', sandboxId: sandbox.id })
    if (sandbox !== null && next !== null) return reaction.confirmed ? ctx.shared.owners.freeOf({ kind: 'sandbox', sandboxId: sandbox.id }) : undefined
    if (sandbox !== null && !reaction.confirmed) return ctx.entrustPlace(sandbox.provider, { kind: 'sandbox', sandboxId: sandbox.id })
    if (sandbox === null && where !== null && mayExist) return ctx.entrustPlace(where, theCreate())
    return ctx.releasePlace()
  }
  const said = () => {
    if (sandbox !== null) return ctx.say(`sandbox at ${sandbox.provider} given up (${error.kind}): ${error.message}`)
    // Once, not at every try: a job may wait for a full provider for hours.
    return refused && refusals === 1 ? ctx.say(`${where ?? 'the provider'} had no place (${error.kind}): ${error.message}`) : undefined
  }
  const placeGivenUp = place()
  // What the next phase asks first, behind that: where there may be a place now.
  const loads = exhausted || next !== null ? null : ctx.shared.ledger.sharedLoads(limitsOf(ctx.shared.providers))
  const [known] = await Promise.all([loads, saved, placeGivenUp, said()])
  if (known !== null) ctx.placeGivenUp(known)
  if (sandbox !== null) void killInBackground(ctx, sandbox)
}

/** How much of the work a lost sandbox takes with it: since the last checkpoint, or since its attempt began. */
export function lostSeconds({ checkpoint, attempts, phase }: Pick<RunRecord, 'checkpoint' | 'attempts' | 'phase'>, nowMs: number): number {
  if (phase === 'placing' || phase === 'preparing') return 0
  const beganAtMs = Date.parse(attempts.at(-1)?.startedAt ?? '')
  const savedAtMs = Math.max(checkpoint?.atMs ?? 0, Number.isNaN(beganAtMs) ? 0 : beganAtMs)
  return savedAtMs === 0 ? 0 : Math.max(0, nowMs - savedAtMs) / 1000
}

/** Of a create that failed; see `Provider.create`. */
function mayHaveCreated(error: unknown): boolean {
  return !(error instanceof InfrastructureError) || !isRefusal(error)
}
