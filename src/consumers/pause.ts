import type { RunContext } from './run-context.js'

/** Waits; less when something happens that this job has not heeded yet. */
export async function pause(delayMs: number, ctx: RunContext): Promise<void> {
  // In the phases after an outcome `work` may be aborted already, and after a cancel `aftermath` too.
  const signal = [ctx.work, ctx.aftermath, ctx.leave].find(({ aborted }) => !aborted)
  if (signal === undefined) return
  await new Promise<void>((resolve) => {
    const done = () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, delayMs)
    signal.addEventListener('abort', done)
  })
}
