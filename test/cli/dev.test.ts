import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { bringHome, storedBranches } from '../../src/cli/dev/bring-home.js'
import { devSecrets } from '../../src/cli/dev/secrets.js'
import { loadConfig } from '../../src/config/load.js'
import { createRedis } from '../../src/store/index.js'
import { makePlace, type Place, type Run } from './run-switchyard.js'

let place: Place
let checkout: string
beforeEach(async () => {
  place = await makePlace()
  checkout = place.folder
})
afterEach(() => place.remove())

const git = (...args: string[]) =>
  execFileSync('git', ['-C', checkout, '-c', 'user.name=Me', '-c', 'user.email=me@example.invalid', ...args], { encoding: 'utf8', env: { PATH: process.env['PATH'], GIT_CONFIG_GLOBAL: '/dev/null', GIT_CONFIG_NOSYSTEM: '1' } }).trim()

async function makeCheckout(): Promise<void> {
  git('init', '-q', '-b', 'trunk')
  await mkdir(join(checkout, 'packages/app'), { recursive: true })
  await writeFile(join(checkout, 'packages/app/hello.txt'), 'hello\n')
  await writeFile(join(checkout, '.gitignore'), '.env\n')
  git('add', '-A')
  git('commit', '-q', '-m', 'Begin')
}

/** As in a terminal in that folder of the checkout. */
function inFolder(folder: string, command: string): Run {
  return place.shell(`cd '${join(checkout, folder)}' && exec $SWITCHYARD ${command}`)
}
/** The same of one that ends by itself, in one process with the others. */
const switchyard = (folder: string, command: string) => place.command([...command.matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, word]) => quoted ?? word ?? ''), {}, folder)
/** Somebody who has seen enough. */
async function seen(run: Run, pattern: RegExp): Promise<void> {
  await run.saw(pattern)
  run.child.kill('SIGKILL')
  await run.ended
}
const own = () => readdirSync(checkout).includes('.switchyard')
const homeRefs = () => git('for-each-ref', '--format=%(refname)', 'refs/remotes')

