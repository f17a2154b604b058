import { spawn, type ChildProcessByStdio } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { InvalidInputError, SwitchyardError } from '../../job/errors.js'
import { closeInTurn } from '../close-in-turn.js'
import type { Services } from './services.js'
import { localEntry, type Stage } from './stage.js'

/**
 * Servers that speak the providers' wire protocols, each a child process of the checkout's test/servers. They print where
 * they listen as NAME=value lines, and end with their standard input, so that none outlives a demo that was killed.
 */

const startTimeoutMs = 60_000
const stopTimeoutMs = 20_000
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

interface Server {
  readonly name: string
  readonly variables: Readonly<Record<string, string>>
  close(): Promise<void>
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
  const loader = join(checkout, 'node_modules/tsx/dist/loader.mjs')
  const missing = [...played.map((name) => program(checkout, name)), loader].find((path) => !existsSync(path))
  if (missing !== undefined) {
    throw new InvalidInputError(
      `--providers: the servers that speak the providers’ protocols come with a checkout of Switchyard and its dependencies, and ${missing} is not there; run script/demo in a checkout, or give the keys of the services themselves and --real`,
    )
  }
  const closers: (() => Promise<void>)[] = []
  const started = await Promise.allSettled(
    played.map(async (name) => {
      const server = await startServer(name, { checkout, loader, signal, args: kinds[name]?.args ?? [] })
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
  // A developer's own ~/.modal.toml has no say here, and its SDK reads it from this process's environment alone.
  process.env['MODAL_CONFIG_PATH'] = '/dev/null'
  return {
    services: services.kind,
    says: `${played.join(', ')}: protocol servers of this checkout, not the services themselves${services.missing.length === 0 ? '' : ` (for want of ${services.missing.join(', ')})`}; their own SDKs and wire protocols, sandboxes on this machine`,
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

function program(checkout: string, name: string): string {
  return join(checkout, 'test/servers', name, 'main.ts')
}

interface StartOptions {
  readonly checkout: string
  readonly loader: string
  readonly args: readonly string[]
  readonly signal: AbortSignal
}

async function startServer(name: string, options: StartOptions): Promise<Server> {
  const { checkout, loader, args, signal } = options
  const child = spawn(process.execPath, ['--import', loader, program(checkout, name), '--with-stdin', ...args], {
    cwd: checkout,
    // Nothing that its sandboxes should not see; and a group of its own, so that Ctrl-C leaves it to be stopped in turn.
    env: { ...only(['PATH', 'HOME', 'TMPDIR']), TSX_TSCONFIG_PATH: join(checkout, 'tsconfig.json'), TSX_DISABLE_CACHE: '1' },
    detached: true,
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()))
  // It may end before its input does.
  child.stdin.on('error', () => undefined)
  try {
    const variables = await announced(child, name, signal)
    return { name, variables, close: () => stop(child, ended) }
  } catch (error) {
    await stop(child, ended)
    throw error
  }
}

type Child = ChildProcessByStdio<Writable, Readable, Readable>

/** What the server prints: NAME=value lines, the last one ADMIN_URL. */
async function announced(child: Child, name: string, signal: AbortSignal): Promise<Record<string, string>> {
  let stdout = ''
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr = `${stderr}${text}`.slice(-2_000)))
  return new Promise((resolve, reject) => {
    const failed = (what: string) => () => reject(new SwitchyardError(`the protocol server of ${name} ${what}${stderr === '' ? '' : `: ${stderr.trim()}`}`))
    const timer = setTimeout(failed('did not start in time'), startTimeoutMs)
    const onAbort = () => reject(signal.reason as Error)
    child.once('error', failed('could not be started'))
    child.once('close', failed('ended before it listened'))
    signal.addEventListener('abort', onAbort, { once: true })
    if (signal.aborted) onAbort()
    child.once('close', () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', onAbort)
    })
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text
      if (!/^ADMIN_URL=\S+\n/m.test(stdout)) return
      clearTimeout(timer)
      signal.removeEventListener('abort', onAbort)
      resolve(Object.fromEntries([...stdout.matchAll(/^([A-Z0-9_]+)=(\S+)$/gm)].map(([, key = '', value = '']) => [key, value])))
    })
  })
}

/** Asks it to end, which takes its sandboxes along. */
async function stop(child: Child, ended: Promise<void>): Promise<void> {
  child.stdin.end()
  const timer = setTimeout(() => child.kill('SIGKILL'), stopTimeoutMs)
  await ended
  clearTimeout(timer)
}

function only(names: readonly string[]): Record<string, string> {
  return Object.fromEntries(names.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]])))
}
