import { describe, expect, it } from 'vitest'
import { react, type ErrorContext } from '../../src/consumers/supervision/reactions.js'
import { FenceLostError, InfrastructureError, PromotionConflictError, type InfrastructureErrorKind } from '../../src/job/errors.js'

const error = (kind: InfrastructureErrorKind, retryAfterMs?: number) => new InfrastructureError({ kind, source: 'p', message: 'm', retryAfterMs })
const first: ErrorContext = { source: 'provider', tries: 1, refusals: 1 }

describe('what follows from an error at a provider', () => {
  it.each<[InfrastructureErrorKind, Partial<ErrorContext>, object]>([
    ['capacity', {}, { kind: 'move', excludeMs: 2_000, confirmed: true }],
    ['capacity', { refusals: 4 }, { kind: 'move', excludeMs: 16_000 }],
    ['capacity', { refusals: 40 }, { kind: 'move', excludeMs: 30_000 }],
    ['sandbox-lost', {}, { kind: 'move', excludeMs: 0, confirmed: true }],
    ['provider-down', {}, { kind: 'move', excludeMs: 2_000, confirmed: false }],
    ['auth', {}, { kind: 'move', excludeMs: 2_000 }],
    ['invalid', {}, { kind: 'fail', error: { kind: 'invalid', message: 'm' } }],
    ['transient', { tries: 1 }, { kind: 'retry', delayMs: 100 }],
    ['timeout', { tries: 2 }, { kind: 'retry', delayMs: 200 }],
    ['transient', { tries: 3 }, { kind: 'move', excludeMs: 2_000, confirmed: false }],
  ])('%s %j', (kind, context, reaction) => {
    expect(react(error(kind), { ...first, ...context })).toMatchObject(reaction)
  })

  it('waits as long as a provider says', () => {
    expect(react(error('rate-limited', 7_000), first)).toMatchObject({ kind: 'move', excludeMs: 7_000 })
  })
})

describe('what follows from an error at the git host', () => {
  const git: ErrorContext = { ...first, source: 'git' }
  it('is final when the host says so, and patience otherwise: the work can’t go elsewhere', () => {
    expect(react(error('invalid'), git).kind).toBe('fail')
    expect(react(error('auth'), git).kind).toBe('fail')
    expect(react(error('provider-down'), { ...git, tries: 5 })).toEqual({ kind: 'retry', delayMs: 1_600 })
    expect(react(error('transient'), { ...git, tries: 60 }).kind).toBe('fail')
  })
})

it('leaves a job whose fence is lost, fails one whose promotion conflicts, and calls the rest a defect', () => {
  expect(react(new FenceLostError('j'), first)).toEqual({ kind: 'leave' })
  expect(react(new PromotionConflictError('moved'), first)).toEqual({ kind: 'fail', error: { kind: 'conflict', message: 'moved' } })
  expect(react(new TypeError('x is undefined'), first)).toMatchObject({ kind: 'fail', error: { kind: 'internal' } })
})
