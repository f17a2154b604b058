import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { SignJWT } from 'jose'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { generateDevelopmentKeys, startCodeStorage } from '../../src/embedded/index.js'
import { CodeStorageHost, TokenMinter, type MintRequest } from '../../src/git/index.js'
import { InvalidInputError } from '../../src/job/errors.js'
import { ed25519Pair, rsaPair, x25519Pair } from '../git/key-pairs.js'
import { commitFile, git, gitOk, localStorage, org, withToken, workTree, type LocalStorage } from '../git/local-storage.js'

const options = { timeoutMs: 20_000 }
let storage: LocalStorage
let work: string
beforeAll(async () => {
  storage = await localStorage()
  await storage.host.client.createRepository('acme/web', 'main', options)
  await storage.host.client.createRepository('acme/other', 'main', options)
  work = await workTree(storage.folder, 'work')
  await gitOk(work, 'push', '--quiet', storage.url(await storage.sdk.repo({ id: 'acme/web' }).getRemoteURL({ ttl: 60 })), 'main')
})
afterAll(() => storage.close())

interface Setting extends Partial<MintRequest> {
  readonly privateKey?: string
  readonly org?: string
  readonly now?: () => number
}

async function url(setting: Setting = {}): Promise<{ remote: string; token: string }> {
  const minter = new TokenMinter({ org: setting.org ?? org, privateKey: setting.privateKey ?? storage.privateKey, now: setting.now })
  const { token } = await minter.mint({ repository: 'acme/web', scopes: ['git:read'], ...setting })
  return { token, remote: withToken({ url: `${storage.server.url}/acme/web.git`, username: 't', token, expiresAtMs: 0 }) }
}

