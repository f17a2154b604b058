import { AlreadyExistsError, ClientClosedError, ConflictError, InvalidError, NotFoundError, ResourceExhaustedError, SandboxTimeoutError, TimeoutError } from 'modal'
import { ClientError, Status } from 'nice-grpc'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { InfrastructureError, type InfrastructureErrorKind } from '../../src/job/errors.js'
import { classify, type ClassifyContext } from '../../src/providers/modal/classify.js'
import { retryAfterMs } from '../../src/providers/modal/retry-policy.js'
import { loadDefinitions } from '../servers/modal/definitions.js'
import { all, failure, options, startModal, type ModalFixture } from './modal-fixture.js'

type During = ClassifyContext['during']
const context = (during: During, more: Partial<ClassifyContext> = {}): ClassifyContext => ({ source: 'modal', what: 'a test', during, ...more })
const grpc = (code: Status, details = 'no details') => new ClientError('/modal.client.ModalClient/SandboxCreateV2', code, details)
const abort = Object.assign(new Error('The operation has been aborted'), { name: 'AbortError' })

type Row = [during: During, raw: unknown, kind: InfrastructureErrorKind]
const rows: Row[] = [
  ['check', grpc(Status.UNAUTHENTICATED), 'auth'],
  ['create', grpc(Status.PERMISSION_DENIED), 'auth'],
  ['check', new Error('Profile is missing credentials. Please set them in .modal.toml'), 'auth'],
  ['check', new InvalidError('Modal token credentials and OAuth credentials cannot both be configured.'), 'auth'],
  ['create', grpc(Status.RESOURCE_EXHAUSTED, 'Workspace has reached its limit of 100 concurrent sandboxes'), 'capacity'],
  ['create', grpc(Status.RESOURCE_EXHAUSTED, 'Sandbox creation rate limit exceeded'), 'rate-limited'],
  ['create', grpc(Status.RESOURCE_EXHAUSTED, 'Too many requests'), 'rate-limited'],
  ['list', grpc(Status.RESOURCE_EXHAUSTED), 'rate-limited'],
  ['create', new ResourceExhaustedError('Insufficient capacity to create sandbox.'), 'capacity'],
  ['create', grpc(Status.INVALID_ARGUMENT), 'invalid'],
  ['create', grpc(Status.OUT_OF_RANGE), 'invalid'],
  ['create', grpc(Status.UNIMPLEMENTED), 'invalid'],
  ...[Status.UNIMPLEMENTED, Status.PERMISSION_DENIED, Status.UNAUTHENTICATED].map((code): Row => ['create', grpc(code, 'Received HTTP status code 404'), 'transient']),
  ['create', grpc(Status.RESOURCE_EXHAUSTED, 'Received message larger than max (1752460652 vs 104857600)'), 'transient'],
  ['create', new InvalidError("Invalid Sandbox name: 'a b'"), 'invalid'],
  ['exec', new InvalidError('workdir must be an absolute path, got: here'), 'invalid'],
  ['exec', new InvalidError('Unexpected exit status'), 'transient'],
  ['create', grpc(Status.NOT_FOUND), 'invalid'],
  ['create', new NotFoundError("App 'x' not found"), 'invalid'],
  ['exec', grpc(Status.NOT_FOUND), 'transient'],
  ['sandbox', grpc(Status.NOT_FOUND), 'transient'],
  ['exec', new NotFoundError('Sandbox not found'), 'transient'],
  ['create', grpc(Status.FAILED_PRECONDITION), 'invalid'],
  ['exec', grpc(Status.FAILED_PRECONDITION), 'transient'],
  ['inject', grpc(Status.FAILED_PRECONDITION), 'invalid'],
  ['create', grpc(Status.ALREADY_EXISTS), 'transient'],
  ['create', new AlreadyExistsError('Sandbox with name exists'), 'transient'],
  ['create', grpc(Status.UNAVAILABLE), 'provider-down'],
  ['list', grpc(Status.DEADLINE_EXCEEDED), 'provider-down'],
  ['exec', grpc(Status.UNAVAILABLE), 'transient'],
  ['exec', grpc(Status.DEADLINE_EXCEEDED), 'transient'],
  ['create', grpc(Status.CANCELLED), 'transient'],
  ['create', grpc(Status.UNKNOWN), 'transient'],
  ['create', grpc(Status.INTERNAL), 'transient'],
  ['create', grpc(Status.ABORTED), 'transient'],
  ['create', grpc(Status.DATA_LOSS), 'transient'],
  ['exec', new ConflictError('Sandbox sb-1 has already finished'), 'transient'],
  ['exec', new ClientClosedError(), 'transient'],
  ['exec', new Error('Command router access is not available for this sandbox'), 'transient'],
  ['exec', new Error('Deadline exceeded while waiting for exec 1'), 'timeout'],
  ['exec', new Error('Deadline exceeded'), 'timeout'],
  ['list', new Error('Deadline exceeded'), 'transient'],
  ['exec', new SandboxTimeoutError(), 'timeout'],
  ['exec', new TimeoutError(), 'timeout'],
  ['create', new TimeoutError('Timed out waiting for task ID'), 'transient'],
  ['create', new Error('Image build for im-1 failed with the exception:\nmanifest unknown'), 'invalid'],
  ['create', new Error('Image build for im-1 failed with unknown status: 9'), 'invalid'],
  ['create', new Error('Image build for im-1 terminated due to external shut-down. Please try again.'), 'transient'],
  ['create', new Error('Image build for im-1 timed out. Please try again with a larger timeout parameter.'), 'transient'],
  ['create', new Error('timeoutMs must be a multiple of 1000ms, got 1500'), 'invalid'],
  ['create', new Error('inboundCidrAllowlist cannot be used when blockNetwork is enabled'), 'invalid'],
  ['exec', abort, 'transient'],
  ['exec', new Error('something new'), 'transient'],
  ['exec', 'not even an error', 'transient'],
]

