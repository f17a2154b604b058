import { isIP } from 'node:net'
import { InfrastructureError } from '../../job/errors.js'
import { letThrough } from '../let-through.js'
import type { SandboxRequest } from '../provider.js'

/** The part of Modal's create parameters that says what a sandbox may reach. */
export interface ModalNetworkParams {
  readonly blockNetwork?: true
  readonly outboundCidrAllowlist?: string[]
  readonly outboundDomainAllowlist?: string[]
}

/**
 * Translates a job's network policy. Modal takes domain names (also `*.example.com`) and CIDR ranges apart, and no
 * ports: what is allowed is allowed on every port. A list lets the git host through besides.
 * @throws InfrastructureError `invalid` for an entry that is neither, and for `git-only` without a git host.
 */
export function modalNetwork(source: string, request: Pick<SandboxRequest, 'network' | 'gitHosts'>): ModalNetworkParams {
  const { network, gitHosts } = request
  if (network === 'open') return {}
  if (network === 'none') return { blockNetwork: true }
  if (network === 'git-only' && gitHosts.length === 0) {
    throw invalid(source, 'network "git-only" needs a git host and none is configured; configure git, or use "none"')
  }
  const entries = letThrough(network, gitHosts).map(({ host }) => sortEntry(source, host))
  const cidrs = entries.flatMap((entry) => entry.cidr ?? [])
  const domains = entries.flatMap((entry) => entry.domain ?? [])
  // An empty list of both still is an allow list: it lets nothing through.
  return { outboundCidrAllowlist: [...new Set(cidrs)], outboundDomainAllowlist: [...new Set(domains)] }
}

const domainPattern = /^(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/i

function sortEntry(source: string, entry: string): { cidr?: string; domain?: string } {
  const host = withoutPort(entry)
  const [address = '', prefix, ...rest] = host.split('/')
  const version = isIP(address)
  if (version !== 0 && rest.length === 0) {
    const bits = version === 4 ? 32 : 128
    if (prefix === undefined) return { cidr: `${address}/${bits}` }
    if (/^\d{1,3}$/.test(prefix) && Number(prefix) <= bits) return { cidr: host }
  }
  if (version === 0 && domainPattern.test(host) && !/^[\d.]+$/.test(host)) return { domain: host.toLowerCase() }
  throw invalid(source, `network "${entry}" is not a host name, an address or a CIDR range; write "example.com", "*.example.com" or "10.0.0.0/8"`)
}

/** Git hosts come with a port where they have one; Modal's lists hold none. */
function withoutPort(entry: string): string {
  const bracketed = /^\[([0-9a-f:.]+)\](:\d+)?$/i.exec(entry)
  if (bracketed?.[1] !== undefined) return bracketed[1]
  return isIP(entry.split('/')[0] ?? '') === 6 ? entry : entry.replace(/:\d+$/, '')
}

function invalid(source: string, problem: string): InfrastructureError {
  return new InfrastructureError({ kind: 'invalid', source, message: `${source}: ${problem}` })
}
