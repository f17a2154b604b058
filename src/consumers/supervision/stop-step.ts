import { errorMessage, FenceLostError } from '../../job/errors.js'
import type { RunContext } from '../run-context.js'

/** Stops the step under way, so that what is saved of its work stands still. Where that can't be it is said, and the work is saved all the same. */
export async function stopStep(ctx: RunContext, key: string, signal: AbortSignal = ctx.aftermath): Promise<void> {
  const { settings } = ctx.shared
  try {
    await ctx.sandbox().runner.stop(key, settings.stopGraceMs, { timeoutMs: settings.stopGraceMs + settings.callTimeoutMs, signal })
  } catch (error) {
    if (signal.aborted || error instanceof FenceLostError) return
    await ctx.say(`the step under way could not be stopped before its work was saved: ${errorMessage(error)}`)
  }
}
