import { errorMessage } from '../../job/errors.js'
import { sandboxTags } from '../../providers/provider.js'
import { untilAborted } from '../../store/index.js'
import { completionEvent } from '../../events/completion-event.js'
import { jobResult } from '../job-result.js'
import type { RunContext } from '../run-context.js'
import type { JobResult } from '../../job/result.js'

const killTries = 5
/** A cancelled job's end does not wait for a provider or a git host that does not answer, in milliseconds. */
const cancelPatienceMs = 1_500

/**
 * `closing`: kills every sandbox that this run may have, frees its place, deletes the checkpoint branches that nobody needs
 * any more, and ends the run: result, record and completion event in one step.
 */
export async function closing(ctx: RunContext): Promise<JobResult> {
  const { store, now } = ctx.shared
  const { sandbox, outcome } = ctx.record
  const usedMs = ctx.record.usedMs + (sandbox === null ? 0 : Math.max(0, now() - sandbox.createdAtMs))
  const patience = new AbortController()
  const timer = outcome?.status === 'cancelled' ? setTimeout(() => patience.abort(new Error('a cancelled job ends now')), cancelPatienceMs) : undefined
  const signal = AbortSignal.any([ctx.leave, patience.signal])
  let alive: { provider: string; id: string }[]
  try {
    alive = await killAll(ctx, signal)
    await ctx.shared.ready.close(ctx.jobId, ctx.fence)
    await deleteCheckpoints(ctx, signal)
  } finally {
    clearTimeout(timer)
  }
  const attempts = ctx.record.attempts.map((attempt) =>
    attempt.outcome === 'running'
      ? {
          ...attempt,
          endedAt: new Date(now()).toISOString(),
          outcome: outcome?.status ?? ('failed' as const),
          error: outcome?.error ?? null,
        }
      : attempt,
  )
  const result = jobResult(ctx.record, ctx.spec, attempts, usedMs)
  await store.finish(
    ctx.jobId,
    ctx.fence,
    { ...ctx.record, phase: 'ended', sandbox: null, creating: null, running: null, abandoned: alive, attempts, usedMs: Math.round(usedMs) },
    result,
    completionEvent(result, { generation: ctx.record.generation, source: `/switchyard/${ctx.shared.deployment}`, now }),
  )
  return result
}

/** Kills what the record names and whatever bears the tags of an attempt whose create was never answered. Returns what is left. */
async function killAll(ctx: RunContext, signal: AbortSignal): Promise<{ provider: string; id: string }[]> {
  const { sandbox, abandoned, creating, attempts } = ctx.record
  const doomed = new Map([...abandoned, ...(sandbox === null ? [] : [sandbox])].map(({ provider, id }) => [`${provider}/${id}`, { provider, id }]))
  const unanswered = new Set([...(creating === null ? [] : [creating.provider]), ...attempts.filter((attempt) => attempt.sandboxId === null).map(({ provider }) => provider)])
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
  const { 'switchyard-attempt': _attempt, ...tags } = sandboxTags({ deployment: ctx.shared.deployment, jobId: ctx.jobId, attempt: 0 })
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
  for (let tries = 1; provider !== undefined && tries <= killTries && !signal.aborted; tries++) {
    ctx.assertHeld()
    try {
      await provider.kill(id, { timeoutMs: ctx.shared.settings.callTimeoutMs, signal: ctx.leave })
      return true
    } catch (error) {
      ctx.leave.throwIfAborted()
      ctx.shared.log.warn({ jobId: ctx.jobId, provider: name, sandboxId: id, tries, message: errorMessage(error) }, 'sandbox not killed yet')
    }
  }
  ctx.shared.log.error({ jobId: ctx.jobId, provider: name, sandboxId: id }, 'sandbox could not be killed; its provider still has it')
  return false
}

/** Only once the work is on the job's own branch: until then the checkpoints are the only copy of it. */
async function deleteCheckpoints(ctx: RunContext, signal: AbortSignal): Promise<void> {
  if (!ctx.record.pushed) return
  const { git, settings, log } = ctx.shared
  for (const name of ctx.record.checkpointBranches) {
    ctx.assertHeld()
    try {
      await git.deleteBranch(ctx.spec.repository, { name, ephemeral: git.ephemeral }, { timeoutMs: settings.callTimeoutMs, signal })
    } catch (error) {
      ctx.leave.throwIfAborted()
      log.warn({ jobId: ctx.jobId, branch: name, message: errorMessage(error) }, 'checkpoint branch not deleted')
    }
  }
}
