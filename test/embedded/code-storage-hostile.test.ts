import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { request as httpsRequest } from 'node:https'
import { connect } from 'node:net'
import { readFileSync } from 'node:fs'
import { randomBytes } from 'node:crypto'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { codeStorageApi } from '../../src/embedded/code-storage/api.js'
import { generateDevelopmentKeys, startCodeStorage } from '../../src/embedded/index.js'
import { CodeStorageHost, TokenMinter } from '../../src/git/index.js'
import type { TokenScope } from '../../src/git/mint.js'
import { commitFile, git, gitOk, localStorage, org, withToken, workTree, type LocalStorage } from '../git/local-storage.js'
import fc from '../seeded-fast-check.js'
import { tries, whole as wholeKind } from '../whole.js'

const options = { timeoutMs: 20_000 }
const id = 'acme/hostile'
const author = { name: 'A', email: 'a@example.invalid' }
/** By a longer command: SWITCHYARD_FUZZ_RUNS=10000 npx vitest run test/embedded/code-storage-hostile.test.ts */
const numRuns = Number(process.env['SWITCHYARD_FUZZ_RUNS'] ?? tries(500))

let storage: LocalStorage
let work: string
let head: string
beforeAll(async () => {
  storage = await localStorage()
  await storage.host.client.createRepository(id, 'main', options)
  work = await workTree(storage.folder, 'work')
  head = await commitFile(work, 'file.txt', 'one\ntwo\n')
  const url = storage.url(await storage.sdk.repo({ id }).getRemoteURL({ ttl: 600 }))
  await gitOk(work, 'push', '--quiet', url, 'main', 'main:feature', 'main:refs/tags/v1')
  await gitOk(work, 'push', '--quiet', storage.url(await storage.sdk.repo({ id }).getEphemeralRemoteURL({ ttl: 600 })), 'main:agent')
})
afterAll(() => storage.close())

async function token(scopes: readonly TokenScope[], repository = id): Promise<string> {
  return (await new TokenMinter({ org, privateKey: storage.privateKey }).mint({ repository, scopes, ttlSeconds: 3600 })).token
}

const nothingLogged = () => expect(storage.log.filter((line) => !line.includes('one machine'))).toEqual([])

