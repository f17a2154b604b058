import { pino } from 'pino'
import { describe, expect, it } from 'vitest'
import type { PlacementPolicy } from '../../src/consumers/placing/placement.js'
import type { ProviderSlot } from '../../src/consumers/placing/provider-slot.js'
import { Announcer } from '../../src/consumers/intake/announcer.js'
import { WaitingConstraints } from '../../src/consumers/intake/waiting-constraints.js'
import { constraintsOf } from '../../src/job/constraints.js'
import { parseJobSpec } from '../../src/job/spec.js'
import type { ProviderPrice } from '../../src/job/cost.js'
import type { Provider } from '../../src/providers/provider.js'
import type { Roster } from '../../src/store/index.js'

const slot = (name: string, none: boolean) => ({
  provider: { name, capabilities: { maxLifetimeMs: undefined, network: { gitOnly: false, none, allowList: false }, resources: {} } } as unknown as Provider,
  limit: { sandboxes: 1 },
  credentials: 'brokered' as const,
})
const logged: unknown[] = []
const waiting = (policy: PlacementPolicy = 'priority') => {
  const one = new WaitingConstraints({
    providers: new Map([['a', slot('a', true)], ['b', slot('b', false)]]),
    policy,
    git: { hosts: ['git.example.com'] },
    deploymentProviders: () => ['a', 'b', 'elsewhere'],
    now: () => 0,
    log: pino({}, { write: (line: string) => void logged.push(JSON.parse(line)) }),
  })
  // Its first look.
  one.take('view')
  return one
}
const of = (more: object) => {
  const { id, constraints } = constraintsOf(parseJobSpec({ repository: 'acme/web', steps: ['true'], ...more }))
  return [id, JSON.stringify(constraints)] as const
}
/** Asks, and returns what is said. */
const learn = (to: WaitingConstraints, pairs: readonly (readonly [string, string])[], secrets: readonly string[] = []) => {
  to.learn({ loads: [], unknown: pairs.map(([id, json], index) => ({ id, json, number: index + 1 })) }, secrets)
  return Object.fromEntries(to.take('view').map(({ id, can }) => [id, can]))
}

describe('the view in whose name it is said', () => {
  const viewOf = (policy: PlacementPolicy, price?: ProviderPrice) => {
    const providers = new Map<string, ProviderSlot>([['a', { ...slot('a', true), price }], ['b', slot('b', false)]])
    const { profileId, viewId } = new Announcer({
      consumer: 'c',
      roster: undefined as unknown as Roster,
      configured: () => ({ queue: 'agents', release: '1', gitHosts: [], providers, secrets: [] }),
      policy,
      health: { troubles: () => [], isRefused: () => false },
      full: () => false,
      running: () => 0,
      places: 1,
      shares: null,
      leaseMs: 1_000,
      startedAtMs: 0,
      log: pino({ enabled: false }),
    }).means()
    return { profileId, viewId }
  }

  it('is another one where providers are chosen otherwise, though the same jobs can be run', () => {
    const all = [viewOf('most-free'), viewOf('priority'), viewOf('cheapest'), viewOf('cheapest', { perSandboxHour: 1 }), viewOf('cheapest', { perSandboxHour: 2 }), viewOf(() => ['a']), viewOf(() => ['b'])]
    expect(new Set(all.map(({ viewId }) => viewId)).size).toBe(all.length)
    expect(new Set(all.map(({ profileId }) => profileId)).size).toBe(1)
    expect(viewOf('cheapest', { perSandboxHour: 1 })).toEqual(all[3])
    for (const { profileId, viewId } of all) expect(viewId).toMatch(new RegExp(`^${profileId}-[0-9a-f]{8}$`))
  })
})

