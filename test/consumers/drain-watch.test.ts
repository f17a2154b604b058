import { pino } from 'pino'
import { expect, it } from 'vitest'
import { DrainWatch } from '../../src/consumers/placing/drain-watch.js'
import type { ProviderLoad } from '../../src/store/index.js'

const word = { by: 'anna', reason: 'maintenance', atMs: 1, untilMs: null }

it('knows which providers are to be left, asks only while there is a job, and forgets what may be taken back meanwhile', async () => {
  let busy = false
  let asked = 0
  let drain: ProviderLoad['drain'] = { ...word, move: true }
  let fails = false
  const ledger = {
    sharedLoads: () => {
      asked += 1
      return fails ? Promise.reject(new Error('away')) : Promise.resolve([{ provider: 'a', drain }, { provider: 'b', drain: null }] as ProviderLoad[])
    },
  }
  const watch = new DrainWatch({ ledger, providers: () => ['a', 'b'], isBusy: () => busy, everyMs: 1_000, log: pino({ level: 'silent' }) })
  await watch.look()
  expect([asked, watch.of('a')]).toEqual([0, null])
  busy = true
  await watch.look()
  expect([watch.of('a')?.by, watch.of('b'), watch.of('c')]).toEqual(['anna', null, null])
  // What Redis does not say now holds on.
  fails = true
  await watch.look()
  expect(watch.of('a')?.by).toBe('anna')
  fails = false
  // One that what runs there may stay at.
  drain = { ...word, move: false }
  await watch.look()
  expect(watch.of('a')).toBeNull()
  drain = { ...word, move: true }
  await watch.look()
  busy = false
  await watch.look()
  expect(watch.of('a')).toBeNull()
})
