import { describe, expect, it } from 'vitest'
import { InvalidInputError } from '../../src/job/errors.js'
import { dueOf, mostCaughtUp, nextSlot, slotsBetween, type Timing } from '../../src/job/schedule-slots.js'
import { parseSchedule, parseScheduleId, type Missed, type Overlap } from '../../src/job/schedule.js'
import fc from '../seeded-fast-check.js'

const job = { repository: 'acme/web', steps: ['true'] }
const at = (text: string) => Date.parse(text)
const times = (slots: readonly number[]) => slots.map((slot) => new Date(slot).toISOString())

describe('a schedule', () => {
  it('has its rules, with defaults', () => {
    expect(parseSchedule({ cron: '0 8 * * 1-5', job })).toEqual({ timing: { cron: '0 8 * * 1-5', timezone: 'UTC' }, missed: 'skip', overlap: 'skip', job })
    expect(parseSchedule({ every: '15m', missed: 'all', overlap: 'replace', job })).toEqual({ timing: { everyMs: 900_000 }, missed: 'all', overlap: 'replace', job })
    for (const cron of ['@daily', '*/5 * * * * *', '0 0 L * *', '0 0 * * THU', '0 0 29 2 *']) expect(parseSchedule({ cron, timezone: 'Europe/Berlin', job }).timing).toEqual({ cron, timezone: 'Europe/Berlin' })
  })

  it('is kept without what is around its cron expression', () => {
    for (const cron of ['@daily ', ' 0 8 * * *\n']) {
      const { timing } = parseSchedule({ cron, job })
      expect(timing).toEqual({ cron: cron.trim(), timezone: 'UTC' })
      expect(nextSlot(timing, at('2026-01-01T00:00:00Z'))).not.toBeNull()
    }
  })

  it.each([
    [{ job }, 'cron: is missing, and so is "every"'],
    [{ cron: '0 8 * * *', every: '1h', job }, 'every: is given together with cron'],
    [{ every: '1h', timezone: 'Europe/Berlin', job }, 'timezone: is for cron'],
    [{ cron: '0 8 * * *', timezone: 'Nowhere/Here', job }, 'timezone: is not a time zone'],
    [{ cron: '', job }, 'cron: "" is no cron expression'],
    [{ cron: '* * *', job }, 'is no cron expression; give five fields'],
    [{ cron: '61 * * * *', job }, 'is no cron expression (Constraint error'],
    [{ cron: '0 0 30 2 *', job }, 'cron: "0 0 30 2 *"'],
    [{ cron: '0 0 31 2,4,6,9,11 *', job }, 'never comes; correct its day and month'],
    [{ cron: `${'0'.repeat(200)} * * * *`, job }, 'cron: is longer than 200 characters'],
    [{ cron: 'H * * * *', job }, 'holds "H"'],
    [{ cron: '@reboot', job }, 'is no cron expression'],
    [{ every: '10ms', job }, 'every: must be at least "1s"'],
    [{ every: 60, job }, 'every: must be a duration'],
    [{ every: '1h' }, 'job: is missing'],
    [{ every: '1h', job: { ...job, idempotencyKey: 'k' } }, 'job.idempotencyKey: is set by the schedule for each run'],
    [{ every: '1h', job: { ...job, runAt: '2026-12-01T08:00:00Z' } }, 'job.runAt: is set by the schedule'],
    [{ every: '1h', missed: 'some', job }, 'missed: must be "skip", "once" or "all"'],
    [{ every: '1h', overlap: 'wait', job }, 'overlap: must be "allow", "skip" or "replace"'],
    [{ every: '1h', colour: 'blue', job }, 'colour: is not a known field'],
    [null, 'schedule'],
  ])('that is wrong is refused with the field and the mend: %j', (input, sentence) => {
    expect(() => parseSchedule(input)).toThrow(InvalidInputError)
    expect(() => parseSchedule(input)).toThrow(sentence)
  })

  it('has an id that is part of branches’ names', () => {
    for (const id of ['nightly', 'a', '7', 'acme.web_nightly-2']) expect(parseScheduleId(id)).toBe(id)
    for (const id of ['', '.a', 'a..b', 'a.', 'a:b', 'a b', '-a', 'ä', 'a/b', 'a\n', 'x'.repeat(61), 7]) expect(() => parseScheduleId(id)).toThrow(InvalidInputError)
  })
})

