import { isIP } from 'node:net'
import ipaddr from 'ipaddr.js'
import { InvalidInputError } from '../job/errors.js'
import { type Address, isWithin, networkProblem, parseNetwork } from '../job/networks.js'

/**
 * Which addresses webhooks may go to: public ones, and those of networks that the configuration names. Whoever may name a URL could else have
 * Switchyard call what only its own network reaches. Pure.
 */
export type AllowedAddress = (address: string) => boolean

/**
 * @param networks such as `10.1.0.0/16` or `fd00::/8`; a single address stands for itself.
 * @throws InvalidInputError for one that is none.
 */
export function addressesAllowed(networks: readonly string[]): AllowedAddress {
  const ranges = networks.map((network) => {
    const problem = networkProblem(network)
    if (problem !== undefined) throw new InvalidInputError(`webhooks.allowNetworks: "${network}" ${problem}`)
    return parseNetwork(network)
  })
  return (address) => {
    if (isIP(address) === 0) return false
    // IPv4 within IPv6 is taken as the IPv4 that it reaches.
    const parsed = ipaddr.process(address)
    if (isPublic(parsed)) return true
    return ranges.some((range) => isWithin(parsed, range))
  }
}

/** Of IPv6 nothing else is given out to the public; beyond it lie overlays' hosts, and IPv4 within IPv6 as nobody writes it any more. */
const publicIpv6 = parseNetwork('2000::/3')
/** Public by its number alone: Azure's machines reach what runs them there. */
const azureHost = parseNetwork('168.63.129.16')

function isPublic(address: Address): boolean {
  if (address.range() !== 'unicast' || isWithin(address, azureHost)) return false
  return address.kind() === 'ipv4' || isWithin(address, publicIpv6)
}

/** The address that a URL's host is, if it is one rather than a name. */
export function literalAddress(hostname: string): string | null {
  const bare = hostname.replace(/^\[|\]$/g, '').replace(/\.$/, '')
  return isIP(bare) === 0 ? null : bare
}
