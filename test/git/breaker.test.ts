import { expect, it } from 'vitest'
import { inMemoryGitHost } from '../../bench/in-memory/git-host.js'
import { withBreaker } from '../../src/git/breaker.js'
import { InfrastructureError, errorMessage, type ErrorOwner, type InfrastructureErrorKind } from '../../src/job/errors.js'

function host() {
  let calls = 0
  const state: { nowMs: number; fails: { kind: InfrastructureErrorKind; owner: ErrorOwner } | null } = { nowMs: 1_000_000, fails: null }
  const git = withBreaker(
    {
      ...inMemoryGitHost,
      resolve: (...call) => {
        calls += 1
        return state.fails === null ? inMemoryGitHost.resolve(...call) : Promise.reject(new InfrastructureError({ ...state.fails, source: 'g', message: 'm' }))
      },
    },
    { now: () => state.nowMs },
  )
  const ask = () => git.resolve('acme/web', null, { timeoutMs: 1_000 }).then(() => 'answered', errorMessage)
  const asked = async (times: number) => {
    const before = calls
    for (let time = 0; time < times; time++) await ask()
    return calls - before
  }
  return { state, ask, asked }
}

it('leaves a host alone that answers nobody, asks it once in a while, and goes on when it answers', async () => {
  const { state, ask, asked } = host()
  state.fails = { kind: 'provider-down', owner: 'git-host' }
  expect(await asked(100)).toBe(5)
  expect(await ask()).toMatch(/in-memory: does not answer \(5 calls in a row failed\)/)
  state.nowMs += 1_000
  expect(await asked(100)).toBe(1)
  state.nowMs += 1_000
  expect(await asked(100)).toBe(0)
  // Never longer than five seconds, whatever the clock does.
  state.nowMs += 4_000
  expect(await asked(100)).toBe(1)
  state.fails = null
  state.nowMs += 5_000
  expect(await ask()).toBe('answered')
  expect(await asked(100)).toBe(100)
})

it.each<[InfrastructureErrorKind, ErrorOwner]>([
  ['auth', 'git-repository'],
  ['auth', 'consumer-keys'],
  ['invalid', 'job'],
  ['transient', 'git-repository'],
  ['transient', 'consumer-configuration'],
])('is closed to nobody for %s of the %s', async (kind, owner) => {
  const { state, asked } = host()
  state.fails = { kind, owner }
  expect(await asked(100)).toBe(100)
})

it('lets one call through at a time when its time is up', async () => {
  const { state, ask, asked } = host()
  state.fails = { kind: 'transient', owner: 'git-host' }
  await asked(5)
  state.nowMs += 10_000
  const answers = await Promise.all(Array.from({ length: 50 }, ask))
  expect(answers.filter((answer) => answer === 'm')).toHaveLength(1)
})
