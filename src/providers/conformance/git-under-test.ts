import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { generateDevelopmentKeys, startCodeStorage } from '../../embedded/index.js'
import { type GitCredentials, runGit } from '../../git/git-process.js'
import { CodeStorageHost, type GitHost, TokenMinter } from '../../git/index.js'

/** A repository that the sandboxes under test can reach, and in which the suite may push job branches. */
export interface GitUnderTest {
  readonly host: GitHost
  readonly repository: string
  readonly close: () => Promise<void>
}

const org = 'conformance'
const repository = 'conformance/project'

/** A local Code Storage with a small repository; for sandboxes that reach this machine's loopback. */
export async function embeddedGit(): Promise<GitUnderTest> {
  const folder = await mkdtemp(join(tmpdir(), 'switchyard-conformance-'))
  const { privateKey, publicKey } = generateDevelopmentKeys()
  const server = await startCodeStorage({ dataDir: join(folder, 'repositories'), org, publicKeys: [publicKey] })
  const close = async () => {
    await server.close()
    await rm(folder, { recursive: true, force: true, maxRetries: 10 })
  }
  try {
    const host = new CodeStorageHost({ org, privateKey, storageUrl: server.url, apiUrl: server.apiUrl })
    await host.client.createRepository(repository, 'main', { timeoutMs: 30_000 })
    const { token } = await new TokenMinter({ org, privateKey }).mint({ repository, scopes: ['git:write'], ttlSeconds: 120 })
    await pushSeed(join(folder, 'seed'), `${server.url}/${repository}.git`, { username: 't', token })
    return { host, repository, close }
  } catch (error) {
    await close()
    throw error
  }
}

async function pushSeed(folder: string, url: string, credentials: GitCredentials): Promise<void> {
  await mkdir(join(folder, 'src'), { recursive: true })
  await writeFile(join(folder, 'README.md'), '# Conformance\n')
  await writeFile(join(folder, '.gitignore'), '*.log\n')
  await writeFile(join(folder, 'src', 'run.sh'), '#!/bin/sh\necho run\n', { mode: 0o755 })
  await writeFile(join(folder, 'src', 'gone.txt'), 'to be deleted\n')
  const identity = { 'user.name': 'Switchyard', 'user.email': 'switchyard@example.invalid' }
  for (const args of [
    ['init', '--quiet', '--initial-branch=main'],
    ['add', '--all'],
    ['commit', '--quiet', '--message', 'Start'],
    ['push', '--quiet', url, 'main:refs/heads/main'],
  ]) {
    const outcome = await runGit({ args, cwd: folder, config: identity, credentials, timeoutMs: 60_000 })
    if (outcome.exitCode !== 0) throw new Error(`git ${args[0] ?? ''} failed while the suite's repository was made: ${outcome.stderr}`)
  }
}
