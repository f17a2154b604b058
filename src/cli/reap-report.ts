import type { ReapedSandbox, ReapRound } from '../consumers/index.js'
import { harmlessValue } from '../job/harmless-text.js'
import { counted, elapsed, table } from './output.js'

/** What `switchyard reap` found and did, for a terminal: a row a sandbox, then what could not be done. Pure. */
export function reapReport(found: readonly ReapRound[], { killed }: { readonly killed: boolean }): string {
  const rounds = harmlessValue(found)
  const sandboxes = rounds.flatMap((round) => round.sandboxes)
  const lines: string[] = []
  if (sandboxes.length > 0) {
    lines.push(
      table(
        ['PROVIDER', 'SANDBOX', 'JOB', 'AGE', 'VERDICT', 'FAILED KILLS', 'WHY'],
        sandboxes.map((sandbox) => [
          sandbox.provider,
          sandbox.id,
          sandbox.jobId ?? '-',
          sandbox.ageMs === null ? '-' : elapsed(Math.max(0, sandbox.ageMs)),
          sandbox.killed ? 'killed' : sandbox.verdict,
          String(sandbox.failedKills),
          sandbox.why,
        ]),
      ),
    )
  }
  for (const { provider, problem, foreign } of rounds) {
    if (problem !== null) lines.push(`${provider}: ${problem}`)
    else if (foreign === null) lines.push(`${provider}: the sandboxes that are not of this deployment could not be listed`)
  }
  const failed = sandboxes.filter((sandbox) => sandbox.verdict === 'orphan' && !sandbox.killed && sandbox.lastError !== null)
  for (const { provider, id, lastError } of failed) lines.push(`${provider}: ${id} could not be killed (${lastError ?? ''}); it is tried again at each round`)
  lines.push(summary(sandboxes, killed))
  return lines.join('\n')
}

function summary(sandboxes: readonly ReapedSandbox[], killed: boolean): string {
  const count = (is: (sandbox: ReapedSandbox) => boolean) => String(sandboxes.filter(is).length)
  const orphans = killed
    ? `${count((sandbox) => sandbox.killed)} killed, ${count((sandbox) => sandbox.verdict === 'orphan' && !sandbox.killed)} left`
    : `${count((sandbox) => sandbox.verdict === 'orphan')} would be killed`
  return `${counted(sandboxes.length, 'sandbox', 'sandboxes')}: ${count((sandbox) => sandbox.verdict === 'owned')} owned, ${count((sandbox) => sandbox.verdict === 'young')} young, ${count((sandbox) => sandbox.verdict === 'unclear')} unclear, ${count((sandbox) => sandbox.verdict === 'foreign')} foreign; ${orphans}`
}
