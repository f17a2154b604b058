import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { AuthenticationError, InvalidArgumentError, RateLimitError, SandboxError, SandboxNotFoundError, ServiceBusyError, TemplateError, TimeoutError } from 'e2b'
import { InfrastructureError, type InfrastructureErrorKind } from '../../src/job/errors.js'
import { classify, type ClassifyContext } from '../../src/providers/e2b/classify.js'
import type { FaultInput } from '../servers/shared-faults.js'
import { failure, options, startE2b, type E2bFixture } from './e2b-fixture.js'

const context = (what: ClassifyContext['what']): ClassifyContext => ({ source: 'e2b', what, apiKeyEnv: 'E2B_API_KEY', secrets: ['e2b_secret'] })
const withStatus = (statusCode: number, message: string): SandboxError => Object.assign(new SandboxError(`${statusCode}: ${message}`), { statusCode })
const fetchFailed = (code: string): TypeError => new TypeError('fetch failed', { cause: Object.assign(new Error(code), { code }) })

type Row = [what: ClassifyContext['what'], raw: unknown, kind: InfrastructureErrorKind]
const rows: Row[] = [
  ['create', new AuthenticationError('Unauthorized, please check your credentials.'), 'auth'],
  ['create', withStatus(403, 'team is blocked'), 'auth'],
  ['create', new RateLimitError('you have reached the maximum number of concurrent E2B sandboxes (20)'), 'capacity'],
  ['create', new RateLimitError('Rate limit exceeded, please try again later - Rate limit exceeded'), 'rate-limited'],
  ['create', new ServiceBusyError('Service temporarily unavailable, please retry - no machine has room'), 'capacity'],
  ...['', ' - <html><h1>503</h1>', ' - upstream connect error or disconnect/reset before headers. reset reason: connection termination', ' - no healthy upstream'].map(
    (said): Row => ['create', new ServiceBusyError(`Service temporarily unavailable, please retry${said}`), 'transient'],
  ),
  ...[400, 403, 404, 422].map((status): Row => ['create', withStatus(status, `<html><h1>${status}</h1>nginx</html>`), 'transient']),
  ['create', withStatus(404, 'Not Found'), 'transient'],
  ['create', withStatus(504, 'placement timed out'), 'transient'],
  ['create', withStatus(500, 'internal'), 'transient'],
  ['create', withStatus(502, 'bad gateway'), 'transient'],
  ['create', withStatus(404, "template 'x' not found"), 'invalid'],
  ['create', withStatus(400, 'Timeout cannot be greater than 1 hours'), 'invalid'],
  ['create', withStatus(409, 'conflict'), 'transient'],
  ['create', new TemplateError('You need to update the template to use the new SDK.'), 'invalid'],
  ['network', withStatus(400, 'Network transform rules are not available for your team.'), 'invalid'],
  ['extend', new SandboxNotFoundError('Paused sandbox i1 not found'), 'transient'],
  ['kill', withStatus(404, 'Not Found'), 'transient'],
  ['list', new DOMException('The operation was aborted due to timeout', 'TimeoutError'), 'timeout'],
  ['list', fetchFailed('ECONNREFUSED'), 'provider-down'],
  ['list', fetchFailed('ENOTFOUND'), 'provider-down'],
  ['list', fetchFailed('ECONNRESET'), 'transient'],
  ['list', fetchFailed('UND_ERR_SOCKET'), 'transient'],
  ['list', new TypeError('fetch failed', { cause: new AggregateError([Object.assign(new Error(''), { code: 'ECONNREFUSED' })]) }), 'provider-down'],
  ['exec', new SandboxNotFoundError('Sandbox is probably not running anymore'), 'transient'],
  ['exec', new TimeoutError('[unknown] terminated: The sandbox was killed or reached its end of life while the request was in flight.'), 'transient'],
  ['exec', new TimeoutError('[unavailable] 503: This error is likely due to sandbox timeout.'), 'transient'],
  ['exec', new TimeoutError('[deadline_exceeded] the operation timed out'), 'timeout'],
  ['exec', new TimeoutError('[canceled] This operation was aborted'), 'timeout'],
  ['exec', new SandboxError('2: [unknown] terminated'), 'transient'],
  ['exec', new SandboxError('13: missing EndStreamResponse'), 'transient'],
  ['exec', new InvalidArgumentError("[invalid_argument] cwd '/nope' does not exist"), 'invalid'],
  ['exec', new InvalidArgumentError('[invalid_argument] protocol error'), 'transient'],
  ['exec', new RateLimitError('Rate limit exceeded, please try again later.'), 'rate-limited'],
  ['exec', new AuthenticationError('unauthorized access'), 'auth'],
  ['exec', new Error('something new'), 'transient'],
  ['exec', 'not even an error', 'transient'],
]

