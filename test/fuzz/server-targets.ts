import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { request } from 'node:http'
import fc from 'fast-check'
import { Queue } from 'bullmq'
import { Redis } from 'ioredis'
import { startRedis } from '../../src/embedded/index.js'
import { TokenMinter } from '../../src/git/index.js'
import { startBoard } from '../../src/monitor/board.js'
import { gitOk, localStorage, org, withToken, workTree } from '../git/local-storage.js'
import { jsonText, mutated, mutatedBytes, oddJson, oddText } from './arbitraries.js'
import { target } from './harness.js'

/** What is read by the servers that Switchyard starts: the board and the local Code Storage, over real connections. */

interface Sent {
  readonly method: string
  readonly path: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: Buffer | string | undefined
}

/** @returns the status, or null when the connection was ended without an answer. */
async function send(base: string, { method, path, headers = {}, body }: Sent): Promise<{ readonly status: number | null; readonly text: string }> {
  const { hostname, port } = new URL(base)
  return new Promise((resolve, reject) => {
    const asked = request({ host: hostname, port, method, path: asciiPath(path), headers: { ...headers, ...(body === undefined ? {} : { 'content-length': Buffer.byteLength(body) }) } }, (response) => {
      let text = ''
      response.setEncoding('utf8').on('data', (piece: string) => {
        if (text.length < 4_000) text += piece
      })
      response.once('end', () => resolve({ status: response.statusCode ?? null, text }))
      response.once('error', () => resolve({ status: response.statusCode ?? null, text }))
    })
    asked.setTimeout(50_000, () => asked.destroy(new Error(`no answer to ${method} ${path.slice(0, 200)}`)))
    asked.once('error', (error: NodeJS.ErrnoException) => (['ECONNRESET', 'EPIPE'].includes(error.code ?? '') ? resolve({ status: null, text: '' }) : reject(error)))
    asked.end(body)
  })
}

/** What a client can put on a request line at all. */
const asciiPath = (path: string) => path.replace(/[^\x21-\xff]/gu, (character) => encodeURIComponent(character.replace(/\p{Cs}/u, '?'))).replace(/[\x7f-\xff]/g, '%ff')

function refuseServerErrors(sent: Sent, { status, text }: { readonly status: number | null; readonly text: string }): void {
  if (status !== null && status >= 500 && status !== 501) throw new Error(`${sent.method} ${sent.path.slice(0, 300)} ${String(sent.body ?? '').slice(0, 500)} is answered ${status}: ${text.slice(0, 300)}`)
}

const query = (names: readonly string[], value: fc.Arbitrary<string>) =>
  fc.array(fc.tuple(fc.constantFrom(...names), value), { maxLength: 4 }).map((pairs) => (pairs.length === 0 ? '' : `?${pairs.map(([name, text]) => `${name}=${encodeURIComponent(text.replace(/\p{Cs}/gu, '?'))}`).join('&')}`))

