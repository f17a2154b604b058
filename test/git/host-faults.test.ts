import { execFileSync } from 'node:child_process'
import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished, vi } from 'vitest'
import { generateDevelopmentKeys } from '../../src/embedded/index.js'
import { CodeStorageHost, HttpsGitHost, TokenMinter, type HttpsToken } from '../../src/git/index.js'
import { InfrastructureError } from '../../src/job/errors.js'
import { commitFile, gitOk, localStorage, org, withToken, workTree } from './local-storage.js'

const { privateKey } = generateDevelopmentKeys()
const options = { timeoutMs: 20_000 }

/** A server that answers as it is told, and a Code Storage host that talks to it. */
async function hostAgainst(listener: RequestListener, now?: () => number): Promise<CodeStorageHost> {
  const server = createServer(listener)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.close()
    server.closeAllConnections()
  })
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return new CodeStorageHost({ org, privateKey, storageUrl: url, apiUrl: url, now })
}

async function failure(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(() => null, (thrown: unknown) => thrown)
}

describe('Code Storage misbehaves', () => {
  it('silence ends at the deadline, for the API and for git', async () => {
    const host = await hostAgainst(() => undefined)
    const calls = [
      () => host.check({ timeoutMs: 200 }),
      () => host.resolve('acme/web', 'main', { timeoutMs: 200 }),
      () => host.branchHead('acme/web', { name: 'main', ephemeral: false }, { timeoutMs: 200 }),
    ]
    for (const call of calls) {
      expect(await failure(call())).toMatchObject({ name: 'InfrastructureError', kind: 'provider-down' })
    }
  })

  it('a body that never ends is cut at the deadline', async () => {
    const host = await hostAgainst((_request, response) => response.write('{"default_branch":'))
    expect(await failure(host.resolve('acme/web', 'main', { timeoutMs: 200 }))).toMatchObject({ kind: 'provider-down' })
  })

  it('nobody listens: provider-down', async () => {
    const server = createServer()
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    await new Promise((resolve) => server.close(resolve))
    const host = new CodeStorageHost({ org, privateKey, storageUrl: url, apiUrl: url })
    expect(await failure(host.resolve('acme/web', 'main', options))).toMatchObject({ kind: 'provider-down' })
    expect(await failure(host.branchHead('acme/web', { name: 'main', ephemeral: false }, options))).toMatchObject({ kind: 'provider-down' })
  })

  it('asks to wait: rate-limited, with the time', async () => {
    const host = await hostAgainst((_request, response) => response.writeHead(429, { 'retry-after': '12' }).end('{"error":"slow down"}'))
    const error = await failure(host.deleteBranch('acme/web', { name: 'agent/x', ephemeral: true }, options))
    expect(error).toMatchObject({ kind: 'rate-limited', retryAfterMs: 12_000 })
    expect((error as Error).message).toContain('slow down')
  })

  it.each([
    ['a page of HTML', '<html>proxy</html>'],
    ['nothing', ''],
    ['another shape', '{"stats":{"files":"many"}}'],
  ])('answers 200 with %s: transient, naming the call', async (_what, body) => {
    const host = await hostAgainst((_request, response) => response.end(body))
    const error = await failure(host.diff('acme/web', { branch: 'x', baseSha: 'a'.repeat(40), headSha: 'b'.repeat(40) }, options))
    expect(error).toMatchObject({ kind: 'transient' })
    expect((error as Error).message).toContain('repos/diff')
  })

  it('redirects: the token is not sent on', async () => {
    const seen: string[] = []
    const host = await hostAgainst((request, response) => {
      seen.push(request.url ?? '')
      response.writeHead(302, { location: '/elsewhere' }).end()
    })
    expect(await failure(host.resolve('acme/web', 'main', options))).toBeInstanceOf(InfrastructureError)
    expect(await failure(host.branchHead('acme/web', { name: 'main', ephemeral: false }, options))).toBeInstanceOf(InfrastructureError)
    expect(seen).not.toContain('/elsewhere')
  })

  it('cancelled by the caller: the caller’s own reason, at once', async () => {
    const host = await hostAgainst(() => undefined)
    const controller = new AbortController()
    const call = failure(host.resolve('acme/web', 'main', { ...options, signal: controller.signal }))
    const reason = new Error('the job was cancelled')
    controller.abort(reason)
    expect(await call).toBe(reason)
    expect(await failure(host.branchHead('acme/web', { name: 'main', ephemeral: false }, { ...options, signal: controller.signal }))).toBe(reason)
  })
})

