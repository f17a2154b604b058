import { FenceLostError, InfrastructureError, errorMessage } from '../../job/errors.js'
import { keptBranch } from '../../job/names.js'
import type { KeptBranch, UnsavedPath } from '../../job/result.js'
import type { KeptTip } from '../../runner/runner.js'
import type { RunContext } from '../run-context.js'
import { pushToOwn } from './own-branches.js'
import { pause } from './pause.js'

/**
 * Commits that the agent made beside its branch (other branches, linked worktrees) are pushed as `kept/<job>/<n>`, each with a token of
 * its own, once the work itself is on its branch. None of them ever fails the job or costs its sandbox: what can't be pushed is named
 * in `unsaved`.
 *
 *   named in `unsaved` ──number taken──► pushed ──► named in `kept`
 *                                          └──────► stays in `unsaved`, with the reason
 *
 * Each is in `unsaved` until it is pushed, so that a sandbox that is lost in between leaves the record true.
 */
const maxKept = 50
const triesEach = 3
const passing: readonly string[] = ['transient', 'timeout', 'rate-limited', 'provider-down', 'capacity']

/** What the record says of tips that are not pushed yet. */
export function pendingKept(kept: readonly KeptBranch[], tips: readonly KeptTip[]): UnsavedPath[] {
  return newTips(kept, tips).map(({ ref, sha }) => ({ path: ref, reason: `its commit ${sha.slice(0, 12)} was not pushed: the sandbox was gone before` }))
}

/** The tips that are on no kept branch. */
export function newTips(kept: readonly KeptBranch[], tips: readonly KeptTip[]): KeptTip[] {
  const done = new Set(kept.map(({ commit }) => commit))
  return tips.filter(({ sha }) => !done.has(sha))
}

export async function pushKept(ctx: RunContext, tips: readonly KeptTip[], signal: AbortSignal): Promise<void> {
  for (const tip of newTips(ctx.record.kept, tips)) {
    // Two refs may name one commit.
    if (ctx.record.kept.some(({ commit }) => commit === tip.sha)) {
      await ctx.update({ unsaved: without(ctx.record.unsaved, tip) })
      continue
    }
    const problem = await pushOne(ctx, tip, signal)
    const rest = without(ctx.record.unsaved, tip)
    if (problem === null) {
      await ctx.update({ unsaved: rest })
      continue
    }
    const reason = ctx.secrets.patterns.mask(`its commit ${tip.sha.slice(0, 12)} could not be pushed: ${problem}`)
    await ctx.update({ unsaved: [...rest, { path: tip.ref, reason }] })
    await ctx.say(`not saved: "${tip.ref}" (${reason})`)
  }
}

function without(unsaved: readonly UnsavedPath[], { ref }: KeptTip): UnsavedPath[] {
  return unsaved.filter(({ path, reason }) => path !== ref || !reason.startsWith('its commit '))
}

/** @returns why it could not be pushed; null when it was. */
async function pushOne(ctx: RunContext, tip: KeptTip, signal: AbortSignal): Promise<string | null> {
  const { base, restart, keptCounts } = ctx.record
  if (base === null) throw new Error(`run ${ctx.jobId}: a kept branch without a base`)
  const at = restart?.count ?? 0
  const number = (keptCounts[at] ?? 0) + 1
  if (number > maxKept) return `there are more than ${maxKept} such commits`
  // Taken before the push: a branch whose push was not answered must go in the end as well, and no other commit may be meant for it.
  await ctx.update({ keptCounts: [...Array.from({ length: at }, (_, index) => keptCounts[index] ?? 0), number] })
  const name = () => keptBranch(ctx.record, number)
  const { transfer } = ctx.sandbox()
  for (let tries = 1; ; tries++) {
    try {
      await pushToOwn(ctx, { name, knows: [tip.sha], signal }, (own) =>
        transfer.push({ sha: tip.sha, branch: own, baseSha: base.sha, from: ctx.savedCommit() }, { timeoutMs: ctx.shared.settings.gitTimeoutMs, signal }),
      )
      const branch = name()
      await ctx.update({ kept: [...ctx.record.kept, { branch, commit: tip.sha, ref: tip.ref }] })
      await ctx.say(`"${tip.ref}" is kept as ${branch} at ${tip.sha.slice(0, 12)}`)
      return null
    } catch (error) {
      signal.throwIfAborted()
      if (error instanceof FenceLostError || !(error instanceof InfrastructureError) || error.kind === 'sandbox-lost') throw error
      if (!passing.includes(error.kind) || tries >= triesEach) return errorMessage(error)
      await pause(Math.min(5_000, error.retryAfterMs ?? 200 * 2 ** tries), ctx)
    }
  }
}
