import { isIPv4 } from 'node:net'
import type { SandboxInfo, SandboxNetworkOpts, SandboxNetworkUpdate } from 'e2b'
import { InfrastructureError } from '../../job/errors.js'
import type { NetworkPolicy } from '../../job/spec.js'
import { letThrough } from '../let-through.js'

/** E2B's word for everything. Hosts that are let out need it denied, and win over it. */
const allTraffic = '0.0.0.0/0'

/** E2B serves every port that a job opens to everybody unless told otherwise; its own calls of the sandbox go another way. */
const closed = { allowPublicTraffic: false } as const

export interface Egress {
  readonly allowInternetAccess?: boolean
  readonly network: Pick<SandboxNetworkOpts, 'allowOut' | 'denyOut' | 'allowPublicTraffic'>
}

/**
 * A network policy in E2B's words. E2B filters host names on ports 80 and 443 and addresses on every port, so hosts are
 * given without a port. A list lets the git host through besides. Whatever the policy, nobody reaches the job's ports from outside.
 * @throws InfrastructureError `invalid` when `git-only` has no git host, or a host is none that E2B takes.
 */
export function egressFor(source: string, policy: NetworkPolicy, gitHosts: readonly string[]): Egress {
  if (policy === 'open') return { network: closed }
  if (policy === 'none') return { allowInternetAccess: false, network: closed }
  if ((policy === 'git-only' ? gitHosts : policy).length === 0) {
    const mend = policy === 'git-only' ? 'the git host gave no host names, so "git-only" would cut the job off from its repository' : 'name at least one host, or use "none"'
    throw new InfrastructureError({ kind: 'invalid', source, message: `${source}: network: the list of hosts is empty; ${mend}` })
  }
  const hosts = letThrough(policy, gitHosts)
  for (const { host, port } of hosts) {
    if (port !== undefined && !isIPv4(host) && port !== '443' && port !== '80') {
      throw new InfrastructureError({
        kind: 'invalid',
        source,
        message: `${source}: network: E2B lets names through on ports 80 and 443 only, and the git host is "${host}:${port}"; use the network "open", another provider, or the git host's address`,
      })
    }
    if (!/^(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(\/\d{1,2})?$/.test(host)) {
      throw new InfrastructureError({
        kind: 'invalid',
        source,
        message: `${source}: network: "${host}" is no host that E2B can filter; give a name such as "example.com" or "*.example.com", an IPv4 address or a CIDR block`,
      })
    }
  }
  return { network: { ...closed, allowOut: hosts.map(({ host }) => host), denyOut: [allTraffic] } }
}

/** By host name, then by header name. */
export type InjectedHeaders = Readonly<Record<string, Readonly<Record<string, string>>>>

/**
 * What a sandbox may reach now, with these headers added outside of it. A rule lets nothing through by itself, so a host that
 * is denied stays denied.
 */
export function egressWithHeaders(current: Pick<SandboxInfo, 'network' | 'allowInternetAccess'>, headers: InjectedHeaders): SandboxNetworkUpdate {
  const { allowOut, denyOut } = current.network ?? {}
  return {
    ...(allowOut === undefined ? {} : { allowOut }),
    ...(denyOut === undefined ? {} : { denyOut }),
    ...(current.allowInternetAccess === false ? { allowInternetAccess: false } : {}),
    rules: Object.fromEntries(Object.entries(headers).map(([host, byName]) => [host.toLowerCase(), [{ transform: { headers: { ...byName } } }]])),
  }
}
