// What a checkpoint costs beside the agent's own `git add -A && git commit`, and a restore beside a plain clone: same trees, same server, in turn.
// Usage: tsx bench/checkpoint.ts [--rounds 3] [--before REVISION]; the latter compares the time until a repository is ready with that release's.
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdir, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { Command } from 'commander'
import { createRunner, type Runner } from '../src/runner/index.js'
import { git, startDeployment, type Deployment } from '../test/e2e/deployment.js'
import { processSandbox } from '../test/runner/process-sandbox.js'
import { median, report } from './report.js'

const given = new Command('checkpoint').option('--rounds <number>', 'of each', Number, 3).option('--before <revision>', 'a release to compare with').parse().opts<{ rounds: number; before?: string }>()
const call = { timeoutMs: 300_000 }
const identity = { name: 'Bench', email: 'bench@example.invalid' }

/** Trees by what is to be measured: how many files, of how many bytes. */
const trees = {
  'small tree': { repository: 'bench/small', files: 300 },
  '50,000 files': { repository: 'bench/large', files: 50_000 },
} as const

interface Sandbox {
  readonly runner: Runner
  readonly path: string
  kill(): Promise<void>
}

/** A home folder on this machine, so that the agent's own git can be timed beside the runner's calls. */
async function sandbox(make: typeof createRunner = createRunner): Promise<Sandbox> {
  const box = await processSandbox()
  const runner = make({ provider: box.provider, sandboxId: 'one' })
  const { repositoryPath } = await runner.install(call)
  return { runner, path: repositoryPath, kill: () => box.close() }
}

async function timed<Result>(into: number[], work: () => Promise<Result>): Promise<Result> {
  const start = performance.now()
  const result = await work()
  into.push(performance.now() - start)
  return result
}

const figures: Record<string, number | string> = {}
/** Said as it comes too: the whole takes minutes. */
function note(found: Readonly<Record<string, number | string>>): void {
  Object.assign(figures, found)
  for (const [key, value] of Object.entries(found)) console.error(`${key.padEnd(64)} ${value}`)
}
const ratio = (ours: readonly number[], theirs: readonly number[]) => Number((median(ours) / median(theirs)).toFixed(3))
const ms = (values: readonly number[]) => Math.round(median(values))

/** Checkpoints of what `change` does, each of them again without a change, and the same by the agent's own git; then both pushed. */
async function checkpoints(deployment: Deployment, name: string, { repository, sha }: { repository: string; sha: string }, rounds: number, change: (path: string, round: number) => Promise<void>): Promise<void> {
  const box = await sandbox()
  const { runner, path } = box
  const received = () => deployment.storage.wireBytes(repository).received
  const times = { checkpoint: [] as number[], again: [] as number[], own: [] as number[], restore: [] as number[], clone: [] as number[] }
  const bytes = { ours: 0, plain: 0, state: 0 }
  await runner.clone({ access: await deployment.host.readAccess(repository, { ephemeral: false }), ref: 'refs/heads/main', sha, branch: 'work', checkpoint: null }, call)
  const branch = `checkpoint/${name.replaceAll(/\W/g, '-')}`
  let parent = sha
  for (let round = 0; round < rounds; round += 1) {
    await change(path, round)
    const request = { parent, baseSha: sha, message: 'Checkpoint', identity }
    const made = await timed(times.checkpoint, () => runner.checkpoint(request, call))
    if (made === null) throw new Error('the change was not seen')
    const before = received()
    await runner.push({ sha: made.sha, branch, access: await deployment.host.writeAccess(repository, { branch }) }, call)
    bytes.ours = received() - before
    parent = made.sha
    if ((await timed(times.again, () => runner.checkpoint({ ...request, parent }, call))) !== null) throw new Error('a change was seen where there is none')
    await timed(times.own, async () => {
      await git(path, 'add', '-A')
      await git(path, 'commit', '-qm', 'own')
    })
    // A branch that is new to the host: it is asked first what it has, as ours does.
    const target = await deployment.host.writeAccess(repository, { branch: `${branch}-plain` })
    const url = withToken(target)
    const beforePlain = received()
    await git(path, '-c', 'push.negotiate=true', 'push', '-q', url, `HEAD:refs/heads/${branch}-plain`)
    bytes.plain = received() - beforePlain
    bytes.state = await stateBytes(deployment, repository, branch)
    const checkpoint = { headSha: made.headSha ?? sha, commitsAhead: made.commitsAhead, baseSha: sha }
    const next = await sandbox()
    const access = await deployment.host.readAccess(repository, { ephemeral: true })
    await timed(times.restore, async () => {
      await next.runner.clone({ access, ref: `refs/heads/${branch}`, sha: made.sha, branch: 'work', checkpoint }, call)
      await next.runner.restore({}, call)
    })
    await next.kill()
    const plain = join(deployment.dir, 'plain')
    await timed(times.clone, () => git(deployment.dir, 'clone', '-q', '--depth', '1', '--single-branch', '--branch', `${branch}-plain`, withToken(access), plain))
    await rm(plain, { recursive: true, maxRetries: 10 })
  }
  await box.kill()
  note({
    [`${name}: checkpoint, ms`]: ms(times.checkpoint),
    [`${name}: the agent's own add and commit, ms`]: ms(times.own),
    [`${name}: ratio (goal 2)`]: ratio(times.checkpoint, times.own),
    [`${name}: without a change, of the first (goal 0.5)`]: ratio(times.again, times.checkpoint),
    [`${name}: bytes pushed`]: bytes.ours,
    [`${name}: bytes of a plain push`]: bytes.plain,
    [`${name}: bytes ratio (goal 1.05)`]: Number((bytes.ours / bytes.plain).toFixed(4)),
    [`${name}: bytes of the state`]: bytes.state,
    [`${name}: restore, ms`]: ms(times.restore),
    [`${name}: plain clone, ms`]: ms(times.clone),
    [`${name}: restore ratio (goal 1.3)`]: ratio(times.restore, times.clone),
    [`${name}: restore over plain, ms (goal 1,200)`]: ms(times.restore) - ms(times.clone),
  })
}

