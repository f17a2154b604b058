import { existsSync } from 'node:fs'
import { mkdir, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { TemporaryRepository } from '../../src/git/temporary-repository.js'

const access = { url: 'http://127.0.0.1:1/x.git', username: 't', token: 'none', expiresAtMs: 0 }

it('the repositories that killed consumers left are removed, and those in use are not', async () => {
  await TemporaryRepository.use('host', access, { timeoutMs: 10_000 }, async ({ path }) => {
    const [left, others] = [path.replace(/[^-]+$/, 'killed'), join(tmpdir(), `switchyard-other-${process.pid}`)]
    try {
      for (const folder of [left, others]) {
        await mkdir(join(folder, 'objects'), { recursive: true })
        await writeFile(join(folder, 'objects', 'pack'), 'left')
        await utimes(folder, new Date(2020, 1), new Date(2020, 1))
      }
      await TemporaryRepository.removeLeftovers(Date.now() - 3_600_000)
      expect([left, others, path].map((folder) => existsSync(folder))).toEqual([false, true, true])
    } finally {
      await Promise.all([left, others].map((folder) => rm(folder, { recursive: true, force: true })))
    }
  })
})
