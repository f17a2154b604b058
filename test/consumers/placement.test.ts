import { pino } from 'pino'
import { describe, expect, it } from 'vitest'
import { candidatesOf, guardedPolicy } from '../../src/consumers/placing/candidates.js'
import { eligibleProviders, placementOrder, waitingReason, type Candidate, type PlacementPolicy } from '../../src/consumers/placing/placement.js'
import { parseJobSpec } from '../../src/job/spec.js'
import type { Attempt } from '../../src/job/result.js'
import { ModalProvider, modalProviderConfigSchema } from '../../src/providers/modal/index.js'
import type { Provider, SandboxWish } from '../../src/providers/provider.js'
import type { ProviderLoad } from '../../src/store/index.js'

const candidate = (provider: string, used: number, limit = 10): Candidate => ({
  provider,
  limit,
  used,
  maxLifetimeMs: undefined,
  network: { gitOnly: false, none: provider === 'a', allowList: false },
  startP50Ms: null,
  price: undefined,
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
    [{ providers: { deny: ['a', 'b', 'c'] } }, 'providers: allow and deny leave none of a, b, c'],
    [{ network: 'git-only' }, 'network: none of a, b, c can enforce "git-only"'],
    [{ network: 'none', providers: { deny: ['a'] } }, 'network: none of b, c can enforce "none"'],
  ])('says what is wrong with %j', (more, sentence) => {
    const found = eligibleProviders(spec(more), three)
    expect(found.ok ? '' : found.problem).toContain(sentence)
  })

  it('says why a provider can’t enforce a network that others of its kind can', () => {
    const poor = { ...candidate('b', 0), refusal: (wish: SandboxWish) => (wish.network === 'open' ? undefined : 'b: its tier sets the network') }
    expect(eligibleProviders(spec({ network: 'git-only' }), [poor])).toMatchObject({ ok: false, problem: expect.stringMatching(/none of b can enforce "git-only".*; b: its tier sets the network$/) as string })
    expect(eligibleProviders(spec({}), [poor])).toMatchObject({ ok: true })
  })
})

describe('a job that a provider could never run', () => {
  const small = { ...candidate('small', 2), refusal: ({ resources }: SandboxWish) => ((resources.cpu ?? 0) > 2 ? 'small: resources.cpu: has at most 2' : undefined) }
  const imageless = { ...candidate('imageless', 2), refusal: ({ image }: SandboxWish) => (image === undefined ? undefined : 'imageless: image: leave it out') }

  it('goes to one that may', () => {
    expect(eligibleProviders(spec({ resources: { cpu: 4 } }), [small, imageless, ...three])).toMatchObject({ providers: ['imageless', 'a', 'b', 'c'] })
    expect(eligibleProviders(spec({ image: 'python:3.12' }), [small, imageless])).toMatchObject({ providers: ['small'] })
  })

  it('fails with what each of them says when there is none', () => {
    expect(eligibleProviders(spec({ image: 'python:3.12', resources: { cpu: 4 } }), [small, imageless])).toEqual({
      ok: false,
      problem: 'small: resources.cpu: has at most 2; and imageless: image: leave it out',
    })
  })

  it('is one that asks for more than the pool that was configured', () => {
    const network = { gitOnly: true, none: true, allowList: true }
    const slots = new Map([['pool', { provider: { capabilities: { network } } as Provider, limit: { sandboxes: 10, cpu: 8, memoryMiB: 16_384 } }]])
    const found = (resources: object) => candidatesOf(slots, [], [])[0]?.refusal?.({ resources, network: 'open' })
    expect(found({ cpu: 8, memoryMiB: 16_384 })).toBeUndefined()
    expect(found({ cpu: 9 })).toBe('pool: resources.cpu: the pool of this provider has at most 8 and the job asks for 9; ask for less, or raise its limit')
  })
})

describe('a sandbox without network', () => {
  it.each([['brokered', true], ['injected', false], ['minted', false], [undefined, false]] as const)('is of use with credentials %s: %s', (credentials, useful) => {
    const provider = { capabilities: { network: { gitOnly: true, none: true, allowList: true } } } as Provider
    expect(candidatesOf(new Map([['a', { provider, limit: { sandboxes: 1 }, credentials }]]), [], [])[0]?.network).toEqual({ gitOnly: true, none: useful, allowList: true })
  })
})

describe('headers that are injected', () => {
  const modal = (gitHosts: readonly string[], credentials: 'injected' | 'minted', network: SandboxWish['network']) => {
    const provider = new ModalProvider(modalProviderConfigSchema.parse({ name: 'modal', app: 'agents', injectHeaders: true }))
    return candidatesOf(new Map([['modal', { provider, limit: { sandboxes: 1 }, credentials }]]), [], gitHosts)[0]?.refusal?.({ resources: {}, network })
  }

  it('keep a job away from Modal where its network is a list of names, before a sandbox is created', () => {
    for (const network of ['git-only' as const, ['10.0.0.0/8'], ['example.com']]) {
      expect(modal(['git.example.com'], 'injected', network)).toMatch(/^modal: network: Modal injects no headers beside a list of allowed host names.*use "open", allow another provider/)
    }
  })

  it('and nowhere else', () => {
    expect(modal(['git.example.com'], 'injected', 'open')).toBeUndefined()
    expect(modal(['10.1.2.3:8443'], 'injected', 'git-only')).toBeUndefined()
    expect(modal(['git.example.com'], 'minted', 'git-only')).toBeUndefined()
  })
})

