import { pino } from 'pino'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { LockKeeper, type Moment } from '../../src/consumers/intake/lock-keeper.js'
import { consumerSettingsSchema } from '../../src/consumers/settings.js'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

function keeper(extend: (jobIds: string[], tokens: string[]) => Promise<string[]>, clock: { now: Moment } = { now: [0, 0] }) {
  const locks = new LockKeeper(extend, 3_000, pino({ level: 'silent' }), () => clock.now)
  const lost: string[] = []
  const hold = (jobId: string) => locks.hold(jobId, `token of ${jobId}`, locks.moment(), () => lost.push(jobId))
  const holds = (jobId: string) => locks.holds(jobId, `token of ${jobId}`)
  const pass = async (ms: number) => {
    clock.now = [clock.now[0] + ms, clock.now[1] + ms]
    await vi.advanceTimersByTimeAsync(ms)
  }
  return { locks, lost, hold, holds, pass, clock }
}

it('renews all locks with one command per third of a lease, and holds them for as long as that works', async () => {
  const calls: string[][] = []
  const { locks, lost, hold, holds, pass } = keeper(async (jobIds) => (calls.push(jobIds), []))
  hold('a')
  hold('b')
  locks.start()
  for (let round = 0; round < 10; round++) await pass(1_000)
  locks.stop()
  expect(calls).toEqual(Array.from({ length: 10 }, () => ['a', 'b']))
  expect([holds('a'), holds('b'), locks.holds('a', 'another token')]).toEqual([true, true, false])
  expect(lost).toEqual([])
})

it('gives up what Redis says is not held any more', async () => {
  const { locks, lost, hold, holds, pass } = keeper(async (jobIds) => jobIds.filter((jobId) => jobId === 'b'))
  hold('a')
  hold('b')
  locks.start()
  await pass(1_000)
  locks.stop()
  expect(lost).toEqual(['b'])
  expect([holds('a'), holds('b')]).toEqual([true, false])
})

it('gives up what it has taken anew itself, as where Redis went back to before it had it', async () => {
  const { locks, lost, hold, holds, pass } = keeper(async () => [])
  hold('a')
  locks.hold('a', 'anew', locks.moment(), () => lost.push('a, anew'))
  locks.start()
  await pass(1_000)
  locks.stop()
  expect([holds('a'), locks.holds('a', 'anew'), lost]).toEqual([false, true, ['a']])
})

it('gives up by itself what could not be renewed for a lease, from the moment at which it was asked for', async () => {
  const { locks, lost, hold, holds, pass } = keeper(() => new Promise(() => undefined))
  hold('a')
  locks.start()
  await pass(2_000)
  expect(holds('a')).toBe(true)
  await pass(1_000)
  locks.stop()
  expect(holds('a')).toBe(false)
  expect(lost).toEqual(['a'])
})

it.each<[string, Moment]>([
  ['frozen, or without its timers', [3_000, 3_000]],
  ['on a machine that was suspended: its monotonic clock stood still', [10, 3_000]],
])('a process that was %s holds nothing at its very next look', (_what, now) => {
  const { hold, holds, clock } = keeper(async () => [])
  hold('a')
  expect(holds('a')).toBe(true)
  clock.now = now
  expect(holds('a')).toBe(false)
})

it('a killed consumer’s jobs are found within 30 s by default: its lease, and the next look', () => {
  const { leaseMs, stallCheckMs } = consumerSettingsSchema.parse({})
  expect(leaseMs + stallCheckMs).toBeLessThanOrEqual(30_000)
})
