import { inspect } from 'node:util'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { InfrastructureErrorKind } from '../../src/job/errors.js'
import type { SandboxInfo } from '../../src/providers/provider.js'
import { collect, failureOf, sandboxRequest, soon, startDaytona, type DaytonaFixture } from './daytona-fixture.js'

let daytona: DaytonaFixture
let sandbox: SandboxInfo
beforeAll(async () => {
  daytona = await startDaytona({ pool: { cpu: 100, memoryGiB: 100, diskGiB: 300 } }, { image: 'debian:12' })
  sandbox = await daytona.create()
})
afterEach(() => daytona.server.plan.clear())
afterAll(() => daytona.close())

type Call = 'create' | 'get' | 'list' | 'extend' | 'exec'
const wireNames: Record<Call, string> = { create: 'create', get: 'get', list: 'list', extend: 'ttl', exec: 'execute' }

function run(call: Call): Promise<unknown> {
  const { provider } = daytona
  switch (call) {
    case 'create':
      return provider.create(sandboxRequest({ resources: { cpu: 2, memoryMiB: 2048, diskMiB: 4096 } }), soon)
    case 'get':
      return provider.get(sandbox.id, soon)
    case 'list':
      return collect(provider.list({}, soon))
    case 'extend':
      return provider.extend(sandbox.id, 60_000, soon)
    case 'exec':
      return provider.exec(sandbox.id, { script: 'true' }, soon)
  }
}

interface Row {
  call: Call
  status: number
  message: string
  headers?: Record<string, string>
  kind: InfrastructureErrorKind
  says?: RegExp
}

