import { describe, expect, it } from 'vitest'
import { decide, type ErrorContext } from '../../src/consumers/supervision/reactions.js'
import {
  FenceLostError,
  InfrastructureError,
  PromotionConflictError,
  errorOwners,
  infrastructureErrorKinds,
  type ErrorOwner,
  type InfrastructureErrorKind,
} from '../../src/job/errors.js'
import { presumedOwner } from '../../src/job/error-owner.js'

const error = (kind: InfrastructureErrorKind, owner?: ErrorOwner, retryAfterMs?: number) => new InfrastructureError({ kind, owner, source: 'p', message: 'm', retryAfterMs })
const first: ErrorContext = { origin: 'create', tries: 1, refusals: 1, nowMs: 1_000_000, sinceMs: 1_000_000, lives: false, brokeBefore: false, patienceMs: 300_000 }
const later = (ms: number): Partial<ErrorContext> => ({ nowMs: first.nowMs + ms })

describe('what a job does about an error', () => {
  it.each<[ErrorOwner, InfrastructureErrorKind, Partial<ErrorContext>, object]>([
    ['provider-create', 'capacity', {}, { kind: 'move', excludeMs: 2_000, confirmed: true }],
    ['provider-create', 'capacity', { refusals: 4 }, { kind: 'move', excludeMs: 16_000 }],
    ['provider-create', 'capacity', { refusals: 40 }, { kind: 'move', excludeMs: 30_000 }],
    ['provider-create', 'capacity', { origin: 'exec' }, { kind: 'move', confirmed: false }],
    ['provider-create', 'provider-down', {}, { kind: 'move', excludeMs: 2_000, confirmed: false }],
    ['provider-create', 'transient', { tries: 1 }, { kind: 'retry', delayMs: 100 }],
    ['provider-create', 'timeout', { tries: 2 }, { kind: 'retry', delayMs: 200 }],
    ['provider-create', 'transient', { tries: 3 }, { kind: 'move', excludeMs: 2_000, confirmed: false }],
    ['provider-create', 'invalid', {}, { kind: 'fail', error: { kind: 'invalid', owner: 'provider-create' } }],
    ['consumer-keys', 'auth', {}, { kind: 'move', excludeMs: 2_000, confirmed: true }],
    ['consumer-keys', 'auth', { origin: 'git' }, { kind: 'retry' }],
    ['consumer-keys', 'auth', { origin: 'git', tries: 2 }, { kind: 'fail', error: { kind: 'auth', owner: 'consumer-keys', code: 'SWY_CONSUMER_KEY_REFUSED' } }],
    ['consumer-configuration', 'invalid', { origin: 'create' }, { kind: 'move', confirmed: true, error: { owner: 'consumer-configuration' } }],
    ['consumer-configuration', 'invalid', { origin: 'exec' }, { kind: 'move', confirmed: false, error: { owner: 'consumer-configuration' } }],
    ['consumer-configuration', 'transient', { origin: 'create' }, { kind: 'retry' }],
    ['consumer-configuration', 'transient', { origin: 'create', tries: 3 }, { kind: 'move', confirmed: false }],
    ['consumer-configuration', 'invalid', { origin: 'git' }, { kind: 'fail', error: { owner: 'consumer-configuration' } }],
    ['consumer-configuration', 'transient', { origin: 'git', tries: 4 }, { kind: 'wait', delayMs: 800 }],
    ['sandbox', 'sandbox-lost', { origin: 'exec' }, { kind: 'move', excludeMs: 0, confirmed: true }],
    ['sandbox', 'auth', { origin: 'exec' }, { kind: 'retry' }],
    ['sandbox', 'auth', { origin: 'exec', tries: 3 }, { kind: 'move', confirmed: false }],
    ['sandbox', 'transient', { origin: 'exec', tries: 3, brokeBefore: true }, { kind: 'fail', error: { kind: 'invalid', owner: 'job', code: 'SWY_SANDBOX_BROKEN' } }],
    ['sandbox', 'sandbox-lost', { origin: 'exec', brokeBefore: true }, { kind: 'move' }],
    ['provider-data-plane', 'transient', { origin: 'exec' }, { kind: 'retry', delayMs: 100 }],
    ['provider-data-plane', 'transient', { origin: 'exec', lives: true, tries: 2 }, { kind: 'wait', delayMs: 200, untilMs: 1_300_000 }],
    ['provider-data-plane', 'provider-down', { origin: 'exec', lives: true, tries: 9, ...later(290_000) }, { kind: 'wait', delayMs: 5_000 }],
    ['provider-data-plane', 'provider-down', { origin: 'exec', lives: true, tries: 9, ...later(299_000) }, { kind: 'wait', delayMs: 1_000 }],
    ['provider-data-plane', 'rate-limited', { origin: 'exec', lives: true }, { kind: 'wait' }],
    ['provider-data-plane', 'rate-limited', { origin: 'exec' }, { kind: 'move', confirmed: false }],
    ['provider-data-plane', 'transient', { origin: 'exec', lives: true, tries: 99, ...later(300_000) }, { kind: 'move', confirmed: false }],
    ['git-host', 'provider-down', { origin: 'git', tries: 5 }, { kind: 'wait', delayMs: 1_600 }],
    ['git-host', 'rate-limited', { origin: 'git', tries: 5, ...later(599_000) }, { kind: 'wait' }],
    ['git-host', 'transient', { origin: 'git', tries: 60, ...later(600_000) }, { kind: 'fail', error: { owner: 'git-host' } }],
    ['git-repository', 'auth', { origin: 'git', tries: 2 }, { kind: 'fail', error: { kind: 'auth', owner: 'git-repository' } }],
    ['git-repository', 'transient', { origin: 'git', tries: 2 }, { kind: 'wait' }],
    ['job', 'invalid', { origin: 'exec' }, { kind: 'fail', error: { kind: 'invalid', owner: 'job', code: 'SWY_JOB_INVALID' } }],
    ['deployment', 'invalid', { origin: 'git' }, { kind: 'fail', error: { owner: 'deployment' } }],
  ])('%s %s %j', (owner, kind, context, reaction) => {
    expect(decide(error(kind, owner), { ...first, ...context }).reaction).toMatchObject(reaction)
  })

  it('stays away as long as a provider says', () => {
    expect(decide(error('rate-limited', 'provider-create', 7_000), first).reaction).toMatchObject({ kind: 'move', excludeMs: 7_000 })
  })

  it('believes nobody who asks for more than an hour, or for no time at all', () => {
    for (const ms of [2_300_000_000_000, 1e303, Infinity]) {
      expect(decide(error('rate-limited', 'provider-create', ms), first).report).toEqual({ kind: 'rate-limited', retryAfterMs: 3_600_000 })
    }
    for (const ms of [0, -5, NaN]) {
      expect(decide(error('rate-limited', 'git-host', ms), { ...first, origin: 'git', tries: 3 }).reaction).toMatchObject({ kind: 'wait', delayMs: 400 })
      expect(decide(error('rate-limited', 'provider-create', ms), first).reaction).toMatchObject({ kind: 'move', excludeMs: 2_000 })
    }
  })

  it('ends for every owner and kind: nothing is tried again for ever', () => {
    for (const owner of errorOwners) {
      for (const kind of infrastructureErrorKinds) {
        for (const origin of ['create', 'exec', 'git'] as const) {
          for (const lives of [true, false]) {
            const { reaction } = decide(error(kind, owner), { ...first, origin, lives, tries: 1_000, ...later(3_600_000) })
            expect({ owner, kind, origin, lives, reaction: reaction.kind }).toMatchObject({ reaction: expect.stringMatching(/^(move|fail)$/) as string })
          }
        }
      }
    }
  })
})

