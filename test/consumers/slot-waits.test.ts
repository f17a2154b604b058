import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { SlotWaits, type SlotWait } from '../../src/consumers/placing/slot-waits.js'

let nowMs = 0
/** What the ledger's line holds, as it answers a renewal. */
let standing: Set<string>
let renewed: string[][]
const never = new AbortController().signal

beforeEach(() => {
  vi.useFakeTimers()
  nowMs = 0
  standing = new Set()
  renewed = []
})
afterEach(() => vi.useRealTimers())

function waits(): SlotWaits {
  return new SlotWaits({
    askMs: 1_000,
    renewMs: 5_000,
    elapsed: () => nowMs,
    renew: async (leaseIds) => {
      renewed.push([...leaseIds])
      return leaseIds.filter((id) => !standing.has(id))
    },
  })
}

/** As a job does that asks, and gets no place. */
function ask(wait: SlotWait, providers: readonly string[], opensInMs: number | null = null): boolean {
  if (wait.begin(providers) !== null) return false
  wait.asked({ loads: [], opensInMs })
  return true
}

async function pass(ms: number): Promise<void> {
  nowMs += ms
  await vi.advanceTimersByTimeAsync(ms)
}

it('of many that wait for the same providers, in whatever order, one asks for all', () => {
  const of = waits()
  const all = Array.from({ length: 50 }, (_, index) => of.expect(`${index}`))
  // Each enters the line by asking once.
  expect(all.filter((wait, index) => ask(wait, index % 2 === 0 ? ['a', 'b'] : ['b', 'a']))).toHaveLength(50)
  for (let second = 1; second <= 20; second++) {
    nowMs += 999
    expect(all.filter((wait) => ask(wait, ['a', 'b']))).toHaveLength(0)
    nowMs += 1
    expect(all.filter((wait) => ask(wait, ['a', 'b']))).toHaveLength(1)
  }
})

it('those that wait for others ask for themselves, and so does one that may go elsewhere by now', () => {
  const of = waits()
  const [one, other] = [of.expect('one'), of.expect('other')]
  expect([ask(one, ['a']), ask(other, ['b'])]).toEqual([true, true])
  nowMs = 500
  expect([ask(one, ['a', 'b']), ask(other, ['b'])]).toEqual([true, false])
  nowMs = 1_000
  expect([ask(one, ['a', 'b']), ask(other, ['b'])]).toEqual([false, true])
})

it('it asks when there may be room, where the ledger says that this is sooner, and the others hear what it was told', () => {
  const of = waits()
  const [one, other] = [of.expect('one'), of.expect('other')]
  ask(one, ['a'])
  ask(other, ['a'], 200)
  expect([one.dueInMs(), other.dueInMs()]).toEqual([200, 200])
  nowMs = 200
  expect(one.begin(['a'])).toBeNull()
  // While it asks nobody else does.
  expect(other.begin(['a'])).toEqual([])
  const load = { provider: 'a' } as never
  one.asked({ loads: [load], opensInMs: 60_000 })
  expect(other.begin(['a'])).toEqual([load])
  expect(other.dueInMs()).toBe(1_000)
})

it('another takes its turn at once when it has a place, or gives up', async () => {
  const of = waits()
  const [one, other] = [of.expect('one'), of.expect('other')]
  ask(one, ['a'])
  ask(other, ['a'])
  const heard = other.within(60_000, never)
  expect(of.deliver('one', 'a')).toBe(true)
  expect(await one.within(60_000, never)).toBe('a')
  of.forget('one')
  expect(await heard).toBeNull()
  expect(ask(other, ['a'])).toBe(true)
})

it('those that have not asked are kept in the ledger’s line, a hundred with each call, and whoever stands there no more asks anew', async () => {
  const of = waits()
  const all = Array.from({ length: 250 }, (_, index) => of.expect(`${index}`))
  for (const [index, wait] of all.entries()) {
    ask(wait, ['a'])
    standing.add(`${index}`)
  }
  // They stand in no line of the ledger's: one may go nowhere now, one has heard of its grant.
  ask(all[0]!, [])
  of.deliver('1', 'a')
  standing.delete('249')
  const heard = all[249]!.within(60_000, never)
  await pass(5_000)
  expect(renewed.map((ids) => ids.length)).toEqual([100, 100, 48])
  expect(renewed.flat()).not.toContain('0')
  expect(renewed.flat()).not.toContain('1')
  expect(await heard).toBeNull()
  nowMs = 0
  expect(all.slice(2).filter((wait) => ask(wait, ['a']))).toEqual([all[249]])
})

it('one whose grant has gone to somebody else asks anew, and waits', async () => {
  const of = waits()
  const one = of.expect('one')
  ask(one, ['a'])
  of.deliver('one', 'a')
  expect(await one.within(60_000, never)).toBe('a')
  one.lost()
  expect(ask(one, ['a'])).toBe(true)
  const heard = one.within(1_000, never)
  await pass(1_000)
  expect(await heard).toBeNull()
})

it('nothing is left when nobody waits, and a grant is given back', async () => {
  const of = waits()
  ask(of.expect('one'), ['a'])
  of.forget('one')
  expect(of.size).toBe(0)
  expect(of.deliver('one', 'a')).toBe(false)
  expect(vi.getTimerCount()).toBe(0)
})

it('one call at a time keeps them in line, however long Redis takes', async () => {
  const answers: ((gone: string[]) => void)[] = []
  const of = new SlotWaits({ askMs: 1_000, renewMs: 5_000, elapsed: () => nowMs, renew: () => new Promise((resolve) => answers.push(resolve)) })
  ask(of.expect('one'), ['a'])
  await pass(30_000)
  expect(answers).toHaveLength(1)
  answers[0]?.([])
  await pass(5_000)
  expect(answers).toHaveLength(2)
  of.forget('one')
})
