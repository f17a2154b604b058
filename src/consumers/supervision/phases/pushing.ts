import { InfrastructureError, errorMessage } from '../../../job/errors.js'
import { workBranch } from '../../../job/names.js'
import { shownPatch } from '../../../job/patch.js'
import type { DiffAnswer, DiffRequest } from '../../../git/host.js'
import type { CommitResult } from '../../../runner/runner.js'
import { LfsObjectsRefusedError } from '../../../git/lfs-upload.js'
import { withoutRefusedLfs } from '../../transfer/lfs-objects.js'
import type { RunContext } from '../../run-context.js'
import { saveOptions } from '../checkpoints.js'
import { commitAuthor, commitMessage, switchyardIdentity } from '../commit-message.js'
import { pendingKept, pushKept } from '../kept-branches.js'
import { tellReport } from '../save-report.js'
import { attestWork, signWork } from '../sign-work.js'
import { pushToOwn } from '../own-branches.js'

/**
 * `pushing`: makes the final commit and pushes it to the job's branch. Also for a job that failed: its work is not lost, it is
 * only not promoted. The commit is recorded before the push, so that a push whose answer was lost is repeated with the same.
 */
export async function pushing(ctx: RunContext, signal: AbortSignal): Promise<void> {
  const { settings } = ctx.shared
  const { base, sandbox, attempts } = ctx.record
  if (base === null || sandbox === null) throw new Error(`run ${ctx.jobId}: pushing without a base or a sandbox`)
  const { runner } = ctx.sandbox()
  const options = { timeoutMs: settings.gitTimeoutMs, signal }
  const message = commitMessage(ctx.spec.push, { jobId: ctx.jobId, provider: sandbox.provider, sandboxId: sandbox.id, attempt: attempts.length })
  // Names of files and branches are the job's commands', and go where its output goes.
  const mask = (text: string) => ctx.secrets.patterns.mask(text)
  const made = await withoutRefusedLfs(runner, options, async () => {
    const saved = await runner.commit(
      {
        message,
        author: commitAuthor(ctx.spec.push),
        committer: switchyardIdentity,
        dateSeconds: Math.floor(Date.parse(attempts.at(-1)?.startedAt ?? '') / 1000),
        ...saveOptions(ctx.spec),
      },
      options,
    )
    const commit = { ...saved, kept: saved.kept.map(({ sha, ref }) => ({ sha, ref: mask(ref) })) }
    if (!ctx.record.pushed) await pushWork(ctx, commit, base.sha, options)
    return commit
  })
  await pushKept(ctx, made.kept, signal)
  await signWork(ctx, signal)
  const { finalCommit } = ctx.record
  const diff = finalCommit === null ? null : await diffOf(ctx, { branch: workBranch(ctx.record), baseSha: base.sha, headSha: finalCommit, lines: settings.patchBytes > 0 }, signal)
  if (finalCommit !== null && diff !== null && diff.files > 0 && settings.patchBytes > 0) {
    await ctx.shared.store.keepPatch(ctx.jobId, shownPatch(finalCommit, diff.hunks ?? null, settings.patchBytes, mask))
  }
  const promotes = ctx.spec.promote !== undefined && ctx.record.outcome?.status === 'succeeded'
  if (!promotes) await attestWork(ctx, ctx.shared.git.ephemeral, signal)
  // Not the lines: they are no part of the result, which goes out with events.
  const counts = diff === null ? null : { files: diff.files, additions: diff.additions, deletions: diff.deletions, paths: diff.paths.slice(0, 1_000).map(mask) }
  await ctx.update({ diff: counts, phase: promotes ? 'promoting' : 'closing' })
}

/** The work to its branch: the agent's own history; where the host does not take that, its files as one commit, and it is said. */
async function pushWork(ctx: RunContext, made: CommitResult, baseSha: string, options: { readonly timeoutMs: number; readonly signal: AbortSignal }): Promise<void> {
  const { transfer } = ctx.sandbox()
  const push = (sha: string) =>
    pushToOwn(ctx, { name: () => workBranch(ctx.record), knows: [sha], signal: options.signal }, (branch) => transfer.push({ sha, branch, baseSha, from: ctx.savedCommit() }, options))
  const { unsaved, unsavedMore } = await tellReport(ctx, made)
  const kept = pendingKept(ctx.record.kept, made.kept)
  if (!made.descends) await ctx.sayOnce('the work does not build on the commit that the job began with: the agent rewrote its history, which is pushed as it is')
  await ctx.update({ finalCommit: made.sha, descends: made.descends, unsaved: [...unsaved, ...kept], unsavedMore })
  try {
    await push(made.sha)
  } catch (error) {
    if (!(error instanceof InfrastructureError) || error instanceof LfsObjectsRefusedError || error.kind !== 'invalid' || made.plainSha === made.sha) throw error
    const reason = ctx.secrets.patterns.mask(`the git host does not take the agent's own commits (${error.message}), so their files are one commit`)
    await ctx.update({ finalCommit: made.plainSha, descends: true, unsaved: [{ path: 'HEAD', reason }, ...unsaved, ...kept] })
    await ctx.say(reason)
    await push(made.plainSha)
  }
  await ctx.update({ pushed: true })
}

/** @returns null when the host can't tell: two histories may have nothing in common. */
async function diffOf(ctx: RunContext, request: DiffRequest, signal: AbortSignal): Promise<DiffAnswer | null> {
  try {
    return await ctx.shared.git.diff(ctx.spec.repository, request, { timeoutMs: ctx.shared.settings.callTimeoutMs, signal })
  } catch (error) {
    if (!(error instanceof InfrastructureError) || error.kind !== 'invalid') throw error
    await ctx.sayOnce(`the git host gives no diff of the work: ${errorMessage(error)}`)
    return null
  }
}
