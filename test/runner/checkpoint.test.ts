import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { InfrastructureError } from '../../src/job/errors.js'
import type { CheckpointResult, Runner } from '../../src/runner/runner.js'
import { commitFile, git, gitOk } from '../git/local-storage.js'
import { whole } from '../whole.js'
import { callOptions, shells, hasShell, processSandbox, runStep, type ProcessSandbox } from './process-sandbox.js'
import { finalCommit, repository, snapshot, type Repository } from './repository.js'

let repo: Repository
let sandbox: ProcessSandbox
let runner: Runner
let tree: string
let branch: string
let branches = 0

beforeAll(async () => {
  repo = await repository()
})
afterAll(() => repo.close())

async function open(shell: (typeof shells)[number] = 'sh'): Promise<void> {
  sandbox = await processSandbox({ shell })
  runner = sandbox.runner()
  tree = join(sandbox.home, 'repository')
  branches += 1
  branch = `job-${branches}`
  await runner.install(callOptions)
}
beforeEach(() => open())
afterEach(() => sandbox.close())

async function clone(): Promise<void> {
  await runner.clone({ access: await repo.read(), ref: 'refs/heads/main', sha: repo.base, branch: 'work', checkpoint: null }, callOptions)
}

async function checkpoint(parent = repo.base): Promise<CheckpointResult> {
  const made = await repo.save(runner, branch, parent)
  if (made === null) throw new Error('nothing changed')
  return made
}

/** Restores a checkpoint into a new sandbox and gives its work tree. */
async function restore(made: CheckpointResult): Promise<{ home: ProcessSandbox; runner: Runner; path: string }> {
  const home = await processSandbox()
  const other = home.runner()
  await repo.restore(other, branch, made).catch(async (error: unknown) => {
    await home.close()
    throw error
  })
  return { home, runner: other, path: join(home.home, 'repository') }
}

/** What the agent's own git says: HEAD, branch, status, staged content. */
async function agentState(path: string): Promise<string[]> {
  return [
    await gitOk(path, 'rev-parse', 'HEAD'),
    await gitOk(path, 'symbolic-ref', 'HEAD'),
    await gitOk(path, 'status', '--porcelain=v2', '--ignored'),
    await gitOk(path, 'diff', '--cached', '--binary'),
    await gitOk(path, 'ls-files', '--stage'),
  ]
}

/** Changes of every kind, some staged, some committed. */
async function work(path: string): Promise<void> {
  await writeFile(join(path, 'committed.txt'), 'committed\n')
  await gitOk(path, 'add', 'committed.txt')
  await gitOk(path, 'commit', '--quiet', '--message', 'Own commit')
  await writeFile(join(path, 'second.txt'), 'second\n')
  await gitOk(path, 'add', 'second.txt')
  await gitOk(path, 'commit', '--quiet', '--message', 'Second own commit')
  await writeFile(join(path, 'staged.txt'), 'staged\n')
  await gitOk(path, 'add', 'staged.txt')
  await writeFile(join(path, 'staged.txt'), 'staged, then changed\n')
  await writeFile(join(path, 'README.md'), 'unstaged\n')
  await writeFile(join(path, 'untracked ü\n.txt'), 'untracked\n')
  await writeFile(join(path, 'noise.log'), 'ignored\n')
  await mkdir(join(path, 'ignored'))
  await writeFile(join(path, 'ignored', 'forced.txt'), 'forced\n')
  await writeFile(join(path, 'ignored', 'other.txt'), 'not this one\n')
  await gitOk(path, 'add', '--force', 'ignored/forced.txt')
  await rm(join(path, 'first.txt'))
  await chmod(join(path, 'run.sh'), 0o644)
  await chmod(join(path, 'src', 'main.js'), 0o755)
  await writeFile(join(path, 'binary.bin'), Buffer.from([9, 0, 0, 10, 255]))
  await rm(join(path, 'link'))
  await symlink('nowhere', join(path, 'link'))
}

