import { InfrastructureError } from '../../job/errors.js'
import { checkpointBranch } from '../../job/names.js'
import { switchyardIdentity } from './commit-message.js'
import type { RunContext } from '../run-context.js'

const firstRetryMs = 2_000

/** When the next checkpoint within a step is due after one that could not be saved: soon, then ever later, at most a whole period. */
export function checkpointRetryMs(failures: number, everyMs: number): number {
  return Math.min(everyMs, firstRetryMs * 2 ** Math.min(failures - 1, 20))
}

/**
 * Pushes the work tree as a checkpoint from which the job goes on with step `stepIndex` if its sandbox dies.
 *
 * A checkpoint that can't be made never fails the job: it is said in the log and in the job's status, and made again soon, see
 * `checkpointRetryMs`. Only what ends the supervision (a lost fence, an interruption, a lost sandbox) is thrown.
 */
export async function saveCheckpoint(ctx: RunContext, stepIndex: number): Promise<void> {
  try {
    await push(ctx, stepIndex)
  } catch (error) {
    if (!(error instanceof InfrastructureError) || error.kind === 'sandbox-lost') throw error
    ctx.work.throwIfAborted()
    ctx.shared.log.warn({ jobId: ctx.jobId, kind: error.kind, message: ctx.secrets.patterns.mask(error.message) }, 'checkpoint not saved')
    const before = ctx.record.checkpointProblem
    const problem = { error: ctx.masked({ kind: error.kind, message: error.message }), failures: (before?.failures ?? 0) + 1, sinceMs: before?.sinceMs ?? ctx.shared.now() }
    await ctx.update({ checkpointProblem: problem })
    await ctx.say(`checkpoint not saved (${error.kind}): ${error.message}; tried again`)
  }
}

async function push(ctx: RunContext, stepIndex: number): Promise<void> {
  const { settings, now } = ctx.shared
  const { base, checkpoint, checkpointBranches, generation, attempts } = ctx.record
  if (base === null) throw new Error(`run ${ctx.jobId}: a checkpoint without a base`)
  const branch = checkpointBranch(ctx.jobId, generation, attempts.length)
  // Recorded before the push: a branch whose push was not answered must be deleted in the end as well.
  if (!checkpointBranches.includes(branch)) await ctx.update({ checkpointBranches: [...checkpointBranches, branch] })
  const from = ctx.savedCommit()
  const saved = await ctx.sandbox().transfer.checkpoint(
    {
      from,
      baseSha: base.sha,
      branch,
      message: `Checkpoint of job ${ctx.jobId} before step ${stepIndex + 1}\n\nAgent-Job: ${ctx.jobId}\nAgent-Attempt: ${attempts.length}\n`,
      identity: switchyardIdentity,
    },
    { timeoutMs: settings.gitTimeoutMs, signal: ctx.work },
  )
  // What has changed nothing since before its step was not made within it: there is nothing to resume.
  const withinStep = ctx.record.running !== null && (saved !== null || (checkpoint?.withinStep === true && checkpoint.stepIndex === stepIndex))
  const { sha, headSha, commitsAhead, holdsPaths } = saved ?? { sha: from.sha, headSha: checkpoint?.headSha, commitsAhead: checkpoint?.commitsAhead ?? 0, holdsPaths: checkpoint?.holdsPaths ?? false }
  const on = saved === null ? (checkpoint?.branch ?? null) : branch
  await ctx.update({ checkpoint: { sha, headSha: headSha ?? base.sha, commitsAhead, branch: on, stepIndex, atMs: now(), withinStep, holdsPaths }, checkpointProblem: null })
}
