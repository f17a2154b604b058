import type { SandboxWish } from '../provider.js'
import { overMaximum } from '../refusal.js'
import type { LocalProviderConfig } from './config.js'

/**
 * What this machine can't give a sandbox.
 * @param isolated whether sandboxes have namespaces of their own.
 * @returns a sentence that names the field and the mend; undefined when it can be had.
 */
export function wishProblem(config: LocalProviderConfig, wish: SandboxWish, isolated: boolean): string | undefined {
  const { memoryMiB, diskMiB } = wish.resources
  if (wish.image !== undefined) return 'image: sandboxes on this machine have its own system; leave image out or use another provider'
  if (wish.network !== 'open' && wish.network !== 'none') {
    return 'network: only "open" and "none" can be had on this machine; use another provider for "git-only" or a list of hosts'
  }
  if (wish.network === 'none' && !isolated) return 'network: "none" needs bubblewrap; install it, or use "open"'
  if (diskMiB !== undefined && !isolated) return 'resources.diskMiB: needs bubblewrap; install it, or leave it out'
  if (memoryMiB !== undefined && !isolated) return 'resources.memoryMiB: needs bubblewrap; install it, or leave it out'
  const tooMuch = overMaximum(wish.resources, config, 'a sandbox of this provider')
  return tooMuch === undefined ? undefined : `${tooMuch}; ask for less, or raise this provider's maximum`
}
