import { defaultMaxPathsMiB } from '../../job/checkpoint-paths.js'
import { errorMessage, FenceLostError, InfrastructureError, type JobErrorKind } from '../../job/errors.js'
import { checkpointBranch } from '../../job/names.js'
import type { RunRecord } from '../../job/run-record.js'
import type { JobSpec } from '../../job/spec.js'
import type { SaveOptions, SaveReport } from '../../runner/runner.js'
import { switchyardIdentity } from './commit-message.js'
import { pushToOwn } from './own-branches.js'
import { jobErrorOf } from './reactions.js'
import { tellReport } from './save-report.js'
import { measured } from '../measured.js'
import type { RunContext } from '../run-context.js'

const firstRetryMs = 2_000

/** What another try won't mend while the work is as it is: git refused it, or the host did. */
function isRefusal(kind: JobErrorKind): boolean {
  return kind === 'invalid'
}

/**
 * When the next checkpoint within a step is due after one that could not be saved: soon, then ever later, at most a whole period; after
 * a refusal at the next period.
 */
export function checkpointRetryMs({ failures, error }: Pick<NonNullable<RunRecord['checkpointProblem']>, 'failures' | 'error'>, everyMs: number): number {
  return isRefusal(error.kind) ? everyMs : Math.min(everyMs, firstRetryMs * 2 ** Math.min(failures - 1, 20))
}

/**
 * Pushes the work tree as a checkpoint from which the job goes on with step `stepIndex` if its sandbox dies.
 *
 * A checkpoint that can't be made never fails the job: it is said in the log and in the job's status, and made again soon, see
 * `checkpointRetryMs`. Only what ends the supervision (a lost fence, an interruption, a lost sandbox) is thrown.
 * @param untilMs when it is given up, in milliseconds since 1970: a step's timeout holds whatever a checkpoint takes.
 */
export async function saveCheckpoint(ctx: RunContext, stepIndex: number, untilMs = Infinity): Promise<void> {
  try {
    const { provider } = ctx.record.sandbox ?? { provider: '' }
    const timeoutMs = Math.max(1_000, Math.min(ctx.shared.settings.gitTimeoutMs, untilMs - ctx.shared.now()))
    await measured(ctx, { metric: 'switchyard.checkpoint.duration', span: 'checkpoint', labels: (outcome) => [provider, outcome], outcomeOf: (saved) => (saved ? 'saved' : 'unchanged') }, () => push(ctx, stepIndex, timeoutMs))
  } catch (error) {
    if (!(error instanceof InfrastructureError) || error.kind === 'sandbox-lost') throw error
    ctx.work.throwIfAborted()
    ctx.shared.log.warn({ jobId: ctx.jobId, kind: error.kind, message: ctx.secrets.patterns.mask(error.message) }, 'checkpoint not saved')
    const before = ctx.record.checkpointProblem
    const problem = { error: ctx.masked(jobErrorOf(error)), failures: (before?.failures ?? 0) + 1, sinceMs: before?.sinceMs ?? ctx.shared.now() }
    await ctx.update({ checkpointProblem: problem })
    // The same refusal at every period is one line.
    if (problem.error.kind === before?.error.kind && problem.error.message === before.error.message) return
    await ctx.say(`checkpoint not saved (${error.kind}): ${error.message}; tried again${isRefusal(error.kind) ? ' at the next one' : ''}`)
  }
}

/**
 * The work of a job whose steps are all done and whose promotion was refused for good, as a checkpoint after the last of them: a run that is to go on from
 * there has only to push and promote it. Whatever comes in the way of it, why the promotion was refused is what the job ends with.
 */
