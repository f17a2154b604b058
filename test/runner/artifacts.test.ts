import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { appendFile, chmod, mkdir, mkdtemp, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { InfrastructureError } from '../../src/job/errors.js'
import { artifactGroups } from '../../src/runner/artifacts.js'
import type { ArtifactListing, ListedArtifact, Runner } from '../../src/runner/runner.js'
import { whole } from '../whole.js'
import { callOptions, shells, hasShell, processSandbox, type ProcessSandbox } from './process-sandbox.js'

/** A sandbox with files in its work tree; artifacts need no git. */
async function sandboxWith(files: Readonly<Record<string, string | Buffer>>, options: Parameters<typeof processSandbox>[0] = {}): Promise<{ sandbox: ProcessSandbox; runner: Runner; tree: string }> {
  const sandbox = await processSandbox(options)
  const runner = sandbox.runner()
  await runner.install(callOptions).catch((error: unknown) => {
    if (!(error instanceof InfrastructureError)) throw error
  })
  const tree = join(sandbox.home, 'repository')
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(tree, path)), { recursive: true })
    await writeFile(join(tree, path), content)
  }
  return { sandbox, runner, tree }
}

const paths = ({ files }: ArtifactListing) => files.map(({ path }) => path).sort()
const reasons = ({ odd }: ArtifactListing) => Object.fromEntries(odd.map(({ path, reason }) => [path, reason]))

async function readAll(runner: Runner, files: readonly ListedArtifact[]): Promise<Map<string, Buffer | null | string>> {
  const got = new Map<string, Buffer | null | string>()
  await runner.readArtifacts(files, async ({ path }, pieces) => {
    if (pieces === null) return void got.set(path, null)
    try {
      const parts: Buffer[] = []
      for await (const piece of pieces) parts.push(piece)
      got.set(path, Buffer.concat(parts))
    } catch (error) {
      got.set(path, String(error))
    }
  }, callOptions)
  return got
}

const oddNames = ['sp ace.txt', "it's \"q\" $(touch gone) `x` ;&|<>*?[]{}.txt", 'ü/日本語 🙂.html', '-rf', ' leading', 'back\\slash', '%41#?.xml', '...']

describe.each(shells)('artifacts in %s', (shell) => {
  it.skipIf(!hasShell(shell))('are found and come out, whatever they are called, and nothing that is no file of the tree', async () => {
    const large = randomBytes(3 * 1024 * 1024 + 17)
    const { sandbox, runner, tree } = await sandboxWith({ ...Object.fromEntries(oddNames.map((name) => [`out/${name}`, `${name}\n`])), 'out/empty': '', 'out/large.bin': large, 'out/.git/config': 'x', 'report.html': '<p>', 'src/main.js': '1' }, { shell })
    try {
      await writeFile(join(sandbox.home, 'outside.txt'), 'outside')
      await symlink('../../outside.txt', join(tree, 'out', 'link.txt'))
      await symlink('/etc/passwd', join(tree, 'passwd.html'))
      await symlink('../src', join(tree, 'out', 'linked-folder'))
      await symlink(sandbox.home, join(tree, 'home'))
      await symlink('loop', join(tree, 'out', 'loop'))
      execFileSync('mkfifo', [join(tree, 'out', 'pipe')])
      const server = createServer().listen(join(tree, 'out', 'socket'))
      await writeFile(join(tree, 'out', 'line\nbreak'), '')
      execFileSync('sh', ['-c', 'printf x >"$(printf \'bytes\\377\')"'], { cwd: join(tree, 'out') })
      const listing = await runner.listArtifacts({ patterns: ['out/**', '*.html', 'home/outside.txt', 'nothing/**', 'out/link.txt'], most: 100 }, callOptions)
      expect(paths(listing)).toEqual([...oddNames, 'empty', 'large.bin'].map((name) => `out/${name}`).concat('report.html').sort())
      expect(listing).toMatchObject({ more: false, unfinished: false })
      const said = reasons(listing)
      for (const path of ['out/link.txt', 'passwd.html', 'out/linked-folder', 'out/loop']) expect([path, said[path]]).toEqual([path, expect.stringContaining('it is a link')])
      expect(said['home/outside.txt']).toContain('a link leads to it')
      for (const path of ['out/pipe', 'out/socket']) expect([path, said[path]]).toEqual([path, expect.stringContaining('no regular file')])
      expect(Object.entries(said).filter(([, reason]) => reason.includes('control character')).map(([path]) => path).sort()).toEqual(['out/bytes\ufffd', 'out/line\u0001break'])
      server.close()
      const got = await readAll(runner, listing.files)
      expect(got.size).toBe(listing.files.length)
      for (const name of oddNames) expect([name, String(got.get(`out/${name}`))]).toEqual([name, `${name}\n`])
      expect(got.get('out/empty')).toEqual(Buffer.alloc(0))
      expect(large.equals(got.get('out/large.bin') as Buffer)).toBe(true)
    } finally {
      await sandbox.close()
    }
  })

  it.skipIf(!hasShell(shell))('that change while they are read are cut where they were listed, or said to be gone; what takes their place is not followed', async () => {
    const { sandbox, runner, tree } = await sandboxWith({ 'grows.log': 'first', 'grows.bin': Buffer.alloc(400_000, 1), 'shrinks.bin': Buffer.alloc(400_000, 2), 'gone.txt': 'x', 'linked.txt': 'x', 'piped.txt': 'x', 'piped.bin': Buffer.alloc(400_000), 'deep/er/file.txt': 'inside' }, { shell })
    try {
      const { files } = await runner.listArtifacts({ patterns: ['*', 'deep'], most: 100 }, callOptions)
      await appendFile(join(tree, 'grows.log'), ' and more')
      await appendFile(join(tree, 'grows.bin'), Buffer.alloc(5_000_000))
      await truncate(join(tree, 'shrinks.bin'), 300_000)
      for (const name of ['gone.txt', 'linked.txt', 'piped.txt', 'piped.bin']) await rm(join(tree, name))
      await symlink('/etc/hostname', join(tree, 'linked.txt'))
      for (const name of ['piped.txt', 'piped.bin']) execFileSync('mkfifo', [join(tree, name)])
      // The same path by way of a link, with another file at its end.
      await rename(join(tree, 'deep'), join(tree, 'moved'))
      await mkdir(join(sandbox.home, 'elsewhere', 'er'), { recursive: true })
      await writeFile(join(sandbox.home, 'elsewhere', 'er', 'file.txt'), 'outside')
      await symlink(join(sandbox.home, 'elsewhere'), join(tree, 'deep'))
      const got = await readAll(runner, files)
      expect(String(got.get('grows.log'))).toBe('first')
      expect(got.get('grows.bin')).toEqual(Buffer.alloc(400_000, 1))
      expect(got.get('shrinks.bin')).toMatch(/became shorter/)
      for (const name of ['gone.txt', 'linked.txt', 'piped.txt', 'deep/er/file.txt']) expect([name, got.get(name)]).toEqual([name, null])
      expect(got.get('piped.bin')).toMatch(/no regular file any more/)
    } finally {
      await sandbox.close()
    }
  })
})

