import { readdir, readFile } from 'node:fs/promises'
import { E2bProvider, e2bProviderConfigSchema, type E2bProviderConfigInput } from '../../src/providers/e2b/index.js'
import { InfrastructureError } from '../../src/job/errors.js'
import { sandboxTags, type SandboxInfo, type SandboxRequest } from '../../src/providers/provider.js'
import { startE2bServer, type E2bServer, type E2bServerOptions } from '../servers/e2b/server.js'

export interface E2bFixture {
  readonly server: E2bServer
  readonly provider: E2bProvider
  /** Another client of the same account. */
  another(config?: E2bProviderConfigInput, environment?: NodeJS.ProcessEnv): E2bProvider
  request(changes?: Partial<SandboxRequest>): SandboxRequest
  close(): Promise<void>
}

export const options = { timeoutMs: 20_000 }
let counter = 0

export async function startE2b(serverOptions: E2bServerOptions = {}, config: E2bProviderConfigInput = {}): Promise<E2bFixture> {
  const server = await startE2bServer(serverOptions)
  const another: E2bFixture['another'] = (changes = {}, environment = {}) =>
    new E2bProvider(e2bProviderConfigSchema.parse({ apiUrl: server.url, sandboxUrl: server.url, ...config, ...changes }), {
      environment: { E2B_API_KEY: server.apiKey, ...environment },
    })
  const provider = another()
  return {
    server,
    provider,
    another,
    request: (changes = {}) => ({
      name: `e2b-test-${++counter}`,
      tags: sandboxTags({ deployment: 'test', runId: `job-${counter}`, attempt: 1 }),
      image: undefined,
      resources: {},
      lifetimeMs: 600_000,
      network: 'open',
      gitHosts: [],
      ...changes,
    }),
    close: async () => {
      await provider.close()
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
export function countProcesses(marker: string): Promise<number> {
  return countFiles(marker, ['cmdline'])
}

/** How many processes of this machine have `text` in their arguments or their environment; this one aside. */
export function processesHolding(text: string): Promise<number> {
  return countFiles(text, ['cmdline', 'environ'])
}

async function countFiles(text: string, names: readonly string[]): Promise<number> {
  const ids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name) && name !== String(process.pid))
  // A process that ended in between, or another user's, has nothing to read.
  const files = await Promise.all(ids.map((id) => Promise.all(names.map((name) => readFile(`/proc/${id}/${name}`, 'utf8').catch(() => '')))))
  return files.filter((contents) => contents.some((content) => content.includes(text))).length
}
