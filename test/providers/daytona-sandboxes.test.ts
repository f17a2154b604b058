import { Daytona } from '@daytona/sdk'
import { afterEach, describe, expect, it } from 'vitest'
import type { DaytonaServerOptions } from '../servers/daytona/server.js'
import { collect, failureOf, sandboxRequest, soon, startDaytona, type DaytonaFixture } from './daytona-fixture.js'

const roomy = { pool: { cpu: 100, memoryGiB: 100, diskGiB: 1000 } }
let open: DaytonaFixture[] = []
afterEach(async () => {
  await Promise.all(open.map((fixture) => fixture.close()))
  open = []
})
async function start(options: DaytonaServerOptions = {}, config: Readonly<Record<string, unknown>> = {}): Promise<DaytonaFixture> {
  const fixture = await startDaytona({ ...roomy, ...options }, config)
  open.push(fixture)
  return fixture
}

describe('create', () => {
  it('gives the sandbox its name, its tags and an end, and no environment', async () => {
    const { server, provider } = await start()
    const request = sandboxRequest({ lifetimeMs: 90_000 })
    const tags = { ...request.tags }
    const before = Date.now()
    const info = await provider.create(request, soon)
    expect(info).toMatchObject({ name: request.name, tags })
    // A minute and a half are two of Daytona's minutes: never shorter than asked.
    expect(info.expiresAtMs).toBeGreaterThanOrEqual(before + 90_000)
    expect(info.createdAtMs).toBeGreaterThanOrEqual(before - 1000)
    expect(server.createBodies).toMatchObject([{ ttlMinutes: 2, autoStopInterval: 0, autoDeleteInterval: 0, env: {} }])
  })

  it('leaves the request as it is, although the SDK adds a label to what it is given', async () => {
    const { server, provider } = await start()
    const request = sandboxRequest()
    const before = structuredClone(request)
    await provider.create(request, soon)
    expect(request).toEqual(before)
    expect(server.createBodies[0]?.labels).toHaveProperty('code-toolbox-language')
  })

  it('sends an image with whole vCPU and GiB, rounded up', async () => {
    const { server, provider } = await start({}, { image: 'debian:12' })
    await provider.create(sandboxRequest({ resources: { cpu: 1.5, memoryMiB: 1500, diskMiB: 5000 } }), soon)
    expect(server.createBodies).toMatchObject([{ buildInfo: { dockerfileContent: 'FROM debian:12\n' }, cpu: 2, memory: 2, disk: 5 }])
  })

  it('waits for a sandbox that takes its time to start', async () => {
    const { provider } = await start({ startDelayMs: 300 })
    const info = await provider.create(sandboxRequest(), soon)
    expect((await provider.exec(info.id, { script: 'echo up' }, soon)).stdout).toBe('up\n')
  })
})

