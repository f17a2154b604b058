import { pino } from 'pino'
import { describe, expect, it } from 'vitest'
import { WaitingConstraints } from '../../src/consumers/intake/waiting-constraints.js'
import { constraintsOf } from '../../src/job/constraints.js'
import { parseJobSpec } from '../../src/job/spec.js'
import type { Provider } from '../../src/providers/provider.js'

const slot = (name: string, none: boolean) => ({
  provider: { name, capabilities: { maxLifetimeMs: undefined, network: { gitOnly: false, none, allowList: false }, resources: {} } } as unknown as Provider,
  limit: { sandboxes: 1 },
  credentials: 'brokered' as const,
})
const logged: unknown[] = []
const waiting = (isRefused: (provider: string) => boolean = () => false) =>
  new WaitingConstraints({
    providers: new Map([['a', slot('a', true)], ['b', slot('b', false)]]),
    policy: 'priority',
    git: { hosts: ['git.example.com'] },
    deploymentProviders: () => ['a', 'b', 'elsewhere'],
    keys: { isRefused: (of) => 'provider' in of && isRefused(of.provider) },
    now: () => 0,
    log: pino({}, { write: (line: string) => void logged.push(JSON.parse(line)) }),
  })
const of = (more: object) => {
  const { id, constraints } = constraintsOf(parseJobSpec({ repository: 'acme/web', steps: ['true'], ...more }))
  return [id, JSON.stringify(constraints)] as const
}
const learn = (to: WaitingConstraints, pairs: readonly (readonly [string, string])[], constraints = pairs.length) => to.learn({ loads: [], unknown: new Map(pairs), constraints })

describe('what waiting jobs ask for', () => {
  it('is the same for jobs that ask the same, and another for others', () => {
    expect(of({ metadata: { a: 1 }, priority: 3, tenant: 't' })[0]).toBe(of({})[0])
    expect(new Set([of({}), of({ network: 'none' }), of({ resources: { cpu: 1 } }), of({ providers: { deny: ['a'] } }), of({ steps: [{ run: 'a', resume: 'b' }], checkpoint: { paths: ['a'] } })].map(([id]) => id)).size).toBe(5)
  })

  it('becomes the providers that can run it, the best first, or none when this consumer can’t, which it tells', () => {
    const one = waiting()
    const [any, none, denied, gone] = [of({}), of({ network: 'none' }), of({ providers: { deny: ['a'] } }), of({ providers: { allow: ['z'] } })]
    learn(one, [any, none, denied, gone])
    expect(Object.fromEntries(one.orders([]))).toEqual({ [any[0]]: ['a', 'b'], [none[0]]: ['a'], [denied[0]]: ['b'], [gone[0]]: [] })
    expect(one.nextRefused()).toEqual([{ id: gone[0], why: expect.stringContaining('"z" is not configured at this deployment') as string }])
  })

  it('becomes nothing once the index says that no live consumer can run it, so that it is taken and says why', () => {
    const one = waiting()
    const [any, gone] = [of({}), of({ providers: { allow: ['z'] } })]
    learn(one, [any, gone])
    one.orders([])
    one.giveUp([gone[0]])
    expect(Object.fromEntries(one.orders([]))).toEqual({ [any[0]]: ['a', 'b'], [gone[0]]: null })
  })

  it('is not for a consumer that lacks a secret, or whose providers others have, or whose key is refused', () => {
    const one = waiting((provider) => provider === 'a')
    const [secret, elsewhere, any] = [of({ secrets: ['KEY', 'TOKEN'] }), of({ providers: { allow: ['elsewhere'] } }), of({})]
    learn(one, [secret, elsewhere, any])
    expect(Object.fromEntries(one.orders(['KEY']))).toEqual({ [secret[0]]: [], [elsewhere[0]]: [], [any[0]]: ['b'] })
    expect(one.nextRefused().map(({ why }) => why)).toEqual([
      'secrets: no consumer has TOKEN; set and allow it in consumer.secrets, or take it out of the spec',
      'providers: allow and deny leave none of a, b; allow one or deny fewer',
    ])
    expect(one.orders(['*']).get(secret[0])).toEqual(['b'])
  })

  it('that can’t be read is left to a consumer that can, and is logged', () => {
    const one = waiting()
    learn(one, [['broken', '{"providers":1}']])
    expect(one.orders([]).get('broken')).toEqual([])
    expect(one.nextRefused()).toHaveLength(1)
    expect(logged).toHaveLength(1)
  })

  it('is forgotten once many of them wait no more, and learned again', () => {
    const one = waiting()
    learn(one, Array.from({ length: 600 }, (_, index) => [`id-${index}`, of({})[1]] as const))
    expect(one.orders([]).size).toBe(600)
    learn(one, [['new', of({})[1]]], 601)
    expect(one.orders([]).size).toBe(601)
    learn(one, [], 3)
    expect(one.orders([]).size).toBe(0)
  })
})
