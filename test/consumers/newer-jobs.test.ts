import { expect, it } from 'vitest'
import { NewerJobs } from '../../src/consumers/intake/newer-jobs.js'

/** Tries jobs when each may be, for so long. Returns how many tries there were in each minute. */
function tries(count: number, minutes: number): number[] {
  let nowMs = 0
  const newer = new NewerJobs(5_000, () => nowMs)
  const due = new Map(Array.from({ length: count }, (_, index) => [`job-${index}`, 0]))
  const perMinute = Array.from({ length: minutes }, () => 0)
  for (; nowMs < minutes * 60_000; nowMs += 250) {
    for (const [jobId, atMs] of due) {
      if (atMs > nowMs) continue
      perMinute[Math.floor(nowMs / 60_000)]!++
      due.set(jobId, nowMs + newer.leave(jobId))
    }
  }
  return perMinute
}

it('jobs that can’t be read are tried every few seconds together, however many they are, and each again', () => {
  for (const count of [50, 300]) for (const each of tries(count, 60).slice(1)) expect(each).toBeLessThanOrEqual(20)
  expect(tries(1_000, 60).slice(1).reduce((sum, each) => sum + each)).toBeLessThanOrEqual(2_000)
  expect(tries(1_000, 60).reduce((sum, each) => sum + each)).toBeGreaterThanOrEqual(2_000)
})

it('a single one is tried as often as it may be, and so again when others are gone', () => {
  expect(tries(1, 2)).toEqual([12, 12])
  let nowMs = 0
  const newer = new NewerJobs(5_000, () => nowMs)
  for (let index = 0; index < 100; index++) newer.leave(`job-${index}`)
  expect(newer.leave('another')).toBe(500_000)
  nowMs = 1_000_000
  expect(newer.leave('another')).toBe(5_000)
})
