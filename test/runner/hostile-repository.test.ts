import { spawn } from 'node:child_process'
import { chmod, mkdir, readFile, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Runner } from '../../src/runner/runner.js'
import { gitOk } from '../git/local-storage.js'
import { callOptions, processSandbox, runStep, type ProcessSandbox } from './process-sandbox.js'
import { finalCommit, repository, type Repository } from './repository.js'

let repo: Repository
let sandbox: ProcessSandbox
let runner: Runner
let tree: string
let branch: string
let branches = 0

beforeAll(async () => {
  repo = await repository()
})
afterAll(() => repo.close())
beforeEach(async () => {
  sandbox = await processSandbox()
  runner = sandbox.runner()
  tree = join(sandbox.home, 'repository')
  branches += 1
  branch = `job-${branches}`
  await runner.install(callOptions)
  await runner.clone({ access: await repo.read(), ref: 'refs/heads/main', sha: repo.base, branch: 'work', checkpoint: null }, callOptions)
})
afterEach(() => sandbox.close())

/** A program that notes that it ran, and the environment that it ran in. */
async function trap(name: string): Promise<string> {
  const path = join(sandbox.home, 'traps', name)
  await mkdir(join(sandbox.home, 'traps'), { recursive: true })
  await writeFile(path, `#!/bin/sh\nenv >>'${sandbox.home}/sprung-${name}'\n`)
  await chmod(path, 0o755)
  return path
}

async function sprung(): Promise<string[]> {
  return (await readdir(sandbox.home)).filter((name) => name.startsWith('sprung-'))
}

async function everything(): Promise<void> {
  const first = await repo.save(runner, branch, repo.base)
  expect(first).not.toBeNull()
  await writeFile(join(tree, 'more.txt'), 'more\n')
  const second = await repo.save(runner, branch, first!.sha)
  expect(second).not.toBeNull()
  const { sha } = await runner.commit(finalCommit, callOptions)
  await runner.push({ sha, branch: `${branch}-final`, access: await repo.write(`${branch}-final`) }, callOptions)
  const { path } = await repo.fetched(branch)
  expect(await gitOk(path, 'show', 'got:bait.txt')).toBe('bait')
}

/** Filters are the agent's own rules, so they run: in its sandbox, and with no token anywhere near. */
async function onlyFiltersSprung(): Promise<void> {
  const names = await sprung()
  expect(names.filter((name) => !/^sprung-(clean|process|global)$/.test(name))).toEqual([])
  for (const name of names) expect(await readFile(join(sandbox.home, name), 'utf8')).not.toMatch(/SWITCHYARD_(TOKEN|USERNAME)/)
}

