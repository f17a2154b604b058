import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createPrivateKey } from 'node:crypto'
import { ApiError, type Repo } from '@pierre/storage'
import { SignJWT } from 'jose'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { planMerge } from '../../src/embedded/code-storage/api-merge.js'
import { CodeStorageHost, TokenMinter } from '../../src/git/index.js'
import { commitFile, gitOk, localStorage, org, workTree, type LocalStorage } from '../git/local-storage.js'
import { whole } from '../whole.js'

const author = { name: 'Merge Bot', email: 'merge@example.invalid' }
let storage: LocalStorage
let repo: Repo
let work: string
let base: string

beforeAll(async () => {
  storage = await localStorage()
  repo = await storage.sdk.createRepo({ id: 'acme/api' })
  work = await workTree(storage.folder, 'work')
  await mkdir(join(work, 'src'))
  await writeFile(join(work, 'src', 'ä b.txt'), 'line\n'.repeat(20))
  base = await commitFile(work, 'shared.txt', 'one\ntwo\nthree\n')
  await push('main')
})
afterAll(() => storage.close())

async function push(branch: string, ephemeral = false) {
  const url = ephemeral ? await repo.getEphemeralRemoteURL({ ttl: 60 }) : await repo.getRemoteURL({ ttl: 60 })
  await gitOk(work, 'push', '--quiet', '--force', storage.url(url), `HEAD:refs/heads/${branch}`)
}

/** A branch from `base` with one changed file. */
async function branchWith(branch: string, file: string, content: string, from = base) {
  await gitOk(work, 'checkout', '--quiet', '--detach', from)
  const sha = await commitFile(work, file, content)
  await push(branch)
  return sha
}

async function refused(call: Promise<unknown>): Promise<{ status: number; body: unknown }> {
  const error = await call.then(() => null, (thrown: unknown) => thrown)
  if (!(error instanceof ApiError)) throw new Error(`expected an ApiError, got ${String(error)}`)
  return { status: error.status, body: error.body }
}