describe('its times', () => {
  it('go by the clock of its zone, summer or winter', () => {
    const berlin: Timing = { cron: '30 2 * * *', timezone: 'Europe/Berlin' }
    expect(times(slotsBetween(berlin, at('2026-10-23T12:00:00Z'), at('2026-10-26T12:00:00Z'), 10).slots)).toEqual(['2026-10-24T00:30:00.000Z', '2026-10-25T00:30:00.000Z', '2026-10-26T01:30:00.000Z'].sort())
    expect(new Date(nextSlot(berlin, at('2026-03-28T12:00:00Z'))!).toISOString()).toBe('2026-03-29T01:30:00.000Z')
    expect(new Date(nextSlot({ cron: '0 0 29 2 *', timezone: 'UTC' }, at('2026-01-01T00:00:00Z'))!).toISOString()).toBe('2028-02-29T00:00:00.000Z')
  })

  it('come on the day on which the clock of their zone is put forward too, when the next one was said to come', () => {
    const after = at('2026-03-28T12:00:00Z')
    for (const cron of ['30 2 * * *', '0 2 * * 0', '45 2 * * *', '0 */2 * * *']) {
      const timing = { cron, timezone: 'Europe/Berlin' }
      const forward: number[] = []
      for (let slot = nextSlot(timing, after); slot !== null && slot <= at('2026-03-29T12:00:00Z'); slot = nextSlot(timing, slot)) forward.push(slot)
      expect(forward.some((slot) => slot >= at('2026-03-29T01:00:00Z') && slot < at('2026-03-29T02:00:00Z'))).toBe(true)
      expect(slotsBetween(timing, after, at('2026-03-29T12:00:00Z'), 100)).toEqual({ slots: forward, more: false })
      expect(slotsBetween(timing, after, at('2026-03-29T12:00:00Z'), 1).slots).toEqual(forward.slice(-1))
    }
  })

  it.each([
    ['America/Santiago', '2026-09-04T12:00:00Z', '0 0 * * *', ['2026-09-05T04:00', '2026-09-06T04:00', '2026-09-07T03:00']],
    ['America/Santiago', '2026-09-04T12:00:00Z', '30 0 * * 0', ['2026-09-06T04:30']],
    ['Africa/Cairo', '2026-04-22T12:00:00Z', '45 0 * * *', ['2026-04-22T22:45', '2026-04-23T22:45', '2026-04-24T21:45']],
    ['America/Nuuk', '2026-03-27T12:00:00Z', '30 22 * * *', ['2026-03-28T00:30', '2026-03-29T00:30', '2026-03-29T23:30']],
    ['Australia/Lord_Howe', '2026-10-02T12:00:00Z', '15 2 * * *', ['2026-10-02T15:45', '2026-10-03T15:45', '2026-10-04T15:15']],
  ])('come each day where the clock is put forward around midnight, or by half an hour: %s', (timezone, from, cron, expected) => {
    const timing = { cron, timezone }
    const to = at(from) + 3 * 86_400_000
    const forward: number[] = []
    for (let slot = nextSlot(timing, at(from)); slot !== null && slot <= to; slot = nextSlot(timing, slot)) forward.push(slot)
    expect(times(forward)).toEqual(expected.map((text) => `${text}:00.000Z`))
    expect(slotsBetween(timing, at(from), to, 100)).toEqual({ slots: forward, more: false })
    // Also by whoever looks in between.
    for (const slot of forward) expect(nextSlot(timing, slot - 60_000)).toBe(slot)
  })

  it.each([
    ['Europe/Berlin', '2026-10-25T01:00:00Z', '45 2 * * *', ['24T00:45', '25T00:45', '26T01:45']],
    ['Europe/Berlin', '2026-10-25T01:00:00Z', '20 1-3 * * *', ['24T23:20', '25T00:20', '25T02:20']],
    ['Europe/Berlin', '2026-10-25T01:00:00Z', '30 * * * *', ['24T23:30', '25T00:30', '25T01:30', '25T02:30']],
    ['Africa/Cairo', '2026-10-29T21:00:00Z', '45 23 * * *', ['28T20:45', '29T20:45', '30T21:45']],
    ['Pacific/Chatham', '2026-04-04T14:00:00Z', '*/15 3 * * *', ['04T13:15', '04T13:30', '04T13:45', '04T15:00', '05T14:15']],
    ['Pacific/Chatham', '2026-04-04T14:00:00Z', '0 * * * *', ['04T12:15', '04T13:15', '04T14:15', '04T15:15']],
    ['Pacific/Chatham', '2026-09-26T14:00:00Z', '50 2 * * *', ['25T14:05', '26T14:05', '27T13:05']],
    ['Australia/Lord_Howe', '2026-04-04T15:00:00Z', '*/20 1 * * *', ['04T14:00', '04T14:20', '04T14:40', '05T14:30']],
  ])('come once where the clock shows them twice, but for those of every hour, whenever the next one is asked for: %s %s %s', (timezone, changedAt, cron, expected) => {
    const timing = { cron, timezone }
    const from = at(changedAt) - 26 * 3_600_000
    const slots = slotsBetween(timing, from, from + 60 * 3_600_000, 100).slots.map((slot) => new Date(slot).toISOString().slice(8, 16))
    expect(slots).toEqual(expect.arrayContaining(expected))
    // None but those that were said before, each after the moment at which it is asked for.
    for (let askedAt = from; askedAt < at(changedAt) + 3 * 3_600_000; askedAt += 15 * 60_000 - 1) {
      const slot = nextSlot(timing, askedAt) ?? 0
      expect(slot).toBeGreaterThan(askedAt)
      expect(slots).toContain(new Date(slot).toISOString().slice(8, 16))
    }
  })

  it('are as many of the latest as are asked for, where the clock is put back too', () => {
    const [from, to] = [at('2026-10-24T12:00:00Z'), at('2026-10-26T12:00:00Z')]
    expect(slotsBetween({ cron: '*/15 2 * * *', timezone: 'Europe/Berlin' }, from, to, 7)).toMatchObject({ slots: { length: 7 }, more: true })
    expect(slotsBetween({ cron: '30 2 * * 0', timezone: 'Europe/Berlin' }, from, to, 1)).toEqual({ slots: [at('2026-10-25T00:30:00Z')], more: false })
  })

  it('are the same ones forward and back, each once', () => {
    const timing = fc.oneof(
      fc.integer({ min: 1_000, max: 7_200_000 }).map((everyMs): Timing => ({ everyMs })),
      fc.constantFrom('*/7 * * * *', '*/10 * * * * *', '15 3 * * 1', '0 0 1 * *', '@hourly').map((cron): Timing => ({ cron, timezone: 'America/New_York' })),
    )
    const start = at('2026-04-01T00:00:00Z')
    fc.assert(
      fc.property(timing, fc.integer({ min: 0, max: 50_000_000 }), fc.integer({ min: 0, max: 20_000_000 }), (each, offset, length) => {
        const [from, to] = [start + offset, start + offset + length]
        const { slots, more } = slotsBetween(each, from, to, 50)
        const forward: number[] = []
        for (let slot = nextSlot(each, from); slot !== null && slot <= to && forward.length <= 30_000; slot = nextSlot(each, slot)) forward.push(slot)
        expect(slots).toEqual(forward.slice(-50))
        expect(more).toBe(forward.length > 50)
      }),
      { numRuns: 25 },
    )
  })
})

