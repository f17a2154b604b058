import { isIP } from 'node:net'
import { InfrastructureError } from '../../job/errors.js'
import { letThrough, withoutPort, type LetThrough } from '../let-through.js'
import type { SandboxRequest } from '../provider.js'

/** The part of Modal's create parameters that says what a sandbox may reach. */
export interface ModalNetworkParams {
  readonly blockNetwork?: true
  readonly outboundCidrAllowlist?: string[]
  readonly outboundDomainAllowlist?: string[]
}

/**
 * Translates a job's network policy. Modal takes domain names (also `*.example.com`) and CIDR ranges apart, and no ports. An address
 * is let through on every port; a name only by the name that TLS on port 443 asks for, and by nothing else. A list lets the git
 * host through besides.
 * @throws InfrastructureError `invalid` for an entry that is neither, for a name on another port or over plain HTTP, and for
 * `git-only` without a git host.
 */
export function modalNetwork(source: string, request: Pick<SandboxRequest, 'network' | 'gitHosts'>): ModalNetworkParams {
  const { network, gitHosts } = request
  if (network === 'open') return {}
  if (network === 'none') return { blockNetwork: true }
  if (network === 'git-only' && gitHosts.length === 0) {
    throw invalid(source, 'network "git-only" needs a git host and none is configured; configure git, or use "none"')
  }
  const entries = letThrough(network, gitHosts).map((entry) => sortEntry(source, entry))
  const cidrs = entries.flatMap((entry) => entry.cidr ?? [])
  const domains = entries.flatMap((entry) => entry.domain ?? [])
  // An empty list of both still is an allow list: it lets nothing through.
  return { outboundCidrAllowlist: [...new Set(cidrs)], outboundDomainAllowlist: [...new Set(domains)] }
}

const domainPattern = /^(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/i

function sortEntry(source: string, entry: LetThrough): { cidr?: string; domain?: string } {
  const { host, port } = entry.port === undefined ? withoutPort(entry.host) : entry
  const [address = '', prefix, ...rest] = host.split('/')
  const version = isIP(address)
  if (version !== 0 && rest.length === 0) {
    const bits = version === 4 ? 32 : 128
    if (prefix === undefined) return { cidr: `${address}/${bits}` }
    if (/^\d{1,3}$/.test(prefix) && Number(prefix) <= bits) return { cidr: host }
  }
  if (version === 0 && domainPattern.test(host) && !/^[\d.]+$/.test(host)) {
    if (port === undefined || port === '443') return { domain: host.toLowerCase() }
    throw invalid(source, `network: Modal lets names through by TLS on port 443 only, and "${host}:${port}" is elsewhere; use the network "open", another provider, or the host's address`)
  }
  throw invalid(source, `network "${host}" is not a host name, an address or a CIDR range; write "example.com", "*.example.com" or "10.0.0.0/8"`)
}

function invalid(source: string, problem: string): InfrastructureError {
  return new InfrastructureError({ kind: 'invalid', source, message: `${source}: ${problem}` })
}
