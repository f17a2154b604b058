import type { RedisEvidence } from './evidence.js'
import type { HostileJob } from './hostile-jobs.js'
import type { Violation } from './violation.js'

/** Whether each job that attacks its runner has ended, once, and by its own fault or not at all. */
export function checkHostile(jobs: readonly HostileJob[], evidence: RedisEvidence): Violation[] {
  return jobs.flatMap(({ jobId, attack }) => {
    const run = evidence.runs.get(jobId)
    const result = run?.result ?? null
    const said = (what: string): Violation => ({ jobId, what: `hostile (${attack}): ${what}` })
    if (run === undefined || result === null) return [said('did not end')]
    const ids = new Set(evidence.events.filter(({ subject }) => subject === jobId).map(({ id }) => id))
    return [
      ...(run.ends === 1 ? [] : [said(`its log has ${run.ends} ends`)]),
      ...(ids.size === 1 ? [] : [said(`it has ${ids.size} events`)]),
      ...(result.status === 'cancelled' ? [said('was cancelled')] : []),
      // A repository that the git host refuses meanwhile is another matter.
      ...(result.status !== 'failed' || result.error?.owner === 'job' || result.error?.owner === 'git-repository' ? [] : [said(`failed by the fault of ${result.error?.owner ?? 'nobody'}: ${result.error?.message ?? ''}`)]),
      ...(result.error?.message.includes('a defect in Switchyard') === true ? [said(result.error.message)] : []),
    ]
  })
}
