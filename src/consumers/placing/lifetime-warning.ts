import type { JobSpec } from '../../job/spec.js'
import { clockTime } from '../../store/provider-load.js'

/** How much earlier than the job a sandbox may end before it is worth a word: clocks differ, and a create takes its time. */
const slackMs = 60_000

export interface SandboxLifetime {
  readonly provider: string
  /** When the sandbox ends whatever is done; undefined when there is no such moment. Milliseconds since 1970. */
  readonly endsAtMs: number | undefined
  readonly nowMs: number
  /** When the job's own timeout ends it. */
  readonly deadlineMs: number
}

/**
 * What a job is told before its steps start in a sandbox that may end under one of them. A step that can be moved ("resume") needs
 * no word, nor does one whose own timeout fits into what its sandbox lives.
 * @param steps those that are still to run.
 * @returns one sentence that names the steps and the mend; undefined when all fit.
 */
export function lifetimeWarning(steps: readonly Pick<JobSpec['steps'][number], 'name' | 'timeoutMs' | 'resume'>[], { provider, endsAtMs, nowMs, deadlineMs }: SandboxLifetime): string | undefined {
  if (endsAtMs === undefined || deadlineMs - endsAtMs <= slackMs) return undefined
  const livesMs = Math.max(0, endsAtMs - nowMs)
  const long = steps.filter((step) => step.resume === undefined && (step.timeoutMs ?? Infinity) > livesMs)
  if (long.length === 0) return undefined
  const names = long.map(({ name }) => `"${name}"`).join(', ')
  return (
    `this sandbox of ${provider} ends at ${clockTime(endsAtMs)} (UTC) at the latest, in ${Math.round(livesMs / 1000)} s, and the job may run until ${clockTime(deadlineMs)}: ` +
    `of ${names} what still runs then is lost with it and begins again in another sandbox; give such a step a "resume" to be moved with or a shorter timeout, or allow a provider whose sandboxes live longer`
  )
}
