import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { afterRunning } from '../../src/store/patience.js'
import fc from '../seeded-fast-check.js'

describe('patience counts the time in which this process runs', () => {
  beforeEach(() => void vi.useFakeTimers())
  afterEach(() => void vi.useRealTimers())

  /** Turns of the event loop, each so many milliseconds after the one before. @returns after how many of them it was too late. */
  function turnsUntilLate(patienceMs: number, gapsMs: readonly number[]): number | undefined {
    let nowMs = 1_000
    let late = false
    const patience = afterRunning(patienceMs, () => (late = true), () => nowMs)
    const turn = gapsMs.findIndex((gapMs) => {
      nowMs += gapMs
      // The timer fires once for each turn, however long that took.
      vi.advanceTimersByTime(25)
      return late
    })
    patience.stop()
    return turn === -1 ? undefined : turn + 1
  }

  it('runs out on time where the process runs', () => {
    expect(turnsUntilLate(800, Array.from({ length: 100 }, () => 25))).toBe(32)
  })

  it('and not by a turn that took ten seconds, a machine that slept, or a clock that went back', () => {
    expect(turnsUntilLate(800, [25, 10_000, 25, 3_600_000, -5_000, 25])).toBeUndefined()
  })

  it('but by many slow turns: somebody who never has time for an answer is told so too', () => {
    expect(turnsUntilLate(800, Array.from({ length: 100 }, () => 500))).toBe(16)
  })

  it('whatever happens, never after less than its time on the clock, nor after fewer turns than half its ticks', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: -100, max: 20_000 }), { maxLength: 200 }), (gaps) => {
        const turns = turnsUntilLate(800, gaps)
        if (turns === undefined) return
        expect(turns).toBeGreaterThanOrEqual(16)
        expect(gaps.slice(0, turns).reduce((sum, gap) => sum + Math.max(gap, 0), 0)).toBeGreaterThanOrEqual(800)
      }),
    )
  })

  it('begins anew when something came', () => {
    let late = false
    let nowMs = 0
    const patience = afterRunning(100, () => (late = true), () => nowMs)
    for (let turn = 0; turn < 20; turn++) {
      nowMs += 25
      vi.advanceTimersByTime(25)
      patience.again()
    }
    expect(late).toBe(false)
    patience.stop()
  })
})