describe('a create that throws although the sandbox starts', () => {
  it('finds it by its name when one poll of the SDK’s wait fails', async () => {
    const { server, provider } = await start({ startDelayMs: 200 })
    server.plan.add({ call: 'get', action: 'status', status: 502, empty: true })
    const request = sandboxRequest()
    const info = await provider.create(request, soon)
    expect(info.name).toBe(request.name)
    expect(server.plan.calls()).toMatchObject({ create: 1 })
    expect(server.records.list()).toHaveLength(1)
  })

  it.each([
    { refusal: 'too many calls', status: 429 },
    { refusal: '“not found”', status: 404 },
  ])('finds it when one poll of the SDK’s wait is answered with $refusal', async ({ status }) => {
    const { server, provider } = await start({ startDelayMs: 200 })
    server.plan.add({ call: 'get', action: 'status', status })
    expect(await provider.create(sandboxRequest(), soon)).toMatchObject({ name: expect.any(String) as string })
    expect(server.records.list()).toHaveLength(1)
  })

  it('does not say that there is none when it could not look', async () => {
    const { server, provider } = await start({ startDelayMs: 200 })
    server.plan.add({ call: 'get', action: 'status', status: 429, headers: { 'retry-after': '7' }, times: 4 })
    expect(await failureOf(provider.create(sandboxRequest(), soon))).toMatchObject({ kind: 'rate-limited', retryAfterMs: 7000, sandboxMayExist: true })
    expect(server.records.list()).toHaveLength(1)
  })

  it('finds it when the SDK’s repetition has no room beside it', async () => {
    const { server, provider } = await start({ pool: { cpu: 1, memoryGiB: 10, diskGiB: 30 } })
    server.plan.add({ call: 'create', action: 'lose-answer' }, { call: 'create', action: 'status', status: 400, message: 'Total CPU limit exceeded. Maximum allowed: 1.' })
    expect(await provider.create(sandboxRequest(), soon)).toMatchObject({ name: expect.any(String) as string })
    expect(server.records.list()).toHaveLength(1)
  })

  it('finds it when the answer was lost', async () => {
    const { server, provider } = await start()
    server.plan.add({ call: 'create', action: 'lose-answer' })
    const request = sandboxRequest()
    expect(await provider.create(request, soon)).toMatchObject({ name: request.name })
    expect(server.records.list()).toHaveLength(1)
  })

  it('adopts it with a full lifetime when a second consumer creates it again', async () => {
    const { server, provider, another } = await start()
    server.plan.add({ call: 'create', action: 'late-answer', delayMs: 5000 })
    const request = sandboxRequest({ lifetimeMs: 5 * 60_000 })
    expect((await failureOf(provider.create(request, { timeoutMs: 300 }))).kind).toBe('timeout')
    const before = Date.now()
    const adopted = await another().create({ ...request, lifetimeMs: 60 * 60_000 }, soon)
    expect(adopted.name).toBe(request.name)
    expect(adopted.expiresAtMs).toBeGreaterThanOrEqual(before + 60 * 60_000)
    expect(server.records.list()).toHaveLength(1)
  })

  it('makes one sandbox of twenty creates of one name at once', async () => {
    const { server, another } = await start({ startDelayMs: 100 })
    const request = sandboxRequest()
    const infos = await Promise.all(Array.from({ length: 20 }, () => another().create(request, soon)))
    expect(new Set(infos.map((info) => info.id)).size).toBe(1)
    expect(server.records.list()).toHaveLength(1)
  })

  it('does not adopt the sandbox of another deployment', async () => {
    const { provider, create } = await start()
    const theirs = await create({ name: 'taken', tags: { 'switchyard-deployment': 'theirs' } })
    const error = await failureOf(create({ name: 'taken' }))
    expect(error).toMatchObject({ kind: 'invalid' })
    expect(error.message).toContain('other labels')
    expect(await provider.get(theirs.id, soon)).toBeDefined()
  })

  it('gives up when nobody answers its question, with the first error', async () => {
    const { server, provider } = await start()
    server.plan.add({ call: 'create', action: 'status', status: 500, message: 'first' }, { call: 'get', action: 'status', status: 503, times: 0 })
    const error = await failureOf(provider.create(sandboxRequest(), soon))
    expect(error.message).toContain('first')
  })

  it('deletes one that failed to start and names the image', async () => {
    const { server, provider } = await start({ missingImages: ['nowhere/none:1'] })
    const error = await failureOf(provider.create(sandboxRequest({ image: 'nowhere/none:1' }), soon))
    expect(error.kind).toBe('invalid')
    expect(error.message).toContain('image "nowhere/none:1"')
    await expect.poll(() => server.records.list()).toEqual([])
  })
})

describe('a full account', () => {
  it('is capacity, for the pool as the service words it', async () => {
    const { create } = await start({ pool: { cpu: 2, memoryGiB: 10, diskGiB: 30 } })
    await create()
    await create()
    const error = await failureOf(create())
    expect(error.kind).toBe('capacity')
    expect(error.message).toContain('Total CPU limit exceeded. Maximum allowed: 2.')
  })

  it('has room again once a sandbox is killed', async () => {
    const { provider, create } = await start({ pool: { cpu: 1, memoryGiB: 1, diskGiB: 3 } })
    const first = await create()
    expect((await failureOf(create())).kind).toBe('capacity')
    await provider.kill(first.id, soon)
    expect(await create()).toBeDefined()
  })

  it('is rate-limited above the create rate, with the wait', async () => {
    const { create } = await start({ createsPerMinute: 1 })
    await create()
    const error = await failureOf(create())
    expect(error.kind).toBe('rate-limited')
    expect(error.retryAfterMs).toBeGreaterThan(0)
    expect(error.retryAfterMs).toBeLessThanOrEqual(60_000)
  })
})

