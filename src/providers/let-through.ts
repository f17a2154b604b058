import { isIPv6 } from 'node:net'
import type { NetworkPolicy } from '../job/spec.js'

/** A host that a job may reach, and whether it is one of its git host's. */
export interface LetThrough {
  /** As it was written: a job's own entry, or a git host's name without its port. */
  readonly host: string
  /** The git host's port, where it has one of its own; that of plain HTTP is one. */
  readonly port: string | undefined
}

/**
 * The hosts that `git-only` or a list lets through. A list's job reaches its git host besides: without it there is nothing to
 * work on.
 */
export function letThrough(policy: Exclude<NetworkPolicy, 'open' | 'none'>, gitHosts: readonly string[]): LetThrough[] {
  const git = gitHosts.map(withoutPort)
  if (policy === 'git-only') return git
  return [...policy.map((host) => ({ host, port: undefined })), ...git.filter(({ host, port }) => port !== undefined || !policy.includes(host))]
}

/** Takes the port off a host's name or address. */
export function withoutPort(entry: string): LetThrough {
  // An address of version 6 without brackets ends in digits after a colon as well.
  if (isIPv6(entry.split('/')[0] ?? '')) return { host: entry, port: undefined }
  const [, host = entry, port] = /^(.*[^:]|\[.*\]):(\d+)$/.exec(entry) ?? []
  return { host: host.replace(/^\[(.*)\]$/, '$1'), port }
}
