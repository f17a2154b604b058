import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { join, relative } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { generateDevelopmentKeys, startCodeStorage } from '../../src/embedded/index.js'
import { CodeStorageHost, type GitAccess } from '../../src/git/index.js'
import { commitFile, git, gitOk, localStorage, org, withToken, workTree, type LocalStorage } from '../git/local-storage.js'
import { processes } from '../processes.js'
import { whole } from '../whole.js'

const options = { timeoutMs: 60_000 }
/** More than may be held of it, below. SWITCHYARD_TEST_PUSH_MB=500 for the whole length. */
const pushMegabytes = Number(process.env['SWITCHYARD_TEST_PUSH_MB'] ?? (whole ? 100 : 40))

let storage: LocalStorage
let work: string
async function open(): Promise<void> {
  storage = await localStorage()
  await storage.host.client.createRepository('acme/web', 'main', options)
  work = await workTree(storage.folder, 'work')
  await gitOk(work, 'push', '--quiet', storage.url(await storage.sdk.repo({ id: 'acme/web' }).getRemoteURL({ ttl: 60 })), 'main')
}
beforeAll(open)
afterAll(() => storage.close())
/** For what closes its server, or looks at all that it has logged. */
async function anew(): Promise<void> {
  await storage.close()
  await open()
}

const write = (branch: string) => storage.host.writeAccess('acme/web', { branch, ttlSeconds: 600 })
const authorization = (access: GitAccess) => `Basic ${Buffer.from(`${access.username}:${access.token}`).toString('base64')}`

it('serves a folder that was named relative to this process’s own', async () => {
  const dataDir = relative(process.cwd(), join(storage.folder, 'relative'))
  const { privateKey, publicKey } = generateDevelopmentKeys()
  const server = await startCodeStorage({ dataDir, org, publicKeys: [publicKey] })
  try {
    const host = new CodeStorageHost({ org, privateKey, storageUrl: server.url, apiUrl: server.apiUrl })
    await host.client.createRepository('acme/relative', 'main', options)
    const access = await host.writeAccess('acme/relative', { branch: 'agent/one', ttlSeconds: 600 })
    await gitOk(work, 'push', '--quiet', withToken(access), 'HEAD:refs/heads/agent/one')
    expect(await host.branchHead('acme/relative', { name: 'agent/one', ephemeral: true }, options)).toMatch(/^[0-9a-f]{40}$/)
  } finally {
    await server.close()
  }
})

/** How far the resident memory of this process, which is the server's, rises while `work` runs, in MiB. */
async function memoryRise(work: () => Promise<unknown>): Promise<number> {
  const before = process.memoryUsage.rss()
  let highest = before
  const timer = setInterval(() => (highest = Math.max(highest, process.memoryUsage.rss())), 20)
  try {
    await work()
  } finally {
    clearInterval(timer)
  }
  return (highest - before) / 1024 / 1024
}

const hasPs = spawnSync('ps', ['-eo', 'pid']).status === 0

/** The process groups of the server's git requests: it runs in this process and starts each in a group of its own. */
async function requestGroups(): Promise<string[]> {
  return (await processes('pgid', 'ppid', 'args')).flatMap((line) => {
    const [pgid = '', ppid, ...args] = line.split(/ +/)
    return ppid === String(process.pid) && args.join(' ').includes('http-backend') ? [pgid] : []
  })
}

async function someRequest(): Promise<string> {
  const found = await vi.waitUntil(async () => (await requestGroups())[0], { timeout: 10_000 })
  return found
}

async function groupIsGone(pgid: string): Promise<void> {
  await vi.waitUntil(() => {
    try {
      return !process.kill(-Number(pgid), 0)
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === 'ESRCH'
    }
  }, { timeout: 10_000 })
}

