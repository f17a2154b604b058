import type { Command } from 'commander'
import { harmlessLine } from '../../job/harmless-text.js'
import { operatorOf } from '../operator-flags.js'
import { print, printJson } from '../print.js'
import { withConfigOption, withJsonOption, type SharedFlags } from '../shared-options.js'

type Flags = SharedFlags & { readonly reason: string }

const said = {
  cancelled: 'cancelled; nothing of it had run',
  requested: 'its consumer stops it now',
  ended: 'had ended before',
} as const

/** `switchyard cancel`: ends a job, wherever it is. */
export function addCancelCommand(program: Command): void {
  const command = program
    .command('cancel <job-id>')
    .description('cancel a waiting or running job; its sandbox is killed and its last checkpoint kept')
    .option('--reason <text>', 'why, for the job’s result', 'cancelled from the command line')
  withConfigOption(withJsonOption(command, 'what was done'))
  command
    .addHelpText(
      'after',
      `
Example:
  switchyard cancel JOB_ID --reason 'superseded'`,
    )
    .action(async (jobId: string, flags: Flags) => {
      const { withQueue } = await import('../open-queue.js')
      await withQueue(flags, async (queue) => {
        const outcome = await queue.job(jobId).cancel(flags.reason)
        await queue.operations.audit(operatorOf(flags), 'cancelJob', [jobId], { after: { outcome } })
        if (flags.json === true) printJson({ jobId, outcome })
        else print(`job ${harmlessLine(jobId)}: ${said[outcome]}`)
      })
    })
}
