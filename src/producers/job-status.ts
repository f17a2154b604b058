import { costMicros, sumOf, type Cost } from '../job/cost.js'
import type { JobSpec } from '../job/spec.js'
import type { RunRecord } from '../job/run-record.js'
import type { JobStatus } from '../job/status.js'
import type { StoredRun } from '../store/index.js'
import { isRetried, type QueueView } from './queue-view.js'
import { waitingReason, type Around } from './waiting-reason.js'

/**
 * Merges what the queue and the run record say. The record is the truth of a run; the queue only knows of a retry
 * before its first holder does.
 * @param around what a job may wait for that nobody has in hand; null where that was not looked up.
 * @returns null when neither knows the job.
 */
export function mergeStatus(
  jobId: string,
  queued: QueueView | null,
  stored: StoredRun | null,
  around: Around | null,
  nowMs: number = Date.now(),
): JobStatus | null {
  // BullMQ forgets ended jobs by the next that ends as they did, which may be long after the record that says how this one did.
  if (stored === null && (queued === null || queued.finished)) return null
  const retried = queued !== null && stored !== null && isRetried(queued, stored)
  const run = retried ? null : stored
  const record = run?.record ?? null
  const result = run?.result ?? null
  const running = record !== null && result === null
  return {
    jobId,
    repository: queued?.spec?.repository ?? stored?.record?.repository ?? stored?.result?.repository ?? '',
    tenant: queued?.spec?.tenant ?? stored?.result?.tenant ?? stored?.record?.tenant ?? null,
    state: result?.status ?? (running ? (isParked(record) ? 'parked' : 'running') : 'waiting'),
    reason: result !== null ? null : reasonOf(queued, run?.reason ?? null, running ? record : null, around),
    phase: record?.phase ?? null,
    // Of an ended job, where it was last.
    provider: record?.sandbox?.provider ?? record?.creating?.provider ?? result?.attempts.at(-1)?.provider ?? null,
    sandboxId: record?.sandbox?.id ?? null,
    step: running ? stepUnderWay(record, queued?.spec) : null,
    cost: result === null ? costUntil(record, nowMs) : (result.usage.cost ?? null),
    attempts: record?.attempts.length ?? result?.attempts.length ?? 0,
    checkpointSha: record?.checkpoint?.sha ?? null,
    checkpointProblem: running ? checkpointProblem(record) : null,
    unsaved: result?.unsaved ?? record?.unsaved ?? [],
    unsavedMore: result?.unsavedMore ?? record?.unsavedMore ?? 0,
    enqueuedAtMs: queued?.enqueuedAtMs ?? record?.startedAtMs ?? stored?.atMs ?? 0,
    startedAtMs: record?.startedAtMs ?? null,
    endedAtMs: result === null ? null : (run?.atMs ?? null),
    result,
  }
}

/** Its supervisor knows best; of a job that nobody has in hand, what is around it says more than who had it last. */
function reasonOf(queued: QueueView | null, said: string | null, record: RunRecord | null, around: Around | null): string | null {
  if (queued?.inHand === true) return said
  if (record !== null && isParked(record)) return record.parking?.reason ?? said
  return (around === null ? null : waitingReason(queued?.spec, record, around)) ?? said
}

function checkpointProblem({ checkpointProblem: problem }: RunRecord): string | null {
  if (problem === null) return null
  const tries = problem.failures === 1 ? 'once' : `${problem.failures} times`
  return `not saved since ${new Date(problem.sinceMs).toISOString().slice(11, 19)}, tried ${tries} (${problem.error.kind}): ${problem.error.message}`
}

function isParked({ parking }: RunRecord): boolean {
  return parking !== undefined && parking.reason !== null
}

/** About: the sandbox's time began by Redis' clock, and this process has its own. */
function costUntil(record: RunRecord | null, nowMs: number): Cost | null {
  if (record === null) return null
  const living = [record.sandbox?.billed, record.next?.sandbox?.billed].flatMap((billed) => (billed === undefined ? [] : [{ micros: costMicros(billed, nowMs - billed.fromMs), currency: billed.currency }]))
  return sumOf([...record.attempts.map(({ cost }) => cost), ...living])
}

function stepUnderWay(record: RunRecord, spec: JobSpec | undefined): string | null {
  if (record.running === null) return null
  const setup = record.phase === 'setup'
  const index = setup ? record.setupIndex : record.stepIndex
  const steps = setup ? spec?.setup : spec?.steps
  const step = steps?.[index]
  if (steps === undefined || step === undefined) return record.running.key
  return `${index + 1}/${steps.length} ${step.name}`
}
