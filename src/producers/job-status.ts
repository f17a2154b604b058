import type { JobSpec } from '../job/spec.js'
import type { RunRecord } from '../job/run-record.js'
import type { JobStatus } from '../job/status.js'
import { describeLoad, type ProviderLoad, type StoredRun } from '../store/index.js'
import type { QueueView } from './queue-view.js'

/** A tenant's jobs in hand, and how many it may have; null for no cap. */
export interface TenantLoad {
  readonly running: number
  readonly cap: number | null
}

/**
 * Merges what the queue and the run record say. The record is the truth of a run; the queue only knows of a retry
 * before its first holder does.
 * @param loads what the providers hold, for why a job waits.
 * @param tenant the job's tenant, when it has one.
 * @returns null when neither knows the job.
 */
export function mergeStatus(
  jobId: string,
  queued: QueueView | null,
  stored: StoredRun | null,
  loads: readonly ProviderLoad[],
  tenant: TenantLoad | null = null,
): JobStatus | null {
  if (queued === null && stored === null) return null
  const retried = queued !== null && stored !== null && !queued.finished && queued.generation > stored.generation
  const run = retried ? null : stored
  const record = run?.record ?? null
  const result = run?.result ?? null
  const running = record !== null && result === null
  return {
    jobId,
    repository: queued?.spec.repository ?? stored?.record?.repository ?? stored?.result?.repository ?? '',
    state: result?.status ?? (running ? 'running' : 'waiting'),
    reason: result !== null ? null : (run?.reason ?? (running ? null : waitingReason(queued?.spec, loads, tenant))),
    phase: record?.phase ?? null,
    // Of an ended job, where it was last.
    provider: record?.sandbox?.provider ?? record?.creating?.provider ?? result?.attempts.at(-1)?.provider ?? null,
    sandboxId: record?.sandbox?.id ?? null,
    step: running ? stepUnderWay(record, queued?.spec) : null,
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

function checkpointProblem({ checkpointProblem: problem }: RunRecord): string | null {
  if (problem === null) return null
  const tries = problem.failures === 1 ? 'once' : `${problem.failures} times`
  return `not saved since ${new Date(problem.sinceMs).toISOString().slice(11, 19)}, tried ${tries} (${problem.error.kind}): ${problem.error.message}`
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

function hasRoom(load: ProviderLoad): boolean {
  return load.used < load.effectiveLimit && load.blockedUntilMs === null && (load.breaker === 'closed' || load.breaker === 'half-open')
}

/** Why a job that nobody has taken waits: every provider it may use is full or does not work. */
function waitingReason(spec: JobSpec | undefined, loads: readonly ProviderLoad[], tenant: TenantLoad | null): string | null {
  if (tenant !== null && tenant.cap !== null && tenant.running >= tenant.cap) {
    return `waiting for tenant ${spec?.tenant ?? ''}: ${tenant.running} of at most ${tenant.cap} jobs are running`
  }
  const usable = loads.filter(({ provider }) => (spec?.providers.allow?.includes(provider) ?? true) && !spec?.providers.deny.includes(provider))
  if (usable.length === 0 || usable.some(hasRoom)) return null
  return `waiting for capacity: ${usable.map(describeLoad).join(', ')}`
}
