import { harmlessLine } from '../job/harmless-text.js'
import type { BulkResult } from '../producers/index.js'
import { exitCodes } from './exit-codes.js'
import { counted } from './output.js'

/** How many ids and failures are shown. */
const mostShown = 20

/** What was done to many jobs, for people: the count first, then some ids, then each failure. */
export function bulkReport(result: BulkResult, said: { readonly done: string; readonly would: string; readonly dryRun: boolean }): string {
  const { jobIds, unchanged, failed, more, found } = result
  const rest = more ? `; the bound of ${found} was reached, and there are more: run it again, or give --limit` : ''
  const left = unchanged === 0 ? '' : `; ${unchanged} had changed meanwhile and ${unchanged === 1 ? 'was' : 'were'} left alone`
  const wrong = failed.length === 0 ? '' : `; ${failed.length} failed`
  const shown = jobIds.slice(0, mostShown)
  return [
    `${counted(jobIds.length, 'job')} ${said.dryRun ? said.would : said.done}${left}${wrong}${rest}`,
    ...shown.map((jobId) => `  ${harmlessLine(jobId)}`),
    ...(jobIds.length > shown.length ? [`  and ${jobIds.length - shown.length} more (--json shows all)`] : []),
    ...failed.slice(0, mostShown).map(({ jobId, code, message }) => harmlessLine(`failed: ${jobId}: ${message} (${code})`)),
    ...(failed.length > mostShown ? [`${failed.length - mostShown} more failed (--json shows all)`] : []),
  ].join('\n')
}

/** A script is told when some failed. */
export function exitOfBulk({ failed }: BulkResult): void {
  if (failed.length > 0) process.exitCode = exitCodes.jobFailed
}
