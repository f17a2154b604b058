import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { gitOk, withToken } from '../git/local-storage.js'
import { callOptions, has, processSandbox, type ProcessSandbox } from './process-sandbox.js'
import { finalCommit, repository, type Repository } from './repository.js'
import { kinds, type RepositoryKind } from './repository-kinds.js'

/**
 * Each kind of repository: a save changes nothing that the agent sees, its tree is that of the agent's own git, and in another sandbox
 * every path, ref, stash, entry of the index and of the configuration is what it was.
 */

const run = promisify(execFile)
let repo: Repository
let keys: string
let number = 0
beforeAll(async () => {
  repo = await repository()
  keys = await mkdtemp(join(tmpdir(), 'switchyard-keys-'))
})
afterAll(async () => {
  await repo.close()
  await rm(keys, { recursive: true })
})

const environment = (home: string) => ({
  PATH: process.env['PATH'] ?? '',
  HOME: home,
  KEYS: keys,
  LC_ALL: 'C',
  GIT_CONFIG_NOSYSTEM: '1',
  ...Object.fromEntries(['AUTHOR', 'COMMITTER'].flatMap((who) => [[`GIT_${who}_NAME`, 'Agent'], [`GIT_${who}_EMAIL`, 'agent@example.invalid']])),
})

/** Runs a text in a work tree; what fails in it is its own affair. */
async function inTree(home: string, script: string | undefined): Promise<string> {
  if (script === undefined) return ''
  const { stdout } = await run('sh', ['-c', `${script}\n:`], { cwd: join(home, 'repository'), env: environment(home), maxBuffer: 64 * 1024 * 1024 })
  return stdout
}

const look = `
find . -name .git -prune -o -printf 'path %P %y %m %l\\n' | sort
find . -name .git -prune -o -type f -readable -print0 | sort -z | xargs -0 sha256sum | sed 's,^\\([0-9a-f]*\\)  ./,path \\1 ,'
export GIT_OPTIONAL_LOCKS=0
unset GIT_INDEX_FILE
git status --porcelain=v2
git for-each-ref
git symbolic-ref HEAD; git rev-parse HEAD
git stash list
git ls-files -s; git ls-files -v
git config --local --list | sort; git config --global --list | sort
git worktree list | sort
ls .git | grep -E 'HEAD$|^rebase|^BISECT|MERGE' | grep -v FETCH_HEAD
for inner in $(find . -mindepth 2 -name .git -not -path './.git/*' | sort); do
  at=\${inner%/.git}; echo "within $at"; git -C "$at" rev-parse HEAD; git -C "$at" status --porcelain=v2 --branch; git -C "$at" for-each-ref
done`

/** All that may differ between two sandboxes, a line each, without what another one is not promised. */
async function picture(home: string, { loses }: RepositoryKind): Promise<string[]> {
  const lines = (await inTree(home, `{ ${look}\n} 2>&1`)).replaceAll(home, '~').split('\n')
  if (loses === undefined) return lines
  return lines.filter((line) => !line.split(/[ \t]+/).some((word) => loses.test(word)))
}

/** A branch of its own, on which the kind's base is. */
async function begin(kind: RepositoryKind): Promise<{ base: string; ref: string }> {
  number += 1
  const folder = join(repo.storage.folder, `base-${number}`)
  await mkdir(join(folder, 'repository'), { recursive: true })
  await inTree(folder, `git init -q -b main; echo hello >README.md; git add -A; git commit -qm Begin\n${kind.base ?? ''}\ngit add -A; git commit -qm Base`)
  const seed = withToken(await repo.write(`base-${number}`))
  await gitOk(join(folder, 'repository'), 'push', '--quiet', seed, `HEAD:refs/heads/base-${number}`)
  return { base: await gitOk(join(folder, 'repository'), 'rev-parse', 'HEAD'), ref: `refs/heads/base-${number}` }
}

async function withSandbox<Result>(use: (sandbox: ProcessSandbox) => Promise<Result>): Promise<Result> {
  const sandbox = await processSandbox({ env: { GIT_CONFIG_NOSYSTEM: '1' } })
  try {
    await sandbox.runner().install(callOptions)
    return await use(sandbox)
  } finally {
    await run('chmod', ['-R', 'u+rwX', sandbox.home])
    await sandbox.close()
  }
}

describe('a job in a repository with', () => {
  it.each(Object.entries(kinds))('%s', async (_name, kind) => {
    if (kind.needs?.some((program) => !has(program)) === true) return
    const { base, ref } = await begin(kind)
    await withSandbox(async (sandbox) => {
      const runner = sandbox.runner()
      const branch = `kinds-${number}`
      await runner.clone({ access: await repo.read(true), ref, sha: base, branch: 'work', checkpoint: null }, callOptions)
      await inTree(sandbox.home, kind.setup)
      await inTree(sandbox.home, kind.work)
      const before = await picture(sandbox.home, kind)
      const made = await repo.save(runner, branch, base, { baseSha: base })
      expect(made).not.toBeNull()
      // The agent notices nothing.
      expect(await picture(sandbox.home, kind)).toEqual(before)
      expect(made!.unsaved.map(({ path }) => path)).toEqual(kind.unsaved ?? [])
      const private_ = join(sandbox.home, '.switchyard', 'git')
      const tree = await gitOk(private_, 'rev-parse', `${made!.sha}^{tree}`)
      if (kind.asOwn !== false) {
        const own = await inTree(sandbox.home, 'cp -p .git/index .git/own 2>/dev/null; export GIT_INDEX_FILE=.git/own; git add -A >/dev/null 2>&1; git write-tree; rm -f .git/own')
        expect(tree).toBe(own.trim())
      }
      expect(await gitOk(private_, 'ls-tree', '-r', tree)).not.toContain(kind.setup?.includes('lib') === true ? 'no such' : '160000 commit')
      expect(await runner.checkpoint(repo.checkpoint(made!.sha, { baseSha: base }), callOptions)).toBeNull()

      await withSandbox(async (other) => {
        const restored = other.runner()
        const checkpoint = { ...made!, headSha: made!.headSha ?? base, baseSha: base }
        await restored.clone({ access: await repo.read(true), ref: `refs/heads/${branch}`, sha: made!.sha, branch: 'work', checkpoint }, callOptions)
        await inTree(other.home, kind.setup)
        const { notes } = await restored.restore({}, callOptions)
        expect(notes).toEqual([])
        expect(await picture(other.home, kind)).toEqual(before)
        // Nothing is there to be saved, and what the job ends with is the same in both.
        expect(await restored.checkpoint(repo.checkpoint(made!.sha, { baseSha: base }), callOptions)).toBeNull()
        const [here, there] = [await runner.commit(finalCommit, callOptions), await restored.commit(finalCommit, callOptions)]
        expect(there.sha).toBe(here.sha)
        expect(there.kept).toEqual(here.kept)
      })
    })
  })
})
