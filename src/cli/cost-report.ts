import { describeMicros } from '../job/cost.js'
import { harmlessValue } from '../job/harmless-text.js'
import type { TenantCost } from '../store/index.js'
import { table } from './output.js'

/** A line for each tenant and day. */
export function costsTable(found: readonly TenantCost[]): string {
  if (found.length === 0) return 'nothing was counted; providers without a price cost nothing'
  return table(['DAY', 'TENANT', 'COST'], harmlessValue(found).map(({ day, tenant, micros, currency }) => [day, tenant ?? '-', describeMicros(micros, currency)]))
}
