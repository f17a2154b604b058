import { InvalidInputError, SwitchyardError } from '../../job/errors.js'
import { closeInTurn } from '../close-in-turn.js'
import { missingOfCheckout, startCheckoutServer } from './checkout-server.js'
import type { Services } from './services.js'
import { localEntry, type Stage } from './stage.js'

/** Servers that speak the providers' wire protocols, each a child process of the checkout's test/servers. */

/** So small that another customer can fill it up; see ./outage.ts. */
const modalSize = 2

interface Kind {
  readonly args: readonly string[]
  /** The entry's own options, of what the server printed. */
  entry(variables: Readonly<Record<string, string>>): Readonly<Record<string, string | undefined>>
}
const kinds: Readonly<Record<string, Kind>> = {
  e2b: { args: [], entry: (variables) => ({ apiUrl: variables['E2B_API_URL'], sandboxUrl: variables['E2B_SANDBOX_URL'] }) },
  modal: { args: ['--max-sandboxes', String(modalSize)], entry: (variables) => ({ serverUrl: variables['MODAL_SERVER_URL'] }) },
  daytona: { args: [], entry: (variables) => ({ apiUrl: variables['DAYTONA_API_URL'] }) },
}

export interface ProtocolServerOptions {
  /** The checkout; it must hold test/servers and the dependencies. */
  readonly checkout: string
  /** For the files of a provider `local` among the names. */
  readonly folder: string
  /** Ends the start early. */
  readonly signal: AbortSignal
}

/**
 * Starts a server for each provider.
 * @throws InvalidInputError when there is no checkout; SwitchyardError when a server does not start. None is left running.
 */
export async function startProtocolServers(services: Extract<Services, { kind: 'protocol servers' }>, options: ProtocolServerOptions): Promise<Stage> {
  const { checkout, folder, signal } = options
  const played = services.names.filter((name) => kinds[name] !== undefined)
  const missing = played.map((name) => missingOfCheckout(checkout, name)).find((path) => path !== undefined)
  if (missing !== undefined) {
    throw new InvalidInputError(
      `--providers: the servers that speak the providers’ protocols come with a checkout of Switchyard and its dependencies, and ${missing} is not there; run script/demo in a checkout, or give the keys of the services themselves and --real`,
    )
  }
  const closers: (() => Promise<void>)[] = []
  const started = await Promise.allSettled(
    played.map(async (name) => {
      const server = await startCheckoutServer(name, { checkout, signal, args: kinds[name]?.args ?? [] })
      closers.push(() => server.close())
      return server
    }),
  )
  const failed = started.find((outcome) => outcome.status === 'rejected')
  if (failed !== undefined) {
    await closeInTurn(closers)
    throw failed.reason
  }
  const servers = new Map(started.flatMap((outcome) => (outcome.status === 'fulfilled' ? [[outcome.value.name, outcome.value] as const] : [])))
  const lacks = new Set([...servers.values()].flatMap(({ said }) => said))
  // A developer's own ~/.modal.toml has no say here, and its SDK reads it from this process's environment alone.
  process.env['MODAL_CONFIG_PATH'] = '/dev/null'
  return {
    services: services.kind,
    says: `${played.join(', ')}: protocol servers of this checkout, not the services themselves${services.missing.length === 0 ? '' : ` (for want of ${services.missing.join(', ')})`}; their own SDKs and wire protocols, sandboxes on this machine${[...lacks].map((lack) => `; ${lack}`).join('')}`,
    entries: services.names.map((name) => {
      const server = servers.get(name)
      return server === undefined ? localEntry(name, folder) : { name, type: name, limit: { sandboxes: 4 }, ...kinds[name]?.entry(server.variables) }
    }),
    environment: Object.assign({}, ...[...servers.values()].map(({ variables }) => variables)) as Record<string, string>,
    // The first has to lose a sandbox, and the job has to end somewhere.
    full: services.names.slice(1, -1).filter((name) => name === 'modal'),
    killSandbox: async (provider, sandboxId) => {
      const server = servers.get(provider)
      if (server === undefined) throw new Error(`no protocol server plays "${provider}"`)
      const response = await fetch(`${server.variables['ADMIN_URL'] ?? ''}/sandboxes/${encodeURIComponent(sandboxId)}`, { method: 'DELETE' })
      if (!response.ok) throw new SwitchyardError(`${provider}: its server did not let sandbox ${sandboxId} die: ${response.status} ${await response.text()}`)
    },
    close: () => closeInTurn(closers),
  }
}
