import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { StartReports } from '../../src/consumers/placing/start-reports.js'

const told: [string, readonly number[]][] = []
const warnings: unknown[] = []
let failing = false
const reports = () =>
  new StartReports(
    async (provider, startsMs) => {
      if (failing) throw new Error('Redis refuses')
      told.push([provider, startsMs])
    },
    { warn: (fields: unknown) => void warnings.push(fields) },
    250,
  )

beforeEach(() => {
  vi.useFakeTimers()
  told.splice(0)
  warnings.splice(0)
  failing = false
})
afterEach(() => void vi.useRealTimers())

it('tells the first start at once, and what follows together', async () => {
  const starts = reports()
  starts.created('a', 1)
  expect(told).toEqual([['a', [1]]])
  starts.created('a', 2)
  starts.created('b', 9)
  starts.created('a', 3)
  expect(told).toEqual([['a', [1]], ['b', [9]]])
  await vi.advanceTimersByTimeAsync(250)
  expect(told.slice(2)).toEqual([['a', [2, 3]]])
  await vi.advanceTimersByTimeAsync(1_000)
  expect(told).toHaveLength(3)
  expect(vi.getTimerCount()).toBe(0)
  starts.created('a', 4)
  expect(told.at(-1)).toEqual(['a', [4]])
})

it('tells again what could not be told', async () => {
  const starts = reports()
  failing = true
  starts.created('a', 1)
  await vi.advanceTimersByTimeAsync(100)
  expect(warnings).toEqual([{ provider: 'a', message: 'Redis refuses' }])
  failing = false
  starts.created('a', 2)
  await vi.advanceTimersByTimeAsync(150)
  expect(told).toEqual([['a', [1, 2]]])
})

it('tells what is left when it is closed, and leaves no timer', async () => {
  const starts = reports()
  starts.created('a', 1)
  starts.created('a', 2)
  await starts.close()
  expect(told).toEqual([['a', [1]], ['a', [2]]])
  expect(vi.getTimerCount()).toBe(0)
})
