import { describe, expect, it } from 'vitest'
import { eligibleProviders, placementOrder, waitingReason, type Candidate } from '../../src/consumers/placement.js'
import { parseJobSpec } from '../../src/job/spec.js'
import type { Attempt } from '../../src/job/result.js'

const candidate = (provider: string, used: number, limit = 10): Candidate => ({
  provider,
  limit,
  used,
  maxLifetimeMs: undefined,
  network: { gitOnly: false, none: provider === 'a', allowList: false },
})
const three = [candidate('a', 5), candidate('b', 2), candidate('c', 9)]
const spec = (more: object) => parseJobSpec({ repository: 'acme/web', steps: ['true'], ...more })
const lost = (provider: string): Attempt => ({ provider, sandboxId: 'x', startedAt: '', endedAt: '', outcome: 'lost', error: null })

describe('which providers a job may go to', () => {
  it('takes all of them unless the spec says otherwise', () => {
    expect(eligibleProviders(spec({}), three)).toEqual({ ok: true, providers: ['a', 'b', 'c'] })
    expect(eligibleProviders(spec({ providers: { deny: ['a'] } }), three)).toEqual({ ok: true, providers: ['b', 'c'] })
  })

  it.each([
    [{ providers: { prefer: ['z'] } }, 'providers.prefer: "z" is not configured at this deployment; configured are: a, b, c'],
    [{ providers: { deny: ['a', 'b', 'c'] } }, 'providers: allow and deny leave no provider'],
    [{ network: 'git-only' }, 'network: none of a, b, c can enforce "git-only"'],
    [{ network: 'none', providers: { deny: ['a'] } }, 'network: none of b, c can enforce "none"'],
  ])('says what is wrong with %j', (more, sentence) => {
    const found = eligibleProviders(spec(more), three)
    expect(found.ok ? '' : found.problem).toContain(sentence)
  })
})

describe('the order of placement', () => {
  const job = { eligible: ['a', 'b', 'c'], prefer: [], attempts: [], exclusions: new Map() }
  it('is the most free first', () => {
    expect(placementOrder(three, job, 0)).toEqual(['b', 'a', 'c'])
  })
  it('puts what the job prefers before, in its order', () => {
    expect(placementOrder(three, { ...job, prefer: ['c', 'a'] }, 0)).toEqual(['c', 'a', 'b'])
  })
  it('puts a provider that lost this job last, even a preferred one, but keeps it', () => {
    expect(placementOrder(three, { ...job, prefer: ['b'], attempts: [lost('b')] }, 0)).toEqual(['a', 'c', 'b'])
  })
  it('leaves excluded ones out until their time is up', () => {
    const exclusions = new Map([['b', { untilMs: 1_000, why: 'provider-down' }]])
    expect(placementOrder(three, { ...job, exclusions }, 999)).toEqual(['a', 'c'])
    expect(placementOrder(three, { ...job, exclusions }, 1_000)).toEqual(['b', 'a', 'c'])
  })
})

it('says for people why a job waits', () => {
  const exclusions = new Map([['b', { untilMs: 3_600_000, why: 'provider-down' }]])
  expect(waitingReason([candidate('a', 10), candidate('b', 2)], ['a', 'b'], exclusions, 0)).toBe(
    'waiting for capacity: a full (10/10), b excluded until 01:00:00 (provider-down)',
  )
})
