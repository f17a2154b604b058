import { Status } from 'nice-grpc'
import { afterEach, describe, expect, it } from 'vitest'
import { InfrastructureError } from '../../src/job/errors.js'
import { modalNetwork } from '../../src/providers/modal/network.js'
import type { ModalProviderConfigInput } from '../../src/providers/modal/index.js'
import type { SandboxRequest } from '../../src/providers/provider.js'
import type { ModalServerOptions } from '../servers/modal/server.js'
import { all, failure, options, startModal, type ModalFixture } from './modal-fixture.js'

let open: ModalFixture[] = []
const start = async (server: ModalServerOptions = {}, config: ModalProviderConfigInput = {}): Promise<ModalFixture> => {
  const fixture = await startModal(server, config)
  open.push(fixture)
  return fixture
}
afterEach(async () => {
  await Promise.all(open.map((fixture) => fixture.close()))
  open = []
})

describe('creating at Modal', () => {
  it('says on the wire what was asked for', async () => {
    const fixture = await start({}, { regions: ['us-east'], cloud: 'aws', app: 'agents' })
    const request = fixture.request({ resources: { cpu: 1.5, memoryMiB: 768 }, lifetimeMs: 90_500, image: 'python:3.13' })
    const info = await fixture.provider.create(request, options)
    const made = fixture.server.world.sandboxes.get(info.id)
    expect(made).toMatchObject({
      name: request.name,
      tags: request.tags,
      definition: {
        name: request.name,
        timeoutSecs: 91,
        resources: { milliCpu: 1500, memoryMb: 768 },
        schedulerPlacement: { regions: ['us-east'] },
        cloudProviderStr: 'aws',
        networkAccess: { networkAccessType: 1 },
      },
    })
    expect(made?.definition).not.toHaveProperty('experimentalOutboundPolicy.headerReplacements')
    expect([...fixture.server.world.images.keys()]).toEqual(['FROM python:3.13'])
    expect([...fixture.server.world.apps.keys()]).toEqual(['/agents'])
    // Another id would be taken for the old backend's.
    expect(info.id).not.toMatch(/^sb-[0-9A-Za-z]{22}$/)
  })

  it('finds the sandbox of a create whose answer was lost, within the same call', async () => {
    const fixture = await start()
    fixture.fault({ call: 'create', action: 'lose-answer' })
    const request = fixture.request()
    const info = await fixture.provider.create(request, options)
    expect(info).toMatchObject({ name: request.name, tags: request.tags })
    expect(fixture.server.state()).toMatchObject({ created: 1, live: 1 })
    expect((await fixture.provider.exec(info.id, { script: 'echo here' }, options)).stdout).toBe('here\n')
  })

  it('finds the sandbox of a create whose answer was lost when the SDK’s repetition is refused', async () => {
    const fixture = await start()
    fixture.fault({ call: 'create', action: 'lose-answer' }, { call: 'create', action: 'status', status: Status.RESOURCE_EXHAUSTED })
    const request = fixture.request()
    expect(await fixture.provider.create(request, options)).toMatchObject({ name: request.name })
    expect(fixture.server.state()).toMatchObject({ created: 1, live: 1 })
  })

  it('does not say that there is none when it could not look', async () => {
    const fixture = await start()
    fixture.fault(
      { call: 'create', action: 'lose-answer' },
      { call: 'create', action: 'status', status: Status.RESOURCE_EXHAUSTED },
      { call: 'sandboxGetFromNameV2', action: 'status', status: Status.PERMISSION_DENIED },
    )
    expect(await failure(fixture.provider.create(fixture.request(), options))).toMatchObject({ kind: 'capacity', sandboxMayExist: true })
    expect(fixture.server.state()).toMatchObject({ created: 1, live: 1 })
    fixture.fault(
      { call: 'create', action: 'status', status: Status.ALREADY_EXISTS },
      { call: 'sandboxGetFromNameV2', action: 'status', status: Status.RESOURCE_EXHAUSTED },
    )
    expect(await failure(fixture.provider.create(fixture.request(), options))).toMatchObject({ kind: 'capacity', sandboxMayExist: true })
  })

  it('finds the sandbox of a create that was given up, from another client', async () => {
    const fixture = await start()
    await fixture.provider.create(fixture.request(), options)
    fixture.fault({ call: 'create', action: 'late-answer', delayMs: 60_000 })
    const request = fixture.request()
    expect(await failure(fixture.provider.create(request, { timeoutMs: 2_000 }))).toMatchObject({ kind: 'timeout' })
    const [listed] = await all(fixture.provider.list(request.tags, options))
    expect((await fixture.another().create(request, options)).id).toBe(listed?.id)
    expect(fixture.server.state()).toMatchObject({ created: 2, live: 2 })
  })

  it('creates after all when the holder of the name ends while it is looked up', async () => {
    const fixture = await start()
    fixture.fault({ call: 'create', action: 'status', status: Status.ALREADY_EXISTS })
    await fixture.provider.create(fixture.request(), options)
    expect(fixture.server.state()).toMatchObject({ created: 1, live: 1 })
    expect(fixture.calls('sandboxGetFromNameV2')).toBe(1)
  })

  it('gives a name again when its holder has ended', async () => {
    const fixture = await start()
    const request = fixture.request()
    const first = await fixture.provider.create(request, options)
    await fixture.provider.kill(first.id, options)
    expect((await fixture.provider.create(request, options)).id).not.toBe(first.id)
  })

  it('is capacity when the workspace is full, until one goes', async () => {
    const fixture = await start({ maxSandboxes: 1 })
    const { id } = await fixture.provider.create(fixture.request(), options)
    expect(await failure(fixture.provider.create(fixture.request(), options))).toMatchObject({ kind: 'capacity' })
    await fixture.provider.kill(id, options)
    await fixture.provider.create(fixture.request(), options)
  })

  it.each([
    [true, 1000],
    [false, undefined],
  ])('is rate-limited when it creates too fast (Modal asks to retry: %s), after one call', async (askToRetry, retryAfterMs) => {
    const fixture = await start({ createsPerSecond: 1, askToRetry })
    // Both at once: the limit counts by the second.
    const outcomes = await Promise.allSettled([1, 2].map(() => fixture.provider.create(fixture.request(), options)))
    const refused = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason as unknown] : []))
    expect(refused).toEqual([expect.objectContaining({ kind: 'rate-limited', retryAfterMs })])
    expect(fixture.calls('create')).toBe(2)
  })

  it('builds an image once, and says which could not be built', async () => {
    const fixture = await start()
    await fixture.provider.create(fixture.request(), options)
    await fixture.provider.create(fixture.request(), options)
    expect(fixture.calls('imageGetOrCreate')).toBe(1)
    expect(fixture.calls('imageJoinStreaming')).toBe(1)
    const error = await failure(fixture.provider.create(fixture.request({ image: 'acme/no-such-image:1' }), options))
    expect(error).toMatchObject({ kind: 'invalid' })
    expect(error.message).toContain('acme/no-such-image:1')
    const [id] = [...fixture.server.world.images.values()].map((image) => image.id)
    await fixture.provider.create(fixture.request({ image: id }), options)
    expect(await failure(fixture.provider.create(fixture.request({ image: 'im-unknown' }), options))).toMatchObject({ kind: 'invalid' })
  })

  it('looks the app up again after it was deleted', async () => {
    const fixture = await start()
    await fixture.provider.create(fixture.request(), options)
    fixture.fault({ call: 'create', action: 'status', status: Status.NOT_FOUND, message: 'app is gone' })
    expect(await failure(fixture.provider.create(fixture.request(), options))).toMatchObject({ kind: 'invalid' })
    await fixture.provider.create(fixture.request(), options)
    expect(fixture.calls('appGetOrCreate')).toBe(2)
  })

  it('does not fail one create because another one, which asked Modal for both, was given up', async () => {
    const fixture = await start()
    fixture.fault({ call: 'environmentGetOrCreate', action: 'delay', delayMs: 1_000 })
    const controller = new AbortController()
    const first = fixture.provider.create(fixture.request(), { ...options, signal: controller.signal })
    await expect.poll(() => fixture.server.openCalls('environmentGetOrCreate')).toBe(1)
    const second = fixture.provider.create(fixture.request(), options)
    await expect.poll(() => fixture.calls('appGetOrCreate')).toBe(1)
    controller.abort(new Error('not this one'))
    await expect(first).rejects.toThrow('not this one')
    expect((await second).id).toMatch(/^sb-/)
  })

  it('refuses what Modal can not do before it calls anybody', async () => {
    const fixture = await start({}, { maxLifetime: '2h' })
    const impossible: Partial<SandboxRequest>[] = [
      { lifetimeMs: 2 * 3_600_000 + 1 },
      { resources: { diskMiB: 1024 } },
      { network: ['not a host'] },
      { network: 'git-only', gitHosts: [] },
    ]
    for (const changes of impossible) expect(await failure(fixture.provider.create(fixture.request(changes), options))).toMatchObject({ kind: 'invalid' })
    expect(fixture.server.plan.calls()).toEqual({})
  })

  it('is invalid for more than Modal has, and for a name that it does not take', async () => {
    const fixture = await start({ maxCpu: 8, maxMemoryMiB: 1024 })
    for (const changes of [{ resources: { cpu: 9 } }, { resources: { memoryMiB: 2048 } }, { name: 'no spaces please' }]) {
      expect(await failure(fixture.provider.create(fixture.request(changes), options))).toMatchObject({ kind: 'invalid' })
    }
    expect(fixture.server.state().created).toBe(0)
  })
})