describe('the local Code Storage’s API through the SDK', () => {
  it('pages through branches of both namespaces and tags', async () => {
    const names = ['page/a', 'page/b', 'page/c']
    for (const name of names) await repo.createBranch({ baseRef: 'main', targetBranch: name, targetIsEphemeral: true })
    const seen: string[] = []
    let cursor: string | undefined
    do {
      const page = await repo.listBranches({ ephemeral: true, limit: 2, ...(cursor === undefined ? {} : { cursor }) })
      expect(page.branches.length).toBeLessThanOrEqual(2)
      seen.push(...page.branches.map((branch) => branch.name))
      cursor = page.nextCursor
    } while (cursor !== undefined)
    expect(seen).toEqual(names)
    const ours: string[] = []
    for await (const branch of storage.host.client.branches('acme/api', true, { timeoutMs: 20_000 }, 1)) ours.push(branch.name)
    expect(ours).toEqual(names)
    expect((await repo.listBranches()).branches.map((branch) => branch.name)).not.toContain('page/a')

    await gitOk(work, 'tag', '--force', '--annotate', '--message', 'v1', 'v1', base)
    await gitOk(work, 'push', '--quiet', storage.url(await repo.getRemoteURL({ ttl: 60 })), 'v1')
    expect((await repo.listTags()).tags).toMatchObject([{ name: 'v1', sha: base }])
  })

  it('gives pages of the documented sizes', async () => {
    const many = await storage.sdk.createRepo({ id: 'acme/pages' })
    const names = Array.from({ length: 130 }, (_, index) => `t${String(index).padStart(3, '0')}`)
    const url = storage.url(await many.getRemoteURL({ ttl: 60 }))
    await gitOk(work, 'push', '--quiet', url, `${base}:refs/heads/main`, ...names.flatMap((name) => [`${base}:refs/tags/${name}`, `${base}:refs/heads/${name}`, `${base}:refs/notes/${name}`]))
    const [tags, mostTags, branches, refs] = await Promise.all([many.listTags(), many.listTags({ limit: 5000 }), many.listBranches({ limit: 100 }), many.listNotesRefs()])
    expect([tags.tags.length, mostTags.tags.length, branches.branches.length, refs.refs.length]).toEqual([20, 100, 100, 20])
    expect([tags.hasMore, mostTags.nextCursor]).toEqual([true, 't099'])
    for (const limit of [0, -1, 1.5, Number.NaN]) expect((await refused(many.listTags({ limit }))).status, String(limit)).toBe(400)
    expect((await many.listFiles({ limit: 100_000 })).hasMore).toBe(false)
  })

  it('lists commits page by page and looks one up', async () => {
    const head = await branchWith('history', 'more.txt', 'x\n')
    const first = await repo.listCommits({ branch: 'history', limit: 1 })
    expect(first.commits).toMatchObject([{ sha: head, message: 'Change more.txt', authorName: 'Test', parentShas: [base] }])
    // The branch moves in between: the pages still fit together.
    await branchWith('history', 'again.txt', 'x\n', head)
    const second = await repo.listCommits({ branch: 'history', limit: 1, cursor: first.nextCursor! })
    expect(second.commits.map((commit) => commit.sha)).toEqual([base])
    expect((await repo.getCommit({ sha: head.slice(0, 10) })).commit.sha).toBe(head)
    expect(await refused(repo.getCommit({ sha: 'f'.repeat(40) }))).toMatchObject({ status: 404 })
    expect(await refused(repo.listCommits({ branch: '--all' }))).toMatchObject({ status: 404 })
  })

  it('lists and reads files, with HEAD and conditions', async () => {
    expect((await repo.listFiles()).paths).toEqual(['README.md', 'shared.txt', 'src/ä b.txt'])
    expect((await repo.listFiles({ recursive: false })).entries).toContainEqual({ path: 'src', type: 'tree', mode: '040000' })
    expect((await repo.listFiles({ path: 'src' })).paths).toEqual(['src/ä b.txt'])
    const page = await repo.listFiles({ limit: 2 })
    expect([page.paths.length, page.hasMore, page.nextCursor]).toEqual([2, true, 'shared.txt'])

    const file = await repo.getFileStream({ path: 'src/ä b.txt', ref: 'main' })
    expect(await file.text()).toBe('line\n'.repeat(20))
    const head = await repo.headFile({ path: 'shared.txt' })
    expect(head).toMatchObject({ status: 200, size: 14, lastCommitSha: base })
    const unchanged = await repo.getFileStream({ path: 'shared.txt', headers: { ifNoneMatch: head.etag! } })
    expect(unchanged.status).toBe(304)
    for (const path of ['nothing.txt', 'src', '../shared.txt', ':(glob)*']) {
      expect(await refused(repo.getFileStream({ path })), path).toMatchObject({ status: 404 })
    }
  })

  it('shows the diff of a commit and of a branch', async () => {
    await gitOk(work, 'checkout', '--quiet', '--detach', base)
    await gitOk(work, 'mv', 'src/ä b.txt', 'src/renamed.txt')
    await writeFile(join(work, 'binary'), Buffer.from([0, 1, 2]))
    const head = await commitFile(work, 'shared.txt', 'one\n2\nthree\nfour\n')
    await push('diffed', true)
    const branch = await repo.getBranchDiff({ branch: 'diffed', base: 'main', ephemeral: true })
    expect(branch).toMatchObject({ mergeBaseSha: base, stats: { files: 3, additions: 2, deletions: 1, changes: 3 } })
    const states = branch.files.map((file) => [file.path, file.state, file.oldPath ?? null])
    expect(states.sort()).toEqual([['shared.txt', 'modified', null], ['src/renamed.txt', 'renamed', 'src/ä b.txt']])
    expect(branch.filteredFiles).toMatchObject([{ path: 'binary', state: 'added' }])
    expect(branch.files.find((file) => file.path === 'shared.txt')?.raw).toContain('+four')
    const commit = await repo.getCommitDiff({ sha: head, baseSha: base, paths: ['shared.txt'] })
    expect(commit.files.map((file) => file.path)).toEqual(['shared.txt'])
    expect((await repo.getCommitDiff({ sha: head })).stats).toEqual(branch.stats)
  })

  it('leaves out what is only another amount of white space, unless a patch is to be applied', async () => {
    await gitOk(work, 'checkout', '--quiet', '--detach', base)
    await writeFile(join(work, 'src', 'ä b.txt'), '  line\n'.repeat(20))
    const indented = await commitFile(work, 'shared.txt', 'one\ntwo  \nthree\n\u2028diff --git a/x b/x\rdiff --git a/y b/y\n')
    await push('indented')
    const seen = await repo.getCommitDiff({ sha: indented, baseSha: base })
    expect(seen.stats).toMatchObject({ files: 2, additions: 21, deletions: 20 })
    await gitOk(work, 'checkout', '--quiet', '--detach', base)
    await writeFile(join(work, 'src', 'ä b.txt'), 'line \n'.repeat(20))
    const trailing = await commitFile(work, 'shared.txt', 'one\ntwo  \nthree\nfour\n')
    await push('trailing')
    expect((await repo.getCommitDiff({ sha: trailing, baseSha: base })).stats).toMatchObject({ files: 1, additions: 1, deletions: 0 })
    const all = await repo.getCommitDiff({ sha: trailing, baseSha: base, gitApplyCompatible: true })
    expect(all.stats).toMatchObject({ files: 2, additions: 22, deletions: 21 })
    await gitOk(work, 'checkout', '--quiet', '--detach', base)
    await writeFile(join(work, '.git', 'patch'), all.files.map((file) => file.raw).join(''))
    await gitOk(work, 'apply', '--index', '.git/patch')
    expect(await gitOk(work, 'write-tree')).toBe(await gitOk(work, 'rev-parse', `${trailing}^{tree}`))
    await gitOk(work, 'reset', '--quiet', '--hard')
    // A job's result counts them.
    const ours = await storage.host.diff('acme/api', { branch: 'trailing', baseSha: base, headSha: trailing }, { timeoutMs: 20_000 })
    expect(ours).toMatchObject({ files: 2, additions: 22, deletions: 21, paths: ['shared.txt', 'src/ä b.txt'] })
  })

  it('lists files whose patch is too large apart', async () => {
    const head = await branchWith('large', 'large.txt', 'a line of text\n'.repeat(100_000))
    const diff = await repo.getCommitDiff({ sha: head })
    expect(diff.stats).toMatchObject({ files: 1, additions: 100_000 })
    expect(diff.files).toEqual([])
    expect(diff.filteredFiles.map((file) => file.path)).toEqual(['large.txt'])
  })

  it('previews and makes merges of every kind', async () => {
    const left = await branchWith('left', 'left.txt', 'x\n')
    await branchWith('right', 'right.txt', 'x\n')
    expect(await repo.previewMerge({ sourceBranch: 'left', targetBranch: 'main' })).toMatchObject({ status: 'clean', result: 'fast_forward', mergeBaseSha: base })
    expect(await repo.previewMerge({ sourceBranch: 'right', targetBranch: 'left' })).toMatchObject({ status: 'clean', result: 'merge_commit' })
    const request = { sourceBranch: 'right', targetBranch: 'left', commitMessage: 'Join', author } as const

    expect(await refused(repo.merge({ ...request, strategy: 'ff_only' }))).toMatchObject({ status: 409, body: { merge_base_sha: base } })
    expect(await refused(repo.merge({ sourceBranch: 'right', targetBranch: 'left', strategy: 'merge' }))).toMatchObject({ status: 400 })
    const merged = await repo.merge({ ...request, strategy: 'ff_prefer' })
    expect(merged).toMatchObject({ result: 'merge_commit', target: { oldSha: left }, promotedCommits: 1 })
    const { commit } = await repo.getCommit({ sha: merged.commitSha })
    expect(commit).toMatchObject({ message: 'Join', authorName: 'Merge Bot' })
    expect(commit.parentShas).toHaveLength(2)

    await branchWith('squashed', 'squash.txt', 'x\n')
    const squash = await repo.merge({ ...request, sourceBranch: 'squashed', strategy: 'merge', squash: true })
    expect(squash.result).toBe('squash')
    expect((await repo.getCommit({ sha: squash.commitSha })).commit.parentShas).toEqual([merged.commitSha])
  })

  it('answers a conflict with its paths, and changes nothing', async () => {
    const ours = await branchWith('ours', 'shared.txt', 'one\nTWO\nthree\n')
    await branchWith('theirs', 'shared.txt', 'one\n2\nthree\n')
    expect(await repo.previewMerge({ sourceBranch: 'theirs', targetBranch: 'ours' })).toMatchObject({ status: 'conflicted', conflictPaths: ['shared.txt'], conflicts: [], filteredConflicts: [] })
    const shown = await repo.previewMerge({ sourceBranch: 'theirs', targetBranch: 'ours', includeContent: true })
    expect(shown.conflicts).toMatchObject([
      { path: 'shared.txt', base: { content: 'one\ntwo\nthree\n', truncated: false, binary: false }, ours: { content: 'one\nTWO\nthree\n' }, theirs: { content: 'one\n2\nthree\n' } },
    ])
    expect(shown.conflicts[0]?.result.content).toMatch(/^one\n<{7}.*\nTWO\n={7}\n2\n>{7}/)
    const answer = await refused(repo.merge({ sourceBranch: 'theirs', targetBranch: 'ours', strategy: 'merge', commitMessage: 'x', author }))
    expect(answer).toMatchObject({
      status: 409,
      body: { error: 'merge conflict', conflict_type: 'merge_conflict', conflict_paths: ['shared.txt'], merge_base_sha: base },
    })
    expect((await repo.listCommits({ branch: 'ours', limit: 1 })).commits[0]?.sha).toBe(ours)
  })

  it('joins many merges at once without losing one', async () => {
    await branchWith('hub', 'hub.txt', 'x\n')
    const spokes = Array.from({ length: whole ? 10 : 5 }, (_, index) => `spoke/${index}`)
    for (const [index, name] of spokes.entries()) await branchWith(name, `spoke-${index}.txt`, 'x\n')
    const outcomes = await Promise.allSettled(
      spokes.map((name) => repo.merge({ sourceBranch: name, targetBranch: 'hub', strategy: 'merge', commitMessage: `Merge ${name}`, author })),
    )
    const merged = spokes.filter((_, index) => outcomes[index]?.status === 'fulfilled')
    expect(merged.length).toBeGreaterThan(0)
    const { paths } = await repo.listFiles({ ref: 'hub' })
    for (const name of merged) expect(paths).toContain(`spoke-${name.slice('spoke/'.length)}.txt`)
    for (const outcome of outcomes) if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ status: 409 })
  })

  it('refuses what makes no sense, in a sentence', async () => {
    expect(await refused(repo.createBranch({ baseRef: 'nowhere', targetBranch: 'x' }))).toMatchObject({ status: 404 })
    expect(await refused(repo.createBranch({ baseRef: 'main', targetBranch: 'a..b' }))).toMatchObject({ status: 400 })
    expect(await refused(repo.createBranch({ baseRef: 'theirs', targetBranch: 'ours' }))).toMatchObject({ status: 409 })
    expect(await refused(repo.deleteBranch({ name: 'main' }))).toMatchObject({ status: 409 })
    expect(await refused(repo.deleteBranch({ name: 'nowhere' }))).toMatchObject({ status: 404 })
    await expect(storage.sdk.createRepo({ id: 'acme/a..b' })).rejects.toMatchObject({ status: 400 })
    await expect(storage.sdk.createRepo({ id: 'mirror', baseRepo: { owner: 'octocat', name: 'Hello-World' } })).rejects.toMatchObject({ status: 501 })
    expect(storage.log.filter((line) => !line.includes('one machine'))).toEqual([])
  })
})