export const codeStorageApi = target('Code Storage API', async () => {
  const storage = await localStorage()
  await storage.host.client.createRepository('acme/web', 'main', { timeoutMs: 20_000 })
  const work = await workTree(storage.folder, 'work')
  await gitOk(work, 'push', '--quiet', storage.url(await storage.sdk.repo({ id: 'acme/web' }).getRemoteURL({ ttl: 600 })), 'main')
  const head = await gitOk(work, 'rev-parse', 'HEAD')
  const minter = new TokenMinter({ org, privateKey: storage.privateKey })
  const tokenFor = async (repository: string) => (await minter.mint({ repository, scopes: ['git:read', 'git:write', 'repo:write', 'org:read'], ttlSeconds: 86_400 })).token
  const token = await tokenFor('acme/web')
  const value = fc.oneof({ weight: 3, arbitrary: fc.constantFrom('main', head, head.slice(0, 8), 'README.md', 'true', 'false', '10', 'agent/x') }, { weight: 2, arbitrary: oddText })
  const bodies = mutated(
    fc.constantFrom<unknown>(
      { base_branch: 'main', target_branch: 'agent/x', target_is_ephemeral: true },
      { name: 'agent/x', ephemeral: true },
      { source_branch: 'main', target_branch: 'agent/x', strategy: 'merge', author: { name: 'a', email: 'a@b' }, commit_message: 'm', expected_target_sha: head },
      { default_branch: 'main' },
      { query: { pattern: 'Hel+o', case_sensitive: false }, ref: 'main', paths: ['README.md'], context: { before: 1 }, limits: { max_lines: 10 }, file_filters: { include_globs: ['*.md'], extension_filters: ['md'] } },
      { object_ref: 'main', note: 'n', action: 'add', notes_ref: 'commits', author: { name: 'a', email: 'a@b' } },
      { ref: 'main', include_globs: ['*'], exclude_globs: ['x'], max_blob_size: 10, archive: { prefix: 'p/' } },
      { name: 'v1', target: 'main', message: 'm', tagger: { name: 'a', email: 'a@b' } },
      { metadata: { target_branch: 'agent/x', commit_message: 'm', author: { name: 'a', email: 'a@b' }, files: [{ path: 'a.txt', operation: 'upsert', content_id: 'c' }] } },
      { target_branch: 'agent/x', base_ref: head, author: { name: 'a', email: 'a@b' } },
      { username: 'u', password: 'p', url: 'https://example.com/x.git' },
      { operation: 'download', transfers: ['basic'], objects: [{ oid: 'b'.repeat(64), size: 3 }] },
    ),
  )
  const below = ['', '/archive', '/blame', '/branches', '/branches/create', '/branches/diff', '/branch', '/commit', '/commit-pack', '/commits', '/diff', '/diff-commit', '/file', '/files', '/files/metadata', '/git-credentials', '/git-credentials/x', '/grep', '/merge', '/merge/preview', '/notes', '/notes/refs', '/restore-commit', '/tag', '/tags', '/tags/v1']
  const paths = below.flatMap((rest) => [`/api/v1/repos${rest}`, `/api/repos/acme%2Fweb${rest}`])
  const before = (await readdir(join(storage.folder, 'data'))).sort()
  return {
    inputs: fc.record({
      method: fc.constantFrom('GET', 'POST', 'GET', 'DELETE', 'PUT', 'PATCH'),
      path: fc.oneof(
        { weight: 8, arbitrary: fc.constantFrom('/api/repos', '/api/v1/repo', ...paths, ...paths) },
        { weight: 1, arbitrary: oddText.map((text) => `/api/repos/${text}`) },
        { weight: 2, arbitrary: fc.tuple(fc.constantFrom('acme/web', 'acme/web+ephemeral'), fc.constantFrom('objects/batch', 'locks', `objects/${'b'.repeat(64)}`, `objects/${'b'.repeat(64)}/verify`)).map(([id, rest]) => `/${id}.git/info/lfs/${rest}`) },
      ),
      query: query(['ref', 'path', 'branch', 'base', 'sha', 'baseSha', 'limit', 'cursor', 'q', 'ephemeral', 'ephemeral_base', 'source_branch', 'target_branch', 'include_content', 'rev', 'notes_ref', 'object_ref', 'prefix', 'name'], value),
      body: fc.option(jsonText(bodies), { nil: undefined }),
      who: fc.oneof({ weight: 10, arbitrary: fc.constant(null) }, { weight: 1, arbitrary: oddText }),
    }),
    async check({ method, path, query: asked, body, who }) {
      const used = who === null ? token : await tokenFor(who).catch(() => 'none')
      const lfs = path.includes('/info/lfs/')
      const authorization = lfs ? `Basic ${Buffer.from(`t:${used}`).toString('base64')}` : `Bearer ${used}`
      const sent: Sent = { method, path: `${path}${asked}`, headers: { authorization, 'content-type': lfs ? 'application/vnd.git-lfs+json' : 'application/json' }, body: method === 'GET' ? undefined : body }
      // A repository that an input has deleted would leave nothing to ask; and no other host is asked anything.
      if ((method === 'DELETE' && /(\/|%2F)(web|repo|repos)$/.test(path)) || path.endsWith('/pull-upstream')) return
      refuseServerErrors(sent, await send(storage.server.url, sent))
    },
    async close() {
      const after = (await readdir(join(storage.folder, 'data'))).sort()
      const head2 = await gitOk(work, 'ls-remote', withToken({ url: `${storage.server.url}/acme/web.git`, username: 't', token, expiresAtMs: 0 }), 'refs/heads/main')
      await storage.close()
      if (after.join() !== before.join()) throw new Error(`files beside the repositories: ${after.join()}`)
      if (head2 === '') throw new Error('the repository’s main is gone')
    },
  }
})

/** A line of git's protocol: four hexadecimal digits of its length, and then its bytes. */
const line = (text: string | Buffer) => Buffer.concat([Buffer.from((Buffer.byteLength(text) + 4).toString(16).padStart(4, '0')), Buffer.from(text)])
const flush = Buffer.from('0000')

