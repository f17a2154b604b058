/** The Daytona adapter on its real SDK, against the protocol server. */
import { DaytonaProvider, daytonaProviderConfigSchema } from '../../src/providers/daytona/index.js'
import { sandboxTags, type SandboxInfo, type SandboxRequest } from '../../src/providers/provider.js'
import { InfrastructureError } from '../../src/job/errors.js'
import { startDaytonaServer, type DaytonaServer, type DaytonaServerOptions } from '../servers/daytona/server.js'

export const soon = { timeoutMs: 20_000 }

export interface DaytonaFixture {
  readonly server: DaytonaServer
  readonly provider: DaytonaProvider
  /** Another consumer's provider for the same account. */
  readonly another: (config?: Readonly<Record<string, unknown>>) => DaytonaProvider
  readonly create: (request?: Partial<SandboxRequest>) => Promise<SandboxInfo>
  readonly close: () => Promise<void>
}

export async function startDaytona(options: DaytonaServerOptions = {}, config: Readonly<Record<string, unknown>> = {}): Promise<DaytonaFixture> {
  const server = await startDaytonaServer(options)
  const providers: DaytonaProvider[] = []
  const another = (more: Readonly<Record<string, unknown>> = {}): DaytonaProvider => {
    const parsed = daytonaProviderConfigSchema.parse({ apiUrl: server.apiUrl, enforcesNames: true, ...config, ...more })
    const provider = new DaytonaProvider(parsed, { env: { DAYTONA_API_KEY: server.apiKey } })
    providers.push(provider)
    return provider
  }
  const provider = another()
  return {
    server,
    provider,
    another,
    create: (request) => provider.create(sandboxRequest(request), soon),
    close: async () => {
      await Promise.all(providers.map((one) => one.close()))
      await server.close()
    },
  }
}

let count = 0

export function sandboxRequest(request: Partial<SandboxRequest> = {}): SandboxRequest {
  count += 1
  const jobId = `job-${count}`
  return {
    name: `test-${jobId}-1`,
    tags: sandboxTags({ deployment: 'test', runId: jobId, attempt: 1 }),
    image: undefined,
    resources: {},
    lifetimeMs: 10 * 60_000,
    network: 'open',
    gitHosts: [],
    ...request,
  }
}

/** What a promise throws, which must be an `InfrastructureError`. */
export async function failureOf(promise: Promise<unknown>): Promise<InfrastructureError> {
  const error: unknown = await promise.then(
    () => new Error('it succeeded'),
    (thrown: unknown) => thrown,
  )
  if (error instanceof InfrastructureError) return error
  throw error
}

export async function collect<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const all: Item[] = []
  for await (const item of items) all.push(item)
  return all
}
