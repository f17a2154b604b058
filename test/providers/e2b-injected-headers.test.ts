import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { failure, options, processesHolding, startE2b, type E2bFixture } from './e2b-fixture.js'

const run = promisify(execFile)
/** Made up anew, so that no process of another run holds it. */
const token = `token-${randomBytes(8).toString('hex')}`
/** Matches the token, but not itself in a process list. */
const tokenPattern = `${token.slice(0, -1)}[${token.slice(-1)}]`

describe('headers that E2B adds outside of the sandbox', () => {
  let fixture: E2bFixture
  let host: Server
  let folder: string
  let repository: string
  const seen: (string | undefined)[] = []
  /** How many processes held the token while git was talking. */
  const holding: Promise<number>[] = []

  beforeAll(async () => {
    fixture = await startE2b()
    folder = await mkdtemp(join(tmpdir(), 'switchyard-e2b-test-'))
    const identity = ['-c', 'user.name=Test', '-c', 'user.email=test@example.com']
    await run('git', ['init', '-q', join(folder, 'work')])
    await run('git', ['-C', join(folder, 'work'), ...identity, 'commit', '-q', '--allow-empty', '-m', 'private'])
    await run('git', ['clone', '-q', '--bare', join(folder, 'work'), join(folder, 'private.git')])
    await run('git', ['-C', join(folder, 'private.git'), 'update-server-info'])
    // Git's plain-file protocol, behind a token.
    host = createServer((request, response) => {
      seen.push(request.headers.authorization)
      holding.push(processesHolding(token))
      const file = join(folder, new URL(request.url ?? '/', 'http://localhost').pathname)
      if (request.headers.authorization !== `Bearer ${token}`) response.writeHead(401, { 'www-authenticate': 'Basic' }).end()
      else void stat(file).then((found) => (found.isFile() ? createReadStream(file).pipe(response) : response.writeHead(404).end()), () => response.writeHead(404).end())
    })
    await new Promise<void>((resolve) => host.listen(0, '127.0.0.1', resolve))
    repository = `http://127.0.0.1:${(host.address() as AddressInfo).port}/private.git`
  })
  afterAll(async () => {
    await fixture.close()
    await new Promise((resolve) => host.close(resolve))
    await rm(folder, { recursive: true, force: true, maxRetries: 10 })
  })

  const clone = (id: string, from = repository) =>
    fixture.provider.exec(id, { script: 'rm -rf "$HOME/clone"; GIT_TERMINAL_PROMPT=0 git clone -q "$FROM" "$HOME/clone" 2>&1', env: { FROM: from } }, options)

  it('let git clone a private repository, while nothing in the sandbox holds the token', async () => {
    const { id } = await fixture.provider.create(fixture.request({ network: 'git-only', gitHosts: ['127.0.0.1'] }), options)
    expect((await clone(id)).stdout).toContain('could not read Username') // The host answered 401.
    // Files from before can't hold the token.
    await fixture.provider.exec(id, { script: 'touch "$HOME/before"' }, options)
    await fixture.provider.injectHeaders(id, { '127.0.0.1': { Authorization: `Bearer ${token}` } }, options)
    seen.length = 0
    const cloned = await clone(id)
    expect(cloned).toEqual({ exitCode: 0, stdout: '' })
    expect(seen).toContain(`Bearer ${token}`)

    const search = `cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | grep -c '${tokenPattern}'; find "$HOME" "\${TMPDIR:-/tmp}" -type f -newer "$HOME/before" -exec grep -l '${tokenPattern}' {} + 2>/dev/null; git -C "$HOME/clone" log --format=%s`
    expect((await fixture.provider.exec(id, { script: search }, options)).stdout).toBe('0\nprivate\n')
    expect(holding.length).toBeGreaterThan(0)
    expect(new Set(await Promise.all(holding))).toEqual(new Set([0]))

    await fixture.provider.injectHeaders(id, {}, options)
    expect((await clone(id)).stdout).toContain('could not read Username')
  })

  it('leave what the sandbox may reach as it was', async () => {
    const { id } = await fixture.provider.create(fixture.request({ network: 'git-only', gitHosts: ['127.0.0.1'] }), options)
    const other = repository.replace('127.0.0.1', 'localhost')
    seen.length = 0
    expect((await clone(id, other)).stdout).toContain('403')
    await fixture.provider.injectHeaders(id, { 'git.example.com': { Authorization: `Bearer ${token}` }, localhost: { Authorization: `Bearer ${token}` } }, options)
    expect((await clone(id, other)).stdout).toContain('403')
    expect(seen).toEqual([])
    expect(fixture.server.host.get(id)?.details.network).toMatchObject({ allowOut: ['127.0.0.1'], denyOut: ['0.0.0.0/0'] })
  })

  it('leave a sandbox without network without network', async () => {
    const { id } = await fixture.provider.create(fixture.request({ network: 'none' }), options)
    await fixture.provider.injectHeaders(id, { '127.0.0.1': { Authorization: `Bearer ${token}` } }, options)
    expect(fixture.server.host.get(id)?.details.network.denyOut).toEqual(['0.0.0.0/0'])
    expect((await clone(id)).exitCode).not.toBe(0)
  })

  it('are invalid for a team that may not use them, and the error does not hold them', async () => {
    const poor = await startE2b({ plan: { networkTransforms: false } })
    try {
      const { id } = await poor.provider.create(poor.request(), options)
      const error = await failure(poor.provider.injectHeaders(id, { 'git.example.com': { Authorization: `Bearer ${token}` } }, options))
      expect(error.kind).toBe('invalid')
      expect(error.message).toContain('team')
      poor.server.faults.add({ call: 'network', action: 'status', status: 500, message: `bad value Bearer ${token}` })
      expect((await failure(poor.provider.injectHeaders(id, { 'git.example.com': { Authorization: `Bearer ${token}` } }, options))).message).not.toContain(token)
      await poor.provider.kill(id, options)
      expect((await failure(poor.provider.injectHeaders(id, {}, options))).kind).toBe('sandbox-lost')
    } finally {
      await poor.close()
    }
  })
})