export const gitProtocol = target('pkt-lines', async () => {
  const storage = await localStorage()
  await storage.host.client.createRepository('acme/web', 'main', { timeoutMs: 20_000 })
  const work = await workTree(storage.folder, 'work')
  await gitOk(work, 'push', '--quiet', storage.url(await storage.sdk.repo({ id: 'acme/web' }).getRemoteURL({ ttl: 600 })), 'main')
  const head = await gitOk(work, 'rev-parse', 'HEAD')
  const { token } = await new TokenMinter({ org, privateKey: storage.privateKey }).mint({ repository: 'acme/web', scopes: ['git:write'], ttlSeconds: 86_400 })
  const zero = '0'.repeat(40)
  const emptyPack = Buffer.from('5041434b0000000200000000029d08823bd8a8eab510ad6ac75c823cfd3ed31e', 'hex')
  const sound: readonly (readonly [string, Buffer])[] = [
    ['git-upload-pack', Buffer.concat([line(`want ${head} side-band-64k ofs-delta agent=x\n`), flush, line('done\n')])],
    ['git-upload-pack', Buffer.concat([line(`want ${head} multi_ack shallow\n`), line('deepen 1\n'), line('filter tree:0\n'), flush, line(`have ${head}\n`), line('done\n')])],
    ['git-upload-pack', Buffer.concat([line('command=ls-refs\n'), line('agent=x'), Buffer.from('0001'), line('peel\n'), line('ref-prefix refs/heads/\n'), flush])],
    ['git-receive-pack', Buffer.concat([line(`${zero} ${head} refs/heads/agent/x\0report-status side-band-64k agent=x`), flush, emptyPack])],
    ['git-receive-pack', Buffer.concat([line(`${head} ${zero} refs/heads/agent/x\0 report-status delete-refs`), flush])],
    ['git-receive-pack', Buffer.concat([line(`${zero} ${head} refs/namespaces/ephemeral/refs/heads/../x\0report-status push-options`), flush, line('option'), flush, emptyPack])],
  ]
  return {
    inputs: fc.constantFrom(...sound).chain(([service, body]) => fc.record({ service: fc.constantFrom(service, service, 'info/refs?service=git-upload-pack'), body: mutatedBytes(fc.constant(body)), namespace: fc.constantFrom('', '+ephemeral'), version: fc.constantFrom('version=2', 'version=1', 'version=99', 'x:y'), encoding: fc.constantFrom('', '', '', 'gzip') })),
    async check({ service, body, namespace, version, encoding }) {
      const headers = {
        authorization: `Basic ${Buffer.from(`t:${token}`).toString('base64')}`,
        'content-type': `application/x-${service}-request`,
        'git-protocol': version,
        ...(encoding === '' ? {} : { 'content-encoding': encoding }),
      }
      const sent: Sent = { method: service.startsWith('info') ? 'GET' : 'POST', path: `/acme/web${namespace}.git/${service}`, headers, body: service.startsWith('info') ? undefined : body }
      const answer = await send(storage.server.url, sent)
      // git itself answers what it can't read with the end of the connection, or by a 500 of its own http-backend.
      if (answer.status === 500 && answer.text.includes('internal error')) refuseServerErrors(sent, answer)
    },
    async close() {
      const refs = await gitOk(work, 'ls-remote', withToken({ url: `${storage.server.url}/acme/web.git`, username: 't', token, expiresAtMs: 0 }))
      const found = await gitOk(work, 'fsck', '--no-progress', '--connectivity-only').catch(String)
      await storage.close()
      if (!refs.includes(`${head}\trefs/heads/main`)) throw new Error(`main has moved: ${refs}`)
      if (found.includes('error')) throw new Error(found)
    },
  }
}, 6)