describe('a clone', () => {
  it('is an ordinary shallow clone, on the branch, without credentials', async () => {
    await clone()
    expect(await gitOk(tree, 'status', '--porcelain')).toBe('')
    expect(await gitOk(tree, 'rev-parse', 'HEAD', 'refs/heads/work', 'refs/remotes/origin/main')).toBe([repo.base, repo.base, repo.base].join('\n'))
    expect(await gitOk(tree, 'symbolic-ref', '--short', 'HEAD')).toBe('work')
    expect(await gitOk(tree, 'log', '--format=%H')).toBe(repo.base)
    expect(await gitOk(tree, 'config', 'remote.origin.url')).toBe((await repo.read()).url)
    expect(await gitOk(tree, 'fsck')).toBe('')
    expect(await readFile(join(tree, '.git', 'config'), 'utf8')).not.toContain('@')
  })

  it('starts from an empty folder again, also through a symbolic link in its place', async () => {
    const outside = join(sandbox.home, 'outside')
    await mkdir(outside)
    await writeFile(join(outside, 'keep'), 'keep')
    await symlink(outside, tree)
    await clone()
    expect(await readFile(join(outside, 'keep'), 'utf8')).toBe('keep')
    await writeFile(join(tree, 'left over'), '')
    await mkdir(join(tree, 'closed'))
    await writeFile(join(tree, 'closed', 'file'), '')
    await chmod(join(tree, 'closed'), 0)
    await clone()
    expect(await gitOk(tree, 'status', '--porcelain', '--ignored')).toBe('')
  })

  // Redis may go back to before them: they would not be run again, without their work.
  it('is not made where steps have run', async () => {
    await clone()
    await runStep(runner, 'echo work > work.txt')
    await expect(clone()).rejects.toMatchObject({ kind: 'transient', owner: 'sandbox', message: expect.stringContaining('steps have run in this sandbox') as string })
    expect(await readFile(join(tree, 'work.txt'), 'utf8')).toBe('work\n')
  })

  it('fetches no more than git clone --depth 1 --single-branch', async () => {
    const before = repo.storage.server.wireBytes(repo.id)
    await clone()
    const between = { ...repo.storage.server.wireBytes(repo.id) }
    const access = await repo.read()
    const url = access.url.replace('://', `://${access.username}:${access.token}@`)
    await gitOk(sandbox.home, 'clone', '--quiet', '--depth', '1', '--single-branch', url, 'beside')
    const after = repo.storage.server.wireBytes(repo.id)
    const total = (bytes: object) => Object.values(bytes).reduce((sum: number, value) => sum + Number(value), 0)
    expect(total(between) - total(before)).toBeLessThanOrEqual(total(after) - total(between))
    expect(total(between)).toBeGreaterThan(total(before))
  })

  it('comes by the ref from a host that serves no bare sha, unless the ref moved', async () => {
    // The local host serves every sha, so git is made to say what it says elsewhere.
    const programs = await mkdtemp(join(tmpdir(), 'switchyard-programs-'))
    try {
      const refusal = 'error: Server does not allow request for unadvertised object'
      const real = (process.env['PATH'] ?? '').split(':').map((folder) => join(folder, 'git')).find((file) => existsSync(file))!
      await writeFile(join(programs, 'git'), `#!/bin/sh\ncase "$* " in *fetch*" ${repo.base} " | *fetch*" ${repo.first} ") echo '${refusal}' >&2; exit 128 ;; esac\nexec ${real} "$@"\n`)
      await chmod(join(programs, 'git'), 0o755)
      Object.assign(sandbox.env, { PATH: `${programs}:${process.env['PATH'] ?? ''}` })
      await clone()
      expect(await gitOk(tree, 'rev-parse', 'HEAD')).toBe(repo.base)
      const request = { access: await repo.read(), ref: 'refs/heads/main', sha: repo.first, branch: 'work', checkpoint: null }
      await expect(runner.clone(request, callOptions)).rejects.toMatchObject({ kind: 'invalid', message: expect.stringContaining('refs/heads/main moved') as string })
      await expect(runner.clone({ ...request, ref: null }, callOptions)).rejects.toMatchObject({ kind: 'invalid' })
    } finally {
      await rm(programs, { recursive: true, maxRetries: 10 })
    }
  })

  it('says which commit, branch or token is wrong', async () => {
    const request = { access: await repo.read(), ref: null, sha: 'f'.repeat(40), branch: 'work', checkpoint: null }
    await expect(runner.clone(request, callOptions)).rejects.toMatchObject({ kind: 'invalid' })
    const refused = { ...(await repo.read()), token: `${(await repo.read()).token}x` }
    const error = await runner.clone({ ...request, sha: repo.base, access: refused }, callOptions).catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(InfrastructureError)
    expect(error).toMatchObject({ kind: 'auth' })
    expect(String(error)).not.toContain(refused.token)
    repo.storage.server.setOutage({ kind: 'unavailable', of: 'git' })
    try {
      await expect(runner.clone({ ...request, sha: repo.base }, callOptions)).rejects.toMatchObject({ kind: 'transient' })
    } finally {
      repo.storage.server.setOutage(null)
    }
  })
})