interface Sample {
  readonly query?: Readonly<Record<string, string>>
  /** Of a call that streams, its metadata. */
  readonly body?: Readonly<Record<string, unknown>>
}
const commitFields = () => ({ target_branch: 'feature', commit_message: 'm', author, committer: author, base_branch: 'main' })
/** A call that is in order for each route: what is made hostile of it reaches further than noise would. */
const samples: Record<string, () => Sample> = {
  'POST /repositories': () => ({ body: { default_branch: 'main', base_repo: { provider: 'code', name: id, ref: 'main', sha: head, auth: { token: 'x' } } } }),
  'GET /repositories': () => ({ query: { limit: '1', cursor: 'a', q: 'a' } }),
  'GET /repository': () => ({}),
  'DELETE /repository': () => ({}),
  'POST /repository/branches/create': () => ({ body: { base_ref: 'main', target_branch: 'feature', force: true } }),
  'GET /repository/branches': () => ({ query: { limit: '2', cursor: 'a', ephemeral: 'true' } }),
  'GET /repository/branch': () => ({ query: { name: 'main' } }),
  'DELETE /repository/branches': () => ({ body: { target_branch: 'none', ephemeral: true } }),
  'GET /repository/tags': () => ({ query: { limit: '2', cursor: 'a' } }),
  'GET /repository/tag': () => ({ query: { name: 'v1' } }),
  'POST /repository/tags': () => ({ body: { name: 'v1', ref: head } }),
  'DELETE /repository/tags': () => ({ body: { name: 'none' } }),
  'DELETE /repository/tags/:name': () => ({}),
  'POST /repository/merge': () => ({
    body: { source_ref: 'agent', source_is_ephemeral: true, target_branch: 'feature', strategy: 'merge', commit_message: 'm', author, committer: author, squash: false },
  }),
  'GET /repository/merge/preview': () => ({ query: { source_branch: 'feature', target_branch: 'main', include_content: 'true' } }),
  'GET /repository/commits': () => ({ query: { ref: 'main', limit: '1', path: 'file.txt', cursor: `${head}:1` } }),
  'GET /repository/commit': () => ({ query: { ref: head } }),
  'GET /repository/diff': () => ({ query: { ref: 'main', base_ref: 'main~1', git_apply_compatible: 'true', path: 'file.txt' } }),
  'GET /repository/branches/diff': () => ({ query: { branch: 'feature', base: 'main', path: 'file.txt' } }),
  'GET /repository/files': () => ({ query: { ref: 'main', path: '', limit: '1', cursor: 'a', recursive: 'false' } }),
  'GET /repository/files/metadata': () => ({ query: { ref: 'main', limit: '1', cursor: 'a' } }),
  'GET /repository/file': () => ({ query: { path: 'file.txt', ref: 'main' } }),
  'POST /repository/commit-pack': () => ({ body: { ...commitFields(), files: [{ path: 'x/y', content_id: 'c', mode: '100644' }, { path: 'file.txt', operation: 'delete' }] } }),
  'POST /repository/diff-commit': () => ({ body: commitFields() }),
  'POST /repository/restore-commit': () => ({ body: { metadata: { ...commitFields(), base_ref: 'main~1' } } }),
  'GET /repository/notes': () => ({ query: { object_ref: head, notes_ref: 'reviews' } }),
  'GET /repository/notes/refs': () => ({ query: { prefix: 'r', cursor: 'a', limit: '1' } }),
  'POST /repository/notes': () => ({ body: { object_ref: head, note: 'n', action: 'append', notes_ref: 'r', author } }),
  'DELETE /repository/notes': () => ({ body: { object_ref: head, notes_ref: 'r', author } }),
  'GET /repository/blame': () => ({ query: { path: 'file.txt', ref: 'main', range: '1,2', detect_moves: 'true' } }),
  'POST /repository/grep': () => ({
    body: { ref: 'main', query: { pattern: 'o' }, paths: ['file.txt'], file_filters: { include_globs: ['*'], exclude_globs: ['x'] }, context: { before: 1 }, limits: { max_lines: 1 }, pagination: { limit: 1, cursor: 'a' } },
  }),
  'POST /repository/archive': () => ({ body: { ref: 'main', include_globs: ['*'], exclude_globs: ['x'], max_blob_size: 100, archive: { prefix: 'a/' } } }),
  'POST /repository/pull-upstream': () => ({ body: { ref: 'main' } }),
  'DELETE /repository/base': () => ({}),
  'POST /repository/git-credentials': () => ({ body: { repo_id: id, username: 'u', password: 'p' } }),
  'PUT /repository/git-credentials': () => ({ body: { id: 'x', password: 'p' } }),
  'PUT /repository/git-credentials/:id': () => ({ body: { password: 'p' } }),
  'DELETE /repository/git-credentials': () => ({ body: { id: 'x' } }),
  'DELETE /repository/git-credentials/:id': () => ({}),
}
const streamed = ['POST /repository/commit-pack', 'POST /repository/diff-commit']

