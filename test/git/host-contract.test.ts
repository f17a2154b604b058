import { readdirSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest'
import { HttpsGitHost, TokenMinter, type GitHost } from '../../src/git/index.js'
import { InfrastructureError, PromotionConflictError } from '../../src/job/errors.js'
import { commitFile, git, gitOk, localStorage, org, withToken, workTree, type LocalStorage } from './local-storage.js'

const options = { timeoutMs: 20_000 }
const none = '0'.repeat(39) + '1'

async function failure(promise: Promise<unknown>): Promise<Error> {
  const error = await promise.then(() => null, (thrown: unknown) => thrown)
  if (!(error instanceof Error)) throw new Error('expected a failure')
  return error
}

/** What every GitHost must do; each kind is held against it on the same server. */
describe.each(['code-storage', 'https'])('the git host %s', (kind) => {
  let storage: LocalStorage
  let host: GitHost
  let work: string
  let base: string
  let sequence = 0
  beforeAll(async () => {
    storage = await localStorage()
    const minter = new TokenMinter({ org, privateKey: storage.privateKey })
    host =
      kind === 'code-storage'
        ? storage.host
        : new HttpsGitHost({
            url: storage.server.url,
            token: async (repository, access) => ({
              username: 't',
              ...(await minter.mint({ repository, scopes: [access === 'read' ? 'git:read' : 'git:write'], ttlSeconds: 60 })),
            }),
          })
    await storage.host.client.createRepository('acme/web', 'main', options)
    await storage.host.client.createRepository('acme/empty', 'main', options)
    work = await workTree(storage.folder, 'work')
    await commitFile(work, 'shared.txt', 'one\ntwo\nthree\n')
    await gitOk(work, 'tag', 'light')
    await gitOk(work, 'tag', '--annotate', '--message', 'A release', 'v1.0')
    base = await commitFile(work, 'second.txt', 'second\n')
    await storage.sdk.repo({ id: 'acme/web' }).getRemoteURL({ ttl: 60 }).then((url) => gitOk(work, 'push', '--quiet', '--tags', storage.url(url), 'main'))
  })
  afterAll(() => storage.close())

  /** A job branch with one commit on `from`, pushed with the host's own write access. */
  async function jobBranch(from: string, file: string, content: string): Promise<{ branch: string; sha: string }> {
    const branch = `agent/job-${++sequence}`
    await gitOk(work, 'checkout', '--quiet', '--detach', from)
    const sha = await commitFile(work, file, content)
    const access = await host.writeAccess('acme/web', { branch })
    expect(access.url).not.toContain(access.token)
    await gitOk(work, 'push', '--quiet', withToken(access), `HEAD:refs/heads/${branch}`)
    return { branch, sha }
  }

  const promotion = (job: { branch: string; sha: string }, to: string, expectedTargetSha: string | null) => ({
    repository: 'acme/web',
    ...job,
    to,
    expectedTargetSha,
    strategy: 'ff_only' as const,
    message: 'Merge the work',
  })

  it('is checked without a repository: that it answers, and that it takes the key where it can tell', async () => {
    expect(await host.check(options)).toHaveLength(kind === 'code-storage' ? 0 : 1)
    storage.server.setOutage({ kind: 'unavailable', of: 'git' })
    onTestFinished(() => storage.server.setOutage(null))
    expect(await failure(host.check(options))).toMatchObject({ kind: 'transient' })
  })

  it('resolves the default branch, branches, tags, full refs and full shas', async () => {
    const tagged = await gitOk(work, 'rev-parse', 'light')
    expect(await host.resolve('acme/web', null, options)).toEqual({ ref: 'refs/heads/main', sha: base })
    expect(await host.resolve('acme/web', 'main', options)).toEqual({ ref: 'refs/heads/main', sha: base })
    expect(await host.resolve('acme/web', 'refs/heads/main', options)).toEqual({ ref: 'refs/heads/main', sha: base })
    expect(await host.resolve('acme/web', 'light', options)).toEqual({ ref: 'refs/tags/light', sha: tagged })
    expect(await host.resolve('acme/web', 'v1.0', options)).toEqual({ ref: 'refs/tags/v1.0', sha: tagged })
    expect(await host.resolve('acme/web', 'refs/tags/v1.0', options)).toEqual({ ref: 'refs/tags/v1.0', sha: tagged })
    expect(await host.resolve('acme/web', tagged, options)).toEqual({ ref: null, sha: tagged })
  })

  it.each([
    ['a ref that does not exist', 'acme/web', 'nowhere', '"nowhere"'],
    ['a commit that does not exist', 'acme/web', none, none],
    ['a repository that does not exist', 'acme/missing', 'main', 'acme/missing'],
    ['a repository without commits', 'acme/empty', null, 'acme/empty'],
    ['a repository id that leaves its place', '../etc', 'main', '../etc'],
    ['a repository id of another namespace', 'acme/web+ephemeral', 'main', 'acme/web+ephemeral'],
    ['a ref that is an option', 'acme/web', '--upload-pack=touch', '--upload-pack=touch'],
    ['a ref with a line break', 'acme/web', 'main\nHEAD', 'main'],
  ])('says invalid and names it: %s', async (_what, repository, ref, named) => {
    const error = await failure(host.resolve(repository, ref, options))
    expect(error).toBeInstanceOf(InfrastructureError)
    expect(error).toMatchObject({ kind: 'invalid' })
    expect(error.message).toContain(named)
  })

  it('fetches one commit by its sha, shallow, with read access', async () => {
    const { branch, sha } = await jobBranch(base, 'fetched.txt', 'x\n')
    const access = await host.readAccess('acme/web', { ephemeral: true })
    const clone = `${storage.folder}/clone-${sequence}`
    await gitOk(storage.folder, 'init', '--quiet', clone)
    await gitOk(clone, 'fetch', '--quiet', '--depth=1', '--no-tags', withToken(access), sha)
    expect(await gitOk(clone, 'rev-list', '--count', 'FETCH_HEAD')).toBe('1')
    expect(await host.branchHead('acme/web', { name: branch, ephemeral: true }, options)).toBe(sha)
    expect(await host.branchHead('acme/web', { name: 'agent/none', ephemeral: true }, options)).toBeNull()
    const refused = await git(clone, 'push', withToken(access), 'FETCH_HEAD:refs/heads/agent/read-only')
    expect(refused.code).not.toBe(0)
    expect(refused.stderr).toContain('403')
  })

  it('promotes to a new branch, once', async () => {
    const job = await jobBranch(base, 'created.txt', 'x\n')
    expect(await host.promote(promotion(job, 'fix/created', null), options)).toEqual({ to: 'fix/created', sha: job.sha, result: 'created' })
    expect(await host.promote(promotion(job, 'fix/created', null), options)).toEqual({ to: 'fix/created', sha: job.sha, result: 'no_op' })
    const other = await jobBranch(base, 'other.txt', 'x\n')
    expect(await failure(host.promote(promotion(other, 'fix/created', null), options))).toBeInstanceOf(PromotionConflictError)
    expect(await host.branchHead('acme/web', { name: 'fix/created', ephemeral: false }, options)).toBe(job.sha)
  })

  it('says which branch is in the way of a new one', async () => {
    const job = await jobBranch(base, 'below.txt', 'x\n')
    await host.promote(promotion(job, 'way/in/deep', null), options)
    const other = await jobBranch(base, 'above.txt', 'x\n')
    for (const [to, inTheWay] of [['way/in/deep/er', 'way/in/deep'], ['way/in', 'way/in/deep'], ['way', 'way/in/deep']] as const) {
      const refused = await failure(host.promote(promotion(other, to, null), options))
      expect(refused).toBeInstanceOf(PromotionConflictError)
      expect(refused.message).toContain(`"${to}" can’t be made while there is a branch "${inTheWay}"`)
    }
  })

  it('promotes by fast-forward as a compare-and-swap', async () => {
    const first = await jobBranch(base, 'first.txt', 'x\n')
    await host.promote(promotion(first, 'release', null), options)
    const next = await jobBranch(first.sha, 'next.txt', 'x\n')
    const rival = await jobBranch(first.sha, 'rival.txt', 'x\n')
    expect(await host.promote(promotion(next, 'release', first.sha), options)).toEqual({ to: 'release', sha: next.sha, result: 'fast_forward' })
    // The lost answer: the same call again is success.
    expect(await host.promote(promotion(next, 'release', first.sha), options)).toEqual({ to: 'release', sha: next.sha, result: 'no_op' })
    const moved = await failure(host.promote(promotion(rival, 'release', first.sha), options))
    expect(moved).toBeInstanceOf(PromotionConflictError)
    expect(moved.message).toContain(next.sha)
    const diverged = await failure(host.promote(promotion(rival, 'release', next.sha), options))
    expect(diverged).toBeInstanceOf(PromotionConflictError)
    expect(await host.branchHead('acme/web', { name: 'release', ephemeral: false }, options)).toBe(next.sha)
  })

  it('promotes a diverged branch by a merge commit, and knows it again', async () => {
    const first = await jobBranch(base, 'left.txt', 'x\n')
    await host.promote(promotion(first, 'joined', null), options)
    const side = await jobBranch(base, 'right.txt', 'x\n')
    const request = { ...promotion(side, 'joined', first.sha), strategy: 'ff_prefer' as const }
    const merged = await host.promote(request, options)
    expect(merged.result).toBe('merge_commit')
    expect(await host.promote(request, options)).toEqual(merged)
    const access = await host.readAccess('acme/web', { ephemeral: false })
    await gitOk(work, 'fetch', '--quiet', withToken(access), 'refs/heads/joined')
    expect(await gitOk(work, 'log', '-1', '--format=%P|%s|%an', 'FETCH_HEAD')).toBe(`${first.sha} ${side.sha}|Merge the work|Switchyard`)
    expect(await gitOk(work, 'ls-tree', '--name-only', 'FETCH_HEAD')).toContain('right.txt')
  })

  it('names the conflicting files and changes nothing', async () => {
    const first = await jobBranch(base, 'shared.txt', 'one\nTWO\nthree\n')
    await host.promote(promotion(first, 'conflicted', null), options)
    const side = await jobBranch(base, 'shared.txt', 'one\n2\nthree\n')
    const error = await failure(host.promote({ ...promotion(side, 'conflicted', first.sha), strategy: 'merge' }, options))
    expect(error).toBeInstanceOf(PromotionConflictError)
    expect(error.message).toContain('shared.txt')
    expect(await host.branchHead('acme/web', { name: 'conflicted', ephemeral: false }, options)).toBe(first.sha)
  })

  it('refuses to promote a job branch that stands elsewhere', async () => {
    const job = await jobBranch(base, 'elsewhere.txt', 'x\n')
    const error = await failure(host.promote(promotion({ ...job, sha: base }, 'fix/elsewhere', null), options))
    expect(error).toMatchObject({ kind: 'invalid' })
    expect(error.message).toContain(job.branch)
  })

  it('lets exactly one of two promotions at once win', async () => {
    const first = await jobBranch(base, 'race.txt', '0\n')
    await host.promote(promotion(first, 'raced', null), options)
    const rivals = [await jobBranch(first.sha, 'race.txt', '1\n'), await jobBranch(first.sha, 'race.txt', '2\n')]
    const outcomes = await Promise.allSettled(rivals.map((job) => host.promote(promotion(job, 'raced', first.sha), options)))
    const lost = outcomes.filter((outcome) => outcome.status === 'rejected')
    expect(lost).toHaveLength(1)
    expect(lost[0]?.reason).toBeInstanceOf(PromotionConflictError)
    const head = await host.branchHead('acme/web', { name: 'raced', ephemeral: false }, options)
    expect(head).toBe(rivals[outcomes.findIndex((outcome) => outcome.status === 'fulfilled')]?.sha)
  })

  it('counts what a job branch changed', async () => {
    await gitOk(work, 'checkout', '--quiet', '--detach', base)
    await gitOk(work, 'mv', 'second.txt', 'moved é.txt')
    const job = await jobBranchFromIndex('shared.txt', 'one\ntwo\nthree\nfour\n')
    expect(await host.diff('acme/web', { ...job, baseSha: base, headSha: job.sha }, options)).toEqual({
      files: 2,
      additions: 1,
      deletions: 0,
      paths: ['moved é.txt', 'shared.txt'],
    })
    expect((await host.diff('acme/web', { ...job, baseSha: base, headSha: job.sha, lines: true }, options)).hunks).toEqual([{ path: 'shared.txt', text: '@@ -1,3 +1,4 @@\n one\n two\n three\n+four\n', cut: false }])
  })

  async function jobBranchFromIndex(file: string, content: string) {
    const branch = `agent/job-${++sequence}`
    const sha = await commitFile(work, file, content)
    await gitOk(work, 'push', '--quiet', withToken(await host.writeAccess('acme/web', { branch })), `HEAD:refs/heads/${branch}`)
    return { branch, sha }
  }

  it('deletes a job branch, and one that is gone already', async () => {
    const { branch } = await jobBranch(base, 'gone.txt', 'x\n')
    const name = { name: branch, ephemeral: true }
    await host.deleteBranch('acme/web', name, options)
    expect(await host.branchHead('acme/web', name, options)).toBeNull()
    await host.deleteBranch('acme/web', name, options)
  })

  it.each([
    ['unavailable', 'transient'],
    ['refuse', 'transient'],
  ] as const)('sorts an outage (%s) as %s and goes on after it', async (fault, expected) => {
    storage.server.setOutage({ kind: fault, of: 'all' })
    const error = await failure(host.resolve('acme/web', 'main', options))
    storage.server.setOutage(null)
    expect(error).toMatchObject({ kind: expected })
    expect((await host.resolve('acme/web', 'main', options)).sha).toBe(base)
  })

  it('stops when the caller cancels, and leaves no temporary folder', async () => {
    vi.stubEnv('TMPDIR', storage.folder)
    onTestFinished(() => {
      vi.unstubAllEnvs()
    })
    const temporaryFolders = () => readdirSync(storage.folder).filter((name) => name.startsWith('switchyard-'))
    const job = await jobBranch(base, 'cancelled.txt', 'x\n')
    const controller = new AbortController()
    const call = failure(host.promote(promotion(job, 'fix/cancelled', null), { ...options, signal: controller.signal }))
    if (kind === 'https') await vi.waitUntil(() => temporaryFolders().length === 1, { interval: 1, timeout: 60_000 })
    controller.abort(new Error('cancelled by the caller'))
    expect((await call).message).toBe('cancelled by the caller')
    expect(temporaryFolders()).toEqual([])
    expect(await host.branchHead('acme/web', { name: 'fix/cancelled', ephemeral: false }, options)).toBeNull()
  })
})