describe.each(shells.map((shell) => ({ shell })))('a checkpoint made in $shell', ({ shell }) => {
  it.skipIf(!hasShell(shell))("leaves the agent's index and HEAD alone and comes back exactly", async () => {
    await sandbox.close()
    await open(shell)
    await clone()
    await work(tree)
    const before = await agentState(tree)
    const files = await snapshot(tree)
    const made = await checkpoint()
    expect(await agentState(tree)).toEqual(before)
    expect(made.commitsAhead).toBe(2)
    expect(made.headSha).toBe(await gitOk(tree, 'rev-parse', 'HEAD'))
    expect((await repo.fetched(branch)).sha).toBe(made.sha)

    const restored = await restore(made)
    try {
      const kept = Object.fromEntries(Object.entries(files).filter(([path]) => path !== 'noise.log' && path !== 'ignored/other.txt'))
      expect(await snapshot(restored.path)).toEqual(kept)
      expect(await gitOk(restored.path, 'rev-parse', 'HEAD')).toBe(made.headSha)
      expect(await gitOk(restored.path, 'symbolic-ref', '--short', 'HEAD')).toBe('work')
      expect(await gitOk(restored.path, 'log', '--format=%s', `${repo.base}..HEAD`)).toBe('Second own commit\nOwn commit')
      // Staged against unstaged, as it was. Ignored files are not promised.
      const ignored = (state: string[]) => state.map((text) => text.split('\n').filter((line) => !line.startsWith('!')).join('\n'))
      expect(ignored(await agentState(restored.path))).toEqual(ignored(before))
      // Nothing changed since, and it goes on from there.
      expect(await repo.save(restored.runner, branch, made.sha)).toBeNull()
      await writeFile(join(restored.path, 'next.txt'), 'next\n')
      const next = await repo.save(restored.runner, branch, made.sha)
      expect(next).toMatchObject({ headSha: made.headSha, commitsAhead: 2 })
    } finally {
      await restored.home.close()
    }
    expect(sandbox.calls.map((call) => call.stderr).join('')).toBe('')
  })
})

