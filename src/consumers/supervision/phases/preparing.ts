import type { RunRecord } from '../../../job/run-record.js'
import { installOptions } from '../package-policy.js'
import type { RunContext } from '../../run-context.js'
import { forgetGoneCheckpoint } from '../continuation.js'
import { workBranch } from '../../../job/names.js'

/**
 * `preparing`: puts the runner into the sandbox and the work tree into place: the base commit, or the last checkpoint when
 * the job goes on after a lost sandbox. Steps that the checkpoint holds are not run again.
 */
export async function preparing(ctx: RunContext): Promise<void> {
  const { git, settings } = ctx.shared
  const { base, sandbox } = ctx.record
  if (base === null || sandbox === null) throw new Error(`run ${ctx.jobId}: preparing without a base or a sandbox`)
  const { runner, transfer, capabilities, secrets } = ctx.sandbox()
  const wanted = installOptions(settings, ctx.spec.network, capabilities, git.hosts)
  const facts = await runner.install({ ...wanted, timeoutMs: settings.callTimeoutMs, signal: ctx.work })
  if (facts.installed !== null) await ctx.say(`installed ${facts.installed}; an image that has it starts faster`)

  if (secrets.fallenBack.length > 0) await ctx.sayOnce(`secrets: ${sandbox.provider} adds no headers outside of its sandboxes, so ${secrets.fallenBack.join(', ')} stand in the environment of the commands`)

  const clone = () => {
    const restored = restoredCheckpoint(ctx)
    return transfer.clone(
      {
        from: ctx.savedCommit(),
        branch: workBranch(ctx.record),
        checkpoint: restored === null ? null : { headSha: restored.headSha, commitsAhead: restored.commitsAhead, baseSha: base.sha },
        paths: ctx.spec.checkpoint.paths,
        lfs: ctx.spec.lfs,
      },
      { timeoutMs: settings.gitTimeoutMs, signal: ctx.work },
    )
  }
  const { notes } = await clone().catch(async (error: unknown) => {
    if (!(await forgetGoneCheckpoint(ctx, error))) throw error
    return clone()
  })
  for (const note of notes) await ctx.say(note)
  const { checkpoint } = ctx.record
  const restore = restoredCheckpoint(ctx)
  const stepIndex = checkpoint?.stepIndex ?? 0
  // What comes next writes that it begins.
  ctx.amend({
    phase: ctx.spec.setup.length === 0 ? 'steps' : 'setup',
    setupIndex: 0,
    stepIndex,
    steps: ctx.record.steps.slice(0, stepIndex),
    running: null,
    resumes: false,
    sandbox: { ...sandbox, repositoryPath: facts.repositoryPath },
  })
  if (restore?.holdsPaths === true && restore.repositoryPath !== null && restore.repositoryPath !== facts.repositoryPath) {
    await ctx.say(`the repository is at ${facts.repositoryPath} here and was at ${restore.repositoryPath}: agents that know their conversations by the folder do not find them`)
  }
  if (restore !== null) await ctx.say(`goes on at ${sandbox.provider} from checkpoint ${restore.sha.slice(0, 12)}, ${stepIndex < ctx.spec.steps.length ? `step ${stepIndex + 1}` : 'after its last step'}`)
}

function restoredCheckpoint({ record: { checkpoint } }: RunContext): RunRecord['checkpoint'] {
  return typeof checkpoint?.branch === 'string' ? checkpoint : null
}
