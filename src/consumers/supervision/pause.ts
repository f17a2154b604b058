import { setTimeout as delay } from 'node:timers/promises'
import type { RunContext } from '../run-context.js'

/** Waits; less when something happens that this job has not heeded yet. */
export async function pause(delayMs: number, ctx: RunContext): Promise<void> {
  // In the phases after an outcome `work` may be aborted already, and after a cancel `aftermath` too.
  const signal = [ctx.work, ctx.aftermath, ctx.leave].find(({ aborted }) => !aborted)
  if (signal === undefined) return
  // Only the signal makes it fail, and that is not an error here: whoever paused looks at it.
  await delay(delayMs, undefined, { signal }).catch(() => undefined)
}
