import { execFile } from 'node:child_process'
import { chmod, mkdir, mkdtemp, open, readdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest'
import { fetchAsPack, pushPack, type BroughtCommits } from '../../src/git/carried-pack.js'
import { InfrastructureError } from '../../src/job/errors.js'
import { spanning, whole } from '../whole.js'
import { gitOk, localStorage, withToken, type LocalStorage } from './local-storage.js'
import * as packing from './pack-writer.js'

/** Commits that come from somewhere that is not trusted, pushed by the consumer: as faithful as a push by git itself. */

const run = promisify(execFile)
const options = { timeoutMs: 120_000 }
let storage: LocalStorage
let base: string
/** Bare, with all of the host's history. */
let origin: string
let places = 0
const badModules = '[submodule "a"]\n\tpath = a\n\turl = -u./payload\n'

beforeAll(async () => {
  storage = await localStorage()
  await storage.sdk.createRepo({ id: 'acme/web', defaultBranch: 'main' })
  const source = join(storage.folder, 'source')
  await script(
    storage.folder,
    `git init -q -b main source && cd source
    echo old >restored.txt; git add -A; git commit -q -m 'First'
    mkdir -p docs/deep lib
    printf '* text=auto\\n*.bin -text\\n' >.gitattributes; printf '*.md text\\n' >docs/deep/.gitattributes; echo doc >docs/deep/a.md
    printf '*.txt text\\n' >attributes.example; printf '${badModules.replaceAll('\n', '\\n').replaceAll('\t', '\\t')}' >modules.example
    printf '[submodule "lib"]\\n\\tpath = ext\\n\\turl = https://example.invalid/lib.git\\n' >.gitmodules
    git update-index --add --cacheinfo 160000,1111111111111111111111111111111111111111,ext
    seq 5000 >lib/numbers.txt; echo new >restored.txt; git add -A -- . ':!ext'; git commit -q -m 'Second'`,
  )
  base = await gitOk(source, 'rev-parse', 'HEAD')
  const url = storage.url(await (await storage.sdk.findOne({ id: 'acme/web' }))!.getRemoteURL({ permissions: ['git:write'] }))
  await gitOk(source, 'push', '--quiet', url, 'main')
  origin = join(storage.folder, 'source')
})
afterAll(() => storage.close())

const script = (cwd: string, text: string) =>
  run('sh', ['-ec', text], {
    cwd,
    env: { PATH: process.env['PATH'], HOME: '/nonexistent', GIT_CONFIG_NOSYSTEM: '1', GIT_AUTHOR_NAME: 'A', GIT_AUTHOR_EMAIL: 'a@example.invalid', GIT_COMMITTER_NAME: 'A', GIT_COMMITTER_EMAIL: 'a@example.invalid' },
  })

interface Made {
  readonly sha: string
  readonly packPath: string
  readonly said: BroughtCommits
}

/** Runs a script in a shallow clone, as a sandbox has it, and packs what leads from the base to its HEAD. */
async function made(text: string): Promise<Made> {
  const place = join(storage.folder, `place-${++places}`)
  await gitOk(storage.folder, 'clone', '--quiet', '--depth=1', `file://${origin}`, place)
  await script(place, text)
  const sha = await gitOk(place, 'rev-parse', 'HEAD')
  const { stdout } = await script(place, `printf '%s\\n' ${sha} ^${base} | git pack-objects -q --revs ../pack-${places}`)
  const name = stdout.trim()
  const packPath = join(storage.folder, `pack-${places}-${name}.pack`)
  const boundary = await gitOk(place, 'rev-list', '--boundary', sha, `^${base}`)
  const borders = boundary.split('\n').filter((line) => line.startsWith('-')).map((line) => line.slice(1))
  const file = await open(packPath)
  const { size: bytes } = await file.stat()
  await file.close()
  return { sha, packPath, said: { name, bytes, borders, depth: 1 } }
}

/** A commit of a large file and of versions of it that are a little longer, in a small pack. */
async function large(bytes: number, versions: number): Promise<Made> {
  const content = Buffer.alloc(bytes)
  const first = packing.object('blob', content)
  const others = packing.longer(first, content, Array.from({ length: versions }, (_, index) => `version ${String(index).padStart(6, '0')}`))
  const files = packing.tree(Object.fromEntries([first, ...others].map((blob, index) => [`dump-${String(index).padStart(6, '0')}`, blob])))
  const last = packing.commit(files, base)
  const { name, content: written } = packing.pack([last, files, first, ...others])
  const packPath = join(storage.folder, `large-${++places}.pack`)
  await writeFile(packPath, written)
  return { sha: last.oid, packPath, said: { name, bytes: written.length, borders: [base], depth: 1 } }
}

async function push({ sha, packPath, said }: Made, cpuSeconds?: number, maxObjectBytes = 512 * 1024 * 1024): Promise<string> {
  const branch = `agent/${++places}`
  const bring = async (write: (piece: Buffer) => Promise<void>) => {
    const file = await open(packPath)
    for await (const piece of file.createReadStream()) await write(piece as Buffer)
    return said
  }
  const [read, write] = await Promise.all([storage.host.readAccess('acme/web', { ephemeral: false }), storage.host.writeAccess('acme/web', { branch })])
  const parent = { sha: base, ref: 'refs/heads/main' }
  await pushPack('host', { read, write, sha, branch, parent, limits: { maxObjectBytes, cpuSeconds }, beforePush: () => Promise.resolve(), bring }, options)
  return branch
}

/** What the host has is whole: another clone has every object. */
async function arrived(branch: string): Promise<string> {
  const path = join(storage.folder, `arrived-${++places}`)
  await gitOk(storage.folder, 'init', '--quiet', '--bare', path)
  await gitOk(path, 'fetch', '--quiet', withToken(await storage.host.readAccess('acme/web', { ephemeral: true })), `refs/heads/${branch}:refs/heads/got`)
  await gitOk(path, 'fsck', '--connectivity-only', '--strict')
  return gitOk(path, 'rev-parse', 'refs/heads/got')
}

/** Those of which the sandbox names too little in CI: history that leads to what it did not name. */
const unnamed = ['with a merge of such history', 'with a branch off what lies before the base', 'with a stash and odd commits for parents']

describe('what a job commits is pushed', () => {
  // CI leaves out what takes the path of another: attributes that changed are blobs as attributes that were copied, a moved folder is moved files, history
  // without a common beginning is what the merge of it holds, and a file as it was before the base is on the branch off it.
  it.each(spanning<[string, string]>([
    ['beside a .gitattributes and a .gitmodules that it did not touch', 'echo x >x; git add -A -- . ":!ext"; git commit -q -m x'],
    ['with a changed .gitattributes', 'echo "*.x binary" >>.gitattributes; git commit -q -m x .gitattributes'],
    ['with a .gitattributes in a folder that moved', 'git mv docs manual; git commit -q -m x'],
    ['with a .gitattributes that is a copy of another file', 'cp attributes.example lib/.gitattributes; git add lib; git commit -q -m x'],
    ['with files that moved, and nothing else', 'git mv lib/numbers.txt numbers.txt; git commit -q -m x'],
    ['with history that was rewritten', 'git commit -q --amend -m Other; echo x >x; git add x; git commit -q -m x'],
    ['with history that has no beginning in common', 'git checkout -q --orphan fresh; git rm -rqf --cached .; git add restored.txt; git commit -q -m x'],
    ['with a merge of such history', 'git checkout -q --orphan fresh; git commit -q -m y; git checkout -q main; git merge -q --allow-unrelated-histories -s ours -m x fresh'],
    ['with a branch off what lies before the base', 'git fetch -q --unshallow; git checkout -q -b back HEAD~1; echo x >x; git add x; git commit -q -m y; git checkout -q main; git merge -q -m x back'],
    ['with a file as it was before the base', 'git fetch -q --unshallow; git checkout -q HEAD~1 -- restored.txt; git commit -q -m x'],
    ['with a stash and odd commits for parents', 'echo x >restored.txt; s=$(git stash create); t=$(git write-tree); c=$(git commit-tree -m state -p HEAD -p $s $t); git reset -q --hard; git checkout -q --detach $c'],
    ['without a change', 'git commit -q --allow-empty -m x'],
  ], 'beside a .gitattributes and a .gitmodules that it did not touch', 'with a .gitattributes that is a copy of another file', 'with files that moved, and nothing else', 'with history that was rewritten', ...unnamed, 'without a change'))('%s', async (what, text) => {
    const commits = await made(text)
    expect(await arrived(await push(commits))).toBe(commits.sha)
    // Also where the sandbox names nothing that it builds on, and says little of its depth.
    if (!whole && !unnamed.includes(what)) return
    expect(await arrived(await push({ ...commits, said: { ...commits.said, borders: [], depth: 2 } }))).toBe(commits.sha)
  })

  // As much as may be taken, which takes a minute: `npm run test:long`.
  it.runIf(whole)('as a small pack of two versions of a large file', { timeout: 240_000 }, async () => {
    const commits = await large(290_000_000, 1)
    expect(commits.said.bytes).toBeLessThan(2_000_000)
    const branch = await push(commits)
    expect(await storage.host.branchHead('acme/web', { name: branch, ephemeral: true }, options)).toBe(commits.sha)
  })
})

it('a checkpoint comes in with all that it holds, as one pack', async () => {
  const commits = await made(
    `for i in 1 2 3 4; do echo $i >>restored.txt; git commit -q -m $i restored.txt; done; h=$(git rev-parse HEAD); t=$(git rev-parse HEAD^{tree})
    git checkout -q --orphan fresh; for i in 1 2 3; do echo $i >x; git add x; git commit -q -m $i; done; o=$(git rev-parse HEAD)
    git checkout -q --detach $(git commit-tree -m checkpoint -p ${base} -p $h -p $(git commit-tree -m state -p $o $t) $t)`,
  )
  const branch = await push(commits)
  const access = await storage.host.readAccess('acme/web', { ephemeral: true })
  const path = join(storage.folder, `restored-${++places}`)
  await gitOk(storage.folder, 'init', '--quiet', '--bare', path)
  const wanted = { sha: commits.sha, ref: `refs/heads/${branch}`, depth: 2, baseSha: base, maxBytes: 1024 * 1024 }
  await fetchAsPack('host', access, wanted, options, async (pack) => {
    await writeFile(join(path, 'objects', 'pack', `pack-${pack.name}.pack`), await pack.read(0, pack.bytes))
    await writeFile(join(path, 'shallow'), pack.shallow)
    await gitOk(path, 'index-pack', '--strict', join('objects', 'pack', `pack-${pack.name}.pack`))
  })
  await gitOk(path, 'update-ref', 'refs/heads/got', commits.sha)
  await gitOk(path, 'fsck', '--connectivity-only')
  // The base and nothing before it, four and three commits, the state and the checkpoint.
  expect(await gitOk(path, 'rev-list', '--count', commits.sha)).toBe('10')
})

describe('what is not taken', () => {
  const failure = async (call: Promise<unknown>) => {
    const error = await call.then(() => undefined, (thrown: unknown) => thrown)
    if (error instanceof InfrastructureError) return `${error.kind}: ${error.message}`
    throw new Error('the call did not fail as it should', { cause: error })
  }

  it.each<[string, string, RegExp]>([
    ['a .gitmodules that attacks git', `printf '${badModules.replaceAll('\n', '\\n').replaceAll('\t', '\\t')}' >.gitmodules; git add .gitmodules; git commit -q -m x`, /^invalid: .*are not taken: .*gitmodulesUrl/],
    ['one that is a copy of a file of the host’s', 'cp modules.example .gitmodules; git add .gitmodules; git commit -q -m x', /^invalid: .*are not taken: .*gitmodulesUrl/],
  ])('%s', async (_what, text, expected) => {
    expect(await failure(push(await made(text)))).toMatch(expected)
  })

  it('commits that take too much processor time, at once', async () => {
    // Some 15 GB to be hashed, in a pack of a few kilobytes.
    expect(await failure(push(await large(15_000_000, 1000), 1))).toMatch(/^invalid: .*takes more than 1 seconds of processor time$/)
  })

  it('an object that takes more memory than is given to one', async () => {
    // CI has the least that is ever the limit, and `npm run test:long` one that was given: to make it takes as long as the rest.
    const mostBytes = (whole ? 512 : 256) * 1024 * 1024
    const tooLarge = await large(mostBytes + 1_000_000, 1)
    expect(await failure(push(tooLarge, undefined, mostBytes))).toMatch(new RegExp(`^invalid: .*takes ${String(mostBytes + 1_000_000).slice(0, -3)}\\d+ bytes of memory, and no more than ${mostBytes} are given to one$`))
  })

  it('commits that lack what they build on', async () => {
    const commits = await made('echo x >x; git add x; git commit -q -m y; echo y >y; git add y; git commit -q -m x')
    const place = join(storage.folder, 'incomplete')
    const { stdout } = await run('sh', ['-ec', `git init -q --bare ${place}; cd ${place}; git unpack-objects -q <${commits.packPath}; printf '%s\\n' ${commits.sha} | git pack-objects -q ../incomplete`], { cwd: storage.folder })
    const packPath = join(storage.folder, `incomplete-${stdout.trim()}.pack`)
    expect(await failure(push({ sha: commits.sha, packPath, said: { ...commits.said, name: stdout.trim() } }))).toMatch(/^invalid: .*are incomplete/)
  })
})

it('no process that reads such commits has a token in its environment', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'switchyard-wrapped-git-'))
  onTestFinished(() => {
    vi.unstubAllEnvs()
  })
  const { stdout: execPath } = await run('git', ['--exec-path'])
  const { stdout: real } = await run('sh', ['-c', 'command -v git'])
  const programs = join(folder, 'programs')
  await mkdir(programs)
  for (const name of await readdir(execPath.trim())) if (name !== 'git') await symlink(join(execPath.trim(), name), join(programs, name))
  const log = join(folder, 'log')
  // Git starts itself by this name for most of what it does. Where it is, what it is to do, and whether a token is in sight.
  const tokens = join(folder, 'tokens')
  const wrapper = `#!/bin/sh\nexport GIT_EXEC_PATH=${programs}\nprintf '%s %s %s\\n' "$(basename "$PWD")" "$(env | grep -cFf ${tokens})" "$*" >>${log}\nexec ${real.trim()} "$@"\n`
  await writeFile(join(programs, 'git'), wrapper)
  await chmod(join(programs, 'git'), 0o755)
  const commits = await made('echo x >x; git add x; git commit -q -m x')
  const minted = vi.spyOn(storage.host, 'writeAccess')
  const seen: string[] = []
  minted.mockImplementation(async (repository, request) => {
    minted.mockRestore()
    const access = await storage.host.writeAccess(repository, request)
    seen.push(access.token)
    await writeFile(tokens, `${access.token.slice(0, 20)}\n`)
    return access
  })
  vi.stubEnv('PATH', `${programs}:${process.env['PATH'] ?? ''}`)
  const branch = await push(commits)
  vi.unstubAllEnvs()
  expect(await arrived(branch)).toBe(commits.sha)
  const lines = (await readFile(log, 'utf8')).trim().split('\n').map((line) => /^(\S+) (\d+) (.*)$/.exec(line)?.slice(1) ?? [])
  const reading = lines.filter(([place]) => place === 'foreign.git')
  const did = reading.map(([, , what]) => what).join('\n')
  for (const program of ['index-pack', 'rev-parse', 'push', 'pack-objects']) expect(did).toContain(program)
  expect(reading.filter(([, count]) => count !== '0')).toEqual([])
  // What fetches from the host does have one: the search can find it.
  expect(lines.some(([place, count]) => place !== 'foreign.git' && count !== '0')).toBe(true)
})
