import { spawnSync } from 'node:child_process'
import { afterEach, expect, it } from 'vitest'
import { git, startDeployment, type Deployment } from './deployment.js'
import { whole } from '../whole.js'

let deployment: Deployment
afterEach(async () => await deployment.close())

it.each(whole ? (['minted', 'brokered'] as const) : (['brokered'] as const))('commits beside the branch are kept, and what is not saved is named, with %s credentials', { timeout: 240_000 }, async (credentials) => {
  deployment = await startDeployment()
  await deployment.seed('acme/web', { 'README.md': 'hello\n', '.gitattributes': '*.secret filter=lock\n' })
  await deployment.startConsumer({ providers: deployment.providers.map((provider) => ({ provider, limit: { sandboxes: 2 }, credentials })) })
  const commit = 'git -c user.name=A -c user.email=a@b.c commit -q'
  const job = await deployment.queue.enqueue({
    repository: 'acme/web',
    steps: [
      `git switch -q -c try && echo t > try.txt && git add -A && ${commit} -m try && git switch -q -
       git worktree add -q ../beside -b beside && (cd ../beside && echo b > b.txt && git add -A && ${commit} -m beside && echo u > uncommitted.txt)
       git config filter.lock.clean 'exit 1' && git config filter.lock.required true && echo plain > a.secret && echo work > work.txt`,
    ],
    promote: { to: 'done' },
  })
  const result = await job.result({ timeoutMs: 120_000 })
  let log = ''
  for await (const line of job.logs()) log += line.text
  expect(result, log).toMatchObject({ status: 'succeeded', promoted: { to: 'done' }, diff: { paths: ['work.txt'] } })
  expect(result.kept.map(({ branch }) => branch)).toEqual([`kept/${job.jobId}/1`, `kept/${job.jobId}/2`])
  const subjects: string[] = []
  for (const { branch, commit: sha } of result.kept) {
    const folder = await deployment.checkout('acme/web', branch, true)
    expect(await git(folder, 'rev-parse', 'HEAD')).toBe(sha)
    subjects.push(await git(folder, 'log', '-1', '--format=%s'))
  }
  expect(subjects.sort()).toEqual(['beside', 'try'])
  const unsaved = Object.fromEntries(result.unsaved.map(({ path, reason }) => [path, reason]))
  expect(Object.keys(unsaved)).toContain('a.secret')
  expect(Object.keys(unsaved).join('\n')).toContain('uncommitted.txt')
  expect(log).toContain('not saved as it is now: ')
  expect(await job.status()).toMatchObject({ unsaved: result.unsaved })
})

it('work that rewrote its history is pushed as it is, and a conflict under ff_only that says so', { timeout: 240_000 }, async () => {
  deployment = await startDeployment({ limits: [1] })
  await deployment.seed('acme/web', { 'README.md': 'hello\n' })
  await deployment.startConsumer()
  const job = await deployment.queue.enqueue({
    repository: 'acme/web',
    steps: ['echo more >> README.md && git -c user.name=A -c user.email=a@b.c commit -q -a --amend -m "Begin anew"'],
    promote: { to: 'main' },
  })
  const result = await job.result({ timeoutMs: 120_000 })
  expect(result).toMatchObject({ status: 'failed', promoted: null, error: { kind: 'conflict' } })
  expect(result.error?.message).toMatch(/"main" can’t be fast-forwarded \(ff_only\) to work that does not build on it.* stays as it is on "agent\//)
  const folder = await deployment.checkout('acme/web', result.branch!, true)
  expect(await git(folder, 'log', '--format=%s')).toBe('Begin anew')
})

it.skipIf(spawnSync('git', ['lfs', 'version']).status !== 0)('nothing is promoted whose Git LFS objects the host lacks, whoever committed it', { timeout: 240_000 }, async () => {
  deployment = await startDeployment({ limits: [1] })
  await deployment.seed('acme/web', { 'README.md': 'hello\n', '.gitattributes': '*.bin filter=lfs diff=lfs merge=lfs -text\n' })
  await deployment.startConsumer()
  const job = await deployment.queue.enqueue({
    repository: 'acme/web',
    steps: [`printf 'version https://git-lfs.github.com/spec/v1\\noid sha256:%s\\nsize 5\\n' "$(printf a%.0s $(seq 64))" > lost.bin
      head -c 5000 /dev/urandom > there.bin; echo more >> README.md; git add -A && git -c user.name=A -c user.email=a@b.c commit -qm Own`],
    promote: { to: 'main' },
  })
  const result = await job.result({ timeoutMs: 120_000 })
  expect(result).toMatchObject({ status: 'succeeded', promoted: { to: 'main', sha: result.commit }, diff: { paths: ['README.md', 'there.bin'] } })
  expect(result.unsaved.map(({ path }) => path)).toEqual(['HEAD', 'lost.bin'])
  const folder = await deployment.checkout('acme/web', 'main', false)
  expect(await git(folder, 'log', '--format=%s')).not.toContain('Own')
  expect(await git(folder, 'cat-file', 'blob', 'HEAD:there.bin')).toMatch(/^version https:\/\/git-lfs/)
})
