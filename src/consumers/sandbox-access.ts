import { InfrastructureError, attributed } from '../job/errors.js'
import type { InjectedSecret, JobSpec } from '../job/spec.js'
import type { RunRecord } from '../job/run-record.js'
import type { Capabilities } from '../providers/provider.js'
import type { RunnerProvider } from '../runner/calls.js'
import type { Runner } from '../runner/runner.js'
import type { ConsumerContext } from './consumer-context.js'
import { createTransfer } from './transfer/create-transfer.js'
import { secretHeaders, type SecretHeaders } from './transfer/secret-headers.js'
import type { Transfer, TransferParts } from './transfer/transfer.js'

/** What a job's supervisor does in its sandbox, and how commits get there and back. */
export interface SandboxAccess {
  readonly runner: Runner
  readonly transfer: Transfer
  readonly capabilities: Capabilities
  /** What becomes of secrets that are to be headers. */
  readonly secrets: Pick<SecretHeaders, 'env' | 'fallenBack'>
}

/**
 * Opens the way into a job's sandbox. Every call asks first whether the job is still this consumer's.
 * @throws UnconfiguredProviderError when this consumer does not have its provider.
 */
export function openSandbox(
  shared: ConsumerContext,
  sandbox: Pick<NonNullable<RunRecord['sandbox']>, 'provider' | 'id'>,
  { repository, image, network, resources }: Pick<JobSpec, 'repository' | 'image' | 'network' | 'resources'>,
  job: { readonly assertHeld: () => void; readonly injected: readonly InjectedSecret[] } & Pick<TransferParts, 'confirmHeld' | 'onSecret'>,
): SandboxAccess {
  const slot = shared.providers.get(sandbox.provider)
  if (slot === undefined) throw new UnconfiguredProviderError(sandbox.provider)
  const { provider, credentials = 'minted' } = slot
  const guarded: RunnerProvider = {
    name: provider.name,
    capabilities: provider.capabilities,
    exec: async (...call) => {
      job.assertHeld()
      try {
        const result = await provider.exec(...call)
        shared.answers.answered(provider.name)
        return result
      } catch (error) {
        // Whoever wrote the adapter: what comes out of this call is of this provider, and its owner is known from here on.
        throw error instanceof InfrastructureError ? attributed(error, 'exec').with({ source: provider.name }) : error
      }
    },
  }
  const runner = shared.runnerFor(guarded, sandbox.id, image)
  const { callTimeoutMs } = shared.settings
  const secrets = secretHeaders({ provider, sandboxId: sandbox.id, secrets: job.injected, spec: { image, network, resources }, gitHosts: shared.git.hosts, callTimeoutMs })
  const transfer = createTransfer(credentials, {
    runner,
    git: shared.git,
    repository,
    onSecret: job.onSecret,
    injectHeaders: secrets.injectHeaders,
    confirmHeld: job.confirmHeld,
    settings: shared.settings,
  })
  return { runner, transfer: secrets.within(transfer), capabilities: provider.capabilities, secrets }
}

/** Thrown when a job can't go on here, for keys that are refused to this consumer: those of all the providers that it may use, or the git host's. */
export class KeysRefusedError extends Error {
  override readonly name = 'KeysRefusedError'
}

/** Thrown when a job to be taken over runs at a provider that this consumer does not have. Configure all consumers alike. */
export class UnconfiguredProviderError extends Error {
  override readonly name = 'UnconfiguredProviderError'
  constructor(readonly provider: string) {
    super(`provider "${provider}" holds this job's sandbox but is not configured at this consumer; configure all consumers alike`)
  }
}
