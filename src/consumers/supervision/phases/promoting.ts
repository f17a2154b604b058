import type { GitCallOptions } from '../../../git/host.js'
import { errorMessage, InfrastructureError, PromotionConflictError } from '../../../job/errors.js'
import { workBranch } from '../../../job/names.js'
import type { Promotion } from '../../../job/result.js'
import type { RunRecord } from '../../../job/run-record.js'
import type { JobSpec } from '../../../job/spec.js'
import type { RunContext } from '../../run-context.js'
import { collectArtifacts } from '../../collecting/collect.js'
import { pullRequestText } from '../pull-request-text.js'
import { attestWork, signWork } from '../sign-work.js'

/**
 * `promoting`: moves the target branch to the work, as a compare-and-swap. With `ff_only` the target must stand where it
 * stood when the job began; the merging strategies take it from where it stands now, since merging is what they are for.
 */
export async function promoting(ctx: RunContext, signal: AbortSignal): Promise<void> {
  const { git, settings } = ctx.shared
  const { promote, repository } = ctx.spec
  // Done before, unless the answer of the push was lost with its sandbox.
  await signWork(ctx, signal)
  const { finalCommit, promoteFrom } = ctx.record
  if (promote === undefined || finalCommit === null) throw new Error(`run ${ctx.jobId}: promoting without a target or a commit`)
  // Recorded when there was still something to do after it.
  if (ctx.record.promoted !== null) return requesting(ctx, signal)
  const options = { timeoutMs: settings.callTimeoutMs, signal }
  const target = { name: promote.to, ephemeral: false }
  const expectedTargetSha = promote.strategy === 'ff_only' ? (promoteFrom?.sha ?? null) : await git.branchHead(repository, target, options)
  await ctx.confirmHeld()
  const request = {
    repository,
    branch: workBranch(ctx.record),
    sha: finalCommit,
    to: promote.to,
    strategy: promote.strategy,
    expectedTargetSha,
    message: `Merge job ${ctx.jobId} into ${promote.to}`,
  }
  const promoted = await git.promote(request, options).catch(async (error: unknown) => {
    if (!(error instanceof PromotionConflictError)) throw error
    const before = await promotedByLost(ctx, promote, finalCommit, options)
    if (before === null) throw withReason(error, ctx.record, promote)
    if (before instanceof PromotionConflictError) throw before
    await ctx.sayOnce(`"${promote.to}" stands at ${before.sha} already, where a run of this job that Redis has lost had promoted it to, with the same files as the work of this run`)
    return before
  })
  // A fast-forward to what the target holds already moves nothing; work that went back behind it is not on it as it is.
  if (promote.strategy === 'ff_only' && !ctx.record.descends && promoted.sha !== finalCommit) throw rewritten(ctx.record, promote)
  if (!ctx.record.descends) await ctx.sayOnce(promotionOfRewritten(promoted))
  // The target has no such commit where another one with the same files stands there, which was attested when it was promoted.
  await attestWork(ctx, promoted.result === 'no_op' && promoted.sha !== finalCommit && git.ephemeral, signal)
  const { pullRequest } = promote
  await ctx.update({ promoted, ...(pullRequest === undefined ? { phase: 'closing' } : {}) })
  if (pullRequest !== undefined) await requesting(ctx, signal)
}

/**
 * Opens the pull request that the promotion asks for, once, and says where it is. Its text sums the result up, so the artifacts are
 * collected before it.
 */