describe('classify', () => {
  it.each(rows)('%s: %s → %s', (during, raw, kind) => {
    const error = classify(raw, context(during))
    expect(error).toMatchObject({ kind, source: 'modal' })
    expect(error.message).toMatch(/^modal: a test failed \(\S/)
    expect(error.message).not.toContain('\n')
  })

  it('takes a wait that Modal asks for as a rate limit, whatever the text says', () => {
    const error = classify(grpc(Status.RESOURCE_EXHAUSTED, 'limit reached'), context('create', { retryAfterMs: 1500 }))
    expect(error).toMatchObject({ kind: 'rate-limited', retryAfterMs: 1500 })
    expect(classify(grpc(Status.INTERNAL), context('create', { retryAfterMs: 1500 })).retryAfterMs).toBeUndefined()
  })

  it('strikes secrets out of the message, and then does not hand the raw error on', () => {
    const error = classify(grpc(Status.INTERNAL, 'bad token as-secret-1'), context('list', { secrets: ['as-secret-1'] }))
    expect(error.message).toContain('bad token [redacted]')
    expect(error.cause).toBeUndefined()
    expect(classify(grpc(Status.INTERNAL), context('list', { secrets: ['as-secret-1'] })).cause).toBeInstanceOf(ClientError)
  })

  it('cuts a long build log', () => {
    expect(classify(new Error(`Image build for im-1 failed with the exception:\n${'x'.repeat(10_000)}`), context('create')).message.length).toBeLessThan(700)
  })

  it('leaves errors alone that are sorted already', () => {
    const sorted = new InfrastructureError({ kind: 'auth', source: 'modal', message: 'no token' })
    expect(classify(sorted, context('create'))).toBe(sorted)
  })
})

describe('retryAfterMs', () => {
  const { rpcStatus, retryPolicy } = loadDefinitions()
  const encode = (typeUrl: string, retryAfterSecs: number) =>
    rpcStatus.encode({ code: 8, message: 'slow down', details: [{ typeUrl, value: retryPolicy.encode({ retryAfterSecs }).finish() }] }).finish()

  it('reads what the SDK itself would encode', () => {
    expect(retryAfterMs(encode('type.googleapis.com/modal.client.RPCRetryPolicy', 2.5))).toBe(2500)
    expect(retryAfterMs(encode('type.googleapis.com/modal.client.RPCRetryPolicy', 0))).toBe(0)
  })

  it('finds nothing in other details, and in bytes that are none', () => {
    expect(retryAfterMs(encode('type.googleapis.com/google.rpc.Help', 2.5))).toBeUndefined()
    expect(retryAfterMs(new Uint8Array())).toBeUndefined()
    const whole = encode('type.googleapis.com/modal.client.RPCRetryPolicy', 2.5)
    for (let end = 1; end < whole.length; end += 1) expect(() => retryAfterMs(whole.subarray(0, end))).not.toThrow()
    expect(retryAfterMs(Uint8Array.from([0xff, 0xff, 0xff, 0xff, 0xff, 0xff]))).toBeUndefined()
  })
})

describe('through the SDK and the wire', () => {
  let fixture: ModalFixture
  let sandboxId: string
  beforeAll(async () => {
    fixture = await startModal()
    sandboxId = (await fixture.provider.create(fixture.request(), options)).id
  })
  afterAll(() => fixture.close())
  beforeEach(() => fixture.server.plan.clear())

  const onCreate: [code: Status, message: string, kind: InfrastructureErrorKind][] = [
    [Status.UNAUTHENTICATED, 'token expired', 'auth'],
    [Status.RESOURCE_EXHAUSTED, 'limit of sandboxes', 'capacity'],
    [Status.INVALID_ARGUMENT, 'bad region', 'invalid'],
    [Status.NOT_FOUND, 'app is gone', 'invalid'],
    [Status.UNAVAILABLE, 'try again', 'provider-down'],
    [Status.INTERNAL, 'oops', 'transient'],
  ]
  it.each(onCreate)('code %i "%s" at create is %3$s', async (code, message, kind) => {
    fixture.fault({ call: 'create', action: 'status', status: code, message, times: 0 })
    const error = await failure(fixture.provider.create(fixture.request(), options))
    expect(error).toMatchObject({ kind, source: 'modal' })
    expect(error.message).toContain(message)
  })

  it('retries a passing fault as the SDK does, so that nothing is seen of it', async () => {
    fixture.fault({ call: 'list', action: 'status', status: Status.UNAVAILABLE, times: 2 })
    expect(await all(fixture.provider.list({}, options))).toHaveLength(1)
  })

  it('does not wait for as long as Modal throttles, which the SDK does without limit', async () => {
    const before = fixture.calls('list')
    fixture.fault({ call: 'list', action: 'status', status: Status.RESOURCE_EXHAUSTED, message: 'slow down', headers: { 'retry-after-secs': '0.25' }, times: 0 })
    const error = await failure(all(fixture.provider.list({}, options)))
    expect(error).toMatchObject({ kind: 'rate-limited', retryAfterMs: 250 })
    expect(fixture.calls('list') - before).toBe(1)
  })

  it('does not take "not found" from a worker for a lost sandbox while Modal says that it lives', async () => {
    fixture.fault({ call: 'wait', action: 'status', status: Status.NOT_FOUND, message: 'task not found' })
    const error = await failure(fixture.provider.exec(sandboxId, { script: 'true' }, options))
    expect(error.kind).toBe('transient')
    expect((await fixture.provider.exec(sandboxId, { script: 'echo alive' }, options)).stdout).toBe('alive\n')
  })

  it('keeps the first error when Modal can not be asked whether the sandbox lives', async () => {
    fixture.fault(
      { call: 'wait', action: 'status', status: Status.NOT_FOUND, message: 'task not found' },
      { call: 'get', action: 'status', status: Status.INTERNAL, times: 0 },
    )
    expect(await failure(fixture.provider.exec(sandboxId, { script: 'true' }, options))).toMatchObject({ kind: 'transient' })
  })

  it('never takes a failed kill for a success', async () => {
    fixture.fault({ call: 'kill', action: 'status', status: Status.INTERNAL, times: 0 })
    expect(await failure(fixture.provider.kill(sandboxId, options))).toMatchObject({ kind: 'transient' })
    fixture.server.plan.clear()
    expect(await fixture.provider.get(sandboxId, options)).toMatchObject({ id: sandboxId })
  })

  it('is provider-down while nothing listens, and works again when something does', async () => {
    fixture.server.plan.setMode({ down: 'refuse' })
    fixture.server.breakConnections()
    expect(await failure(all(fixture.provider.list({}, options)))).toMatchObject({ kind: 'provider-down' })
    fixture.server.plan.clear()
    expect((await all(fixture.provider.list({}, options))).map(({ id }) => id)).toEqual([sandboxId])
  })

  it('ends at its own deadline when Modal never answers, and really cancels the call', async () => {
    fixture.fault({ call: 'list', action: 'hang', times: 0 })
    expect(await failure(all(fixture.provider.list({}, { timeoutMs: 300 })))).toMatchObject({ kind: 'timeout', source: 'modal' })
    await expect.poll(() => fixture.server.openCalls('list')).toBe(0)
  })

  it('ends with the signal’s reason', async () => {
    fixture.fault({ call: 'get', action: 'hang', times: 0 })
    const controller = new AbortController()
    const reason = new Error('not wanted any more')
    const call = fixture.provider.get(sandboxId, { ...options, signal: controller.signal })
    await expect.poll(() => fixture.server.openCalls('get')).toBe(1)
    controller.abort(reason)
    await expect(call).rejects.toBe(reason)
    await expect.poll(() => fixture.server.openCalls('get')).toBe(0)
  })
})
