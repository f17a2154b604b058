import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Runner } from '../../src/runner/runner.js'
import { callOptions, processSandbox, runStep, type ProcessSandbox } from './process-sandbox.js'
import { repository, type Repository } from './repository.js'

const run = promisify(execFile)
/** A disk of 8 MiB needs the right to mount one. */
const canMount = await mkdtemp(join(tmpdir(), 'switchyard-mount-')).then(async (folder) => {
  const mounted = await run('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', folder]).then(() => true, () => false)
  if (mounted) await run('umount', [folder])
  await rm(folder, { recursive: true, maxRetries: 10 })
  return mounted
})

describe.skipIf(!canMount)('on a full disk', () => {
  let repo: Repository
  let disk: string
  let sandbox: ProcessSandbox
  let runner: Runner
  beforeAll(async () => {
    repo = await repository()
  })
  afterAll(() => repo.close())
  beforeEach(async () => {
    disk = await mkdtemp(join(tmpdir(), 'switchyard-disk-'))
    await run('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', disk])
    sandbox = await processSandbox({ home: join(disk, 'home') })
    runner = sandbox.runner()
    await runner.install(callOptions)
    await runner.clone({ access: await repo.read(), ref: null, sha: repo.base, branch: 'work', checkpoint: null }, callOptions)
  })
  afterEach(async () => {
    await sandbox.close()
    await run('umount', [disk])
    await rm(disk, { recursive: true, maxRetries: 10 })
  })

  const fill = 'cat /dev/zero >~/fill 2>/dev/null; '

  it("a command's exit code and earlier output are kept, and the next one says what is wrong", async () => {
    // Output is kept from when it was collected: a command that fills the disk in the same instant can lose its last words.
    const collected = 'until [ -s ~/.switchyard/steps/fills/out ]; do sleep 0.01; done; '
    const done = await runStep(runner, `echo first; ${collected}${fill}exit 42`, { key: 'fills' })
    expect([done.stdout.toString(), done.exitCode]).toEqual(['first\n', 42])
    // Even a new entry in a folder needs room on some disks.
    await expect(runner.start({ key: 'next', run: 'true', cwd: undefined, env: {} }, callOptions)).rejects.toMatchObject({
      kind: 'invalid',
      // This sandbox’s disk is not for a job to set (client.test.ts has the others).
      message: expect.stringMatching(/disk is full; let the commands write less, or /) as string,
    })
    await rm(join(disk, 'home', 'fill'))
    expect((await runStep(runner, 'echo next', { key: 'next' })).stdout.toString()).toBe('next\n')
  })

  it('a command that prints more than fits goes on to its end', async () => {
    const done = await runStep(runner, `echo first; head -c 20000000 /dev/zero; exit 43`, { key: 'prints' })
    expect(done.exitCode).toBe(43)
    expect(done.stdout.length).toBeGreaterThan(1_000_000)
    expect(done.stdout.subarray(0, 6).toString()).toBe('first\n')
  })

  it('a checkpoint says so, is never made without the files that did not fit, and works again with room', async () => {
    await mkdir(join(disk, 'home', 'repository', 'more'), { recursive: true })
    await writeFile(join(disk, 'home', 'repository', 'more', 'work.txt'), 'work'.repeat(20_000))
    await runStep(runner, fill)
    await expect(repo.save(runner, 'full', repo.base)).rejects.toMatchObject({ kind: 'invalid', message: expect.stringContaining('disk is full') as string })
    await expect(repo.fetched('full')).rejects.toThrow()
    await rm(join(disk, 'home', 'fill'))
    const made = await repo.save(runner, 'full', repo.base)
    expect((await repo.fetched('full')).sha).toBe(made?.sha)
  })
})
