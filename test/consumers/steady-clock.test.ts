import { describe, expect, it } from 'vitest'
import { steadyClock } from '../../src/consumers/steady-clock.js'

const hour = 3_600_000

describe('a steady clock', () => {
  let [wallMs, elapsedMs] = [0, 0]
  const begin = () => {
    ;[wallMs, elapsedMs] = [1_000_000_000, 500]
    return steadyClock(() => wallMs, () => elapsedMs)
  }
  const pass = (ms: number) => {
    wallMs += ms
    elapsedMs += ms
  }

  it('goes with the machine’s, also where that is slewed', () => {
    const now = begin()
    for (let step = 0; step < 100; step++) {
      pass(1_000)
      wallMs += 15
      expect(now()).toBe(wallMs)
    }
  })

  it.each([3 * hour, -3 * hour, 90_000])('does not move with one that is set by %s ms, and is right again when that is', (byMs) => {
    const now = begin()
    pass(1_000)
    const before = now()
    wallMs += byMs
    pass(10_000)
    expect(now()).toBe(before + 10_000)
    wallMs -= byMs
    pass(10_000)
    expect(now()).toBe(wallMs)
  })

  it('follows one that stays so', () => {
    const now = begin()
    wallMs += 2 * hour
    expect(now()).toBe(wallMs - 2 * hour)
    pass(299_999)
    expect(now()).toBe(wallMs - 2 * hour)
    pass(1)
    expect(now()).toBe(wallMs)
    pass(5_000)
    expect(now()).toBe(wallMs)
  })
})
