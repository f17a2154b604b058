import { readdir, readFile } from 'node:fs/promises'
import { ModalProvider, modalProviderConfigSchema, type ModalProviderConfigInput } from '../../src/providers/modal/index.js'
import { InfrastructureError } from '../../src/job/errors.js'
import { sandboxTags, type SandboxInfo, type SandboxRequest } from '../../src/providers/provider.js'
import type { FaultInput } from '../servers/shared-faults.js'
import { startModalServer, type ModalServer, type ModalServerOptions } from '../servers/modal/server.js'

// The SDK reads it when it is loaded, which is at the first call: a developer's own ~/.modal.toml has no say here.
process.env['MODAL_CONFIG_PATH'] = '/dev/null'

export interface ModalFixture {
  readonly server: ModalServer
  readonly provider: ModalProvider
  /** Another client of the same account; closed with the fixture. */
  another(config?: ModalProviderConfigInput, environment?: NodeJS.ProcessEnv): ModalProvider
  request(changes?: Partial<SandboxRequest>): SandboxRequest
  fault(...faults: FaultInput[]): void
  /** How often the SDK made a call, as the server counted it. */
  calls(name: string): number
  close(): Promise<void>
}

export const options = { timeoutMs: 20_000 }
let counter = 0

export async function startModal(serverOptions: ModalServerOptions = {}, config: ModalProviderConfigInput = {}): Promise<ModalFixture> {
  const server = await startModalServer(serverOptions)
  const providers: ModalProvider[] = []
  const another: ModalFixture['another'] = (changes = {}, environment = {}) => {
    const provider = new ModalProvider(modalProviderConfigSchema.parse({ serverUrl: server.url, ...config, ...changes }), {
      environment: { MODAL_TOKEN_ID: server.tokenId, MODAL_TOKEN_SECRET: server.tokenSecret, ...environment },
    })
    providers.push(provider)
    return provider
  }
  return {
    server,
    provider: another(),
    another,
    request: (changes = {}) => ({
      name: `modal-test-${++counter}`,
      tags: sandboxTags({ deployment: 'test', runId: `job-${counter}`, attempt: 1 }),
      image: undefined,
      resources: {},
      lifetimeMs: 600_000,
      network: 'open',
      gitHosts: [],
      ...changes,
    }),
    fault: (...faults) => server.plan.add(...faults),
    calls: (name) => server.plan.calls()[name] ?? 0,
    close: async () => {
      await Promise.all(providers.map((provider) => provider.close()))
      await server.close()
    },
  }
}

/** The error that a call fails with. */
export async function failure(call: Promise<unknown>): Promise<InfrastructureError> {
  const outcome = await call.then((value) => ({ value }), (error: unknown) => error)
  if (outcome instanceof InfrastructureError) return outcome
  throw new Error('the call did not fail as an adapter should', { cause: outcome })
}

export async function all(sandboxes: AsyncIterable<SandboxInfo>): Promise<SandboxInfo[]> {
  const found: SandboxInfo[] = []
  for await (const sandbox of sandboxes) found.push(sandbox)
  return found
}

/** How many processes of this machine have `marker` in their arguments. */
export async function countProcesses(marker: string): Promise<number> {
  const ids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  // A process that ended in between has no arguments to read.
  const lines = await Promise.all(ids.map((id) => readFile(`/proc/${id}/cmdline`, 'utf8').catch(() => '')))
  return lines.filter((line) => line.includes(marker)).length
}
