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
 * @param waitsSinceMs since when it waits to be run; see `waitsSince`.
 */
export function deadlineOf(record: Pick<RunRecord, 'firstSandboxAtMs' | 'startedAtMs' | 'restart' | 'attempts' | 'parking'>, spec: Pick<JobSpec, 'timeoutMs' | 'waitTimeoutMs'>, waitsSinceMs: number): Deadline | null {
  const { firstSandboxAtMs, startedAtMs, restart, attempts } = record
  if (firstSandboxAtMs !== null) return { kind: 'timeout', atMs: firstSandboxAtMs + spec.timeoutMs }
  // Its time stands still until its next sandbox is there.
  if (record.parking !== undefined && record.parking.timeUsedMs > 0) return null
  // An earlier release recorded no first sandbox.
  const began = attempts.slice(restart?.attemptsBefore ?? 0).some(({ sandboxId }) => sandboxId !== null)
  if (began) return { kind: 'timeout', atMs: (restart?.atMs ?? startedAtMs) + spec.timeoutMs }
  if (restart !== null || spec.waitTimeoutMs === undefined) return null
  return { kind: 'waitTimeout', atMs: waitsSinceMs + spec.waitTimeoutMs }
}

/** Why a job ended whose time was up. @param waitingFor what it waited for then; null when it did not. */
export function timeoutSentence(kind: Deadline['kind'], spec: Pick<JobSpec, 'timeoutMs' | 'waitTimeoutMs'>, waitingFor: string | null): string {
  const what = kind === 'timeout' ? `the job did not end within its timeout of ${spec.timeoutMs / 1000} s` : `the job got no sandbox within its waitTimeout of ${(spec.waitTimeoutMs ?? 0) / 1000} s`
  return waitingFor === null ? what : `${what}; it was ${waitingFor}`
}

/** A time to wait as those who count it know it: machines' clocks differ, and Redis' may be set. */
export interface CountedWait {
  /** When the job might first be run, by the clock of who enqueued it; of a later run, when that was taken. */
  readonly fromMs: number
  /** How long it may wait still, by Redis' clock; null where that does not know it. */
  readonly leftMs: number | null
}

/**
 * Since when a job waits to be run, in milliseconds since 1970 by this process's clock. Its time is over only when both clocks say so: one
 * that is wrong by hours ends no job.
 */
export function waitsSince({ fromMs, leftMs }: CountedWait, waitTimeoutMs: number | undefined, nowMs: number): number {
  const byRedis = leftMs === null || waitTimeoutMs === undefined ? fromMs : nowMs + leftMs - waitTimeoutMs
  return Math.min(nowMs, Math.max(fromMs, byRedis))
}