describe('what Daytona can’t do is invalid before anything is sent', () => {
  it.each([
    ['resources for a snapshot', { resources: { cpu: 2 } }, { snapshot: 'base' }, /snapshot/],
    ['resources without an image', { resources: { cpu: 2 } }, {}, /name a container image/],
    ['a lifetime above the limit', { lifetimeMs: 2 * 3600_000 }, { maxLifetime: '1h' }, /maxLifetime of 3600000 ms/],
    ['git-only without a git host', { network: 'git-only' as const }, {}, /git-only names no host/],
    ['an IPv6 address', { network: ['2001:db8::1'] }, {}, /IPv6/],
    ['a URL for a host', { network: ['https://example.com'] }, {}, /"https:\/\/example.com"/],
  ])('%s', async (_what, request, config, says) => {
    const { server, provider } = await start({}, config)
    const error = await failureOf(provider.create(sandboxRequest(request), soon))
    expect(error.kind).toBe('invalid')
    expect(error.message).toMatch(says)
    expect(server.createBodies).toEqual([])
  })
})

describe('network policies', () => {
  it.each([
    ['open', { network: 'open' as const }, {}],
    ['none', { network: 'none' as const }, { networkBlockAll: true }],
    ['git-only by name', { network: 'git-only' as const, gitHosts: ['Git.Example.com'] }, { domainAllowList: 'git.example.com' }],
    ['git-only by address', { network: 'git-only' as const, gitHosts: ['192.0.2.7'] }, { networkAllowList: '192.0.2.7/32' }],
    [
      'a list of both',
      { network: ['packages.example.org', '*.example.com', '10.0.0.0/8'] },
      { networkAllowList: '10.0.0.0/8', domainAllowList: 'packages.example.org,*.example.com' },
    ],
  ])('%s', async (_what, request, sent) => {
    const { server, create } = await start()
    await create(request)
    const { networkBlockAll, networkAllowList, domainAllowList } = server.createBodies[0] ?? {}
    expect(JSON.parse(JSON.stringify({ networkBlockAll, networkAllowList, domainAllowList }))).toEqual(sent)
  })
})

describe('list', () => {
  it('walks every page by tag', async () => {
    const { provider, server, create } = await start({ createsPerMinute: 1000, pool: { cpu: 500, memoryGiB: 500, diskGiB: 2000 } })
    await create({ tags: { other: 'yes' } })
    // The adapter asks for a hundred a page.
    for (let batch = 0; batch < 6; batch += 1) await Promise.all(Array.from({ length: 20 }, () => create()))
    const listed = await collect(provider.list({ 'switchyard-deployment': 'test' }, soon))
    expect(new Set(listed.map((info) => info.id)).size).toBe(120)
    expect(server.plan.calls()).toMatchObject({ list: 2 })
    expect(await collect(provider.list({}, soon))).toHaveLength(121)
    expect(await collect(provider.list({ 'switchyard-deployment': 'test', 'switchyard-attempt': '2' }, soon))).toEqual([])
  })

  it('may lag behind, and what it says of an ended sandbox is not believed', async () => {
    const { provider, server, create } = await start()
    const info = await create()
    server.plan.setMode({ listDelayMs: 60_000 })
    expect(await collect(provider.list({}, soon))).toEqual([])
    expect(await provider.get(info.id, soon)).toBeDefined()
  })

  it('fails when a page fails: half a list is no list', async () => {
    const { provider, server, create } = await start()
    await create()
    server.plan.add({ call: 'list', action: 'status', status: 500 })
    expect((await failureOf(collect(provider.list({}, soon)))).kind).toBe('transient')
  })
})

