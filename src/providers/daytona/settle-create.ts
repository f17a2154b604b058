import { setTimeout as sleep } from 'node:timers/promises'
import type { Daytona, Sandbox } from '@daytona/sdk'
import { InfrastructureError } from '../../job/errors.js'
import { cutText } from '../../job/harmless-text.js'
import { imageOwner } from '../image-owner.js'
import type { SandboxRequest } from '../provider.js'
import { unsettled } from '../refused-create.js'
import { classify, isNotFound } from './classify.js'
import type { DaytonaProviderConfig } from './config.js'
import { imageInWords, wholeMinutes } from './create-params.js'
import { sortStartFailure } from './start-failure.js'
import { hasEnded, hasFailed } from './state.js'

/**
 * Finds out what became of a create that threw without saying, by the sandbox's name.
 *
 * States, each looked up by name: none → the create failed, as it said · made by somebody else → `invalid` · starting →
 * wait · started → that is the sandbox · failed → delete it, and say why · going → the name is not free yet, `transient`.
 * The caller's deadline bounds the waiting.
 */
export async function settleCreate(
  client: Daytona,
  config: DaytonaProviderConfig,
  request: SandboxRequest,
  failure: CreateFailure,
  signal: AbortSignal,
): Promise<Sandbox> {
  let unanswered = 0
  for (;;) {
    signal.throwIfAborted()
    let sandbox: Sandbox | undefined
    try {
      sandbox = await client.get(request.name)
      unanswered = 0
    } catch (error) {
      if (isNotFound(error)) throw failure.error
      const sorted = classify(error, { source: config.name, call: 'create', apiKeyEnv: config.apiKeyEnv })
      unanswered += 1
      if (sorted.kind === 'auth' || unanswered >= maxUnanswered) throw unsettled(failure.error)
    }
    if (sandbox !== undefined) {
      const settled = await settle(sandbox, config, request, failure)
      if (settled !== undefined) return settled
    }
    await sleep(pauseMs, undefined, { signal })
  }
}

export interface CreateFailure {
  /** What the create threw, sorted. */
  readonly error: InfrastructureError
  /** Whether the create found the name taken: then the sandbox is of an earlier create, and so is its lifetime. */
  readonly existedBefore: boolean
}

const pauseMs = 250
const maxUnanswered = 3

async function settle(
  sandbox: Sandbox,
  config: DaytonaProviderConfig,
  request: SandboxRequest,
  failure: CreateFailure,
): Promise<Sandbox | undefined> {
  const isOurs = Object.entries(request.tags).every(([key, value]) => sandbox.labels[key] === value)
  if (!isOurs) {
    throw new InfrastructureError({
      kind: 'invalid',
      owner: 'consumer-configuration',
      source: config.name,
      message: `${config.name}: create failed: the name ${request.name} belongs to a sandbox with other labels; give each deployment of this account a name of its own`,
    })
  }
  if (hasFailed(sandbox)) {
    const failed = failedStart(sandbox, config, request)
    try {
      await sandbox.delete()
    } catch (error) {
      // Refused while it changes its state, or not answered: it is still there, and costs.
      throw isNotFound(error) ? failed : unsettled(failed)
    }
    throw failed
  }
  if (hasEnded(sandbox)) {
    throw new InfrastructureError({
      kind: 'transient',
      source: config.name,
      message: `${config.name}: create failed: an earlier sandbox named ${request.name} is ${sandbox.state ?? 'ending'} and still holds the name`,
      cause: failure.error,
    })
  }
  if (sandbox.state !== 'started') return undefined
  if (failure.existedBefore) {
    await sandbox.setTtl(wholeMinutes(request.lifetimeMs))
    await sandbox.refreshData()
  }
  return sandbox
}

/** @param sandbox as it failed: a delete overwrites its state and its reason. */
function failedStart(sandbox: Pick<Sandbox, 'state' | 'errorReason'>, config: DaytonaProviderConfig, request: SandboxRequest): InfrastructureError {
  const reason = cutText((sandbox.errorReason ?? 'no reason given').replace(/\s+/g, ' '), 300)
  const { kind, whose } = sortStartFailure({ state: sandbox.state, reason, image: request.image ?? config.image ?? config.snapshot })
  const what = imageInWords(config, request)
  const problem = whose === 'image'
    ? `${what} can't be built or pulled, or does not start (${reason}); name one that exists and that Daytona may read`
    : `${what} did not start, which is not its own fault (${reason})`
  const owner = { image: imageOwner(request), registry: 'sandbox', provider: undefined } as const
  return new InfrastructureError({ kind, owner: owner[whose], source: config.name, message: `${config.name}: create failed: ${kind === 'capacity' ? reason : problem}` })
}
