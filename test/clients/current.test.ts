import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { digests, operations, readDocument } from '../../script/write-clients.js'
import { findGo, findPython, goFolder, pythonFolder } from './languages.js'

const run = promisify(execFile)
const [python, go] = await Promise.all([findPython(), findGo()])
const titled = (what: string, missing: string | undefined) => (missing === undefined ? what : `${what} (skipped: ${missing})`)

describe('the clients', () => {
  it('are generated from the OpenAPI document as it is; otherwise run npx tsx script/write-clients.ts', async () => {
    expect(JSON.parse(await readFile(resolve('clients/generated.json'), 'utf8'))).toEqual(digests())
  })

  it('have the operations of the document', () => {
    const ids = operations(readDocument()).map(({ id }) => id)
    expect(ids).toEqual(expect.arrayContaining(['createJob', 'streamJobLogs']))
    expect(operations(readDocument()).filter(({ once }) => once).map(({ id }) => id)).toEqual(['cancelJob', 'createJob', 'createJobs', 'retryJob'])
  })

  it('bear the licence of the whole', async () => {
    for (const folder of [pythonFolder, goFolder]) expect(await readFile(`${folder}/LICENSE`, 'utf8')).toBe(await readFile('LICENSE', 'utf8'))
  })

  it.skipIf(python.missing !== undefined)(titled('pass their own tests: Python', python.missing), { timeout: 120_000 }, async () => {
    const { stderr } = await run(python.programs?.python ?? '', ['-W', 'error', '-m', 'unittest', 'discover', '-s', 'tests'], { cwd: pythonFolder, env: { ...process.env, ...python.programs?.environment } })
    expect(stderr).toMatch(/Ran [1-9]\d* tests[^]*OK/)
  })

  it.skipIf(go.missing !== undefined)(titled('pass their own tests: Go', go.missing), { timeout: 240_000 }, async () => {
    expect((await run('gofmt', ['-l', '.'], { cwd: goFolder })).stdout).toBe('')
    await run('go', ['vet', './...'], { cwd: goFolder })
    const { stdout } = await run('go', ['test', './...'], { cwd: goFolder })
    expect(stdout).toMatch(/^ok\s+switchyard\.dev\/switchyard\s/m)
  })
})
