import { pino } from 'pino'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { PeriodicChecks } from '../../src/consumers/periodic-checks.js'

let warned: string[]
let checks: PeriodicChecks
beforeEach(() => {
  vi.useFakeTimers()
  warned = []
  checks = new PeriodicChecks(pino({ level: 'warn' }, { write: (line) => warned.push((JSON.parse(line) as { msg: string }).msg) }))
})
afterEach(() => {
  checks.stop()
  vi.useRealTimers()
})

it('looks each time the last look is over, and never twice at once', async () => {
  const done: (() => void)[] = []
  checks.every(1_000, 'not looked', () => new Promise((resolve) => done.push(resolve)))
  await vi.advanceTimersByTimeAsync(5_000)
  expect(done).toHaveLength(1)
  done[0]!()
  await vi.advanceTimersByTimeAsync(999)
  expect(done).toHaveLength(1)
  await vi.advanceTimersByTimeAsync(1)
  expect(done).toHaveLength(2)
})

it('goes on after one that fails, and says so', async () => {
  let looks = 0
  checks.every(1_000, 'not looked', () => Promise.reject(new Error(`${++looks}`)))
  await vi.advanceTimersByTimeAsync(3_000)
  expect({ looks, warned }).toEqual({ looks: 3, warned: ['not looked', 'not looked', 'not looked'] })
})

it('comes sooner where a look says so, never later, and at once when it is asked to', async () => {
  const sooner = [100, 5_000]
  let looks = 0
  const now = checks.every(1_000, 'not looked', (againIn) => {
    looks++
    const ms = sooner.shift()
    if (ms !== undefined) againIn(ms)
    return Promise.resolve()
  })
  await now()
  await vi.advanceTimersByTimeAsync(100)
  expect(looks).toBe(2)
  await vi.advanceTimersByTimeAsync(1_000)
  expect(looks).toBe(3)
})

it('never looks again once it is stopped, in the middle of a look too', async () => {
  let looks = 0
  let end = () => {}
  checks.every(1_000, 'not looked', () => new Promise((resolve) => {
    looks++
    end = resolve
  }))
  await vi.advanceTimersByTimeAsync(1_000)
  checks.stop()
  end()
  await vi.advanceTimersByTimeAsync(10_000)
  expect({ looks, timers: vi.getTimerCount() }).toEqual({ looks: 1, timers: 0 })
})