describe('classify', () => {
  it.each(rows)('%s: %s → %s', (what, raw, kind) => {
    const error = classify(raw, context(what))
    expect(error).toMatchObject({ kind, source: 'e2b' })
    expect(error.message).toMatch(new RegExp(`^e2b: ${what}: \\S`))
  })

  it('says of no time to wait that E2B had told it: the SDK hands none on', () => {
    expect(classify(new RateLimitError('Rate limit exceeded'), context('create')).retryAfterMs).toBeUndefined()
    expect(classify(new RateLimitError('maximum number of concurrent E2B sandboxes'), context('create')).retryAfterMs).toBeUndefined()
  })

  it('strikes secrets out of what the service says, and quotes nothing of an exec', () => {
    expect(classify(withStatus(500, 'key e2b_secret failed'), context('list')).message).not.toContain('e2b_secret')
    expect(classify(new SandboxError('error starting process /bin/bash -c COMMAND'), context('exec')).message).not.toContain('COMMAND')
  })

  it('leaves errors alone that are sorted already', () => {
    const sorted = new InfrastructureError({ kind: 'auth', source: 'e2b', message: 'no key' })
    expect(classify(sorted, context('create'))).toBe(sorted)
  })
})

describe('through the SDK and the wire', () => {
  let fixture: E2bFixture
  let sandboxId: string
  beforeAll(async () => {
    fixture = await startE2b()
    sandboxId = (await fixture.provider.create(fixture.request(), options)).id
  })
  afterAll(() => fixture.close())
  beforeEach(() => fixture.server.faults.clear())
  const strike = (...faults: FaultInput[]): void => fixture.server.faults.add(...faults)

  const listed: [fault: FaultInput, kind: InfrastructureErrorKind][] = [
    [{ action: 'status', status: 401, message: 'invalid API key' }, 'auth'],
    [{ action: 'status', status: 403, message: 'blocked' }, 'auth'],
    [{ action: 'status', status: 429, message: 'Rate limit exceeded', headers: { 'Retry-After': '1' } }, 'rate-limited'],
    [{ action: 'status', status: 500 }, 'transient'],
    [{ action: 'status', status: 503 }, 'capacity'],
    [{ action: 'status', status: 503, page: '<html>maintenance' }, 'transient'],
    [{ action: 'status', status: 403, page: '<html>Attention Required!' }, 'transient'],
    [{ action: 'status', status: 504, empty: true }, 'transient'],
    [{ action: 'refuse' }, 'transient'],
    [{ action: 'corrupt' }, 'transient'],
  ]
  it.each(listed)('a call that meets %j fails as %s', async (fault, kind) => {
    strike({ call: 'get', ...fault })
    expect((await failure(fixture.provider.get(sandboxId, options))).kind).toBe(kind)
  })

  it('a call that is never answered ends at its deadline', async () => {
    strike({ call: 'get', action: 'hang' })
    expect((await failure(fixture.provider.get(sandboxId, { timeoutMs: 200 }))).kind).toBe('timeout')
  })

  it('a call that is cancelled fails with the reason', async () => {
    strike({ call: 'get', action: 'hang' })
    const controller = new AbortController()
    const reason = new Error('drained')
    const call = fixture.provider.get(sandboxId, { ...options, signal: controller.signal })
    controller.abort(reason)
    await expect(call).rejects.toBe(reason)
  })

  it('no server at all is provider-down', async () => {
    const gone = await startE2b()
    await gone.server.close()
    expect((await failure(gone.provider.create(gone.request(), options))).kind).toBe('provider-down')
  })

  it.each([429, 502, 503, 504])('a Start answered %i is no lost sandbox while get finds it', async (status) => {
    strike({ call: 'start', action: 'status', status })
    expect((await failure(fixture.provider.exec(sandboxId, { script: 'true' }, options))).kind).toBe('transient')
    expect(await fixture.provider.exec(sandboxId, { script: 'echo on' }, options)).toEqual({ exitCode: 0, stdout: 'on\n' })
  })

  it('a Start answered 502 is a lost sandbox once get says so', async () => {
    const { id } = await fixture.provider.create(fixture.request(), options)
    await fixture.server.host.destroy(id, 'crashed')
    expect((await failure(fixture.provider.exec(id, { script: 'true' }, options))).kind).toBe('sandbox-lost')
    expect((await failure(fixture.provider.extend(id, 60_000, options))).kind).toBe('sandbox-lost')
  })

  it('a get that fails confirms nothing', async () => {
    strike({ call: 'start', action: 'status', status: 502 }, { call: 'get', action: 'status', status: 500 })
    expect((await failure(fixture.provider.exec(sandboxId, { script: 'true' }, options))).kind).toBe('transient')
  })

  const streams: FaultInput[] = [
    { action: 'cut-stream' },
    { action: 'cut-stream', afterBytes: 60 },
    { action: 'corrupt', variant: 'garbage' },
    { action: 'corrupt', variant: 'no-exit-code' },
    { action: 'corrupt', variant: 'no-end-of-stream' },
    { action: 'refuse' },
  ]
  it.each(streams)('a stream that meets %j has no outcome', async (fault) => {
    strike({ call: 'start', ...fault })
    const command = { script: 'echo 0123456789; echo 0123456789; sleep 0.05; exit 0', env: { TOKEN: 'secret-value' } }
    const error = await failure(fixture.provider.exec(sandboxId, command, options))
    expect(error.kind).toBe('transient')
    expect(error.message).not.toMatch(/0123456789|secret-value/)
  })

  it('a sandbox that dies while a command runs is lost', async () => {
    const { id } = await fixture.provider.create(fixture.request(), options)
    const running = failure(fixture.provider.exec(id, { script: 'sleep 300' }, options))
    await expect.poll(() => fixture.server.host.processes(id).length).toBeGreaterThan(0)
    await fixture.server.host.destroy(id, 'crashed')
    expect((await running).kind).toBe('sandbox-lost')
  })

  it('a wrong key is auth that names the variable and not the key', async () => {
    const other = fixture.another({ apiKeyEnv: 'OTHER_KEY' }, { OTHER_KEY: 'e2b_wrong_key' })
    for (const call of [() => other.check(options), () => other.create(fixture.request(), options), () => other.kill(sandboxId, options)]) {
      const error = await failure(call())
      expect(error).toMatchObject({ kind: 'auth' })
      expect(error.message).toContain('OTHER_KEY')
      expect(error.message).not.toContain('e2b_wrong_key')
    }
  })

  it.each([undefined, '', '  '])('a key that is %j is auth before any call', async (key) => {
    const before = fixture.server.faults.calls()
    const error = await failure(fixture.another({}, { E2B_API_KEY: key }).check(options))
    expect(error.kind).toBe('auth')
    expect(error.message).toContain('E2B_API_KEY')
    expect(fixture.server.faults.calls()).toEqual(before)
  })
})
