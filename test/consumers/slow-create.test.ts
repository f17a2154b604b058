import { expect, it } from 'vitest'
import { isGivenUp } from '../../src/consumers/placing/slow-create.js'
import type { ProviderLoad } from '../../src/store/index.js'

const load = (provider: string, more: Partial<ProviderLoad> = {}): ProviderLoad => ({
  provider, limit: 4, configuredLimit: 4, set: null, drain: null, effectiveLimit: 4, foreign: 0, used: 1, waiting: 0, cpu: 0, cpuLimit: null, memoryMiB: 0, memoryMiBLimit: null, breaker: 'closed',
  openUntilMs: null, openedBy: null, createsPerSecond: null, blockedUntilMs: null, startP50Ms: null, startP95Ms: null, startMaxMs: null, ...more,
})

it.each<[string, number, Partial<ProviderLoad>, Partial<ProviderLoad>, boolean]>([
  ['is let be before 30 s', 29_999, { startMaxMs: 100 }, {}, false],
  ['is given up after 30 s when nothing ever took that long', 30_000, { startMaxMs: 100 }, {}, true],
  ['is given up after 30 s when nothing is known', 30_000, {}, {}, true],
  ['is let be while others took a third of that', 59_999, { startMaxMs: 20_000 }, {}, false],
  ['is given up at three times the slowest', 60_000, { startMaxMs: 20_000 }, {}, true],
  ['is let be while nobody else has room', 600_000, {}, { used: 4 }, false],
  ['is let be while others wait for the other’s room', 600_000, {}, { waiting: 2 }, false],
  ['is let be while the other does not work', 600_000, {}, { breaker: 'open' }, false],
  ['is let be while the other takes no creates', 600_000, {}, { blockedUntilMs: 1 }, false],
])('a create that does not end %s', (_what, tookMs, own, other, givenUp) => {
  expect(isGivenUp({ provider: 'a', tookMs, leastMs: 30_000 }, ['a', 'b'], [load('a', own), load('b', other)])).toBe(givenUp)
})

it('is never given up for a provider that the job may not go to', () => {
  expect(isGivenUp({ provider: 'a', tookMs: 600_000, leastMs: 30_000 }, ['a'], [load('a'), load('b')])).toBe(false)
})
