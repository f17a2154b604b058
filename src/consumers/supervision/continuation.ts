import { InfrastructureError } from '../../job/errors.js'
import type { RunContext } from '../run-context.js'

/**
 * Before a run that goes on from an earlier one's checkpoint takes a place: whether the git host still has that, and where the promotion's target stands
 * now. Only the base is the earlier run's.
 * @throws InfrastructureError when it is gone: the run fails, and says so.
 */
export async function confirmCheckpoint(ctx: RunContext): Promise<void> {
  const { git, settings } = ctx.shared
  const { promote, repository } = ctx.spec
  const { checkpoint, continues } = ctx.record
  if (continues === null || continues.confirmed) return
  const options = { timeoutMs: settings.callTimeoutMs, signal: ctx.work }
  const branch = checkpoint?.branch ?? null
  const [head, target] = await Promise.all([
    branch === null ? null : git.branchHead(repository, { name: branch, ephemeral: git.ephemeral }, options),
    promote === undefined ? null : git.branchHead(repository, { name: promote.to, ephemeral: false }, options),
  ])
  if (branch !== null && head === null) {
    const message = `the checkpoint that the job was to go on from is gone: the git host has no branch "${branch}" any more; run the job again from the start`
    throw new InfrastructureError({ kind: 'invalid', owner: 'job', code: 'SWY_CHECKPOINT_GONE', source: git.name, message })
  }
  await ctx.update({ promoteFrom: promote === undefined ? null : { sha: target }, continues: { ...continues, confirmed: true } })
}
