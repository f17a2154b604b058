import { execFile, execFileSync } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { seedRepository, type SeedTarget } from '../../src/cli/seed-repository.js'
import { generateDevelopmentKeys, startCodeStorage, type CodeStorageServer } from '../../src/embedded/index.js'
import { CodeStorageHost, TokenMinter } from '../../src/git/index.js'
import { InvalidInputError } from '../../src/job/errors.js'

let folder: string
let server: CodeStorageServer
let target: SeedTarget & { git: CodeStorageHost }
const env = { ...process.env, GIT_CONFIG_GLOBAL: '/dev/null', GIT_AUTHOR_NAME: 'A', GIT_AUTHOR_EMAIL: 'a@b', GIT_COMMITTER_NAME: 'A', GIT_COMMITTER_EMAIL: 'a@b' }
const git = (...args: string[]) => execFileSync('git', args, { env, encoding: 'utf8' }).trim()

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'switchyard-seed-test-'))
  const { privateKey, publicKey } = generateDevelopmentKeys()
  server = await startCodeStorage({ dataDir: join(folder, 'data'), org: 'test', publicKeys: [publicKey] })
  const urls = { storageUrl: server.url, apiUrl: server.apiUrl }
  target = { git: new CodeStorageHost({ org: 'test', privateKey, ...urls }), minter: new TokenMinter({ org: 'test', privateKey }), storageUrl: server.url }
  git('init', '-q', '-b', 'trunk', join(folder, 'checkout'))
  for (const number of [1, 2, 3]) {
    await writeFile(join(folder, 'checkout', 'file'), `version ${number}`)
    git('-C', join(folder, 'checkout'), 'add', '.')
    git('-C', join(folder, 'checkout'), 'commit', '-q', '-m', `commit ${number}`)
  }
})
afterAll(async () => {
  await server.close()
  await rm(folder, { recursive: true, force: true, maxRetries: 10 })
})

const main = (repository: string) => target.git.resolve(repository, 'main', { timeoutMs: 30_000 })

it('gives a checkout’s whole history, under the name main', async () => {
  const head = git('-C', join(folder, 'checkout'), 'rev-parse', 'HEAD')
  expect(await seedRepository(target, 'seed/full', join(folder, 'checkout'))).toEqual({ commits: 3, head, uncommitted: 0 })
  expect(await main('seed/full')).toEqual({ ref: 'refs/heads/main', sha: head })
})

it('says how much of a checkout is not committed, wherever in it that is', async () => {
  git('clone', '-q', `file://${join(folder, 'checkout')}`, join(folder, 'dirty'))
  await writeFile(join(folder, 'dirty', 'file'), 'changed')
  for (const name of ['new file', 'ü\nx']) await writeFile(join(folder, 'dirty', name), 'new')
  expect((await seedRepository(target, 'seed/dirty', join(folder, 'dirty'))).uncommitted).toBe(3)
})

it('gives what a shallow clone has', async () => {
  git('clone', '-q', '--depth', '2', `file://${join(folder, 'checkout')}`, join(folder, 'shallow'))
  const { commits, head } = await seedRepository(target, 'seed/shallow', join(folder, 'shallow'))
  expect(commits).toBe(2)
  expect((await main('seed/shallow')).sha).toBe(head)
  // The oldest commits have lost their parents and with them their names; the files are the same.
  const { token } = await target.minter.mint({ repository: 'seed/shallow', scopes: ['git:read'] })
  // Not waited for in this thread's only loop, where the server answers.
  await promisify(execFile)('git', ['clone', '-q', `${server.url.replace('//', `//t:${token}@`)}/seed/shallow.git`, join(folder, 'back')], { env })
  const tree = (checkout: string) => git('-C', join(folder, checkout), 'rev-parse', 'HEAD^{tree}')
  expect(tree('back')).toBe(tree('checkout'))
})

it('gives a detached HEAD, of a shallow clone too', async () => {
  git('clone', '-q', '--depth', '1', `file://${join(folder, 'checkout')}`, join(folder, 'detached'))
  git('-C', join(folder, 'detached'), 'checkout', '-q', '--detach')
  expect((await seedRepository(target, 'seed/detached', join(folder, 'detached'))).commits).toBe(1)
})

it('makes one commit of a folder that is no checkout', async () => {
  const plain = await mkdtemp(join(folder, 'plain-'))
  await writeFile(join(plain, 'file'), 'x')
  expect((await seedRepository(target, 'seed/plain', plain)).commits).toBe(1)
})

it('says what is wrong with a folder that is not there', async () => {
  await expect(seedRepository(target, 'seed/none', join(folder, 'none'))).rejects.toThrow(InvalidInputError)
})
