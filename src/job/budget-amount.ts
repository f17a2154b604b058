import { z } from 'zod'
import { toMicros } from './cost.js'

const mostAmount = 1_000_000

/** An amount of the deployment's currency, as it is configured or written in a job. */
export const budgetAmount = z
  .number({ error: 'must be an amount such as 2.5, in the deployment’s currency' })
  .positive('must be more than 0; leave it out for no budget')
  .max(mostAmount, `must be at most ${mostAmount}`)
  .refine((amount) => toMicros(amount) > 0, 'is less than a millionth; give more')

/** Why a text is no amount, as a clause; else the amount in micro-units. `per`: `/day` may, or must not, stand behind it. */
export function parseBudget(text: string, per: 'day' | null): number | string {
  const example = per === null ? '"2.50"' : '"20/day"'
  const match = /^(-?\d{1,12}(?:\.\d{1,6})?)(\/day)?$/.exec(text.trim())
  if (match === null) return `"${text}" is no amount; give one such as ${example}, in the deployment’s currency`
  if (per === null && match[2] !== undefined) return `"${text}" is an amount a day; a job has one for all of its time: give one such as ${example}`
  if (per !== null && match[2] === undefined) return `"${text}" does not say for how long; a tenant has a budget for each day: give one such as ${example}`
  return amountProblem(Number(match[1])) ?? toMicros(Number(match[1]))
}

/** Why an amount can't be a budget, as a clause; undefined when it can. */
export function amountProblem(amount: number): string | undefined {
  if (!Number.isFinite(amount)) return 'must be an amount'
  if (amount <= 0) return 'must be more than 0; remove the budget to lift it, or pause the tenant to stop its jobs'
  if (amount > mostAmount) return `must be at most ${mostAmount}`
  return toMicros(amount) > 0 ? undefined : 'is less than a millionth; give more'
}
