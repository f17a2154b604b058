import { isDay } from './days.js'
import { parseDuration } from './duration.js'
import { InvalidInputError } from './errors.js'

/**
 * Reads a time that has passed: a duration before now, such as `2h`, or a time with its zone.
 * @param field what to call it in a refusal.
 * @returns milliseconds since 1970.
 * @throws InvalidInputError for what is neither.
 */
export function sinceOf(text: string, nowMs: number, field = '--since'): number {
  const ago = parseDuration(text)
  if (ago !== undefined) return Math.max(0, nowMs - ago)
  const atMs = /(Z|[+-]\d\d:?\d\d)$/i.test(text.trim()) ? timeIn(text.trim(), field) : NaN
  if (Number.isNaN(atMs) || atMs < 0) throw new InvalidInputError(`${field}: "${text}" must be a duration such as 2h, or a time with its zone such as 2026-12-01T08:00:00Z`)
  return atMs
}

/**
 * A time as people and programs write it. What JavaScript makes of others is guessed: the 30th of February is the 2nd of March to it, and "foo 3 Z" a day of 2001.
 * @returns milliseconds since 1970; NaN for what is none.
 * @throws InvalidInputError for a day that no calendar has.
 */
export function timeIn(text: string, field: string): number {
  const { year = '', month = '', day = '' } = (/^(?<year>\d{4})[-/](?<month>\d\d?)[-/](?<day>\d\d?)(?!\d)/.exec(text) ?? /^(?<month>\d\d?)\/(?<day>\d\d?)\/(?<year>\d{4})(?!\d)/.exec(text))?.groups ?? {}
  const atMs = Date.parse(text)
  if (year !== '') {
    if (!Number.isNaN(atMs) && !isDay(`${year}-${month.padStart(2, '0')}-${day.padStart(2, '0')}`)) throw new InvalidInputError(`${field}: "${text}" names a day that no calendar has; look at its month`)
    return atMs
  }
  // As in mails and logs, by the month's name. Its year has to be there, and the name that of the month that was understood.
  const [, sign = '+', hours = '0', minutes = '0'] = /([+-])(\d\d):?(\d\d)$/.exec(text) ?? []
  const [, , monthName = '', fullYear = ''] = Number.isNaN(atMs) ? [] : new Date(atMs + Number(`${sign}1`) * (Number(hours) * 60 + Number(minutes)) * 60_000).toUTCString().split(' ')
  return fullYear !== '' && new RegExp(`\\b${monthName}.*\\b${fullYear}\\b`, 'i').test(text) ? atMs : NaN
}
