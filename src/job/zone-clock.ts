const formats = new Map<string, Intl.DateTimeFormat>()

/** What a zone's clock shows at a moment, as if it were UTC's; milliseconds since 1970, whole seconds. */
export function shownAt(atMs: number, timezone: string): number {
  const parts = formatOf(timezone).formatToParts(atMs)
  const part = (type: Intl.DateTimeFormatPartTypes) => Number(parts.find((each) => each.type === type)?.value)
  return Date.UTC(part('year'), part('month') - 1, part('day'), part('hour'), part('minute'), part('second'))
}

/** How far a zone's clock is ahead of UTC at a moment, in milliseconds. */
export function offsetAt(atMs: number, timezone: string): number {
  return shownAt(atMs, timezone) - Math.floor(atMs / 1_000) * 1_000
}

/** The change of each zone's clock that was looked for last: whoever asks asks about that again. */
const changes = new Map<string, { readonly changedMs: number; readonly beforeMs: number; readonly afterMs: number }>()

/** The moment, in whole seconds, from which a zone's clock is as far ahead of UTC as at `untilMs`, where it is not at `fromMs`, and changes once in between. */
export function changeOfOffset(fromMs: number, untilMs: number, timezone: string): number {
  const [beforeMs, afterMs] = [offsetAt(fromMs, timezone), offsetAt(untilMs, timezone)]
  const known = changes.get(timezone)
  if (known !== undefined && known.changedMs > fromMs && known.changedMs <= untilMs && known.beforeMs === beforeMs && known.afterMs === afterMs) return known.changedMs
  let [earlier, later] = [Math.floor(fromMs / 1_000), Math.floor(untilMs / 1_000)]
  while (later - earlier > 1) {
    const middle = Math.floor((earlier + later) / 2)
    if (offsetAt(middle * 1_000, timezone) === afterMs) later = middle
    else earlier = middle
  }
  const changedMs = later * 1_000
  changes.set(timezone, { changedMs, beforeMs, afterMs })
  return changedMs
}

/** Further from a moment than any zone's clock is from UTC. */
const aroundMs = 26 * 3_600_000

/**
 * When a zone's clock first shows something; where it is put forward past that, as long after the change as that is after the moment of it.
 * @param shownMs as `shownAt` has it.
 */
export function firstShown(shownMs: number, timezone: string): number {
  const before = offsetAt(shownMs - aroundMs, timezone)
  const found = [before, offsetAt(shownMs + aroundMs, timezone)].map((offset) => shownMs - offset).filter((atMs) => shownAt(atMs, timezone) === shownMs)
  return found.length === 0 ? shownMs - before : Math.min(...found)
}

function formatOf(timezone: string): Intl.DateTimeFormat {
  const known = formats.get(timezone)
  if (known !== undefined) return known
  const made = new Intl.DateTimeFormat('en-US', { timeZone: timezone, calendar: 'iso8601', numberingSystem: 'latn', hourCycle: 'h23', year: 'numeric', month: '2-digit', day: '2-digit', hour: '2-digit', minute: '2-digit', second: '2-digit' })
  formats.set(timezone, made)
  return made
}