describe('the end of a sandbox', () => {
  it('kill returns when it is gone, and is fine with one that was gone before', async () => {
    const { provider, server, create } = await start()
    const info = await create()
    await provider.kill(info.id, soon)
    expect(server.records.list()).toEqual([])
    expect(await provider.get(info.id, soon)).toBeUndefined()
    await provider.kill(info.id, soon)
    await provider.kill('never-was', soon)
  })

  it('kill works from a consumer that never saw the sandbox', async () => {
    const { provider, another, create } = await start()
    const info = await create()
    await another().kill(info.id, soon)
    expect(await provider.get(info.id, soon)).toBeUndefined()
    await provider.kill(info.id, soon)
  })

  it.each([
    ['refused', { call: 'delete', action: 'status', status: 500, message: 'no' } as const],
    ['accepted and never done', { call: 'delete', action: 'corrupt', variant: 'stuck' } as const],
    ['not found, though it lives', { call: 'delete', action: 'status', status: 404, message: 'not found' } as const],
  ])('a delete that is %s is an error', async (_what, fault) => {
    const { provider, server, create } = await start()
    const info = await create()
    server.plan.add({ ...fault, times: 0 })
    await failureOf(provider.kill(info.id, { timeoutMs: 600 }))
    expect(await provider.get(info.id, soon)).toBeDefined()
  })

  it('kill waits for a sandbox that is about to start', async () => {
    const { provider, server } = await start({ startDelayMs: 300 })
    const request = sandboxRequest()
    const creating = provider.create(request, soon)
    await expect.poll(() => server.records.list()).toHaveLength(1)
    const id = server.records.list()[0]!.id
    await Promise.all([provider.kill(id, soon), creating.catch(() => undefined)])
    expect(await provider.get(id, soon)).toBeUndefined()
  })

  it('comes by itself when its time is up, and extend puts it off', async () => {
    const { provider, create } = await start({ minuteMs: 3_000 })
    const [short, long] = await Promise.all([create({ lifetimeMs: 60_000 }), create({ lifetimeMs: 60_000 })])
    const extended = await provider.extend(long.id, 120 * 60_000, soon)
    expect(extended.expiresAtMs).toBeGreaterThan((long.expiresAtMs ?? 0) + 50_000)
    await expect.poll(() => provider.get(short.id, soon)).toBeUndefined()
    expect(await provider.get(long.id, soon)).toMatchObject({ id: long.id })
  })

  it('does not come from idleness, which is how Daytona sees a command that works without calls', async () => {
    const { provider, server, create } = await start({ minuteMs: 10 })
    const info = await create({ lifetimeMs: 3000 * 60_000 })
    // The same without the adapter: Daytona's default stops it after 15 minutes.
    // oxlint-disable-next-line typescript/no-deprecated -- as the adapter does
    const bare = await new Daytona({ apiKey: server.apiKey, apiUrl: server.apiUrl, useDeprecatedPolling: true }).create({})
    await expect.poll(() => server.records.find(bare.id)?.state).toBe('stopped')
    expect(await provider.get(info.id, soon)).toMatchObject({ id: info.id })
    expect(await provider.get(bare.id, soon)).toBeUndefined()
  })

  it.each([400, 401, 404, 502] as const)('is believed only when a get says so, however the proxy shows it (%d)', async (vanishedStatus) => {
    const { provider, server, create } = await start({ vanishedStatus })
    const info = await create()
    await fetch(`${server.url}/admin/sandboxes/${info.id}`, { method: 'DELETE' })
    const error = await failureOf(provider.exec(info.id, { script: 'true' }, soon))
    expect(error.kind).toBe('sandbox-lost')
    expect(error.message).toContain(info.id)
  })

  it('in the middle of a command is lost too', async () => {
    const { provider, server, create } = await start()
    const info = await create()
    const running = failureOf(provider.exec(info.id, { script: 'touch started; sleep 60' }, soon))
    await expect.poll(async () => (await provider.exec(info.id, { script: 'ls' }, soon)).stdout).toContain('started')
    await fetch(`${server.url}/admin/sandboxes/${info.id}`, { method: 'DELETE' })
    // While it dies, Daytona may still call it started: that is no proof of its end, and the next call finds it.
    expect(['transient', 'sandbox-lost']).toContain((await running).kind)
    await expect.poll(async () => (await failureOf(provider.exec(info.id, { script: 'true' }, soon))).kind).toBe('sandbox-lost')
  })

  it('is not believed while the API itself does not answer', async () => {
    const { provider, server, create } = await start()
    const info = await create()
    server.plan.add({ call: 'execute', action: 'status', status: 404 }, { call: 'get', action: 'status', status: 503 })
    expect((await failureOf(provider.exec(info.id, { script: 'true' }, soon))).kind).toBe('provider-down')
  })

  it('is found by an extend as well', async () => {
    const { provider, server, create } = await start()
    const info = await create()
    await fetch(`${server.url}/admin/sandboxes/${info.id}`, { method: 'DELETE' })
    expect((await failureOf(provider.extend(info.id, 60_000, soon))).kind).toBe('sandbox-lost')
  })
})
