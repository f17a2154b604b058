import type { JobSpec } from '../../job/spec.js'
import type { CommitIdentity } from '../../runner/runner.js'

/** Who commits what an agent left uncommitted, unless the spec names an author. */
export const switchyardIdentity: CommitIdentity = { name: 'Switchyard', email: 'switchyard@localhost' }

/** The final commit's author. */
export function commitAuthor(push: JobSpec['push']): CommitIdentity {
  return (push === false ? undefined : push.author) ?? switchyardIdentity
}

/** The final commit's message: what the spec says, and trailers that lead back to the run. */
export function commitMessage(push: JobSpec['push'], run: { jobId: string; provider: string; sandboxId: string; attempt: number }): string {
  const subject = (push === false ? undefined : push.message) ?? `Work of job ${run.jobId}`
  const trailers = [
    `Agent-Job: ${run.jobId}`,
    `Agent-Provider: ${run.provider}`,
    `Agent-Sandbox: ${run.sandboxId}`,
    `Agent-Attempt: ${run.attempt}`,
  ]
  return `${subject.trimEnd()}\n\n${trailers.join('\n')}\n`
}