describe('the local Code Storage streams', () => {
  it(`takes a push of ${pushMegabytes} MB and gives it back in constant memory`, { timeout: 600_000 }, async () => {
    await gitOk(work, 'config', 'core.compression', '0')
    // Without it git spends minutes on looking for deltas between random files.
    await gitOk(work, 'config', 'core.bigFileThreshold', '1m')
    await mkdir(join(work, 'large'))
    for (let index = 0; index < pushMegabytes / 10; index++) await writeFile(join(work, 'large', `${index}.bin`), randomBytes(10_000_000))
    const sha = await commitFile(work, 'marker.txt', 'x\n')
    const remote = withToken(await write('agent/large'))

    const pushed = await memoryRise(() => gitOk(work, 'push', '--quiet', remote, 'HEAD:refs/heads/agent/large'))
    expect(storage.server.wireBytes('acme/web').received).toBeGreaterThan(pushMegabytes * 1e6)
    expect(await storage.host.branchHead('acme/web', { name: 'agent/large', ephemeral: true }, options)).toBe(sha)

    const clone = join(storage.folder, 'clone')
    await gitOk(storage.folder, 'init', '--quiet', '--bare', clone)
    const read = withToken(await storage.host.readAccess('acme/web', { ephemeral: true, ttlSeconds: 600 }))
    const fetched = await memoryRise(() => gitOk(clone, 'fetch', '--quiet', '--depth=1', read, sha))
    expect(storage.server.wireBytes('acme/web').sent).toBeGreaterThan(pushMegabytes * 1e6)
    // Less than the smallest push: held whole in memory, it would be over.
    expect(pushed).toBeLessThan(35)
    expect(fetched).toBeLessThan(35)
    await gitOk(work, 'reset', '--quiet', '--hard', 'HEAD~1')
  })

  it('reads gzipped bodies', async () => {
    const access = await storage.host.readAccess('acme/web', { ephemeral: false })
    const lines = ['0014command=ls-refs\n', '0001', '0009peel\n', '001bref-prefix refs/heads/\n', '0000']
    const answer = await fetch(`${access.url}/git-upload-pack`, {
      method: 'POST',
      headers: {
        authorization: authorization(access),
        'git-protocol': 'version=2',
        'content-type': 'application/x-git-upload-pack-request',
        'content-encoding': 'gzip',
      },
      body: gzipSync(lines.join('')),
    })
    expect(answer.status).toBe(200)
    expect(await answer.text()).toContain('refs/heads/main')
  })

  it('answers "Expect: 100-continue" only to those it lets in', async () => {
    const ask = async (access: GitAccess) => {
      const outgoing = request(`${access.url}/git-receive-pack`, {
        method: 'POST',
        headers: { authorization: authorization(access), expect: '100-continue', 'content-type': 'application/x-git-receive-pack-request', 'transfer-encoding': 'chunked' },
      })
      outgoing.on('error', () => undefined)
      outgoing.flushHeaders()
      const seen = await Promise.race([
        once(outgoing, 'continue').then(() => 100),
        once(outgoing, 'response').then(([response]) => (response as { statusCode: number }).statusCode),
      ])
      outgoing.destroy()
      return seen
    }
    expect(await ask(await write('agent/a'))).toBe(100)
    expect(await ask({ ...(await storage.host.readAccess('acme/web', { ephemeral: true })) })).toBe(403)
    expect(await ask({ ...(await write('agent/a')), token: 'nonsense' })).toBe(401)
  })

  it.skipIf(!hasPs)('ends the processes of a client that went away in the middle of a push, and keeps nothing of it', async () => {
    await anew()
    const access = await write('agent/broken')
    const outgoing = request(`${access.url}/git-receive-pack`, {
      method: 'POST',
      headers: { authorization: authorization(access), 'content-type': 'application/x-git-receive-pack-request', 'transfer-encoding': 'chunked' },
    })
    outgoing.on('error', () => undefined)
    const command = `${'0'.repeat(40)} ${'1'.repeat(40)} refs/heads/agent/broken\0report-status`
    outgoing.write(`${(command.length + 4).toString(16).padStart(4, '0')}${command}0000PACK`)
    const group = await someRequest()
    outgoing.destroy()
    await groupIsGone(group)
    expect(await storage.host.branchHead('acme/web', { name: 'agent/broken', ephemeral: true }, options)).toBeNull()
    expect(storage.log.filter((line) => !line.includes('one machine'))).toEqual([])
  })

  it.skipIf(!hasPs)('ends every process and connection when it closes', async () => {
    const access = await write('agent/closing')
    const outgoing = request(`${access.url}/git-receive-pack`, {
      method: 'POST',
      headers: { authorization: authorization(access), 'content-type': 'application/x-git-receive-pack-request', 'transfer-encoding': 'chunked' },
    })
    const ended = new Promise((resolve) => outgoing.once('close', resolve))
    outgoing.on('error', () => undefined)
    outgoing.write('00')
    const group = await someRequest()
    await storage.server.close()
    await storage.server.close()
    await ended
    await groupIsGone(group)
  })
})

