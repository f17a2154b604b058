import { execFile, execFileSync } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { after, useRedis } from '../store/fixture.js'
import { serve } from './fixture.js'

const redis = useRedis()
const run = promisify(execFile)

/** Where it is installed (`pip install schemathesis`). */
const isThere = (() => {
  try {
    execFileSync('schemathesis', ['--version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
})()

it.skipIf(!isThere)('schemathesis finds no 500, and nothing that the document does not say', { timeout: 300_000 }, async () => {
  const { newKey, url, errors } = await serve(redis, { rateLimit: 'none' })
  const examples = process.env['SWITCHYARD_FUZZ_RUNS'] ?? '15'
  const checks = 'not_a_server_error,content_type_conformance,response_schema_conformance,status_code_conformance,ignored_auth'
  // A stream does not end by itself.
  const streams = ['streamJobLogs', 'streamEvents'].flatMap((id) => ['--exclude-operation-id', id])
  const args = ['run', `${url}openapi.json`, '-H', `Authorization: Bearer ${await newKey('admin')}`, ...streams, '--phases', 'coverage,fuzzing', '--max-examples', examples, '--checks', checks]
  // It keeps what it found beside where it runs.
  const cwd = await mkdtemp(join(tmpdir(), 'sy-schemathesis-'))
  after(() => rm(cwd, { recursive: true, maxRetries: 10 }))
  const { stdout, code } = await run('schemathesis', args, { cwd }).then(({ stdout: text }) => ({ stdout: text, code: 0 }), (error: unknown) => error as { stdout: string; code: number })
  expect(code, stdout).toBe(0)
  expect(errors).toEqual([])
})