export const board = target('the board', async () => {
  const server = await startRedis()
  const redis = new Redis({ ...server.connection, maxRetriesPerRequest: 1 })
  const prefix = '{fuzz}'
  const queue = new Queue('agents', { prefix, connection: redis })
  await queue.add('acme/web', { repository: 'acme/web', env: { KEY: 'hunter2' }, steps: [{ name: 'a\u202eb', run: 'x' }] }, { jobId: 'job-a' })
  const queues = [{ name: 'agents', prefix, reasons: () => Promise.resolve(new Map<string, string>()) }]
  const open = { redis, queues, host: '127.0.0.1', port: 0 }
  const [readOnly, writable, locked] = await Promise.all([
    startBoard({ ...open, credentials: 'none' }),
    startBoard({ ...open, credentials: 'none', writable: true }),
    startBoard({ ...open, credentials: { username: 'admin', password: 'right' } }),
  ])
  const boards = { readOnly, writable, locked }
  const state = fc.constantFrom('latest', 'active', 'waiting', 'completed', 'failed', 'delayed', 'prioritized', 'paused')
  const job = fc.oneof(fc.constantFrom('job-a', 'job-b', 'add', 'pause'), oddText.map((text) => encodeURIComponent(text.slice(0, 100).replace(/\p{Cs}/gu, '?'))))
  const path = fc.oneof(
    { weight: 6, arbitrary: fc.tuple(fc.constantFrom('api/queues', 'api/queues/agents', 'api/queues/agents/:job', 'api/queues/agents/:job/logs', 'api/queues/agents/:job/flow', 'api/queues/agents/add', 'api/queues/agents/:job/update-data', 'api/queues/agents/:job/priority', 'api/queues/agents/:job/delay', 'api/queues/agents/:job/retry', 'api/queues/agents/:job/promote', 'api/queues/agents/retry/:state', 'api/queues/agents/clean/:state', 'api/queues/agents/metrics', 'api/queues/agents/concurrency', 'api/queues/agents/rate-limit', 'api/queues/agents/workers', 'api/queues/:job/add', 'api/redis/stats', 'api/job-schedulers', 'api/metrics/history', 'healthz', 'login', ''), job, state).map(([route, id, of]) => `/${route.replace(':job', id).replace(':state', of)}`) },
    { weight: 1, arbitrary: oddText.map((text) => `/${text}`) },
  )
  const bodies = mutated(fc.constantFrom<unknown>({ name: 'acme/web', data: { repository: 'acme/web' }, options: { jobId: 'job-b', delay: 1000 } }, { jobData: { a: 1 } }, { priority: 3 }, { delay: 5 }, { concurrency: 3 }, { max: 1, duration: 1000 }))
  return {
    inputs: fc.record({
      board: fc.constantFrom(...(Object.keys(boards) as (keyof typeof boards)[])),
      method: fc.constantFrom('GET', 'GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'HEAD'),
      path,
      query: query(['activeQueue', 'status', 'page', 'jobsPerPage', 'key', 'from', 'to', 'granularity'], fc.oneof(fc.constantFrom('agents', 'latest', 'failed', '1', '10'), oddText)),
      body: fc.oneof(jsonText(bodies), jsonText(oddJson)),
      type: fc.constantFrom('application/json', 'application/json', 'text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x'),
      cookie: fc.oneof(fc.constant(''), oddText.map((text) => `switchyard_board_${new URL(locked.url).port}=${encodeURIComponent(text.replace(/\p{Cs}/gu, '?'))}`)),
      basic: fc.option(oddText, { nil: undefined }),
    }),
    async check({ board: which, method, path: at, query: asked, body, type, cookie, basic }) {
      const headers = { 'content-type': type, ...(cookie === '' ? {} : { cookie }), ...(basic === undefined ? {} : { authorization: `Basic ${Buffer.from(basic).toString('base64')}` }) }
      const sent: Sent = { method, path: `${at}${asked}`, headers, body: ['GET', 'HEAD', 'OPTIONS'].includes(method) ? undefined : body }
      const answer = await send(boards[which].url, sent)
      refuseServerErrors(sent, answer)
      if (answer.text.includes('hunter2')) throw new Error(`shows what is hidden: ${method} ${at}`)
      const changes = !['GET', 'HEAD', 'OPTIONS'].includes(method)
      if (which === 'readOnly' && changes && answer.status !== null && answer.status < 400) throw new Error(`${method} ${at} of a read-only board is answered ${answer.status}`)
      if (which === 'locked' && answer.status === 200 && !/^\/(healthz|login)\b/.test(at)) throw new Error(`${method} ${at} is answered without a password`)
    },
    async close() {
      const healthy = await Promise.all(Object.values(boards).map(async ({ url }) => (await fetch(new URL('healthz', url))).status))
      await Promise.all(Object.values(boards).map((one) => one.close()))
      await queue.close()
      redis.disconnect()
      await server.close()
      if (healthy.some((status) => status !== 200)) throw new Error(`not all boards are well: ${healthy.join()}`)
    },
  }
})
