import type { RunRecord } from '../../../job/run-record.js'
import type { RestoreResult } from '../../../runner/runner.js'
import { runCommand, type CommandEnd } from '../command-run.js'
import { checkpointRetryMs, saveCheckpoint } from '../checkpoints.js'
import { BudgetReached } from '../../job-budget.js'
import { pause } from '../pause.js'
import { PlannedMove, isToLeave, moveOn } from '../planned-move.js'
import type { RunContext } from '../../run-context.js'

/** `setup`: the spec's setup commands, in every sandbox anew. One that fails ends the job. */
export async function setup(ctx: RunContext): Promise<void> {
  for (let index = ctx.record.setupIndex; index < ctx.spec.setup.length; index++) {
    const step = ctx.spec.setup[index]
    if (step === undefined) break
    const end = await runCommand(ctx, { step, resumes: false, key: `setup-${attemptNumber(ctx)}-${index}`, periodic: null, firstPeriodicAtMs: null, move: ctx.budget.breakOff })
    // Nothing of it is needed: it is run anew in the next sandbox.
    if (end.kind === 'moved') return leave(ctx)
    if (!succeeded(end)) return fail(ctx, end)
    await ctx.update({ setupIndex: index + 1, running: null })
  }
  await ctx.update({ phase: 'steps' })
}

/** `steps`: the spec's steps, with a checkpoint between any two (whose work is pushed right away) and every so often within. */
export async function steps(ctx: RunContext): Promise<void> {
  if (ctx.record.running === null && typeof ctx.record.checkpoint?.branch === 'string') await restore(ctx)
  for (let index = ctx.record.stepIndex; index < ctx.spec.steps.length; index++) {
    const step = ctx.spec.steps[index]
    if (step === undefined) break
    const pushes = ctx.spec.push !== false
    const everyMs = ctx.spec.checkpoint.everySeconds * 1000
    const nextInMs = () => (ctx.record.checkpointProblem === null ? everyMs : checkpointRetryMs(ctx.record.checkpointProblem, everyMs))
    // Also where the last supervisor was broken off between a step and its checkpoint.
    if (pushes && ctx.record.running === null && index > (ctx.record.checkpoint?.stepIndex ?? 0)) await saveCheckpoint(ctx, index)
    // The step before ended while the job was about to move: here is the best moment.
    if (ctx.record.running === null && ctx.record.next?.sandbox != null && ctx.record.checkpointProblem === null) return moveOn(ctx)
    // So it is for a job whose provider is drained, where another one has room.
    if (ctx.record.running === null && index > 0 && ctx.record.checkpoint?.stepIndex === index && ctx.record.checkpointProblem === null && (await isToLeave(ctx))) return moveOn(ctx)
    if (ctx.record.running === null) await reserve(ctx, index)
    const { running, checkpoint } = ctx.record
    const move = PlannedMove.of(ctx, step)
    const end = await runCommand(ctx, {
      move,
      step,
      resumes: ctx.record.resumes,
      key: `step-${attemptNumber(ctx)}-${index}`,
      // Counted on from the last one, whoever made it: a job that is handed on often has its checkpoints all the same.
      firstPeriodicAtMs: pushes ? Math.max(ctx.shared.now(), (running === null ? ctx.shared.now() : Math.max(running.startedAtMs, checkpoint?.atMs ?? 0)) + nextInMs()) : null,
      periodic: pushes
        ? async (untilMs) => {
            const beganAtMs = ctx.shared.now()
            await saveCheckpoint(ctx, index, untilMs)
            const endedAtMs = ctx.shared.now()
            // By the clock; where one takes longer than that, with a pause all the same.
            return Math.max(beganAtMs + nextInMs(), endedAtMs + Math.min(nextInMs(), endedAtMs - beganAtMs))
          }
        : null,
      // oxlint-disable-next-line typescript/no-misused-promises -- finally waits for it
    }).finally(() => move?.stop())
    if (end.kind === 'moved') {
      await saveLast(ctx, index)
      return leave(ctx)
    }
    if (!succeeded(end)) return fail(ctx, end)
    const last = index + 1 === ctx.spec.steps.length
    await ctx.update({ stepIndex: index + 1, running: null, resumes: false, steps: [...ctx.record.steps, end.result], ...(last ? allDone(ctx) : {}) })
  }
  // Taken over from an earlier release, which recorded the last step's end apart from this.
  if (ctx.record.phase === 'steps') await ctx.update(allDone(ctx))
}

