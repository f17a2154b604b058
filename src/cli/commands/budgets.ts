import type { Command } from 'commander'
import { parseBudget } from '../../job/budget-amount.js'
import { describeMicros } from '../../job/cost.js'
import { counted } from '../../job/counted.js'
import { InvalidInputError } from '../../job/errors.js'
import { harmlessLine } from '../../job/harmless-text.js'
import type { BudgetChange } from '../../producers/index.js'
import { budgetsTable } from '../cost-report.js'
import { operatorOf, withOperatorOptions, type OperatorFlags } from '../operator-flags.js'
import { print, printJson } from '../print.js'
import { withConfigOption, withJsonOption, type SharedFlags } from '../shared-options.js'

type Of = 'tenant' | 'job'

/** `switchyard budgets`: what tenants and jobs may cost. */
export function addBudgetsCommand(program: Command): void {
  const budgets = program.command('budgets').description('show and set what tenants may cost a day, and jobs altogether')
  budgets.addHelpText(
    'after',
    `
A budget that is set holds for all consumers and running jobs, before what is configured, until it is removed. Where there is too
little for a job it is parked, and goes on when there is more.

Examples:
  switchyard budgets
  switchyard budgets set tenant acme 20/day
  switchyard budgets set tenant '*' 5/day
  switchyard budgets set job JOB_ID 7.50
  switchyard budgets remove tenant acme`,
  )
  withConfigOption(withJsonOption(budgets.command('list', { isDefault: true }).description('show the budgets, and what of today’s is spent and reserved'), 'the budgets')).action(async (flags: SharedFlags) => {
    const { withQueue } = await import('../open-queue.js')
    await withQueue(flags, async (queue, config) => {
      const found = await queue.budgets.list()
      if (flags.json === true) printJson(found)
      else print(budgetsTable(found, config.costs.currency))
    })
  })
  // An amount such as -5/day is no option: what is wrong with it is said as of any other.
  const set = budgets.command('set <tenant|job> <name> <amount>').description('set the budget of a tenant, such as 20/day, or of a job, such as 7.50').allowUnknownOption().allowExcessArguments()
  withOperatorOptions(set).action(async (of: string, name: string, amount: string, flags: OperatorFlags) => {
    refuseOptions(set)
    const micros = parseBudget(amount, checkOf(of) === 'tenant' ? 'day' : null)
    if (typeof micros === 'string') throw new InvalidInputError(`budgets set: ${micros}`)
    await change(flags, checkOf(of), name, micros / 1_000_000)
  })
  withOperatorOptions(budgets.command('remove <tenant|job> <name>').description('go back to what is configured, or what the job says itself')).action(async (of: string, name: string, flags: OperatorFlags) => {
    await change(flags, checkOf(of), name, null)
  })
}

/** Refuses what is no argument of a command that leaves unknown options to its action. */
function refuseOptions(command: Command): void {
  const { args, registeredArguments } = command
  const option = args.find((each) => /^-(?![\d.])./.test(each))
  if (option !== undefined) command.error(`error: unknown option '${option}'`)
  if (args.length > registeredArguments.length) command.error(`error: too many arguments for '${command.name()}'. Expected ${counted(registeredArguments.length, 'argument')} but got ${args.length}.`)
}

async function change(flags: OperatorFlags, of: Of, name: string, amount: number | null): Promise<void> {
  const { withQueue } = await import('../open-queue.js')
  await withQueue(flags, async (queue, config) => {
    const { budgets } = queue
    const done = of === 'tenant' ? await budgets.setTenant(name, amount, operatorOf(flags)) : await budgets.setJob(name, amount, operatorOf(flags))
    if (flags.json === true) printJson({ [of]: name, ...done })
    else print(harmlessLine(sentence(of, name, amount, done, config.costs.currency)))
  })
}

function sentence(of: Of, name: string, amount: number | null, { changed, before }: BudgetChange, currency: string): string {
  const per = of === 'tenant' ? ' a day' : ''
  const what = amount === null ? 'has the budget again that is configured' : `may cost ${describeMicros(Math.round(amount * 1_000_000), currency)}${per}`
  if (!changed) return amount === null ? `${of} ${name} had no budget that was set; nothing was changed` : `${of} ${name} had that budget already; nothing was changed`
  return `${of} ${name} ${what}${before === null ? '' : `; before it was ${describeMicros(before, currency)}${per}`}`
}

function checkOf(of: string): Of {
  if (of === 'tenant' || of === 'job') return of
  throw new InvalidInputError(`budgets: "${of}" has no budget; give "tenant" or "job"`)
}
