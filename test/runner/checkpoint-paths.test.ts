import { execFile } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { mkdir, readFile, readlink, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { CheckpointResult, Runner, SaveReport } from '../../src/runner/runner.js'
import { gitOk } from '../git/local-storage.js'
import { callOptions, processSandbox, runStep, type ProcessSandbox } from './process-sandbox.js'
import { whole } from '../whole.js'
import { repository, type Repository } from './repository.js'

/** `checkpoint.paths` with whatever may lie there: what can't be saved is said, and everything else is saved all the same. */

let repo: Repository
let sandbox: ProcessSandbox
let runner: Runner
let branches = 0
beforeAll(async () => {
  repo = await repository()
})
afterAll(() => repo.close())
beforeEach(async () => {
  sandbox = await processSandbox()
  runner = sandbox.runner()
  await runner.install(callOptions)
  await runner.clone({ access: await repo.read(), ref: 'refs/heads/main', sha: repo.base, branch: 'work', checkpoint: null }, callOptions)
})
afterEach(() => sandbox.close())

let steps = 0
async function run(script: string): Promise<void> {
  const done = await runStep(runner, `set -e\n${script}`, { key: `step-${++steps}` })
  expect(done.exitCode, done.stderr.toString()).toBe(0)
}

async function save(paths: readonly string[], more: { maxPathsBytes?: number; parent?: string } = {}): Promise<{ made: CheckpointResult; branch: string }> {
  const branch = `paths-${++branches}`
  const made = await repo.save(runner, branch, more.parent ?? repo.base, { paths, ...(more.maxPathsBytes === undefined ? {} : { maxPathsBytes: more.maxPathsBytes }) })
  if (made === null) throw new Error('nothing to save')
  return { made, branch }
}

/** Another sandbox, to which the checkpoint was brought. */
async function moved(branch: string, made: CheckpointResult, paths: readonly string[]): Promise<{ home: string; notes: readonly string[]; close: () => Promise<void> }> {
  const other = await processSandbox()
  const next = other.runner()
  await next.install(callOptions)
  const { notes } = await repo.restore(next, branch, made, paths)
  return { home: other.home, notes, close: () => other.close() }
}

const MiB = 1024 * 1024

/** What makes it, its path, and the sentence; the sandbox's home is HOME. */
const refused: readonly (readonly [string, string, string, RegExp])[] = [
  // What a job's spec could not say: the script stands for itself.
  ['a path out of the home', 'mkdir -p ~/in', '~/in/../../x', /leaves the home and the repository/],
  ['a path out of the repository', 'true', '../x', /leaves the home and the repository/],
  ['an absolute path', 'true', '/etc', /neither relative to the repository nor begins with "~\/"/],
  ['somebody else’s home', 'true', '~root/x', /neither relative to the repository nor begins with/],
  ['a link', 'ln -s /etc ~/to-etc', '~/to-etc', /it is a link/],
  ['a link to a file in the home', 'echo x > ~/real && ln -s real ~/linked', '~/linked', /it is a link/],
  ['a dangling link', 'ln -s nowhere ~/dangling', '~/dangling', /it is a link/],
  ['what lies beyond a link out of the home', 'ln -s /usr ~/out', '~/out/bin', /a link leads out of the home or the repository/],
  ['what lies beyond a link out of the repository', 'ln -s /usr out', 'out/bin', /a link leads out of the home or the repository/],
  ['a link out, far above what is not there yet', 'ln -s /tmp ~/far', '~/far/a/b/c', /a link leads out of the home or the repository/],
  ['where checkpoints are kept', 'true', '~/.switchyard/save', /it lies in ~\/\.switchyard/],
  ['git’s own folder', 'true', '.git/hooks', /it lies in the repository's \.git/],
  ['a named pipe', 'mkfifo ~/pipe', '~/pipe', /neither a file nor a folder/],
  ['a socket', `node -e 'require("net").createServer().listen(process.env.HOME + "/socket", () => process.kill(process.pid, "SIGKILL"))' || true`, '~/socket', /neither a file nor a folder/],
  ['a device', 'ln -s /dev/zero ~/zero', '~/zero', /it is a link/],
  ['what is too large', `head -c ${2 * MiB} /dev/zero > ~/large`, '~/large', /larger than 1 MiB together; name less.*or raise checkpoint\.maxPathsMiB/],
  ['a file that pretends to be endless', 'truncate -s 1T ~/sparse', '~/sparse', /larger than 1 MiB together/],
]

describe('a path that is not saved', () => {
  it('is said, each by itself, and costs nothing else', async () => {
    await run([...refused.map(([, make]) => make), 'mkdir -p ~/good && echo good > ~/good/file', 'echo work > work.txt'].join('\n'))
    const paths = [...refused.map(([, , path]) => path), '~/good', '~/not-there']
    const { made, branch } = await save(paths, { maxPathsBytes: MiB })
    for (const [what, , path, sentence] of refused) {
      const note = made.notes.find((each) => each.startsWith(`checkpoint.paths: "${path}" is not saved: `))
      expect(note, what).toMatch(sentence)
    }
    expect(made.notes).toHaveLength(refused.length)
    expect(made.holdsPaths).toBe(true)
    const { path } = await repo.fetched(branch)
    expect(await gitOk(path, 'cat-file', 'blob', 'got:work.txt')).toBe('work')
    const other = await moved(branch, made, paths)
    try {
      expect(await readFile(join(other.home, 'good/file'), 'utf8')).toBe('good\n')
      for (const name of ['to-etc', 'pipe', 'socket', 'large', 'sparse', 'not-there']) await expect(stat(join(other.home, name))).rejects.toThrow('ENOENT')
    } finally {
      await other.close()
    }
  })

  it('is not written where setup has put a link in its place', async () => {
    await run('mkdir -p ~/.agent ~/single && echo memory > ~/.agent/s && echo one > ~/single/file')
    const paths = ['~/.agent', '~/single/file']
    const { made, branch } = await save(paths)
    const other = await processSandbox()
    try {
      const next = other.runner()
      await next.install(callOptions)
      const elsewhere = join(other.home, '..', 'elsewhere-of-the-machine')
      await mkdir(elsewhere)
      const access = await repo.storage.host.readAccess(repo.id, { ephemeral: true })
      await next.clone({ access, ref: `refs/heads/${branch}`, sha: made.sha, branch: 'work', checkpoint: { ...made, headSha: made.headSha ?? repo.base, baseSha: repo.base }, paths }, callOptions)
      const setup = await runStep(next, `rm -rf ~/.agent ~/single; ln -s '${elsewhere}' ~/.agent; ln -s '${elsewhere}' ~/single`, { key: 'setup' })
      expect(setup.exitCode).toBe(0)
      const { notes } = await next.restore({ paths }, callOptions)
      expect(notes.join('\n')).toMatch(/"~\/\.agent" is not put in place: it is a link[\s\S]*"~\/single\/file" is not put in place: a link leads out of the home/)
      await expect(stat(join(elsewhere, 's'))).rejects.toThrow('ENOENT')
      await expect(stat(join(elsewhere, 'file'))).rejects.toThrow('ENOENT')
    } finally {
      await other.close()
    }
  })
})

describe('a folder', () => {
  it('is saved but for what is none of files, folders and links, with repositories within and credentials said', async () => {
    await run(`mkdir -p ~/.agent/deep/er ignored && cd ~/.agent
      echo turn > s.jsonl; printf 'a\\r\\nb\\n' > crlf.txt; echo '* text eol=crlf filter=lfs' > .gitattributes; echo '*' > .gitignore; echo kept > deep/er/kept
      ln -s /etc/hostname link; ln -s deep to-deep; mkfifo pipe; : > empty; printf x > "$(printf 'odd\\nname')"; printf '#!/bin/sh\\n' > tool; chmod +x tool
      echo token > auth.json; echo key > deep/id_rsa; echo plain > deep/config.json
      git init -q nested; (cd nested; echo n > n; git add n; git -c user.name=A -c user.email=a@b.c commit -qm n)
      cd ~/repository; echo cached > ignored/cache; echo work > work.txt`)
    const paths = ['~/.agent', 'ignored']
    const { made, branch } = await save(paths)
    expect(made.notes).toEqual([
      'checkpoint.paths: repositories within "~/.agent" are not saved',
      expect.stringMatching(/^checkpoint\.paths: what looks like credentials goes to the git host with the checkpoint: (?:~\/\.agent\/auth\.json ~\/\.agent\/deep\/id_rsa|~\/\.agent\/deep\/id_rsa ~\/\.agent\/auth\.json)$/),
    ])
    const other = await moved(branch, made, paths)
    try {
      const at = (name: string) => join(other.home, '.agent', name)
      for (const [name, content] of [['s.jsonl', 'turn\n'], ['crlf.txt', 'a\r\nb\n'], ['deep/er/kept', 'kept\n'], ['empty', ''], ['odd\nname', 'x'], ['auth.json', 'token\n']] as const) expect(await readFile(at(name), 'utf8'), name).toBe(content)
      expect([await readlink(at('link')), await readlink(at('to-deep'))]).toEqual(['/etc/hostname', 'deep'])
      expect((await stat(at('tool'))).mode & 0o111).not.toBe(0)
      // Nobody else's to read.
      expect((await stat(at('auth.json'))).mode & 0o077).toBe(0)
      await expect(stat(at('pipe'))).rejects.toThrow('ENOENT')
      expect(await readFile(join(other.home, 'repository/ignored/cache'), 'utf8')).toBe('cached\n')
      // What is ignored is no part of the work.
      const { path } = await repo.fetched(branch)
      expect(await gitOk(path, 'ls-tree', '-r', '--name-only', 'got')).not.toMatch(/ignored|agent/)
    } finally {
      await other.close()
    }
  })

  // Making and removing that many takes half a minute on a busy machine.
  it.skipIf(process.env['SWITCHYARD_SOAK'] !== '1')('of more files than are saved is said before any is read, and the others are saved', async () => {
    await run('mkdir -p ~/many ~/few && cd ~/many && seq 1 100001 | xargs touch && echo few > ~/few/file && cd ~/repository && echo work > work.txt')
    const { made } = await save(['~/many', '~/few'])
    expect(made.notes).toEqual(['checkpoint.paths: "~/many" is not saved: it has more than 100000 files; name folders that hold less'])
    expect(made.holdsPaths).toBe(true)
  })

  it('is saved as it is in some moment while its files grow, shrink and go, and comes up to date later', async () => {
    const writer = 'cd ~/.agent; n=0; while [ ! -e ~/enough ]; do n=$((n + 1)); echo "line $n of a conversation that goes on and on" >> grows; head -c $((n % 7 * 10000)) /dev/zero > shrinks; : > gone.$n; rm -f gone.$((n - 1)); done; : > ~/ended'
    await run(`mkdir -p ~/.agent; (${writer}) </dev/null >/dev/null 2>&1 & until [ -s ~/.agent/grows ]; do sleep 0.01; done`)
    const paths = ['~/.agent', '~/.agent-file']
    let parent = repo.base
    for (let round = 0; round < (whole ? 4 : 2); round++) {
      await run(`echo ${round} > work.txt; tail -n 1 ~/.agent/grows > ~/.agent-file`)
      const made = await repo.save(runner, 'growing', parent, { paths })
      expect(made?.holdsPaths).toBe(true)
      parent = made!.sha
    }
    await run('touch ~/enough; until [ -e ~/ended ]; do sleep 0.01; done; echo end >> ~/.agent/grows; echo last > work.txt')
    // As a git that was killed while it read would leave it.
    await run(': > ~/.switchyard/save/path.1.lock')
    const made = (await repo.save(runner, 'growing', parent, { paths }))!
    expect(made.notes).toEqual([])
    const other = await moved('growing', made, paths)
    try {
      const lines = (await readFile(join(other.home, '.agent/grows'), 'utf8')).split('\n')
      expect(lines.at(-2)).toBe('end')
      expect(lines[0]).toBe('line 1 of a conversation that goes on and on')
    } finally {
      await other.close()
    }
  })

  it('is of one moment: what is written to while it is read is read again', async () => {
    await run('echo 1 > ~/a.db; echo 1 > ~/a.db-wal; echo work > work.txt')
    let written = false
    const folder = join(sandbox.home, '.switchyard/save')
    // The agent's next write comes when the first of the two has been read.
    const write = () => {
      const read = ['path.entries', 'entries'].some((name) => existsSync(join(folder, name)) && readFileSync(join(folder, name), 'utf8').includes('paths/1'))
      if (read) for (const name of ['a.db', 'a.db-wal']) writeFileSync(join(sandbox.home, name), '2\n')
      written ||= read
      if (!read && !saved) setImmediate(write)
    }
    let saved = false
    write()
    const paths = ['~/a.db', '~/a.db-wal']
    const { made, branch } = await save(paths).finally(() => (saved = true))
    expect([written, made.notes]).toEqual([true, []])
    const other = await moved(branch, made, paths)
    try {
      expect(await Promise.all(['a.db', 'a.db-wal'].map((name) => readFile(join(other.home, name), 'utf8')))).toEqual(['2\n', '2\n'])
    } finally {
      await other.close()
    }
  })

  it('is not taken for written to because its time is still to come', async () => {
    await run('echo 1 > ~/a.db; echo 1 > ~/a.db-wal; touch -d "2100-01-01" ~/a.db ~/a.db-wal; echo work > work.txt')
    const { made } = await save(['~/a.db', '~/a.db-wal'])
    expect([made.holdsPaths, made.notes]).toEqual([true, []])
  })

  it('loses no more than the one file that git never gets to read, and says so also where nothing else has changed', async () => {
    // Nothing in the home is run.
    const programs = join(dirname(sandbox.home), 'with-git')
    const git = (await promisify(execFile)('sh', ['-c', 'command -v git'])).stdout.trim()
    const failing = async (times: number) => writeFile(join(programs, 'left'), `${times}\n`)
    await mkdir(programs)
    await writeFile(join(programs, 'git'), `#!/bin/sh
refuse() {
  read -r left <${programs}/left && [ "$left" -gt 0 ] || return
  echo $((left - 1)) >${programs}/left
  echo 'fatal: confused by unstable object source data for a1a1' >&2
  exit 128
}
case " $* " in
  *' add -A '*) refuse ;;
  *' update-index '*' --stdin '*)
    cat >${programs}/in
    ! grep -q hot ${programs}/in || refuse
    exec ${git} "$@" <${programs}/in
    ;;
esac
exec ${git} "$@"
`, { mode: 0o755 })
    await run('mkdir ~/.agent; echo 1 > ~/.agent/hot; echo 1 > ~/.agent/cold; echo 1 > hot; echo 1 > cold')
    sandbox.env['PATH'] = `${programs}:${process.env['PATH'] ?? ''}`
    const paths = ['~/.agent']
    await failing(2)
    const { made } = await save(paths)
    expect([made.unsaved, made.notes]).toEqual([[], []])
    await run('for file in ~/.agent/hot ~/.agent/cold hot cold; do echo 2 > $file; done')
    await failing(1_000)
    const second = await save(paths, { parent: made.sha })
    const sentence = 'checkpoint.paths: a file in "~/.agent" changed each time that it was read, or can\'t be read, and is saved as it was before: hot'
    const unsaved = [{ path: 'hot', reason: 'it was written to each time that it was read' }]
    expect(second.made).toMatchObject({ notes: [sentence], unsaved })
    const other = await moved(second.branch, second.made, paths)
    try {
      const texts = ['.agent/hot', '.agent/cold', 'repository/hot', 'repository/cold'].map((name) => readFile(join(other.home, name), 'utf8'))
      expect(await Promise.all(texts)).toEqual(['1\n', '2\n', '1\n', '2\n'])
    } finally {
      await other.close()
    }
    const told: SaveReport[] = []
    expect(await repo.save(runner, 'hot', second.made.sha, { paths, onUnchanged: (report) => told.push(report) })).toBeNull()
    expect(told).toMatchObject([{ notes: [sentence], unsaved }])
  })
})
