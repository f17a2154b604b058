import { execFile } from 'node:child_process'
import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { uploadTexts } from '../../src/runner/script.js'

const run = promisify(execFile)

it.each([1_000, 40_000])('an upload of %s bytes that is repeated while the first call still runs says nothing of a full disk', async (bytes) => {
  const home = await mkdtemp(join(tmpdir(), 'switchyard-upload-'))
  const content = Buffer.alloc(bytes, 'content ')
  try {
    for (let round = 0; round < 8; round++) {
      const texts = uploadTexts(`file-${round}`, content, `abcdef012345678${round}`, 30_000)
      const send = (text: string) => run('/bin/sh', ['-c', text], { env: { PATH: process.env['PATH'], HOME: home } })
      for (const text of texts.slice(0, -1)) await send(text)
      const answers = await Promise.all(Array.from({ length: 4 }, () => send(texts.at(-1) ?? '')))
      expect(answers.map(({ stdout }) => stdout.trim())).toEqual(answers.map(() => `@switchyard abcdef012345678${round} done`))
      expect(await readFile(join(home, '.switchyard', `file-${round}`))).toEqual(content)
    }
    expect((await readdir(join(home, '.switchyard'))).filter((name) => name.startsWith('joined-'))).toEqual([])
  } finally {
    await rm(home, { recursive: true, maxRetries: 10 })
  }
})
