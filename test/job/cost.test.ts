import { describe, expect, it } from 'vitest'
import { costMicros, describeMicros, rateOf, sumOf, toMicros, type Rate } from '../../src/job/cost.js'
import { dayOf, daysAround, isDay, timeZoneProblem } from '../../src/job/days.js'
import { random } from '../store/fixture.js'

const hour = 3_600_000
const rate = (fields: Partial<Rate> = {}): Rate => ({ perHourMicros: 3_600_000, perCreateMicros: 0, minimumMs: 0, currency: 'USD', ...fields })

describe('what a sandbox costs', () => {
  it.each<[string, Rate, number, number]>([
    ['an hour is the hourly price', rate(), hour, 3_600_000],
    ['a part of it is that part, rounded up to a millionth', rate({ perHourMicros: 1_000_000 }), 1, 1],
    ['no time is nothing', rate(), 0, 0],
    ['less than no time, after a clock went back, is nothing', rate(), -hour, 0],
    ['what is billed at least', rate({ minimumMs: 60_000 }), 1_000, 60_000],
    ['and no more than that where it lived longer', rate({ minimumMs: 60_000 }), 90_000, 90_000],
    ['each create, besides', rate({ perCreateMicros: 500 }), 1_000, 1_500],
    ['each create, where it lived not at all', rate({ perCreateMicros: 500, minimumMs: 10 }), 0, 510],
    ['a time that no number can hold is bounded', rate({ perHourMicros: 2 ** 50 }), Number.MAX_SAFE_INTEGER, 2 ** 50],
  ])('%s', (_what, of, ms, micros) => {
    expect(costMicros(of, ms)).toBe(micros)
  })

  it('never falls as time goes by, and no rounding adds up, however often it is asked', () => {
    const next = random(7)
    for (let round = 0; round < 200; round++) {
      const of = rate({ perHourMicros: Math.floor(next() * 5_000_000), perCreateMicros: Math.floor(next() * 1_000), minimumMs: Math.floor(next() * 5_000) })
      let [ms, charged] = [0, 0]
      for (let look = 0; look < 50; look++) {
        ms += Math.floor(next() * 7_001)
        const now = costMicros(of, ms)
        expect(now).toBeGreaterThanOrEqual(charged)
        charged += now - charged
      }
      const exact = of.perCreateMicros + (of.perHourMicros * Math.max(ms, of.minimumMs)) / hour
      expect(charged - exact).toBeGreaterThanOrEqual(-1e-6)
      expect(charged - exact).toBeLessThan(1)
    }
  })

  it('is by what the job asks for, 1 vCPU and 1 GiB where it asks for nothing', () => {
    const price = { perSandboxHour: 0.1, perCpuHour: 0.05, perMemoryGiBHour: 0.02, perCreate: 0.001, minimumSeconds: 1.5 }
    expect(rateOf(price, { cpu: 2, memoryMiB: 4096 }, 'EUR')).toEqual({ perHourMicros: 280_000, perCreateMicros: 1_000, minimumMs: 1_500, currency: 'EUR' })
    expect(rateOf(price, {}, 'EUR')?.perHourMicros).toBe(170_000)
    expect(rateOf(undefined, {}, 'EUR')).toBeNull()
  })

  it('is added up in one currency, that of the last', () => {
    expect(sumOf([{ micros: 1, currency: 'USD' }, undefined, { micros: 2, currency: 'EUR' }, { micros: 3, currency: 'EUR' }])).toEqual({ micros: 5, currency: 'EUR' })
    expect(sumOf([undefined])).toBeNull()
  })

  it.each([[20_000_000, '20.00 USD'], [12_500, '0.0125 USD'], [1, '0.000001 USD'], [500_000, '0.50 USD'], [0, '0.00 USD'], [-250_000, '-0.25 USD'], [1_230_000, '1.23 USD']])('%i is shown as %s', (micros, text) => {
    expect(describeMicros(micros, 'USD')).toBe(text)
  })

  it('amounts are whole millionths', () => {
    expect([toMicros(0.1 + 0.2), toMicros(-1), toMicros(1e30)]).toEqual([300_000, 0, 2 ** 50])
  })
})

describe('the days of a time zone', () => {
  const zones = ['UTC', 'Europe/Berlin', 'America/New_York', 'Asia/Kolkata', 'Pacific/Apia', 'Pacific/Kiritimati', 'America/Sao_Paulo', 'Africa/Cairo', 'Australia/Lord_Howe']
  it('lie one behind the other, and each moment in its own', () => {
    const next = random(3)
    for (let round = 0; round < 60; round++) {
      const timeZone = zones[round % zones.length]!
      const atMs = Date.UTC(2011, 11, 28) + Math.floor(next() * 20 * 365 * 86_400_000)
      const days = daysAround(atMs, timeZone)
      expect(days).toHaveLength(5)
      for (const [index, { day, startsAtMs }] of days.entries()) {
        expect([dayOf(startsAtMs, timeZone), dayOf(startsAtMs - 1, timeZone) < day]).toEqual([day, true])
        if (index > 0) expect(startsAtMs).toBeGreaterThan(days[index - 1]!.startsAtMs)
      }
      expect(days.findLast(({ startsAtMs }) => startsAtMs <= atMs)?.day).toBe(dayOf(atMs, timeZone))
      expect(days[0]!.startsAtMs).toBeLessThan(atMs)
    }
  })

  it('begin an hour earlier or later once the clocks change', () => {
    const starts = (at: string) => daysAround(Date.parse(at), 'Europe/Berlin').map(({ startsAtMs }) => new Date(startsAtMs).toISOString().slice(0, 16))
    expect(starts('2026-10-25T12:00:00Z').slice(0, 3)).toEqual(['2026-10-23T22:00', '2026-10-24T22:00', '2026-10-25T23:00'])
  })

  it('what is no zone, and no day, is told', () => {
    expect(timeZoneProblem('Europe/Berlim')).toBe('"Europe/Berlim" is no time zone; give one such as "Europe/Berlin" or "UTC"')
    expect([isDay('2026-12-01'), isDay('2026-02-30'), isDay('yesterday'), isDay('2026-13-01')]).toEqual([true, false, false, false])
  })
})
