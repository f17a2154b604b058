import type { Command } from 'commander'
import { InvalidInputError } from '../../job/errors.js'
import type { AgentQueue } from '../../producers/index.js'
import { describeWord } from '../../store/operator-word.js'
import { operateOptionsOf, operatorOf, reportChange, withOperatorOptions, type OperatorFlags } from '../operator-flags.js'
import { print, printJson } from '../print.js'
import { tenantsTable } from '../report.js'
import { withConfigOption, withJsonOption, type SharedFlags } from '../shared-options.js'

type ShareFlags = OperatorFlags & { readonly cap?: string; readonly reset?: boolean; readonly new?: boolean }

/** `switchyard tenants`: how tenants share the places; pauses one, or gives it another share. */
export function addTenantsCommand(program: Command): void {
  const tenants = program.command('tenants').description('show how tenants share the places; pause one, or give it another share').addHelpText('after', '\nExamples:\n  switchyard tenants\n  switchyard tenants share acme 3')
  addList(tenants)
  addPause(tenants)
  addResume(tenants)
  addShare(tenants)
}

function addList(tenants: Command): void {
  withConfigOption(withJsonOption(tenants.command('list', { isDefault: true }).description('show the tenants that have jobs, or had until lately: how many run, how many may, and their weights'), 'the tenants'))
    .addHelpText('after', "\nExamples:\n  switchyard tenants\n  switchyard tenants --json | jq '.[] | select(.pause != null)'")
    .action(async (flags: SharedFlags) => {
      await withQueueOf(flags, async (queue) => {
        const found = await queue.operations.tenants()
        if (flags.json === true) printJson(found)
        else print(tenantsTable(found))
      })
    })
}

function addPause(tenants: Command): void {
  withOperatorOptions(tenants.command('pause <tenant>').description('have none of its waiting jobs begun, in any queue; those that run go on'), { reason: true, time: true })
    .option('--new', 'also when nothing is known of this tenant yet')
    .addHelpText('after', "\nExample:\n  switchyard tenants pause acme --reason 'its key leaked'")
    .action(async (tenant: string, flags: OperatorFlags & { readonly new?: boolean }) => {
      const options = { ...operateOptionsOf(flags), isNew: flags.new }
      await withQueueOf(flags, async (queue) => {
        const change = await queue.operations.pauseTenant(tenant, options)
        const word = change.after === null ? '' : ` ${describeWord(change.after)}`
        reportChange(flags, { tenant }, change, change.changed ? `tenant ${tenant} is paused${word}; what runs goes on` : `tenant ${tenant} was paused already${word}; nothing was changed`)
      })
    })
}

function addResume(tenants: Command): void {
  withOperatorOptions(tenants.command('resume <tenant>').description('have its jobs begun again'))
    .addHelpText('after', '\nExample:\n  switchyard tenants resume acme')
    .action(async (tenant: string, flags: OperatorFlags) => {
      await withQueueOf(flags, async (queue) => {
        const change = await queue.operations.resumeTenant(tenant, { by: operatorOf(flags) })
        const was = change.before === null ? '' : `; it was paused ${describeWord(change.before)}`
        reportChange(flags, { tenant }, change, change.changed ? `tenant ${tenant} goes on${was}` : `tenant ${tenant} was not paused; nothing was changed`)
      })
    })
}

function addShare(tenants: Command): void {
  withOperatorOptions(tenants.command('share <tenant> [weight]').description('give it another share of the places than the configured one'), { reason: true, time: true })
    .option('--cap <jobs>', 'how many of its jobs may run at once (default: as configured)')
    .option('--reset', 'back to the configured share')
    .option('--new', 'also when nothing is known of this tenant yet')
    .addHelpText('after', '\nOf two busy tenants, one with twice the weight gets twice the sandbox time.\n\nExamples:\n  switchyard tenants share acme 3\n  switchyard tenants share acme 1 --cap 5 --for 1d\n  switchyard tenants share acme --reset')
    .action(async (tenant: string, weight: string | undefined, flags: ShareFlags) => {
      if ((weight === undefined) !== (flags.reset === true)) throw new InvalidInputError('tenants share: give a weight, such as 3, or --reset for the configured share')
      const share = weight === undefined ? null : { weight: numberOf('weight', weight), cap: flags.cap === undefined ? undefined : numberOf('--cap', flags.cap) }
      const options = { ...operateOptionsOf(flags), isNew: flags.new }
      await withQueueOf(flags, async (queue) => {
        const change = await queue.operations.shareTenant(tenant, share, options)
        const { after } = change
        const now = after === null ? 'the configured share' : `weight ${after.weight}${after.cap === null ? '' : `, at most ${after.cap} jobs at once`}, ${describeWord(after)}`
        reportChange(flags, { tenant }, change, change.changed ? `tenant ${tenant}: ${now}` : `tenant ${tenant} had that already (${now}); nothing was changed`)
      })
    })
}

function numberOf(what: string, text: string): number {
  const number = text.trim() === '' ? NaN : Number(text)
  if (!Number.isFinite(number)) throw new InvalidInputError(`tenants share: ${what}: "${text}" must be a number`)
  return number
}

async function withQueueOf(flags: SharedFlags, work: (queue: AgentQueue) => Promise<void>): Promise<void> {
  const { withQueue } = await import('../open-queue.js')
  await withQueue(flags, work)
}
