import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { expect, it, onTestFinished, vi } from 'vitest'
import { TemporaryRepository } from '../../src/git/temporary-repository.js'

const access = { url: 'http://127.0.0.1:1/x.git', username: 't', token: 'none', expiresAtMs: 0 }

it('the repositories and keys that killed consumers left are removed, and those in use are not', async () => {
  // Not this machine's own, in which others' consumers have theirs.
  const folder = await mkdtemp(join(tmpdir(), 'switchyard-leftovers-'))
  vi.stubEnv('TMPDIR', folder)
  onTestFinished(async () => {
    vi.unstubAllEnvs()
    await rm(folder, { recursive: true, force: true, maxRetries: 10 })
  })
  await TemporaryRepository.use('host', access, { timeoutMs: 10_000 }, async ({ path }) => {
    const [left, others] = [path.replace(/[^-]+$/, 'killed'), join(dirname(path), 'switchyard-other-repository')]
    const key = join(dirname(path), 'switchyard-signing-killed')
    for (const each of [left, others, key]) {
      await mkdir(join(each, 'objects'), { recursive: true })
      await writeFile(join(each, 'objects', 'pack'), 'left')
      await utimes(each, new Date(2020, 1), new Date(2020, 1))
    }
    await TemporaryRepository.removeLeftovers(Date.now() - 3_600_000)
    expect([left, others, path, key].map((each) => existsSync(each))).toEqual([false, true, true, false])
  })
})
