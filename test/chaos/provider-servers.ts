import { z } from 'zod'
import type { ProviderEntry } from '../../src/config/schema.js'
import { startDaytonaServer } from '../servers/daytona/server.js'
import { startE2bServer } from '../servers/e2b/server.js'
import { startModalServer } from '../servers/modal/server.js'
import type { FaultInput } from '../servers/shared-faults.js'

const stateSchema = z.object({
  live: z.number(),
  maxLive: z.number(),
  created: z.number(),
  ended: z.object({ killed: z.number(), expired: z.number(), crashed: z.number() }),
  sandboxes: z.array(z.object({ id: z.string() })),
  calls: z.record(z.string(), z.number()),
})
/** What a provider's server says of itself. */
export type ProviderState = z.output<typeof stateSchema>

/** A server that speaks a provider's protocol, as the harness sees it: through its admin endpoint alone. */
export interface ProviderServer {
  readonly name: string
  /** What consumers are configured with. The server itself lets more in, so that it sees who takes too much. */
  readonly limit: number
  readonly entry: ProviderEntry
  readonly environment: Readonly<Record<string, string>>
  state(): Promise<ProviderState>
  setDown(down: 'refuse' | 'hang' | 'up'): Promise<void>
  addFaults(faults: readonly FaultInput[]): Promise<void>
  clearFaults(): Promise<void>
  killSandbox(id: string): Promise<void>
  close(): Promise<void>
}

interface Started {
  readonly adminUrl: string
  readonly entry: Readonly<Record<string, unknown>>
  readonly environment: Readonly<Record<string, string>>
  readonly close: () => Promise<void>
}

/** How many more sandboxes than the limit a server lets in, unless it is told otherwise. */
const slack = 50

/** By name; each takes how many sandboxes the server lets in. */
const starts: Readonly<Record<string, (size: number) => Promise<Started>>> = {
  e2b: async (size) => {
    const server = await startE2bServer({ plan: { maxConcurrent: size } })
    return { adminUrl: server.url, entry: { apiUrl: server.url, sandboxUrl: server.url }, environment: { E2B_API_KEY: server.apiKey }, close: () => server.close() }
  },
  modal: async (size) => {
    const server = await startModalServer({ maxSandboxes: size })
    const environment = { MODAL_TOKEN_ID: server.tokenId, MODAL_TOKEN_SECRET: server.tokenSecret, MODAL_CONFIG_PATH: '/dev/null' }
    return { adminUrl: server.adminUrl, entry: { serverUrl: server.url }, environment, close: () => server.close() }
  },
  daytona: async (size) => {
    const server = await startDaytonaServer({ pool: { cpu: size, memoryGiB: size, diskGiB: size * 3 }, createsPerMinute: 10_000 })
    return { adminUrl: server.url, entry: { apiUrl: server.apiUrl }, environment: { DAYTONA_API_KEY: server.apiKey }, close: () => server.close() }
  },
}

/** The providers that have a server. */
export const serverNames: readonly string[] = Object.keys(starts)

/**
 * @param limit what consumers are configured with.
 * @param size how many sandboxes the server itself lets in.
 */
export async function startProviderServer(name: string, limit: number, size = limit + slack): Promise<ProviderServer> {
  const start = starts[name]
  if (start === undefined) throw new Error(`no server for "${name}"`)
  const { adminUrl, entry, environment, close } = await start(size)
  const admin = async (method: string, path: string, body?: unknown): Promise<unknown> => {
    const response = await fetch(`${adminUrl}/admin/${path}`, {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
    })
    if (!response.ok && response.status !== 404) throw new Error(`${name}: ${method} ${path}: ${response.status} ${await response.text()}`)
    return response.status === 200 ? await response.json() : null
  }
  return {
    name,
    limit,
    entry: { name, type: name, limit: { sandboxes: limit }, ...entry },
    environment,
    state: async () => stateSchema.parse(await admin('GET', 'state')),
    setDown: async (down) => {
      await admin('PUT', 'mode', { down })
    },
    addFaults: async (faults) => {
      await admin('POST', 'faults', faults)
    },
    clearFaults: async () => {
      await admin('DELETE', 'faults')
    },
    killSandbox: async (id) => {
      await admin('DELETE', `sandboxes/${encodeURIComponent(id)}`)
    },
    close,
  }
}