const awkward = [
  '', '\0', 'a\0b', '..', '../../etc/passwd', '-x', '--all', '--output=/tmp/x', 'refs/heads/main', 'refs/namespaces/ephemeral/refs/heads/agent', 'main~99999999', 'main^{/a}', 'main@{1}', ':/x', 'main:file.txt',
  'HEAD', '@', ':(exclude)*', ':(attr:x)', ':!*', '*', '/', 'a//b', '.git/config', 'x.lock', 'a'.repeat(5000), 'é'.repeat(300), '\ud800', '\u2028', '%', '%ff', '%00', '$(id)', '`id`', "'", '"', '\\', '\n', '\r\n', '\t',
  '<>', 'true', 'null', '0', '-1', '1.5', '1e309', '99999999999999999999', 'NaN', '0x10', '[', '{', '(', 'x{1,200}{1,200}{1,200}', '/x/,+99999999999', ':^x', '1,', ',1', '0,0', '__proto__', 'constructor',
]
const hostileText = fc.oneof(fc.constantFrom(...awkward), fc.string({ unit: 'binary', maxLength: 40 }), fc.string({ unit: fc.integer({ min: 0, max: 255 }).map((byte) => String.fromCharCode(byte)), maxLength: 20 }))
const hostileValue: fc.Arbitrary<unknown> = fc.oneof(
  hostileText,
  fc.constantFrom<unknown>(null, true, false, 0, -1, 1.5, 1e300, -1e300, Number.MAX_SAFE_INTEGER, [], {}, [[]], [null], { name: null }),
  fc.array(hostileText, { maxLength: 3 }),
  fc.dictionary(hostileText, hostileText, { maxKeys: 3 }),
)

/** Another value in the place of one of the fields, at any depth; or in a new field. */
function altered(value: unknown, where: readonly number[], hostile: unknown, depth = 0): unknown {
  const index = where[depth] ?? 0
  if (depth >= where.length || typeof value !== 'object' || value === null) return hostile
  if (Array.isArray(value)) return value.length === 0 ? [hostile] : value.map((item, at) => (at === index % value.length ? altered(item, where, hostile, depth + 1) : (item as unknown)))
  const entries = Object.entries(value)
  const at = index % (entries.length + 1)
  if (at === entries.length) return { ...value, extra: hostile }
  return Object.fromEntries(entries.map(([name, item], position) => [name, position === at ? altered(item, where, hostile, depth + 1) : (item as unknown)]))
}

const routes = [...new Set(codeStorageApi({} as never).routes.map(({ method, path }) => `${method} ${path}`))].filter((route) => !route.startsWith('ALL '))

/** Once in so many calls. */
const seldom = <Value>(one: number, arbitrary: fc.Arbitrary<Value>) => fc.oneof({ weight: one - 1, arbitrary: fc.constant(null) }, { weight: 1, arbitrary })

/** Where a route is asked for, at the older or at the current address. */
function address(path: string, current: boolean, param: string): string {
  const named = path.replace(/:\w+$/, encodeURIComponent(Buffer.from(param).toString()))
  if (named === '/repositories') return current ? '/api/repos' : '/api/v1/repos'
  const rest = named.slice('/repository'.length)
  if (current) return `/api/repos/${encodeURIComponent(id)}${rest}`
  return rest === '' ? '/api/v1/repo' : `/api/v1/repos${rest}`
}

function bodyText(route: string, body: unknown): string {
  const text = JSON.stringify(body)
  if (!streamed.includes(route)) return text
  const diff = 'diff --git a/n b/n\nnew file mode 100644\n--- /dev/null\n+++ b/n\n@@ -0,0 +1 @@\n+x\n'
  const chunk = { data: Buffer.from(diff).toString('base64'), eof: true }
  return `${JSON.stringify({ metadata: body })}\n${JSON.stringify(route.includes('diff') ? { diff_chunk: chunk } : { blob_chunk: { content_id: 'c', ...chunk } })}\n`
}

