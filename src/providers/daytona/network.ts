import { isIPv4, isIPv6 } from 'node:net'
import { InfrastructureError } from '../../job/errors.js'
import { letThrough } from '../let-through.js'
import type { SandboxRequest } from '../provider.js'
import type { DaytonaProviderConfig } from './config.js'

/** The part of Daytona's create parameters that says what a sandbox may reach. */
export interface DaytonaNetwork {
  networkBlockAll?: boolean
  /** IPv4 ranges, comma-separated. */
  networkAllowList?: string
  /** Domain names, comma-separated. */
  domainAllowList?: string
}

/** As many names, and as many ranges, as one sandbox may be let through to. */
const longestList = 10

/** Daytona's own rule: labels of at most 63, and a last one of letters. */
const domainPattern = /^(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,}$/i

/**
 * A network policy in Daytona's words, by Daytona's own rules, so that what it would refuse is known before a create. There are
 * no ports: what is let through is so on every port.
 * @throws InfrastructureError `invalid` for what Daytona can't let through.
 */
export function daytonaNetwork(config: Pick<DaytonaProviderConfig, 'name' | 'enforcesNames'>, request: Pick<SandboxRequest, 'network' | 'gitHosts'>): DaytonaNetwork {
  const { network, gitHosts } = request
  const source = config.name
  if (network === 'open') return {}
  if (network === 'none') return { networkBlockAll: true }
  const what = network === 'git-only' ? 'network: git-only' : 'network'
  const invalid = (problem: string) => new InfrastructureError({ kind: 'invalid', source, message: `${source}: ${what}${problem}` })
  if ((network === 'git-only' ? gitHosts : network).length === 0) throw invalid(' names no host to let through; give the git host\'s name, or use network: none')
  const ranges = new Set<string>()
  const domains = new Set<string>()
  for (const { host } of letThrough(network, gitHosts)) {
    if (isIPv4(host)) ranges.add(`${host}/32`)
    else if (isRange(host)) ranges.add(host)
    else if (domainPattern.test(host)) domains.add(host.toLowerCase())
    else {
      const problem = isIPv6(host.replace(/^\[|\]$|\/\d+$/g, '')) ? 'is an IPv6 address' : 'is no IPv4 address, IPv4 range or domain name'
      throw invalid(`: "${host}" ${problem}, and Daytona can let through nothing else; name a domain or an IPv4 range`)
    }
  }
  if (domains.size > longestList) throw invalid(` has ${domains.size} names with the git host's, and Daytona lets at most ${longestList} through; name fewer, or a pattern such as "*.example.com"`)
  if (ranges.size > longestList) throw invalid(` has ${ranges.size} addresses and ranges with the git host's, and Daytona lets at most ${longestList} through; name fewer, or a wider range`)
  if (domains.size > 0 && config.enforcesNames === false) {
    throw invalid(`: "${[...domains].join('", "')}" can't be let through by name, since enforcesNames is false for this provider; name addresses or ranges, or allow another provider`)
  }
  return { ...(ranges.size === 0 ? {} : { networkAllowList: [...ranges].join(',') }), ...(domains.size === 0 ? {} : { domainAllowList: [...domains].join(',') }) }
}

function isRange(text: string): boolean {
  const [address = '', bits = '', ...rest] = text.split('/')
  return rest.length === 0 && isIPv4(address) && /^\d{1,2}$/.test(bits) && Number(bits) <= 32
}
