import { readFile } from 'node:fs/promises'
import { unlessShort } from './shortage.js'

/**
 * The network of sandboxes that may use one. With pasta it is a namespace of their own, in which pasta carries connections to the outside
 * and this machine's loopback is not: of that, only named TCP ports are at 127.0.0.1. The job holds no capability over the namespace,
 * so it can't change any of this.
 *
 * slirp4netns is the second choice: it does the same, but brings no port of this machine's loopback in. Sandboxes that are to have some then
 * share this machine's network, as where there is neither.
 */

/** Answers name lookups where the host's own server listens on its loopback; no other host has a link-local address of this machine's. */
export const forwardedDns = '169.254.1.53'

/**
 * Where clouds give a machine's own programs the keys of its account, and what it was started with (AWS, also for its containers, Google Cloud, Azure, Oracle,
 * IBM, DigitalOcean, Hetzner; Alibaba; Scaleway; Tencent; Azure's host). A job of this machine's is none of them.
 */
export const metadataAddresses = {
  IPv4: ['169.254.169.254', '169.254.170.2', '169.254.170.23', '100.100.100.200', '169.254.42.42', '169.254.0.23', '168.63.129.16'],
  IPv6: ['fd00:ec2::254', 'fd00:ec2::23', 'fd20:ce::254', 'fd00:42::42'],
} as const

/** What `ip -batch` reads to have no way there: whoever connects is told so at once. */
export function unreachable(addresses: readonly string[]): string {
  return addresses.map((address) => `route add unreachable ${address}\n`).join('')
}

/** The name server that slirp4netns has for its sandboxes, which asks the host's. */
export const slirpDns = '10.0.2.3'

/** The arguments before the number of the process whose network it is, after which comes `slirpDevice`. */
export const slirpArguments: readonly string[] = ['--configure', '--mtu=65520', '--disable-host-loopback', '--enable-sandbox', '--enable-seccomp']
export const slirpDevice = 'tap0'

/** @param loopbackPorts the TCP ports of this machine's loopback that the sandbox reaches at its own. */
export function pastaArguments(loopbackPorts: readonly number[]): string[] {
  const inward = loopbackPorts.length === 0 ? 'none' : [...new Set(loopbackPorts)].join(',')
  return ['--foreground', '--quiet', '--config-net', '--no-map-gw', '-t', 'none', '-u', 'none', '-T', inward, '-U', 'none']
}

/**
 * The ports of those git hosts that are on this machine's loopback.
 * @param gitHosts as `SandboxRequest.gitHosts`: with their port where it is not 443. None for a caller without types that names none.
 */
export function loopbackPortsOf(gitHosts: readonly string[] = []): number[] {
  return gitHosts.flatMap((host) => {
    const match = /^(localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::(\d+))?$/.exec(host)
    return match === null ? [] : [Number(match[2] ?? 443)]
  })
}

/** Whether this machine asks name servers that a sandbox can't: on its own loopback, such as systemd's, or where its cloud has both them and its metadata. */
export async function needsForwardedDns(file = '/etc/resolv.conf'): Promise<boolean> {
  const servers = [...(await readFile(file, 'utf8').catch(unlessShort(''))).matchAll(/^\s*nameserver\s+(\S+)/gm)].map((match) => match[1] ?? '')
  const cut = [...metadataAddresses.IPv4, ...metadataAddresses.IPv6] as readonly string[]
  return servers.length > 0 && servers.every((server) => server === '::1' || server.startsWith('127.') || cut.includes(server))
}
