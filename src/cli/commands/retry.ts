import type { Command } from 'commander'
import { withConfigOption, withJsonOption, type SharedFlags } from '../shared-options.js'

const said = {
  retried: 'is run again, from the start',
  pending: 'waits or runs already; nothing was done',
} as const

/** `switchyard retry`: runs an ended job again. */
export function addRetryCommand(program: Command): void {
  const command = program.command('retry <job-id>').description('run an ended job again, from the start and on a branch of its own')
  withConfigOption(withJsonOption(command, 'what was done'))
  command
    .addHelpText(
      'after',
      `
Example:
  switchyard retry JOB_ID`,
    )
    .action(async (jobId: string, flags: SharedFlags) => {
      const { withQueue } = await import('../open-queue.js')
      await withQueue(flags, async (queue) => {
        const outcome = await queue.retry(jobId)
        process.stdout.write(`${flags.json === true ? JSON.stringify({ jobId, outcome }) : `job ${jobId}: ${said[outcome]}`}\n`)
      })
    })
}
