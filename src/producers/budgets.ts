import { amountProblem } from '../job/budget-amount.js'
import { toMicros } from '../job/cost.js'
import { dayOf } from '../job/days.js'
import { InvalidInputError, UnknownJobError } from '../job/errors.js'
import { mayBeJobId } from '../job/names.js'
import { type Keys, setBudget, setBudgets, type SetBudget } from '../store/index.js'
import { checkOperator, entryOf, type Operator, shownName } from './operations.js'
import type { Connected } from './producer-connection.js'
import { parseInput } from '../job/explain.js'
import { tenantName } from '../job/tenant-name.js'

/** What became of a budget. */
export interface BudgetChange {
  /** False when it was so before, and nothing was done. */
  readonly changed: boolean
  /** What was set before, in millionths; null for nothing. */
  readonly before: number | null
}

const nobody: Operator = { id: 'producer', name: '' }

/** How a tenant's budget stands today. */
export interface TenantBudget {
  /** Null for jobs that name none; `*` for each tenant that has none of its own. */
  readonly tenant: string | null
  /** A day's, in millionths of the currency's unit; null where only the consumers' configuration says. */
  readonly micros: number | null
  /** Spent and reserved today; null for `*`. */
  readonly spentMicros: number | null
  readonly reservedMicros: number | null
  /** Who set it at run time; null where the configuration says. */
  readonly by: string | null
}

/** A job's budget that was set at run time. */
export type JobBudgetSet = Pick<SetBudget, 'micros' | 'by'> & { readonly jobId: string }

const tenantSchema = tenantName()

/** Budgets that hold for all consumers from the moment they are set, and stay until they are removed; before those of the configuration and of a job's own spec. */
export class Budgets {
  constructor(
    private readonly keys: Keys,
    private readonly timeZone: string,
    private readonly configured: Readonly<Record<string, number>>,
    private readonly use: <T>(work: (connected: Connected) => Promise<T>) => Promise<T>,
  ) {}

  /** All budgets that were set or are configured here, and of each tenant what of today's is spent and reserved. @throws RedisUnavailableError. */
  async list(): Promise<{ readonly tenants: TenantBudget[]; readonly jobs: JobBudgetSet[] }> {
    return await this.use(async ({ redis }) => {
      const set = await setBudgets(redis, this.keys)
      const day = `${this.keys.costs()}:day:${dayOf(Date.now(), this.timeZone)}`
      const names = [...new Set([...set.flatMap(({ tenant }) => tenant ?? []), ...Object.keys(this.configured)])].toSorted()
      const found = names.length === 0 ? [] : await redis.hmget(day, ...names.flatMap((name) => [`s:${name}`, `r:${name}`]))
      const tenants = names.map((name, index) => {
        const own = set.find(({ tenant }) => tenant === name)
        const configured = this.configured[name]
        const [spent = null, reserved = null] = found.slice(2 * index, 2 * index + 2)
        const used = (micros: string | null) => (name === '*' ? null : Number(micros ?? 0))
        return { tenant: name === '' ? null : name, micros: own?.micros ?? (configured === undefined ? null : toMicros(configured)), spentMicros: used(spent), reservedMicros: used(reserved), by: own?.by ?? null }
      })
      return { tenants, jobs: set.flatMap(({ runId, micros, by }) => (runId === null ? [] : [{ jobId: runId, micros, by }])) }
    })
  }

  /**
   * What a tenant's sandboxes may cost a day from now on, running ones included; `*` for each tenant that has no budget of its own. Jobs that wait for it are woken.
   * @param amount of the deployment's currency; null to go back to what is configured. @param by who says so.
   * @returns what was set before.
   * @throws InvalidInputError for an amount or a name that can't be, RedisUnavailableError.
   */
  async setTenant(tenant: string, amount: number | null, by: Operator = nobody): Promise<BudgetChange> {
    parseInput(tenantSchema, tenant, 'tenant')
    checkOperator(by)
    const micros = checked(amount)
    return await this.use(({ redis }) => setBudget(redis, this.keys, { tenant }, micros, shownName(by), entryOf(by, 'setTenantBudget', [tenant])))
  }

  /**
   * What a job's sandboxes may cost together, from now on; a job that is parked for it goes on.
   * @param amount of the deployment's currency; null to go back to that of its spec.
   * @returns what was set before.
   * @throws InvalidInputError for an amount that can't be, or a job that has ended; UnknownJobError, RedisUnavailableError.
   */
  async setJob(jobId: string, amount: number | null, by: Operator = nobody): Promise<BudgetChange> {
    const micros = checked(amount)
    checkOperator(by)
    if (!mayBeJobId(jobId)) throw new UnknownJobError(jobId)
    return await this.use(async ({ redis, store }) => {
      const [standing] = await store.standings([jobId])
      if (standing?.known !== true) throw new UnknownJobError(jobId)
      return await setBudget(redis, this.keys, { jobId }, micros, shownName(by), entryOf(by, 'setJobBudget', [jobId]))
    })
  }
}

function checked(amount: number | null): number | null {
  if (amount === null) return null
  const problem = typeof amount === 'number' ? amountProblem(amount) : 'must be an amount'
  if (problem !== undefined) throw new InvalidInputError(`budget: ${problem}`)
  return toMicros(amount)
}
