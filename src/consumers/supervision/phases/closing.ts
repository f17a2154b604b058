import { errorMessage } from '../../../job/errors.js'
import { sandboxTags } from '../../../providers/provider.js'
import { controllerUnder, untilAborted, type NextJob } from '../../../store/index.js'
import { collectArtifacts } from '../../collecting/collect.js'
import { lastCheckpoint } from '../../ending/expiring-branches.js'
import { finishAndClose, finishRun } from '../../ending/finish-run.js'
import { endedAttempts } from '../../ending/job-result.js'
import { placeOfTheLiving } from '../../ending/place-of-the-living.js'
import { usedSoFar } from '../../../job/usage.js'
import type { RunContext } from '../../run-context.js'
import type { JobResult } from '../../../job/result.js'
import { newRunRecord } from '../../../job/run-record.js'

const killTries = 5
/** A job's end does not wait for a provider or a git host that does not answer, in milliseconds. */
const patienceMs = 1_500

/**
 * `closing`: collects the artifacts, kills every sandbox that this run may have, frees its place, deletes the checkpoint branches that nobody needs
 * any more (of a run that did not succeed the last one is kept for a while: another may go on from it), and ends the run: result, record and completion event in one step. What could not be killed soon keeps its place and is
 * left to the reaper, whoever is at fault: the result comes first.
 */
export async function closing(ctx: RunContext): Promise<{ result: JobResult; next: NextJob | null }> {
  await collectArtifacts(ctx)
  const { store, now, ready, deployment, settings, eventTypes } = ctx.shared
  const at = ctx.moment
  // Deleting branches takes its time: the place is another job’s meanwhile, and the run goes on without one. Where there is nothing to wait for it is freed with the end.
  const early = ctx.record.checkpointBranches.length > 0
  const { alive, checkpoints } = await cleanUp(ctx, ctx.leave, () => (early ? ready.close(ctx.jobId, ctx.fence, { goesOn: true }) : Promise.resolve()), lastCheckpoint(ctx.record))
  const ending = { store, deployment, branchRetentionMs: settings.branchRetentionMs, now, eventTypes }
  const run = { record: ctx.record, spec: ctx.spec, fence: ctx.fence, abandoned: alive, checkpoints, at }
  return early ? { result: await finishRun(ending, run), next: null } : await finishAndClose(ending, run, ctx.shared.taker())
}

/**
 * Ends a failed attempt at the whole job and begins the next: what it left is killed, its work stays on its branch, and the job
 * keeps its place. One write of the record, so that whoever goes on from here begins it once.
 */
export async function restart(ctx: RunContext): Promise<void> {
  const { record, spec, moment: at } = ctx
  const { alive, checkpoints } = await cleanUp(ctx, ctx.aftermath, () => Promise.resolve())
  const attempts = endedAttempts(ctx.record, at)
  const count = (record.restart?.count ?? 0) + 1
  const { jobId, runId, generation, repository, startedAtMs, base, promoteFrom, outcome, keptCounts, asked, tenant, budgeted } = record
  await ctx.update({
    ...newRunRecord({ jobId, ...(runId === undefined ? {} : { runId }), generation, repository, startedAtMs, asked, tenant }),
    ...(budgeted === undefined ? {} : { budgeted }),
    base,
    promoteFrom,
    keptCounts,
    attempts,
    abandoned: alive,
    checkpointBranches: checkpoints,
    usedMs: Math.round(usedSoFar(ctx.record, at)),
    ...(record.parking === undefined ? {} : { parking: { ...record.parking, reason: null, timeUsedMs: 0, place: '' } }),
    restart: { count, atMs: ctx.shared.now(), attemptsBefore: attempts.length },
  })
  await ctx.say(`attempt ${count} of ${spec.attempts ?? 1} failed (${outcome?.error?.kind ?? 'unknown'}): ${outcome?.error?.message ?? ''}; the job begins again`)
}

/**
 * Kills what is left of a run and deletes its checkpoints, as far as that is done soon.
 * @param placesKept called once what lives has its places.
 * @param kept the checkpoint branch that is not deleted.
 * @returns what is left: sandboxes for the reaper, branches for their schedule.
 */
async function cleanUp(ctx: RunContext, until: AbortSignal, placesKept: () => Promise<unknown>, kept: string | null = null): Promise<{ alive: { provider: string; id: string }[]; checkpoints: string[] }> {
  const alive = await soon(until, (signal) => killAll(ctx, signal))
  await keepPlacesOfTheLiving(ctx, alive)
  await placesKept()
  return { alive, checkpoints: await soon(until, (signal) => deleteCheckpoints(ctx, signal, kept)) }
}

async function soon<Result>(until: AbortSignal, work: (signal: AbortSignal) => Promise<Result>): Promise<Result> {
  const { controller: patience, release } = controllerUnder(until)
  const timer = setTimeout(() => patience.abort(new Error('the end of a job does not wait for this')), patienceMs)
  try {
    return await work(patience.signal)
  } finally {
    clearTimeout(timer)
    release()
  }
}