describe('the local Code Storage refuses', () => {
  it.each([
    ['an expired token', { now: () => Date.now() - 3_600_000 }, 'Authentication failed'],
    ['a token signed with a foreign key', { privateKey: generateDevelopmentKeys().privateKey }, 'Authentication failed'],
    ['a token of another organisation', { org: 'evil' }, 'Authentication failed'],
    ['a token for another repository', { repository: 'acme/other' }, '403'],
    ['a token without a git scope', { scopes: ['org:read'] }, '403'],
  ] as [string, Setting, string][])('%s, for git and for the API', async (_what, setting: Setting, words) => {
    const { remote, token } = await url(setting)
    const result = await git(work, 'ls-remote', remote)
    expect(result.code).not.toBe(0)
    expect(result.stderr).toContain(words)
    // The API takes the repository from the token: one for another repository is simply that repository's.
    const answer = await fetch(`${storage.server.apiUrl}/api/v1/repos/branches`, { headers: { authorization: `Bearer ${token}` } })
    expect([401, 403].includes(answer.status) || setting.repository === 'acme/other').toBe(true)
    expect(await answer.text()).not.toContain(token)
  })

  it('a token that is unsigned, signed by HMAC with the public key, or not one at all', async () => {
    const claims = { iss: org, repo: 'acme/web', scopes: ['git:write'], iat: 1, exp: 4_000_000_000 }
    const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
    const hmac = await new SignJWT(claims).setProtectedHeader({ alg: 'HS256' }).sign(new TextEncoder().encode('x'.repeat(32)))
    for (const token of [`${part({ alg: 'none' })}.${part(claims)}.`, hmac, 'nonsense', 'a.b.c']) {
      const answer = await fetch(`${storage.server.apiUrl}/api/v1/repo`, { headers: { authorization: `Bearer ${token}` } })
      expect(answer.status).toBe(401)
    }
    expect((await fetch(`${storage.server.apiUrl}/api/v1/repo`)).status).toBe(401)
    expect((await fetch(`${storage.server.url}/acme/web.git/info/refs?service=git-upload-pack`)).headers.get('www-authenticate')).toContain('Basic')
  })

  it('a push with a read token, and writes to the API', async () => {
    const { remote, token } = await url()
    const push = await git(work, 'push', remote, 'HEAD:refs/heads/sneaky')
    expect(push.code).not.toBe(0)
    expect(push.stderr).toContain('403')
    for (const [method, path, body] of [
      ['POST', 'repos/branches/create', { base_ref: 'main', target_branch: 'sneaky' }],
      ['POST', 'repos/merge', { source_branch: 'main', target_branch: 'main', strategy: 'ff_only' }],
      ['DELETE', 'repos/branches', { name: 'main' }],
      ['POST', 'repos', {}],
      ['DELETE', 'repos/delete', {}],
    ] as const) {
      const answer = await fetch(`${storage.server.apiUrl}/api/v1/${path}`, { method, headers: { authorization: `Bearer ${token}` }, body: JSON.stringify(body) })
      expect([path, answer.status]).toEqual([path, 403])
    }
  })

  it('fetches from the import address, dumb HTTP, other methods and paths that climb', async () => {
    const authorization = `Basic ${Buffer.from(`t:${(await url({ scopes: ['git:write'] })).token}`).toString('base64')}`
    const status = async (path: string, method = 'GET') => (await fetch(`${storage.server.url}${path}`, { method, headers: { authorization } })).status
    expect(await status('/acme/web+import.git/info/refs?service=git-upload-pack')).toBe(403)
    expect(await status('/acme/web.git/HEAD')).toBe(404)
    expect(await status('/acme/web.git/objects/info/packs')).toBe(404)
    expect(await status('/acme/web.git/info/refs')).toBe(404)
    expect(await status('/acme/web.git/git-upload-pack')).toBe(404)
    expect(await status('/acme%2F..%2Fweb.git/info/refs?service=git-upload-pack')).toBe(403)
    expect(await status('/%E0%A4%A.git/info/refs?service=git-upload-pack')).toBe(404)
    expect(await status('/acme/web.git/info/refs?service=git-upload-pack')).toBe(200)
  })

  it('changes through the API that the policies forbid', async () => {
    const { token } = await url({ scopes: ['git:write'], refs: [['fix/*', ['no-force-push']], ['*', ['no-push']]] })
    const call = (method: string, path: string, body: unknown) =>
      fetch(`${storage.server.apiUrl}/api/v1/${path}`, { method, headers: { authorization: `Bearer ${token}` }, body: JSON.stringify(body) })
    const allowed = await call('POST', 'repos/branches/create', { base_ref: 'main', target_branch: 'fix/a' })
    expect(allowed.status).toBe(200)
    const denied = await call('POST', 'repos/branches/create', { base_ref: 'main', target_branch: 'other' })
    expect(denied.status).toBe(403)
    expect(await denied.json()).toEqual({ error: 'denied by policy: refs/heads/other (no-push)' })
    expect((await call('POST', 'repos/merge', { source_branch: 'fix/a', target_branch: 'main', strategy: 'ff_only' })).status).toBe(403)
    expect((await call('DELETE', 'repos/branches', { name: 'fix/a' })).status).toBe(403)
  })

  it('whatever a write token of a job that got away is tried for, but its own branch', async () => {
    const { token, ...access } = await storage.host.writeAccess('acme/web', { branch: 'agent/leaked' })
    const author = { name: 'A', email: 'a@example.invalid' }
    const head = await gitOk(work, 'rev-parse', 'main')
    const call = async (method: string, path: string, body: object, lines: readonly object[] = []) => {
      const text = lines.length === 0 ? JSON.stringify(body) : [{ metadata: body }, ...lines].map((line) => `${JSON.stringify(line)}\n`).join('')
      return (await fetch(`${storage.server.apiUrl}/api/v1/${path}`, { method, headers: { authorization: `Bearer ${token}` }, body: text })).status
    }
    const commit = (target: string, more: object = {}) => ({ target_branch: target, base_branch: 'main', commit_message: 'm', author, files: [{ path: 'x', content_id: 'c' }], ...more })
    const content = [{ blob_chunk: { content_id: 'c', data: 'eA==', eof: true } }]
    expect(
      Object.fromEntries(
        await Promise.all(
          [
            ['another branch', call('POST', 'repos/branches/create', { base_ref: 'main', target_branch: 'agent/other', target_is_ephemeral: true })],
            ['main by a merge', call('POST', 'repos/merge', { source_branch: 'main', target_branch: 'main', strategy: 'ff_only' })],
            ['main by a commit', call('POST', 'repos/commit-pack', commit('main'), content)],
            ['main by a restore', call('POST', 'repos/restore-commit', { metadata: { ...commit('main'), target_commit_sha: head } })],
            ['a tag', call('POST', 'repos/tags', { name: 'v9', target: head })],
            ['a note', call('POST', 'repos/notes', { sha: head, note: 'n' })],
            ['a repository', call('POST', 'repos', {})],
            ['the repository’s end', call('DELETE', 'repos/delete', {})],
            ['a credential', call('POST', 'repos/git-credentials', { repo_id: 'acme/web', password: 'x' })],
          ].map(async ([what, status]) => [what, await status] as const),
        ),
      ),
    ).toEqual(Object.fromEntries(['another branch', 'main by a merge', 'main by a commit', 'main by a restore', 'a tag', 'a note', 'a repository', 'the repository’s end', 'a credential'].map((what) => [what, 403])))
    const remote = withToken({ ...access, token })
    for (const ref of ['refs/heads/agent/other', 'refs/tags/v9', 'refs/notes/commits', 'refs/heads/agent/leaked/below']) {
      expect((await git(work, 'push', remote, `main:${ref}`)).stderr).toContain(`denied by policy: ${ref} (no-push)`)
    }
    // What it reaches, as docs/security.md says: its own branch forward, in the normal namespace too, and all that can be read.
    expect(await call('POST', 'repos/commit-pack', commit('agent/leaked', { ephemeral: true }), content)).toBe(201)
    expect(await call('DELETE', 'repos/branches', { name: 'agent/leaked', ephemeral: true })).toBe(403)
    expect((await git(work, 'push', remote.replace('+ephemeral', ''), 'main:refs/heads/agent/leaked')).code).toBe(0)
    expect((await git(work, 'ls-remote', remote.replace('+ephemeral', ''), 'main')).stdout).toContain(head)
  })

  it('a key that it can’t use', async () => {
    const dataDir = await mkdtemp(join(tmpdir(), 'switchyard-keys-'))
    const { publicKey } = x25519Pair()
    await expect(startCodeStorage({ dataDir, org, publicKeys: ['hunter2'] })).rejects.toThrow(InvalidInputError)
    await expect(startCodeStorage({ dataDir, org, publicKeys: [publicKey] })).rejects.toThrow('publicKeys[0]')
    await rm(dataDir, { recursive: true, maxRetries: 10 })
  })
})