describe('the network of a sandbox at Modal', () => {
  const translate = (network: Parameters<typeof modalNetwork>[1]['network'], gitHosts: string[] = []) => modalNetwork('modal', { network, gitHosts })

  it.each([
    [translate('open'), {}],
    [translate('none'), { blockNetwork: true }],
    [translate('git-only', ['acme.code.storage:443', 'git.example.com']), { outboundCidrAllowlist: [], outboundDomainAllowlist: ['acme.code.storage', 'git.example.com'] }],
    [translate('git-only', ['127.0.0.1:8080']), { outboundCidrAllowlist: ['127.0.0.1/32'], outboundDomainAllowlist: [] }],
    [translate(['*.Example.com', '10.0.0.0/8', '192.0.2.7', '2001:db8::/32', '[2001:db8::1]:443', 'localhost']), { outboundCidrAllowlist: ['10.0.0.0/8', '192.0.2.7/32', '2001:db8::/32', '2001:db8::1/128'], outboundDomainAllowlist: ['*.example.com', 'localhost'] }],
    [translate([]), { outboundCidrAllowlist: [], outboundDomainAllowlist: [] }],
  ])('%o', (translated, expected) => {
    expect(translated).toEqual(expected)
  })

  it.each([['a b'], ['10.0.0.0/33'], ['300.1.1.1'], ['https://example.com'], ['*'], ['-x.com']])('%s is invalid', (entry) => {
    expect(() => translate([entry])).toThrow(InfrastructureError)
  })

  it('lets through what is allowed and nothing else', async () => {
    const fixture = await start()
    const reach = async (id: string, url: string) => (await fixture.provider.exec(id, { script: 'git ls-remote "$URL" 2>&1', env: { URL: url } }, options)).stdout
    const admin = fixture.server.adminUrl
    const { id } = await fixture.provider.create(fixture.request({ network: 'git-only', gitHosts: ['127.0.0.1'] }), options)
    expect(fixture.server.world.sandboxes.get(id)?.definition).toMatchObject({ networkAccess: { networkAccessType: 3, allowedCidrs: ['127.0.0.1/32'], allowedDomains: [] } })
    expect(await reach(id, admin)).toContain('not found')
    expect(await reach(id, admin.replace('127.0.0.1', 'localhost'))).toContain('403')
    // A name gets through by TLS on 443 alone: plain HTTP does not, and what would need it is refused before a create.
    const named = await fixture.provider.create(fixture.request({ network: ['localhost'], gitHosts: ['localhost'] }), options)
    expect(await reach(named.id, admin.replace('127.0.0.1', 'localhost'))).toContain('403')
    const before = fixture.calls('create')
    const refused = await failure(fixture.provider.create(fixture.request({ network: 'git-only', gitHosts: ['localhost:80'] }), options))
    expect(refused).toMatchObject({ kind: 'invalid', message: expect.stringContaining('TLS on port 443 only') as string })
    expect(fixture.provider.refusal({ network: ['packages.example.com'], resources: {}, gitHosts: ['git.example.com:8443'] })).toContain('"git.example.com:8443" is elsewhere')
    expect(fixture.calls('create')).toBe(before)
    const none = await fixture.provider.create(fixture.request({ network: 'none' }), options)
    expect(fixture.server.world.sandboxes.get(none.id)?.definition).toMatchObject({ networkAccess: { networkAccessType: 2 } })
  })
})