describe('dev in a checkout', { timeout: 300_000 }, () => {
  it('takes secrets from .env and the environment, brings what jobs made home, and leaves only that', async () => {
    await makeCheckout()
    const app = join(checkout, 'packages/app')
    await writeFile(join(app, '.env'), 'AGENT_KEY="sk-from-the-file"\nUNUSED=\n')
    await writeFile(join(app, 'mine.txt'), 'not committed\n')
    const before = [git('rev-parse', 'HEAD'), git('status', '--porcelain')]
    const dev = place.shell(`cd '${app}' && OTHER_KEY=sk-of-the-environment exec $SWITCHYARD dev -r acme/web=. --secret OTHER_KEY`)
    await dev.saw(/Ctrl-C stops everything/)
    expect(dev.stderr()).toContain('secrets: AGENT_KEY, OTHER_KEY (jobs get those that they name)')

    // From the top, though dev was started below it.
    const enqueued = await switchyard('.', `enqueue -r acme/web --secret AGENT_KEY --secret OTHER_KEY -s 'echo "$AGENT_KEY $OTHER_KEY" | wc -c > packages/app/seen.txt; echo "$AGENT_KEY"' -m 'See the keys' -p seen --wait --json`)
    expect(enqueued.code, enqueued.stderr).toBe(0)
    const { jobId } = JSON.parse(enqueued.stdout) as { jobId: string }
    await dev.saw(/log -p HEAD\.\.switchyard\/seen/)
    const shown = new RegExp(`^job ${jobId} succeeded\n  (git -C .* log -p HEAD\\.\\.switchyard/agent/${jobId})\n  git -C .* log -p HEAD\\.\\.switchyard/seen$`, 'm').exec(dev.stderr())
    expect(execFileSync('sh', ['-c', shown?.[1] ?? 'false'], { encoding: 'utf8' })).toMatch(/See the keys[^]*seen\.txt[^]*\+ *39/)
    expect(homeRefs().split('\n')).toEqual([`refs/remotes/switchyard/agent/${jobId}`, 'refs/remotes/switchyard/seen'])

    const { redis } = JSON.parse(readFileSync(join(checkout, '.switchyard/dev/switchyard.config.json'), 'utf8')) as { redis: { url: string } }
    const connection = createRedis(redis, 'commands')
    const held = await Promise.all((await connection.keys('*')).map(async (key) => (await connection.dumpBuffer(key)).toString('latin1')))
    connection.disconnect()
    expect(held.length).toBeGreaterThan(5)
    for (const value of held) expect(value).not.toMatch(/sk-from-the-file|sk-of-the-environment/)

    // A job that has not ended: its last checkpoint is brought.
    const running = (await switchyard('packages', `enqueue -r acme/web -s 'echo half > half.txt' -s 'echo other > other.txt; echo begun; sleep 600'`)).stdout.trim()
    await seen(inFolder('.', `logs ${running} --follow`), /begun/)
    const status = async () => JSON.parse((await switchyard('.', `status ${running} --json`)).stdout) as { checkpointSha: string | null }
    await expect.poll(async () => (await status()).checkpointSha).not.toBeNull()
    dev.child.kill('SIGINT')
    expect(await dev.ended, dev.stderr()).toBe(0)
    const [, left = '', last = ''] = new RegExp(`job ${running} had not ended, what it had is (switchyard/left/\\S+), its last checkpoint is (switchyard/checkpoint/\\S+); it does not go on, enqueue it again`).exec(dev.stderr()) ?? []
    // What was made since the last checkpoint is there as well.
    expect([git('show', `${last}:half.txt`), git('show', `${left}:half.txt`), git('show', `${left}:other.txt`)]).toEqual(['half', 'half', 'other'])
    expect([git('rev-parse', 'HEAD'), git('status', '--porcelain')]).toEqual(before)
    expect([own(), (await place.left()).processes]).toEqual([false, []])
  })

  it('cleans up after one that was killed, and loses nothing of it', async () => {
    await makeCheckout()
    const killed = inFolder('.', 'dev -r acme/web=.')
    await killed.saw(/Ctrl-C stops everything/)
    const { stdout, stderr } = await switchyard('.', `enqueue -r acme/web -s 'echo one > one.txt' --wait --json`)
    const { jobId } = JSON.parse(stdout === '' ? '{}' : stdout) as { jobId: string }
    expect(jobId, stderr).toBeDefined()
    await seen(inFolder('.', `enqueue -r acme/web -s 'echo begun; sleep 600' --no-push --wait`), /begun/)
    killed.child.kill('SIGKILL')
    await killed.ended
    // As if it had died before it fetched.
    for (const ref of homeRefs().split('\n').filter((name) => name !== '')) git('update-ref', '-d', ref)
    expect(git('status', '--porcelain')).toBe('')

    const next = inFolder('packages', 'dev -r acme/web=.')
    await next.saw(/Ctrl-C stops everything/)
    expect(next.stderr()).toContain('cleaning up after a dev that was killed')
    expect(homeRefs()).toContain(`refs/remotes/switchyard/agent/${jobId}`)
    expect((await place.left()).processes.filter((line) => line.includes('sleep 600'))).toEqual([])
    const second = await switchyard('.', 'dev')
    expect([second.code, second.stderr]).toEqual([2, expect.stringMatching(/another "switchyard dev" runs in this folder \(process \d+\)/)])
    next.child.kill('SIGINT')
    expect(await next.ended, next.stderr()).toBe(0)
    expect([own(), await place.left()]).toEqual([false, { files: [], processes: [] }])
  })
})

