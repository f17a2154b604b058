import { expect, it } from 'vitest'
import { sinceOf } from '../../src/job/since.js'

const now = Date.UTC(2026, 10, 30)

it.each<[string, string]>([
  ['2h', '2026-11-29T22:00:00.000Z'],
  ['1.5 d', '2026-11-28T12:00:00.000Z'],
  ['99999999999d', '1970-01-01T00:00:00.000Z'],
  ['2026-12-01T08:00:00Z', '2026-12-01T08:00:00.000Z'],
  ['2026-12-01 08:00 +0100', '2026-12-01T07:00:00.000Z'],
  ['2028-02-29T08:00:00z', '2028-02-29T08:00:00.000Z'],
  ['2026-12-31T24:00:00Z', '2027-01-01T00:00:00.000Z'],
  ['2026-12-01T00:30:00+05:30', '2026-11-30T19:00:00.000Z'],
  ['Tue, 01 Dec 2026 00:30:00 +0100', '2026-11-30T23:30:00.000Z'],
  ['Tue Dec 1 2026 00:30:00 GMT-1100', '2026-12-01T11:30:00.000Z'],
  ['12/01/2026 08:00 Z', '2026-12-01T08:00:00.000Z'],
  ['2026/12/1 08:00 Z', '2026-12-01T08:00:00.000Z'],
])('%s is a time', (text, time) => {
  expect(new Date(sinceOf(text, now)).toISOString()).toBe(time)
})

it.each<[string, RegExp]>([
  ['2026-02-30T08:00:00Z', /names a day that no calendar has; look at its month$/],
  ['2027-02-29T08:00:00Z', /names a day that no calendar has/],
  ['2026-04-31 08:00 +0100', /names a day that no calendar has/],
  ['02/30/2026 08:00 Z', /names a day that no calendar has/],
  ['31 Feb 2026 10:00 +0000', /must be a duration such as 2h, or a time with its zone/],
  ['foo 3 Z', /must be a duration/],
  ['tomorrow +0100', /must be a duration/],
  ['2026-12-01T08:00:00', /with its zone/],
  ['2026-12-01', /with its zone/],
  ['2026-13-01T08:00:00Z', /must be/],
  ['2026-12-01T24:30:00Z', /must be/],
  ['2026-12-01T23:59:60Z', /must be/],
  ['2026-12-01T08:00:00+25:00', /must be/],
  ['-2h', /must be/],
  ['2', /must be/],
  ['1e3s', /must be/],
  [`${'9'.repeat(101)}d`, /must be/],
  ['1969-12-31T23:59:59Z', /must be/],
])('%s is none', (text, says) => {
  expect(() => sinceOf(text, now)).toThrow(says)
  expect(() => sinceOf(text, now)).toThrow(/^--since: [^\n]*$/)
})
