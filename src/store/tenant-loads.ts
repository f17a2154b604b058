import type { Redis } from 'ioredis'
import { z } from 'zod'
import type { Keys } from './keys.js'
import { type OperatorWord, Operators, type TenantShareSet } from './operators.js'

/** How a tenant stands in all queues of a deployment. */
export interface TenantStanding {
  readonly tenant: string
  /** Jobs in consumers' hands. */
  readonly running: number
  /** How many may be at once; null for no cap. */
  readonly cap: number | null
  readonly weight: number
  /** Who has paused it: its waiting jobs wait on; null when nobody has. */
  readonly pause: OperatorWord | null
  /** Who has given it another share than the configured one; null when nobody has. */
  readonly set: TenantShareSet | null
}

const shareSchema = z.object({ weight: z.number().default(1), cap: z.number().optional() })
const tenantsPerPage = 500

/**
 * Tenants that have an account, a page at a time: those that have jobs waiting or in hand, or had until lately.
 * @param which a cursor, `0` at first; or the tenants that are asked for, which come all, whether they have an account or not.
 */
export async function tenantLoads(redis: Redis, keys: Keys, which: string | readonly string[]): Promise<{ readonly tenants: TenantStanding[]; readonly cursor: string | null }> {
  const accounts = `${keys.ready()}:tenant`
  if (typeof which !== 'string') {
    const found = await redis.hmget(accounts, ...which)
    return { tenants: await standings(redis, keys, which.map((tenant, index) => [tenant, found[index] ?? null] as const)), cursor: null }
  }
  const [cursor, flat] = await redis.hscan(accounts, which, 'COUNT', tenantsPerPage)
  // Jobs that name no tenant have an account as well.
  const named = flat.flatMap((tenant, index) => (index % 2 === 0 && tenant !== '' ? [[tenant, flat[index + 1] ?? null] as const] : []))
  return { tenants: await standings(redis, keys, named), cursor: cursor === '0' ? null : cursor }
}

async function standings(redis: Redis, keys: Keys, accounts: readonly (readonly [tenant: string, account: string | null])[]): Promise<TenantStanding[]> {
  const names = accounts.map(([tenant]) => tenant)
  const [shares, said] = await Promise.all([redis.hmget(`${keys.ready()}:shares`, '*', ...names), new Operators(redis, keys).tenantsOf(names)])
  return accounts.map(([tenant, account], index) => {
    const own = shares[index + 1] ?? shares[0] ?? null
    const { weight, cap } = shareSchema.parse(own === null ? {} : JSON.parse(own))
    // Virtual time, credit, mean, jobs in hand, …; see lua/accounts.lua.
    const { pause = null, share: set = null } = said.get(tenant) ?? {}
    return { tenant, running: account === null ? 0 : z.coerce.number().parse(account.split(' ')[3]), cap: set?.cap ?? cap ?? null, weight: set?.weight ?? weight, pause, set }
  })
}