/** The job's place is free for the next one, unless something may still live in it. */
async function keepPlacesOfTheLiving(ctx: RunContext, alive: readonly { provider: string; id: string }[]): Promise<void> {
  const living = placeOfTheLiving(ctx.record, ctx.runId, alive, ctx.shared.now())
  if (living !== null) await ctx.entrustPlace(living.provider, living)
  for (const { provider } of alive) ctx.shared.reapSoon(provider, ctx.shared.settings.callTimeoutMs)
}

/** Kills what the record names and whatever bears the tags of an attempt whose create was never answered. Returns what is left. */
async function killAll(ctx: RunContext, signal: AbortSignal): Promise<{ provider: string; id: string }[]> {
  const { sandbox, abandoned, creating, attempts, next } = ctx.record
  const doomed = new Map([...abandoned, ...[sandbox, next?.sandbox].filter((each) => each != null)].map(({ provider, id }) => [`${provider}/${id}`, { provider, id }]))
  const unanswered = new Set([...[creating, next?.creating].flatMap((intent) => (intent == null ? [] : [intent.provider])), ...attempts.filter((attempt) => attempt.sandboxId === null).map(({ provider }) => provider)])
  for (const name of unanswered) {
    for (const id of await listOwn(ctx, name, signal)) doomed.set(`${name}/${id}`, { provider: name, id })
  }
  const killed = await Promise.all([...doomed.values()].map(async (each) => ({ ...each, gone: await beforeAbort(kill(ctx, each, signal), signal) })))
  ctx.leave.throwIfAborted()
  return killed.filter(({ gone }) => !gone).map(({ provider, id }) => ({ provider, id }))
}

async function listOwn(ctx: RunContext, name: string, signal: AbortSignal): Promise<string[]> {
  const provider = ctx.shared.providers.get(name)?.provider
  if (provider === undefined) return []
  const { 'switchyard-attempt': _attempt, ...tags } = sandboxTags({ deployment: ctx.shared.deployment, runId: ctx.runId, attempt: 0 })
  const ids: string[] = []
  try {
    for await (const info of provider.list(tags, { timeoutMs: ctx.shared.settings.callTimeoutMs, signal })) ids.push(info.id)
  } catch (error) {
    ctx.leave.throwIfAborted()
    ctx.shared.log.error({ jobId: ctx.jobId, provider: name, message: errorMessage(error) }, 'sandboxes of an unanswered create could not be listed')
  }
  return ids
}

/** What `work` gives, or false once the signal aborts. */
async function beforeAbort(work: Promise<boolean>, signal: AbortSignal): Promise<boolean> {
  try {
    return await untilAborted(work, signal)
  } catch (error) {
    if (signal.aborted) return false
    throw error
  }
}

/** A kill under way is not broken off by `signal`; only no more are tried. */
async function kill(ctx: RunContext, { provider: name, id }: { provider: string; id: string }, signal: AbortSignal): Promise<boolean> {
  const provider = ctx.shared.providers.get(name)?.provider
  // Of a job that was about to move, the sandbox at work has a place of its own too.
  const isGivenUp = () => signal.aborted || ctx.record.sandbox?.id !== id || ctx.record.next !== null
  for (let tries = 1; provider !== undefined && tries <= killTries && !signal.aborted; tries++) {
    ctx.assertHeld()
    try {
      await provider.kill(id, { timeoutMs: ctx.shared.settings.callTimeoutMs, signal: ctx.leave })
      // If it was given up, before or while this kill was under way, it has a place of its own.
      if (isGivenUp()) await ctx.shared.owners.freeOf({ kind: 'sandbox', sandboxId: id })
      return true
    } catch (error) {
      ctx.leave.throwIfAborted()
      ctx.shared.log.warn({ jobId: ctx.jobId, provider: name, sandboxId: id, tries, message: errorMessage(error) }, 'sandbox not killed yet')
    }
  }
  ctx.shared.log.error({ jobId: ctx.jobId, provider: name, sandboxId: id }, 'sandbox could not be killed; left to the reaper')
  return false
}

/** Only once the work is on the job's own branch: until then the checkpoints are the only copy of it. Returns those that are left. */
async function deleteCheckpoints(ctx: RunContext, signal: AbortSignal, kept: string | null): Promise<string[]> {
  if (!ctx.record.pushed) return ctx.record.checkpointBranches
  const { git, settings, log } = ctx.shared
  const left: string[] = []
  for (const name of ctx.record.checkpointBranches) {
    if (name === kept) {
      left.push(name)
      continue
    }
    ctx.assertHeld()
    try {
      await git.deleteBranch(ctx.spec.repository, { name, ephemeral: git.ephemeral }, { timeoutMs: settings.callTimeoutMs, signal })
    } catch (error) {
      ctx.leave.throwIfAborted()
      log.warn({ jobId: ctx.jobId, branch: name, message: errorMessage(error) }, 'checkpoint branch not deleted; tried again later')
      left.push(name)
    }
  }
  return left
}