describe('our client at the address that the maker prefers', () => {
  it('does what it does at the older one', async () => {
    const host = new CodeStorageHost({ org, privateKey: storage.privateKey, storageUrl: storage.server.url, apiUrl: storage.server.apiUrl, apiPaths: 'repos' })
    const asked: string[] = []
    const { client } = new CodeStorageHost({
      org,
      privateKey: storage.privateKey,
      storageUrl: storage.server.url,
      apiUrl: storage.server.apiUrl,
      apiPaths: 'repos',
      fetch: async (input, init) => {
        asked.push(input instanceof Request ? input.url : input.toString())
        return fetch(input, init)
      },
    })
    const options = { timeoutMs: 20_000 }
    expect(await client.createRepository('acme/current', 'trunk', options)).toBe(true)
    expect(await client.createRepository('acme/current', 'trunk', options)).toBe(false)
    expect(await client.repository('acme/current', options)).toEqual({ defaultBranch: 'trunk' })
    expect(await client.deleteRepository('acme/current', options)).toBe(true)
    const target = { name: 'current/a', ephemeral: false }
    expect(await client.createBranch('acme/api', { base: { name: 'main', ephemeral: false }, target }, options)).toEqual({ sha: base })
    const source = { name: 'hub', ephemeral: false }
    const author = { name: 'A', email: 'a@example.invalid' }
    const merged = await client.merge('acme/api', { source, target, strategy: 'ff_only', expectedTargetSha: base, message: 'm', author }, options)
    expect(merged).toMatchObject({ merged: { result: 'fast_forward' } })
    const head = (await host.branchHead('acme/api', target, options))!
    expect(await client.commit('acme/api', head, options)).toMatchObject({ sha: head })
    expect((await client.diff('acme/api', { baseSha: base, headSha: head }, options)).stats.files).toBeGreaterThan(0)
    const names: string[] = []
    for await (const { name } of client.branches('acme/api', false, options, 2)) names.push(name)
    expect(names).toContain('current/a')
    expect(await client.deleteBranch('acme/api', target, options)).toBe(true)
    expect(await client.deleteBranch('acme/api', target, options)).toBe(false)
    expect(asked.filter((url) => url.includes('/v1/'))).toEqual([])
  })

  it('knows the names that its next SDKs send, which count before the older ones', async () => {
    const { token } = await new TokenMinter({ org, privateKey: storage.privateKey }).mint({ repository: 'acme/api', scopes: ['git:write'] })
    const call = async (method: string, path: string, body?: object) => {
      const answer = await fetch(`${storage.server.apiUrl}/api/repos/acme%2Fapi/${path}`, { method, headers: { authorization: `Bearer ${token}` }, ...(body === undefined ? {} : { body: JSON.stringify(body) }) })
      return (await answer.json()) as Record<string, unknown>
    }
    expect(await call('GET', `commit?ref=${base}&sha=nonsense`)).toMatchObject({ commit: { sha: base } })
    expect(await call('GET', 'commits?ref=main&branch=nonsense&limit=1')).toMatchObject({ commits: [{ sha: base }] })
    expect(await call('GET', `diff?ref=hub&base_ref=main&git_apply_compatible=true&ref_is_ephemeral=false`)).toMatchObject({ base_sha: base })
    expect(await call('POST', 'tags', { name: 'new/names', ref: 'main', target: 'nonsense' })).toMatchObject({ sha: base })
    expect(await call('GET', 'tag?name=new%2Fnames')).toMatchObject({ tag: { name: 'new/names', sha: base } })
    expect(await call('DELETE', 'tags/new%2Fnames')).toMatchObject({ name: 'new/names' })
    expect(await call('POST', 'notes', { object_ref: 'main', notes_ref: 'names', note: 'n' })).toMatchObject({ notes_ref: 'refs/notes/names', result: { success: true } })
    expect(await call('GET', 'notes?object_ref=main&notes_ref=names')).toMatchObject({ note: 'n' })
    await call('POST', 'branches/create', { base_ref: 'main', target_branch: 'names', target_is_ephemeral: true })
    expect(await call('GET', 'branch?name=names&ephemeral=true')).toMatchObject({ branch: { name: 'names', head_sha: base } })
    expect(await call('POST', 'merge', { source_ref: 'names', source_is_ephemeral: true, target_branch: 'main', strategy: 'ff_only' })).toMatchObject({ result: 'no_op', source: { ref: 'names' } })
    expect(await call('DELETE', 'branches', { target_branch: 'names', ephemeral: true })).toMatchObject({ target_branch: 'names' })
    const restored = await call('POST', 'restore-commit', { metadata: { target_branch: 'history', base_ref: 'main', author } })
    expect(restored).toMatchObject({ result: { target_branch: 'history', success: true } })
    // A token for the whole organisation names no repository, and lists them.
    const { token: whole } = await mintWithout()
    const listed = await fetch(`${storage.server.apiUrl}/api/repos?q=acme/api`, { headers: { authorization: `Bearer ${whole}` } })
    expect(await listed.json()).toMatchObject({ repos: [{ repo_name: 'acme/api' }], has_more: false })
    expect((await fetch(`${storage.server.apiUrl}/api/repos/acme%2Fapi/branches`, { headers: { authorization: `Bearer ${whole}` } })).status).toBe(403)
    expect((await fetch(`${storage.server.url}/acme/api.git/info/refs?service=git-upload-pack`, { headers: { authorization: `Basic ${Buffer.from(`t:${whole}`).toString('base64')}` } })).status).toBe(403)
  })
})

/** A token for the organisation, as its documentation writes one: without a repository. */
async function mintWithout(): Promise<{ token: string }> {
  const now = Math.floor(Date.now() / 1000)
  const claims = { iss: org, sub: '@pierre/storage', scopes: ['org:read', 'git:read'], iat: now, exp: now + 60 }
  return { token: await new SignJWT(claims).setProtectedHeader({ alg: 'ES256', typ: 'JWT' }).sign(createPrivateKey(storage.privateKey)) }
}

describe('planning a merge', () => {
  it.each([
    [true, true, 'merge', 'no_op'],
    [true, false, 'ff_only', 'no_op'],
    [false, true, 'ff_only', 'fast_forward'],
    [false, true, 'ff_prefer', 'fast_forward'],
    [false, true, 'merge', 'merge_commit'],
    [false, false, 'ff_only', 'not_fast_forward'],
    [false, false, 'ff_prefer', 'merge_commit'],
  ] as const)('source in target %s, target in source %s, %s: %s', (sourceInTarget, targetInSource, strategy, plan) => {
    expect(planMerge({ sourceInTarget, targetInSource }, strategy, false)).toBe(plan)
  })
})
