import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { ErrorOwner, InfrastructureErrorKind } from '../../src/job/errors.js'
import { classify, type ClassifyContext } from '../../src/providers/docker/classify.js'
import { EngineError } from '../../src/providers/docker/engine.js'
import { DockerProvider, dockerProviderConfigSchema } from '../../src/providers/docker/index.js'
import { markedScript, maxStdoutBytes, readOutput } from '../../src/providers/docker/output.js'
import { failure, options } from './e2b-fixture.js'

const withCode = (code: string) => Object.assign(new Error(code), { code })

const rows: [what: ClassifyContext['what'], raw: unknown, kind: InfrastructureErrorKind, owner?: ErrorOwner][] = [
  ['list', withCode('ENOENT'), 'provider-down'],
  ['list', withCode('ECONNREFUSED'), 'provider-down'],
  ['list', withCode('EACCES'), 'auth'],
  ['list', withCode('ECONNRESET'), 'transient'],
  ['list', new SyntaxError('Unexpected end of JSON input'), 'transient'],
  ['create', new EngineError(404, 'No such image: nope:latest'), 'invalid'],
  ['create', new EngineError(404, 'no such image: docker.io/library/nope: image not known'), 'invalid'],
  ['create', new EngineError(404, 'No such container: 1234'), 'transient'],
  ['create', new EngineError(400, 'failed to create task: exec: "/bin/sh": no such file or directory'), 'invalid'],
  ['create', new EngineError(400, 'invalid reference format'), 'invalid', 'job'],
  ['create', new EngineError(500, 'normalizing image: normalizing name for compat API: invalid reference format'), 'invalid', 'job'],
  ['create', new EngineError(404, 'network nonet not found'), 'invalid', 'consumer-configuration'],
  ['create', new EngineError(500, 'container create: unable to find network with name or ID nonet: network not found'), 'invalid', 'consumer-configuration'],
  ['create', new EngineError(400, 'unknown or invalid runtime name: runsc'), 'invalid', 'consumer-configuration'],
  ['create', new EngineError(500, 'unable to find user agent: no matching entries in passwd file'), 'invalid', 'consumer-configuration'],
  ['create', new EngineError(500, 'accept4: too many open files'), 'capacity'],
  ['create', new EngineError(403, 'authorization denied by plugin'), 'auth'],
  ['create', new EngineError(500, 'write /var/lib/docker/tmp: no space left on device'), 'capacity'],
  ['create', new EngineError(500, 'fork/exec /usr/bin/runc: cannot allocate memory'), 'capacity'],
  ['create', new EngineError(500, 'could not find an available, non-overlapping IPv4 address pool'), 'capacity'],
  ['create', new EngineError(500, 'something new'), 'transient'],
  ['list', new EngineError(503, 'the daemon is stopping'), 'provider-down'],
  ['exec', new EngineError(409, 'container 1234 is not running'), 'transient'],
  ['exec', new EngineError(404, 'No such container: 1234'), 'transient'],
  ['exec', 'not even an error', 'transient'],
  ['exec', new EngineError(500, 'unable to find user agent: no matching entries in passwd file'), 'transient', 'sandbox'],
  ['exec', new EngineError(400, 'unable to find user agent: no matching entries in passwd file'), 'transient', 'sandbox'],
]

describe('classify', () => {
  it.each(rows)('%s: %s → %s', (what, raw, kind, owner) => {
    const error = classify(raw, { source: 'docker', what, socketPath: '/s', image: 'job', user: 'agent' })
    expect(error).toMatchObject({ kind, source: 'docker', ...(owner === undefined ? {} : { owner }) })
    expect(error.message).toMatch(new RegExp(`^docker: ${what}: \\S`))
  })

  it('quotes the engine, but not of an exec, where it may quote the command', () => {
    const raw = new EngineError(500, 'exec failed: secret-command')
    expect(classify(raw, { source: 'docker', what: 'create', socketPath: '/s' }).message).toContain('secret-command')
    expect(classify(raw, { source: 'docker', what: 'exec', socketPath: '/s' }).message).not.toContain('secret')
  })
})

function frame(stream: number, text: string): Buffer {
  const header = Buffer.alloc(8)
  header.writeUInt8(stream, 0)
  header.writeUInt32BE(Buffer.byteLength(text), 4)
  return Buffer.concat([header, Buffer.from(text)])
}

async function* inPieces(bytes: Buffer, size: number): AsyncIterable<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

describe('a command’s output', () => {
  const bytes = Buffer.concat([frame(1, 'mark\nÄ '), frame(2, 'noise'), frame(1, ''), frame(1, 'end\n')])

  it.each([1, 3, 8, 9, 1000])('is put together from pieces of %s bytes', async (size) => {
    expect(await readOutput(inPieces(bytes, size), 'mark')).toEqual({ stdout: 'Ä end\n', complaint: '' })
  })

  it('without the mark is the runtime’s complaint', async () => {
    expect(await readOutput(inPieces(frame(2, 'OCI runtime exec failed'), 100), 'mark')).toEqual({ stdout: undefined, complaint: 'OCI runtime exec failed' })
  })

  it('that is cut off is an error, wherever it is cut', async () => {
    for (const end of [4, 8, 11]) await expect(readOutput(inPieces(bytes.subarray(0, end), 100), 'mark')).rejects.toThrow('cut off')
  })

  it('is read to its end and kept only so far', async () => {
    const { stdout } = await readOutput(inPieces(Buffer.concat([frame(1, 'mark\n'), frame(1, 'x'.repeat(maxStdoutBytes + 10))]), 65_536), 'mark')
    expect(stdout).toHaveLength(maxStdoutBytes - 'mark\n'.length)
  })

  it('begins with the mark, then the script as it is', () => {
    expect(markedScript('if then fi', 'mark', '/x')).toBe("printf '%s\\n' 'mark'\nif then fi")
  })
})