describe('the API under hostile calls', () => {
  it('has a sample for every route', () => {
    expect(Object.keys(samples).sort()).toEqual([...routes].sort())
  })

  it(`answers ${numRuns} altered calls with what is wrong, and never with a fault of its own`, async () => {
    const write = await token(['git:read', 'git:write', 'org:read', 'repo:write'])
    const careful = await token(['git:read', 'git:write'])
    const call = fc.record({
      route: fc.constantFrom(...routes),
      current: fc.boolean(),
      method: seldom(12, fc.constantFrom('GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS')),
      param: hostileText,
      where: fc.array(fc.nat(9), { minLength: 1, maxLength: 3 }),
      value: hostileValue,
      queryField: fc.nat(9),
      queryValue: seldom(2, hostileText),
      raw: seldom(15, fc.string({ unit: 'binary', maxLength: 30 })),
      header: seldom(6, fc.constantFrom<[string, string]>(['range', 'bytes=-'], ['range', 'bytes=99999999999999999999-'], ['if-range', 'x'], ['if-modified-since', 'x'], ['content-type', 'x/\u00ff'], ['content-encoding', 'gzip'])),
      whole: fc.boolean(),
    })
    await fc.assert(
      fc.asyncProperty(call, async ({ route, current, method, param, where, value, queryField, queryValue, raw, header, whole }) => {
        const [usual = '', path = ''] = route.split(' ')
        const sample = samples[route]!()
        const verb = method ?? usual
        const query = new URLSearchParams(sample.query)
        const names = [...Object.keys(sample.query ?? {}), 'extra']
        if (queryValue !== null) query.set(names[queryField % names.length]!, queryValue)
        const body = raw ?? bodyText(route, whole && queryValue !== null ? (sample.body ?? {}) : altered(sample.body ?? {}, where, value))
        const answer = await fetch(`${storage.server.apiUrl}${address(path, current, param)}?${query.toString()}`, {
          method: verb,
          // The repository itself has to stay.
          headers: { authorization: `Bearer ${path === '/repository' ? careful : write}`, ...(header === null ? {} : { [header[0]]: header[1] }) },
          ...(verb === 'GET' || verb === 'HEAD' ? {} : { body }),
        })
        const text = await answer.text()
        expect([answer.status < 500 || answer.status === 501, storage.log.slice(1)]).toEqual([true, []])
        if (answer.status >= 400 && ![412, 416].includes(answer.status) && verb !== 'HEAD') {
          const { error } = JSON.parse(text) as { error?: unknown }
          const result = (JSON.parse(text) as { result?: { message?: unknown } }).result
          expect(typeof (error ?? result?.message)).toBe('string')
        }
      }),
      { numRuns, endOnFailure: true },
    )
    expect((await storage.sdk.repo({ id }).getCommit({ sha: 'main' })).commit.sha).toBe(head)
  }, 600_000)

  it.each(['id', 'ref', 'path', 'branch'] as const)('takes or refuses every byte in an %s', async (what) => {
    // Of letters and digits, which mean nothing anywhere, CI takes one of each kind.
    const bytes = [...Array.from({ length: 128 }, (_, byte) => byte).filter((byte) => wholeKind || !/[1-9B-Zb-z]/.test(String.fromCharCode(byte))), 0x80, 0xc3, 0xff]
    const own = await token(['git:read', 'git:write', 'repo:write'])
    for (const byte of bytes) {
      const text = `z${String.fromCharCode(byte)}z`
      const hex = `z%${byte.toString(16).padStart(2, '0')}z`
      const authorization = `Bearer ${what === 'id' ? await token(['repo:write'], text) : own}`
      const answers =
        what === 'id'
          ? [
              await fetch(`${storage.server.apiUrl}/api/repos/${hex}`, { headers: { authorization } }),
              await fetch(`${storage.server.url}/${hex}.git/info/refs?service=git-upload-pack`, { headers: { authorization: `Basic ${Buffer.from(`t:${own}`).toString('base64')}` } }),
              ...(byte < 48 || byte > 122 ? [await fetch(`${storage.server.apiUrl}/api/v1/repos`, { method: 'POST', headers: { authorization }, body: '{}' })] : []),
            ]
          : what === 'branch'
            ? [await fetch(`${storage.server.apiUrl}/api/v1/repos/branches`, { method: 'DELETE', headers: { authorization }, body: JSON.stringify({ name: text }) })]
            : [await fetch(`${storage.server.apiUrl}/api/v1/repos/file?${what === 'ref' ? `path=file.txt&ref=${hex}` : `path=${hex}`}`, { headers: { authorization } })]
      for (const answer of answers) {
        await answer.arrayBuffer()
        expect([what, byte, answer.status < 500]).toEqual([what, byte, true])
      }
    }
    nothingLogged()
  }, 60_000)

  it('reads no more than a MiB of a body, and streams a commit', async () => {
    const authorization = `Bearer ${await token(['git:read', 'git:write', 'repo:write'])}`
    const long = JSON.stringify({ extra: 'x'.repeat(1024 * 1024 + 1) })
    for (const route of routes.filter((name) => !name.startsWith('GET') && !streamed.includes(name))) {
      const [method = '', path = ''] = route.split(' ')
      // Those that read no body let it pass.
      if (method === 'DELETE' && (path.includes('/:') || path === '/repository' || path === '/repository/base')) continue
      const answer = await fetch(`${storage.server.apiUrl}${address(path, true, 'x')}`, { method, headers: { authorization }, body: long })
      await answer.arrayBuffer()
      expect([route, answer.status]).toEqual([route, 413])
    }
    const line = await fetch(`${storage.server.apiUrl}/api/v1/repos/commit-pack`, { method: 'POST', headers: { authorization }, body: 'x'.repeat(8 * 1024 * 1024) })
    expect(line.status).toBe(413)
    const more = await storage.sdk.repo({ id }).createCommit({ targetBranch: 'large', baseBranch: 'main', commitMessage: 'Large', author }).addFile('large', Buffer.alloc(20 * 1024 * 1024)).send()
    expect(more.packBytes).toBe(20 * 1024 * 1024)
    nothingLogged()
  })
})