describe('what is due', () => {
  const now = at('2026-11-28T08:00:10Z')
  const hours = (count: number) => now - 10_000 - count * 3_600_000
  const due = (missed: Missed, handledMs: number, nowMs = now, overlap: Overlap = 'skip') => dueOf({ timing: { everyMs: 3_600_000 }, missed, overlap }, handledMs, nowMs)
  const run = (count: number) => ({ kind: 'run', slotMs: hours(count) })

  it.each([
    ['nothing came', 'all', hours(0), now, []],
    ['the one that came just now', 'skip', hours(1), now, [run(0)]],
    ['the one that came just now, and not the earlier ones', 'skip', hours(4), now, [{ kind: 'pass', slotMs: hours(1), count: 3, why: 'the times of 3 runs went by while nobody could begin them (missed: skip)' }, run(0)]],
    ['none that came long ago', 'skip', hours(2), now + 600_000, [{ kind: 'pass', slotMs: hours(0), count: 2, why: 'the times of 2 runs went by while nobody could begin them (missed: skip)' }]],
    ['one for all that were missed', 'once', hours(3), now + 600_000, [{ kind: 'pass', slotMs: hours(1), count: 2, why: 'the times of 2 runs went by while nobody could begin them (missed: once)' }, run(0)]],
    ['one that came long ago', 'once', hours(1), now + 600_000, [run(0)]],
    ['each that was missed', 'all', hours(3), now + 600_000, [run(2), run(1), run(0)]],
  ] as const)('is %s', (_name, missed, handledMs, nowMs, expected) => expect(due(missed, handledMs, nowMs)).toEqual(expected))

  it('is no more than the latest hundred, however far the clock was set forward', () => {
    const all = due('all', now - 1_000 * 3_600_000)
    expect(all).toHaveLength(mostCaughtUp)
    expect(all[0]).toEqual(run(mostCaughtUp - 1))
    expect(due('skip', 0)).toMatchObject([{ kind: 'pass', count: mostCaughtUp - 1, why: expect.stringContaining('more than') as string }, run(0)])
  })

  it('is one of those that would replace each other', () => expect(due('all', hours(3), now, 'replace')).toMatchObject([{ kind: 'pass', count: 2 }, run(0)]))
  it('is to count anew, when the clock was set back by more than jitter', () => {
    expect(due('all', now + 50_000)).toEqual([])
    expect(due('all', now + 61_000)).toEqual([{ kind: 'reset', slotMs: now }])
  })
})
