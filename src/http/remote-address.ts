import { isIP } from 'node:net'
import ipaddr from 'ipaddr.js'
import { InvalidInputError } from '../job/errors.js'
import { type Address, isWithin, networkProblem, parseNetwork } from '../job/networks.js'

/**
 * Where a request comes from. Behind proxies that is what the nearest one wrote last into `X-Forwarded-For`, as long as the connection is from a proxy
 * that is trusted; whatever stands further left a client may have made up. Pure.
 */
export type RemoteAddress = (peer: string | undefined, forwardedFor: string | undefined) => string

/** More hops than any that there are. */
const mostHops = 20

/**
 * @param trusted networks of proxies, such as `10.0.0.0/8`; a single address stands for itself.
 * @returns the address without its scope, of IPv6 its /64, which is one household's; empty when nobody knows it.
 * @throws InvalidInputError for a network that is none.
 */
export function remoteAddressBehind(trusted: readonly string[]): RemoteAddress {
  const networks = trusted.map((text) => {
    const problem = networkProblem(text)
    if (problem !== undefined) throw new InvalidInputError(`trustedProxies: "${text}" ${problem}`)
    return parseNetwork(text)
  })
  const isTrusted = (address: Address) => networks.some((network) => isWithin(address, network))
  return (peer, forwardedFor) => {
    let at = parsed(peer)
    if (at === undefined) return ''
    const hops = networks.length === 0 ? [] : (forwardedFor ?? '').slice(-2_000).split(',').slice(-mostHops)
    while (isTrusted(at)) {
      const next = parsed(hops.pop()?.trim())
      if (next === undefined) break
      at = next
    }
    return at.kind() === 'ipv6' ? `${(at as ipaddr.IPv6).parts.slice(0, 4).map((part) => part.toString(16)).join(':')}::/64` : at.toString()
  }
}

/** IPv4 within IPv6 is taken as the IPv4 that it is; a port and a scope are left out. */
function parsed(text: string | undefined): Address | undefined {
  const bare = (text ?? '').replace(/^\[([^\]]*)\](:\d+)?$/, '$1').replace(/^(\d+\.\d+\.\d+\.\d+):\d+$/, '$1').replace(/%.*$/, '')
  return isIP(bare) === 0 ? undefined : ipaddr.process(bare)
}