describe('a job that lays traps for git', () => {
  it('by .git/config, hooks and attributes gets only its filters run, without a token near', async () => {
    const config = join(tree, '.git', 'config')
    const traps = ['fsmonitor', 'clean', 'smudge', 'process', 'textconv', 'merge', 'credential', 'ssh', 'askpass', 'hook', 'editor', 'gpg', 'pack', 'alias']
    const at = Object.fromEntries(await Promise.all(traps.map(async (name) => [name, await trap(name)] as const)))
    for (const hook of ['pre-commit', 'post-commit', 'pre-push', 'post-checkout', 'post-index-change', 'reference-transaction', 'fsmonitor-watchman', 'pre-auto-gc']) {
      await mkdir(join(tree, '.git', 'hooks'), { recursive: true })
      await writeFile(join(tree, '.git', 'hooks', hook), await readFile(at['hook']!))
      await chmod(join(tree, '.git', 'hooks', hook), 0o755)
    }
    await writeFile(
      config,
      `${await readFile(config, 'utf8')}
[core]
  fsmonitor = ${at['fsmonitor']}
  hooksPath = ${join(tree, '.git', 'hooks')}
  sshCommand = ${at['ssh']}
  askPass = ${at['askpass']}
  editor = ${at['editor']}
  pager = ${at['editor']}
[filter "evil"]
  clean = ${at['clean']}
  smudge = ${at['smudge']}
  process = ${at['process']}
  required = true
[diff "evil"]
  textconv = ${at['textconv']}
  command = ${at['textconv']}
[merge "evil"]
  driver = ${at['merge']}
[credential]
  helper = !${at['credential']}
[url "http://127.0.0.1:9/"]
  insteadOf = http://
  pushInsteadOf = http://
[http]
  proxy = http://127.0.0.1:9
[remote "origin"]
  receivepack = ${at['pack']}
  uploadpack = ${at['pack']}
[gpg]
  program = ${at['gpg']}
[commit]
  gpgSign = true
[uploadpack]
  packObjectsHook = ${at['pack']}
[alias]
  add = !${at['alias']}
  push = !${at['alias']}
[include]
  path = ${join(tree, 'included')}
`,
    )
    await writeFile(join(tree, '.gitattributes'), '* diff=evil merge=evil\n*.evil filter=evil\n')
    await writeFile(join(tree, 'bait.txt'), 'bait\n')
    await writeFile(join(tree, 'x.evil'), 'never raw\n')
    await everything()
    await onlyFiltersSprung()
    // The same traps do spring for whoever uses git in the ordinary way.
    await gitOk(tree, 'status').catch(() => undefined)
    expect(await sprung()).not.toEqual([])
  })

  it('in the home folder and on PATH gets only its filters run', async () => {
    const evil = await trap('global')
    const program = await trap('git')
    await mkdir(join(sandbox.home, 'bin'))
    await writeFile(join(sandbox.home, 'bin', 'git'), await readFile(program))
    await chmod(join(sandbox.home, 'bin', 'git'), 0o755)
    await mkdir(join(sandbox.home, '.config', 'git'), { recursive: true })
    const global = `[core]\n  fsmonitor = ${evil}\n[credential]\n  helper = !${evil}\n[filter "evil"]\n  clean = ${evil}\n[url "http://127.0.0.1:9/"]\n  insteadOf = http://\n`
    await writeFile(join(sandbox.home, '.gitconfig'), global)
    await writeFile(join(sandbox.home, '.config', 'git', 'config'), global)
    await writeFile(join(sandbox.home, '.config', 'git', 'attributes'), '*.evil filter=evil\n')
    await writeFile(join(sandbox.home, '.config', 'git', 'ignore'), '*.ignored\n')
    await writeFile(join(tree, 'x.evil'), 'x\n')
    await writeFile(join(tree, 'bait.txt'), 'bait\n')
    // As a login shell that reads the agent's ~/.profile would have it.
    Object.assign(sandbox.env, {
      PATH: `${sandbox.home}/bin:${process.env['PATH'] ?? ''}`,
      GIT_SSH_COMMAND: evil,
      GIT_ASKPASS: evil,
      GIT_EXTERNAL_DIFF: evil,
      GIT_CONFIG_COUNT: '1',
      GIT_CONFIG_KEY_0: 'core.fsmonitor',
      GIT_CONFIG_VALUE_0: evil,
      GIT_INDEX_FILE: '/nowhere',
    })
    await everything()
    await onlyFiltersSprung()
  })

  it("in the runner's own git folder, script and submodules gets none of them run", async () => {
    const evil = await trap('private')
    const own = join(sandbox.home, '.switchyard', 'git')
    await writeFile(join(own, 'config'), `[core]\n  fsmonitor = ${evil}\n  hooksPath = ${join(own, 'hooks')}\n[credential]\n  helper = !${evil}\n[filter "evil"]\n  clean = ${evil}\n`)
    await mkdir(join(own, 'info'), { recursive: true })
    await writeFile(join(own, 'info', 'attributes'), '* filter=evil\n')
    await mkdir(join(own, 'hooks'), { recursive: true })
    await writeFile(join(own, 'hooks', 'pre-push'), await readFile(evil))
    await chmod(join(own, 'hooks', 'pre-push'), 0o755)
    for (const name of await readdir(join(sandbox.home, '.switchyard'))) {
      if (name.startsWith('runner-')) await writeFile(join(sandbox.home, '.switchyard', name), `sh ${evil} </dev/null\n`)
    }
    const module = join(tree, 'module')
    await gitOk(tree, 'init', '--quiet', module)
    await writeFile(join(module, 'file'), 'x')
    await gitOk(module, 'add', '--all')
    await gitOk(module, 'commit', '--quiet', '--message', 'Module')
    await gitOk(module, 'config', 'core.fsmonitor', evil)
    await writeFile(join(module, 'file'), 'changed')
    await writeFile(join(tree, 'bait.txt'), 'bait\n')
    await everything()
    expect(await sprung()).toEqual([])
  })
})

describe('the token', () => {
  it('is in no process list, no file and no answer during clones and pushes', async () => {
    const tokens: string[] = []
    const remember = <Access extends { token: string }>(access: Access): Access => {
      // The head of a token is the same for all; the signature is not.
      tokens.push(access.token.slice(-40))
      return access
    }
    // Reads the command lines of everything, over and over, while the transfers go on.
    const watcher = spawn('sh', ['-c', 'while :; do cat /proc/[0-9]*/cmdline 2>/dev/null; done'], { stdio: ['ignore', 'pipe', 'ignore'], detached: true })
    let seen = ''
    let looked = 0
    watcher.stdout.on('data', (chunk: Buffer) => {
      seen = seen.slice(-200) + chunk.toString('latin1')
      looked += chunk.length
      for (const token of tokens) if (seen.includes(token)) found.push(token)
    })
    const found: string[] = []
    try {
      await runner.clone({ access: remember(await repo.read()), ref: null, sha: repo.base, branch: 'work', checkpoint: null }, callOptions)
      await writeFile(join(tree, 'bait.txt'), 'bait\n')
      const made = await runner.checkpoint(repo.checkpoint(repo.base), callOptions)
      await runner.push({ sha: made!.sha, branch, access: remember(await repo.write(branch)) }, callOptions)
      const { sha } = await runner.commit(finalCommit, callOptions)
      await runner.push({ sha, branch: `${branch}-final`, access: remember(await repo.write(`${branch}-final`)) }, callOptions)
    } finally {
      process.kill(-watcher.pid!, 'SIGKILL')
    }
    expect(looked).toBeGreaterThan(0)
    expect(found).toEqual([])
    for (const { command, result } of sandbox.calls) for (const token of tokens) expect(command.script + result.stdout).not.toContain(token)
    let files = 0
    for (const entry of await readdir(sandbox.home, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue
      files += 1
      const content = await readFile(join(entry.parentPath, entry.name), 'latin1')
      for (const token of tokens) expect(content.includes(token), entry.name).toBe(false)
    }
    expect(files).toBeGreaterThan(10)
  })

  it('does not reach the commands of a step, nor git but for a transfer', async () => {
    const done = await runStep(runner, 'env')
    expect(done.stdout.toString()).not.toMatch(/SWITCHYARD_(TOKEN|USERNAME)/)
  })
})
