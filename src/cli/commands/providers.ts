import type { Command } from 'commander'
import { print, printJson } from '../print.js'
import { providersTable, refusedKeyLine, refusedKeys } from '../report.js'
import { withConfigOption, withJsonOption, type SharedFlags } from '../shared-options.js'

/** `switchyard providers`: what each provider holds, and whether it takes more. */
export function addProvidersCommand(program: Command): void {
  const command = program.command('providers').description('show what each provider holds, its limits, its breaker and how fast it starts')
  withConfigOption(withJsonOption(command, 'a list of providers'))
  command
    .addHelpText(
      'after',
      `
LIMIT is the configured one; NOW is the one in force, less what others run in the account (FOREIGN) and what the provider
has refused of late. BREAKER is closed while a provider works. CREATES is the rate in force, START the time that half and
nineteen in twenty of the latest creates took at most. A line below the table tells of each key that is refused to a consumer
(refusedKeys in JSON, those of the git host at every provider): it takes no jobs that need it until it is right again.

Examples:
  switchyard providers
  switchyard providers --json | jq '.[] | select(.breaker != "closed")'`,
    )
    .action(async (flags: SharedFlags) => {
      const { withQueue } = await import('../open-queue.js')
      await withQueue(flags, async (queue) => {
        const [loads, consumers] = await Promise.all([queue.providers(), queue.consumers()])
        const refused = refusedKeys(consumers)
        const text = () => [providersTable(loads), ...refused.map(refusedKeyLine)].join('\n')
        const withKeys = () => loads.map((load) => ({ ...load, refusedKeys: refused.filter(({ of }) => of === load.provider || of === 'git') }))
        if (flags.json === true) printJson(withKeys())
        else print(text())
      })
    })
}
