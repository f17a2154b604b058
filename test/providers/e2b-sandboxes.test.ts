import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { e2bProviderConfigSchema } from '../../src/providers/e2b/index.js'
import { whole } from '../whole.js'
import { all, failure, options, startE2b, type E2bFixture } from './e2b-fixture.js'

describe('E2B sandboxes', () => {
  let fixture: E2bFixture
  beforeAll(async () => {
    fixture = await startE2b({ plan: { maxConcurrent: 250, maxLifetimeSeconds: 3600 }, templates: { base: { cpuCount: 2, memoryMB: 512, diskSizeMB: 1024 }, big: { cpuCount: 8, memoryMB: 8192, diskSizeMB: 1024 } } })
  })
  afterAll(() => fixture.close())
  afterEach(async () => {
    fixture.server.faults.clear()
    for (const { id } of fixture.server.host.list()) await fixture.server.host.destroy(id, 'killed')
  })
  const calls = (name: string): number => fixture.server.faults.calls()[name] ?? 0
  const created = (): number => fixture.server.host.state().created

  describe('create whose outcome is unknown', () => {
    it('takes over the sandbox when the answer was lost, and makes no second one', async () => {
      const before = created()
      fixture.server.faults.add({ call: 'create', action: 'lose-answer' })
      const request = fixture.request()
      const found = await fixture.provider.create(request, options)
      expect(found).toMatchObject({ name: request.name, tags: request.tags })
      expect(fixture.server.host.list().map(({ id }) => id)).toEqual([found.id])
      expect(created()).toBe(before + 1)
      expect((await fixture.provider.exec(found.id, { script: 'echo mine' }, options)).stdout).toBe('mine\n')
    })

    it('takes it over when the answer comes too late', async () => {
      fixture.server.faults.add({ call: 'create', action: 'late-answer', delayMs: 30_000 })
      const found = await fixture.provider.create(fixture.request(), { timeoutMs: 2_000 })
      expect(fixture.server.host.list().map(({ id }) => id)).toEqual([found.id])
    })

    it('asks the listing again when it lags', async () => {
      fixture.server.faults.add({ call: 'create', action: 'lose-answer' })
      fixture.server.faults.setMode({ listDelayMs: 300 })
      const found = await fixture.provider.create(fixture.request(), options)
      expect(fixture.server.host.get(found.id)).toBeDefined()
    })

    it('fails with the first error when there is no such sandbox', async () => {
      fixture.server.faults.add({ call: 'create', action: 'status', status: 500, message: 'first' })
      const error = await failure(fixture.provider.create(fixture.request(), options))
      expect(error).toMatchObject({ kind: 'transient' })
      expect(error.message).toContain('first')
      expect(fixture.server.host.list()).toEqual([])
    })

    it.each([401, 429, 503, 400, 404])('does not look for one after %i, which made none', async (status) => {
      const before = calls('list')
      fixture.server.faults.add({ call: 'create', action: 'status', status })
      await failure(fixture.provider.create(fixture.request(), options))
      expect(calls('list')).toBe(before)
    })
  })

  it('takes one call each to create, run, and kill', async () => {
    const before = fixture.server.faults.calls()
    const { id } = await fixture.provider.create(fixture.request(), options)
    await fixture.provider.exec(id, { script: 'true' }, options)
    await fixture.provider.kill(id, options)
    const after = fixture.server.faults.calls()
    const made = Object.entries(after).flatMap(([call, count]) => (count > (before[call] ?? 0) ? [[call, count - (before[call] ?? 0)]] : []))
    expect(made).toEqual([['create', 1], ['kill', 1], ['start', 1]])
  })

  it('lists no page twice over, as a proxy that keeps answers would have it for ever', async () => {
    const keeper = createServer((_request, response) => response.writeHead(200, { 'content-type': 'application/json', 'x-next-token': 'again' }).end('[]'))
    await once(keeper.listen(0, '127.0.0.1'), 'listening')
    try {
      const provider = fixture.another({ apiUrl: `http://127.0.0.1:${(keeper.address() as AddressInfo).port}` })
      expect(await failure(all(provider.list({}, options)))).toMatchObject({ kind: 'transient' })
    } finally {
      keeper.closeAllConnections()
      keeper.close()
    }
  })

  it('lists every page, and only what bears all tags', async () => {
    const tags = { 'switchyard-deployment': 'pages & more=é%', 'switchyard-job': 'one' }
    const ids: string[] = []
    // Of the pages CI has the one after the first, which is the last then.
    const count = whole ? 205 : 105
    // Five at once: each has its time, however slow the machine is.
    for (let made = 0; made < count; made += 5) ids.push(...(await Promise.all(Array.from({ length: 5 }, async () => (await fixture.provider.create(fixture.request({ tags }), options)).id))))
    await fixture.provider.create(fixture.request({ tags: { ...tags, 'switchyard-job': 'two' } }), options)
    const before = calls('list')
    const found = await all(fixture.provider.list(tags, options))
    expect(found.map(({ id }) => id).sort()).toEqual([...ids].sort())
    expect(found[0]?.tags).toEqual(tags)
    expect(calls('list') - before).toBe(whole ? 3 : 2)
    expect(await all(fixture.provider.list({}, options))).toHaveLength(count + 1)
  })

  it('counts a sandbox as killed only when E2B says so', async () => {
    const { id } = await fixture.provider.create(fixture.request(), options)
    // A proxy in between that answers 404 of its own.
    fixture.server.faults.add({ call: 'kill', action: 'status', status: 404, empty: true })
    expect((await failure(fixture.provider.kill(id, options))).kind).toBe('transient')
    await fixture.server.host.destroy(id, 'crashed')
    fixture.server.faults.add({ call: 'kill', action: 'status', status: 404, empty: true })
    await fixture.provider.kill(id, options)
    await fixture.provider.kill(id, options)
  })

  it('kills although E2B_DEBUG would have the SDK pretend to', async () => {
    const before = process.env.E2B_DEBUG
    process.env.E2B_DEBUG = 'true'
    try {
      const provider = fixture.another({}, { E2B_DEBUG: 'true' })
      const { id } = await provider.create(fixture.request(), options)
      expect(fixture.server.host.get(id)).toBeDefined()
      await provider.kill(id, options)
      expect(fixture.server.host.get(id)).toBeUndefined()
      expect(await provider.check(options)).toEqual([expect.stringContaining('E2B_DEBUG')])
    } finally {
      if (before === undefined) delete process.env.E2B_DEBUG
      else process.env.E2B_DEBUG = before
    }
  })

  it('lengthens a lifetime, never shortens it, and stops at the plan’s', async () => {
    const { id } = await fixture.provider.create(fixture.request({ lifetimeMs: 600_000 }), options)
    const ends = (): number => fixture.server.host.get(id)?.expiresAtMs ?? 0
    const first = ends()
    expect(await fixture.provider.extend(id, 60_000, options)).toMatchObject({ expiresAtMs: first })
    expect(ends()).toBe(first)
    await fixture.provider.extend(id, 1_200_000, options)
    expect(ends() - Date.now()).toBeGreaterThan(1_100_000)
    await fixture.provider.extend(id, 36_000_000, options)
    expect(ends() - Date.now()).toBeGreaterThan(3_500_000)
  })

  it('tells when the plan ends a sandbox whatever is done, also when the plan gives less than the configuration says', async () => {
    const small = await startE2b({ plan: { maxLifetimeSeconds: 600 } }, { maxLifetime: '24h' })
    try {
      const asked = Date.now()
      const made = await small.provider.create(small.request({ lifetimeMs: 300_000 }), options)
      expect(made.expiresAtMs).toBeGreaterThanOrEqual(asked + 300_000)
      expect(made.lifetimeEndsAtMs).toBeGreaterThanOrEqual(asked + 86_400_000)
      const { createdAtMs = 0 } = small.server.host.get(made.id) ?? {}
      // E2B answers with success and gives less than was asked: what came of it is the plan's word.
      expect(await small.provider.extend(made.id, 400_000, options)).toMatchObject({ lifetimeEndsAtMs: createdAtMs + 86_400_000 })
      small.server.host.age(made.id, 100_000)
      const lifetime = await small.provider.extend(made.id, 590_000, options)
      const end = small.server.host.get(made.id)?.expiresAtMs
      expect(lifetime).toEqual({ expiresAtMs: end, lifetimeEndsAtMs: end })
    } finally {
      await small.close()
    }
  })

  it('does not lengthen a lifetime by running a command from another process', async () => {
    const { id } = await fixture.provider.create(fixture.request({ lifetimeMs: 60_000 }), options)
    const first = fixture.server.host.get(id)?.expiresAtMs
    expect((await fixture.another().exec(id, { script: 'echo here' }, options)).stdout).toBe('here\n')
    expect(fixture.server.host.get(id)?.expiresAtMs).toBe(first)
  })

  it('finds a sandbox gone when its lifetime is over', async () => {
    const { id } = await fixture.provider.create(fixture.request({ lifetimeMs: 1_000 }), options)
    await expect.poll(() => fixture.provider.get(id, options)).toBeUndefined()
    expect((await failure(fixture.provider.exec(id, { script: 'true' }, options))).kind).toBe('sandbox-lost')
  })

  it('connects anew when a handle’s access token is refused', async () => {
    const { id } = await fixture.provider.create(fixture.request(), options)
    fixture.server.faults.add({ call: 'start', action: 'status', status: 401 })
    expect((await fixture.provider.exec(id, { script: 'echo on' }, options)).stdout).toBe('on\n')
  })

  it('sends a network policy as rules that E2B takes, with the job’s ports closed to the public in each', async () => {
    const rulesOf = async (changes: Parameters<typeof fixture.request>[0]) => {
      const { id } = await fixture.provider.create(fixture.request(changes), options)
      const details = fixture.server.host.get(id)?.details
      return { internet: details?.allowInternetAccess, ...details?.network }
    }
    expect(await rulesOf({ network: 'open' })).toEqual({ internet: undefined, allowPublicTraffic: false })
    expect(await rulesOf({ network: 'none' })).toEqual({ internet: false, allowPublicTraffic: false })
    expect(await rulesOf({ network: 'git-only', gitHosts: ['git.example.com'] })).toEqual({ internet: undefined, allowPublicTraffic: false, allowOut: ['git.example.com'], denyOut: ['0.0.0.0/0'] })
    expect(await rulesOf({ network: ['*.example.com', '10.0.0.0/8'] })).toEqual({ internet: undefined, allowPublicTraffic: false, allowOut: ['*.example.com', '10.0.0.0/8'], denyOut: ['0.0.0.0/0'] })
  })

  describe('bad input', () => {
    const before = (): number => calls('create')
    it.each([
      [{ network: 'git-only' as const, gitHosts: [] }, /git host/],
      [{ network: [] }, /network/],
      [{ network: ['example.com:443'] }, /example\.com:443/],
      [{ lifetimeMs: 36_000_000 }, /maxLifetime/],
      [{ image: 'big', resources: { cpu: 16 } }, /resources\.cpu.*"big" has at most 8/],
      [{ image: 'big', resources: { memoryMiB: 16_384 } }, /resources\.memoryMiB/],
    ])('%j is invalid before any call', async (changes, message) => {
      const count = before()
      const provider = fixture.another({ templates: { big: { cpu: 8, memoryMiB: 8192 } } })
      const error = await failure(provider.create(fixture.request(changes), options))
      expect(error.kind).toBe('invalid')
      expect(error.message).toMatch(message)
      expect(calls('create')).toBe(count)
    })

    it('a template that E2B does not know is invalid at create and a warning at check', async () => {
      const provider = fixture.another({ template: 'nowhere' })
      expect(await provider.check(options)).toEqual([expect.stringContaining('"nowhere"')])
      const error = await failure(provider.create(fixture.request(), options))
      expect(error).toMatchObject({ kind: 'invalid' })
      expect(error.message).toContain('template')
    })

    it('a lifetime over the plan’s that the configuration does not know of is invalid', async () => {
      const error = await failure(fixture.another({ maxLifetime: '24h' }).create(fixture.request({ lifetimeMs: 7_200_000 }), options))
      expect(error.kind).toBe('invalid')
      expect(error.message).toContain('maxLifetime')
    })

    it('ignores resources that a template meets or that nobody told it of', async () => {
      await fixture.provider.create(fixture.request({ resources: { cpu: 64 } }), options)
      await fixture.another({ templates: { big: { cpu: 8 } } }).create(fixture.request({ image: 'big', resources: { cpu: 8, memoryMiB: 100_000 } }), options)
    })

    it.each([[{ apiKeyEnv: 'NOT A NAME' }], [{ apiUrl: 'ftp://example.com' }], [{ name: 'E2B!' }], [{ apiKey: 'e2b_key' }], [{ maxLifetime: 3600 }]])('the configuration %j is refused', (config) => {
      expect(e2bProviderConfigSchema.safeParse(config).success).toBe(false)
    })
  })
})

describe('limits of the account', () => {
  it('a full account is capacity, and has room again after a kill', async () => {
    const fixture = await startE2b({ plan: { maxConcurrent: 2 } })
    try {
      const { id } = await fixture.provider.create(fixture.request(), options)
      await fixture.provider.create(fixture.request(), options)
      expect((await failure(fixture.provider.create(fixture.request(), options))).kind).toBe('capacity')
      await fixture.provider.kill(id, options)
      await fixture.provider.create(fixture.request(), options)
      expect(fixture.server.host.state().maxLive).toBe(2)
    } finally {
      await fixture.close()
    }
  })

  it('creates that come too fast are rate-limited at once, without the SDK’s own waiting', async () => {
    const fixture = await startE2b({ plan: { createsPerSecond: 1 } })
    try {
      const outcomes = await Promise.allSettled([1, 2, 3].map(() => fixture.provider.create(fixture.request(), options)))
      const refused = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason as unknown] : []))
      expect(refused).toHaveLength(2)
      for (const error of refused) expect(error).toMatchObject({ kind: 'rate-limited', retryAfterMs: undefined })
      expect(fixture.server.faults.calls().create).toBe(3)
    } finally {
      await fixture.close()
    }
  })
})
