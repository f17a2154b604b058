import { z } from 'zod'

/** How tenants share the places. Tenants without a share of their own have that of `*`; without that, weight 1 and no cap. */
export interface TenantShare {
  /** Of two busy tenants, one with twice the weight gets twice the sandbox time. */
  readonly weight: number
  /** How many jobs it may have running at once, at most. */
  readonly cap?: number | undefined
}

const sharesSchema = z.record(z.string(), z.object({ weight: z.number(), cap: z.number().optional() }))

/** Shares as the store holds them. */
export function parseShares(json: string): Record<string, TenantShare> {
  return sharesSchema.parse(JSON.parse(json))
}
