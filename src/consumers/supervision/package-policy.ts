import type { NetworkPolicy } from '../../job/spec.js'
import type { Capabilities } from '../../providers/provider.js'
import type { PackagePolicy } from '../../runner/runner.js'
import type { ConsumerSettings } from '../settings.js'

/**
 * What the runner is to see to before git is used in a sandbox: whether CA certificates are needed, and whether what the image
 * lacks may be installed.
 * @param gitHosts as `GitHost.hosts`.
 */
export function installOptions(
  settings: Pick<ConsumerSettings, 'installGit' | 'installTimeoutMs'>,
  network: NetworkPolicy,
  capabilities: Pick<Capabilities, 'sharedSystem'>,
  gitHosts: readonly string[],
): { readonly certificates: boolean; readonly packages: PackagePolicy } {
  return { certificates: gitHosts.some((host) => !isLoopback(host)), packages: packagePolicy(settings, network, capabilities) }
}

function packagePolicy(settings: Pick<ConsumerSettings, 'installGit' | 'installTimeoutMs'>, network: NetworkPolicy, capabilities: Pick<Capabilities, 'sharedSystem'>): PackagePolicy {
  if (!settings.installGit) return { install: false, because: 'consumer.installGit is false' }
  if (capabilities.sharedSystem === true) return { install: false, because: 'this provider’s sandboxes share the system of their machine; install it there' }
  // A list of hosts may hold the mirrors.
  if (network === 'none' || network === 'git-only') return { install: false, because: `the job’s network, "${network}", reaches no package mirror` }
  return { install: true, timeoutMs: settings.installTimeoutMs }
}

/** Plain HTTP is taken on these alone; see baseUrl in src/git/url.ts. */
function isLoopback(host: string): boolean {
  return /^(127\.0\.0\.1|localhost|\[::1\])(:\d+)?$/.test(host)
}
