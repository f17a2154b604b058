/** What BullMQ knows of a job. */
export interface QueuedFacts {
  /** When it was added, by which it is told from another one of the same id. */
  readonly addedAtMs: number
  /** Whether it holds the job as completed or failed. */
  readonly finished: boolean
  /** Attempts that have ended, as it counts them; it may have been told to count them anew. */
  readonly attemptsMade: number
  /** When a consumer took the job out of the queue since it came there last, by that one's clock; null when none has. */
  readonly takenAtMs: number | null
  /** How often it has found the job stalled. */
  readonly stalledCounter: number
}

/** What the store knows of a job's last run. */
export interface LastRun {
  readonly generation: number
  readonly ended: boolean
  /** How often BullMQ had found the job stalled when it ended, or somebody was told that it has; null when it was in nobody's hands then. */
  readonly stalls: number | null
  /** Who took the job out of the queue last and knows that the run has ended, by `takenAtMs`; null when an earlier release has not written it. */
  readonly toldAtMs: number | null
  /** When it ended, by the clock of who ended it. */
  readonly atMs: number
  /** Whether it was seen that BullMQ has put the job back since. */
  readonly again: boolean
  /** When its job was added; null where an earlier release has not written it. */
  readonly of: number | null
}

/**
 * Whether BullMQ was told to run a job again, and nobody has begun that run: the state of its last run is not the job's any more.
 * As lua/next-run.lua decides it, which whoever has taken the job asks as well.
 * @returns the generation of the run that is next; null when the last one is the one that counts.
 */
export function nextGeneration(queued: QueuedFacts, last: LastRun): number | null {
  if (queued.finished) return null
  // BullMQ counts an attempt when it ends.
  if (queued.attemptsMade + 1 > last.generation) return queued.attemptsMade + 1
  // Where its attempts were counted anew, that says nothing.
  if (!last.ended) return null
  // Or its job was removed from the queue, and another one added under its id.
  if (last.again || (last.of !== null && last.of !== queued.addedAtMs)) return last.generation + 1
  // One that has stalled since is with BullMQ because its last holder died before it told it of the end.
  if (last.stalls === null || queued.stalledCounter > last.stalls) return null
  // Nobody has taken it, or somebody else than who knows. Times of two clocks are only compared where nothing else is known.
  return queued.takenAtMs === null || (last.toldAtMs === null ? queued.takenAtMs > last.atMs : queued.takenAtMs !== last.toldAtMs) ? last.generation + 1 : null
}

/** The fields of BullMQ's hash of a job that `queuedFacts` reads. */
export const queuedFields = ['timestamp', 'finishedOn', 'atm', 'processedOn', 'stc'] as const

/** @returns null when BullMQ does not hold the job. */
export function queuedFacts([timestamp = null, finishedOn = null, attempts = null, takenAtMs = null, stalls = null]: readonly (string | null)[]): QueuedFacts | null {
  if (timestamp === null) return null
  return { addedAtMs: Number(timestamp), finished: finishedOn !== null, attemptsMade: Number(attempts ?? 0), takenAtMs: takenAtMs === null ? null : Number(takenAtMs), stalledCounter: Number(stalls ?? 0) }
}

/** An ended run's field `stalls`, as lua/run-ending.lua writes it. */
function stallsIn(stalls: string | null): number | null {
  return stalls === '-' ? null : Number(stalls ?? 0)
}

/** The fields of a run's hash that `lastRun` reads, besides its generation. */
export const runFields = ['result', 'stalls', 'atMs', 'toldAtMs', 'again', 'of'] as const

/** @param values of these fields, in their order. */
export function lastRun([result = null, stalls = null, atMs = null, toldAtMs = null, again = null, of = null]: readonly (string | null)[], generation: number): LastRun {
  const ended = result !== null
  return { generation, ended, stalls: ended ? stallsIn(stalls) : null, toldAtMs: toldAtMs === null ? null : Number(toldAtMs), atMs: Number(atMs ?? 0), again: ended && again === String(generation), of: of === null ? null : Number(of) }
}
