import { workBranch } from '../../../job/names.js'
import type { RunContext } from '../../run-context.js'

/**
 * `promoting`: moves the target branch to the work, as a compare-and-swap. With `ff_only` the target must stand where it
 * stood when the job began; the merging strategies take it from where it stands now, since merging is what they are for.
 */
export async function promoting(ctx: RunContext, signal: AbortSignal): Promise<void> {
  const { git, settings } = ctx.shared
  const { promote, repository } = ctx.spec
  const { finalCommit, promoteFrom } = ctx.record
  if (promote === undefined || finalCommit === null) throw new Error(`run ${ctx.jobId}: promoting without a target or a commit`)
  const options = { timeoutMs: settings.callTimeoutMs, signal }
  const target = { name: promote.to, ephemeral: false }
  const expectedTargetSha = promote.strategy === 'ff_only' ? (promoteFrom?.sha ?? null) : await git.branchHead(repository, target, options)
  await ctx.confirmHeld()
  const promoted = await git.promote(
    {
      repository,
      branch: workBranch(ctx.record),
      sha: finalCommit,
      to: promote.to,
      strategy: promote.strategy,
      expectedTargetSha,
      message: `Merge job ${ctx.jobId} into ${promote.to}`,
    },
    options,
  )
  await ctx.update({ promoted, phase: 'closing' })
}