describe('what a host says about a refused token', () => {
  it.each([
    ['expired', { now: () => Date.now() - 3_600_000 }],
    ['signed with a foreign key', { privateKey: generateDevelopmentKeys().privateKey }],
  ])('%s: auth, without the token', async (_what, setting) => {
    const tokens: string[] = []
    const host = new CodeStorageHost({
      org,
      privateKey: storage.privateKey,
      storageUrl: storage.server.url,
      apiUrl: storage.server.apiUrl,
      fetch: (input, init) => {
        tokens.push(new Headers(init?.headers).get('authorization')?.slice('Bearer '.length) ?? '')
        return fetch(input, init)
      },
      ...setting,
    })
    for (const call of [
      () => host.resolve('acme/web', 'main', options),
      () => host.branchHead('acme/web', { name: 'main', ephemeral: false }, options),
      () => host.deleteBranch('acme/web', { name: 'agent/x', ephemeral: true }, options),
    ]) {
      const error = await call().then(() => null, (thrown: unknown) => thrown)
      expect(error).toMatchObject({ name: 'InfrastructureError', kind: 'auth' })
      const shown = JSON.stringify([(error as Error).message, (error as Error).stack, String((error as Error).cause)])
      expect(shown).not.toMatch(/eyJ[\w-]{10}/)
      for (const token of tokens) expect(shown).not.toContain(token)
    }
    expect(tokens.length).toBeGreaterThan(0)
  })

  it('takes tokens of every algorithm whose public key it was given', async () => {
    const dataDir = await mkdtemp(join(tmpdir(), 'switchyard-keys-'))
    const pairs = {
      ES256: generateDevelopmentKeys(),
      RS256: rsaPair(),
      EdDSA: ed25519Pair(),
    }
    const server = await startCodeStorage({ dataDir, org, publicKeys: Object.values(pairs).map((pair) => pair.publicKey) })
    try {
      for (const algorithm of ['ES256', 'RS256', 'EdDSA'] as const) {
        const host = new CodeStorageHost({ org, privateKey: pairs[algorithm].privateKey, algorithm, kid: algorithm, storageUrl: server.url, apiUrl: server.apiUrl })
        expect(await host.client.createRepository(`keys/${algorithm}`, 'main', options)).toBe(true)
        expect(await host.branchHead(`keys/${algorithm}`, { name: 'main', ephemeral: false }, options)).toBeNull()
      }
    } finally {
      await server.close()
      await rm(dataDir, { recursive: true, maxRetries: 10 })
    }
  })
})

describe('job branches', () => {
  it('can’t be forced or deleted, and nothing else can be pushed, with the token that a job gets', async () => {
    const head = await commitFile(work, 'job.txt', 'x\n')
    const access = await storage.host.writeAccess('acme/web', { branch: 'agent/j1' })
    const remote = withToken(access)
    await gitOk(work, 'push', '--quiet', remote, 'HEAD:refs/heads/agent/j1')
    await gitOk(work, 'commit', '--quiet', '--amend', '--message', 'Other')
    for (const [refspec, words] of [
      ['+HEAD:refs/heads/agent/j1', 'no-force-push'],
      [':refs/heads/agent/j1', 'no-force-push'],
      ['HEAD:refs/heads/agent/j10', 'no-push'],
      ['HEAD:refs/heads/main', 'no-push'],
      ['HEAD:refs/tags/v9', 'no-push'],
    ] as const) {
      const pushed = await git(work, 'push', remote, refspec)
      expect([refspec, pushed.code]).toEqual([refspec, 1])
      expect(pushed.stderr).toContain('denied by policy')
      expect(pushed.stderr).toContain(words)
    }
    // The token is for the repository, so it also opens the normal namespace: there, too, only that one branch.
    expect((await git(work, 'push', remote.replace('+ephemeral', ''), '+HEAD:refs/heads/main')).stderr).toContain('denied by policy')
    expect(await storage.host.branchHead('acme/web', { name: 'agent/j1', ephemeral: true }, options)).toBe(head)
  })
})