it('keeps what a folder that is no checkout can’t take, and says where', { timeout: 300_000 }, async () => {
  await writeFile(join(checkout, 'hello.txt'), 'hello\n')
  await writeFile(join(checkout, '.env'), 'KEY=sk-mine\n')
  expect((await switchyard('.', 'init')).code).toBe(0)
  const dev = inFolder('.', 'dev')
  await dev.saw(/Ctrl-C stops everything/)
  const first = await switchyard('.', 'enqueue --file agent-job.json --wait')
  expect(first.code, first.stderr).toBe(0)
  expect(first.stderr).toMatch(/warning: the "switchyard dev" that runs here is used, and not .*switchyard\.config\.ts[^]*^agent \| agent at work: Fix the failing test$/m)
  const failing = await switchyard('.', `enqueue -r dev/project -s 'echo before; echo no such luck >&2; exit 7' --wait`)
  expect([failing.code, failing.stdout]).toEqual([1, expect.stringMatching(/the last lines of step 1:\n {2}step 1 \| before\n {2}step 1 stderr \| no such luck\n$/)])
  await writeFile(join(place.temporary, 'leaves.json'), JSON.stringify({ repository: 'dev/project', steps: ['echo left > left.log'], artifacts: ['left.log'], push: false }))
  const leaves = await switchyard('.', `enqueue --file ${join(place.temporary, 'leaves.json')} --wait --json`)
  const { jobId: leftBy, artifacts } = JSON.parse(leaves.stdout) as { jobId: string; artifacts: object[] }
  expect(artifacts).toMatchObject([{ path: 'left.log', sizeBytes: 5 }])
  const fetched = await switchyard('.', `artifacts ${leftBy} --download ${join(place.temporary, 'fetched')}`)
  expect([fetched.code, readFileSync(join(place.temporary, 'fetched', 'left.log'), 'utf8')]).toEqual([0, 'left\n'])
  const { stdout } = await switchyard('.', `enqueue -r dev/project -s 'ls -A > list.txt' -p listed --wait --json`)
  const { jobId } = JSON.parse(stdout) as { jobId: string }
  await dev.saw(/kept when this ends/)
  dev.child.kill('SIGINT')
  expect(await dev.ended, dev.stderr()).toBe(0)
  const [, , clone = ''] = /kept: (\S+) has .*; look with: (git clone .*)$/m.exec(dev.stderr()) ?? []
  const copy = join(place.temporary, 'copy')
  execFileSync('sh', ['-c', `${clone} '${copy}'`], { stdio: 'ignore' })
  const tree = (branch: string) => execFileSync('git', ['-C', copy, 'show', `origin/${branch}:list.txt`], { encoding: 'utf8' })
  expect(tree(`agent/${jobId}`)).toBe('.git\nagent-job.json\nhello.txt\nlist.txt\nswitchyard.config.ts\n')
  expect(tree('listed')).toBe(tree(`agent/${jobId}`))
  expect(readdirSync(join(checkout, '.switchyard')).sort()).toEqual(['.gitignore', 'artifacts', 'kept'])
  expect(dev.stderr()).toContain(`artifacts of jobs are kept in ${join(checkout, '.switchyard', 'artifacts')}`)
  expect(readFileSync(join(checkout, '.switchyard', 'artifacts', leftBy, '1.1', 'left.log'), 'utf8')).toBe('left\n')
})