// Every answer goes through the real SDK. "live": the sandbox lives, and a get says so.
const rows: Row[] = [
  { call: 'create', status: 400, message: 'Total CPU limit exceeded. Maximum allowed: 10.', kind: 'capacity' },
  { call: 'create', status: 400, message: 'Total memory limit exceeded. Maximum allowed: 10GiB.', kind: 'capacity' },
  { call: 'create', status: 400, message: 'Total disk limit exceeded. Maximum allowed: 30GiB.', kind: 'capacity' },
  { call: 'create', status: 400, message: 'Total CPU limit exceeded. Maximum allowed: 1.', kind: 'invalid', says: /asks for 2/ },
  { call: 'create', status: 400, message: 'Total memory limit exceeded. Maximum allowed: 1GiB.', kind: 'invalid', says: /asks for 2/ },
  { call: 'create', status: 400, message: 'Sandbox resource limit reached (16), please try again later.', kind: 'capacity' },
  { call: 'create', status: 400, message: 'No available runners', kind: 'capacity' },
  { call: 'create', status: 400, message: 'CPU request 8 exceeds maximum allowed per sandbox (4).', kind: 'invalid', says: /resources/ },
  { call: 'create', status: 400, message: 'Snapshot x not found. Did you add it through the Daytona Dashboard?', kind: 'invalid', says: /snapshot/ },
  { call: 'create', status: 400, message: 'Total GPU limit exceeded. Maximum allowed: 0.', kind: 'invalid', says: /target/ },
  { call: 'create', status: 400, message: 'Total disk limit exceeded. Maximum allowed: 0GiB.', kind: 'invalid', says: /none of it in this region/ },
  { call: 'create', status: 400, message: 'No available runners with GPU type: H100.', kind: 'capacity' },
  { call: 'create', status: 400, message: 'Memory request 16GB exceeds maximum allowed per sandbox (8GB).', kind: 'invalid', says: /resources/ },
  { call: 'create', status: 400, message: 'Snapshot big is not available in region eu', kind: 'invalid', says: /target/ },
  ...['pending', 'pulling', 'building'].map((state): Row => ({ call: 'create', status: 400, message: `Snapshot big is ${state}`, kind: 'transient', says: /not ready yet/ })),
  ...['inactive', 'error', 'build_failed', 'removing'].map((state): Row => ({ call: 'create', status: 400, message: `Snapshot big is ${state}`, kind: 'invalid', says: /activate or build it/ })),
  { call: 'create', status: 400, message: 'Snapshot ref is not defined', kind: 'invalid' },
  { call: 'create', status: 400, message: 'This organization does not have a default region. Please open the Daytona Dashboard to set a default region.', kind: 'invalid', says: /target/ },
  { call: 'create', status: 403, message: 'Region us is not available to the organization for class container', kind: 'invalid', says: /target/ },
  { call: 'create', status: 401, message: 'This API key has expired', kind: 'auth', says: /DAYTONA_API_KEY/ },
  { call: 'create', status: 503, message: 'Temporary authentication service error', kind: 'provider-down' },
  { call: 'create', status: 404, message: 'Region nowhere not found', kind: 'invalid', says: /target/ },
  { call: 'create', status: 422, message: 'unprocessable', kind: 'invalid' },
  { call: 'create', status: 401, message: 'Invalid credentials', kind: 'auth', says: /DAYTONA_API_KEY/ },
  { call: 'create', status: 403, message: 'Organization is suspended: unpaid', kind: 'auth', says: /suspended/ },
  { call: 'create', status: 429, message: 'ThrottlerException: Too Many Requests', headers: { 'Retry-After-sandbox-create': '7' }, kind: 'rate-limited' },
  { call: 'create', status: 500, message: 'oops', kind: 'transient' },
  { call: 'create', status: 502, message: 'bad gateway', kind: 'transient' },
  { call: 'create', status: 503, message: 'unavailable', kind: 'provider-down' },
  { call: 'create', status: 504, message: 'gateway timeout', kind: 'transient' },
  { call: 'create', status: 408, message: 'request timeout', kind: 'transient' },
  { call: 'get', status: 500, message: 'oops', kind: 'transient' },
  { call: 'get', status: 401, message: 'Invalid credentials', kind: 'auth' },
  { call: 'list', status: 403, message: 'forbidden', kind: 'auth' },
  { call: 'list', status: 429, message: 'slow down', headers: { 'retry-after-authenticated': '3' }, kind: 'rate-limited' },
  { call: 'list', status: 503, message: 'unavailable', kind: 'provider-down' },
  { call: 'extend', status: 404, message: 'not found, though it lives', kind: 'transient' },
  { call: 'extend', status: 409, message: 'conflict', kind: 'transient' },
  { call: 'exec', status: 400, message: 'sandbox is not running — start the sandbox before accessing it', kind: 'transient' },
  { call: 'exec', status: 401, message: 'unauthorized, though the key is good', kind: 'transient' },
  { call: 'exec', status: 403, message: 'forbidden, though the key is good', kind: 'transient' },
  { call: 'exec', status: 404, message: 'not found, though it lives', kind: 'transient' },
  { call: 'exec', status: 410, message: 'gone, though it lives', kind: 'transient' },
  { call: 'exec', status: 408, message: 'command execution timeout', kind: 'timeout' },
  { call: 'exec', status: 413, message: 'too large', kind: 'invalid' },
  { call: 'exec', status: 502, message: 'bad gateway', kind: 'transient' },
]

