import type { Command } from 'commander'
import { CheckpointGoneError, InvalidInputError, KeyTakenError } from '../../job/errors.js'
import { harmlessLine } from '../../job/harmless-text.js'
import type { AgentQueue, RetryFilter, RetryOptions } from '../../producers/index.js'
import { operatorOf } from '../operator-flags.js'
import { counted } from '../output.js'
import { print, printJson } from '../print.js'
import { withConfigOption, withJsonOption, type SharedFlags } from '../shared-options.js'
import { sinceOf } from '../../job/since.js'

type Flags = SharedFlags & { readonly from?: RetryOptions['from']; readonly state?: RetryFilter['state']; readonly tenant?: string; readonly repository?: string; readonly since?: string }

/** `switchyard retry`: runs an ended job again, or all that a filter finds. */
export function addRetryCommand(program: Command): void {
  const command = program
    .command('retry [job-id]')
    .description('run an ended job again, on a branch of its own, or all that the options find')
    .option('--from <start|checkpoint>', 'from the start (the default), or from its last checkpoint: what had ended is not run again')
    .option('--state <state>', 'all jobs that have succeeded, failed (the default) or been cancelled')
    .option('--tenant <name>', 'all jobs of this tenant')
    .option('--repository <id>', 'all jobs of this repository')
    .option('--since <time>', 'all jobs that were enqueued then or later, such as 2h or 2026-12-01T08:00:00Z')
  withConfigOption(withJsonOption(command, 'what was done'))
  command
    .addHelpText(
      'after',
      `
Examples:
  switchyard retry JOB_ID
  switchyard retry JOB_ID --from checkpoint
  switchyard retry --state failed --tenant acme --since 2h --from checkpoint`,
    )
    .action(async (jobId: string | undefined, flags: Flags) => {
      const { from, state, tenant, repository } = flags
      const filter: RetryFilter = { state, tenant, repository, since: flags.since === undefined ? undefined : sinceOf(flags.since, Date.now()) }
      const filters = Object.values(filter).some((value) => value !== undefined)
      if (jobId === undefined && !filters) throw new InvalidInputError('retry: say which: a job’s id, or options such as --state failed --since 2h')
      if (jobId !== undefined && filters) throw new InvalidInputError('retry: a job’s id and options that find jobs are given; give one of the two')
      const { withQueue } = await import('../open-queue.js')
      await withQueue(flags, async (queue) => {
        if (jobId === undefined) {
          await retryAll(queue, filter, { from }, async (jobIds) => {
            if (jobIds.length > 0) await queue.operations.audit(operatorOf(flags), 'retryJobs', jobIds, { after: { where: filter, done: jobIds.length } })
            if (flags.json === true) printJson({ retried: jobIds })
            else print([`${counted(jobIds.length, 'job')} run again`, ...jobIds.map(harmlessLine)].join('\n'))
          })
          return
        }
        const outcome = await queue.retry(jobId, { from })
        await queue.operations.audit(operatorOf(flags), 'retryJob', [jobId], { after: { outcome } })
        const said = outcome === 'pending' ? 'waits or runs already; nothing was done' : `is run again, from ${from === 'checkpoint' ? 'its last checkpoint' : 'the start'}`
        if (flags.json === true) printJson({ jobId, outcome })
        else print(`job ${harmlessLine(jobId)}: ${said}`)
      })
    })
}

/** Says what was run again also where some could not be. */
async function retryAll(queue: AgentQueue, filter: RetryFilter, options: RetryOptions, say: (jobIds: readonly string[]) => Promise<void>): Promise<void> {
  try {
    await say(await queue.retryMany(filter, options))
  } catch (error) {
    if (error instanceof CheckpointGoneError || error instanceof KeyTakenError) await say(error.retried)
    throw error
  }
}
