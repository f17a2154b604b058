import { execFile, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { SandboxRequest } from '../provider.js'
import { accountFiles, sandboxCommand, systemPath, type Tools } from './bubblewrap.js'
import type { LocalProviderConfig } from './config.js'
import { withoutInherited } from './inherited-descriptors.js'
import { makeLimits } from './limits.js'
import { identify } from './process-identity.js'
import { scripts } from './scripts.js'
import type { LocalState, SandboxMeta } from './state.js'

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
      ? { cgroups: [], cpus: null, watchedMemoryKiB: 0 }
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
        )
  const createdAtMs = Date.now()
  const meta: SandboxMeta = {
    id,
    name: request.name,
    tags: { ...request.tags },
    createdAtMs,
    isolation: tools === undefined ? 'none' : 'bubblewrap',
    network,
    cpus: limits.cpus,
    cgroups: [...limits.cgroups],
    watchedMemoryKiB: limits.watchedMemoryKiB,
    maxProcesses: config.maxProcesses,
    maxFileMiB: config.maxFileMiB ?? null,
    creator: (await identify(process.pid)) ?? { pid: process.pid, startTime: '' },
  }
  await state.add(meta, {
    ...accountFiles,
    // Its own copies: they stay when the package is replaced, and are short in the process list.
    'holder.sh': scripts.holder,
    'init.sh': scripts.init,
    'kill-marked.sh': scripts.killMarked,
    cgroups: limits.cgroups.map((cgroup) => `${cgroup}\n`).join(''),
    deadline: `${Math.ceil((createdAtMs + request.lifetimeMs) / 1000)}\n`,
  })
  return meta
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
  const command =
    tools === undefined
      ? []
      : await sandboxCommand(tools, folder, {
          network: meta.network,
          readOnlyPaths: config.readOnlyPaths,
          init: [String(meta.watchedMemoryKiB), String(meta.maxProcesses), String(await pageKiB())],
        })
  signal.throwIfAborted()
  const mode = meta.isolation === 'none' ? 'plain' : 'bubblewrap'
  const holder = spawn('/bin/sh', [join(folder, 'holder.sh'), folder, mode, meta.id, ...command], {
    cwd: '/',
    env: { PATH: systemPath },
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

let pageSizeKiB: Promise<number> | undefined
function pageKiB(): Promise<number> {
  pageSizeKiB ??= promisify(execFile)('getconf', ['PAGESIZE']).then(({ stdout }) => Number(stdout) / 1024, () => 4)
  return pageSizeKiB
}