export async function saveDone(ctx: RunContext): Promise<void> {
  const { checkpoint, sandbox } = ctx.record
  const { steps } = ctx.spec
  if (sandbox === null || checkpoint?.stepIndex === steps.length) return
  try {
    await saveCheckpoint(ctx, steps.length, ctx.shared.now() + ctx.shared.settings.saveGraceMs)
  } catch (error) {
    if (ctx.leave.aborted || error instanceof FenceLostError) throw error
    ctx.shared.log.info({ jobId: ctx.jobId, message: ctx.secrets.patterns.mask(errorMessage(error)) }, 'no checkpoint after the last step of a job that is not promoted')
  }
}

/** @returns false when there was nothing new to save. */
async function push(ctx: RunContext, stepIndex: number, timeoutMs: number): Promise<boolean> {
  const { now } = ctx.shared
  const { base, checkpoint, generation, attempts, sandbox } = ctx.record
  if (base === null) throw new Error(`run ${ctx.jobId}: a checkpoint without a base`)
  const name = () => checkpointBranch(ctx.runId, generation, attempts.length, ctx.record.takenBranches)
  const from = ctx.savedCommit()
  const unchanged: SaveReport[] = []
  const saved = await pushToOwn(ctx, { name, knows: [from.sha], signal: ctx.work }, async (branch) => {
    const { checkpointBranches } = ctx.record
    // Recorded before the push: a branch whose push was not answered must be deleted in the end as well.
    if (!checkpointBranches.includes(branch)) await ctx.update({ checkpointBranches: [...checkpointBranches, branch] })
    const request = {
      from,
      baseSha: base.sha,
      branch,
      message: `Checkpoint of job ${ctx.jobId} ${stepIndex < ctx.spec.steps.length ? `before step ${stepIndex + 1}` : 'after its last step'}\n\nAgent-Job: ${ctx.jobId}\nAgent-Attempt: ${attempts.length}\n`,
      identity: switchyardIdentity,
      ...saveOptions(ctx.spec),
      paths: ctx.spec.checkpoint.paths,
      maxPathsBytes: (ctx.spec.checkpoint.maxPathsMiB ?? defaultMaxPathsMiB) * 1024 * 1024,
      onUnchanged: (report: SaveReport) => void unchanged.push(report),
    }
    return await ctx.sandbox().transfer.checkpoint(request, { timeoutMs, signal: ctx.work })
  })
  const branch = name()
  const at = { stepIndex, atMs: now(), withinStep: isWithinStep(ctx.record, stepIndex, saved !== null) }
  if (saved === null) {
    const last = { sha: from.sha, headSha: base.sha, commitsAhead: 0, branch: null, holdsPaths: false, repositoryPath: sandbox?.repositoryPath ?? null }
    const report = unchanged.at(-1)
    const unsaved = report === undefined ? {} : await tellReport(ctx, report)
    await ctx.update({ checkpoint: { ...last, ...checkpoint, ...at }, checkpointProblem: null, ...unsaved })
    return false
  }
  const { sha, headSha, commitsAhead, holdsPaths, bytes } = saved
  ctx.shared.metrics.observe('switchyard.checkpoint.size', [sandbox?.provider ?? ''], bytes)
  const unsaved = await tellReport(ctx, saved)
  const made = { sha, headSha: headSha ?? base.sha, commitsAhead, branch, holdsPaths, repositoryPath: sandbox?.repositoryPath ?? null }
  await ctx.update({ checkpoint: { ...made, ...at }, checkpointProblem: null, ...unsaved })
  return true
}

/** What of the spec every save of the work takes. */
export function saveOptions({ push }: Pick<JobSpec, 'push'>): SaveOptions {
  return { nestedRepositories: push === false ? undefined : push.nestedRepositories }
}

/** Whether a checkpoint is made within a step. What changed nothing since before its step is not: there is nothing to resume. */
export function isWithinStep({ running, checkpoint }: Pick<RunRecord, 'running' | 'checkpoint'>, stepIndex: number, changed: boolean): boolean {
  return running !== null && (changed || (checkpoint?.withinStep === true && checkpoint.stepIndex === stepIndex))
}