describe('git’s doors under hostile calls', () => {
  /** A request as it stands: no client would send some of these. */
  async function raw(line: string, headers: string): Promise<number> {
    const { hostname, port } = new URL(storage.server.url)
    return new Promise((resolve, reject) => {
      const socket = connect(Number(port), hostname, () => socket.write(Buffer.from(`${line}\r\nHost: x\r\nConnection: close\r\n${headers}\r\n`, 'latin1')))
      let text = ''
      socket.setEncoding('latin1').on('data', (piece: string) => (text += piece))
      socket.once('error', reject)
      socket.once('close', () => resolve(Number(/^HTTP\/1\.1 (\d{3})/.exec(text)?.[1] ?? 0)))
    })
  }

  it('never fails for an address', async () => {
    const basic = `Authorization: Basic ${Buffer.from(`t:${await token(['git:read'])}`).toString('base64')}\r\n`
    const part = fc.oneof(
      fc.constantFrom('/acme/hostile', '.git', '+ephemeral', '+import', '/info/refs', '?service=git-upload-pack', '&service=git-receive-pack', '/git-upload-pack', '/info/lfs/', 'objects/batch', 'locks', '..', '%2f', '%', '%ff', '%00', '/api/', 'v1/repos', '//', '#', '?'),
      fc.integer({ min: 33, max: 255 }).map((byte) => String.fromCharCode(byte)),
    )
    await fc.assert(
      fc.asyncProperty(fc.constantFrom('GET', 'POST', 'PUT', 'DELETE', 'TRACE'), fc.array(part, { maxLength: 8 }), async (method, parts) => {
        const status = await raw(`${method} /${parts.join('')} HTTP/1.1`, basic)
        expect([status < 500 || status === 501, storage.log.slice(1)]).toEqual([true, []])
      }),
      { numRuns: Math.max(100, numRuns / 5), endOnFailure: true },
    )
  }, 600_000)

  it('looks at the first value of a repeated parameter, and at no other', async () => {
    const authorization = `Basic ${Buffer.from(`t:${await token(['git:read'])}`).toString('base64')}`
    const refs = await fetch(`${storage.server.url}/${id}.git/info/refs?service=git-upload-pack&service=git-receive-pack`, { headers: { authorization } })
    expect(refs.headers.get('content-type')).toBe('application/x-git-upload-pack-advertisement')
    expect((await fetch(`${storage.server.url}/${id}.git/info/refs?service=git-receive-pack&service=git-upload-pack`, { headers: { authorization } })).status).toBe(403)
    const bearer = { authorization: `Bearer ${await token(['git:read'])}` }
    const file = await fetch(`${storage.server.apiUrl}/api/v1/repos/file?path=file.txt&path=README.md&__proto__=x`, { headers: bearer })
    expect(await file.text()).toBe('one\ntwo\n')
    expect((await fetch(`${storage.server.apiUrl}/api/v1/repos/commits?limit=1&limit=x`, { headers: bearer })).status).toBe(200)
  })

  it.each(['file', 'blame'])('takes a path of slashes alone for no file of the repository (%s)', async (route) => {
    const answer = await fetch(`${storage.server.apiUrl}/api/v1/repos/${route}?path=//`, { headers: { authorization: `Bearer ${await token(['git:read'])}` } })
    expect([answer.status, await answer.text()]).toEqual([404, expect.stringContaining('is not a file')])
    nothingLogged()
  })

  it('refuses a push of objects that would hurt who clones them', async () => {
    const blob = await gitOk(work, 'rev-parse', 'HEAD:file.txt')
    const entry = Buffer.concat([Buffer.from('100644 .git\0'), Buffer.from(blob, 'hex')])
    await writeFile(join(work, '.git', 'tree'), entry)
    const tree = await gitOk(work, 'hash-object', '-t', 'tree', '-w', '--literally', join(work, '.git', 'tree'))
    const commit = await gitOk(work, 'commit-tree', tree, '-p', head, '-m', 'Trap')
    const push = await git(work, 'push', storage.url(await storage.sdk.repo({ id }).getRemoteURL({ ttl: 60 })), `${commit}:refs/heads/trap`)
    expect(push.code).not.toBe(0)
    expect(push.stderr).toContain('hasDotgit')
  })

  it.each(['api/server', 'api/v1/repos', 'repos', 'api/repos/x'])('serves a repository that is called "%s"', async (name) => {
    await storage.sdk.createRepo({ id: name })
    const repo = (await storage.sdk.findOne({ id: name }))!
    await gitOk(work, 'push', '--quiet', storage.url(await repo.getRemoteURL({ ttl: 60 })), 'main')
    expect(await gitOk(work, 'ls-remote', storage.url(await repo.getRemoteURL({ ttl: 60 })), 'main')).toContain(head)
    const named = await fetch(`${storage.server.apiUrl}/api/repos/${encodeURIComponent(name)}/branches`, { headers: { authorization: `Bearer ${await token(['git:read'], name)}` } })
    expect(await named.json()).toMatchObject({ branches: [{ name: 'main', head_sha: head }] })
    const other = await fetch(`${storage.server.apiUrl}/api/repos/${encodeURIComponent(name)}/branches`, { headers: { authorization: `Bearer ${await token(['git:read'])}` } })
    expect(other.status).toBe(403)
  })
})