describe('the header of a refused request', () => {
  const base64 = (text: string) => Buffer.from(text).toString('base64')
  const echoes: Readonly<Record<string, (header: string) => string>> = {
    'as it is': (header) => header,
    'in base64': base64,
    'in base64, within more': (header) => base64(`{"authorization":"${header}"}`),
    'in hex': (header) => Buffer.from(header).toString('hex'),
    'in base64 in a URL': (header) => encodeURIComponent(base64(header)),
    'after so much that it is cut': (header) => `${'x '.repeat(110)}${header}`,
  }

  /** The longest row of characters that both have. */
  function shared(message: string, form: string): number {
    let longest = 0
    for (let from = 0; from < form.length; from++) while (message.includes(form.slice(from, from + longest + 1)) && from + longest < form.length) longest++
    return longest
  }

  it.each(Object.entries(echoes))('is told by nobody, when the host or a proxy quotes it %s', async (_how, echo) => {
    const headers: string[] = []
    const host = await hostAgainst((request, response) => {
      const header = request.headers.authorization ?? ''
      if (header !== '') headers.push(header)
      const body = `the request with ${echo(header)} is refused`
      if (header === '') response.writeHead(401, { 'www-authenticate': 'Basic' }).end()
      else if (request.url?.startsWith('/api/') === true) response.writeHead(400, { 'content-type': 'application/json' }).end(JSON.stringify({ error: body }))
      else response.writeHead(403, { 'content-type': 'text/plain' }).end(body)
    })
    const errors = [await failure(host.resolve('acme/web', 'main', options)), await failure(host.branchHead('acme/web', { name: 'main', ephemeral: false }, options))]
    expect(headers.some((header) => header.startsWith('Bearer ')) && headers.some((header) => header.startsWith('Basic '))).toBe(true)
    for (const header of headers) {
      const token = header.startsWith('Basic ') ? Buffer.from(header.slice(6), 'base64').toString().split(':')[1]! : header.slice(7)
      for (const error of errors) {
        const { message } = error as Error
        expect(message.length).toBeGreaterThan(20)
        // The head of a JWT is the same for all.
        for (const form of [token.slice(40), ...[0, 1, 2].map((before) => base64(`${'x'.repeat(before)}${token.slice(40)}`).slice(4)), Buffer.from(token.slice(40)).toString('hex')]) expect(shared(message, form), message).toBeLessThan(12)
      }
    }
  })
})

describe('the token callback', () => {
  const host = (token: () => Promise<HttpsToken>) => new HttpsGitHost({ url: 'http://127.0.0.1:9', token })
  const access = (token: () => Promise<HttpsToken>) => failure(host(token).readAccess('acme/web', { ephemeral: false }))

  it.each([
    ['throws', async () => Promise.reject(new Error('vault says hunter2'))],
    ['gives nothing', async () => undefined as unknown as HttpsToken],
    ['gives an empty token', async () => ({ username: 'x', token: '' })],
    ['gives a token with a line break', async () => ({ username: 'x', token: 'hunter2\nusername=evil' })],
    ['gives an expired token', async () => ({ username: 'x', token: 'hunter2', expiresAtMs: 1 })],
  ])('that %s is an auth failure which shows no secret', async (_what, token) => {
    const error = await access(token)
    expect(error).toMatchObject({ name: 'InfrastructureError', kind: 'auth' })
    expect(`${(error as Error).message} ${(error as Error).stack ?? ''}`).not.toContain('hunter2')
  })

  it('may say itself what went wrong', async () => {
    const own = new InfrastructureError({ kind: 'rate-limited', source: 'github', message: 'github: wait', retryAfterMs: 1 })
    expect(await access(async () => Promise.reject(own))).toBe(own)
  })

  it('gives the time to live that was asked for when it names none', async () => {
    const given = new HttpsGitHost({ url: 'https://git.example.com/base/', token: async () => ({ username: 'x', token: 'y' }), now: () => 1000 })
    expect(await given.readAccess('acme/web', { ephemeral: true, ttlSeconds: 7 })).toEqual({
      url: 'https://git.example.com/base/acme/web.git',
      username: 'x',
      token: 'y',
      expiresAtMs: 8000,
    })
    expect(given.hosts).toEqual(['git.example.com'])
  })
})

