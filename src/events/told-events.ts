import { asksForEarly, type EventKind, hooksFor, isAsked } from '../job/event-kinds.js'
import type { RunRecord } from '../job/run-record.js'
import type { Telling } from '../store/index.js'
import { earlyEntry, type EarlyEventParts } from './job-event.js'

/**
 * What is told of a run between its beginning and its end. It follows from what a write of its record changes, and is written with that very
 * write: what was not written was not told, and whoever takes a run over tells what comes, and nothing again.
 *
 *   started ──► (step.finished | checkpointed | moved | parked)* ──► promoted?
 *
 * A sandbox that is there is the first of the run, or of its restart (`started`), or one that the job has moved to (`moved`).
 */

/** What of a record is looked at. */
export type ToldRecord = Pick<RunRecord, 'jobId' | 'runId' | 'generation' | 'repository' | 'attempts' | 'restart' | 'steps' | 'checkpoint' | 'promoted'> & Partial<Pick<RunRecord, 'parking'>>

/** The events of one write, in their order. Pure. */
export function eventsBetween(before: ToldRecord, after: ToldRecord, tenant: string | null = null): EarlyEventParts[] {
  const { jobId, runId = jobId, generation: run, repository, attempts, restart } = after
  const every = { jobId, run, repository, tenant }
  const id = (what: string) => `${runId}.${run}.${what}`
  const told: EarlyEventParts[] = []
  for (const [index, { provider, sandboxId }] of attempts.entries()) {
    if (sandboxId === null || before.attempts[index]?.sandboxId === sandboxId) continue
    const attempt = index + 1
    // Of an attempt that was over before the last restart this write tells only because an earlier one was lost.
    const from = index >= (restart?.attemptsBefore ?? 0) ? restart?.attemptsBefore : before.restart?.attemptsBefore
    const earlier = attempts.slice(from ?? 0, index).findLast((each) => each.sandboxId !== null)
    if (earlier === undefined) told.push({ kind: 'started', id: id(`started.${attempt}`), data: { ...every, attempt, provider, sandboxId } })
    else told.push({ kind: 'moved', id: id(`moved.${attempt}`), data: { ...every, attempt, from: { provider: earlier.provider, sandboxId: earlier.sandboxId, outcome: earlier.outcome, error: earlier.error }, to: { provider, sandboxId } } })
  }
  const attempt = Math.max(1, attempts.length)
  for (const [index, step] of after.steps.entries()) {
    if (index < before.steps.length) continue
    told.push({ kind: 'step.finished', id: id(`step.${attempt}.${index}`), data: { ...every, attempt, step: step.name, index, exitCode: step.exitCode, durationMs: step.durationMs } })
  }
  const { checkpoint, promoted } = after
  if (typeof checkpoint?.branch === 'string' && checkpoint.sha !== before.checkpoint?.sha) {
    const { sha: commit, branch, stepIndex: index, withinStep } = checkpoint
    told.push({ kind: 'checkpointed', id: id(`checkpoint.${attempt}.${commit}`), data: { ...every, attempt, commit, branch, index, withinStep } })
  }
  if (after.parking != null && after.parking.reason !== null && (before.parking?.reason ?? null) === null) {
    told.push({ kind: 'parked', id: id(`parked.${after.parking.attempts}.${after.parking.atMs}`), data: { ...every, attempt: after.parking.attempts, reason: after.parking.reason } })
  }
  if (promoted !== null && before.promoted === null) told.push({ kind: 'promoted', id: id('promoted'), data: { ...every, to: promoted.to, commit: promoted.sha, result: promoted.result } })
  return told
}

/**
 * What the store is to tell of a run's changes.
 * @param everywhere what the deployment wants of all jobs.
 * @returns undefined when nothing but the end is asked for.
 */
export function tellingOf({ asked }: Pick<RunRecord, 'asked'>, told: { readonly source: string; readonly everywhere: readonly EventKind[]; readonly tenant?: string | undefined; readonly now: () => number }): Telling | undefined {
  const { source, everywhere, tenant = null, now } = told
  if (!asksForEarly(asked, everywhere)) return undefined
  return (before, after) =>
    eventsBetween(before, after, tenant)
      .filter(({ kind }) => isAsked(kind, asked, everywhere))
      .map((event) => earlyEntry(event, { runId: after.runId ?? after.jobId, source, nowMs: now(), hooks: hooksFor(event.kind, asked) }))
}