describe('what Daytona answers is sorted', () => {
  it.each(rows)('$call: $status "$message" is $kind', async ({ call, status, message, headers, kind, says }) => {
    daytona.server.plan.add({ call: wireNames[call], action: 'status', status, message, headers: headers ?? {} })
    const error = await failureOf(run(call))
    expect(error.kind).toBe(kind)
    expect(error.source).toBe('daytona')
    expect(error.message).toContain(`daytona: ${call} failed`)
    if (says !== undefined) expect(error.message).toMatch(says)
  })

  it('reads how long to wait from the header that names the limit', async () => {
    daytona.server.plan.add({ call: 'create', action: 'status', status: 429, headers: { 'Retry-After-sandbox-create': '7', 'Retry-After': '2' } })
    expect((await failureOf(run('create'))).retryAfterMs).toBe(7000)
    daytona.server.plan.add({ call: 'list', action: 'status', status: 429 })
    expect((await failureOf(run('list'))).retryAfterMs).toBeUndefined()
  })

  const foreign = (call: string, status: number) => ({ call, action: 'status', status, page: `<html><h1>${status}</h1>nginx</html>`, times: 0 }) as const

  it.each([
    ['a page', { page: '404 page not found' }],
    ['a path that another version of the API does not know', { message: 'Cannot GET /api/sandbox/1' }],
  ])('takes %s for no word on whether a sandbox lives', async (_what, answer) => {
    daytona.server.plan.add({ call: 'get', action: 'status', status: 404, times: 0, ...answer })
    expect(await failureOf(run('get'))).toMatchObject({ kind: 'transient' })
    daytona.server.plan.add({ call: 'execute', action: 'status', status: 404, times: 0, ...answer })
    expect((await failureOf(run('exec'))).kind).toBe('transient')
    daytona.server.plan.add({ call: 'delete', action: 'status', status: 404, times: 0, ...answer })
    expect((await failureOf(daytona.provider.kill(sandbox.id, { timeoutMs: 2_000 }))).kind).toBe('transient')
  })

  it('takes such a page for no end of a delete that was accepted', async () => {
    daytona.server.plan.add({ call: 'delete', action: 'corrupt', variant: 'stuck', times: 0 }, foreign('get', 404))
    expect((await failureOf(daytona.provider.kill(sandbox.id, { timeoutMs: 2_000 }))).kind).toBe('transient')
  })

  it.each([400, 404, 422])('blames no job for a %s by a page: it is no answer to what was asked', async (status) => {
    daytona.server.plan.add(foreign('create', status))
    expect(await failureOf(run('create'))).toMatchObject({ kind: 'transient', owner: undefined })
  })

  it('calls a gateway without a body transient', async () => {
    daytona.server.plan.add({ call: 'execute', action: 'status', status: 502, empty: true })
    expect((await failureOf(run('exec'))).kind).toBe('transient')
  })
})

describe('when the connection fails', () => {
  it('calls a refused connection provider-down', async () => {
    const error = await failureOf(daytona.another({ apiUrl: 'http://127.0.0.1:1/api' }).check(soon))
    expect(error.kind).toBe('provider-down')
    expect(error.message).toContain('apiUrl')
  })

  it('calls a command whose connection broke transient: it may have run', async () => {
    daytona.server.plan.add({ call: 'execute', action: 'refuse' })
    expect((await failureOf(run('exec'))).kind).toBe('transient')
  })

  it('lets the SDK repeat a read whose connection broke', async () => {
    daytona.server.plan.add({ call: 'get', action: 'refuse', times: 2 })
    expect(await daytona.provider.get(sandbox.id, soon)).toMatchObject({ id: sandbox.id })
  })

  it.each(['create', 'get', 'list', 'extend', 'exec'] as const)('ends a %s that is never answered at its deadline', async (call) => {
    daytona.server.plan.setMode({ down: 'hang' })
    const { provider } = daytona
    const options = { timeoutMs: 150 }
    const hanging = {
      create: () => provider.create(sandboxRequest(), options),
      get: () => provider.get(sandbox.id, options),
      list: () => collect(provider.list({}, options)),
      extend: () => provider.extend(sandbox.id, 60_000, options),
      exec: () => provider.exec(sandbox.id, { script: 'true' }, options),
    }
    expect((await failureOf(hanging[call]())).kind).toBe('timeout')
  })

  it('ends a call when it is cancelled, with the reason of the signal', async () => {
    daytona.server.plan.setMode({ down: 'hang' })
    const controller = new AbortController()
    const call = daytona.provider.get(sandbox.id, { timeoutMs: 60_000, signal: controller.signal })
    controller.abort(new Error('the job was cancelled'))
    await expect(call).rejects.toThrow('the job was cancelled')
  })
})

describe('messages hold no secret', () => {
  it('names neither the key nor the command nor its environment', async () => {
    const secret = 'hunter2-in-the-environment'
    const { apiKey, plan } = daytona.server
    plan.add({ call: 'execute', action: 'status', status: 400, message: `cannot run export TOKEN=${secret} with ${apiKey}` })
    const failed = await failureOf(daytona.provider.exec(sandbox.id, { script: `echo ${secret}`, env: { TOKEN: secret } }, soon))
    expect(inspect(failed, { depth: 10 })).not.toMatch(new RegExp(`${secret}|${apiKey}`))
    plan.add({ call: 'list', action: 'status', status: 401, message: `the key ${apiKey} is expired` })
    const refused = await failureOf(collect(daytona.provider.list({}, soon)))
    expect(refused.message).toContain('the key *** is expired')
    expect(inspect(refused, { depth: 10 })).not.toContain(apiKey)
  })
})