describe('checkpoints', () => {
  it('are null when nothing changed, and chain', async () => {
    await clone()
    expect(await repo.save(runner, branch, repo.base)).toBeNull()
    await writeFile(join(tree, 'a.txt'), 'a')
    const one = await checkpoint()
    expect(one).toMatchObject({ headSha: repo.base, commitsAhead: 0 })
    expect(await repo.save(runner, branch, one.sha)).toBeNull()
    await writeFile(join(tree, 'b.txt'), 'b')
    const two = await checkpoint(one.sha)
    // A commit by the agent alone is a change.
    await gitOk(tree, 'add', '--all')
    await gitOk(tree, 'commit', '--quiet', '--message', 'Own')
    const three = await checkpoint(two.sha)
    expect(three.commitsAhead).toBe(1)
    const { path, sha } = await repo.fetched(branch)
    expect(sha).toBe(three.sha)
    expect(await gitOk(path, 'log', '--first-parent', '--format=%H', `${repo.base}..got`)).toBe([three.sha, two.sha, one.sha].join('\n'))
    const restored = await restore(two)
    try {
      expect(await gitOk(restored.path, 'rev-parse', 'HEAD')).toBe(repo.base)
      expect(await snapshot(restored.path)).toMatchObject({ 'a.txt': 'file YQ==', 'b.txt': 'file Yg==' })
    } finally {
      await restored.home.close()
    }
  })

  it('say how many bytes they hold beyond the one before, whether the agent committed them or not', async () => {
    await clone()
    await writeFile(join(tree, 'large.bin'), randomBytes(300_000))
    const first = await checkpoint()
    await writeFile(join(tree, 'small.txt'), 'small')
    const second = await checkpoint(first.sha)
    await writeFile(join(tree, 'committed.bin'), randomBytes(200_000))
    await gitOk(tree, 'add', '-A')
    await gitOk(tree, '-c', 'user.name=A', '-c', 'user.email=a@example.invalid', 'commit', '-qm', 'By the agent')
    const third = await checkpoint(second.sha)
    for (const [made, from] of [[first, 300_000], [second, 0], [third, 200_000]] as const) {
      expect(made.bytes).toBeGreaterThan(from)
      expect(made.bytes).toBeLessThan(from + 20_000)
    }
  })

  it('are repeated without harm when the answer to the push was lost', async () => {
    await clone()
    await writeFile(join(tree, 'a.txt'), 'a')
    const made = await checkpoint()
    // What it weighs depends on how git has packed it.
    expect(await checkpoint()).toEqual({ ...made, bytes: expect.any(Number) as number })
    // Meanwhile the command went on.
    await writeFile(join(tree, 'a.txt'), 'later')
    const later = await checkpoint()
    const { path, sha } = await repo.fetched(branch)
    expect(sha).toBe(later.sha)
    expect(await gitOk(path, 'rev-parse', `${sha}^1`)).toBe(made.sha)
  })

  it('hold the files alone as long as the host refuses the agent’s commits, and build on none of them', async () => {
    await clone()
    const refused = ['one', 'two']
    const own: string[] = []
    let parent = repo.base
    for (const name of refused) {
      own.push(await commitFile(tree, `${name}.txt`, `${name}\n`))
      const made = await runner.checkpoint(repo.checkpoint(parent), callOptions)
      expect(made).toMatchObject({ headSha: own.at(-1), plain: { headSha: repo.base, commitsAhead: 0 } })
      // As when the host has refused what leads to them.
      await runner.push({ sha: made!.plain.sha, branch, access: await repo.write(branch) }, callOptions)
      parent = made!.plain.sha
    }
    const { path, sha } = await repo.fetched(branch)
    expect(sha).toBe(parent)
    const history = await gitOk(path, 'rev-list', 'got')
    for (const commit of own) expect(history).not.toContain(commit)
    expect(await gitOk(path, 'ls-tree', '--name-only', 'got', 'one.txt', 'two.txt')).toBe('one.txt\ntwo.txt')
    // Once it takes them, what comes then may build on them.
    expect(await repo.save(runner, branch, parent)).toBeNull()
    await writeFile(join(tree, 'three.txt'), 'three\n')
    const taken = await repo.save(runner, branch, parent)
    expect(taken).toMatchObject({ headSha: own[1] })
    await writeFile(join(tree, 'four.txt'), 'four\n')
    expect((await runner.checkpoint(repo.checkpoint(taken!.sha), callOptions))?.plain).toMatchObject({ headSha: own[1] })
    // The final commit likewise.
    const final = await runner.commit(finalCommit, callOptions)
    expect(await gitOk(join(sandbox.home, '.switchyard/git'), 'rev-parse', `${final.plainSha}^`)).toBe(own[1])
  })

  it('go one after the other when two consumers ask at once, and past the lock of one that was killed', async () => {
    await clone()
    await writeFile(join(tree, 'a.txt'), 'a')
    await symlink('999999:1', join(sandbox.home, '.switchyard', 'lock'))
    await writeFile(join(sandbox.home, '.switchyard', 'index.lock'), '')
    const made = await Promise.all([1, 2, 3].map(() => repo.save(sandbox.runner(), branch, repo.base)))
    expect(new Set(made.map((one) => one?.sha)).size).toBe(1)
    expect((await repo.fetched(branch)).sha).toBe(made[0]?.sha)
  })

  it('send the base to a new branch no second time', async () => {
    await clone()
    await writeFile(join(tree, 'a.txt'), 'a')
    const before = { ...repo.storage.server.wireBytes(repo.id) }
    const made = await checkpoint()
    const { path } = await repo.fetched(branch)
    expect(await gitOk(path, 'cat-file', '-t', made.sha)).toBe('commit')
    expect(repo.storage.server.wireBytes(repo.id).received - before.received).toBeLessThan(6_000)
  })

  it('never force a branch that went elsewhere', async () => {
    await clone()
    await writeFile(join(tree, 'a.txt'), 'a')
    const made = await checkpoint()
    await clone()
    await writeFile(join(tree, 'other.txt'), 'other')
    await expect(checkpoint()).rejects.toMatchObject({ kind: 'invalid' })
    expect((await repo.fetched(branch)).sha).toBe(made.sha)
  })

  it('leave a merge in progress as it is', async () => {
    await clone()
    await gitOk(tree, 'checkout', '--quiet', '-b', 'side')
    await writeFile(join(tree, 'last.txt'), 'side\n')
    await gitOk(tree, 'commit', '--quiet', '--all', '--message', 'Side')
    await gitOk(tree, 'checkout', '--quiet', 'work')
    await writeFile(join(tree, 'last.txt'), 'main\n')
    await gitOk(tree, 'commit', '--quiet', '--all', '--message', 'Main')
    expect((await git(tree, 'merge', 'side')).code).toBe(1)
    const before = await agentState(tree)
    const made = await checkpoint()
    expect(await agentState(tree)).toEqual(before)
    expect(await readFile(join(tree, '.git', 'MERGE_HEAD'), 'utf8')).not.toBe('')
    const { path, sha } = await repo.fetched(branch)
    expect(await gitOk(path, 'show', `${sha}:last.txt`)).toContain('<<<<<<< HEAD')
    expect(made.commitsAhead).toBe(1)
  })

  it('take nested repositories as files, or as pointers where that is asked for', async () => {
    await clone()
    await gitOk(tree, 'init', '--quiet', 'empty')
    await writeFile(join(tree, 'empty', 'file'), 'in the empty one')
    await gitOk(tree, 'init', '--quiet', 'nested')
    await writeFile(join(tree, 'nested', 'file'), 'x')
    await gitOk(join(tree, 'nested'), 'add', '--all')
    await gitOk(join(tree, 'nested'), 'commit', '--quiet', '--message', 'Nested')
    await writeFile(join(tree, 'nested', 'untracked'), 'not in its commit')
    await gitOk(tree, 'init', '--quiet', 'nested/deeper')
    await writeFile(join(tree, 'nested', 'deeper', 'file'), 'deeper')
    await writeFile(join(tree, 'beside.txt'), 'beside')
    const made = await checkpoint()
    const { path, sha } = await repo.fetched(branch)
    expect((await gitOk(path, 'diff', '--name-only', repo.base, sha)).split('\n')).toEqual(['beside.txt', 'empty/file', 'nested/deeper/file', 'nested/file', 'nested/untracked'])
    expect(made.notes.filter((note) => /^(empty|nested|nested\/deeper) is a repository of its own/.test(note))).toHaveLength(3)
    const pointed = await runner.checkpoint(repo.checkpoint(made.sha, { nestedRepositories: 'gitlink' }), callOptions)
    const own = join(sandbox.home, '.switchyard', 'git')
    expect(await gitOk(own, 'ls-tree', pointed!.sha, 'nested')).toContain(`160000 commit ${await gitOk(join(tree, 'nested'), 'rev-parse', 'HEAD')}`)
    expect(pointed!.unsaved).toEqual([{ path: 'empty', reason: expect.stringContaining('without a commit') as string }])
    await rm(join(tree, 'nested'), { recursive: true, maxRetries: 10 })
    const removed = await checkpoint(made.sha)
    expect(await gitOk((await repo.fetched(branch)).path, 'ls-tree', removed.sha, 'nested')).toBe('')
  })

  // CI takes the repository away, and a part without which git takes the rest for none.
  it.each(whole ? ['.git', '.git/objects', '.git/HEAD', '.git/index'] : ['.git', '.git/HEAD'])('survive a deleted %s', async (gone) => {
    await clone()
    await work(tree)
    const made = await checkpoint()
    await rm(join(tree, gone), { recursive: true, maxRetries: 10 })
    await writeFile(join(tree, 'after.txt'), 'after\n')
    const later = await checkpoint(made.sha)
    expect(later).toMatchObject({ headSha: made.headSha, commitsAhead: 2 })
    const { path, sha } = await repo.fetched(branch)
    expect(await gitOk(path, 'show', `${sha}:after.txt`)).toBe('after')
    const final = await runner.commit(finalCommit, callOptions)
    expect(await gitOk(join(sandbox.home, '.switchyard', 'git'), 'rev-parse', `${final.sha}^1`)).toBe(made.headSha)
  })

  it('survive a new .git without history, and a damaged index of their own', async () => {
    await clone()
    await rm(join(tree, '.git'), { recursive: true, maxRetries: 10 })
    await gitOk(tree, 'init', '--quiet')
    await writeFile(join(tree, 'a.txt'), 'a')
    await gitOk(tree, 'add', '--all')
    await gitOk(tree, 'commit', '--quiet', '--message', 'A root of its own')
    await writeFile(join(sandbox.home, '.switchyard', 'index'), 'no index')
    // Its history is the agent's all the same.
    expect(await checkpoint()).toMatchObject({ headSha: await gitOk(tree, 'rev-parse', 'HEAD'), commitsAhead: 1, descends: false })
  })
})

