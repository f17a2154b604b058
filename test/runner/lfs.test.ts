import { spawnSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { chmod, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { brokeredTransfer } from '../../src/consumers/transfer/brokered.js'
import { withoutRefusedLfs } from '../../src/consumers/transfer/lfs-objects.js'
import { injectedTransfer } from '../../src/consumers/transfer/injected.js'
import { mintedTransfer } from '../../src/consumers/transfer/minted.js'
import type { InjectHeaders, SavedCommit, Transfer, TransferClone } from '../../src/consumers/transfer/transfer.js'
import { TokenMinter, type GitAccess, type GitHost } from '../../src/git/index.js'
import type { Runner } from '../../src/runner/runner.js'
import { gitOk, localStorage, org, withToken, workTree, type LocalStorage } from '../git/local-storage.js'
import { bubblewrapWorks } from '../providers/local-sandboxes.js'
import { EgressProxy } from '../servers/e2b/egress-proxy.js'
import { whole } from '../whole.js'
import { callOptions, hasShell, processSandbox, type ProcessSandbox } from './process-sandbox.js'
import { finalCommit, identity } from './repository.js'

/** Files of Git LFS, by git-lfs itself: fetched when a sandbox begins, uploaded before the refs that need them. */

const hasLfs = spawnSync('git', ['lfs', 'version']).status === 0
const maxLfsObjectBytes = 400_000
const repository = 'acme/web'
const contents = { 'one.bin': randomBytes(150_000), 'media/two words.bin': randomBytes(120_000) }
let storage: LocalStorage
let base: string
const open: ProcessSandbox[] = []
let branches = 0

beforeAll(async () => {
  storage = await localStorage({ maxLfsObjectBytes })
  if (!hasLfs) return
  await storage.host.client.createRepository(repository, 'main', callOptions)
  const source = await workTree(storage.folder, 'source')
  await gitOk(source, 'lfs', 'install', '--local')
  await gitOk(source, 'lfs', 'track', '*.bin')
  await mkdir(join(source, 'media'))
  for (const [path, content] of Object.entries(contents)) await writeFile(join(source, path), content)
  await gitOk(source, 'add', '--all')
  await gitOk(source, 'commit', '--quiet', '--message', 'Large files')
  base = await gitOk(source, 'rev-parse', 'HEAD')
  const { token } = await new TokenMinter({ org, privateKey: storage.privateKey }).mint({ repository, scopes: ['git:write'], ttlSeconds: 600 })
  await gitOk(source, 'push', '--quiet', withToken({ url: `${storage.server.url}/${repository}.git`, username: 't', token, expiresAtMs: 0 }), 'main')
})
afterEach(async () => {
  for (const sandbox of open.splice(0)) await sandbox.close()
  await Promise.all(proxies.splice(0).map((proxy) => proxy.close()))
})
afterAll(() => storage.close())

interface Place {
  readonly sandbox: ProcessSandbox
  readonly runner: Runner
  readonly transfer: Transfer
  readonly tree: string
  /** Hides git-lfs from what is run from then on, or shows it again. */
  hideLfs(hidden: boolean): Promise<void>
}

/** Where the sandbox's git finds the git host when a proxy adds the token: git-lfs takes no proxy to a loopback address. */
const hostName = 'git.example.test'
const proxies: EgressProxy[] = []

async function injected(sandbox: ProcessSandbox, parts: Omit<Parameters<typeof injectedTransfer>[0], 'injectHeaders' | 'callTimeoutMs'>): Promise<Transfer> {
  const rules: Parameters<InjectHeaders>[0][] = []
  const proxy = new EgressProxy(() => ({ rules: Object.fromEntries(Object.entries(rules.at(-1) ?? {}).map(([name, headers]) => [name, [{ transform: { headers } }]])) }), hostName)
  await proxy.listen()
  proxies.push(proxy)
  Object.assign(sandbox.env, proxy.environment('one'))
  const { host } = storage
  const there = (url: string) => url.replace('127.0.0.1', hostName)
  const named = ({ url, lfsUrl, ...access }: GitAccess): GitAccess => ({ ...access, url: there(url), ...(lfsUrl === undefined ? {} : { lfsUrl: there(lfsUrl) }) })
  const git: Pick<GitHost, 'name' | 'readAccess' | 'writeAccess'> = {
    name: host.name,
    readAccess: async (...call) => named(await host.readAccess(...call)),
    writeAccess: async (...call) => named(await host.writeAccess(...call)),
  }
  return injectedTransfer({ ...parts, git: git as GitHost, injectHeaders: (headers) => Promise.resolve(void rules.push(headers)), callTimeoutMs: callOptions.timeoutMs })
}

async function place(mode: 'minted' | 'brokered' | 'injected', shell: 'sh' | 'busybox' = 'sh'): Promise<Place> {
  const sandbox = await processSandbox({ shell })
  open.push(sandbox)
  const runner = sandbox.runner()
  await runner.install(callOptions)
  const parts = { runner, git: storage.host, repository, onSecret: () => undefined, confirmHeld: () => Promise.resolve() }
  const transfer = mode === 'minted' ? mintedTransfer(parts) : mode === 'injected' ? await injected(sandbox, parts) : brokeredTransfer({ ...parts, maxBytes: 100_000_000 })
  const program = join(sandbox.home, '..', 'programs', 'sh')
  const hideLfs = async (hidden: boolean) => {
    await rm(program)
    await writeFile(program, `#!/bin/sh\nexec ${hidden ? 'bwrap --dev-bind / / --ro-bind /dev/null /usr/bin/git-lfs ' : ''}/bin/sh "$@"\n`)
    await chmod(program, 0o755)
  }
  return { sandbox, runner, transfer, tree: join(sandbox.home, 'repository'), hideLfs }
}

const main: SavedCommit = { get sha() { return base }, ref: 'refs/heads/main', ephemeral: false }
const clone = ({ transfer }: Place, more: Partial<TransferClone> = {}) => transfer.clone({ from: main, branch: 'work', checkpoint: null, ...more }, callOptions)

async function checkpoint({ transfer }: Place) {
  const branch = `checkpoint/${++branches}`
  const made = await transfer.checkpoint({ from: main, branch, baseSha: base, message: 'Checkpoint', identity }, callOptions)
  if (made === null) throw new Error('nothing to save')
  return { made, branch, from: { sha: made.sha, ref: `refs/heads/${branch}`, ephemeral: true } }
}

/** A clone by git-lfs of what was pushed: it fails when the host lacks an object. */
async function cloned(branch: string): Promise<string> {
  const path = join(storage.folder, `cloned-${++branches}`)
  const access = await storage.host.readAccess(repository, { ephemeral: true })
  await gitOk(storage.folder, '-c', 'filter.lfs.process=git-lfs filter-process', '-c', 'filter.lfs.required=true', 'clone', '--quiet', '--branch', branch, withToken(access), path)
  return path
}

/** By a git with the filter, as whoever works there has it: a file that was written in the same moment as the index is compared by its contents. */
const statusOf = async (folder: string) => await gitOk(folder, '-c', 'filter.lfs.clean=git-lfs clean -- %f', '-c', 'filter.lfs.process=git-lfs filter-process', '-c', 'filter.lfs.required=true', 'status', '--porcelain')

const digest = (content: Uint8Array) => createHash('sha256').update(content).digest('hex')
const digestOf = async (folder: string, path: string) => digest(await readFile(join(folder, path)))
const isPointer = async (folder: string, path: string) => (await readFile(join(folder, path), 'utf8')).startsWith('version https://git-lfs.github.com/spec/v1\n')

describe.skipIf(!hasLfs)('files of Git LFS', { timeout: 300_000 }, () => {
  it.each(whole ? (['sh', 'busybox'] as const) : (['sh'] as const))('are there in %s, unchanged, and what becomes of them is at the host before the commit and in the next sandbox', async (shell) => {
    if (!hasShell(shell)) return
    const one = await place('minted', shell)
    expect(await clone(one)).toEqual({ notes: [] })
    for (const [path, content] of Object.entries(contents)) expect(await digestOf(one.tree, path)).toBe(digest(content))
    expect(await statusOf(one.tree)).toBe('')
    expect(await one.transfer.checkpoint({ from: main, branch: 'checkpoint/none', baseSha: base, message: 'Checkpoint', identity }, callOptions)).toBeNull()

    const [changed, added] = [randomBytes(100_000), randomBytes(90_000)]
    await writeFile(join(one.tree, 'one.bin'), changed)
    await writeFile(join(one.tree, 'media', 'new "ü".bin'), added)
    const { made, branch, from } = await checkpoint(one)
    expect(made).toMatchObject({ unsaved: [], notes: [] })
    const arrived = await cloned(branch)
    expect(await gitOk(arrived, 'cat-file', 'blob', 'HEAD:one.bin')).toContain(`oid sha256:${digest(changed)}`)
    expect(await digestOf(arrived, 'one.bin')).toBe(digest(changed))

    const two = await place('minted', shell)
    await clone(two, { from, checkpoint: { headSha: made.headSha ?? base, commitsAhead: made.commitsAhead, baseSha: base } })
    expect(await two.runner.restore({}, callOptions)).toMatchObject({ restored: true, notes: [] })
    expect(await digestOf(two.tree, 'one.bin')).toBe(digest(changed))
    expect(await digestOf(two.tree, 'media/new "ü".bin')).toBe(digest(added))
    expect(await digestOf(two.tree, 'media/two words.bin')).toBe(digest(contents['media/two words.bin']))

    const { sha } = await two.runner.commit(finalCommit, callOptions)
    await two.transfer.push({ sha, branch: `agent/${branches}`, baseSha: base, from }, callOptions)
    expect(await digestOf(await cloned(`agent/${branches}`), 'media/new "ü".bin')).toBe(digest(added))
  })

  it.runIf(whole)('come and go with a token that a proxy adds outside of the sandbox', async () => {
    const one = await place('injected')
    expect(await clone(one)).toEqual({ notes: [] })
    expect(await digestOf(one.tree, 'one.bin')).toBe(digest(contents['one.bin']))
    const changed = randomBytes(80_000)
    await writeFile(join(one.tree, 'one.bin'), changed)
    const { made, branch, from } = await checkpoint(one)
    expect(made).toMatchObject({ unsaved: [], notes: [] })
    expect(await digestOf(await cloned(branch), 'one.bin')).toBe(digest(changed))
    const two = await place('injected')
    await clone(two, { from, checkpoint: { headSha: made.headSha ?? base, commitsAhead: made.commitsAhead, baseSha: base } })
    expect(await digestOf(two.tree, 'one.bin')).toBe(digest(changed))
    // Nothing of it is left in the sandbox's own configuration.
    expect(await gitOk(two.tree, 'config', '--list')).not.toMatch(/extraheader|authorization/i)
  })

  it('are fetched as the job says', async () => {
    const off = await place('minted')
    expect(await clone(off, { lfs: 'off' })).toEqual({ notes: [] })
    expect(await isPointer(off.tree, 'one.bin')).toBe(true)
    const some = await place('minted')
    await clone(some, { lfs: { include: ['media/**'] } })
    expect(await isPointer(some.tree, 'one.bin')).toBe(true)
    expect(await digestOf(some.tree, 'media/two words.bin')).toBe(digest(contents['media/two words.bin']))
    expect(await statusOf(some.tree)).toBe('')
    const others = await place('minted')
    await clone(others, { lfs: { exclude: ['media'] } })
    expect(await digestOf(others.tree, 'one.bin')).toBe(digest(contents['one.bin']))
    expect(await isPointer(others.tree, 'media/two words.bin')).toBe(true)
  })

  it.skipIf(!bubblewrapWorks)('are pointers, both ways and said, where there is no git-lfs', async () => {
    const one = await place('minted')
    await one.hideLfs(true)
    expect(await clone(one)).toEqual({ notes: ['git-lfs is not in the sandbox, so 2 LFS files are the pointers to them'] })
    expect(await isPointer(one.tree, 'one.bin')).toBe(true)
    await writeFile(join(one.tree, 'other.txt'), 'x\n')
    const { branch, made } = await checkpoint(one)
    expect(made.unsaved).toEqual([])
    const arrived = await cloned(branch)
    expect(await gitOk(arrived, 'diff', '--name-only', `${base}..HEAD`)).toBe('other.txt')
  })

  // In CI those of the agent's own commits, below, go the same way.
  it.skipIf(!bubblewrapWorks || !whole)('are sent by the consumer when the sandbox can’t', async () => {
    const one = await place('minted')
    await clone(one)
    const changed = randomBytes(50_000)
    await writeFile(join(one.tree, 'one.bin'), changed)
    // Staged while it is there, gone when it would upload.
    const { sha } = await one.runner.commit(finalCommit, callOptions)
    await one.hideLfs(true)
    await one.transfer.push({ sha, branch: 'agent/sent', baseSha: base, from: main }, callOptions)
    await one.hideLfs(false)
    expect(await digestOf(await cloned('agent/sent'), 'one.bin')).toBe(digest(changed))
  })

  it('are pointers with brokered credentials; what the job makes of them is carried to the host', async () => {
    const one = await place('brokered')
    expect(await clone(one)).toEqual({ notes: ['nothing in the sandbox talks to the git host, so 2 LFS files are the pointers to them'] })
    expect(await isPointer(one.tree, 'one.bin')).toBe(true)
    await gitOk(one.tree, 'config', 'filter.lfs.clean', 'git-lfs clean -- %f')
    await gitOk(one.tree, 'config', 'filter.lfs.smudge', 'git-lfs smudge -- %f')
    // More than comes out in one piece's call.
    const added = randomBytes(maxLfsObjectBytes)
    await writeFile(join(one.tree, 'new.bin'), added)
    const { branch, made } = await checkpoint(one)
    expect(made.unsaved).toEqual([])
    expect(await digestOf(await cloned(branch), 'new.bin')).toBe(digest(added))
    expect(await gitOk(await cloned(branch), 'diff', '--name-only', `${base}..HEAD`)).toBe('new.bin')
  })

  // Minted is what the own commits below have as well.
  it.each(whole ? (['minted', 'brokered'] as const) : (['brokered'] as const))('keep their last entry, and are named, when the host does not take them (%s)', async (mode) => {
    const one = await place(mode)
    await clone(one)
    await gitOk(one.tree, 'config', 'filter.lfs.clean', 'git-lfs clean -- %f')
    await gitOk(one.tree, 'config', 'filter.lfs.smudge', 'git-lfs smudge -- %f')
    const small = randomBytes(1000)
    await writeFile(join(one.tree, 'one.bin'), randomBytes(maxLfsObjectBytes + 1))
    await writeFile(join(one.tree, 'media', 'too large.bin'), randomBytes(maxLfsObjectBytes + 1))
    await writeFile(join(one.tree, 'small.bin'), small)
    await writeFile(join(one.tree, 'plain.txt'), 'plain\n')
    const { made, branch } = await checkpoint(one)
    expect(made.unsaved.map(({ path }) => path).sort()).toEqual(['media/too large.bin', 'one.bin'])
    expect(made.unsaved[0]?.reason).toMatch(/Git LFS.* has not taken/)
    const arrived = await cloned(branch)
    expect(await digestOf(arrived, 'one.bin')).toBe(digest(contents['one.bin']))
    expect(await digestOf(arrived, 'small.bin')).toBe(digest(small))
    expect((await readdir(arrived)).includes('plain.txt')).toBe(true)
    expect(await readdir(join(arrived, 'media'))).toEqual(['two words.bin'])
    // The final commit likewise.
    const final = await withoutRefusedLfs(one.runner, callOptions, async () => {
      const commit = await one.runner.commit(finalCommit, callOptions)
      await one.transfer.push({ sha: commit.sha, branch: `agent/refused-${mode}`, baseSha: base, from: main }, callOptions)
      return commit
    })
    expect(final.unsaved.length).toBe(2)
    expect(await digestOf(await cloned(`agent/refused-${mode}`), 'one.bin')).toBe(digest(contents['one.bin']))
  })

  /** What the agent commits by itself, with its own git-lfs. */
  const ownCommit = async (tree: string) => {
    await gitOk(tree, 'config', 'filter.lfs.clean', 'git-lfs clean -- %f')
    await gitOk(tree, 'config', 'filter.lfs.smudge', 'git-lfs smudge -- %f')
    await gitOk(tree, 'add', '--all')
    await gitOk(tree, '-c', 'user.name=Agent', '-c', 'user.email=a@example.invalid', 'commit', '--quiet', '--message', 'The agent’s own')
    return gitOk(tree, 'rev-parse', 'HEAD')
  }
  const pointerTo = (content: Uint8Array) => `version https://git-lfs.github.com/spec/v1\noid sha256:${digest(content)}\nsize ${content.length}\n`

  it.skipIf(!bubblewrapWorks)('in the agent’s own commits are carried when the sandbox can’t send them', async () => {
    const one = await place('minted')
    await clone(one)
    const added = randomBytes(60_000)
    await writeFile(join(one.tree, 'own.bin'), added)
    const own = await ownCommit(one.tree)
    const commit = await one.runner.commit(finalCommit, callOptions)
    expect(commit).toMatchObject({ sha: own, unsaved: [] })
    const branch = 'agent/own'
    await one.hideLfs(true)
    await one.transfer.push({ sha: own, branch, baseSha: base, from: main }, callOptions)
    await one.hideLfs(false)
    expect(await digestOf(await cloned(branch), 'own.bin')).toBe(digest(added))
  })

  it.each([
    ['the host does not take', 'minted'],
    ['are nowhere', 'brokered'],
  ] as const)('in the agent’s own commits that %s: the commits stay behind, and all but these files is saved (%s)', async (why, mode) => {
    const one = await place(mode)
    await clone(one)
    const [lost, kept] = [randomBytes(maxLfsObjectBytes + 1), randomBytes(2_000)]
    await writeFile(join(one.tree, 'one.bin'), why === 'are nowhere' ? pointerTo(lost) : lost)
    await writeFile(join(one.tree, 'kept.bin'), kept)
    await writeFile(join(one.tree, 'plain.txt'), 'plain\n')
    const own = await ownCommit(one.tree)
    const { made, branch } = await checkpoint(one)
    expect(made.unsaved.map(({ path }) => path)).toEqual(['one.bin'])
    expect(made.notes.join('\n')).toMatch(/takes only the files of this checkpoint.*Git LFS objects that the git host has not taken/)
    const arrived = await cloned(branch)
    expect(await digestOf(arrived, 'one.bin')).toBe(digest(contents['one.bin']))
    expect(await digestOf(arrived, 'kept.bin')).toBe(digest(kept))
    expect(await readFile(join(arrived, 'plain.txt'), 'utf8')).toBe('plain\n')
    expect(await gitOk(arrived, 'rev-list', 'HEAD')).not.toContain(own)
  })

  it('that the sandbox does not have are asked the host for, and files that only look like pointers are none', async () => {
    const [other, one] = [await place('minted'), await place('minted')]
    await clone(other)
    await clone(one)
    const theirs = randomBytes(5_000)
    await writeFile(join(other.tree, 'theirs.bin'), theirs)
    await ownCommit(other.tree)
    expect((await checkpoint(other)).made.unsaved).toEqual([])
    // As a merge brings it, without its content.
    await writeFile(join(one.tree, 'theirs.bin'), pointerTo(theirs))
    await writeFile(join(one.tree, 'fixture.txt'), pointerTo(randomBytes(10)))
    const own = await ownCommit(one.tree)
    const { made, branch } = await checkpoint(one)
    expect(made).toMatchObject({ headSha: own, unsaved: [], notes: [] })
    const arrived = await cloned(branch)
    expect(await digestOf(arrived, 'theirs.bin')).toBe(digest(theirs))
    expect(await isPointer(arrived, 'fixture.txt')).toBe(true)
  })

  it('go to the git host whatever the agent’s configuration says, and leave no token behind', async () => {
    const one = await place('minted')
    await clone(one)
    const elsewhere = 'http://127.0.0.1:1/elsewhere'
    for (const [name, value] of [['lfs.url', elsewhere], ['lfs.customtransfer.evil.path', '/bin/false'], ['lfs.standalonetransferagent', 'evil']] as const) await gitOk(one.tree, 'config', name, value)
    for (const folder of [one.tree, join(one.sandbox.home, '.switchyard')]) await writeFile(join(folder, '.lfsconfig'), `[lfs]\n\turl = ${elsewhere}\n`)
    const changed = randomBytes(10_000)
    await writeFile(join(one.tree, 'one.bin'), changed)
    expect((await checkpoint(one)).made.unsaved).toEqual([])
    const { token } = await storage.host.readAccess(repository, { ephemeral: true })
    const at = await fetch(`${storage.server.url}/${repository}.git/info/lfs/objects/${digest(changed)}`, { headers: { authorization: `Basic ${Buffer.from(`t:${token}`).toString('base64')}` } })
    expect(digest(new Uint8Array(await at.arrayBuffer()))).toBe(digest(changed))
    // What every token begins with.
    const head = token.slice(0, 12)
    for (const entry of await readdir(one.sandbox.home, { recursive: true, withFileTypes: true })) {
      if (entry.isFile()) expect((await readFile(join(entry.parentPath, entry.name), 'latin1')).includes(head), entry.name).toBe(false)
    }
  })
})