describe('a server that starts again', () => {
  it('removes what a push that was killed left behind', async () => {
    const dataDir = await mkdtemp(join(tmpdir(), 'switchyard-leftovers-'))
    const keys = generateDevelopmentKeys()
    const start = () => startCodeStorage({ dataDir, org, publicKeys: [keys.publicKey] })
    let server = await start()
    const host = (url: string) => new CodeStorageHost({ org, privateKey: keys.privateKey, storageUrl: url, apiUrl: url })
    await host(server.url).client.createRepository('acme/killed', 'main', options)
    const large = await workTree(storage.folder, 'large')
    await writeFile(join(large, 'large'), randomBytes(16 * 1024 * 1024))
    await gitOk(large, 'add', '.')
    await gitOk(large, 'commit', '--quiet', '-m', 'Large')
    const [folder = ''] = (await readdir(join(dataDir, 'repositories'))).filter((name) => name.endsWith('.git'))
    const repository = join(dataDir, 'repositories', folder)
    const left = async () => (await readdir(join(repository, 'objects'))).filter((name) => /^(tmp_|incoming)/.test(name))
    const push = git(large, 'push', withToken(await host(server.url).writeAccess('acme/killed', { branch: 'x' })), 'HEAD:refs/heads/x')
    await expect.poll(left, { timeout: 30_000, interval: 5 }).not.toEqual([])
    // Ends every git of its own at once, as a kill of the machine would.
    await server.close()
    expect((await push).code).not.toBe(0)
    expect(await left()).not.toEqual([])
    for (const name of ['HEAD.lock', 'packed-refs.lock', 'shallow.lock', join('refs', 'heads', 'x.lock'), join('objects', 'pack', 'tmp_pack_a')]) {
      await writeFile(join(repository, name), '')
    }
    server = await start()
    expect(await left()).toEqual([])
    expect((await git(large, 'push', withToken(await host(server.url).writeAccess('acme/killed', { branch: 'x' })), 'HEAD:refs/heads/x')).code).toBe(0)
    await server.close()
    await rm(dataDir, { recursive: true, force: true, maxRetries: 10 })
  })
})

