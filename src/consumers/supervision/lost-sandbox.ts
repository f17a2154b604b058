import { InfrastructureError } from '../../job/errors.js'
import type { RunContext } from '../run-context.js'

/** Before a sandbox is given up for calls that keep failing, its provider is asked whether it is still there. */
export async function confirmLoss(ctx: RunContext, error: unknown, tries: number): Promise<unknown> {
  if (!(error instanceof InfrastructureError) || (error.kind !== 'transient' && error.kind !== 'timeout') || tries < 2) return error
  const { sandbox } = ctx.record
  const provider = sandbox === null ? undefined : ctx.shared.providers.get(sandbox.provider)?.provider
  if (sandbox === null || provider === undefined) return error
  try {
    const found = await provider.get(sandbox.id, { timeoutMs: ctx.shared.settings.callTimeoutMs, signal: ctx.aftermath })
    if (found !== undefined) return error
    return new InfrastructureError({ kind: 'sandbox-lost', source: sandbox.provider, message: `${sandbox.provider}: sandbox ${sandbox.id} is gone`, cause: error })
  } catch (probeError) {
    ctx.aftermath.throwIfAborted()
    return probeError instanceof InfrastructureError ? probeError : error
  }
}
