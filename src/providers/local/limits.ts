import { mkdir, readdir, readFile, rmdir, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { isShortage, unlessShort } from './shortage.js'
import { limitSlice, sliceOf, type Delegation, type LimitRequest } from './delegation.js'

/** What enforces a sandbox's limits. */
export interface Limits {
  /** Folders of the sandbox's cgroups, one in each hierarchy; empty where this user may make none. */
  readonly cgroups: readonly string[]
  /** Its slice of this user's systemd; null where a cgroup does, or there is none. */
  readonly slice: string | null
  /** The CPUs for taskset, such as "0,1"; null where a cgroup limits the CPU or nothing does. */
  readonly cpus: string | null
  /** The limit that init.sh watches; 0 where a cgroup does or nothing does. */
  readonly watchedMemoryKiB: number
}

/**
 * Makes cgroups for a sandbox where that is possible, and says what is left to the other means.
 * @param seed a text that spreads sandboxes over the CPUs.
 * @param root where the cgroup file systems are mounted; undefined to leave them alone.
 * @param delegation what limits where no cgroup can be made; undefined where it does not.
 */
export async function makeLimits(
  provider: string,
  seed: string,
  request: LimitRequest,
  cpuCount: number,
  root: string | undefined,
  delegation?: Delegation,
): Promise<Limits> {
  const cgroups = root === undefined ? [] : await makeCgroups(root, join('switchyard', provider, seed), request)
  if (cgroups.length > 0) return { cgroups, slice: null, cpus: null, watchedMemoryKiB: 0 }
  if (delegation !== undefined) {
    const slice = sliceOf(provider, seed)
    await limitSlice(delegation, slice, request)
    return { cgroups: [], slice, cpus: null, watchedMemoryKiB: 0 }
  }
  return { cgroups: [], slice: null, cpus: chooseCpus(seed, request.cpu, cpuCount), watchedMemoryKiB: (request.memoryMiB ?? 0) * 1024 }
}

/** @returns whole CPUs, as many as asked for rounded up, beginning somewhere that the seed says; null when that is all. */
export function chooseCpus(seed: string, cpu: number | undefined, cpuCount: number): string | null {
  const count = Math.ceil(cpu ?? cpuCount)
  if (count >= cpuCount) return null
  const first = Buffer.from(seed).reduce((sum, byte) => (sum * 31 + byte) % 65_521, 7)
  return Array.from({ length: count }, (_, index) => (first + index) % cpuCount).sort((a, b) => a - b).join(',')
}

/** Whether this user may make cgroups with limits, found out by making one. */
export async function canLimit(root = '/sys/fs/cgroup'): Promise<boolean> {
  const cgroups = await makeCgroups(root, join('switchyard', `probe-${process.pid}`, 'probe'), { cpu: 1, memoryMiB: 64, maxProcesses: 16 })
  await removeCgroups(cgroups, AbortSignal.timeout(unusedMs))
  return cgroups.length > 0
}

/** How long a cgroup that no process was in may take to go. */
const unusedMs = 5_000

/** A hierarchy, and the files of a sandbox's folder in it. */
interface Hierarchy {
  readonly folder: string
  readonly files: Readonly<Record<string, string>>
}

const cpuPeriodUs = 100_000

async function makeCgroups(root: string, path: string, request: LimitRequest): Promise<string[]> {
  const made: string[] = []
  try {
    for (const { folder, files } of await hierarchies(root, request)) {
      const cgroup = join(folder, path)
      await makeFolders(folder, path)
      made.push(cgroup)
      for (const [name, value] of Object.entries(files)) await writeFile(join(cgroup, name), value, { flag: 'r+' })
    }
    return made
  } catch (error) {
    await removeCgroups(made, AbortSignal.timeout(unusedMs))
    // Where there is nothing left to make them with, the next try may: without them the sandbox would have no such limits for its whole life.
    if (isShortage(error)) throw error
    // An ordinary user, a container or a hierarchy without these controllers: the other means take over.
    return []
  }
}

async function hierarchies(root: string, request: LimitRequest): Promise<Hierarchy[]> {
  const bytes = request.memoryMiB === undefined ? undefined : request.memoryMiB * 1024 * 1024
  const quotaUs = request.cpu === undefined ? undefined : Math.round(request.cpu * cpuPeriodUs)
  // The first process and those that lead commands in.
  const processes = String(request.maxProcesses + 16)
  const unified = await readFile(join(root, 'cgroup.controllers'), 'utf8').catch(unlessShort(undefined))
  if (unified !== undefined) {
    return [
      {
        folder: root,
        files: {
          'pids.max': processes,
          ...(bytes === undefined ? {} : { 'memory.max': String(bytes) }),
          ...(quotaUs === undefined ? {} : { 'cpu.max': `${quotaUs} ${cpuPeriodUs}` }),
        },
      },
    ]
  }
  return [
    { folder: join(root, 'pids'), files: { 'pids.max': processes } },
    ...(bytes === undefined ? [] : [{ folder: join(root, 'memory'), files: { 'memory.limit_in_bytes': String(bytes) } }]),
    ...(quotaUs === undefined ? [] : [{ folder: join(root, 'cpu'), files: { 'cpu.cfs_quota_us': String(quotaUs) } }]),
  ]
}

/**
 * Removes the provider's cgroups without processes, as a killed holder leaves them when its state folder is removed too. A young
 * one may be of a sandbox that is about to start.
 */
export async function removeStaleCgroups(provider: string, root = '/sys/fs/cgroup', nowMs = Date.now()): Promise<void> {
  for (const hierarchy of ['', 'pids', 'memory', 'cpu']) {
    const folder = join(root, hierarchy, 'switchyard', provider)
    for (const name of await readdir(folder).catch(() => [])) {
      const made = await stat(join(folder, name)).catch(() => undefined)
      // Fails for its own files, which are no folders, and for a cgroup in use: both stay.
      if (made !== undefined && made.mtimeMs < nowMs - 120_000) await rmdir(join(folder, name)).catch(() => undefined)
    }
    for (const parent of [folder, dirname(folder)]) await rmdir(parent).catch(() => undefined)
  }
}

/** In the unified hierarchy each folder on the way must hand its controllers down. */
async function makeFolders(root: string, path: string): Promise<void> {
  const unified = await readFile(join(root, 'cgroup.subtree_control'), 'utf8').then(() => true, unlessShort(false))
  let folder = root
  for (const part of path.split('/')) {
    if (unified) await writeFile(join(folder, 'cgroup.subtree_control'), '+memory +cpu +pids', { flag: 'r+' })
    folder = join(folder, part)
    await mkdir(folder).catch((error: unknown) => {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    })
  }
}

/**
 * Removes a sandbox's cgroups, and the provider's when they were the last. Its processes must be gone, or be ending: on a busy machine a killed one stays in
 * its cgroup for seconds, where the kernel lists it no more.
 * @throws Error where one can't be removed, or is still in use when the signal is aborted.
 */
export async function removeCgroups(cgroups: readonly string[], signal: AbortSignal): Promise<void> {
  for (const cgroup of cgroups) {
    for (let pauseMs = 5; ; pauseMs = Math.min(100, pauseMs * 2)) {
      const code = await rmdir(cgroup).then(() => undefined, (error: unknown) => (error as NodeJS.ErrnoException).code)
      if (code === undefined || code === 'ENOENT') break
      if (code !== 'EBUSY' || signal.aborted) throw new Error(`the cgroup ${cgroup} can't be removed: ${code}`)
      await sleep(pauseMs)
    }
    for (const parent of [dirname(cgroup), dirname(dirname(cgroup))]) {
      // Others' sandboxes are in there: then they remove it.
      await rmdir(parent).catch(() => undefined)
    }
  }
}
