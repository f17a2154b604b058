import { ApiError } from '@pierre/storage'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { commitFile, git, gitOk, localStorage, workTree, type LocalStorage } from '../git/local-storage.js'

let storage: LocalStorage
beforeAll(async () => {
  storage = await localStorage()
})
afterAll(() => storage.close())

/** A repository with one commit on main, through the SDK and git. */
async function seeded(id: string) {
  const repo = await storage.sdk.createRepo({ id })
  const work = await workTree(storage.folder, id.replaceAll('/', '-'))
  await gitOk(work, 'push', '--quiet', storage.url(await repo.getRemoteURL({ ttl: 60 })), 'main')
  return { repo, work, base: await gitOk(work, 'rev-parse', 'HEAD') }
}

describe('the real SDK against the local Code Storage', () => {
  it('creates, finds, lists and deletes repositories, also with a slash in the id', async () => {
    const created = await storage.sdk.createRepo({ id: 'team/project', defaultBranch: 'trunk' })
    expect(created.id).toBe('team/project')
    await expect(storage.sdk.createRepo({ id: 'team/project' })).rejects.toThrow('already exists')
    await storage.sdk.createRepo({ id: 'team' })
    expect((await storage.sdk.findOne({ id: 'team/project' }))?.defaultBranch).toBe('trunk')
    expect(await storage.sdk.findOne({ id: 'team/other' })).toBeNull()

    const first = await storage.sdk.listRepos({ limit: 1, q: 'team' })
    expect(first.repos.map((repo) => repo.repoId)).toEqual(['team'])
    expect(first.hasMore).toBe(true)
    const second = await storage.sdk.listRepos({ limit: 1, q: 'team', cursor: first.nextCursor! })
    expect(second.repos.map((repo) => repo.repoId)).toEqual(['team/project'])
    expect(second.hasMore).toBe(false)

    expect(await storage.sdk.deleteRepo({ id: 'team/project' })).toMatchObject({ repoId: 'team/project' })
    expect(await storage.sdk.findOne({ id: 'team/project' })).toBeNull()
    expect(await storage.sdk.findOne({ id: 'team' })).not.toBeNull()
    await expect(storage.sdk.deleteRepo({ id: 'team/project' })).rejects.toThrow('not found')
  })

  it('keeps the ephemeral namespace apart and promotes by createBranch', async () => {
    const { repo, work, base } = await seeded('acme/promote-create')
    const head = await commitFile(work, 'agent.txt', 'work\n')
    await gitOk(work, 'push', '--quiet', storage.url(await repo.getEphemeralRemoteURL({ ttl: 60 })), 'HEAD:refs/heads/agent/one')

    expect((await repo.listBranches()).branches.map((branch) => branch.name)).toEqual(['main'])
    const ephemeral = await repo.listBranches({ ephemeral: true })
    expect(ephemeral.branches).toMatchObject([{ name: 'agent/one', headSha: head }])
    const normal = await gitOk(work, 'ls-remote', storage.url(await repo.getRemoteURL({ ttl: 60 })))
    expect(normal).toBe(`${base}\tHEAD\n${base}\trefs/heads/main`)
    const apart = await gitOk(work, 'ls-remote', storage.url(await repo.getEphemeralRemoteURL({ ttl: 60 })))
    expect(apart).toBe(`${head}\trefs/heads/agent/one`)

    const promoted = await repo.createBranch({ baseRef: 'refs/heads/agent/one', baseIsEphemeral: true, targetBranch: 'fix/one' })
    expect(promoted).toMatchObject({ targetBranch: 'fix/one', targetIsEphemeral: false, commitSha: head })
    expect(await gitOk(work, 'ls-remote', storage.url(await repo.getRemoteURL({ ttl: 60 })), 'refs/heads/fix/one')).toContain(head)

    expect(await repo.deleteBranch({ name: 'agent/one', ephemeral: true })).toMatchObject({ name: 'agent/one', ephemeral: true })
    expect((await repo.listBranches({ ephemeral: true })).branches).toEqual([])
    // The objects are shared: they outlive the ephemeral branch and a gc.
    expect((await repo.getCommit({ sha: head })).commit.sha).toBe(head)
  })

  it('promotes by merge as a compare-and-swap: 409 when the target moved', async () => {
    const { repo, work, base } = await seeded('acme/promote-merge')
    const head = await commitFile(work, 'agent.txt', 'work\n')
    await gitOk(work, 'push', '--quiet', storage.url(await repo.getEphemeralRemoteURL({ ttl: 60 })), 'HEAD:refs/heads/agent/two')
    const request = { sourceBranch: 'agent/two', sourceIsEphemeral: true, targetBranch: 'main', strategy: 'ff_only', expectedTargetSha: base } as const

    const merged = await repo.merge(request)
    expect(merged).toMatchObject({ result: 'fast_forward', commitSha: head, promotedCommits: 1, target: { oldSha: base, newSha: head } })
    const refused = await repo.merge(request).then(() => null, (error: unknown) => error)
    expect(refused).toBeInstanceOf(ApiError)
    expect((refused as ApiError).status).toBe(409)
    expect((refused as ApiError).body).toMatchObject({ conflict_type: 'target_moved' })
    expect(await repo.merge({ ...request, expectedTargetSha: head })).toMatchObject({ result: 'no_op', commitSha: head })
  })

  it('refuses a push that the ref policies do not allow, in git’s own report', async () => {
    const { repo, work } = await seeded('acme/policies')
    const head = await commitFile(work, 'agent.txt', 'work\n')
    const url = storage.url(
      await repo.getEphemeralRemoteURL({
        ttl: 60,
        permissions: ['git:write'],
        refPolicies: [{ pattern: 'refs/heads/agent/a', ops: ['no-force-push'] }, { pattern: '*', ops: ['no-push'] }],
      }),
    )
    const foreign = await git(work, 'push', url, 'HEAD:refs/heads/agent/b')
    expect(foreign.code).toBe(1)
    expect(foreign.stderr).toContain('denied by policy: refs/heads/agent/b (no-push)')
    expect((await git(work, 'push', url, 'HEAD:refs/heads/agent/a')).code).toBe(0)
    await gitOk(work, 'commit', '--amend', '--message', 'Another')
    const forced = await git(work, 'push', '--force', url, 'HEAD:refs/heads/agent/a')
    expect(forced.code).toBe(1)
    expect(forced.stderr).toContain('denied by policy: refs/heads/agent/a (no-force-push)')
    expect((await repo.listBranches({ ephemeral: true })).branches).toMatchObject([{ name: 'agent/a', headSha: head }])
  })
})
