import { chmod, mkdir, readdir, readFile, rename, rm, symlink, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { CheckpointResult, Runner } from '../../src/runner/runner.js'
import { git, gitOk } from '../git/local-storage.js'
import { callOptions, processSandbox, runStep, type ProcessSandbox } from './process-sandbox.js'
import { spanning, whole } from '../whole.js'
import { finalCommit, repository, snapshot, type Repository } from './repository.js'

/** What a job finds in its next sandbox is what its last checkpoint saw, one kind of change at a time. CI takes what spans them, `npm run test:long` each. */

let repo: Repository
let sandbox: ProcessSandbox
let runner: Runner
let tree: string
let branch: string
let branches = 0

/** Whether git can move a repository's refs into tables, with their logs. */
const hasTables = (await git(import.meta.dirname, 'refs', 'migrate', '-h')).stdout.includes('--no-reflog')

beforeAll(async () => {
  repo = await repository()
})
afterAll(() => repo.close())
beforeEach(async () => {
  sandbox = await processSandbox()
  runner = sandbox.runner()
  tree = join(sandbox.home, 'repository')
  branch = `fidelity-${++branches}`
  await runner.install(callOptions)
  await runner.clone({ access: await repo.read(), ref: 'refs/heads/main', sha: repo.base, branch: 'work', checkpoint: null }, callOptions)
})
afterEach(() => sandbox.close())

const file = (name: string) => join(tree, name)
const inTree = (...args: string[]) => gitOk(tree, ...args)

async function checkpoint(parent = repo.base): Promise<CheckpointResult> {
  const made = await repo.save(runner, branch, parent)
  if (made === null) throw new Error('nothing changed')
  return made
}

/** Restores into another sandbox, which is closed with the test's own. */
async function restored<T>(made: CheckpointResult, look: (path: string, other: Runner) => Promise<T>): Promise<T> {
  const home = await processSandbox()
  try {
    const other = home.runner()
    await repo.restore(other, branch, made)
    return await look(join(home.home, 'repository'), other)
  } finally {
    await home.close()
  }
}

/** All that may differ between two work trees as git sees them, names as bytes. */
async function everything(path: string): Promise<{ files: Record<string, string>; names: string[] }> {
  const names = (await readdir(Buffer.from(path), { encoding: 'buffer' })).map((name) => name.toString('hex')).sort()
  return { files: await snapshot(path), names }
}

const kinds: Record<string, () => Promise<void>> = {
  'a deleted file': () => rm(file('first.txt')),
  'a deleted folder': () => rm(file('src'), { recursive: true }),
  'every file deleted': async () => {
    for (const name of await readdir(tree)) if (name !== '.git') await rm(file(name), { recursive: true })
  },
  'a changed mode, either way': async () => {
    await chmod(file('run.sh'), 0o644)
    await chmod(file('last.txt'), 0o755)
  },
  'a file that became a link, and a link that became a file': async () => {
    await rm(file('last.txt'))
    await symlink('first.txt', file('last.txt'))
    await unlink(file('link'))
    await writeFile(file('link'), 'no link\n')
  },
  'links to nowhere, to folders, to outside, and with an odd target': async () => {
    for (const [name, target] of [['dangling', 'no/such'], ['folder', 'src'], ['absolute', '/etc/hostname'], ['up', '../../..'], ['odd', 'a\nb "c"']]) await symlink(target!, file(name!))
  },
  'a file that became a folder, and a folder that became a file': async () => {
    await rm(file('first.txt'))
    await mkdir(file('first.txt'))
    await writeFile(file('first.txt/inner'), 'inner\n')
    await rm(file('src'), { recursive: true })
    await writeFile(file('src'), 'file now\n')
  },
  'a renamed file, a renamed folder, and a name that changed only its case': async () => {
    await rename(file('first.txt'), file('renamed.txt'))
    await rename(file('src'), file('source'))
    await rename(file('last.txt'), file('LAST.txt'))
  },
  'binary files, empty ones and large ones': async () => {
    await writeFile(file('bytes.bin'), Buffer.from(Array.from({ length: 256 }, (_, index) => index)))
    await writeFile(file('empty'), '')
    await writeFile(file('large.bin'), Buffer.alloc(3_000_000, 'x'))
    await writeFile(file('binary.bin'), Buffer.from([0, 1, 2]))
  },
  'an LFS pointer, and the attributes that make it one': async () => {
    await writeFile(file('.gitattributes'), '*.psd filter=lfs diff=lfs merge=lfs -text\n')
    await writeFile(file('image.psd'), `version https://git-lfs.github.com/spec/v1\noid sha256:${'4d'.repeat(32)}\nsize 12345\n`)
  },
  'names that are odd': async () => {
    for (const name of ['line\nbreak', 'tab\there', 'quote"\'`', 'back\\slash', '-dash', ' space ', 'ünïcode', 'e\u0301 decomposed', '$HOME', '*', '[a]', '#x', '!y', 'x'.repeat(250)]) {
      await writeFile(file(name), `${name}\n`)
    }
    await mkdir(file('dir\nwith break'))
    await writeFile(file('dir\nwith break/- file'), 'x')
  },
  'untracked folders within folders': async () => {
    await mkdir(file('a/b/c/d'), { recursive: true })
    await writeFile(file('a/b/c/d/e'), 'deep\n')
    await writeFile(file('a/.hidden'), 'hidden\n')
  },
  'a tracked file that is ignored by now': async () => {
    await writeFile(file('.gitignore'), 'ignored/\n*.log\nlast.txt\nfirst.txt\n')
    await writeFile(file('last.txt'), 'changed though ignored\n')
    await rm(file('first.txt'))
  },
  'a file that the agent’s git was told to take for unchanged': async () => {
    await inTree('update-index', '--assume-unchanged', 'last.txt')
    await inTree('update-index', '--skip-worktree', 'first.txt')
    await writeFile(file('last.txt'), 'changed\n')
    await writeFile(file('first.txt'), 'changed too\n')
  },
  'a file that is only intended to be added': async () => {
    await writeFile(file('intended.txt'), 'intended\n')
    await inTree('add', '--intent-to-add', 'intended.txt')
  },
}

/** Kinds that don't get in each other's way: CI has them in one work tree. */
const together = [
  'a changed mode, either way',
  'links to nowhere, to folders, to outside, and with an odd target',
  'a file that became a folder, and a folder that became a file',
  'binary files, empty ones and large ones',
  'an LFS pointer, and the attributes that make it one',
  'names that are odd',
  'untracked folders within folders',
  'a file that is only intended to be added',
]
/** Alone they are left to `npm run test:long`, and what takes the path of one that is here: a deleted file or folder, a renamed one, a link. */
const tried: [string, readonly string[]][] = whole
  ? Object.keys(kinds).map((kind) => [kind, [kind]])
  : [['many kinds at once', together], ...['every file deleted', 'a tracked file that is ignored by now'].map((kind): [string, string[]] => [kind, [kind]])]

describe('a checkpoint brings back', () => {
  it.each(tried)('%s', async (_kind, names) => {
    for (const name of names) await kinds[name]!()
    const before = await everything(tree)
    const made = await checkpoint()
    await restored(made, async (path, other) => {
      expect(await everything(path)).toEqual(before)
      expect(await repo.save(other, branch, made.sha)).toBeNull()
    })
  })

  it.runIf(whole)('a name that is no UTF-8', async () => {
    const name = Buffer.concat([Buffer.from(`${tree}/latin-`), Buffer.from([0xe9, 0xff]), Buffer.from('.txt')])
    await writeFile(name, 'latin\n')
    const made = await checkpoint()
    await restored(made, async (path) => {
      const names = await readdir(Buffer.from(path), { encoding: 'buffer' })
      const found = names.find((each) => each.includes(Buffer.from([0xe9, 0xff])))
      expect(found).toEqual(name.subarray(tree.length + 1))
      expect(await readFile(Buffer.concat([Buffer.from(`${path}/`), found!]), 'utf8')).toBe('latin\n')
    })
  })

  it('nothing that is ignored', async () => {
    await writeFile(file('noise.log'), 'noise\n')
    await mkdir(file('ignored'))
    await writeFile(file('ignored/x'), 'x')
    await writeFile(file('kept.txt'), 'kept\n')
    const made = await checkpoint()
    await restored(made, async (path) => {
      const names = await readdir(path)
      expect(names).toContain('kept.txt')
      expect(names).not.toContain('noise.log')
      expect(names).not.toContain('ignored')
    })
  })

  // Empty folders and modes are no part of a tree: only the walk finds them, and it may keep in mind what is ignored.
  it.each(spanning<[string, () => Promise<unknown>]>([
    ['a second edit of .gitignore', () => writeFile(file('.gitignore'), 'other\n')],
    ['.gitignore removed', () => rm(file('.gitignore'))],
    ['info/exclude', () => writeFile(file('.git/info/exclude'), '!out\n')],
    ['a setting that names another list', async () => {
      await writeFile(file('.git/list'), '!out\n')
      await inTree('config', 'core.excludesFile', file('.git/list'))
    }],
  ], '.gitignore removed'))('empty folders that are no longer ignored, by %s', async (how, stop) => {
    const rules = how.includes('.gitignore') ? file('.gitignore') : file('.git/info/exclude')
    if (how.startsWith('a setting')) await writeFile(file('.git/general'), 'out\n')
    if (how.startsWith('a setting')) await inTree('config', 'core.excludesFile', file('.git/general'))
    else await writeFile(rules, 'out\n')
    await mkdir(file('out/empty'), { recursive: true })
    await writeFile(file('first.txt'), 'once\n')
    const first = await checkpoint()
    expect(await restored(first, (path) => readdir(path))).not.toContain('out')
    const unchanged = await repo.save(runner, branch, first.sha)
    expect(unchanged).toBeNull()
    await stop()
    const second = await checkpoint(first.sha)
    expect(await restored(second, (path) => readdir(join(path, 'out')))).toEqual(['empty'])
  })

  it('nothing of a folder that is ignored from its making on, and no checkpoint for it', async () => {
    await writeFile(file('.gitignore'), 'node_modules\n')
    const first = await checkpoint()
    await mkdir(file('node_modules/package/empty'), { recursive: true })
    await writeFile(file('node_modules/package/run'), 'x\n', { mode: 0o700 })
    expect(await repo.save(runner, branch, first.sha)).toBeNull()
    await writeFile(file('first.txt'), 'twice\n')
    expect(await restored(await checkpoint(first.sha), (path) => readdir(path))).not.toContain('node_modules')
  })

  it('a submodule’s pointer, as it was and moved on, whether or not it is checked out', async () => {
    const other = join(sandbox.home, 'library')
    await gitOk(sandbox.home, 'init', '--quiet', 'library')
    for (const text of ['one', 'two']) {
      await writeFile(join(other, 'lib.txt'), text)
      await gitOk(other, 'add', '--all')
      await gitOk(other, 'commit', '--quiet', '--message', text)
    }
    await inTree('-c', 'protocol.file.allow=always', 'submodule', '--quiet', 'add', other, 'library')
    await inTree('commit', '--quiet', '--message', 'Add the library')
    const pointed = await inTree('rev-parse', 'HEAD:library')
    const one = await checkpoint()
    await gitOk(file('library'), 'checkout', '--quiet', 'HEAD~1')
    const moved = await gitOk(file('library'), 'rev-parse', 'HEAD')
    const two = await checkpoint(one.sha)
    await restored(one, async (path) => {
      expect(await gitOk(path, 'rev-parse', 'HEAD:library')).toBe(pointed)
      expect(await gitOk(path, 'ls-files', '--stage', 'library')).toContain(`160000 ${pointed}`)
      expect(await readFile(join(path, '.gitmodules'), 'utf8')).toContain('[submodule "library"]')
      expect(await gitOk(path, 'status', '--porcelain')).toBe('')
    })
    await restored(two, async (path, runnerThere) => {
      // It is not fetched again; the commit at the end still points where the agent had moved it to.
      await writeFile(join(path, 'later.txt'), 'later\n')
      const { sha } = await runnerThere.commit(finalCommit, callOptions)
      const private_ = join(path, '..', '.switchyard', 'git')
      expect(await gitOk(private_, 'rev-parse', `${sha}:library`)).toBe(moved)
    })
  })

  it('the agent’s own commits, empty ones and merges among them, on the job’s branch', async () => {
    await inTree('commit', '--quiet', '--allow-empty', '--message', 'Nothing, on purpose')
    await inTree('checkout', '--quiet', '-b', 'idea')
    await writeFile(file('idea.txt'), 'idea\n')
    await inTree('add', '--all')
    await inTree('commit', '--quiet', '--message', 'An idea')
    await inTree('checkout', '--quiet', 'work')
    await writeFile(file('other.txt'), 'other\n')
    await inTree('add', '--all')
    await inTree('commit', '--quiet', '--message', 'Something else')
    await inTree('merge', '--quiet', '--no-ff', '--message', 'Take the idea', 'idea')
    await inTree('commit', '--quiet', '--allow-empty', '--message', 'Nothing again')
    const log = await inTree('log', '--format=%H %P %an %s', `${repo.base}..HEAD`)
    const made = await checkpoint()
    expect(made.commitsAhead).toBe(5)
    await restored(made, async (path, other) => {
      expect(await gitOk(path, 'symbolic-ref', '--short', 'HEAD')).toBe('work')
      expect(await gitOk(path, 'log', '--format=%H %P %an %s', `${repo.base}..HEAD`)).toBe(log)
      expect(await gitOk(path, 'status', '--porcelain')).toBe('')
      // Nothing was left over: the branch ends with the agent's own commit.
      expect((await other.commit(finalCommit, callOptions)).sha).toBe(made.headSha)
    })
  })

  it('no credential of the agent’s configuration, and the rest of it', async () => {
    const settings = [
      ['remote.a.url', 'https://user:p@ss-1@example.invalid/a'], ['remote.b.url', 'https://ghp_pass-2@example.invalid/b'], ['alias.two', '!curl https://c:pass-3@h.invalid https://d:pass-4@h.invalid'], ['sendemail.smtpPass', 'pass-5'],
      ['hub.oauth-token', 'pass-6'], ['url.https://u:pass-7@example.invalid/.insteadOf', 'https://example.invalid/'], ['remote.c.url', 'ssh://git@example.invalid/c'], ['url.ssh://git@example.invalid/.insteadOf', 'https://other.invalid/'], ['include.path', '../.gitconfig'],
    ] as const
    for (const [key, value] of settings) await inTree('config', key, value)
    const made = await checkpoint()
    expect(await gitOk(join(sandbox.home, '.switchyard/git'), 'show', `${made.sha}^2:meta`)).not.toContain('ss-')
    await restored(made, async (path) => {
      expect(await gitOk(path, 'config', '--local', '--get-regexp', '^(remote.c|url|include|remote.b)')).toBe(
        'remote.b.url https://example.invalid/b\nremote.c.url ssh://git@example.invalid/c\nurl.ssh://git@example.invalid/.insteadof https://other.invalid/\ninclude.path ../.gitconfig',
      )
    })
  })

  it.runIf(whole)('the refs and history that the agent’s git folder still has, when objects of others are gone', async () => {
    await writeFile(file('a.txt'), 'a\n')
    await inTree('add', '-A')
    await inTree('commit', '-qm', 'Held')
    const held = await inTree('rev-parse', 'HEAD')
    const before = await checkpoint()
    await inTree('branch', 'zzz')
    await writeFile(file('.git/refs/heads/mmm'), `${'1'.repeat(40)}\n`)
    await inTree('checkout', '-q', '-b', 'side')
    await mkdir(file('lost'))
    await writeFile(file('lost/file'), 'lost\n')
    await inTree('add', '-A')
    await inTree('commit', '-qm', 'Lost')
    const lost = await inTree('rev-parse', 'HEAD:lost')
    await inTree('checkout', '-q', 'work')
    await rm(file(`.git/objects/${lost.slice(0, 2)}/${lost.slice(2)}`))
    const made = await checkpoint(before.sha)
    expect(made.headSha).toBe(held)
    expect(await repo.save(runner, branch, made.sha)).toBeNull()
    await restored(made, async (path) => expect((await gitOk(path, 'for-each-ref', '--format=%(objectname) %(refname)', 'refs/heads')).split('\n')).toEqual([`${held} refs/heads/work`, `${held} refs/heads/zzz`]))

    await inTree('commit', '-q', '--allow-empty', '-m', 'Gone')
    const gone = await inTree('rev-parse', 'HEAD')
    await rm(file(`.git/objects/${gone.slice(0, 2)}/${gone.slice(2)}`))
    expect((await runner.commit(finalCommit, callOptions)).sha).toBe(held)
  })

  it('the work of an agent that left the job’s branch', async () => {
    await inTree('checkout', '--quiet', '-b', 'its-own')
    await writeFile(file('own.txt'), 'own\n')
    await inTree('add', '--all')
    await inTree('commit', '--quiet', '--message', 'On its own branch')
    await inTree('checkout', '--quiet', '--detach')
    await writeFile(file('more.txt'), 'more\n')
    const head = await inTree('rev-parse', 'HEAD')
    const made = await checkpoint()
    // The agent notices nothing.
    expect((await inTree('status', '--short', '--branch')).split('\n')).toEqual(['## HEAD (no branch)', '?? more.txt'])
    await restored(made, async (path) => {
      expect(await gitOk(path, 'rev-parse', 'HEAD')).toBe(head)
      expect(await gitOk(path, 'status', '--porcelain')).toBe('?? more.txt')
    })
  })

  it.skipIf(!hasTables)('the whole stash of a repository that keeps refs in tables, where git knows them', async () => {
    await inTree('refs', 'migrate', '--ref-format=reftable')
    for (const text of ['one', 'two']) {
      await writeFile(file('first.txt'), text)
      await inTree('stash', 'push', '--quiet', '--message', text)
    }
    const list = await inTree('stash', 'list', '--format=%H %gs')
    expect(list.split('\n')).toHaveLength(2)
    await restored(await checkpoint(), async (path) => expect(await gitOk(path, 'stash', 'list', '--format=%H %gs')).toBe(list))
  })

  it.runIf(whole)('a repository that was made around files of this one, and each time', async () => {
    await gitOk(file('src'), 'init', '--quiet')
    await gitOk(file('src'), 'add', '--all')
    await gitOk(file('src'), 'commit', '--quiet', '--message', 'Inner')
    const head = await gitOk(file('src'), 'rev-parse', 'HEAD')
    const one = await checkpoint()
    expect(await repo.save(runner, branch, one.sha)).toBeNull()
    await writeFile(file('more.txt'), 'more')
    const two = await checkpoint(one.sha)
    await restored(two, async (path) => expect(await gitOk(join(path, 'src'), 'rev-parse', 'HEAD')).toBe(head))
  })

  it.each(whole ? ['HOME', 'XDG_CONFIG_HOME', 'GIT_CONFIG_GLOBAL'] : ['GIT_CONFIG_GLOBAL'])('the user’s rules where the job’s own %s has git look for them, and no file that these ignore', async (name) => {
    const elsewhere = join(sandbox.home, 'elsewhere')
    const env = { [name]: name === 'GIT_CONFIG_GLOBAL' ? join(elsewhere, 'config') : elsewhere }
    const rules = { HOME: '.config/git/ignore', XDG_CONFIG_HOME: 'git/ignore', GIT_CONFIG_GLOBAL: 'ignore' }[name]
    await runStep(runner, `mkdir -p "${elsewhere}" && cd "${elsewhere}" && mkdir -p .config/git git && echo hidden.txt > ${rules}${name === 'GIT_CONFIG_GLOBAL' ? ' && git config --global core.excludesFile "$PWD/ignore"' : ''}`, { env })
    await writeFile(file('hidden.txt'), 'hidden\n')
    await writeFile(file('seen.txt'), 'seen\n')
    const made = await checkpoint()
    const { path } = await repo.fetched(branch)
    expect((await gitOk(path, 'diff', '--name-only', repo.base, made.sha)).split('\n')).toEqual(['seen.txt'])
  })

  it.runIf(whole)('the user’s git configuration to where the job’s own HOME has git look for it, though no command has run yet', async () => {
    const other = await processSandbox()
    try {
      const at = (home: string) => ({ HOME: join(home, 'elsewhere') })
      await runStep(runner, 'mkdir -p ~; git config --global user.name Agent && echo x > x', { env: at(sandbox.home) })
      const made = await checkpoint()
      const next = other.runner()
      await repo.restore(next, branch, made, [], at(other.home))
      expect((await runStep(next, 'git config --global user.name', { env: at(other.home) })).stdout.toString()).toBe('Agent\n')
      expect(await readdir(other.home)).not.toContain('.gitconfig')
    } finally {
      await other.close()
    }
  })

  it('what the agent did after it removed what the last save had kept, and a git configuration that may not be written to', async () => {
    const kept = join(sandbox.home, '.switchyard', 'save')
    await inTree('config', 'first.time', '1')
    await chmod(file('.git/config'), 0o444)
    const one = await checkpoint()
    await inTree('config', 'second.time', '2')
    const two = await checkpoint(one.sha)
    await rm(kept, { recursive: true })
    await inTree('config', 'third.time', '3')
    const three = await checkpoint(two.sha)
    await restored(three, async (path) => expect(await gitOk(path, 'config', '--get-regexp', '^(first|second|third)')).toBe('first.time 1\nsecond.time 2\nthird.time 3'))
  })

  it('no file in plain text before which a filter stands by now that fails, also where an earlier one held it', async () => {
    await writeFile(file('secret.env'), 'TOKEN=1\n')
    const one = await checkpoint()
    await writeFile(file('.gitattributes'), 'secret.env filter=crypt\n')
    await inTree('config', 'filter.crypt.clean', 'false')
    await writeFile(file('secret.env'), 'TOKEN=2\n')
    const two = await checkpoint(one.sha)
    expect(two.unsaved.map(({ path }) => path)).toEqual(['secret.env'])
    const { path } = await repo.fetched(branch)
    expect(await gitOk(path, 'diff', '--name-only', repo.base, two.sha)).toBe('.gitattributes')
  })

  it('line ends that git would write otherwise, beside files that are gone, can’t be read or are flagged to be left out', async () => {
    await writeFile(file('.gitattributes'), '* text=auto\n')
    await writeFile(file('windows.txt'), 'a\r\nb\r\n')
    await inTree('add', '.gitattributes', 'windows.txt')
    await inTree('update-index', '--skip-worktree', 'last.txt', 'src/main.js')
    for (const name of ['first.txt', 'last.txt', 'run.sh']) await rm(file(name))
    await inTree('-c', 'alias.pipe=!mkfifo', 'pipe', 'run.sh')
    // One that is there all the same was taken for a full disk, as git writes it nowhere and says nothing.
    await writeFile(file('src/main.js'), 'changed\n')
    await restored(await checkpoint(), async (path) => expect(await readFile(join(path, 'windows.txt'), 'utf8')).toBe('a\r\nb\r\n'))
  })

  it.runIf(whole)('the files of a repository within whose history no checkpoint can hold, and says so', async () => {
    await mkdir(file('within'))
    await gitOk(file('within'), 'init', '--quiet', '--object-format=sha256')
    await writeFile(file('within/inner.txt'), 'inner\n')
    await gitOk(file('within'), 'add', '--all')
    await gitOk(file('within'), 'commit', '--quiet', '--message', 'Inner')
    const made = await checkpoint()
    expect(made.notes).toContainEqual(expect.stringMatching(/^within: git takes .* for no repository of this job/))
    await restored(made, async (path) => expect(await readFile(join(path, 'within', 'inner.txt'), 'utf8')).toBe('inner\n'))
  })
})

describe('the branch that the user gets', () => {
  it('holds the agent’s commits and at most one for the rest, and no checkpoint', async () => {
    await inTree('commit', '--quiet', '--allow-empty', '--message', 'Empty')
    await writeFile(file('a.txt'), 'a\n')
    const one = await checkpoint()
    await writeFile(file('b.txt'), 'b\n')
    const two = await checkpoint(one.sha)
    const { sha } = await restored(two, async (path, other) => {
      await writeFile(join(path, 'c.txt'), 'c\n')
      const made = await other.commit(finalCommit, callOptions)
      await other.push({ sha: made.sha, branch: `${branch}-work`, access: await repo.write(`${branch}-work`) }, callOptions)
      return made
    })
    const { path } = await repo.fetched(`${branch}-work`)
    expect((await gitOk(path, 'log', '--format=%s', `${repo.base}..${sha}`)).split('\n')).toEqual([finalCommit.message.split('\n')[0], 'Empty'])
    expect((await gitOk(path, 'diff', '--name-only', repo.base, sha)).split('\n')).toEqual(['a.txt', 'b.txt', 'c.txt'])
  })
})
