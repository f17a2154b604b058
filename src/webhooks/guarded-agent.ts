import { lookup as systemLookup, type LookupAddress } from 'node:dns'
import type { LookupFunction } from 'node:net'
import { Agent, buildConnector } from 'undici'
import { SwitchyardError } from '../job/errors.js'
import { type AllowedAddress, literalAddress } from './addresses.js'

/** All addresses of a host name. */
export type ResolveHost = (hostname: string) => Promise<readonly LookupAddress[]>

/** Finds addresses as every program on this machine does. */
export const resolveBySystem: ResolveHost = (hostname) =>
  new Promise((resolve, reject) => {
    systemLookup(hostname, { all: true }, (error, addresses) => {
      if (error === null) resolve(addresses)
      else reject(error)
    })
  })

/** The address of a receiver is none that may be called. */
export class AddressRefusedError extends SwitchyardError {
  override readonly code = 'SWY_WEBHOOK_FAILED'
}

/**
 * Connections to allowed addresses only. What was looked at is what is dialled: a name is resolved once for each connection, and refused
 * if any of its addresses is; a URL that holds an address itself, for which Node asks no resolver, is looked at before.
 * @param connectTimeoutMs how long a connection may take, TLS included.
 */
export function guardedAgent(allowed: AllowedAddress, resolve: ResolveHost, connectTimeoutMs: number): Agent {
  const lookup: LookupFunction = (hostname, options, callback) => {
    void resolve(hostname).then(
      (addresses) => {
        const refused = addresses.find(({ address }) => !allowed(address))
        const [first] = addresses
        if (refused !== undefined) callback(refusal(`${hostname} (${refused.address})`), [])
        else if (first === undefined) callback(new SwitchyardError(`${hostname} has no address; check the webhook's URL`), [])
        else if (options.all === true) callback(null, [...addresses])
        else callback(null, first.address, first.family)
      },
      (error: unknown) => callback(error instanceof Error ? error : new Error(String(error)), []),
    )
  }
  const connect = buildConnector({ lookup, timeout: connectTimeoutMs })
  return new Agent({
    connect: (options, callback) => {
      const literal = literalAddress(options.hostname)
      if (literal !== null && !allowed(literal)) {
        callback(refusal(literal), null)
        return
      }
      connect(options, callback)
    },
    connections: 16,
    pipelining: 1,
    keepAliveTimeout: 4_000,
    maxHeaderSize: 16_384,
  })
}

function refusal(what: string): AddressRefusedError {
  return new AddressRefusedError(`${what} is no public address; if it is to be called, name its network in webhooks.allowNetworks`)
}
