import { gunzipSync } from 'node:zlib'
import { ApiError, GitStorage, RefUpdateError, type Repo } from '@pierre/storage'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { gitOk, localStorage, org, type LocalStorage } from '../git/local-storage.js'
import { spanning } from '../whole.js'

/** Every method of the real SDK has an answer, at the address that it calls and at the one that its maker prefers. */

const author = { name: 'Ann Author', email: 'ann@example.invalid' }

/** The same request at `/api/repos/{name}/…`: what the SDK's next release sends. */
const atCurrentAddress: typeof fetch = async (input, init) => {
  const url = new URL(input instanceof Request ? input.url : input)
  const token = new Headers(init?.headers).get('authorization')?.slice('Bearer '.length) ?? ''
  const claims = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as { repo: string }
  const name = `/api/repos/${encodeURIComponent(claims.repo)}`
  const path = url.pathname.replace('/api/v1', '')
  // Credentials are found by their repository there.
  if (claims.repo === 'org' && path === '/repos/git-credentials') return fetch(input, init)
  url.pathname = path === '/repos' ? '/api/repos' : path === '/repo' || path === '/repos/delete' ? name : path.replace('/repos', name)
  return fetch(url, init)
}

async function refusal(call: Promise<unknown>): Promise<unknown> {
  return call.then(() => null, (error: unknown) => error)
}

let storage: LocalStorage
beforeAll(async () => {
  storage = await localStorage()
})
afterAll(() => storage.close())

