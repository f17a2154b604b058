import { type EventKind, eventKinds, type EventPoint } from '../events/index.js'
import { parseDuration } from '../job/duration.js'
import { InvalidInputError } from '../job/errors.js'
import { timeIn } from '../job/since.js'

/** What the flags of `switchyard events` mean, and what is wrong with them. Pure functions. */

/** Where to begin; undefined for the first that is kept. @throws InvalidInputError when a flag is wrong, or both are given. */
export function pointOf({ after, since }: { readonly after?: string; readonly since?: string }, nowMs: number = Date.now()): EventPoint | undefined {
  if (after !== undefined && since !== undefined) throw new InvalidInputError('--after: is given together with --since; give one of the two')
  if (after !== undefined) {
    if (!/^\d{1,19}-\d{1,19}$/.test(after)) throw new InvalidInputError(`--after: "${after}" must be the sequence of an event, such as 1764300000000-0`)
    return { after }
  }
  if (since === undefined) return undefined
  const ago = parseDuration(since)
  const sinceMs = ago !== undefined ? Math.max(0, nowMs - ago) : /^\d{4}-\d\d-\d\d([T ]|$)/.test(since) ? timeIn(since, '--since') : Number.NaN
  if (Number.isNaN(sinceMs) || sinceMs < 0) throw new InvalidInputError(`--since: "${since}" must be a time such as 2026-12-01T08:00:00Z, or a duration such as 2h`)
  return { sinceMs }
}

/** @throws InvalidInputError when it is not a whole number within its bounds. */
export function limitOf(text: string, most: number): number {
  const limit = Number(text)
  if (!Number.isInteger(limit) || limit < 1 || limit > most) throw new InvalidInputError(`--limit: "${text}" must be a whole number from 1 to ${most}`)
  return limit
}

/** Which events to print; all when none are named. @throws InvalidInputError for a type that there is none of. */
export function kindsOf(types: readonly string[] | undefined): readonly EventKind[] {
  if (types === undefined) return eventKinds
  return types.flatMap((list) => list.split(',')).map((name) => {
    const kind = eventKinds.find((each) => each === name)
    if (kind === undefined) throw new InvalidInputError(`--type: "${name}" must be one of ${eventKinds.join(', ')}`)
    return kind
  })
}

/** Which dead events to give back. @throws InvalidInputError when it is neither ids nor all, or both. */
export function idsOf(ids: readonly string[], { all }: { readonly all?: boolean }): readonly string[] | 'all' {
  if ((ids.length === 0) === (all !== true)) throw new InvalidInputError('events redeliver: give the ids of dead events, or --all, and not both; "switchyard events dead" shows them')
  return all === true ? 'all' : [...new Set(ids)]
}