describe('the final commit', () => {
  it("is the agent's own HEAD when nothing is left over, else one commit on top, the same each time", async () => {
    await clone()
    expect(await runner.commit(finalCommit, callOptions)).toMatchObject({ sha: repo.base, headSha: repo.base })
    await writeFile(join(tree, 'a.txt'), 'a')
    const made = await runner.commit(finalCommit, callOptions)
    expect(await runner.commit(finalCommit, callOptions)).toEqual(made)
    const access = await repo.write(branch)
    await runner.push({ sha: made.sha, branch, access }, callOptions)
    await runner.push({ sha: made.sha, branch, access }, callOptions)
    const { path, sha } = await repo.fetched(branch)
    expect(sha).toBe(made.sha)
    expect(await gitOk(path, 'log', '-1', '--format=%an|%ae|%cn|%ct|%P|%B', sha)).toBe(
      `Añ Author|author@example.invalid|Switchyard|1700000000|${repo.base}|${finalCommit.message.trim()}`,
    )
    await gitOk(tree, 'add', '--all')
    await gitOk(tree, 'commit', '--quiet', '--message', 'Own')
    const own = await gitOk(tree, 'rev-parse', 'HEAD')
    expect(await runner.commit(finalCommit, callOptions)).toMatchObject({ sha: own, headSha: own })
  })

  it('keeps ignored files that the agent committed, and drops what it untracked', async () => {
    await clone()
    await writeFile(join(tree, 'kept.log'), 'kept')
    await gitOk(tree, 'add', '--force', 'kept.log')
    await writeFile(join(tree, '.gitignore'), '*.log\nlast.txt\n')
    await gitOk(tree, 'rm', '--quiet', '--cached', 'last.txt')
    await gitOk(tree, 'add', '.gitignore')
    await gitOk(tree, 'commit', '--quiet', '--message', 'Own')
    const own = await gitOk(tree, 'rev-parse', 'HEAD')
    expect(await runner.commit(finalCommit, callOptions)).toMatchObject({ sha: own, headSha: own })
  })

  it('is refused on another branch than the token is for, and when the commit is not there', async () => {
    await clone()
    await writeFile(join(tree, 'a.txt'), 'a')
    const { sha } = await runner.commit(finalCommit, callOptions)
    const access = await repo.write('another')
    const error = await runner.push({ sha, branch, access }, callOptions).catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(InfrastructureError)
    expect(String(error)).toContain('denied by policy')
    await expect(runner.push({ sha: 'e'.repeat(40), branch, access }, callOptions)).rejects.toMatchObject({ kind: 'invalid' })
  })

  it('survives a removed script, and says when the repository or the state is gone', async () => {
    await clone()
    await runStep(runner, 'rm ~/.switchyard/runner-*; echo a >a.txt')
    const made = await checkpoint()
    await runStep(runner, 'rm -rf ~/repository', { key: 'two' })
    await expect(checkpoint(made.sha)).rejects.toMatchObject({ kind: 'invalid', message: expect.stringContaining('repository is gone') as string })
    await rm(join(sandbox.home, '.switchyard'), { recursive: true, maxRetries: 10 })
    await expect(checkpoint(made.sha)).rejects.toMatchObject({ kind: 'invalid', message: expect.stringContaining('.switchyard') as string })
  })
})