describe('the life of a sandbox at Modal', () => {
  it('is listed on every page, until the empty one', async () => {
    const fixture = await start({ pageSize: 2 })
    const made = await Promise.all([1, 2, 3, 4, 5].map(() => fixture.provider.create(fixture.request(), options)))
    const found = await all(fixture.provider.list({ 'switchyard-deployment': 'test' }, options))
    expect(found.map(({ id }) => id).sort()).toEqual(made.map(({ id }) => id).sort())
    expect(fixture.calls('list')).toBe(4)
    expect(await all(fixture.provider.list({ 'switchyard-deployment': 'another' }, options))).toEqual([])
  })

  it('has its tags in the list though Modal’s listing gives none, and its name and times as the listing does', async () => {
    const fixture = await start()
    const request = fixture.request()
    const { id } = await fixture.provider.create(request, options)
    const [found] = await all(fixture.another().list({}, options))
    expect(found).toMatchObject({ id, name: request.name, tags: request.tags })
    const hosted = fixture.server.host.get(id)
    expect(Math.abs((found?.createdAtMs ?? 0) - (hosted?.createdAtMs ?? 0))).toBeLessThan(1000)
    expect((found?.expiresAtMs ?? 0) - (found?.createdAtMs ?? 0)).toBe(request.lifetimeMs)
    expect(fixture.calls('sandboxTagsGetV2')).toBe(1)
    await all(fixture.provider.list({}, options))
    expect(fixture.calls('sandboxTagsGetV2')).toBe(1) // Its own it knows.
  })

  it('is not asked for its tags where the listing gives them', async () => {
    const fixture = await start({ listTags: true })
    const request = fixture.request()
    await fixture.provider.create(request, options)
    expect(await all(fixture.another().list({}, options))).toMatchObject([{ tags: request.tags }])
    expect(fixture.calls('sandboxTagsGetV2')).toBe(0)
  })

  it('is not in a list that makes an app only to look into it', async () => {
    const fixture = await start()
    expect(await all(fixture.provider.list({}, options))).toEqual([])
    expect(fixture.server.world.apps.size).toBe(0)
  })

  it('may be listed for a while after its end, when `get` knows better', async () => {
    const fixture = await start()
    const { id } = await fixture.provider.create(fixture.request(), options)
    fixture.server.host.age(id, 200_000)
    fixture.server.plan.setMode({ listDelayMs: 100_000 })
    await fixture.provider.kill(id, options)
    expect((await all(fixture.another().list({}, options))).map((sandbox) => sandbox.id)).toEqual([id])
    expect(await fixture.provider.get(id, options)).toBeUndefined()
    fixture.server.plan.setMode({ listDelayMs: 0 })
    expect(await all(fixture.provider.list({}, options))).toEqual([])
  })

  it('ends with its lifetime', async () => {
    const fixture = await start()
    const { id } = await fixture.provider.create(fixture.request({ lifetimeMs: 1_000 }), options)
    await expect.poll(() => fixture.provider.get(id, options)).toBeUndefined()
    expect(await failure(fixture.provider.exec(id, { script: 'true' }, options))).toMatchObject({ kind: 'sandbox-lost' })
    expect(fixture.server.state().ended.expired).toBe(1)
  })

  it('can not be extended, and says so', async () => {
    const fixture = await start()
    const info = await fixture.provider.create(fixture.request(), options)
    expect(fixture.provider.capabilities).toMatchObject({ extend: false, maxLifetimeMs: 86_400_000, uniqueNames: true })
    expect(info.lifetimeEndsAtMs).toBe(info.expiresAtMs)
    expect(await fixture.provider.extend(info.id, 1_200_000, options)).toMatchObject({ expiresAtMs: info.expiresAtMs, lifetimeEndsAtMs: info.expiresAtMs })
    expect(fixture.server.host.get(info.id)?.expiresAtMs).toBeLessThan((info.expiresAtMs ?? 0) + 100_000)
  })

  it('is killed only when Modal says that it is gone', async () => {
    const fixture = await start()
    const { id } = await fixture.provider.create(fixture.request(), options)
    fixture.fault({ call: 'get', action: 'hang', times: 0 })
    expect(await failure(fixture.provider.kill(id, { timeoutMs: 500 }))).toMatchObject({ kind: 'timeout' })
    fixture.server.plan.clear()
    await fixture.provider.kill(id, options)
    expect(fixture.server.state()).toMatchObject({ live: 0, ended: { killed: 1 } })
    await fixture.provider.kill(id, options)
    await fixture.provider.kill('sb-never-was-such-a-sandbox', options)
  })
})