describe('the order of placement', () => {
  const job = { eligible: ['a', 'b', 'c'], prefer: [], resumes: false, attempts: [], exclusions: new Map(), resources: {}, network: 'open' as const }
  const order = (more: object, nowMs = 0, policy: PlacementPolicy = 'most-free', candidates: readonly Candidate[] = three) =>
    placementOrder(candidates, { ...job, ...more }, policy, nowMs)
  it('is the most free first', () => {
    expect(order({})).toEqual(['b', 'a', 'c'])
  })
  it('puts what the job prefers before, in its order', () => {
    expect(order({ prefer: ['c', 'a'] })).toEqual(['c', 'a', 'b'])
  })
  it('puts a provider that lost this job last, even a preferred one, but keeps it', () => {
    expect(order({ prefer: ['b'], attempts: [lost('b')] })).toEqual(['a', 'c', 'b'])
  })
  it('puts a provider whose sandboxes share a file system last for a job that resumes, whatever speaks for it', () => {
    const shared = three.map((candidate) => ({ ...candidate, sharedFileSystem: candidate.provider === 'b' }))
    for (const more of [{}, { prefer: ['b'] }, { attempts: [lost('a'), lost('c')] }]) {
      for (const policy of ['most-free', 'priority', (all: readonly Candidate[]) => all.map(({ provider }) => provider)] as const) {
        expect(order({ ...more, resumes: true }, 0, policy, shared).at(-1)).toBe('b')
        expect(order({ ...more, resumes: true, eligible: ['b'] }, 0, policy, shared)).toEqual(['b'])
      }
    }
    expect(order({ prefer: ['b'] }, 0, 'most-free', shared)).toEqual(['b', 'a', 'c'])
  })
  it('leaves excluded ones out until their time is up', () => {
    const exclusions = new Map([['b', { untilMs: 1_000, why: 'provider-down' }]])
    expect(order({ exclusions }, 999)).toEqual(['a', 'c'])
    expect(order({ exclusions }, 1_000)).toEqual(['b', 'a', 'c'])
  })
  it('is the configuration’s with the policy priority', () => {
    expect(order({}, 0, 'priority')).toEqual(['a', 'b', 'c'])
    expect(order({ prefer: ['c'] }, 0, 'priority')).toEqual(['c', 'a', 'b'])
  })
  it('is by what an hour of the job’s resources costs with the policy cheapest, those without a price last', () => {
    const priced = [three[0]!, { ...three[1]!, price: { perSandboxHour: 0.1, perCpuHour: 0.05 } }, { ...three[2]!, price: { perCpuHour: 0.01, perMemoryGiBHour: 0.1 } }]
    expect(order({ resources: { cpu: 1, memoryMiB: 1024 } }, 0, 'cheapest', priced)).toEqual(['c', 'b', 'a'])
    expect(order({ resources: { cpu: 1, memoryMiB: 4096 } }, 0, 'cheapest', priced)).toEqual(['b', 'c', 'a'])
  })
  it('is by the median start with the policy fastest, unmeasured ones first', () => {
    const measured = [{ ...three[0]!, startP50Ms: 900 }, { ...three[1]!, startP50Ms: 1_700 }, three[2]!]
    expect(order({}, 0, 'fastest', measured)).toEqual(['c', 'a', 'b'])
  })
  it('is a user’s own function’s, of the candidates that the job may use, each once', () => {
    const seen: unknown[] = []
    const own: PlacementPolicy = (candidates, { resources }) => {
      seen.push(candidates.map(({ provider }) => provider), resources)
      return ['c', 'z', 'c', 'a']
    }
    expect(order({ eligible: ['a', 'c'], resources: { cpu: 4 } }, 0, own)).toEqual(['c', 'a'])
    expect(seen).toEqual([['a', 'c'], { cpu: 4 }])
  })
  it('is most-free’s when a user’s own function throws, and says so', () => {
    const logged: unknown[] = []
    const guarded = guardedPolicy(
      () => {
        throw new Error('no such table')
      },
      pino({}, { write: (line: string) => void logged.push(JSON.parse(line)) }),
    )
    expect(order({}, 0, guarded)).toEqual(['b', 'a', 'c'])
    expect(logged).toMatchObject([{ message: 'no such table' }])
  })
})

const load = (provider: string, used: number, more: Partial<ProviderLoad> = {}): ProviderLoad => ({
  provider, used, limit: 10, configuredLimit: 10, set: null, drain: null, effectiveLimit: 10, foreign: 0, waiting: 0, cpu: 0, cpuLimit: null, memoryMiB: 0, memoryMiBLimit: null, breaker: 'closed',
  openUntilMs: null, openedBy: null, createsPerSecond: null, blockedUntilMs: null, startP50Ms: null, startP95Ms: null, startMaxMs: null, ...more,
})

it('says for people why a job waits', () => {
  const hour = 3_600_000
  const exclusions = new Map([['b', { untilMs: hour, why: 'capacity' }]])
  const loads = [
    load('a', 10),
    load('b', 2),
    load('c', 3, { breaker: 'open', openUntilMs: hour, openedBy: 'down' }),
    load('d', 4, { effectiveLimit: 4, foreign: 5 }),
    load('e', 0, { blockedUntilMs: hour }),
    load('f', 10),
  ]
  expect(waitingReason(loads, ['a', 'b', 'c', 'd', 'e'], exclusions, 0)).toBe(
    'waiting for capacity: a full (10/10), b excluded until 01:00:00 (capacity), c open until 01:00:00 (down), d full (4/4 of 10, 5 used by others), e takes no creates until 01:00:00',
  )
})
