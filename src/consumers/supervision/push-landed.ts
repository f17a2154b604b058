import { workBranch } from '../../job/names.js'
import type { RunContext } from '../run-context.js'

/** Whether the final commit is on the job's branch although no answer said so: a push's answer can be lost with its sandbox. */
export async function pushLanded(ctx: RunContext): Promise<boolean> {
  const { finalCommit } = ctx.record
  if (finalCommit === null) return false
  const { git, settings } = ctx.shared
  const head = await git.branchHead(ctx.spec.repository, { name: workBranch(ctx.record), ephemeral: git.ephemeral }, { timeoutMs: settings.callTimeoutMs, signal: ctx.aftermath })
  return head !== null && (head === finalCommit || head === ctx.record.signature?.sha)
}
