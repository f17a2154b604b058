import { Option, type Command } from 'commander'
import { InvalidInputError } from '../../job/errors.js'
import type { JobStatus } from '../../job/status.js'
import type { AgentQueue, ListOptions } from '../../producers/index.js'
import { print, printJson } from '../print.js'
import { statusReport, statusTable } from '../report.js'
import { withConfigOption, withJsonOption, type SharedFlags } from '../shared-options.js'

type Flags = SharedFlags & { readonly limit: string; readonly state?: JobStatus['state']; readonly tenant?: string; readonly repository?: string }

/** `switchyard status`: one job in full, or the latest ones, a line each. */
export function addStatusCommand(program: Command): void {
  const command = program
    .command('status [job-id]')
    .description('show a job, or the latest jobs')
    .addOption(new Option('-n, --limit <number>', 'how many jobs to show').default('20'))
    .option('--state <state>', 'only jobs that are waiting, running, parked, succeeded, failed or cancelled')
    .option('--tenant <name>', 'only jobs of this tenant')
    .option('--repository <id>', 'only jobs of this repository')
  withConfigOption(withJsonOption(command, 'the job, or a list of jobs,'))
  command
    .addHelpText(
      'after',
      `
Examples:
  switchyard status
  switchyard status --state failed --tenant acme
  switchyard status JOB_ID
  switchyard status JOB_ID --json | jq .state`,
    )
    .action(async (jobId: string | undefined, flags: Flags) => {
      const limit = Number(flags.limit)
      if (!Number.isInteger(limit) || limit < 1 || limit > 1000) throw new InvalidInputError(`--limit: "${flags.limit}" must be a whole number from 1 to 1000`)
      const { withQueue } = await import('../open-queue.js')
      await withQueue(flags, async (queue) => {
        const found = jobId === undefined ? await latest(queue, { state: flags.state, tenant: flags.tenant, repository: flags.repository, limit }) : await queue.job(jobId).status()
        if (flags.json === true) printJson(found)
        else print(Array.isArray(found) ? statusTable(found, Date.now()) : statusReport(found, Date.now()))
      })
    })
}

/** As many as are asked for, however many pages without any lie between. */
async function latest(queue: AgentQueue, options: ListOptions & { readonly limit: number }): Promise<JobStatus[]> {
  const found: JobStatus[] = []
  let cursor: string | null | undefined
  while (cursor !== null && found.length < options.limit) {
    const page = await queue.list({ ...options, limit: options.limit - found.length, cursor })
    found.push(...page)
    cursor = page.cursor
  }
  return found
}