/** An engine whose answers the test says; only what podman can't be brought to do. */
describe('an engine that misbehaves', () => {
  let folder: string
  let server: Server
  let provider: DockerProvider
  let answer: (path: string, request: IncomingMessage, response: ServerResponse) => void

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'docker-'))
    const socketPath = join(folder, 's')
    server = createServer((request, response) => answer(`${request.method ?? ''} ${request.url ?? ''}`, request, response))
    await new Promise<void>((resolve) => server.listen(socketPath, resolve))
    provider = new DockerProvider(dockerProviderConfigSchema.parse({ socketPath }))
  })
  afterEach(async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
    await rm(folder, { recursive: true, maxRetries: 10 })
  })

  const json = (response: ServerResponse, status: number, body: unknown) => response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
  const none = (response: ServerResponse) => json(response, 404, { message: 'No such container: c1' })
  const container = (status: string) => ({ Id: 'c1', Name: '/c1', Created: '2026-01-01T00:00:00Z', State: { Status: status }, Config: { Labels: { 'dev.switchyard.provider': 'docker' } } })
  const execAnswers = (output: (response: ServerResponse) => void, exit: unknown, alive: boolean): typeof answer => (path, _request, response) => {
    if (path === 'POST /containers/c1/exec') json(response, 201, { Id: 'e1' })
    else if (path === 'POST /exec/e1/start') output(response)
    else if (path === 'GET /exec/e1/json') json(response, 200, exit)
    else if (alive) json(response, 200, container('running'))
    else none(response)
  }

  it('never makes a success of a kill that failed', async () => {
    answer = (path, _request, response) => (path.startsWith('DELETE') ? json(response, 500, { message: 'device or resource busy' }) : json(response, 200, container('running')))
    expect(await failure(provider.kill('c1', options))).toMatchObject({ kind: 'transient' })
  })

  it('does not say that nothing was made where a container can’t be started nor removed', async () => {
    const full = (response: ServerResponse) => json(response, 500, { message: 'write /var/lib/docker/x: no space left on device' })
    answer = (path, _request, response) => (path.startsWith('POST /containers/create') ? json(response, 201, { Id: 'c1' }) : path.startsWith('GET') ? json(response, 200, container('created')) : full(response))
    const request = { name: 'c1', tags: {}, image: undefined, resources: {}, lifetimeMs: 60_000, network: 'open', gitHosts: [] } as const
    expect(await failure(provider.create(request, options))).toMatchObject({ kind: 'capacity', sandboxMayExist: true })
  })

  it('kills on until a removal that is under way has ended', async () => {
    let asked = 0
    answer = (path, _request, response) => {
      if (path.startsWith('DELETE')) json(response, 409, { message: 'removal of container c1 is already in progress' })
      else if ((asked += 1) < 3) json(response, 200, container('removing'))
      else none(response)
    }
    await provider.kill('c1', options)
    expect(asked).toBe(3)
  })

  it('is asked again when it knows of a container no more than by half', async () => {
    let asked = 0
    const half = (last: (response: ServerResponse) => void): typeof answer => (_path, _request, response) => {
      if ((asked += 1) % 2 === 1) json(response, 500, { message: 'container c1 does not exist in database: no such container' })
      else last(response)
    }
    answer = half(none)
    expect(await provider.get('c1', options)).toBeUndefined()
    answer = half((response) => json(response, 200, container('running')))
    expect(await provider.get('c1', options)).toMatchObject({ id: 'c1' })
    expect(asked).toBe(4)
  })

  it('takes a cut stream for a lost sandbox only when the engine says that it is gone', async () => {
    const cut = (response: ServerResponse) => {
      response.writeHead(200).write(frame(1, 'half').subarray(0, 10))
      setImmediate(() => response.destroy())
    }
    answer = execAnswers(cut, { Running: false, ExitCode: 0 }, true)
    expect(await failure(provider.exec('c1', { script: 'true' }, options))).toMatchObject({ kind: 'transient' })
    answer = execAnswers(cut, { Running: false, ExitCode: 0 }, false)
    expect(await failure(provider.exec('c1', { script: 'true' }, options))).toMatchObject({ kind: 'sandbox-lost' })
  })

  it('takes no exit code of the runtime’s for the command’s', async () => {
    answer = execAnswers((response) => response.end(frame(2, 'OCI runtime exec failed: no more processes')), { Running: false, ExitCode: 126 }, true)
    expect(await failure(provider.exec('c1', { script: 'true' }, options))).toMatchObject({ kind: 'transient' })
    answer = execAnswers((response) => response.end(frame(2, 'OCI runtime exec failed: chdir to cwd ("/no") failed')), { Running: false, ExitCode: 126 }, true)
    expect(await failure(provider.exec('c1', { script: 'true', cwd: '/no' }, options))).toMatchObject({ kind: 'invalid' })
  })

  it('ends in time when there is no answer', async () => {
    answer = () => undefined
    expect(await failure(provider.get('c1', { timeoutMs: 200 }))).toMatchObject({ kind: 'timeout' })
    const controller = new AbortController()
    const call = provider.get('c1', { ...options, signal: controller.signal })
    controller.abort(new Error('enough'))
    await expect(call).rejects.toThrow('enough')
  })

  it('is not there: provider-down, with the mend', async () => {
    const away = new DockerProvider(dockerProviderConfigSchema.parse({ name: 'away' }), { DOCKER_HOST: `unix://${folder}/none` })
    const error = await failure(away.check(options))
    expect(error).toMatchObject({ kind: 'provider-down', source: 'away' })
    expect(error.message).toContain(`nothing listens on ${folder}/none; start Docker`)
  })
})
