import { describeMicros } from '../job/cost.js'
import { harmlessValue } from '../job/harmless-text.js'
import type { JobBudgetSet, TenantBudget } from '../producers/index.js'
import type { TenantCost } from '../store/index.js'
import { table } from './output.js'

/** A line for each tenant and day. */
export function costsTable(found: readonly TenantCost[]): string {
  if (found.length === 0) return 'nothing was counted; providers without a price cost nothing'
  return table(['DAY', 'TENANT', 'COST'], harmlessValue(found).map(({ day, tenant, micros, currency }) => [day, tenant ?? '-', describeMicros(micros, currency)]))
}

/** A line for each budget. */
export function budgetsTable({ tenants, jobs }: { readonly tenants: readonly TenantBudget[]; readonly jobs: readonly JobBudgetSet[] }, currency: string): string {
  if (tenants.length + jobs.length === 0) return 'no budget is set or configured; jobs may have their own'
  const amount = (micros: number | null) => (micros === null ? '-' : describeMicros(micros, currency))
  return table(
    ['OF', 'NAME', 'BUDGET', 'SPENT TODAY', 'RESERVED', 'SET BY'],
    harmlessValue([
      ...tenants.map(({ tenant, micros, spentMicros, reservedMicros, by }) => ['tenant', tenant ?? '-', `${amount(micros)}/day`, amount(spentMicros), amount(reservedMicros), by ?? 'configuration']),
      ...jobs.map(({ jobId, micros, by }) => ['job', jobId, amount(micros), '-', '-', by]),
    ]),
  )
}
