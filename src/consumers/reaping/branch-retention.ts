import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import type { GitHost } from '../../git/host.js'
import { errorMessage } from '../../job/errors.js'
import { untilAborted, type BranchSchedule, type DueBranch, type Reaping } from '../../store/index.js'

/**
 * How long the branches of ended jobs are kept.
 *
 *   the run ends ──► scheduled ──time is up──► deleted
 *                       ▲           │  └─────► given up, after `maxFailures`; said
 *                       └─ failed ──┘          (twice as long each time, a day at most)
 */

const firstRetryMs = 60_000
const longestRetryMs = 24 * 60 * 60 * 1000
/** With the pauses above this is about three weeks. */
const maxFailures = 30

/** When the deletion of a branch that failed so often, this time included, is tried again; null for never. */
export function retryAfterMs(failures: number): number | null {
  return failures >= maxFailures ? null : Math.min(longestRetryMs, firstRetryMs * 2 ** (failures - 1))
}

export interface BranchSweepParts {
  readonly schedule: BranchSchedule
  readonly reaping: Reaping
  readonly git: GitHost
  readonly callTimeoutMs: number
  readonly log: Logger
  readonly now: () => number
}

const batchSize = 50
const deletesAtOnce = 4
/** No provider has this name, so the claim is the sweep's own. */
const claimName = ':branches'

/**
 * Deletes the branches whose time is up, batch after batch until none is left or `budgetMs` is used; one process of a deployment at a time.
 * @returns how many were deleted; null when another process does it, or did so within `gapMs`.
 */
export async function sweepBranches(parts: BranchSweepParts, options: { readonly gapMs: number; readonly budgetMs: number; readonly signal: AbortSignal }): Promise<number | null> {
  const { schedule, reaping, now } = parts
  const { signal } = options
  const ttlMs = (batchSize / deletesAtOnce) * parts.callTimeoutMs + 30_000
  const claim = (gapMs: number) => untilAborted(reaping.claim(claimName, { gapMs, ttlMs }), signal)
  if ((await claim(options.gapMs)) === null) return null
  let deleted = 0
  try {
    const untilMs = now() + options.budgetMs
    for (;;) {
      const due = await untilAborted(schedule.due(now(), batchSize), signal)
      for (let start = 0; start < due.length; start += deletesAtOnce) {
        const outcomes = await Promise.all(due.slice(start, start + deletesAtOnce).map((branch) => deleteBranch(parts, branch, signal)))
        deleted += outcomes.filter(Boolean).length
        signal.throwIfAborted()
      }
      if (due.length < batchSize || now() >= untilMs || (await claim(0)) === null) return deleted
      // The host serves jobs meanwhile.
      await sleep(100, undefined, { signal })
    }
  } finally {
    await untilAborted(reaping.finish(claimName, null), AbortSignal.timeout(parts.callTimeoutMs))
  }
}

async function deleteBranch({ schedule, git, callTimeoutMs, log, now }: BranchSweepParts, branch: DueBranch, signal: AbortSignal): Promise<boolean> {
  const { repository, name, failures } = branch
  try {
    await git.deleteBranch(repository, { name, ephemeral: git.ephemeral }, { timeoutMs: callTimeoutMs, signal })
    await untilAborted(schedule.remove(branch), signal)
    log.debug({ repository, branch: name }, 'branch of an ended job deleted')
    return true
  } catch (error) {
    signal.throwIfAborted()
    const delayMs = retryAfterMs(failures + 1)
    const what = { repository, branch: name, failures: failures + 1, message: errorMessage(error) }
    if (delayMs === null) {
      log.error(what, 'branch of an ended job not deleted; given up, delete it by hand')
      await untilAborted(schedule.remove(branch), signal)
    } else {
      log.warn({ ...what, retryInMs: delayMs }, 'branch of an ended job not deleted; tried again')
      await untilAborted(schedule.postpone(branch, now() + delayMs), signal)
    }
    return false
  }
}
