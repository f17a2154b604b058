import { isIP } from 'node:net'
import ipaddr from 'ipaddr.js'

/** Networks as configurations name them: `10.1.0.0/16`, `fd00::/8`, or a single address, which stands for itself. Pure. */

export type Address = ipaddr.IPv4 | ipaddr.IPv6
export type Network = readonly [Address, number]

/** Why a text is no network, as a clause; undefined when it is one. */
export function networkProblem(text: string): string | undefined {
  try {
    parseNetwork(text)
    return undefined
  } catch {
    return 'is no network; give one such as "10.1.0.0/16" or "fd00::/8"'
  }
}

/** @throws Error for a text of which `networkProblem` says what is wrong. */
export function parseNetwork(text: string): Network {
  // "10.1" is an address too to those who go by the C library.
  if (isIP(text.split('/')[0] ?? '') === 0) throw new Error('no address')
  if (text.includes('/')) return ipaddr.parseCIDR(text)
  const address = ipaddr.parse(text)
  return [address, address.kind() === 'ipv4' ? 32 : 128]
}

export function isWithin(address: Address, [base, bits]: Network): boolean {
  return address.kind() === base.kind() && address.match([base, bits] as never)
}
