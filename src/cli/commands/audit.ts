import type { Command } from 'commander'
import { InvalidInputError } from '../../job/errors.js'
import { print, printJson } from '../print.js'
import { auditTable } from '../report.js'
import { withConfigOption, withJsonOption, type SharedFlags } from '../shared-options.js'

/** `switchyard audit`: who did what, and when. */
export function addAuditCommand(program: Command): void {
  withConfigOption(withJsonOption(program.command('audit').description('show who did what and when, by the command line, the board and the HTTP API, the newest first'), 'the entries'))
    .option('-n, --limit <number>', 'how many to show', '50')
    .option('--before <id>', 'go on before this entry')
    .addHelpText('after', "\nAbout 10,000 entries are kept.\n\nExamples:\n  switchyard audit\n  switchyard audit --json | jq '.[] | select(.action == \"drainProvider\")'")
    .action(async (flags: SharedFlags & { readonly limit: string; readonly before?: string }) => {
      const limit = Number(flags.limit)
      if (!Number.isInteger(limit) || limit < 1 || limit > 10_000) throw new InvalidInputError(`--limit: "${flags.limit}" must be a whole number from 1 to 10000`)
      if (flags.before !== undefined && !/^\d{1,19}-\d{1,19}$/.test(flags.before)) throw new InvalidInputError(`--before: "${flags.before}" must be the id of an entry`)
      const { withQueue } = await import('../open-queue.js')
      await withQueue(flags, async (queue) => {
        const entries = await queue.operations.auditLog({ limit, before: flags.before })
        if (flags.json === true) printJson(entries)
        else print(auditTable(entries))
      })
    })
}
