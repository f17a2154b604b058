import type { RunRecord } from '../../job/run-record.js'
import type { SandboxInfo } from '../../providers/provider.js'
import { unansweredCreateMs } from '../../store/slot-owners.js'
import type { BoundSlot, ReapMemory, StoredRun } from '../../store/index.js'

/**
 * What is to become of each sandbox that a provider lists, and of each place that its ledger holds. Pure functions of the listing,
 * of the run records as they were read AFTER it, and of what the round before remembered.
 *
 * The order matters: the intent to create is recorded before a create is called, so a record that was read after the listing
 * names every sandbox in it that belongs to its run. In doubt nothing is killed and nothing is freed.
 */

/** A run as it was found; `unreadable` when its record is not one that this version knows. */
export type FoundRun = StoredRun | 'unreadable' | null

/**
 * - `owned`: a live run's sandbox, or the one that it is creating
 * - `young`: nobody's, but younger than the grace; left for now
 * - `orphan`: nobody's; to be killed
 * - `unclear`: its run's record can't be read; left
 * - `foreign`: not this deployment's; never touched
 */
export type Verdict = 'owned' | 'young' | 'orphan' | 'unclear' | 'foreign'

export interface JudgedSandbox {
  readonly id: string
  readonly jobId: string | null
  /** By the provider's word, else since it was first seen; null when it is owned or foreign and the provider does not say. */
  readonly ageMs: number | null
  readonly verdict: Verdict
  /** Half a sentence. */
  readonly why: string
}

export interface Surroundings {
  readonly provider: string
  readonly deployment: string
  readonly runs: ReadonlyMap<string, FoundRun>
  readonly memory: ReapMemory
  /** Sandboxes that have places of their own: those that whoever had them has given up, or is about to. */
  readonly givenUp: ReadonlySet<string>
  readonly graceMs: number
  /** Of this process, in milliseconds since 1970: compared with what the provider says of its sandboxes. */
  readonly now: number
  /** Of the ledger, in milliseconds. What rounds remember is by this one, since the next may be another process's whose clock differs by hours. */
  readonly atMs: number
}

export function judgeSandbox(info: SandboxInfo, around: Surroundings): JudgedSandbox {
  const jobId = info.tags['switchyard-job'] ?? null
  const says = (verdict: Verdict, why: string, ageMs = ageOf(info, around)): JudgedSandbox => ({ id: info.id, jobId, ageMs, verdict, why })
  if (info.tags['switchyard-deployment'] !== around.deployment) return { ...says('foreign', 'not of this deployment'), jobId: null }
  const run = jobId === null ? null : (around.runs.get(jobId) ?? null)
  if (run === 'unreadable') return says('unclear', "its run's record can't be read")
  const record = run?.record ?? null
  // A later release's record is shown as none.
  if (run !== null && run.result === null && record === null) return says('unclear', "its run's record can't be read")
  const live = run !== null && run.result === null && record !== null
  if (live && owns(record, info, around.provider)) return says('owned', `of a run in phase ${record.phase}`)
  // Its run may be another's by now, of a job that came under the same id.
  if (around.givenUp.has(info.id) || record?.abandoned.some(({ provider, id }) => provider === around.provider && id === info.id) === true) {
    return says('orphan', 'given up by its run')
  }
  const knownForMs = around.atMs - (around.memory.sandboxes[info.id]?.firstSeenAtMs ?? around.atMs)
  const ageMs = Math.max(ageOf(info, around) ?? 0, knownForMs)
  const why = live ? 'its run goes on without it' : run === null ? 'no run is known for it' : 'its run has ended'
  return says(ageMs < around.graceMs ? 'young' : 'orphan', why, ageMs)
}

function ageOf(info: SandboxInfo, { now }: Surroundings): number | null {
  return info.createdAtMs === undefined ? null : now - info.createdAtMs
}

function owns(record: RunRecord, info: SandboxInfo, provider: string): boolean {
  const { sandbox, creating, attempts, next } = record
  if ([sandbox, next?.sandbox].some((own) => own?.provider === provider && own.id === info.id)) return true
  // The one that a job is about to move to is of the attempt that comes.
  return isCreating(creating, attempts.length) || isCreating(next?.creating, attempts.length + 1)

  function isCreating(intent: RunRecord['creating'] | undefined, attempt: number): boolean {
    if (intent?.provider !== provider) return false
    return info.name === undefined ? info.tags['switchyard-attempt'] === String(attempt) : info.name === intent.name
  }
}

/**
 * - `kept`: its owner needs it, or may
 * - `waits`: its owner seems gone; it is freed when that is still so after a while
 * - `free`: its owner is gone
 * - `forgotten`: its run is live, but its job was removed from the queue: nobody can go on with it, so it is to be ended
 */
export type SlotVerdict = 'kept' | 'waits' | 'free' | 'forgotten'

/**
 * @param alive what lives at the provider after this round's kills, from a complete listing.
 * @param sinceListingMs how long ago that listing began.
 */
export function judgeSlot(slot: BoundSlot, alive: readonly SandboxInfo[], sinceListingMs: number, around: Surroundings): SlotVerdict {
  const { owner, leaseId } = slot
  if (owner.kind === 'sandbox') return alive.some(({ id }) => id === owner.sandboxId) ? 'kept' : 'free'
  const ofJob = alive.filter(({ tags }) => tags['switchyard-job'] === owner.runId)
  if (owner.kind === 'create') {
    // The job's next run counts its attempts from 1 again. The sandboxes that it knows have answered, and have places of their own.
    const known = around.runs.get(owner.runId) ?? null
    const answered = known === null || known === 'unreadable' || known.result !== null ? [] : [known.record?.sandbox, known.record?.next?.sandbox]
    const mayBeIts = ofJob.filter(({ id }) => !answered.some((own) => own?.provider === around.provider && own.id === id))
    if (mayBeIts.some(({ tags }) => tags['switchyard-attempt'] === String(owner.attempt))) return 'kept'
    return slot.heldMs - sinceListingMs >= unansweredCreateMs ? 'free' : 'waits'
  }
  const run = around.runs.get(owner.runId) ?? null
  const live = run !== null && run !== 'unreadable' && run.result === null
  // A supervisor whose job is removed under it knows when its lease has run out; a job has its place a moment before it has its record.
  const sinceMs = around.memory.places[leaseId] ?? around.atMs
  const overdue = around.atMs - sinceMs >= around.graceMs
  if (live && slot.removed && run.record !== null) return overdue ? 'forgotten' : 'waits'
  if (run === 'unreadable' || live || ofJob.length > 0) return 'kept'
  return overdue ? 'free' : 'waits'
}

/** What the next round must know. */
export function remember(
  judged: readonly JudgedSandbox[],
  failures: ReadonlyMap<string, string>,
  killed: ReadonlySet<string>,
  waiting: readonly string[],
  { memory, atMs }: Surroundings,
): ReapMemory {
  const sandboxes: ReapMemory['sandboxes'] = {}
  for (const { id, verdict } of judged) {
    if (killed.has(id) || (verdict !== 'young' && verdict !== 'orphan')) continue
    const before = memory.sandboxes[id]
    const error = failures.get(id)
    sandboxes[id] = {
      firstSeenAtMs: before?.firstSeenAtMs ?? atMs,
      failedKills: (before?.failedKills ?? 0) + (error === undefined ? 0 : 1),
      lastError: error ?? before?.lastError ?? null,
    }
  }
  return { sandboxes, places: Object.fromEntries(waiting.map((leaseId) => [leaseId, memory.places[leaseId] ?? atMs])) }
}
