import { commitAuthor, commitMessage, switchyardIdentity } from '../commit-message.js'
import { workBranch } from '../../../job/names.js'
import type { RunContext } from '../../run-context.js'

/**
 * `pushing`: makes the final commit and pushes it to the job's branch. Also for a job that failed: its work is not lost, it is
 * only not promoted. The commit is recorded before the push, so that a push whose answer was lost is repeated with the same.
 */
export async function pushing(ctx: RunContext, signal: AbortSignal): Promise<void> {
  const { git, settings } = ctx.shared
  const { base, sandbox, attempts } = ctx.record
  if (base === null || sandbox === null) throw new Error(`run ${ctx.jobId}: pushing without a base or a sandbox`)
  const { runner, transfer } = ctx.sandbox()
  const branch = workBranch(ctx.record)
  const options = { timeoutMs: settings.gitTimeoutMs, signal }
  const message = commitMessage(ctx.spec.push, { jobId: ctx.jobId, provider: sandbox.provider, sandboxId: sandbox.id, attempt: attempts.length })
  const { sha } = await runner.commit(
    {
      message,
      author: commitAuthor(ctx.spec.push),
      committer: switchyardIdentity,
      dateSeconds: Math.floor(Date.parse(attempts.at(-1)?.startedAt ?? '') / 1000),
    },
    options,
  )
  if (ctx.record.finalCommit !== sha) await ctx.update({ finalCommit: sha })
  if (!ctx.record.pushed) {
    await transfer.push({ sha, branch, baseSha: base.sha, from: ctx.savedCommit() }, options)
    await ctx.update({ pushed: true })
  }
  const diff = await git.diff(ctx.spec.repository, { branch, baseSha: base.sha, headSha: sha }, { timeoutMs: settings.callTimeoutMs, signal })
  const promotes = ctx.spec.promote !== undefined && ctx.record.outcome?.status === 'succeeded'
  await ctx.update({ diff: { ...diff, paths: diff.paths.slice(0, 1_000) }, phase: promotes ? 'promoting' : 'closing' })
}
