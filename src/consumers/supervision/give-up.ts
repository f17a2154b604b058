import { errorMessage } from '../../job/errors.js'
import type { RunContext } from '../run-context.js'

/** What is left behind costs money: it is killed at once if it can be, again in `closing`, and by the reaper until it is dead. */
export async function killInBackground(ctx: RunContext, sandbox: { readonly provider: string; readonly id: string }): Promise<void> {
  const provider = ctx.shared.providers.get(sandbox.provider)?.provider
  if (provider === undefined) return
  try {
    ctx.assertHeld()
    await provider.kill(sandbox.id, { timeoutMs: ctx.shared.settings.callTimeoutMs, signal: ctx.leave })
    await ctx.shared.owners.freeOf({ kind: 'sandbox', sandboxId: sandbox.id })
  } catch (error) {
    ctx.shared.log.warn({ jobId: ctx.jobId, ...sandbox, message: errorMessage(error) }, 'sandbox given up but not killed yet')
  }
}