it('no token reaches argv or a file of git in the consumer, and nobody’s git configuration is read', async () => {
  const storage = await localStorage()
  const bin = await mkdtemp(join(tmpdir(), 'switchyard-bin-'))
  onTestFinished(async () => {
    vi.unstubAllEnvs()
    await storage.close()
    await rm(bin, { recursive: true, maxRetries: 10 })
  })
  const minter = new TokenMinter({ org, privateKey: storage.privateKey })
  const host = new HttpsGitHost({
    url: storage.server.url,
    token: async (repository, kind) => ({ username: 't', ...(await minter.mint({ repository, scopes: [kind === 'read' ? 'git:read' : 'git:write'] })) }),
  })
  await storage.host.client.createRepository('acme/web', 'main', options)
  const work = await workTree(storage.folder, 'work')
  const base = await gitOk(work, 'rev-parse', 'HEAD')
  const seed = await host.writeAccess('acme/web', { branch: 'main' })
  await gitOk(work, 'push', '--quiet', withToken(seed), 'main')
  const sha = await commitFile(work, 'a.txt', 'x\n')
  await gitOk(work, 'push', '--quiet', withToken(seed), 'HEAD:refs/heads/agent/a')
  await gitOk(work, 'checkout', '--quiet', '--detach', base)
  const beside = await commitFile(work, 'b.txt', 'x\n')
  await gitOk(work, 'push', '--quiet', withToken(seed), 'HEAD:refs/heads/agent/b')

  // A git that writes down how it was called, and where its token lies around afterwards.
  const [log, busy] = [join(bin, 'log'), join(bin, 'busy')]
  const real = execFileSync('sh', ['-c', 'command -v git'], { encoding: 'utf8' }).trim()
  writeFileSync(
    join(bin, 'git'),
    `#!/bin/sh
printf '%s\\n' "args: $*" >>'${log}'
case " $* " in *' --find-renames '* | *' merge-tree '*) while [ -e '${busy}' ]; do :; done ;; esac
'${real}' "$@"
code=$?
if [ -n "\${SWITCHYARD_GIT_TOKEN:-}" ]; then
  printf '%s\\n' "with a token" >>'${log}'
  case $PWD in */switchyard-repository-*) grep -rlF "$SWITCHYARD_GIT_TOKEN" . >>'${log}' && printf '%s\\n' 'ON DISK' >>'${log}' ;; esac
fi
exit $code
`,
  )
  chmodSync(join(bin, 'git'), 0o755)
  writeFileSync(join(bin, '.gitconfig'), `[url "https://evil.invalid/"]\n\tinsteadOf = ${storage.server.url}/\n`)
  vi.stubEnv('PATH', `${bin}:${process.env['PATH'] ?? ''}`)
  vi.stubEnv('HOME', bin)
  vi.stubEnv('GIT_CONFIG_GLOBAL', join(bin, '.gitconfig'))
  vi.stubEnv('GIT_DIR', '/nonexistent')

  const request = { repository: 'acme/web', branch: 'agent/a', sha, to: 'main', expectedTargetSha: base, strategy: 'ff_only', message: 'x' } as const
  expect((await host.resolve('acme/web', null, options)).sha).toBe(base)
  expect((await host.promote(request, options)).result).toBe('fast_forward')
  expect((await host.diff('acme/web', { branch: 'agent/a', baseSha: base, headSha: sha }, options)).paths).toEqual(['a.txt'])
  // Commits of which git finds no end of renames: that is theirs, and not the host's, who would be left alone for it.
  writeFileSync(busy, '')
  const soon = { timeoutMs: 5_000 }
  expect((await host.diff('acme/web', { branch: 'agent/a', baseSha: base, headSha: sha }, soon)).paths).toEqual(['a.txt'])
  const merge = { ...request, branch: 'agent/b', sha: beside, expectedTargetSha: sha, strategy: 'merge' } as const
  expect(await failure(host.promote(merge, soon))).toMatchObject({ kind: 'invalid', owner: 'job', message: expect.stringContaining('more processor time') as string })
  await rm(busy)
  await host.deleteBranch('acme/web', { name: 'agent/a', ephemeral: false }, options)

  const written = readFileSync(log, 'utf8')
  expect(written).toContain('args: push')
  expect(written).toContain('with a token')
  expect(written).not.toContain('ON DISK')
  expect(written).not.toMatch(/eyJ[\w-]{10}/)
})
