import type { Command } from 'commander'
import { InvalidInputError } from '../../job/errors.js'
import type { AgentQueue, JobFilter, RetryOptions } from '../../producers/index.js'
import { parseWhere } from '../../producers/job-where.js'
import { bulkReport, exitOfBulk } from '../bulk-report.js'
import { operatorOf, withOperatorOptions, type OperatorFlags } from '../operator-flags.js'
import { print, printJson, say } from '../print.js'
import { statusTable } from '../report.js'
import { withConfigOption, withJsonOption, type SharedFlags } from '../shared-options.js'

type ListFlags = SharedFlags & { readonly where?: string; readonly limit: string; readonly cursor?: string }
type BulkFlags = OperatorFlags & { readonly where: string; readonly limit: string; readonly dryRun?: boolean }

const whereHelp = `
--where takes state=, tenant=, repository=, since= (2h, or a time with its zone) and error= (a kind such as provider-down, or a code
such as SWY_STEP_FAILED), with spaces between; all must hold.
`

/** `switchyard jobs`: finds jobs, and runs again or cancels all that are found. */
export function addJobsCommand(program: Command): void {
  const jobs = program.command('jobs').description('find jobs; run again or cancel all that are found').addHelpText('after', '\nExamples:\n  switchyard jobs list --where \'state=failed since=2h\'\n  switchyard jobs retry --where \'state=failed error=provider-down\' --dry-run')
  addList(jobs)
  addRetry(jobs)
  addCancel(jobs)
}

function addList(jobs: Command): void {
  withConfigOption(withJsonOption(jobs.command('list', { isDefault: true }).description('list jobs, the newest first, a page at a time'), 'the page, { jobs, cursor },'))
    .option('-w, --where <filter>', 'only those for which this holds', both)
    .option('-n, --limit <number>', 'how many jobs a page has at most', '20')
    .option('--cursor <cursor>', 'go on behind an earlier page')
    .addHelpText('after', `${whereHelp}\nExamples:\n  switchyard jobs list --where 'state=failed tenant=acme since=2h'\n  switchyard jobs list --where 'error=provider-down' --json | jq -r '.jobs[].jobId'`)
    .action(async (flags: ListFlags) => {
      const limit = limitOf(flags.limit, 1_000)
      const filter: JobFilter = flags.where === undefined ? {} : parseWhere(flags.where, Date.now())
      await withQueueOf(flags, async (queue) => {
        const found = await queue.list({ ...filter, limit, cursor: flags.cursor })
        let { cursor } = found
        // As many as are asked for, however many pages without any lie between.
        while (cursor !== null && found.length < limit) {
          const page = await queue.list({ ...filter, limit: limit - found.length, cursor })
          found.push(...page)
          cursor = page.cursor
        }
        if (flags.json === true) printJson({ jobs: [...found], cursor })
        else print(statusTable(found, Date.now()))
        if (cursor !== null && flags.json !== true) say(`there are more: --cursor ${cursor}`)
      })
    })
}

function addRetry(jobs: Command): void {
  withBulk(jobs.command('retry').description('run all ended jobs again that are found; without a state the failed ones'))
    .option('--from <start|checkpoint>', 'from the start (the default), or each from its last checkpoint')
    .addHelpText('after', `${whereHelp}\nExamples:\n  switchyard jobs retry --where 'state=failed tenant=acme since=2h error=provider-down' --dry-run\n  switchyard jobs retry --where 'error=provider-down since=2h' --from checkpoint`)
    .action(async (flags: BulkFlags & { readonly from?: RetryOptions['from'] }) => {
      const { filter, options } = readBulk(flags)
      await withQueueOf(flags, async (queue) => {
        const done = await queue.operations.retryJobs(filter, { ...options, from: flags.from })
        if (flags.json === true) printJson({ dryRun: options.dryRun, ...done })
        else print(bulkReport(done, { done: 'run again', would: 'would be run again', dryRun: options.dryRun }))
        exitOfBulk(done)
      })
    })
}

function addCancel(jobs: Command): void {
  withBulk(jobs.command('cancel').description('cancel all jobs that are found; without a state those that have not ended'), true)
    .addHelpText('after', `${whereHelp}\nExamples:\n  switchyard jobs cancel --where 'tenant=acme' --dry-run\n  switchyard jobs cancel --where 'state=waiting repository=acme/web' --reason 'wrong branch'`)
    .action(async (flags: BulkFlags) => {
      const { filter, options } = readBulk(flags)
      await withQueueOf(flags, async (queue) => {
        const done = await queue.operations.cancelJobs(filter, { ...options, reason: flags.reason })
        if (flags.json === true) printJson({ dryRun: options.dryRun, ...done })
        else print(bulkReport(done, { done: 'cancelled', would: 'would be cancelled', dryRun: options.dryRun }))
        exitOfBulk(done)
      })
    })
}

function withBulk(command: Command, reason = false): Command {
  return withOperatorOptions(
    command.requiredOption('-w, --where <filter>', 'which jobs', both).option('--dry-run', 'only say how many, and which').option('-n, --limit <number>', 'how many jobs at most, up to 100000', '1000'),
    { reason },
  )
}

function readBulk(flags: BulkFlags) {
  return { filter: parseWhere(flags.where, Date.now()), options: { by: operatorOf(flags), limit: limitOf(flags.limit, 100_000), dryRun: flags.dryRun === true } }
}

/** Given twice, both must hold: were it the last alone, the others' jobs would be cancelled too. */
function both(text: string, before: string | undefined): string {
  return before === undefined ? text : `${before} ${text}`
}

function limitOf(text: string, most: number): number {
  const limit = Number(text)
  if (!Number.isInteger(limit) || limit < 1 || limit > most) throw new InvalidInputError(`--limit: "${text}" must be a whole number from 1 to ${most}`)
  return limit
}

async function withQueueOf(flags: SharedFlags, work: (queue: AgentQueue) => Promise<void>): Promise<void> {
  const { withQueue } = await import('../open-queue.js')
  await withQueue(flags, work)
}
