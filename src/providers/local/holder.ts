import { execFile, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { SandboxRequest } from '../provider.js'
import { accountFiles, sandboxArguments, systemPath } from './bubblewrap.js'
import { quoted } from './command.js'
import type { LocalProviderConfig } from './config.js'
import { endScript, scopeCommand, type Delegation } from './delegation.js'
import { withoutInherited } from './inherited-descriptors.js'
import { makeLimits } from './limits.js'
import { forwardedDns, loopbackPortsOf, pastaArguments, slirpArguments, slirpDevice, slirpDns, needsForwardedDns, metadataAddresses, unreachable } from './network.js'
import { identify, markOf } from './process-identity.js'
import { scripts } from './scripts.js'
import { canFilter, seccompProgram } from './seccomp.js'
import { asUser, firstUser, lastUser, layOut, stagedCommand, type Staging } from './staging.js'
import { filterFile, type LocalState, type SandboxMeta, shape } from './state.js'
import type { Tools } from './tools.js'

/** Writes a new sandbox's folder; nothing runs yet. */
export async function newSandbox(
  state: LocalState,
  config: LocalProviderConfig,
  request: SandboxRequest,
  network: 'open' | 'none',
  tools: Tools | undefined,
): Promise<SandboxMeta> {
  const id = `${request.name}.${randomBytes(6).toString('hex')}`
  const limits =
    tools === undefined
      ? { cgroups: [], slice: null, cpus: null, watchedMemoryKiB: 0 }
      : await makeLimits(
          config.name,
          id,
          {
            cpu: request.resources.cpu ?? config.cpu,
            memoryMiB: request.resources.memoryMiB ?? config.memoryMiB,
            maxProcesses: config.maxProcesses,
          },
          availableParallelism(),
          config.cgroups ? '/sys/fs/cgroup' : undefined,
          config.cgroups && typeof tools.delegation === 'object' ? tools.delegation : undefined,
        )
  const createdAtMs = Date.now()
  const staging = stagingOf(tools)
  const ports = [...config.loopbackPorts, ...loopbackPortsOf(request.gitHosts)]
  const meta: SandboxMeta = {
    id,
    name: request.name,
    tags: { ...request.tags },
    createdAtMs,
    isolation: tools === undefined ? 'none' : 'bubblewrap',
    shape,
    network: network === 'open' && (tools === undefined || !givesNetwork(tools, ports)) ? 'shared' : network,
    user: staging === undefined ? null : await state.claimUser(id, firstUser, lastUser),
    filtered: tools !== undefined && canFilter(process.arch),
    cpus: limits.cpus,
    cgroups: [...limits.cgroups],
    slice: limits.slice,
    watchedMemoryKiB: limits.watchedMemoryKiB,
    maxProcesses: config.maxProcesses,
    maxOpenFiles: config.maxOpenFiles,
    maxFileMiB: config.maxFileMiB ?? null,
    creator: (await identify(process.pid)) ?? { pid: process.pid, startTime: '' },
  }
  await state.add(meta, {
    ...accountFiles,
    // Its own copies: they stay when the package is replaced, and are short in the process list.
    'holder.sh': scripts.holder,
    'init.sh': scripts.init,
    'kill-marked.sh': scripts.killMarked,
    mark: `${markOf(id)}\n`,
    cgroups: limits.cgroups.map((cgroup) => `${cgroup}\n`).join(''),
    ...(limits.slice === null || typeof tools?.delegation !== 'object' ? {} : { 'ended.sh': endScript(tools.delegation, limits.slice) }),
    deadline: `${Math.ceil((createdAtMs + request.lifetimeMs) / 1000)}\n`,
    disk: `${(request.resources.diskMiB ?? config.diskMiB ?? unboundedMiB) * 1024} ${config.maxFiles}\n`,
    ...(meta.filtered && canFilter(process.arch) ? { [filterFile]: seccompProgram(process.arch, filterOptions(config, meta)) } : {}),
    ...(tools === undefined ? {} : await networkFiles(config, meta, tools, ports)),
  })
  return meta
}

/** More than any disk has, in a number that every shell can count with. */
const unboundedMiB = 1024 ** 4

function filterOptions(config: LocalProviderConfig, { network, watchedMemoryKiB }: SandboxMeta): Parameters<typeof seccompProgram>[1] {
  return { nestedNamespaces: config.nestedNamespaces, unixSockets: network !== 'shared', uncountedMemory: watchedMemoryKiB === 0 }
}

/** Whether something here gives a sandbox a network of its own, with these ports of this machine's loopback. */
function givesNetwork({ pasta, slirp }: Tools, ports: readonly number[]): boolean {
  return typeof pasta === 'object' || (typeof slirp === 'object' && ports.length === 0)
}

/** What holder.sh runs to give the sandbox its network, and what it waits for. */
async function networkFiles({ cloudMetadata }: LocalProviderConfig, meta: SandboxMeta, { pasta, slirp, ip, nsenter, staging }: Tools, ports: readonly number[]): Promise<Record<string, string>> {
  if (meta.network !== 'open') return {}
  const dns = await needsForwardedDns()
  const byPasta = typeof pasta === 'object'
  if (!byPasta && typeof slirp !== 'object') return {}
  const command = byPasta ? [pasta.program, ...pastaArguments(ports), ...(dns ? ['--dns-forward', forwardedDns] : [])] : [typeof slirp === 'object' ? slirp.program : '', ...slirpArguments]
  const text = (words: readonly string[]) => words.map(quoted).join(' ')
  const inLayout = `${text([nsenter])} --mount="/proc/$bwrap/ns/mnt" -- `
  return {
    'network.sh': `exec ${meta.user === null || typeof staging !== 'object' ? text(command) : inLayout + text(asUser(staging, meta.user, command))} "$init"${byPasta ? '' : ` ${slirpDevice}`}\n`,
    ...(cloudMetadata || typeof ip !== 'object'
      ? {}
      : {
          // Root has its rights over every user's namespaces, and would leave them behind in one in which it is nobody.
          'ip.sh': `exec ${text([nsenter])} --net="/proc/$init/ns/net"${meta.user === null ? ' --user="/proc/$init/ns/user" --preserve-credentials' : ''} -- ${text([ip.program])} -force -batch -\n`,
          'unreachable.4': unreachable(metadataAddresses.IPv4),
          'unreachable.6': unreachable(metadataAddresses.IPv6),
        }),
    ports: ports.map((port) => `${port.toString(16).toUpperCase().padStart(4, '0')}\n`).join(''),
    ...(dns ? { 'resolv.conf': `nameserver ${byPasta ? forwardedDns : slirpDns}\n` } : {}),
  }
}

function stagingOf(tools: Tools | undefined): Staging | undefined {
  return typeof tools?.staging === 'object' ? tools.staging : undefined
}

/**
 * Starts the process that holds the sandbox, and returns when the sandbox is up. When the signal aborts, the holder goes on.
 * @throws Error with what bubblewrap said.
 */
export async function startHolder(
  state: LocalState,
  config: LocalProviderConfig,
  meta: SandboxMeta,
  tools: Tools | undefined,
  signal: AbortSignal,
): Promise<void> {
  const folder = state.folder(meta.id)
  const command = tools === undefined ? [] : await sandboxCommand(folder, config, meta, tools)
  signal.throwIfAborted()
  const mode = meta.isolation === 'none' ? 'plain' : 'bubblewrap'
  const delegation = delegationOf(meta, tools)
  const plain = ['/bin/sh', join(folder, 'holder.sh'), folder, mode, meta.id, ...command]
  const [file = '', ...args] = delegation === undefined ? plain : scopeCommand(delegation.by, delegation.slice, plain)
  const holder = spawn(file, args, {
    cwd: '/',
    env: { PATH: systemPath, ...delegation?.by.environment },
    detached: true,
    stdio: withoutInherited(['ignore', 'pipe', 'pipe']),
  })
  let said = ''
  try {
    await new Promise<void>((up, failed) => {
      holder.stderr?.on('data', (chunk: Buffer) => (said = (said + chunk.toString()).slice(-2_000)))
      holder.stdout?.once('data', () => up())
      holder.once('error', failed)
      holder.once('close', () => failed(new Error(said.trim() === '' ? 'the sandbox ended at its start' : said.trim())))
      signal.addEventListener('abort', () => failed(new Error('the start was given up')), { once: true })
    })
  } finally {
    holder.stdout?.destroy()
    holder.stderr?.destroy()
    holder.unref()
  }
}

/** How what runs in a sandbox is started, where its limits are its slice's. @throws Error when its manager does not answer any more. */
export function delegationOf({ slice }: SandboxMeta, tools: Tools | undefined): { readonly slice: string; readonly by: Delegation } | undefined {
  if (slice === null) return undefined
  if (typeof tools?.delegation !== 'object') throw new Error(`its limits are those of ${slice}, and ${tools?.delegation ?? 'there is no systemd'}`)
  return { slice, by: tools.delegation }
}

async function sandboxCommand(folder: string, config: LocalProviderConfig, meta: SandboxMeta, tools: Tools): Promise<string[]> {
  const staging = meta.user === null ? undefined : stagingOf(tools)
  const layout = layOut(staging)
  const command = [
    tools.bwrap,
    ...(await sandboxArguments(folder, {
      network: meta.network === 'shared' ? 'shared' : 'own',
      readOnlyPaths: config.readOnlyPaths,
      resolver: meta.network === 'open' && (await needsForwardedDns()) ? join(folder, 'resolv.conf') : undefined,
      init: [String(meta.watchedMemoryKiB), String(await pageKiB())],
      at: layout.at,
    })),
  ]
  if (staging === undefined || meta.user === null) return command
  await writeFile(join(folder, 'sources'), layout.sources.map((source) => `${source}\n`).join(''), { mode: 0o600 })
  return stagedCommand(staging, meta.user, join(folder, 'sources'), command)
}

let pageSizeKiB: Promise<number> | undefined
function pageKiB(): Promise<number> {
  pageSizeKiB ??= promisify(execFile)('getconf', ['PAGESIZE']).then(({ stdout }) => Number(stdout) / 1024, () => 4)
  return pageSizeKiB
}
