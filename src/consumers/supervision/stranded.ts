import { timeoutSentence } from '../../job/deadlines.js'
import { InfrastructureError } from '../../job/errors.js'
import type { RunContext } from '../run-context.js'
import { jobErrorOf } from './reactions.js'
import { move } from './recovery.js'
import { stopStep } from './stop-step.js'

/**
 * A job whose sandbox is at a provider that no live consumer has any more goes on elsewhere, from its last checkpoint. The sandbox can be
 * neither reached nor killed: it is left to its lifetime, and said.
 */
export async function leaveProvider(ctx: RunContext): Promise<void> {
  const { sandbox, creating } = ctx.record
  const where = sandbox?.provider ?? creating?.provider
  if (where === undefined) return
  const message = `no live consumer has the provider "${where}" any more; ${sandbox === null ? 'a sandbox that was being made there' : `the sandbox ${sandbox.id}`} is left to its lifetime`
  const error = new InfrastructureError({ kind: 'provider-down', owner: 'deployment', code: 'SWY_JOB_UNRUNNABLE', source: where, message })
  await move(ctx, { kind: 'move', excludeMs: 0, confirmed: false, error: jobErrorOf(error) }, { where, refusals: 1, mayExist: true })
}

/** Ends a job that has waited for its first sandbox for as long as it may. */
export async function endOverdue(ctx: RunContext, waitingFor: string | null): Promise<void> {
  if (ctx.record.outcome !== null) return
  const error = ctx.masked({ kind: 'timeout', message: timeoutSentence('waitTimeout', ctx.spec, waitingFor), code: 'SWY_JOB_TIMEOUT' })
  await ctx.update({ outcome: { status: 'failed', error }, phase: 'closing', running: null })
}

/** Ends a job that no live consumer can run, or that is not to be run; what there is of its work is saved where this consumer reaches its sandbox. */
export async function endUnrunnable(ctx: RunContext, { reason, owner }: { readonly reason: string; readonly owner: 'deployment' | 'job' }): Promise<void> {
  const { outcome, phase, sandbox, running } = ctx.record
  if (outcome !== null) return
  const reached = sandbox !== null && ctx.shared.providers.has(sandbox.provider)
  const saves = reached && ctx.spec.push !== false && (phase === 'steps' || phase === 'pushing')
  await ctx.update({ outcome: { status: 'failed', error: ctx.masked({ kind: 'invalid', message: reason, owner, code: owner === 'job' ? 'SWY_JOB_INVALID' : 'SWY_JOB_UNRUNNABLE' }) }, phase: saves ? 'pushing' : 'closing', running: null })
  if (saves && running !== null) await stopStep(ctx, running.key)
  const { checkpoint } = ctx.record
  if (!saves && typeof checkpoint?.branch === 'string') await ctx.say(`the work up to the last checkpoint is on ${checkpoint.branch}`)
}
