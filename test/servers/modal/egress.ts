/**
 * What a Modal sandbox may reach and which headers are added outside of it, as the shared egress proxy enforces them.
 * Modal replaces headers in HTTPS only; the proxy shows it on plain HTTP, which it can read.
 */
import { z } from 'zod'
import type { EgressProxy } from '../e2b/egress-proxy.js'
import type { ModalSandbox } from './world.js'

type Network = NonNullable<ReturnType<ConstructorParameters<typeof EgressProxy>[0]>>

const definitionSchema = z.object({
  networkAccess: z.object({ networkAccessType: z.number(), allowedCidrs: z.array(z.string()), allowedDomains: z.array(z.string()) }).optional(),
})
const policySchema = z.object({ headerReplacements: z.array(z.object({ domain: z.string(), headers: z.record(z.string(), z.string()) })) }).optional()

/** `NetworkAccessType.ALLOWLIST` on the wire. */
const allowList = 3

export function egressOf(sandbox: ModalSandbox): Network {
  const { networkAccess } = definitionSchema.parse(sandbox.definition)
  const policy = policySchema.parse(sandbox.outboundPolicy)
  return {
    ...(networkAccess?.networkAccessType === allowList ? { allowOut: [...networkAccess.allowedCidrs, ...networkAccess.allowedDomains], denyOut: ['0.0.0.0/0'], namesByTlsOnly: true } : {}),
    ...(policy === undefined ? {} : { rules: Object.fromEntries(policy.headerReplacements.map(({ domain, headers }) => [domain, [{ transform: { headers: filledIn(headers) } }]])) }),
  }
}

/** `$$` stands for the sign itself; there are no secrets here for `$KEY`. */
function filledIn(headers: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, template]) => [name, template.replaceAll('$$', '$')]))
}
