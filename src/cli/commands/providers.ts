import type { Command } from 'commander'
import { InvalidInputError } from '../../job/errors.js'
import type { AgentQueue } from '../../producers/index.js'
import { describeWord } from '../../store/operator-word.js'
import { operateOptionsOf, operatorOf, reportChange, withOperatorOptions, type OperatorFlags } from '../operator-flags.js'
import { print, printJson } from '../print.js'
import { operatedLines, providersTable, refusedKeyLine, refusedKeys } from '../report.js'
import { withConfigOption, withJsonOption, type SharedFlags } from '../shared-options.js'

/** `switchyard providers`: what each provider holds, and whether it takes more; and what operators say of it. */
export function addProvidersCommand(program: Command): void {
  const providers = program.command('providers').description('show what each provider holds, its limits, its breaker and how fast it starts; drain one, or change its limit').addHelpText('after', '\nExamples:\n  switchyard providers\n  switchyard providers drain e2b --for 2h --reason maintenance\n  switchyard providers limit e2b 20')
  addList(providers)
  addDrain(providers)
  addResume(providers)
  addLimit(providers)
}

function addList(providers: Command): void {
  const command = providers.command('list', { isDefault: true }).description('show what each provider holds, its limits, its breaker and how fast it starts')
  withConfigOption(withJsonOption(command, 'a list of providers'))
  command
    .addHelpText(
      'after',
      `
LIMIT is the configured one, or what an operator has set (with the configured one behind it); NOW is the one in force, less what
others run in the account (FOREIGN) and what the provider has refused of late. BREAKER is closed while a provider works. CREATES
is the rate in force, START the time that half and nineteen in twenty of the latest creates took at most. A line below the table
tells of each provider that is drained, and of each key that is refused to a consumer (refusedKeys in JSON, those of the git host
at every provider): it takes no jobs that need it until it is right again.

Examples:
  switchyard providers
  switchyard providers --json | jq '.[] | select(.breaker != "closed")'`,
    )
    .action(async (flags: SharedFlags) => {
      await withQueueOf(flags, async (queue) => {
        const [loads, consumers] = await Promise.all([queue.providers(), queue.consumers()])
        const refused = refusedKeys(consumers)
        const text = () => [providersTable(loads), ...operatedLines(loads), ...refused.map(refusedKeyLine)].join('\n')
        const withKeys = () => loads.map((load) => ({ ...load, refusedKeys: refused.filter(({ of }) => of === load.provider || of === 'git') }))
        if (flags.json === true) printJson(withKeys())
        else print(text())
      })
    })
}

function addDrain(providers: Command): void {
  withOperatorOptions(providers.command('drain <provider>').description('have no new sandboxes made there, by any consumer; what runs there goes on'), { reason: true, time: true })
    .option('--move', 'ask jobs that run there to move, each at its next checkpoint, once another provider has a place')
    .addHelpText('after', "\nExample:\n  switchyard providers drain e2b --move --for 2h --reason 'maintenance'")
    .action(async (provider: string, flags: OperatorFlags & { readonly move?: boolean }) => {
      const options = { ...operateOptionsOf(flags), move: flags.move }
      await withQueueOf(flags, async (queue) => {
        const change = await queue.operations.drainProvider(provider, options)
        const { after } = change
        const word = after === null ? '' : ` ${describeWord(after)}`
        const moves = after?.move === true ? '; jobs that run there move at their next checkpoint' : '; what runs there goes on'
        reportChange(flags, { provider }, change, change.changed ? `${provider} is drained${word}: no new sandboxes there${moves}` : `${provider} was drained already${word}; nothing was changed`)
      })
    })
}

function addResume(providers: Command): void {
  withOperatorOptions(providers.command('resume <provider>').description('have sandboxes made there again'))
    .addHelpText('after', '\nExample:\n  switchyard providers resume e2b')
    .action(async (provider: string, flags: OperatorFlags) => {
      await withQueueOf(flags, async (queue) => {
        const change = await queue.operations.resumeProvider(provider, { by: operatorOf(flags) })
        const was = change.before === null ? '' : `; it was drained ${describeWord(change.before)}`
        reportChange(flags, { provider }, change, change.changed ? `${provider} takes sandboxes again${was}` : `${provider} was not drained; nothing was changed`)
      })
    })
}

function addLimit(providers: Command): void {
  withOperatorOptions(providers.command('limit <provider> [sandboxes]').description('set another limit than the configured one, in every consumer; what is over it goes on'), { reason: true, time: true })
    .option('--reset', 'back to the configured limit')
    .addHelpText('after', '\nExamples:\n  switchyard providers limit e2b 20 --for 2h\n  switchyard providers limit e2b --reset')
    .action(async (provider: string, sandboxes: string | undefined, flags: OperatorFlags & { readonly reset?: boolean }) => {
      if ((sandboxes === undefined) !== (flags.reset === true)) throw new InvalidInputError('providers limit: give a number of sandboxes, or --reset for the configured limit')
      const limit = sandboxes === undefined ? null : Number(sandboxes)
      if (limit !== null && !Number.isInteger(limit)) throw new InvalidInputError(`providers limit: "${sandboxes ?? ''}" must be a whole number of sandboxes`)
      const options = operateOptionsOf(flags)
      await withQueueOf(flags, async (queue) => {
        const change = await queue.operations.limitProvider(provider, limit, options)
        const { after, configured } = change
        const now = after === null ? `the configured limit of ${configured}` : `${after.limit} of the configured ${configured}, ${describeWord(after)}`
        reportChange(flags, { provider }, change, `${provider}: ${change.changed ? `the limit is ${now}` : `the limit was that already (${now}); nothing was changed`}`)
      })
    })
}

async function withQueueOf(flags: SharedFlags, work: (queue: AgentQueue) => Promise<void>): Promise<void> {
  const { withQueue } = await import('../open-queue.js')
  await withQueue(flags, work)
}
