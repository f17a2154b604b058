import type { Command } from 'commander'
import { print, printJson } from '../print.js'
import { costsTable } from '../cost-report.js'
import { withConfigOption, withJsonOption, type SharedFlags } from '../shared-options.js'

/** `switchyard costs`: what sandboxes cost, by tenant and day. */
export function addCostsCommand(program: Command): void {
  const command = program.command('costs').description('show what sandboxes cost, by tenant and day')
  withConfigOption(withJsonOption(command, 'a list of days and tenants'))
  command
    .option('--tenant <name>', 'whose (default: everybody’s)')
    .option('--since <day>', 'the first day, such as 2026-12-01; 40 are kept (default: today)')
    .addHelpText(
      'after',
      `
Days are those of costs.timeZone in the configuration, prices those of its providers. Jobs that run and have no budget are counted
when they have ended.

Examples:
  switchyard costs
  switchyard costs --tenant acme --since 2026-12-01 --json`,
    )
    .action(async (flags: SharedFlags & { readonly tenant?: string; readonly since?: string }) => {
      const { withQueue } = await import('../open-queue.js')
      await withQueue(flags, async (queue) => {
        const found = await queue.costs({ since: flags.since, tenant: flags.tenant })
        if (flags.json === true) printJson(found)
        else print(costsTable(found))
      })
    })
}