describe('who is told of an error', () => {
  const told = errorOwners.flatMap((owner) =>
    infrastructureErrorKinds.flatMap((kind) => {
      const { report } = decide(error(kind, owner), { ...first, tries: 1_000, ...later(3_600_000) })
      return report === null ? [] : [`${owner} ${kind}: ${report.kind}`]
    }),
  )

  it('a provider’s ledger hears of the provider’s own faults and of no others', () => {
    expect(told).toEqual([
      'provider-create capacity: capacity',
      'provider-create rate-limited: rate-limited',
      'provider-create transient: down',
      'provider-create provider-down: down',
      'provider-create auth: auth',
      'provider-create timeout: down',
    ])
  })

  it.each([
    ['auth', 'exec', 'sandbox'],
    ['auth', 'create', 'consumer-keys'],
    ['auth', 'git', 'consumer-keys'],
    ['transient', 'exec', 'provider-data-plane'],
    ['timeout', 'create', 'provider-create'],
    ['provider-down', 'git', 'git-host'],
    ['invalid', 'exec', 'job'],
    ['sandbox-lost', 'create', 'sandbox'],
  ] as const)('%s out of %s is, by itself, the %s’s', (kind, origin, owner) => {
    expect(presumedOwner(kind, origin)).toBe(owner)
    expect(decide(error(kind), { ...first, origin }).owner).toBe(owner)
  })
})

it('leaves a job whose fence is lost, fails one whose promotion conflicts, and calls the rest a defect', () => {
  expect(decide(new FenceLostError('j'), first).reaction).toEqual({ kind: 'leave' })
  expect(decide(new PromotionConflictError('moved'), first).reaction).toMatchObject({ kind: 'fail', error: { kind: 'conflict', message: 'moved', code: 'SWY_PROMOTION_CONFLICT' } })
  expect(decide(new TypeError('x is undefined'), first)).toMatchObject({ owner: 'deployment', reaction: { kind: 'fail', error: { kind: 'internal', code: 'SWY_INTERNAL' } } })
})
