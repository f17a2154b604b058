import { execFile } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { chmod, mkdtemp, open, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { brokeredTransfer } from '../../src/consumers/transfer/brokered.js'
import { fetchAsPack, pushPack, type CarriedPack } from '../../src/git/carried-pack.js'
import { InfrastructureError } from '../../src/job/errors.js'
import type { PackedCommits, Runner } from '../../src/runner/runner.js'
import { gitOk } from '../git/local-storage.js'
import { callOptions, hasShell, processSandbox, shells, type ProcessSandbox } from './process-sandbox.js'
import { finalCommit, repository, snapshot, type Repository } from './repository.js'

const maxBytes = 1024 * 1024 * 1024
let repo: Repository
let branches = 0

beforeAll(async () => {
  repo = await repository()
})
afterAll(() => repo.close())

/** A sandbox whose git is given no token, with the job's base in it. */
async function begin(sandbox: ProcessSandbox): Promise<{ runner: Runner; tree: string; branch: string }> {
  const runner = sandbox.runner()
  await runner.install(callOptions)
  await fetchAsPack('host', await repo.read(), { sha: repo.base, ref: 'refs/heads/main', depth: 1, maxBytes }, callOptions, (pack) =>
    runner.clone({ access: { url: repo.storage.server.url }, ref: 'refs/heads/main', sha: repo.base, branch: 'work', checkpoint: null, pack }, callOptions),
  )
  branches += 1
  return { runner, tree: join(sandbox.home, 'repository'), branch: `packed-${branches}` }
}

async function carry(runner: Runner, sha: string, branch: string, parent: { sha: string; ref: string | null; ephemeral: boolean }): Promise<PackedCommits> {
  let packed: PackedCommits | undefined
  const bring = async (write: (piece: Buffer) => Promise<void>) => {
    packed = await runner.pack({ sha, baseSha: repo.base, parentSha: parent.sha, maxBytes, write }, callOptions)
    return packed
  }
  await pushPack('host', { read: await repo.read(parent.ephemeral), write: await repo.write(branch), sha, branch, parent, limits, bring, beforePush }, callOptions)
  return packed!
}

const limits = { maxObjectBytes: maxBytes }
const beforePush = () => Promise.resolve()
const base = () => ({ sha: repo.base, ref: 'refs/heads/main', ephemeral: false })

describe.each(shells)('commits as packs in %s', (shell) => {
  it.skipIf(!hasShell(shell))('come in, and out again, checkpoint after checkpoint, and can be restored elsewhere', async () => {
    const sandbox = await processSandbox({ shell })
    try {
      const { runner, tree, branch } = await begin(sandbox)
      expect(await gitOk(tree, 'rev-parse', 'HEAD')).toBe(repo.base)
      expect(await gitOk(tree, 'status', '--porcelain')).toBe('')
      let from = base()
      let headSha = repo.base
      let commitsAhead = 0
      for (let round = 1; round <= 3; round++) {
        await writeFile(join(tree, 'src', 'main.js'), `console.log(1${round})\n`)
        await gitOk(tree, 'commit', '--quiet', '--all', '--message', `Own commit ${round}`)
        // The agent goes back behind what it had committed, which only older checkpoints still hold.
        if (round === 2) await gitOk(tree, 'reset', '--hard', '--quiet', repo.base)
        await writeFile(join(tree, `untracked-${round}.txt`), `${round}\n`)
        const made = await runner.checkpoint(repo.checkpoint(from.sha), callOptions)
        await carry(runner, made!.sha, branch, from)
        from = { sha: made!.sha, ref: `refs/heads/${branch}`, ephemeral: true }
        headSha = made!.headSha!
        commitsAhead = made!.commitsAhead
      }
      const { sha } = await runner.commit(finalCommit, callOptions)
      await carry(runner, sha, `${branch}-final`, from)
      const final = await repo.fetched(`${branch}-final`)
      expect(final.sha).toBe(sha)
      expect(await gitOk(final.path, 'log', '--format=%s', `${repo.base}..${sha}`)).toBe('Fix it\nOwn commit 3')
      await gitOk(final.path, 'fsck', '--strict', '--connectivity-only')
      // Nothing stays behind in the sandbox.
      expect((await readdir(join(sandbox.home, '.switchyard'))).filter((name) => /^(incoming|outgoing|upload)-/.test(name))).toEqual([])

      const other = await processSandbox({ shell })
      try {
        const restored = other.runner()
        await restored.install(callOptions)
        const request = { sha: from.sha, ref: from.ref, depth: commitsAhead + 2, maxBytes }
        await fetchAsPack('host', await repo.read(true), request, callOptions, (pack) =>
          restored.clone({ access: { url: 'http://127.0.0.1:1/x.git' }, ref: from.ref, sha: from.sha, branch: 'work', checkpoint: { headSha, commitsAhead, baseSha: repo.base }, pack }, callOptions),
        )
        await restored.restore({}, callOptions)
        expect(await snapshot(join(other.home, 'repository'))).toEqual(await snapshot(tree))
        expect(await gitOk(join(other.home, 'repository'), 'rev-parse', 'HEAD')).toBe(headSha)
        // And the chain goes on from there.
        await writeFile(join(other.home, 'repository', 'later.txt'), 'later\n')
        const made = await restored.checkpoint(repo.checkpoint(from.sha), callOptions)
        await carry(restored, made!.sha, `${branch}-2`, from)
        expect((await repo.fetched(`${branch}-2`)).sha).toBe(made!.sha)
      } finally {
        await other.close()
      }
    } finally {
      await sandbox.close()
    }
  })
})

it('a stash and other branches, deeper than HEAD, come back with brokered credentials', { timeout: 240_000 }, async () => {
  const sandboxes = [await processSandbox(), await processSandbox()] as const
  const transferOf = async (sandbox: ProcessSandbox) => {
    const runner = sandbox.runner()
    await runner.install(callOptions)
    const parts = { runner, git: repo.storage.host, repository: repo.id, onSecret: () => undefined, confirmHeld: () => Promise.resolve(), maxBytes }
    return { runner, transfer: brokeredTransfer(parts), tree: join(sandbox.home, 'repository') }
  }
  try {
    const one = await transferOf(sandboxes[0])
    await one.transfer.clone({ from: base(), branch: 'work', checkpoint: null }, callOptions)
    await gitOk(one.tree, 'switch', '--quiet', '--create', 'side')
    for (const round of [1, 2, 3, 4, 5]) await gitOk(one.tree, 'commit', '--quiet', '--allow-empty', '--message', `Side ${round}`)
    await gitOk(one.tree, 'switch', '--quiet', 'work')
    await writeFile(join(one.tree, 'last.txt'), 'stashed\n')
    await gitOk(one.tree, 'stash')
    await writeFile(join(one.tree, 'last.txt'), 'changed\n')
    const made = await one.transfer.checkpoint({ ...repo.checkpoint(repo.base), from: base(), branch: 'packed-state' }, callOptions)
    const two = await transferOf(sandboxes[1])
    const from = { sha: made!.sha, ref: 'refs/heads/packed-state', ephemeral: true }
    await two.transfer.clone({ from, branch: 'work', checkpoint: { ...made!, headSha: made!.headSha!, baseSha: repo.base } }, callOptions)
    expect(await two.runner.restore({}, callOptions)).toMatchObject({ restored: true, notes: [] })
    for (const what of [['stash', 'list'], ['log', '--format=%H %s', 'side'], ['show', 'stash@{0}:last.txt'], ['status', '--porcelain']]) {
      expect(await gitOk(two.tree, ...what)).toBe(await gitOk(one.tree, ...what))
    }
  } finally {
    for (const sandbox of sandboxes) await sandbox.close()
  }
})

describe('packs that are large, late or broken', () => {
  const megabytes = 30 * 1024 * 1024
  let sandbox: ProcessSandbox
  let runner: Runner
  let tree: string
  let branch: string
  const inSandbox = async (run: () => Promise<void>) => {
    sandbox = await processSandbox()
    try {
      ;({ runner, tree, branch } = await begin(sandbox))
      await run()
    } finally {
      await sandbox.close()
    }
  }
  const commit = async () => (await runner.commit(finalCommit, callOptions)).sha
  const pack = (sha: string, write: (piece: Buffer) => Promise<void> = () => Promise.resolve(), limit = maxBytes) =>
    runner.pack({ sha, baseSha: repo.base, parentSha: repo.base, maxBytes: limit, write }, callOptions)

  it('come out whole at 30 MB, a bounded piece at a time, and go in again', async () => {
    await inSandbox(async () => {
      const content = randomBytes(megabytes)
      await writeFile(join(tree, 'large.bin'), content)
      const sha = await commit()
      const before = sandbox.calls.length
      const packed = await carry(runner, sha, branch, base())
      expect(packed.bytes).toBeGreaterThan(megabytes)
      const answers = sandbox.calls.slice(before).map(({ result }) => result.stdout.length)
      expect(Math.max(...answers)).toBeLessThan(4 * 1024 * 1024)
      expect(answers.length).toBeLessThan(megabytes / 2_000_000 + 5)
      const arrived = await repo.fetched(branch)
      expect(arrived.sha).toBe(sha)
      const { stdout } = await promisify(execFile)('git', ['cat-file', 'blob', `${sha}:large.bin`], { cwd: arrived.path, encoding: 'buffer', maxBuffer: 2 * megabytes })
      expect(digest(stdout)).toBe(digest(content))

      let largest = 0
      await fetchAsPack('host', await repo.read(true), { sha, ref: `refs/heads/${branch}`, depth: 1, maxBytes }, callOptions, (carried) => {
        const watched: CarriedPack = {
          ...carried,
          read: (offset, length) => {
            largest = Math.max(largest, length)
            return carried.read(offset, length)
          },
        }
        return runner.clone({ access: { url: 'http://127.0.0.1:1/x.git' }, ref: null, sha, branch: 'work', checkpoint: null, pack: watched }, callOptions)
      })
      expect(largest).toBeLessThan(100_000)
      expect(digest(await readFile(join(tree, 'large.bin')))).toBe(digest(content))
    })
  }, 240_000)

  it('are refused above the limit, on both ways', async () => {
    await inSandbox(async () => {
      await writeFile(join(tree, 'large.bin'), randomBytes(3_000_000))
      const sha = await commit()
      let written = 0
      const write = (piece: Buffer) => Promise.resolve(void (written += piece.length))
      expect(await failureOf(pack(sha, write, 2_000_000))).toMatch(/^invalid: test: the commits in the sandbox are 300\d{4} bytes as a pack, and no more than 2000000 are brought out; /)
      expect(written).toBe(0)
      expect((await readdir(join(sandbox.home, '.switchyard'))).filter((name) => name.startsWith('outgoing'))).toEqual([])
      const wanted = { sha: repo.base, ref: null, depth: 1, maxBytes: 2_000 }
      expect(await failureOf(fetchAsPack('host', await repo.read(), wanted, callOptions, () => Promise.reject(new Error('delivered'))))).toMatch(/^invalid: .*no more than 2000 are carried/)
    })
  })

  it('survive lost answers and cut pieces, and are found out when they were changed on their way', async () => {
    await inSandbox(async () => {
      await writeFile(join(tree, 'large.bin'), randomBytes(5_000_000))
      const sha = await commit()
      let pieces = 0
      sandbox.fault = (command) => {
        if (!command.script.includes("'piece'")) return undefined
        pieces += 1
        return pieces === 2 ? Promise.resolve({ exitCode: 0, stdout: '@switchyard' }) : undefined
      }
      await carry(runner, sha, branch, base())
      expect((await repo.fetched(branch)).sha).toBe(sha)
      expect(pieces).toBeGreaterThan(3)

      // The job's own commands may reach the file while it waits to be fetched.
      const first: Buffer[] = []
      const change = async (piece: Buffer) => {
        if (first.push(piece) > 1) return
        const state = join(sandbox.home, '.switchyard')
        const name = (await readdir(state)).find((file) => file.startsWith('outgoing'))!
        // git makes packs that nobody may write, which root may all the same.
        await chmod(join(state, name), 0o600)
        const file = await open(join(state, name), 'r+')
        await file.write(Buffer.from('changed'), 0, 7, (await stat(join(state, name))).size - 100)
        await file.close()
      }
      expect(await failureOf(pack(sha, change))).toMatch(/^transient: .*changed/)
      const remove = async () => {
        const state = join(sandbox.home, '.switchyard')
        await Promise.all((await readdir(state)).filter((file) => file.startsWith('outgoing')).map((file) => rm(join(state, file))))
      }
      expect(await failureOf(pack(sha, remove))).toMatch(/^transient: .*gone from ~\/\.switchyard/)
    })
  })

  it('never reach the host when they hold broken objects, or another commit than the one that was announced', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'switchyard-packs-'))
    try {
      const evil = join(folder, 'evil')
      await gitOk(folder, 'init', '--quiet', evil)
      await writeFile(join(evil, 'config'), '[core]\nfsmonitor = touch /tmp/never\n')
      const blob = await gitOk(evil, 'hash-object', '-w', 'config')
      const plant = async (entry: string) => {
        await writeFile(join(folder, 'tree'), entry)
        const planted = await promisify(execFile)('sh', ['-c', `git mktree <../tree`], { cwd: evil })
        return gitOk(evil, 'commit-tree', '-m', 'Evil', planted.stdout.trim())
      }
      const packOf = async (sha: string) => {
        await writeFile(join(folder, 'revs'), `${sha}\n`)
        const { stdout } = await promisify(execFile)('sh', ['-c', 'git pack-objects -q --revs ../made <../revs'], { cwd: evil })
        return { name: stdout.trim(), content: await readFile(join(folder, `made-${stdout.trim()}.pack`)) }
      }
      const offer = async (sha: string, made: { name: string; content: Buffer }) => {
        branches += 1
        branch = `packed-${branches}`
        const bring = async (write: (piece: Buffer) => Promise<void>) => {
          await write(made.content)
          return { name: made.name, bytes: made.content.length, borders: [], depth: 1 }
        }
        return pushPack('host', { read: await repo.read(), write: await repo.write(branch), sha, branch, parent: base(), limits, bring, beforePush }, callOptions)
      }
      const nested = await plant(`040000 tree ${(await gitOk(evil, 'hash-object', '-t', 'tree', '-w', '/dev/null'))}\t.git\n`)
      expect(await failureOf(offer(nested, await packOf(nested)))).toMatch(/^invalid: .*are not taken: .*(hasDotgit|contains '\.git')/)
      const good = await plant(`100644 blob ${blob}\tfile.txt\n`)
      const made = await packOf(good)
      const cut = { name: made.name, content: made.content.subarray(0, made.content.length - 30) }
      expect(await failureOf(offer(good, cut))).toMatch(/^invalid: .*are not taken/)
      await expect(offer('1'.repeat(40), made)).rejects.toMatchObject({ kind: 'invalid' })
      expect(await repo.storage.host.branchHead(repo.id, { name: branch, ephemeral: true }, callOptions)).toBeNull()
      // The very same way lets a good one through.
      await offer(good, made)
      expect(await repo.storage.host.branchHead(repo.id, { name: branch, ephemeral: true }, callOptions)).toBe(good)
      // And a branch that went elsewhere is not moved.
      const bring = async (write: (piece: Buffer) => Promise<void>) => {
        await write(made.content)
        return { name: made.name, bytes: made.content.length, borders: [], depth: 1 }
      }
      const other = { read: await repo.read(), write: await repo.write(branch), sha: repo.base, branch, parent: base(), limits, bring, beforePush }
      expect(await failureOf(pushPack('host', other, callOptions))).toMatch(/^invalid: .*never forced/)
    } finally {
      await rm(folder, { recursive: true, force: true, maxRetries: 10 })
    }
  })
})

async function failureOf(call: Promise<unknown>): Promise<string> {
  const error: unknown = await call.then(() => undefined, (thrown: unknown) => thrown)
  if (error instanceof InfrastructureError) return `${error.kind}: ${error.message}`
  throw new Error('the call did not fail as it should', { cause: error })
}

function digest(content: Uint8Array): string {
  return createHash('sha256').update(content).digest('hex')
}