function withToken(access: { readonly url: string; readonly username: string; readonly token: string }): string {
  const url = new URL(access.url)
  url.username = access.username
  url.password = access.token
  return url.href
}

/** What rides along with a checkpoint beside its tree: all that its last parent's tree leads to, packed. */
async function stateBytes(deployment: Deployment, repository: string, branch: string): Promise<number> {
  const path = join(deployment.dir, 'looked-at')
  await git(deployment.dir, 'init', '-q', '--bare', path)
  try {
    await git(path, 'fetch', '-q', '--depth', '2', withToken(await deployment.host.readAccess(repository, { ephemeral: true })), `refs/heads/${branch}:refs/heads/it`)
    const parents = (await git(path, 'log', '-1', '--format=%P', 'it')).split(' ')
    const listed = await git(path, 'rev-list', '--objects', '--no-walk', parents.at(-1) ?? 'it', '--not', 'it^{tree}')
    const sizes = await promisify(execFile)('sh', ['-c', `printf '%s\n' "$1" | cut -c1-40 | git cat-file --batch-check='%(objectsize:disk)'`, 'sh', listed], { cwd: path, maxBuffer: 64 * 1024 * 1024 })
    return sizes.stdout.split('\n').reduce((sum, line) => sum + (Number(line) || 0), 0)
  } finally {
    await rm(path, { recursive: true, maxRetries: 10 })
  }
}

/** Until a repository is ready, in turn with an earlier release of this checkout's history. */
async function ready(deployment: Deployment, name: string, { repository, sha }: { repository: string; sha: string }, before: typeof createRunner): Promise<void> {
  const times = { now: [] as number[], before: [] as number[] }
  for (let round = 0; round < given.rounds * 2; round += 1) {
    for (const [into, make] of [[times.now, createRunner], [times.before, before]] as const) {
      const box = await sandbox(make)
      const access = await deployment.host.readAccess(repository, { ephemeral: false })
      await timed(into, () => box.runner.clone({ access, ref: 'refs/heads/main', sha, branch: 'work', checkpoint: null }, call))
      await box.kill()
    }
  }
  note({ [`${name}: ready, ms`]: ms(times.now), [`${name}: ready at ${given.before ?? ''}, ms`]: ms(times.before), [`${name}: ready, ratio (goal 1.05)`]: ratio(times.now, times.before) })
}

/** The runner of an earlier release, from a work tree of its own. */
async function releaseBefore(deployment: Deployment, revision: string): Promise<typeof createRunner> {
  const path = join(deployment.dir, 'release-before')
  await git(resolve('.'), 'worktree', 'add', '-q', '--detach', path, revision)
  await symlink(resolve('node_modules'), join(path, 'node_modules'))
  return ((await import(join(path, 'src/runner/index.ts'))) as { createRunner: typeof createRunner }).createRunner
}

const deployment = await startDeployment()
try {
  const seeded: Record<string, { repository: string; sha: string }> = {}
  for (const [name, { repository, files }] of Object.entries(trees)) {
    const content = Object.fromEntries(Array.from({ length: files }, (_, index) => [`src/${index % 97}/${index % 11}/file-${index}.ts`, `export const value${index} = ${'x'.repeat(index % 300)}\n`]))
    seeded[name] = { repository, sha: await deployment.seed(repository, content) }
  }
  // As a host keeps them: else each clone spends a minute on what they have in common.
  const stored = join(deployment.dir, 'storage', 'repositories')
  for (const folder of await readdir(stored)) await git(join(stored, folder), 'repack', '-adq', '--window=2')
  const oneChange = (path: string, round: number) => writeFile(join(path, 'src/1/1/file-1.ts'), `export const round = ${round}\n`)
  for (const [name, origin] of Object.entries(seeded)) await checkpoints(deployment, name, origin, given.rounds, oneChange)
  const small = seeded['small tree']
  if (small === undefined) throw new Error('no small tree')
  // Text that shrinks to a third or so, as most of it does.
  await checkpoints(deployment, '200 MB of changes', small, 1, async (path, round) => {
    await mkdir(join(path, 'big'), { recursive: true })
    for (let index = 0; index < 40; index += 1) await writeFile(join(path, 'big', `${round}-${index}`), randomBytes(2_500_000).toString('hex').replace(/.{64}/g, '$&\n'))
  })
  if (given.before !== undefined) {
    const before = await releaseBefore(deployment, given.before)
    try {
      for (const [name, origin] of Object.entries(seeded)) await ready(deployment, name, origin, before)
    } finally {
      await git(resolve('.'), 'worktree', 'remove', '--force', join(deployment.dir, 'release-before'))
    }
  }
  await report('checkpoint', figures)
} finally {
  await deployment.close()
}
