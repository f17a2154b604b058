import type { RunRecord } from './run-record.js'
import type { JobSpec } from './spec.js'

/** When a job's time is up, in milliseconds since 1970, and which of its times that is. */
export interface Deadline {
  readonly kind: 'timeout' | 'waitTimeout'
  readonly atMs: number
}

/**
 * The deadline that a job is under now; null while it may wait without limit. `waitTimeout` bounds the time until its first sandbox, `timeout`
 * counts from that on, and for each of its attempts anew.
 * @param enqueuedAtMs when it came into the queue; of a later run of the job, when that was taken.
 */
export function deadlineOf(record: Pick<RunRecord, 'firstSandboxAtMs' | 'startedAtMs' | 'restart' | 'attempts' | 'parking'>, spec: Pick<JobSpec, 'timeoutMs' | 'waitTimeoutMs'>, enqueuedAtMs: number): Deadline | null {
  const { firstSandboxAtMs, startedAtMs, restart, attempts } = record
  if (firstSandboxAtMs !== null) return { kind: 'timeout', atMs: firstSandboxAtMs + spec.timeoutMs }
  // Its time stands still until its next sandbox is there.
  if (record.parking !== undefined && record.parking.timeUsedMs > 0) return null
  // An earlier release recorded no first sandbox.
  const began = attempts.slice(restart?.attemptsBefore ?? 0).some(({ sandboxId }) => sandboxId !== null)
  if (began) return { kind: 'timeout', atMs: (restart?.atMs ?? startedAtMs) + spec.timeoutMs }
  if (restart !== null || spec.waitTimeoutMs === undefined) return null
  return { kind: 'waitTimeout', atMs: enqueuedAtMs + spec.waitTimeoutMs }
}

/** Why a job ended whose time was up. @param waitingFor what it waited for then; null when it did not. */
export function timeoutSentence(kind: Deadline['kind'], spec: Pick<JobSpec, 'timeoutMs' | 'waitTimeoutMs'>, waitingFor: string | null): string {
  const what = kind === 'timeout' ? `the job did not end within its timeout of ${spec.timeoutMs / 1000} s` : `the job got no sandbox within its waitTimeout of ${(spec.waitTimeoutMs ?? 0) / 1000} s`
  return waitingFor === null ? what : `${what}; it was ${waitingFor}`
}
