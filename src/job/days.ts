/** The days of a time zone, as amounts per day are counted by. */

export interface Day {
  /** `2026-12-01`. */
  readonly day: string
  /** Milliseconds since 1970. */
  readonly startsAtMs: number
}

const hourMs = 3_600_000
const formats = new Map<string, Intl.DateTimeFormat>()
const starts = new Map<string, number>()

/** Why a text is no time zone, as a clause; undefined when it is one. */
export function timeZoneProblem(timeZone: string): string | undefined {
  try {
    formatOf(timeZone)
    return undefined
  } catch {
    return `"${timeZone}" is no time zone; give one such as "Europe/Berlin" or "UTC"`
  }
}

/** The day of a moment: `2026-12-01`. */
export function dayOf(atMs: number, timeZone: string): string {
  const parts = formatOf(timeZone).formatToParts(atMs)
  const part = (type: string) => parts.find((each) => each.type === type)?.value ?? ''
  return `${part('year')}-${part('month')}-${part('day')}`
}

/** Whether a text is a day as `dayOf` gives it. */
export function isDay(text: string): boolean {
  const ms = /^\d{4}-\d{2}-\d{2}$/.test(text) ? Date.parse(`${text}T00:00:00Z`) : NaN
  return !Number.isNaN(ms) && new Date(ms).toISOString().startsWith(text)
}

/** The days around a moment: the one before, its own, and the three after. Days are as long as the zone makes them, 23 to 25 hours. */
export function daysAround(atMs: number, timeZone: string): Day[] {
  const days: Day[] = []
  for (let offset = -24; offset <= 96; offset += 12) {
    const day = dayOf(atMs + offset * hourMs, timeZone)
    if (days.at(-1)?.day !== day) days.push({ day, startsAtMs: startOf(day, atMs + offset * hourMs, timeZone) })
  }
  return days.slice(0, 5)
}

/** By bisection, since days begin where the zone says so, and not always at midnight. */
function startOf(day: string, within: number, timeZone: string): number {
  const id = `${timeZone} ${day}`
  const known = starts.get(id)
  if (known !== undefined) return known
  let before = Math.floor(within / hourMs - 30) * hourMs
  let after = within
  while (after - before > 1) {
    const middle = Math.floor((before + after) / 2)
    if (dayOf(middle, timeZone) < day) before = middle
    else after = middle
  }
  if (starts.size > 100) starts.clear()
  starts.set(id, after)
  return after
}

function formatOf(timeZone: string): Intl.DateTimeFormat {
  const known = formats.get(timeZone)
  if (known !== undefined) return known
  const made = new Intl.DateTimeFormat('en-CA', { timeZone, calendar: 'iso8601', numberingSystem: 'latn', year: 'numeric', month: '2-digit', day: '2-digit' })
  formats.set(timeZone, made)
  return made
}