describe('https', () => {
  it('takes the SDK’s URLs as they are, with a certificate that it made', async () => {
    const dataDir = await mkdtemp(join(tmpdir(), 'switchyard-https-'))
    const keys = generateDevelopmentKeys()
    const start = () => startCodeStorage({ dataDir, org, publicKeys: [keys.publicKey], https: {} })
    let server = await start()
    const host = new CodeStorageHost({ org, privateKey: keys.privateKey, storageUrl: server.url, apiUrl: server.apiUrl })
    await host.client.createRepository('acme/tls', 'main', options)
    const { GitStorage } = await import('@pierre/storage')
    const url = () => new GitStorage({ name: org, key: keys.privateKey, storageBaseUrl: server.https!.url.replace('https://', '') }).repo({ id: 'acme/tls' }).getRemoteURL({ ttl: 60 })
    expect(await url()).toMatch(/^https:/)
    const trust = ['-c', `http.sslCAInfo=${server.https!.certificateFile}`]
    expect((await git(work, 'push', await url(), 'main')).stderr).toMatch(/certificate/)
    await gitOk(work, ...trust, 'push', '--quiet', await url(), 'main')
    expect(await gitOk(work, ...trust, 'ls-remote', await url(), 'main')).toContain(head)
    const { token: bearer } = await new TokenMinter({ org, privateKey: keys.privateKey }).mint({ repository: 'acme/tls', scopes: ['git:read'] })
    const ask = () =>
      new Promise<number>((resolve, reject) => {
        const call = httpsRequest(`${server.https!.url}/api/repos/acme%2Ftls`, { ca: readFileSync(server.https!.certificateFile), headers: { authorization: `Bearer ${bearer}` } }, (answer) => {
          answer.resume()
          resolve(answer.statusCode ?? 0)
        })
        call.once('error', reject).end()
      })
    expect(await ask()).toBe(200)
    const before = readFileSync(server.https!.certificateFile, 'utf8')
    await server.close()
    // The certificate stays, so that who trusts it goes on.
    server = await start()
    expect(readFileSync(server.https!.certificateFile, 'utf8')).toBe(before)
    expect(await ask()).toBe(200)
    await server.close()
    await rm(dataDir, { recursive: true, force: true, maxRetries: 10 })
  })
})