async function requesting(ctx: RunContext, signal: AbortSignal): Promise<void> {
  const { git, settings } = ctx.shared
  const { spec } = ctx
  const wanted = spec.promote?.pullRequest
  if (spec.promote === undefined || wanted === undefined) {
    await ctx.update({ phase: 'closing' })
    return
  }
  if (git.openPullRequest === undefined) {
    throw new InfrastructureError({ kind: 'invalid', owner: 'consumer-configuration', source: git.name, message: `${git.name}: promote.pullRequest: this git host has no pull requests that are known; configure git.api` })
  }
  await collectArtifacts(ctx)
  const { base, draft, labels, reviewers } = wanted
  const text = pullRequestText(spec, ctx.record, wanted, (part) => ctx.secrets.patterns.mask(part))
  const request = { repository: spec.repository, head: spec.promote.to, base, draft, labels, reviewers, ...text }
  const opened = await git.openPullRequest(request, { timeoutMs: settings.callTimeoutMs, signal }, () => ctx.confirmHeld())
  const pullRequest = opened === null ? null : { ...opened, problems: opened.problems.map((problem) => ctx.secrets.patterns.mask(problem).slice(0, 500)) }
  await ctx.say(pullRequest === null ? `no pull request was opened: "${request.head}" has nothing that its base does not have` : [`pull request ${pullRequest.action}: ${pullRequest.url}`, ...pullRequest.problems].join('; '))
  await ctx.update({ pullRequest, phase: 'closing' })
}

/**
 * What is to be said of a conflict with a promotion of this very job's: Redis went back to before the run that made it had ended, and whoever was told of its success
 * is to learn that it stands. Where that run's work has the same files as this one's, it is the promotion, which has succeeded. Null where the target was moved by anybody
 * else, or the host does not say now.
 */
async function promotedByLost(ctx: RunContext, { to }: Promote, finalCommit: string, options: GitCallOptions): Promise<Promotion | PromotionConflictError | null> {
  const { git, log } = ctx.shared
  const { repository } = ctx.spec
  const lost = (ctx.record.takenBranches ?? []).filter((branch) => branch.startsWith('agent/'))
  if (lost.length === 0) return null
  const own = workBranch(ctx.record)
  try {
    const [head, ...heads] = await Promise.all([git.branchHead(repository, { name: to, ephemeral: false }, options), ...lost.map((name) => git.branchHead(repository, { name, ephemeral: git.ephemeral }, options))])
    const branch = head === null ? undefined : lost[heads.indexOf(head)]
    if (head === null || branch === undefined) return null
    // Work whose history was rewritten is no fast-forward, whatever its files.
    const { files, paths } = ctx.record.descends ? await git.diff(repository, { branch: own, baseSha: head, headSha: finalCommit }, options) : { files: 1, paths: [] }
    if (files === 0 && paths.length === 0) return { to, sha: head, result: 'no_op' }
    return new PromotionConflictError(
      `promote.to: "${to}" stands at ${head}, to where a run of this job that Redis has lost had promoted it (from "${branch}"): that work stays there, and what this run did stays on "${own}"; look at both, and move "${to}" by hand where the second is wanted`,
    )
  } catch (error) {
    log.warn({ jobId: ctx.jobId, message: errorMessage(error) }, 'it was not found out who had moved the promotion’s target')
    return null
  }
}

type Promote = Pick<NonNullable<JobSpec['promote']>, 'to' | 'strategy'>
type Work = Pick<RunRecord, 'jobId' | 'generation' | 'restart' | 'descends'>

function withReason(error: PromotionConflictError, record: Work, promote: Promote): PromotionConflictError {
  return record.descends || promote.strategy !== 'ff_only' ? error : rewritten(record, promote)
}

/** The conflict of work whose history does not build on the target. */
export function rewritten(record: Work, { to }: Promote): PromotionConflictError {
  return new PromotionConflictError(
    `promote.to: "${to}" can’t be fast-forwarded (ff_only) to work that does not build on it: the agent rewrote the history that the job began with (amend, rebase, reset or a branch of its own); the work stays as it is on "${workBranch(record)}"; look at it, and merge it or move "${to}" there by hand, or use the strategy "merge"`,
  )
}

/** What became of a history that the agent rewrote: said, since the target may hold both, the old and the new. */
export function promotionOfRewritten({ to, result }: Pick<Promotion, 'to' | 'result'>): string {
  switch (result) {
    case 'merge_commit':
      return `a merge commit joins the agent's rewritten history with "${to}", which keeps the commits that the agent left out`
    case 'created':
      return `"${to}" was made at the agent's rewritten history`
    case 'fast_forward':
      return `"${to}" was fast-forwarded to the agent's history, which builds on it though not on what the job began with`
    case 'no_op':
      return `"${to}" holds the agent's history already; nothing was moved`
  }
}