describe('branches come home', () => {
  let bare: string
  beforeEach(async () => {
    bare = await mkdtemp(join(tmpdir(), 'switchyard-bare-'))
    await makeCheckout()
    git('clone', '-q', '--bare', checkout, join(bare, 'a.git'))
    bare = join(bare, 'a.git')
  })
  afterEach(() => rm(join(bare, '..'), { recursive: true }))
  const put = (ref: string, text: string) => {
    const blob = execFileSync('git', ['-C', bare, 'hash-object', '-w', '--stdin'], { input: text, encoding: 'utf8' }).trim()
    const tree = execFileSync('git', ['-C', bare, 'mktree'], { input: `100644 blob ${blob}\tfile\n`, encoding: 'utf8' }).trim()
    const commit = execFileSync('git', ['-C', bare, '-c', 'user.name=A', '-c', 'user.email=a@b', 'commit-tree', tree, '-m', text], { encoding: 'utf8' }).trim()
    execFileSync('git', ['-C', bare, 'update-ref', ref, commit])
    return commit
  }

  it('whatever their names stand beside, and without moving anything that is the user’s', async () => {
    const head = git('rev-parse', 'HEAD')
    const release = put('refs/heads/release', 'one')
    const agent = put('refs/namespaces/ephemeral/refs/heads/agent/4711', 'two')
    const trunk = put('refs/heads/trunk', 'three')
    const stored = await storedBranches(bare, head)
    expect(stored.map(({ name }) => name).sort()).toEqual(['agent/4711', 'release', 'trunk'])
    expect((await bringHome(bare, checkout, stored)).map(({ name }) => name).sort()).toEqual(['switchyard/agent/4711', 'switchyard/release', 'switchyard/trunk'])
    expect(['release', 'agent/4711', 'trunk'].map((name) => git('rev-parse', `switchyard/${name}`))).toEqual([release, agent, trunk])
    expect([git('rev-parse', 'trunk'), git('rev-parse', 'HEAD'), git('tag'), git('status', '--porcelain')]).toEqual([head, head, '', ''])
    execFileSync('git', ['-C', bare, 'update-ref', '-d', 'refs/heads/release'])
    const below = put('refs/heads/release/1.0', 'four')
    const again = await bringHome(bare, checkout, await storedBranches(bare, head))
    expect(again.find(({ commit }) => commit === below)?.name).toBe(`switchyard/by-commit/${below.slice(0, 12)}`)
    expect([git('rev-parse', 'switchyard/release'), git('rev-parse', `switchyard/by-commit/${below.slice(0, 12)}`)]).toEqual([release, below])
  })

  it('into a linked worktree and a shallow clone too', async () => {
    git('worktree', 'add', '-q', join(place.temporary, 'linked'))
    git('clone', '-q', '--depth', '1', `file://${checkout}`, join(place.temporary, 'shallow'))
    const agent = put('refs/namespaces/ephemeral/refs/heads/agent/1', 'work')
    for (const folder of ['linked', 'shallow']) {
      await bringHome(bare, join(place.temporary, folder), await storedBranches(bare, git('rev-parse', 'HEAD')))
      expect(git('-C', join(place.temporary, folder), 'rev-parse', 'switchyard/agent/1')).toBe(agent)
    }
  })

  it('or it is said why not', async () => {
    put('refs/heads/x', 'x')
    await expect(bringHome(bare, join(place.temporary, 'none'), await storedBranches(bare, undefined))).rejects.toThrow(/can't be given the branch/)
  })
})

describe('secrets of dev', () => {
  const environment = { A: 'of the environment', PATH: '/bin', EMPTY: '' }
  const file = async (text: string) => {
    await writeFile(join(checkout, 'keys'), text)
    return join(checkout, 'keys')
  }
  it('are all of the file and what is named of the environment, which wins', async () => {
    const secrets = await devSecrets(['A'], await file('export B="two words" # said\nA=of the file\nEMPTY=\nBLANK=\nC=\'$A\'\nnot a line\n1X=2\n'), environment)
    expect(secrets.names).toEqual(['A', 'B', 'C'])
    expect(secrets.names.map((name) => secrets.environment[name])).toEqual(['of the environment', 'two words', '$A'])
    expect(secrets.said).not.toMatch(/two words|of the/)
  })
  it.each([
    ['NOT_THERE', /^--secret: NOT_THERE is neither in the environment nor in .*keys; set it there, or leave it out$/],
    ['EMPTY', /^--secret: EMPTY is neither/],
    ['A=sk-value', /^--secret: must be the name of a variable, such as ANTHROPIC_API_KEY; its value comes from the environment or from \.env$/],
    ['', /^--secret: must be the name/],
  ])('refuse --secret "%s" without repeating a value', async (name, sentence) => {
    await expect(devSecrets([name], await file(''), environment)).rejects.toThrow(sentence)
  })
  it('need a file that was named', () => expect(devSecrets([], join(checkout, 'none'), environment)).rejects.toThrow(/^--env-file: .*none can't be read/))
})

it('a running dev is found from anywhere in its checkout, and not from beyond', async () => {
  await makeCheckout()
  await mkdir(join(checkout, '.switchyard/dev'), { recursive: true })
  await writeFile(join(checkout, '.switchyard/dev/switchyard.config.json'), '{ "deployment": "found" }')
  const deploymentIn = async (directory: string) => (await loadConfig({ directory, environment: {} })).config.deployment
  expect(await deploymentIn(join(checkout, 'packages/app'))).toBe('found')
  expect(await deploymentIn(checkout)).toBe('found')
  await mkdir(join(checkout, 'packages/other/.git'), { recursive: true })
  expect(await deploymentIn(join(checkout, 'packages/other'))).not.toBe('found')
  await rm(join(checkout, '.git'), { recursive: true })
  expect(await deploymentIn(join(checkout, 'packages/app'))).not.toBe('found')
})
