import { counted } from './counted.js'
import { CronExpressionParser } from 'cron-parser'

/** What becomes of runs whose time went by while nobody could begin them: the schedule was paused, no consumer or no Redis was there. */
export type Missed = 'skip' | 'once' | 'all'
/** What becomes of a run whose predecessor has not ended. */
export type Overlap = 'allow' | 'skip' | 'replace'

/** When a schedule's runs are due. */
export type Timing = { readonly cron: string; readonly timezone: string } | { readonly everyMs: number }

/** How a schedule runs its job. */
export interface ScheduleRules {
  readonly timing: Timing
  readonly missed: Missed
  readonly overlap: Overlap
}

/** How many runs are made up for at most, the latest; so many a clock that was set forward, or an outage, can bring at once. */
export const mostCaughtUp = 100
/** A run that is begun so late, in milliseconds, was not missed. */
const onTimeMs = 60_000
/** A clock that stands so far behind what was begun, in milliseconds, was set back. */
const setBackMs = 60_000

/** What is to be done with a time that has come; times are in milliseconds since 1970. */
export type Due =
  | { readonly kind: 'run'; readonly slotMs: number }
  /** `count` times up to this one are not run; `why` is a clause. */
  | { readonly kind: 'pass'; readonly slotMs: number; readonly count: number; readonly why: string }
  /** The clock was set back: times count from `slotMs` on again; what was begun by the clock before is not begun twice. */
  | { readonly kind: 'reset'; readonly slotMs: number }

/** The next time after `afterMs`; null when there is none any more. @throws Error for a cron expression that is none. */
export function nextSlot(timing: Timing, afterMs: number): number | null {
  if ('everyMs' in timing) return (Math.floor(afterMs / timing.everyMs) + 1) * timing.everyMs
  const cron = parse(timing, afterMs)
  try {
    return cron.next().getTime()
  } catch {
    // The library throws when it finds no such day.
    return null
  }
}

/** The times in (`afterMs`, `nowMs`], the earliest first, of many the latest `most`; `more` when there were others before. */
export function slotsBetween(timing: Timing, afterMs: number, nowMs: number, most: number): { readonly slots: number[]; readonly more: boolean } {
  const found: number[] = []
  if ('everyMs' in timing) {
    for (let slot = Math.floor(nowMs / timing.everyMs) * timing.everyMs; slot > afterMs && found.length <= most; slot -= timing.everyMs) found.push(slot)
  } else {
    // Looks strictly before what it is given.
    const cron = parse(timing, nowMs + 1)
    while (found.length <= most) {
      const slot = previous(cron)
      if (slot === null || slot <= afterMs) break
      found.push(slot)
    }
  }
  const before = found.length > most ? (found[most] ?? afterMs) : afterMs
  const slots = 'everyMs' in timing ? found.slice(0, most).reverse() : forward(timing, before, nowMs, most + mostAtOnce)
  return { slots: slots.slice(-most), more: found.length > most || slots.length > most }
}

/** How many times the library finds forward alone where a zone's clock is put forward, at most: of the hour that is left out. */
const mostAtOnce = 3_600

/**
 * Where a zone's clock is put back, the library finds a time of the hour that comes twice once forward, and twice backward; where it is put forward, one of
 * the hour that is left out forward alone. Forward counts: it is by that that the next time is told.
 */
function forward(timing: Timing, afterMs: number, nowMs: number, most: number): number[] {
  const found: number[] = []
  for (let slot = nextSlot(timing, afterMs); slot !== null && slot > (found.at(-1) ?? afterMs) && slot <= nowMs && found.length < most; slot = nextSlot(timing, slot)) found.push(slot)
  return found
}

/**
 * What is due of a schedule, in order.
 * @param handledMs up to which time everything was seen to.
 */
export function dueOf({ timing, missed, overlap }: ScheduleRules, handledMs: number, nowMs: number): Due[] {
  if (handledMs > nowMs + setBackMs) return [{ kind: 'reset', slotMs: nowMs }]
  const { slots, more } = slotsBetween(timing, handledMs, nowMs, mostCaughtUp)
  const latest = slots.at(-1)
  if (latest === undefined) return []
  // Each of several would replace the one before.
  const passes = slots.length - runsOf(overlap === 'replace' && missed === 'all' ? 'once' : missed, slots.length, nowMs - latest <= onTimeMs)
  const passed = slots.slice(0, passes)
  const upTo = passed.at(-1)
  const due: Due[] = slots.slice(passes).map((slotMs) => ({ kind: 'run', slotMs }))
  if (upTo === undefined) return due
  const whose = passed.length === 1 && !more ? 'its time' : `the times of ${more ? 'more than ' : ''}${counted(passed.length, 'run')}`
  const why = `${whose} went by while nobody could begin ${passed.length === 1 && !more ? 'it' : 'them'} (missed: ${missed})`
  return [{ kind: 'pass', slotMs: upTo, count: passed.length, why }, ...due]
}

/** How many of the latest are run. */
function runsOf(missed: Missed, count: number, latestIsOnTime: boolean): number {
  switch (missed) {
    case 'skip':
      return latestIsOnTime ? 1 : 0
    case 'once':
      return 1
    case 'all':
      return count
  }
}

type Cron = ReturnType<typeof CronExpressionParser.parse>

function parse({ cron, timezone }: Exclude<Timing, { everyMs: number }>, atMs: number): Cron {
  return CronExpressionParser.parse(cron, { currentDate: new Date(atMs), tz: timezone })
}

function previous(cron: Cron): number | null {
  try {
    return cron.prev().getTime()
  } catch {
    return null
  }
}
