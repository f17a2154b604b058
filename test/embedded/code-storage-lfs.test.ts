import { spawnSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { TokenMinter, type MintRequest } from '../../src/git/index.js'
import { git, gitOk, localStorage, org, withToken, workTree, type LocalStorage } from '../git/local-storage.js'

const hasLfs = spawnSync('git', ['lfs', 'version']).status === 0
const maxLfsObjectBytes = 3_000_000
const options = { timeoutMs: 20_000 }
let storage: LocalStorage
beforeAll(async () => {
  storage = await localStorage({ maxLfsObjectBytes })
  await storage.host.client.createRepository('team/web', 'main', options)
  await storage.host.client.createRepository('team/other', 'main', options)
})
afterAll(() => storage.close())

const token = async (request: Partial<MintRequest>, now?: () => number) =>
  (await new TokenMinter({ org, privateKey: storage.privateKey, now }).mint({ repository: 'team/web', scopes: ['git:read'], ttlSeconds: 600, ...request })).token
const reader = () => token({})
const writer = () => token({ scopes: ['git:write'] })
/** What a job has: its own branch and no other. */
const jobsOwn = () => token({ scopes: ['git:write'], refs: [['agent/mine', ['no-force-push']], ['*', ['no-push']]] })

const oidOf = (content: Uint8Array) => createHash('sha256').update(content).digest('hex')
const authorization = (of: string) => `Basic ${Buffer.from(`t:${of}`).toString('base64')}`
const base = (repository = 'team/web') => `${storage.server.url}/${repository}.git/info/lfs`

async function call(of: string | undefined, method: string, url: string, body?: object | Uint8Array, headers: Record<string, string> = {}) {
  const answer = await fetch(url, {
    method,
    headers: { accept: 'application/vnd.git-lfs+json', ...(of === undefined ? {} : { authorization: authorization(of) }), ...headers },
    ...(body === undefined ? {} : { body: body instanceof Uint8Array ? Buffer.from(body) : JSON.stringify(body) }),
  })
  const text = await answer.text()
  return { status: answer.status, headers: answer.headers, text, json: () => JSON.parse(text) as { message?: string; objects: BatchAnswer[]; transfer: string } }
}

interface BatchAnswer {
  readonly oid: string
  readonly actions?: Partial<Record<'upload' | 'download' | 'verify', { readonly href: string; readonly header?: object }>>
  readonly error?: { readonly code: number; readonly message: string }
}

const batch = (of: string | undefined, operation: string, objects: readonly object[], more: object = {}, repository?: string) => call(of, 'POST', `${base(repository)}/objects/batch`, { operation, objects, ...more })

async function uploaded(content: Uint8Array): Promise<string> {
  const [oid, of] = [oidOf(content), await writer()]
  const answer = await batch(of, 'upload', [{ oid, size: content.length }])
  const actions = answer.json().objects[0]!.actions!
  expect((await call(of, 'PUT', actions.upload!.href, content)).status).toBe(200)
  expect((await call(of, 'POST', actions.verify!.href, { oid, size: content.length })).status).toBe(200)
  return oid
}

describe('LFS at the local Code Storage', () => {
  it.each(['team/web', 'team/web+ephemeral'])('takes an object of %s once and gives it back, whole and from an offset', async (repository) => {
    const content = randomBytes(2_000_000)
    const oid = await uploaded(content)
    const size = content.length
    const again = await batch(await writer(), 'upload', [{ oid, size }], {}, repository)
    expect(again.json()).toEqual({ transfer: 'basic', objects: [{ oid, size }], hash_algo: 'sha256' })
    const found = await batch(await reader(), 'download', [{ oid, size }], { transfers: ['lfs-standalone-file', 'basic'] }, repository)
    expect(found.headers.get('content-type')).toBe('application/vnd.git-lfs+json')
    const { href, header } = found.json().objects[0]!.actions!.download!
    // A client sends its own token; none is told to it.
    expect(header).toBeUndefined()
    for (const [start, status] of [[0, 200], [1_500_000, 206]] as const) {
      const answer = await fetch(href, { headers: { authorization: authorization(await reader()), ...(start > 0 ? { range: `bytes=${start}-` } : {}) } })
      expect(answer.status).toBe(status)
      expect(oidOf(new Uint8Array(await answer.arrayBuffer()))).toBe(oidOf(content.subarray(start)))
    }
  })

  it.each<[string, () => Promise<string | undefined>, string, number, RegExp]>([
    ['an upload with a token that reads', reader, 'upload', 403, /lacks the scope git:write/],
    ['a call without a token', () => Promise.resolve(undefined), 'download', 401, /send the token/],
    ['an expired token', () => token({ scopes: ['git:write'] }, () => Date.now() - 3_600_000), 'upload', 401, /expired/],
    ['a token for another repository', () => token({ repository: 'team/other' }), 'download', 403, /another repository/],
    ['a token that may push nowhere', () => token({ scopes: ['git:write'], refs: [['*', ['no-push']]] }), 'upload', 403, /pushes to no ref/],
    ['a token without a git scope', () => token({ scopes: ['org:read'] }), 'download', 403, /git:read/],
  ])('refuses %s', async (_what, of, operation, status, message) => {
    const answer = await batch(await of(), operation, [{ oid: oidOf(Buffer.from('x')), size: 1 }])
    expect(answer.status).toBe(status)
    expect(answer.json().message).toMatch(message)
    expect(answer.headers.get('lfs-authenticate') !== null).toBe(status === 401)
  })

  it('holds uploads to the refs that a token may push', async () => {
    const objects = [{ oid: oidOf(Buffer.from('y')), size: 1 }]
    expect((await batch(await jobsOwn(), 'upload', objects, { ref: { name: 'refs/heads/agent/mine' } })).status).toBe(200)
    expect((await batch(await jobsOwn(), 'upload', objects)).status).toBe(200)
    const other = await batch(await jobsOwn(), 'upload', objects, { ref: { name: 'refs/heads/main' } })
    expect([other.status, other.json().message]).toEqual([403, 'denied by policy: refs/heads/main (no-push)'])
    // Not around the batch either.
    const content = Buffer.from('around')
    const put = `${base()}/objects/${oidOf(content)}`
    expect((await call(await reader(), 'PUT', put, content)).status).toBe(403)
    expect((await call(undefined, 'PUT', put, content)).status).toBe(401)
    expect((await call(await reader(), 'POST', `${put}/verify`, { oid: oidOf(content), size: content.length })).status).toBe(403)
    expect((await call(undefined, 'GET', put)).status).toBe(401)
    expect((await call(await reader(), 'GET', put)).status).toBe(404)
  })

  it('tells of each object what is wrong with it', async () => {
    const oid = await uploaded(Buffer.from('known'))
    const missing = oidOf(Buffer.from('missing'))
    const answer = await batch(await writer(), 'download', [
      { oid, size: 5 },
      { oid, size: 6 },
      { oid: missing, size: 7 },
      { oid: '../../../../etc/passwd', size: 1 },
      { oid: oid.toUpperCase(), size: 5 },
    ])
    expect(answer.json().objects.map(({ error }) => error?.code)).toEqual([undefined, 422, 404, 422, 422])
    const large = await batch(await writer(), 'upload', [{ oid: missing, size: maxLfsObjectBytes + 1 }])
    expect(large.json().objects[0]!.error).toEqual({ code: 422, message: 'size: the local Code Storage takes no object of more than 3000000 bytes' })
  })

  it.each<[string, object, number, RegExp]>([
    ['an unknown operation', { operation: 'delete', objects: [] }, 422, /^operation: /],
    ['a negative size', { operation: 'upload', objects: [{ oid: 'a', size: -1 }] }, 422, /^objects.0.size: /],
    ['another hash', { operation: 'upload', objects: [], hash_algo: 'sha512' }, 409, /sha512/],
    ['another transfer', { operation: 'upload', objects: [], transfers: ['tus'] }, 422, /basic/],
    ['too many objects', { operation: 'upload', objects: Array.from({ length: 1001 }, () => ({ oid: 'a', size: 1 })) }, 422, /at most 1000/],
    ['too long a request', { operation: 'upload', objects: [], junk: 'x'.repeat(1_100_000) }, 413, /longer than/],
  ])('refuses %s', async (_what, body, status, message) => {
    const answer = await call(await writer(), 'POST', `${base()}/objects/batch`, body)
    expect([answer.status, answer.json().message]).toEqual([status, expect.stringMatching(message)])
  })

  it('keeps nothing of an object that is not what its name says, is too large or breaks off', async () => {
    const of = await writer()
    const [oid, promised] = [oidOf(Buffer.from('promised')), Buffer.from('something else')]
    const wrong = await call(of, 'PUT', `${base()}/objects/${oid}`, promised)
    expect([wrong.status, wrong.json().message]).toEqual([422, `the SHA-256 of what was sent is not ${oid}`])
    const large = Buffer.alloc(maxLfsObjectBytes + 1)
    expect((await call(of, 'PUT', `${base()}/objects/${oidOf(large)}`, large)).status).toBe(413)
    // Without its length, which is told at the end only; and one that ends in the middle.
    const piecewise = new ReadableStream({ pull: (controller) => controller.enqueue(large.subarray(0, 100_000)) })
    await fetch(`${base()}/objects/${oid}`, { method: 'PUT', headers: { authorization: authorization(of) }, body: piecewise, duplex: 'half' }).then((answer) => expect(answer.status).toBe(413), () => undefined)
    const { hostname, port } = new URL(storage.server.url)
    await new Promise<void>((resolve) => {
      const socket = connect(Number(port), hostname, () => {
        socket.write(`PUT /team/web.git/info/lfs/objects/${oid} HTTP/1.1\r\nhost: x\r\nauthorization: ${authorization(of)}\r\ncontent-length: 1000\r\n\r\nhalf`, () => socket.destroy())
      })
      socket.once('close', () => resolve())
    })
    const found = await batch(await reader(), 'download', [{ oid, size: 8 }])
    expect(found.json().objects[0]!.error?.code).toBe(404)
    const [folder = ''] = (await readdir(join(storage.folder, 'data', 'repositories'))).filter((name) => name.startsWith('team-web-'))
    await expect.poll(async () => (await readdir(join(storage.folder, 'data', 'repositories', folder, 'lfs'))).filter((name) => name.startsWith('arriving'))).toEqual([])
    // The right one is taken after all that.
    expect(await uploaded(Buffer.from('promised'))).toBe(oid)
  })

  it.each(['objects/../../HEAD', `objects/..%2f..%2fHEAD`, 'objects/abc', 'objects', '', `objects/${'0'.repeat(64)}/../../../config`])('has nothing at %s', async (path) => {
    const { hostname, port } = new URL(storage.server.url)
    // Not by fetch, which would take the dots out itself.
    const text = await new Promise<string>((resolve, reject) => {
      let said = ''
      void reader().then((of) => {
        const socket = connect(Number(port), hostname, () => socket.end(`GET /team/web.git/info/lfs/${path} HTTP/1.1\r\nhost: x\r\nauthorization: ${authorization(of)}\r\nconnection: close\r\n\r\n`))
        socket.on('data', (chunk) => (said += chunk.toString()))
        socket.once('close', () => resolve(said))
        socket.once('error', reject)
      })
    })
    expect(text).toMatch(/^HTTP\/1.1 404 /)
  })

  it('refuses locks with a sentence', async () => {
    for (const [method, path] of [['GET', 'locks'], ['POST', 'locks'], ['POST', 'locks/verify'], ['POST', 'locks/1/unlock']] as const) {
      const answer = await call(await writer(), method, `${base()}/${path}`, method === 'POST' ? {} : undefined)
      expect([answer.status, answer.json().message]).toEqual([501, expect.stringContaining('no file locks')])
    }
  })

  it.skipIf(!hasLfs)('serves git-lfs itself', async () => {
    const work = await workTree(storage.folder, 'lfs-work')
    const remote = async (of: string, namespace = '') => withToken({ url: `${storage.server.url}/team/web${namespace}.git`, username: 't', token: of, expiresAtMs: 0 })
    await gitOk(work, 'lfs', 'install', '--local')
    await gitOk(work, 'lfs', 'track', '*.bin')
    const content = randomBytes(1_500_000)
    await writeFile(join(work, 'large.bin'), content)
    await gitOk(work, 'add', '--all')
    await gitOk(work, 'commit', '--quiet', '--message', 'Large')
    const refused = await git(work, 'push', await remote(await reader()), 'HEAD:refs/heads/main')
    expect(refused.code).not.toBe(0)
    await gitOk(work, 'push', '--quiet', await remote(await writer()), 'HEAD:refs/heads/main')
    expect(await gitOk(work, 'cat-file', 'blob', 'HEAD:large.bin')).toContain(`oid sha256:${oidOf(content)}`)
    const clone = join(storage.folder, 'lfs-clone')
    await gitOk(storage.folder, '-c', 'filter.lfs.process=git-lfs filter-process', '-c', 'filter.lfs.smudge=git-lfs smudge -- %f', '-c', 'filter.lfs.required=true', 'clone', '--quiet', await remote(await reader()), clone)
    expect(oidOf(await readFile(join(clone, 'large.bin')))).toBe(oidOf(content))
  })
})
