import { createInterface } from 'node:readline/promises'
import type { Command } from 'commander'
import { InvalidInputError } from '../../job/errors.js'
import { harmlessLine } from '../../job/harmless-text.js'
import type { AgentQueue } from '../../producers/index.js'
import { describeWord } from '../../store/operator-word.js'
import { bulkReport, exitOfBulk } from '../bulk-report.js'
import { operateOptionsOf, operatorOf, reportChange, withOperatorOptions, type OperatorFlags } from '../operator-flags.js'
import { counted } from '../output.js'
import { print, printJson } from '../print.js'
import { withConfigOption, withJsonOption, type SharedFlags } from '../shared-options.js'

type DrainFlags = OperatorFlags & { readonly yes?: boolean; readonly dryRun?: boolean }

/** `switchyard queue`: shows the queue, pauses and resumes it, and ends all that waits in it. */
export function addQueueCommand(program: Command): void {
  const queue = program.command('queue').description('show the queue; pause it, resume it, or end all that waits in it').addHelpText('after', '\nExamples:\n  switchyard queue\n  switchyard queue pause --reason \'migration\'')
  withConfigOption(withJsonOption(queue.command('show', { isDefault: true }).description('show how many jobs wait and run, and whether it is paused'), 'the queue'))
    .addHelpText('after', '\nExample:\n  switchyard queue')
    .action(async (flags: SharedFlags) => {
      await withQueueOf(flags, async (opened) => {
        const found = await opened.operations.queue()
        const { counts, pause } = found
        if (flags.json === true) printJson(found)
        else print(harmlessLine(`queue ${found.name}: ${found.paused ? `paused${pause === null ? '' : ` ${describeWord(pause)}`}` : 'open'}; ${counts.waiting} waiting, ${counts.delayed} delayed, ${counts.active} in consumers' hands`))
      })
    })

  withOperatorOptions(queue.command('pause').description('have no job of this queue begun or gone on with; those that run go on'), { reason: true, time: true })
    .addHelpText('after', "\nIt is BullMQ's own pause: its board shows it, and can resume it. Don't restart consumers meanwhile.\n\nExample:\n  switchyard queue pause --for 30m --reason 'migration'")
    .action(async (flags: OperatorFlags) => {
      const options = operateOptionsOf(flags)
      await withQueueOf(flags, async (opened) => {
        const change = await opened.operations.pauseQueue(options)
        const word = change.after === null ? '' : ` ${describeWord(change.after)}`
        reportChange(flags, { queue: opened.name }, change, `queue ${opened.name} ${change.changed ? `is paused${word}; what runs goes on` : `was paused already${word}; nothing was changed`}`)
      })
    })

  withOperatorOptions(queue.command('resume').description('have its jobs begun again'))
    .addHelpText('after', '\nExample:\n  switchyard queue resume')
    .action(async (flags: OperatorFlags) => {
      await withQueueOf(flags, async (opened) => {
        const change = await opened.operations.resumeQueue({ by: operatorOf(flags) })
        reportChange(flags, { queue: opened.name }, change, `queue ${opened.name} ${change.changed ? 'goes on' : 'was not paused; nothing was changed'}`)
      })
    })

  withOperatorOptions(queue.command('drain').description('end all jobs that wait, each as cancelled; those that run go on'), { reason: true })
    .option('--yes', 'do it without being asked')
    .option('--dry-run', 'only say how many')
    .addHelpText('after', "\nEach gets its result and its event, so that nobody waits for it. \"switchyard jobs retry --where 'state=cancelled since=1h'\" does not bring\nthem back: BullMQ does not hold them any more.\n\nExamples:\n  switchyard queue drain --dry-run\n  switchyard queue drain --yes --reason 'wrong branch enqueued'")
    .action(async (flags: DrainFlags) => {
      const { by, reason } = operateOptionsOf(flags)
      await withQueueOf(flags, async (opened) => {
        const { counts, name } = await opened.operations.queue()
        const count = counts.waiting + counts.delayed
        if (flags.dryRun !== true && flags.yes !== true && !(await isConfirmed(`end ${counted(count, 'waiting job')} of the queue ${name}?`))) {
          throw new InvalidInputError(`queue drain: would end ${counted(count, 'waiting job')} of the queue ${name}, and was not confirmed; give --yes`)
        }
        const done = await opened.operations.drainQueue({ by, reason, dryRun: flags.dryRun })
        if (flags.json === true) printJson({ queue: name, dryRun: flags.dryRun === true, ...done })
        else print(bulkReport(done, { done: 'ended as cancelled', would: 'would be ended as cancelled', dryRun: flags.dryRun === true }))
        exitOfBulk(done)
      })
    })
}

/** Asks whoever sits there; nobody sits at a pipe. */
async function isConfirmed(question: string): Promise<boolean> {
  if (!process.stdin.isTTY) return false
  const asking = createInterface({ input: process.stdin, output: process.stderr })
  try {
    return /^y(es)?$/i.test((await asking.question(`${harmlessLine(question)} [y/N] `)).trim())
  } finally {
    asking.close()
  }
}

async function withQueueOf(flags: SharedFlags, work: (queue: AgentQueue) => Promise<void>): Promise<void> {
  const { withQueue } = await import('../open-queue.js')
  await withQueue(flags, work)
}