describe('the local Code Storage keeps', () => {
  it('everything over a restart, on the same keys', async () => {
    await anew()
    const sha = await commitFile(work, 'kept.txt', 'x\n')
    await gitOk(work, 'push', '--quiet', withToken(await write('agent/kept')), 'HEAD:refs/heads/agent/kept')
    await storage.server.close()
    // A private key stands for its public one.
    const again = await startCodeStorage({ dataDir: join(storage.folder, 'data'), org, publicKeys: [storage.privateKey] })
    try {
      const host = new CodeStorageHost({ org, privateKey: storage.privateKey, storageUrl: again.url, apiUrl: again.apiUrl })
      expect(await host.branchHead('acme/web', { name: 'agent/kept', ephemeral: true }, options)).toBe(sha)
      await expect(startCodeStorage({ dataDir: join(storage.folder, 'data'), org, publicKeys: [storage.privateKey], port: Number(new URL(again.url).port) })).rejects.toThrow(/^port: /)
    } finally {
      await again.close()
    }
  })

  it('promoted commits when the job branch is gone and the garbage collected', async () => {
    await anew()
    const base = await gitOk(work, 'rev-parse', 'HEAD')
    const sha = await commitFile(work, 'promoted.txt', 'x\n')
    const lost = 'agent/lost'
    await gitOk(work, 'push', '--quiet', withToken(await write('agent/gc')), 'HEAD:refs/heads/agent/gc')
    await gitOk(work, 'push', '--quiet', withToken(await write(lost)), `${base}:refs/heads/${lost}`)
    await storage.host.promote(
      { repository: 'acme/web', branch: 'agent/gc', sha, to: 'main', strategy: 'ff_only', expectedTargetSha: base, message: 'x' },
      options,
    )
    await storage.host.deleteBranch('acme/web', { name: 'agent/gc', ephemeral: true }, options)
    const [folder = ''] = await readdir(join(storage.folder, 'data', 'repositories'))
    await gitOk(join(storage.folder, 'data', 'repositories', folder), 'gc', '--quiet', '--prune=now')
    await gitOk(join(storage.folder, 'data', 'repositories', folder), 'fsck', '--full')
    expect((await storage.host.resolve('acme/web', 'main', options)).sha).toBe(sha)
    expect(await storage.host.branchHead('acme/web', { name: lost, ephemeral: true }, options)).toBe(base)
  })

  it('the namespaces apart for clones, and says what it is for', async () => {
    const sha = await commitFile(work, 'apart.txt', 'x\n')
    await gitOk(work, 'push', '--quiet', withToken(await write('agent/apart')), 'HEAD:refs/heads/agent/apart')
    const normal = withToken(await storage.host.readAccess('acme/web', { ephemeral: false }))
    expect((await git(work, 'fetch', normal, 'refs/heads/agent/apart')).stderr).toContain("couldn't find remote ref")
    expect((await git(work, 'fetch', normal, 'refs/namespaces/ephemeral/refs/heads/agent/apart')).stderr).toContain("couldn't find remote ref")
    const pushed = await git(work, 'push', storage.url(await storage.sdk.repo({ id: 'acme/web' }).getRemoteURL({ ttl: 60 })), `${sha}:refs/namespaces/ephemeral/refs/heads/agent/hidden`)
    expect(pushed.code).toBe(1)
    expect(storage.log[0]).toContain('one machine only')
  })
})