it('are as many as may be, however many there are', { timeout: 60_000 }, async () => {
  const { sandbox, runner, tree } = await sandboxWith({ 'a/file': '' })
  try {
    execFileSync('sh', ['-c', 'cd a && seq -f "file-with-a-rather-long-name-%g.txt" 1 20000 | xargs touch'], { cwd: tree })
    const listing = await runner.listArtifacts({ patterns: ['a/**', '**/*.txt'], most: 50 }, callOptions)
    expect(listing).toMatchObject({ more: true, unfinished: false })
    expect(listing.files.length).toBeLessThanOrEqual(50)
    // Many that nobody asked for are no matter.
    expect(await runner.listArtifacts({ patterns: ['a/file', 'a/*-20000.txt'], most: 2 }, callOptions)).toMatchObject({ more: false, files: [{ path: 'a/file' }, { path: 'a/file-with-a-rather-long-name-20000.txt' }] })
  } finally {
    await sandbox.close()
  }
})

it('that can’t be read to their end are not taken for shorter ones, and are no other file’s matter', async () => {
  const { sandbox, runner } = await sandboxWith({ 'a.txt': 'whole', 'b.txt': 'all of it', 'c.txt': 'whole' })
  try {
    const { files } = await runner.listArtifacts({ patterns: ['*.txt'], most: 9 }, callOptions)
    // What a disk does that breaks, or that takes longer than there is time.
    const broken = (real: string) => `#!/bin/sh\ncase $* in *b.txt*) printf 'all'; exit 1 ;; esac\nexec ${real} "$@"\n`
    const programs = await mkdtemp(join(tmpdir(), 'switchyard-programs-'))
    for (const name of ['head', 'dd']) await writeFile(join(programs, name), broken(execFileSync('which', [name]).toString().trim()), { mode: 0o755 })
    sandbox.env['PATH'] = `${programs}:${process.env['PATH'] ?? ''}`
    const got = await readAll(runner, files)
    expect([got.get('a.txt'), got.get('c.txt')].map(String)).toEqual(['whole', 'whole'])
    expect(got.get('b.txt')).toMatch(/became shorter/)
    await rm(programs, { recursive: true })
  } finally {
    await sandbox.close()
  }
})

it('that the user can’t read are said to be so, and a repository that is a link has none', async () => {
  const { sandbox, runner, tree } = await sandboxWith({ 'a.txt': 'a' })
  try {
    await chmod(join(tree, 'a.txt'), 0)
    const listing = await runner.listArtifacts({ patterns: ['a.txt'], most: 5 }, callOptions)
    if (process.getuid?.() === 0) expect(paths(listing)).toEqual(['a.txt'])
    else expect(reasons(listing)).toEqual({ 'a.txt': "the sandbox's user can't read it" })
    await rename(tree, `${tree}-moved`)
    await symlink('/', tree)
    await expect(runner.listArtifacts({ patterns: ['etc/passwd'], most: 5 }, callOptions)).rejects.toThrow(/the repository is gone/)
  } finally {
    await sandbox.close()
  }
})

it('come out through texts as short as a provider’s, and in answers that every provider takes', async () => {
  // More than one answer may hold, and than one command may name.
  const files = Object.fromEntries(Array.from({ length: whole ? 120 : 60 }, (_, index) => [`out/${'long-name-'.repeat(20)}${index}.txt`, randomBytes(20_000)]))
  const { sandbox, runner } = await sandboxWith(files, { maxCommandBytes: 4_000 })
  try {
    const { files: listed } = await runner.listArtifacts({ patterns: ['out'], most: 1000 }, callOptions)
    const before = sandbox.calls.length
    const got = await readAll(runner, listed)
    for (const [path, content] of Object.entries(files)) expect(content.equals(got.get(path) as Buffer)).toBe(true)
    for (const { command, result } of sandbox.calls.slice(before)) {
      expect(Buffer.byteLength(command.script)).toBeLessThanOrEqual(4_000)
      expect(result.stdout.length).toBeLessThan(4 * 1024 * 1024)
    }
    const groups = [...artifactGroups(listed, 100_000)]
    expect(groups.flat()).toEqual(listed)
    expect(Math.max(...groups.map((group) => group.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)))).toBeLessThanOrEqual(1024 * 1024)
  } finally {
    await sandbox.close()
  }
})