describe('headers that Modal adds outside of the sandbox', () => {
  const token = 'token-that-must-stay-outside$1'

  it('reach the host, rotate and go, while nothing in the sandbox holds them', async () => {
    const fixture = await start({}, { injectHeaders: true })
    const { id } = await fixture.provider.create(fixture.request(), options)
    const echo = await startEcho()
    const fetchIn = () => fixture.provider.exec(id, { script: 'git ls-remote "$URL" 2>&1; env; cat /proc/[0-9]*/environ 2>/dev/null | tr "\\0" "\\n"', env: { URL: echo.url } }, options)
    try {
      await fixture.provider.injectHeaders?.(id, { '127.0.0.1': { Authorization: `Bearer ${token}` } }, options)
      const seen = await fetchIn()
      expect(echo.seen.splice(0)).toContain(`Bearer ${token}`)
      expect(seen.stdout).not.toContain('must-stay-outside')
      await fixture.another().injectHeaders?.(id, { '127.0.0.1': { Authorization: 'Bearer rotated' } }, options)
      await fetchIn()
      expect(echo.seen.splice(0)).toContain('Bearer rotated')
      await fixture.provider.injectHeaders?.(id, {}, options)
      await fetchIn()
      expect(new Set(echo.seen)).toEqual(new Set([undefined]))
    } finally {
      await echo.close()
    }
  })

  it('are invalid where the sandbox was made without a policy, and the error does not hold them', async () => {
    const fixture = await start({}, { injectHeaders: true })
    const { id } = await fixture.provider.create(fixture.request({ network: ['example.com'] }), options)
    const error = await failure(fixture.provider.injectHeaders!(id, { 'example.com': { Authorization: `Bearer ${token}` } }, options))
    expect(error).toMatchObject({ kind: 'invalid' })
    expect(error.message).toContain('injectHeaders')
    expect(error.message).not.toContain(token)
    await fixture.provider.kill(id, options)
    expect(await failure(fixture.provider.injectHeaders!(id, {}, options))).toMatchObject({ kind: 'sandbox-lost' })
  })

  it('are not offered unless the configuration asks for them', async () => {
    expect((await start()).provider.injectHeaders).toBeUndefined()
  })
})

/** A host that tells which authorization it saw. */
async function startEcho(): Promise<{ url: string; seen: (string | undefined)[]; close(): Promise<void> }> {
  const { createServer } = await import('node:http')
  const seen: (string | undefined)[] = []
  const server = createServer((request, response) => {
    seen.push(request.headers.authorization)
    response.writeHead(404).end()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  return {
    url: `http://127.0.0.1:${address.port}/a.git`,
    seen,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}
