import { FenceLostError, InfrastructureError, errorMessage } from '../../job/errors.js'
import { pushing } from './phases/pushing.js'
import { examine } from './examination.js'
import { pause } from './pause.js'
import { pushLanded } from './push-landed.js'
import type { RunContext } from '../run-context.js'
import { KeysRefusedError } from '../sandbox-access.js'

/** The work of a job that did not succeed is pushed too, within bounds: it must not keep a sandbox for long. */
export async function saveFailedWork(ctx: RunContext): Promise<void> {
  const grace = new AbortController()
  const timer = setTimeout(() => grace.abort(new Error('the time to save the work is up')), ctx.shared.settings.saveGraceMs)
  try {
    await pushPatiently(ctx, AbortSignal.any([ctx.aftermath, grace.signal]))
  } catch (error) {
    if (ctx.aftermath.aborted || error instanceof FenceLostError || error instanceof KeysRefusedError) throw error
    if (await landedAfterAll(ctx)) {
      await ctx.update({ pushed: true, phase: 'closing' })
      return
    }
    await ctx.say(`the work of this failed job was not pushed: ${errorMessage(error)}; its last checkpoint is kept`)
    await ctx.update({ phase: 'closing' })
  } finally {
    clearTimeout(timer)
  }
}

/** Passing errors are met again and again until the time is up: this sandbox holds the only copy of the work. */
async function pushPatiently(ctx: RunContext, signal: AbortSignal): Promise<void> {
  let last: unknown
  for (let tries = 1; ; tries++) {
    try {
      await pushing(ctx, signal)
      return
    } catch (thrown) {
      // The error that there was, not that the time is up.
      if (signal.aborted) throw last ?? thrown
      const { error, origin } = await examine(ctx, thrown, tries)
      last = error
      // Somebody whose key is taken can push it.
      const { keys } = ctx.shared
      if (origin === 'git' && error instanceof InfrastructureError && error.kind === 'auth' && (await keys.confirmRefusal({ git: true }, ctx.aftermath))) {
        throw new KeysRefusedError(keys.problem({ git: true }) ?? error.message)
      }
      if (!(error instanceof InfrastructureError) || !passingKinds.includes(error.kind)) throw error
      ctx.shared.log.info({ jobId: ctx.jobId, tries, kind: error.kind, message: ctx.secrets.patterns.mask(error.message) }, 'work of a failed job not pushed yet')
      await pause(Math.min(5_000, error.retryAfterMs ?? 100 * 2 ** Math.min(tries, 10)), ctx)
    }
  }
}
/** A git host that does not answer is asked again a few times; nothing else would tell the user where the work is. */
async function landedAfterAll(ctx: RunContext): Promise<boolean> {
  for (let tries = 1; ; tries++) {
    try {
      return await pushLanded(ctx)
    } catch (error) {
      if (ctx.aftermath.aborted || !(error instanceof InfrastructureError)) throw error
      if (tries >= 5 || !passingKinds.includes(error.kind)) return false
      await pause(100 * 2 ** tries, ctx)
    }
  }
}

const passingKinds: readonly string[] = ['transient', 'timeout', 'rate-limited', 'provider-down', 'capacity']
