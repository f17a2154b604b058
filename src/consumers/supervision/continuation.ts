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
  if (branch !== null && head === null) throw checkpointGone(git.name, branch)
  await ctx.update({ promoteFrom: promote === undefined ? null : { sha: target }, continues: { ...continues, confirmed: true } })
}

/**
 * A checkpoint that can't be fetched may be gone: the job had ended, and deleted it, before Redis went back to where it ran; or somebody else has deleted it.
 * Then the job begins again with its first step.
 * @param error what the fetch met.
 * @returns whether it is gone, and the record goes on without it.
 * @throws InfrastructureError when the run is to go on from there and from nowhere else.
 */
export async function forgetGoneCheckpoint(ctx: RunContext, error: unknown): Promise<boolean> {
  const { git, settings } = ctx.shared
  const { checkpoint, continues } = ctx.record
  const branch = checkpoint?.branch ?? null
  if (branch === null || !(error instanceof InfrastructureError) || error.kind !== 'invalid') return false
  const head = await git.branchHead(ctx.spec.repository, { name: branch, ephemeral: git.ephemeral }, { timeoutMs: settings.callTimeoutMs, signal: ctx.work })
  if (head !== null) return false
  if (continues !== null) throw checkpointGone(git.name, branch)
  await ctx.update({ checkpoint: null, stepIndex: 0, steps: [], resumes: false, unsaved: [], unsavedMore: 0 })
  await ctx.say(`the last checkpoint is gone: the git host has no branch "${branch}" any more; the job begins again with its first step`)
  return true
}

function checkpointGone(source: string, branch: string): InfrastructureError {
  const message = `the checkpoint that the job was to go on from is gone: the git host has no branch "${branch}" any more; run the job again from the start`
  return new InfrastructureError({ kind: 'invalid', owner: 'job', code: 'SWY_CHECKPOINT_GONE', source, message })
}
