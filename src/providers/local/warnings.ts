import { lstat, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { InvalidInputError } from '../../job/errors.js'
import type { LocalProviderConfig } from './config.js'
import { canLimit } from './limits.js'
import { canFilter } from './seccomp.js'
import { unlessShort } from './shortage.js'
import type { Tools } from './tools.js'

/**
 * What walls this machine's sandboxes lack, one sentence each with its mend.
 * @param tools what bubblewrap mode runs, or why there is no such mode.
 */
export async function wallWarnings(config: LocalProviderConfig, tools: Tools | string): Promise<string[]> {
  if (typeof tools === 'string') return [`sandboxes share this machine's view, files, network and user, and have no limits; what leaves both its environment and its limits behind survives them: ${tools}`]
  const warnings: string[] = []
  if (typeof tools.staging === 'string') {
    warnings.push(`sandboxes' processes are root's outside of their namespaces: ${tools.staging}; run the consumer as an ordinary user`)
  }
  if (typeof tools.pasta === 'string' && config.network === 'open') {
    const share = "share this machine's own, loopback included, and get no UNIX sockets"
    warnings.push(
      typeof tools.slirp === 'object'
        ? `the network of jobs is slirp4netns's; those that are to reach ports of this machine's loopback (loopbackPorts, a git host there) ${share}: ${tools.pasta}`
        : `jobs with an open network ${share}: ${tools.pasta}; and ${tools.slirp}`,
    )
  }
  if (typeof tools.ip === 'string' && config.network === 'open' && !config.cloudMetadata && (typeof tools.pasta === 'object' || typeof tools.slirp === 'object')) {
    warnings.push(`jobs with an open network reach the addresses at which a cloud gives out the keys of a machine's account: ${tools.ip}`)
  }
  if (config.cgroups && typeof tools.delegation === 'string' && !(await canLimit())) {
    const mend = process.getuid?.() === 0 ? '' : `, or by systemd: ${tools.delegation}`
    warnings.push(`this user can make no cgroups: memory is watched twice a second and processor time is bound to whole CPUs; run the consumer as root, use a provider with machines of its own${mend}`)
  }
  if (!canFilter(process.arch)) warnings.push(`there is no filter of system calls for ${process.arch}: sandboxes can ask the kernel for whatever this user can`)
  if (config.nestedNamespaces) warnings.push('nestedNamespaces is on: jobs reach parts of the kernel that are closed to them otherwise')
  return warnings
}

/** @throws InvalidInputError when a folder that sandboxes may read holds a socket: reading it is no bar to connecting to whatever listens there. */
export async function refuseSockets(readOnlyPaths: readonly string[]): Promise<void> {
  for (const path of readOnlyPaths) {
    const socket = await socketIn(path)
    if (socket !== undefined) throw new InvalidInputError(`readOnlyPaths: ${path} holds the socket ${socket}, to which every job could connect; name the folders that jobs need instead`)
  }
}

/** How many entries of a folder are looked at: enough for tools, and bounded for whoever names a whole disk. */
const mostLooked = 20_000

/** The first socket in a folder, or the path itself when it is one. */
async function socketIn(path: string): Promise<string | undefined> {
  const waiting = [path]
  for (let looked = 0; looked < mostLooked; looked++) {
    const next = waiting.pop()
    if (next === undefined) return undefined
    const stat = await lstat(next).catch(unlessShort(undefined))
    if (stat?.isSocket() === true) return next
    if (stat?.isDirectory() !== true) continue
    const entries = await readdir(next, { withFileTypes: true }).catch(unlessShort([]))
    waiting.push(...entries.filter((entry) => entry.isSocket() || entry.isDirectory()).map((entry) => join(next, entry.name)))
  }
  return undefined
}