/** Goes on in another sandbox, or where a budget has too little some other time. What is needed of the work is saved. */
async function leave(ctx: RunContext): Promise<void> {
  if (ctx.budget.due !== null) throw ctx.budget.due
  await moveOn(ctx)
}

/** What the next step will cost. A job that is parked here has all its work at the git host. */
async function reserve(ctx: RunContext, index: number): Promise<void> {
  try {
    await ctx.budget.beforeStep()
  } catch (error) {
    if (error instanceof BudgetReached && ctx.spec.push !== false && ctx.record.checkpointProblem !== null) await saveLast(ctx, index)
    throw error
  }
}

/** The checkpoint that a planned move stands on: tried until it is there, or its sandbox is not. */
async function saveLast(ctx: RunContext, index: number): Promise<void> {
  for (let tries = 1; ; tries++) {
    await saveCheckpoint(ctx, index)
    const problem = ctx.record.checkpointProblem
    if (problem === null || problem.error.kind === 'invalid') return
    await pause(Math.min(2_000, 100 * 2 ** tries), ctx)
    ctx.work.throwIfAborted()
  }
}

/** After setup, in a sandbox that began with a checkpoint: what that holds beside its files. In any other, and a second time, it changes nothing. */
async function restore(ctx: RunContext): Promise<void> {
  const restored = await ctx.sandbox().runner.restore({ paths: ctx.spec.checkpoint.paths, env: { ...ctx.spec.env, ...ctx.spec.steps[ctx.record.stepIndex]?.env } }, { timeoutMs: ctx.shared.settings.gitTimeoutMs, signal: ctx.work })
  for (const note of restored.notes) await ctx.sayOnce(note)
  // Written with the beginning of the step: whoever starts it runs the same command.
  ctx.amend({ resumes: resumesWithin(ctx.record, restored) })
}

/** Whether the next step goes on from within: a checkpoint of its own was brought back in this sandbox, and with it what it remembers. */
export function resumesWithin({ checkpoint, stepIndex }: Pick<RunRecord, 'checkpoint' | 'stepIndex'>, { restored, pathsRestored }: Pick<RestoreResult, 'restored' | 'pathsRestored'>): boolean {
  return restored && pathsRestored && checkpoint?.withinStep === true && checkpoint.stepIndex === stepIndex
}

function allDone(ctx: RunContext): Pick<RunRecord, 'phase' | 'outcome'> {
  return { phase: ctx.spec.push === false ? 'closing' : 'pushing', outcome: { status: 'succeeded', error: null } }
}

/** The attempt is part of a command's key: a sandbox that two attempts share does not exist, but a log that holds both does. */
function attemptNumber(ctx: RunContext): number {
  return ctx.record.attempts.length
}

type CommandResult = Exclude<CommandEnd, { kind: 'moved' }>

function succeeded(end: CommandResult): boolean {
  return end.kind === 'exited' && end.result.exitCode === 0
}

/** A command's exit code is a result: the job has failed, what it did so far is saved, nothing is tried again. */
async function fail(ctx: RunContext, end: CommandResult): Promise<void> {
  const { name } = end.result
  const error =
    end.kind === 'exited'
      ? ({ kind: 'step-failed', message: `${name} exited with code ${end.result.exitCode}`, owner: 'job', code: 'SWY_STEP_FAILED' } as const)
      : ({ kind: 'timeout', message: `${name} did not end within its timeout`, owner: 'job', code: 'SWY_STEP_TIMEOUT' } as const)
  await ctx.update({
    running: null,
    steps: [...ctx.record.steps, end.result],
    outcome: { status: 'failed', error },
    phase: ctx.spec.push === false ? 'closing' : 'pushing',
  })
}