describe('what waiting jobs ask for', () => {
  it('is the same for jobs that ask the same, and another for others', () => {
    expect(of({ metadata: { a: 1 }, priority: 3, tenant: 't' })[0]).toBe(of({})[0])
    expect(new Set([of({}), of({ network: 'none' }), of({ resources: { cpu: 1 } }), of({ providers: { deny: ['a'] } }), of({ steps: [{ run: 'a', resume: 'b' }], checkpoint: { paths: ['a'] } })].map(([id]) => id)).size).toBe(5)
  })

  it('counts of an image only its kind', () => {
    expect(of({ image: 'node:22' })[0]).toBe(of({ image: 'registry.example.com/team/tool@sha256:1' })[0])
    expect(new Set([of({}), of({ image: 'node:22' }), of({ image: 'snapshot:a' })].map(([id]) => id)).size).toBe(3)
    expect(of({ image: 'snapshot:a' })[0]).toBe(of({ image: 'snapshot:b' })[0])
  })

  it('becomes the providers that can run it, the best first, or why this consumer can’t', () => {
    const [any, none, denied, gone] = [of({}), of({ network: 'none' }), of({ providers: { deny: ['a'] } }), of({ providers: { allow: ['z'] } })]
    const one = waiting()
    const why = expect.stringContaining('"z" is not configured at this deployment') as string
    expect(learn(one, [any, none, denied, gone])).toEqual({ [any[0]]: [['a', 'b']], [none[0]]: [['a']], [denied[0]]: [['b']], [gone[0]]: why })
    expect(one.nextRefused()).toEqual([{ id: gone[0], why }])
  })

  it('is said once, and again when the look with it failed', () => {
    const one = waiting()
    one.learn({ loads: [], unknown: [{ id: 'x', number: 7, json: of({})[1] }] }, [])
    const known = one.take('view')
    expect(known).toEqual([{ id: 'x', number: 7, can: [['a', 'b']] }])
    expect(one.take('view')).toEqual([])
    one.unsaid(known)
    expect(one.take('view')).toEqual(known)
  })

  it('is said in the name of the view that was asked, and of no other', () => {
    let first = 'a'
    const one = waiting((candidates) => candidates.map(({ provider }) => provider).toSorted((x, y) => Number(y === first) - Number(x === first)))
    const about = [{ id: 'x', number: 7, json: of({})[1] }]
    one.hear({ view: 'another', about }, [])
    expect(one.take('view')).toEqual([])
    one.hear({ view: 'view', about }, [])
    // It has become another one's meanwhile: a key is refused, a provider was added.
    first = 'b'
    expect(one.take('another')).toEqual([])
    expect(one.take('another')).toEqual([])
    one.hear({ view: 'another', about }, [])
    expect(one.take('another')).toEqual([{ id: 'x', number: 7, can: [['b', 'a']] }])
  })

  it('leaves those that a policy chooses among by their loads in one group, behind what the job prefers', () => {
    expect(learn(waiting('most-free'), [of({})])).toEqual({ [of({})[0]]: [['a', 'b']] })
    const prefers = of({ providers: { prefer: ['b'] } })
    expect(learn(waiting('most-free'), [prefers])).toEqual({ [prefers[0]]: [['b'], ['a']] })
    expect(learn(waiting('priority'), [prefers])).toEqual({ [prefers[0]]: [['b', 'a']] })
  })

  it('is said anew when a policy function orders it otherwise', () => {
    let first = 'a'
    const one = waiting((candidates) => candidates.map(({ provider }) => provider).toSorted((x, y) => Number(y === first) - Number(x === first)))
    expect(learn(one, [of({})])).toEqual({ [of({})[0]]: [['a', 'b']] })
    first = 'b'
    expect(one.take('view')).toEqual([{ id: of({})[0], number: 1, can: [['b', 'a']] }])
    expect(one.take('view')).toEqual([])
  })

  it('is not for a consumer that lacks a secret, or whose providers others have', () => {
    const [secret, elsewhere] = [of({ secrets: ['KEY', 'TOKEN'] }), of({ providers: { allow: ['elsewhere'] } })]
    const one = waiting()
    const why = ['secrets: no consumer has TOKEN; set and allow it in consumer.secrets (for "switchyard dev": --secret NAME, or .env), or take it out of the spec', 'providers: allow and deny leave none of a, b; allow one or deny fewer']
    expect(learn(one, [secret, elsewhere], ['KEY'])).toEqual({ [secret[0]]: why[0], [elsewhere[0]]: why[1] })
    expect(one.nextRefused().map((each) => each.why)).toEqual(why)
    expect(learn(one, [secret], ['*'])).toEqual({ [secret[0]]: [['a', 'b']] })
    expect(one.nextRefused().map(({ id }) => id)).toEqual([elsewhere[0]])
  })

  it('that can’t be read is left to a consumer that can, and is logged', () => {
    const one = waiting()
    expect(learn(one, [['broken', '{"providers":1}']])).toEqual({ broken: 'what it asks for can’t be read by this release' })
    expect(one.nextRefused()).toHaveLength(1)
    expect(logged).toHaveLength(1)
  })
})
