import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
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

  // Git's own words about it found no room either: it looked like a history that lacks objects, and the commits were left out.
  it('a checkpoint has room for the files and not for the commits: it is none', async () => {
    const commits = 'git config user.name A; git config user.email a@b.c; head -c 1500000 /dev/urandom > big; git add big; git commit -qm big; git rm -q big; git commit -qm small; echo x > x; git rev-parse HEAD; '
    const done = await runStep(runner, `${commits} ${fill} truncate -s -1000000 ~/fill`)
    await expect(repo.save(runner, 'commits', repo.base)).rejects.toMatchObject({ kind: 'invalid', message: expect.stringContaining('disk is full') as string })
    await rm(join(disk, 'home', 'fill'))
    expect(await repo.save(runner, 'commits', repo.base)).toMatchObject({ headSha: done.stdout.toString().trim(), commitsAhead: 2 })
  })

  it('that can be written to no more, nothing is the job\'s fault', async () => {
    await writeFile(join(disk, 'home', 'repository', 'work.txt'), 'work')
    await run('mount', ['-o', 'remount,ro', disk])
    try {
      await expect(runner.checkpoint(repo.checkpoint(repo.base), callOptions)).rejects.toMatchObject({ kind: 'transient', owner: 'sandbox', message: expect.stringContaining('Read-only file system') as string })
    } finally {
      await run('mount', ['-o', 'remount,rw', disk])
    }
  })
})

describe('a git that fails in the middle', () => {
  let repo: Repository
  let sandbox: ProcessSandbox
  let runner: Runner
  let folder: string
  beforeEach(async () => {
    repo = await repository()
    folder = await mkdtemp(join(tmpdir(), 'switchyard-programs-'))
    sandbox = await processSandbox()
    runner = sandbox.runner({ tries: 1 })
    await runner.install(callOptions)
    await runner.clone({ access: await repo.read(), ref: null, sha: repo.base, branch: 'work', checkpoint: null }, callOptions)
  })
  afterEach(async () => {
    await sandbox.close()
    await repo.close()
    await rm(folder, { recursive: true, maxRetries: 10 })
  })

  /** Has git do something else where its arguments match a pattern of the shell's. */
  async function instead(into: ProcessSandbox, pattern: string, command: string): Promise<void> {
    const git = (process.env['PATH'] ?? '').split(':').map((each) => join(each, 'git')).find((file) => existsSync(file))!
    await writeFile(join(folder, 'git'), `#!/bin/sh\ncase "$*" in ${pattern}) ${command} ;; esac\nexec ${git} "$@"\n`)
    await chmod(join(folder, 'git'), 0o755)
    Object.assign(into.env, { PATH: `${folder}:${process.env['PATH'] ?? ''}` })
  }

  it('since it was killed has missed no object, and the next save holds the commits', async () => {
    const done = await runStep(runner, 'git config user.name A; git config user.email a@b.c; echo x > x; git add x; git commit -qm x; git rev-parse HEAD; git config here.it is')
    await instead(sandbox, 'pack-objects*', 'kill -9 $$')
    await expect(repo.save(runner, 'killed', repo.base)).rejects.toMatchObject({ kind: 'transient', owner: 'sandbox', message: expect.stringContaining('git was killed') as string })
    await rm(join(folder, 'git'))
    expect(await repo.save(runner, 'killed', repo.base)).toMatchObject({ headSha: done.stdout.toString().trim(), commitsAhead: 1 })
  })

  it('while it writes a file that comes back is told', async () => {
    await runStep(runner, 'git update-index --assume-unchanged first.txt; echo changed > first.txt')
    const made = await repo.save(runner, 'raw', repo.base)
    const next = await processSandbox()
    try {
      const other = next.runner()
      await other.install(callOptions)
      await instead(next, '"cat-file blob "*:raw/1', 'exit 128')
      expect((await repo.restore(other, 'raw', made!)).notes).toEqual(["first.txt is not as it was: it can't be written"])
      await rm(join(folder, 'git'))
      expect(await readFile(join(next.home, 'repository', 'first.txt'), 'utf8')).toBe('')
    } finally {
      await next.close()
    }
  })
})
