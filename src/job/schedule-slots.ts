import { counted } from './counted.js'
import { CronExpressionParser } from 'cron-parser'
import { changeOfOffset, firstShown, offsetAt, shownAt } from './zone-clock.js'

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
  return timing.timezone === 'UTC' ? next(parse(timing, afterMs)) : nextInZone(timing, afterMs)
}

/** Whether a cron expression's months have one of its days: to look for one that never comes takes the library half a second. @throws Error for one that is none. */
export function hasDay(cron: string): boolean {
  const { dayOfMonth, dayOfWeek, month } = CronExpressionParser.parse(cron).fields
  return !dayOfWeek.isWildcard || month.values.some((each) => dayOfMonth.values.some((day) => day === 'L' || day <= (daysOfMonths[each - 1] ?? 31)))
}

/** In a leap year. */
const daysOfMonths = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]

/** Longer than a clock is ever put forward or back by, and shorter than it then stays so. */
const changeMs = 26 * 3_600_000
const secondMs = 1_000
const hoursOfDay = 24

/**
 * The next time by what the zone's clock shows. What it leaves out where it is put forward comes as long after that moment as it would have come otherwise; of what it shows twice
 * where it is put back only the first comes, unless times come in every hour. The library is asked about UTC alone: of other zones it says another next time around such a moment
 * when it is asked from another one, or one that is over.
 */
function nextInZone(timing: Cron, afterMs: number): number | null {
  const { timezone } = timing
  const inEveryHour = CronExpressionParser.parse(timing.cron).fields.hour.values.length === hoursOfDay
  /** The first time at or after a moment at which this offset holds, whenever it ends. */
  const firstFrom = (fromMs: number, offsetMs: number) => {
    const shownMs = next(parse({ ...timing, timezone: 'UTC' }, fromMs + offsetMs - secondMs))
    return shownMs === null ? null : shownMs - offsetMs
  }
  for (let fromMs = (Math.floor(afterMs / secondMs) + 1) * secondMs; ; ) {
    const offsetMs = offsetAt(fromMs, timezone)
    const beforeMs = offsetAt(fromMs - changeMs, timezone)
    const changedMs = beforeMs === offsetMs ? fromMs : changeOfOffset(fromMs - changeMs, fromMs, timezone)
    // Until when its clock leaves out, or shows again, what it would have shown, or has.
    const changeEndsMs = changedMs + Math.abs(offsetMs - beforeMs)
    const leftOutMs = offsetMs > beforeMs ? firstFrom(fromMs, beforeMs) : null
    const shownMs = firstFrom(offsetMs < beforeMs && !inEveryHour ? Math.max(fromMs, changeEndsMs) : fromMs, offsetMs)
    const foundMs = leftOutMs !== null && leftOutMs < changeEndsMs && (shownMs === null || leftOutMs < shownMs) ? leftOutMs : shownMs
    if (foundMs === null) return null
    // Another offset may hold by then: it is looked for again from shortly before, or from where that begins.
    if (foundMs - fromMs > changeMs) fromMs = foundMs - changeMs
    else if (offsetAt(foundMs, timezone) === offsetMs) return foundMs
    else fromMs = changeOfOffset(fromMs, foundMs, timezone)
  }
}

/** The times in (`afterMs`, `nowMs`], the earliest first, of many the latest `most`; `more` when there were others before. */
export function slotsBetween(timing: Timing, afterMs: number, nowMs: number, most: number): { readonly slots: number[]; readonly more: boolean } {
  if ('everyMs' in timing) {
    const found: number[] = []
    for (let slot = Math.floor(nowMs / timing.everyMs) * timing.everyMs; slot > afterMs && found.length <= most; slot -= timing.everyMs) found.push(slot)
    return { slots: found.slice(0, most).reverse(), more: found.length > most }
  }
  // Back by what the clock shows: over the hour that a zone leaves out the library finds its way forward alone.
  const { timezone } = timing
  const shown = parse({ ...timing, timezone: 'UTC' }, shownAt(nowMs, timezone) + 1_000)
  for (let count = most + 1; ; count *= 2) {
    let before = nowMs
    for (let index = 0; index < count && before > afterMs; index++) {
      const slot = previous(shown)
      before = slot === null ? afterMs : Math.max(afterMs, firstShown(slot, timezone) - 1)
    }
    const slots = forward(timing, before, nowMs, most + mostAtOnce)
    // Of those that a clock shows some are one and the same moment where it is put forward.
    if (slots.length > most || before === afterMs) return { slots: slots.slice(-most), more: slots.length > most }
  }
}

/** How many more times there may be than a clock shows, at most: of the hour that comes twice. */
const mostAtOnce = 3_600

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

type Cron = Exclude<Timing, { everyMs: number }>
type ParsedCron = ReturnType<typeof CronExpressionParser.parse>

function parse({ cron, timezone }: Cron, atMs: number): ParsedCron {
  return CronExpressionParser.parse(cron, { currentDate: new Date(atMs), tz: timezone })
}

function next(cron: ParsedCron): number | null {
  try {
    return cron.next().getTime()
  } catch {
    // The library throws when it finds no such day.
    return null
  }
}

function previous(cron: ParsedCron): number | null {
  try {
    return cron.prev().getTime()
  } catch {
    return null
  }
}