// CI asks where the SDK does today. At the other address our own client's tests do, in ./code-storage-api.test.ts, and the hostile calls.
describe.each(spanning<[string, typeof fetch]>([
  ['/api/v1', fetch],
  ['/api/repos/{name}', atCurrentAddress],
], '/api/v1'))('the SDK at %s', (address, fetchThere) => {
  const id = address === '/api/v1' ? 'methods/older' : 'methods/current'
  const called = new Set<string>()
  let sdk: GitStorage
  let repo: Repo
  let first: string

  /** Notes which methods were called. */
  function watched<Target extends object>(target: Target): Target {
    return new Proxy(target, {
      get(object, name) {
        const value: unknown = Reflect.get(object, name)
        if (typeof value !== 'function') return value
        return (...args: unknown[]) => {
          called.add(String(name))
          return (value as (...args: unknown[]) => unknown).apply(object, args)
        }
      },
    })
  }

  beforeAll(async () => {
    sdk = watched(new GitStorage({ name: org, key: storage.privateKey, apiBaseUrl: storage.server.apiUrl, storageBaseUrl: storage.server.url.replace('http://', ''), fetch: fetchThere }))
    await sdk.createRepo({ id })
    repo = watched((await sdk.findOne({ id }))!)
  })

  it('commits files: into an empty repository, onto a branch, onto a new one, in chunks', async () => {
    const big = Buffer.alloc(5 * 1024 * 1024, 'abc')
    const made = await repo
      .createCommit({ targetBranch: 'main', commitMessage: 'First', author })
      .addFileFromString('src/a.ts', 'const a = 1\n// TODO one\n')
      .addFileFromString('src/b.py', 'todo = 2\n')
      .addFileFromString('run.sh', '#!/bin/sh\n', { mode: '100755' })
      .addFileFromString('link', 'run.sh', { mode: '120000' })
      .addFile('big.bin', big)
      .send()
    first = made.commitSha
    expect(made).toMatchObject({ targetBranch: 'main', blobCount: 5, refUpdate: { branch: 'main', oldSha: '0'.repeat(40), newSha: first } })
    expect(Buffer.from(await (await repo.getFileStream({ path: 'big.bin' })).arrayBuffer()).equals(big)).toBe(true)

    const second = await repo
      .createCommit({ targetBranch: 'main', commitMessage: 'Second', author, committer: { name: 'Bot', email: 'bot@example.invalid' }, expectedHeadSha: first })
      .deletePath('src')
      .addFileFromString('src', 'now a file\n')
      .send()
    expect((await repo.getCommit({ sha: second.commitSha })).commit).toMatchObject({ message: 'Second', authorName: 'Ann Author', committerName: 'Bot', parentShas: [first] })
    expect((await repo.listFiles()).entries.map(({ path, mode }) => [path, mode])).toEqual([['big.bin', '100644'], ['link', '120000'], ['run.sh', '100755'], ['src', '100644']])

    const preview = await repo.createCommit({ targetBranch: 'preview/1', baseBranch: 'main', ephemeral: true, commitMessage: 'Preview', author }).addFileFromString('index.html', '<p>\n').send()
    expect((await repo.listBranches({ ephemeral: true })).branches).toMatchObject([{ name: 'preview/1', headSha: preview.commitSha }])
    expect((await repo.getCommit({ sha: preview.commitSha })).commit.parentShas).toEqual([second.commitSha])

    const stale = await refusal(repo.createCommit({ targetBranch: 'main', commitMessage: 'Stale', author, expectedHeadSha: first }).addFileFromString('x', 'x').send())
    expect(stale).toBeInstanceOf(RefUpdateError)
    expect(stale).toMatchObject({ reason: 'precondition_failed', refUpdate: { branch: 'main', oldSha: second.commitSha } })
    const lost = await refusal(repo.createCommit({ targetBranch: 'elsewhere', commitMessage: 'Lost', author }).addFileFromString('x', 'x').send())
    expect(lost).toMatchObject({ reason: 'not_found', message: expect.stringContaining('base_branch') as unknown })
    for (const path of ['../x', '.git/config', 'a/.GIT/hooks/x', 'a//b']) {
      expect(await refusal(repo.createCommit({ targetBranch: 'main', commitMessage: 'Bad', author }).addFileFromString(path, 'x').send()), path).toBeInstanceOf(RefUpdateError)
    }
    expect(await refusal(repo.createCommit({ targetBranch: 'main', commitMessage: 'Nothing', author }).deletePath('nothing').send())).toMatchObject({ message: expect.stringContaining('nothing') as unknown })
  })

  it('commits a diff, and restores an earlier commit', async () => {
    const head = (await repo.listCommits({ limit: 1 })).commits[0]!.sha
    const diff = 'diff --git a/src b/src\n--- a/src\n+++ b/src\n@@ -1 +1 @@\n-now a file\n+patched\n'
    const made = await repo.createCommitFromDiff({ targetBranch: 'main', commitMessage: 'Patch', diff, author, expectedHeadSha: head })
    expect(await (await repo.getFileStream({ path: 'src' })).text()).toBe('patched\n')
    const again = await refusal(repo.createCommitFromDiff({ targetBranch: 'main', commitMessage: 'Again', diff, author }))
    expect(again).toMatchObject({ reason: 'conflict', refUpdate: { branch: 'main' } })
    expect(await refusal(repo.createCommitFromDiff({ targetBranch: 'main', commitMessage: 'Empty', diff: 'no diff', author }))).toMatchObject({ reason: 'invalid' })

    const restored = await repo.restoreCommit({ targetBranch: 'main', targetCommitSha: first, author, expectedHeadSha: made.commitSha })
    expect(restored).toMatchObject({ targetBranch: 'main', refUpdate: { oldSha: made.commitSha } })
    expect((await repo.getCommitDiff({ sha: restored.commitSha, baseSha: first })).stats.files).toBe(0)
    expect(await refusal(repo.restoreCommit({ targetBranch: 'main', targetCommitSha: first, author, expectedHeadSha: first }))).toMatchObject({ reason: 'precondition_failed' })
  })

  it('lists and reads files, also parts of them, with the last change of each', async () => {
    const { files, commits } = await repo.listFilesWithMetadata()
    expect(files.map(({ path, size, mode }) => [path, size, mode])).toContainEqual(['run.sh', 10, '100755'])
    const { lastCommitSha } = files.find((file) => file.path === 'link')!
    expect(lastCommitSha).toBe(first)
    expect(commits[first]).toMatchObject({ author: 'Ann Author', message: 'First' })
    const page = await repo.listFilesWithMetadata({ limit: 2 })
    expect([page.files.length, page.hasMore]).toEqual([2, true])
    expect((await repo.listFiles({ recursive: false })).paths).not.toContain('src')

    const part = await repo.getFileStream({ path: 'src/a.ts', headers: { range: 'bytes=6-10' } })
    expect([part.status, await part.text(), part.headers.get('content-range')]).toEqual([206, 'a = 1', 'bytes 6-10/24'])
    expect(await (await repo.getFileStream({ path: 'src/a.ts', headers: { range: 'bytes=-4' } })).text()).toBe('one\n')
    expect((await repo.getFileStream({ path: 'src/a.ts', headers: { range: 'bytes=24-' } })).status).toBe(416)
    const head = await repo.headFile({ path: 'src/a.ts', ref: 'main~0' })
    expect((await repo.getFileStream({ path: 'src/a.ts', headers: { ifMatch: '"other"' } })).status).toBe(412)
    expect((await repo.getFileStream({ path: 'src/a.ts', headers: { ifNoneMatch: head.etag! } })).status).toBe(304)
    expect(head).toMatchObject({ status: 200, size: 24, acceptRanges: 'bytes' })
  })

  it('searches, blames and packs', async () => {
    const found = await repo.grep({ query: { pattern: 'to+do', caseSensitive: false }, context: { before: 1 } })
    expect(found.matches).toEqual([
      { path: 'src/a.ts', lines: [{ lineNumber: 1, text: 'const a = 1', type: 'context' }, { lineNumber: 2, text: '// TODO one', type: 'match' }] },
      { path: 'src/b.py', lines: [{ lineNumber: 1, text: 'todo = 2', type: 'match' }] },
    ])
    expect((await repo.grep({ query: { pattern: 'TODO' } })).matches).toHaveLength(1)
    expect((await repo.grep({ query: { pattern: 'o' }, fileFilters: { includeGlobs: ['*.py'] } })).matches.map(({ path }) => path)).toEqual(['src/b.py'])
    expect((await repo.grep({ query: { pattern: 'o' }, fileFilters: { excludeGlobs: ['src/**'] }, paths: ['src'] })).matches).toEqual([])
    const page = await repo.grep({ query: { pattern: 'o' }, fileFilters: { extensionFilters: ['ts', 'py'] }, pagination: { limit: 1 } })
    expect([page.matches[0]?.path, page.hasMore]).toEqual(['src/a.ts', true])
    const next = await repo.grep({ query: { pattern: 'o' }, fileFilters: { extensionFilters: ['ts', 'py'] }, pagination: { limit: 1, cursor: page.nextCursor! } })
    expect([next.matches[0]?.path, next.hasMore]).toEqual(['src/b.py', false])
    expect(await refusal(repo.grep({ query: { pattern: 'x[' } }))).toMatchObject({ status: 400 })

    const blame = await repo.getBlame({ path: 'src/a.ts', ranges: ['2,2'] })
    expect(blame.lines).toMatchObject([{ lineNumber: 2, originalPath: 'src/a.ts', authorName: 'Ann Author', authorEmail: 'ann@example.invalid' }])
    expect(await refusal(repo.getBlame({ path: 'nothing' }))).toMatchObject({ status: 404 })

    const archive = await repo.getArchiveStream({ includeGlobs: ['src/**', 'big.bin'], archivePrefix: 'repo/', maxBlobSize: 1000 })
    const tar = gunzipSync(Buffer.from(await archive.arrayBuffer())).toString('latin1')
    expect([tar.includes('repo/src/a.ts'), tar.includes('run.sh'), tar.includes('big.bin')]).toEqual([true, false, false])
    expect((await repo.getArchiveStream()).headers.get('content-type')).toBe('application/gzip')
  })

  it('tags, notes, branches, merges and diffs', async () => {
    expect(await repo.createTag({ name: 'v/1', target: first })).toMatchObject({ name: 'v/1', sha: first })
    expect(await refusal(repo.createTag({ name: 'v/1', target: first }))).toMatchObject({ status: 409 })
    expect((await repo.listTags()).tags).toMatchObject([{ name: 'v/1', sha: first }])
    expect(await repo.deleteTag({ name: 'v/1' })).toMatchObject({ name: 'v/1' })
    expect((await repo.listTags()).tags).toEqual([])

    const note = await repo.createNote({ sha: first, note: 'Build passed', author })
    expect(note).toMatchObject({ sha: first, targetRef: 'refs/notes/commits', result: { success: true } })
    expect(await refusal(repo.createNote({ sha: first, note: 'Twice' }))).toBeInstanceOf(RefUpdateError)
    await repo.appendNote({ sha: first, note: 'Deployed', expectedRefSha: note.newRefSha })
    expect(await refusal(repo.appendNote({ sha: first, note: 'Late', expectedRefSha: note.newRefSha }))).toMatchObject({ reason: 'precondition_failed' })
    expect((await repo.getNote({ sha: first })).note).toBe('Build passed\n\nDeployed')
    await repo.createNote({ sha: first, note: 'LGTM', ref: 'reviews/ann' })
    expect((await repo.listNotesRefs()).refs.map(({ ref }) => ref)).toEqual(['refs/notes/commits', 'refs/notes/reviews/ann'])
    expect(await repo.listNotesRefs({ prefix: 'reviews/' })).toMatchObject({ prefix: 'refs/notes/reviews/', refs: [{ ref: 'refs/notes/reviews/ann' }] })
    expect((await repo.deleteNote({ sha: first })).result.success).toBe(true)
    expect(await refusal(repo.getNote({ sha: first }))).toMatchObject({ status: 404 })

    expect(await repo.createBranch({ baseRef: first, targetBranch: 'fix' })).toMatchObject({ commitSha: first })
    // A branch that is there is moved forward, and by nothing but "force" elsewhere.
    const main = (await repo.getCommit({ sha: 'main' })).commit.sha
    expect(await repo.createBranch({ baseRef: 'main', targetBranch: 'fix' })).toMatchObject({ commitSha: main })
    expect(await refusal(repo.createBranch({ baseRef: first, targetBranch: 'fix' }))).toMatchObject({ status: 409 })
    await repo.createCommit({ targetBranch: 'fix', commitMessage: 'Fix', author }).addFileFromString('fix', 'x\n').send()
    expect((await repo.getBranchDiff({ branch: 'fix' })).stats).toMatchObject({ files: 1, additions: 1 })
    expect(await repo.previewMerge({ sourceBranch: 'fix', targetBranch: 'main' })).toMatchObject({ status: 'clean', result: 'fast_forward' })
    expect(await repo.merge({ sourceBranch: 'fix', targetBranch: 'main', strategy: 'ff_only', expectedTargetSha: main })).toMatchObject({ result: 'fast_forward', source: { branch: 'fix' } })
    expect(await repo.deleteBranch({ name: 'fix' })).toMatchObject({ name: 'fix', ephemeral: false })
  })

  it('forks, and takes a push by the import address', async () => {
    const fork = await sdk.createRepo({ id: `${id}-fork`, baseRepo: { id } })
    expect((await fork.getCommit({ sha: 'main' })).commit.message).toBe('Fix')
    const pinned = await sdk.createRepo({ id: `${id}-pinned`, defaultBranch: 'trunk', baseRepo: { id, sha: first } })
    expect((await pinned.listBranches()).branches).toMatchObject([{ name: 'trunk', headSha: first }])

    const empty = watched(await sdk.createRepo({ id: `${id}-import` }))
    await gitOk(storage.folder, 'clone', '--quiet', '--bare', storage.url(await repo.getRemoteURL({ ttl: 60 })), `${id.replace('/', '-')}.git`)
    const clone = `${storage.folder}/${id.replace('/', '-')}.git`
    await gitOk(clone, 'push', '--quiet', storage.url(await empty.getImportRemoteURL({ ttl: 60 })), 'main')
    expect((await empty.listBranches()).branches.map(({ name }) => name)).toEqual(['main'])
    await gitOk(clone, 'push', '--quiet', storage.url(await empty.getEphemeralRemoteURL({ ttl: 60 })), 'main:agent')
    expect((await empty.listBranches({ ephemeral: true })).branches.map(({ name }) => name)).toEqual(['agent'])
  })

  it('answers for upstreams, which it has none of', async () => {
    expect(await refusal(repo.pullUpstream({ ref: 'main' }))).toBeInstanceOf(ApiError)
    const credential = await sdk.createGitCredential({ repoId: id, username: 'git', password: 'hunter2' })
    await expect(sdk.createGitCredential({ repoId: id, password: 'x' })).rejects.toThrow('already exists')
    expect(await sdk.updateGitCredential({ id: credential.id, password: 'rotated' })).toMatchObject({ id: credential.id })
    await sdk.deleteGitCredential({ id: credential.id })
    await expect(sdk.deleteGitCredential({ id: credential.id })).rejects.toThrow('not found')
  })

  it('lists and deletes repositories', async () => {
    expect((await sdk.listRepos({ q: id })).repos.map(({ repoId }) => repoId)).toEqual([id, `${id}-fork`, `${id}-import`, `${id}-pinned`])
    expect(await sdk.deleteRepo({ id: `${id}-fork` })).toMatchObject({ repoId: `${id}-fork` })
    expect(storage.log.filter((line) => !line.includes('one machine'))).toEqual([])
  })

  it('was asked by all methods that the SDK has', () => {
    const local = new Set(['constructor', 'generateJWT', 'getConfig', 'repo'])
    const methods = [GitStorage.prototype, Object.getPrototypeOf(sdk.repo({ id })) as object].flatMap((prototype) => Object.getOwnPropertyNames(prototype)).filter((name) => !local.has(name))
    expect(methods.length).toBeGreaterThan(35)
    expect(methods.filter((name) => !called.has(name))).toEqual([])
  })
})
