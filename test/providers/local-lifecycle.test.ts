import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { describe, expect, it } from 'vitest'
import { LocalProvider } from '../../src/providers/local/index.js'
import { identify } from '../../src/providers/local/process-identity.js'
import { LocalState, type SandboxMeta } from '../../src/providers/local/state.js'
import type { SandboxInfo } from '../../src/providers/provider.js'
import { loaderArgs, ownFile } from '../own-programs.js'
import { after } from '../undo.js'
import { bubblewrapWorks, call, localProvider, processesWith, request, run, temporaryFolder, uniqueSeconds } from './local-sandboxes.js'

const modes = (['bubblewrap', 'none'] as const).filter((isolation) => isolation === 'none' || bubblewrapWorks)

describe.each(modes)('local sandboxes, isolation %s', (isolation) => {
  it('outlive their consumer’s SIGKILL, and another process goes on with them', async () => {
    const provider = await localProvider({ isolation })
    const seconds = uniqueSeconds()
    const { child, sandbox } = await consumerWithSandbox(provider.stateDir, isolation, `echo kept >"$HOME/file"; sleep ${seconds} >/dev/null 2>&1 & echo started`)
    child.kill('SIGKILL')
    await once(child, 'exit')
    expect(await processesWith('sleep', seconds)).toHaveLength(1)
    expect((await provider.get(sandbox.id, call))?.tags).toEqual(sandbox.tags)
    expect((await run(provider, sandbox, 'cat "$HOME/file"')).stdout).toBe('kept\n')
    await provider.kill(sandbox.id, call)
    expect(await processesWith('sleep', seconds)).toEqual([])
  })

  it('lose everything when they are killed, daemons too', async () => {
    const provider = await localProvider({ isolation })
    const sandbox = await provider.create(request(), call)
    const seconds = uniqueSeconds()
    const daemon = `trap "" HUP TERM INT; (trap "" HUP TERM INT; sleep ${seconds}) >/dev/null 2>&1 </dev/null &`
    await run(provider, sandbox, `setsid sh -c '${daemon}'; env -i /usr/bin/env setsid sleep ${seconds} >/dev/null 2>&1 </dev/null & nohup sleep ${seconds} >/dev/null 2>&1 & (cd /; sleep ${seconds} >/dev/null 2>&1 &) ; echo started`)
    await expect.poll(() => processesWith('sleep', seconds)).toHaveLength(process.platform === 'linux' ? 4 : 3)
    await provider.kill(sandbox.id, call)
    expect(await processesWith('sleep', seconds)).toEqual([])
    expect(await processesWith('sh', sandbox.id)).toEqual([])
    expect(await readdir(join(provider.stateDir, 'local', 'sandboxes'))).toEqual([])
  })

  it('are lost to a command that goes on for a moment while they are killed', async () => {
    const provider = await localProvider({ isolation })
    const sandbox = await provider.create(request(), call)
    const running = provider.exec(sandbox.id, { script: 'touch "$HOME/there"; while [ -e "$HOME/there" ]; do :; done; echo gone; exit 3' }, call)
    const lost = expect(running).rejects.toMatchObject({ kind: 'sandbox-lost' })
    await expect.poll(async () => (await run(provider, sandbox, 'test -e "$HOME/there" && echo yes; true')).stdout).toBe('yes\n')
    await provider.kill(sandbox.id, call)
    await lost
  })

  it('lose what a call that is broken off has started, but what has a session of its own', async () => {
    const provider = await localProvider({ isolation })
    const sandbox = await provider.create(request(), call)
    const [own, left] = [uniqueSeconds(), uniqueSeconds()]
    const aborting = new AbortController()
    const broken = provider.exec(sandbox.id, { script: `(setsid sh -c 'sleep ${left}; true' & sleep ${own}; true); true` }, { ...call, signal: aborting.signal })
    const failed = expect(broken).rejects.toThrow('broken off')
    await expect.poll(async () => [...(await processesWith('sleep', own)), ...(await processesWith('sleep', left))]).toHaveLength(2)
    aborting.abort(new Error('broken off'))
    await failed
    await expect.poll(() => processesWith('sleep', own)).toEqual([])
    expect(await processesWith('sleep', left)).toHaveLength(1)
    await provider.kill(sandbox.id, call)
    expect(await processesWith('sleep', left)).toEqual([])
  })

  it('are lost when their holder is killed, and what is left of them goes with the next create', async () => {
    const provider = await localProvider({ isolation })
    const sandbox = await provider.create(request(), call)
    const seconds = uniqueSeconds()
    await run(provider, sandbox, `sleep ${seconds} >/dev/null 2>&1 & echo started`)
    const holder = await readFile(join(provider.stateDir, 'local', 'sandboxes', sandbox.id, 'holder'), 'utf8')
    process.kill(Number(holder.split(' ')[0]), 'SIGKILL')
    await expect.poll(() => provider.get(sandbox.id, call)).toBeUndefined()
    await expect(run(provider, sandbox, 'true')).rejects.toMatchObject({ kind: 'sandbox-lost' })
    const next = await (await localProvider({ isolation, stateDir: provider.stateDir })).create(request(), call)
    expect(await processesWith('sleep', seconds)).toEqual([])
    expect(await readdir(join(provider.stateDir, 'local', 'sandboxes'))).toEqual([next.id])
  })

  it('leave nothing after the provider’s close when their holder was killed', async () => {
    const provider = await localProvider({ isolation })
    const [sandbox, other] = [await provider.create(request(), call), await provider.create(request(), call)]
    const seconds = uniqueSeconds()
    await run(provider, sandbox, `sleep ${seconds} >/dev/null 2>&1 & echo started`)
    const folder = join(provider.stateDir, 'local', 'sandboxes')
    const { cgroups } = JSON.parse(await readFile(join(folder, sandbox.id, 'meta.json'), 'utf8')) as { cgroups: string[] }
    process.kill(Number((await readFile(join(folder, sandbox.id, 'holder'), 'utf8')).split(' ')[0]), 'SIGKILL')
    await expect.poll(() => provider.get(sandbox.id, call)).toBeUndefined()
    await provider.close()
    expect(await processesWith('sleep', seconds)).toEqual([])
    expect(await readdir(folder)).toEqual([other.id])
    expect(cgroups.filter((cgroup) => existsSync(cgroup))).toEqual([])
    expect((await run(provider, other, 'echo alive')).stdout).toBe('alive\n')
  })

  it('are found by their name again, and a dead one’s name is free', async () => {
    const provider = await localProvider({ isolation })
    const wanted = request()
    const first = await provider.create(wanted, call)
    const again = await new LocalProvider({ stateDir: provider.stateDir, isolation }).create(wanted, call)
    expect(again).toEqual(first)
    const holder = await readFile(join(provider.stateDir, 'local', 'sandboxes', first.id, 'holder'), 'utf8')
    process.kill(Number(holder.split(' ')[0]), 'SIGKILL')
    await expect.poll(() => provider.get(first.id, call)).toBeUndefined()
    const second = await provider.create(wanted, call)
    expect(second.id).not.toBe(first.id)
    expect((await run(provider, second, 'echo new')).stdout).toBe('new\n')
    await expect(run(provider, first, 'true')).rejects.toMatchObject({ kind: 'sandbox-lost' })
  })

  it('of two providers with different names are apart', async () => {
    const one = await localProvider({ isolation, name: 'local-a' })
    const two = await localProvider({ isolation, name: 'local-b', stateDir: one.stateDir })
    const wanted = request()
    const [inOne, inTwo] = [await one.create(wanted, call), await two.create(wanted, call)]
    expect(inOne.id).not.toBe(inTwo.id)
    expect(await ids(one)).toEqual([inOne.id])
    expect(await ids(two)).toEqual([inTwo.id])
    expect(await two.get(inOne.id, call)).toBeUndefined()
    await two.kill(inOne.id, call)
    expect((await run(one, inOne, 'echo mine')).stdout).toBe('mine\n')
    await expect(run(two, inOne, 'true')).rejects.toMatchObject({ kind: 'sandbox-lost', source: 'local-b' })
  })

  it('bear creating, listing and killing from several processes at the same time', async () => {
    const provider = await localProvider({ isolation })
    const clients = Array.from({ length: 4 }, () => new LocalProvider({ stateDir: provider.stateDir, isolation }))
    const wanted = Array.from({ length: 6 }, () => request())
    const all = await Promise.all(clients.flatMap((client) => wanted.map((each) => client.create(each, call))))
    const distinct = [...new Set(all.map(({ id }) => id))].sort()
    expect(distinct).toHaveLength(6)
    expect((await ids(provider)).sort()).toEqual(distinct)
    const listings = clients.map((client) => ids(client))
    await Promise.all([...clients.flatMap((client) => distinct.map((id) => client.kill(id, call))), ...listings])
    expect(await ids(provider)).toEqual([])
    expect(await readdir(join(provider.stateDir, 'local', 'names'))).toEqual([])
  })

  it('that were half made or half killed when their process died go with the next create', async () => {
    const provider = await localProvider({ isolation })
    const sandbox = await provider.create(request(), call)
    const sandboxes = join(provider.stateDir, 'local', 'sandboxes')
    const meta = JSON.parse(await readFile(join(sandboxes, sandbox.id, 'meta.json'), 'utf8')) as Record<string, unknown>
    // Half made: no holder, and a creator that is no more.
    const half = 'half-made.0123456789ab'
    await mkdir(join(sandboxes, half))
    const record = { ...meta, id: half, name: 'half-made', cgroups: [], createdAtMs: Date.now() - 60_000, creator: { pid: 4_000_000, startTime: '1' } }
    await writeFile(join(sandboxes, half, 'meta.json'), JSON.stringify(record))
    // Half killed: moved, and alive.
    const seconds = uniqueSeconds()
    const victim = await provider.create(request(), call)
    await run(provider, victim, `sleep ${seconds} >/dev/null 2>&1 & echo started`)
    await rename(join(sandboxes, victim.id), join(sandboxes, `.dead-${victim.id}`))
    expect(await provider.get(half, call)).toBeUndefined()
    expect(await ids(provider)).toEqual([sandbox.id])
    const next = await (await localProvider({ isolation, stateDir: provider.stateDir })).create(request(), call)
    expect((await readdir(sandboxes)).sort()).toEqual([sandbox.id, next.id].sort())
    expect(await processesWith('sleep', seconds)).toEqual([])
  })

  it.skipIf(process.platform !== 'linux')('are not taken for dead by a consumer that can’t look', async () => {
    const [here, proc] = [await identify(process.pid), await temporaryFolder()]
    expect(here).toMatchObject({ pid: process.pid })
    expect(await identify(process.pid, proc)).toBeUndefined()
    // As where a process has no descriptor left, its file is there and can't be read.
    await mkdir(join(proc, String(process.pid), 'stat'), { recursive: true })
    await expect(identify(process.pid, proc)).rejects.toMatchObject({ code: 'EISDIR' })
  })

  it.skipIf(process.platform !== 'linux')('are what they were where the consumer had no descriptor left for a while, and it lives', async () => {
    const text = `
      import { closeSync, openSync } from 'node:fs'
      import { LocalProvider } from ${JSON.stringify(ownFile('src/providers/local/index.ts'))}
      import { runGit } from ${JSON.stringify(ownFile('src/git/git-process.ts'))}
      const call = { timeoutMs: 20_000 }
      const taken = []
      const take = (left) => {
        try { for (;;) taken.push(openSync('/dev/null', 'r')) } catch {}
        for (let index = 0; index < left; index += 1) closeSync(taken.pop())
      }
      const free = () => taken.splice(0).forEach((descriptor) => closeSync(descriptor))
      const told = async (what, outcome) => console.log(what, await outcome.then(() => 'done', (error) => error.kind ?? error.code))
      const provider = new LocalProvider({ stateDir: process.env.STATE_DIR, isolation: ${JSON.stringify(isolation === 'none' ? 'none' : 'auto')} })
      if (${isolation !== 'none'}) {
        take(0)
        await told('check', provider.check(call))
        free()
      }
      const { id } = await provider.create({ name: 'short', tags: {}, resources: {}, lifetimeMs: 600_000, network: 'none', gitHosts: [] }, call)
      console.log('plain', provider.capabilities.sharedFileSystem)
      for (const left of [0, 10]) {
        take(left)
        await told('exec', provider.exec(id, { script: 'true' }, call))
        free()
      }
      take(0)
      await told('git', runGit({ args: ['--version'], timeoutMs: 20_000 }))
      free()
      await told('exec', provider.exec(id, { script: 'true' }, call))
      await provider.kill(id, call)
      await provider.close()
    `
    const child = spawn('/bin/sh', ['-c', 'ulimit -n 400; exec "$@"', 'sh', process.execPath, ...loaderArgs, '--input-type=module', '-e', isolation === 'none' ? text.replace("network: 'none'", "network: 'open'") : text], { env: { ...process.env, STATE_DIR: await temporaryFolder() }, stdio: ['ignore', 'pipe', 'inherit'] })
    const lines: string[] = []
    createInterface(child.stdout).on('line', (line) => lines.push(line))
    const [code] = (await once(child, 'close')) as [number | null]
    const walls = isolation === 'none' ? ['plain true'] : ['check transient', 'plain false']
    expect({ code, lines }).toEqual({ code: 0, lines: [...walls, 'exec transient', expect.stringMatching(/^exec (transient|done)$/), 'git EMFILE', 'exec done'] })
  })

  it('leave nothing where they can’t be written', async () => {
    const state = new LocalState(join(await temporaryFolder(), 'local'))
    await state.prepare()
    const id = 'full-job.0123456789ab'
    const user = process.getuid?.() === 0 ? await state.claimUser(id, 61_184, 61_184) : null
    // As on a full disk, one of its files can't be written.
    await expect(state.add({ id, user } as SandboxMeta, { 'no/such': '' })).rejects.toMatchObject({ code: 'ENOENT' })
    expect([await readdir(join(state.root, 'sandboxes')), await readdir(join(state.root, 'users'))]).toEqual([[], []])
  })

  it('give a user number free whose creator died before it wrote anything, and no other', async () => {
    const state = new LocalState(join(await temporaryFolder(), 'local'))
    await state.prepare()
    const users = join(state.root, 'users')
    await state.claimUser('gone-job.0123456789ab', 61_184, 61_184)
    await state.claimUser('live-job.0123456789ab', 61_185, 61_185)
    await mkdir(state.folder('live-job.0123456789ab'))
    await state.releaseStaleUsers()
    expect((await readdir(users)).sort()).toEqual(['61184', '61185'])
    await state.releaseStaleUsers(Date.now() + 61_000)
    expect(await readdir(users)).toEqual(['61185'])
    await expect(state.claimUser('another.0123456789ab', 61_185, 61_185)).rejects.toThrow('no user number left')
  })

  it('keep running when a command is ended at its deadline, and its children are not left', async () => {
    const provider = await localProvider({ isolation })
    const sandbox = await provider.create(request(), call)
    const seconds = uniqueSeconds()
    const late = provider.exec(sandbox.id, { script: `sleep ${seconds} | cat & sh -c 'sleep ${seconds}; true'; wait` }, { timeoutMs: 1_500 })
    await expect(late).rejects.toMatchObject({ kind: 'timeout' })
    await expect.poll(() => processesWith('sleep', seconds)).toEqual([])
    expect((await run(provider, sandbox, 'echo alive')).stdout).toBe('alive\n')
  })

  it('return the output of a command whose background process keeps the pipe open', async () => {
    const provider = await localProvider({ isolation })
    const sandbox = await provider.create(request(), call)
    expect(await run(provider, sandbox, 'sleep 100 & head -c 200000 /dev/zero | tr "\\0" x; exit 4')).toEqual({ exitCode: 4, stdout: 'x'.repeat(200_000) })
  })
})

describe('the local provider', () => {
  it('refuses what can never be, and says what to do instead', async () => {
    const provider = await localProvider({ isolation: 'none', cpu: 2, maxLifetimeMs: 10_000_000 })
    const refused = (changes: Parameters<typeof request>[0]) => provider.create(request(changes), call)
    await expect(refused({ image: 'node:22' })).rejects.toMatchObject({ kind: 'invalid', message: expect.stringContaining('image:') as string })
    await expect(refused({ network: 'git-only' })).rejects.toMatchObject({ kind: 'invalid', message: expect.stringContaining('"git-only"') as string })
    await expect(refused({ network: ['a.example'] })).rejects.toMatchObject({ kind: 'invalid' })
    await expect(refused({ network: 'none' })).rejects.toMatchObject({ kind: 'invalid', message: expect.stringContaining('bubblewrap') as string })
    await expect(refused({ resources: { diskMiB: 100 } })).rejects.toMatchObject({ kind: 'invalid' })
    await expect(refused({ resources: { cpu: 3 } })).rejects.toMatchObject({ kind: 'invalid', message: expect.stringContaining('at most 2') as string })
    await expect(refused({ lifetimeMs: 20_000_000 })).rejects.toMatchObject({ kind: 'invalid' })
    await expect(refused({ name: '../x' })).rejects.toMatchObject({ kind: 'invalid' })
    expect(await ids(provider)).toEqual([])
    expect(() => new LocalProvider({ isolation: 'docker' as never })).toThrow('isolation: must be "auto", "bubblewrap" or "none"')
  })

  it('refuses commands that no shell takes, and output without bound', async () => {
    const provider = await localProvider({ isolation: 'none' })
    const sandbox = await provider.create(request(), call)
    const exec = (script: string, env = {}) => provider.exec(sandbox.id, { script, env }, call)
    await expect(exec('true', { 'A-B': 'x' })).rejects.toMatchObject({ kind: 'invalid' })
    await expect(exec('true', { A: 'a\0b' })).rejects.toMatchObject({ kind: 'invalid' })
    await expect(exec('true\0')).rejects.toMatchObject({ kind: 'invalid' })
    await expect(exec(' '.repeat(provider.capabilities.maxCommandBytes + 1))).rejects.toMatchObject({ kind: 'invalid' })
    await expect(exec('yes')).rejects.toMatchObject({ kind: 'invalid', message: expect.stringContaining('16777216 bytes') as string })
    expect((await exec('echo alive')).stdout).toBe('alive\n')
  })

  it('warns when sandboxes are not isolated', async () => {
    const provider = await localProvider({ isolation: 'none' })
    expect(await provider.check(call)).toEqual([expect.stringContaining('share this machine')])
  })

  it.skipIf(!bubblewrapWorks)('says what is missing when bubblewrap is demanded and not there', async () => {
    const { PATH } = process.env
    after(() => (process.env['PATH'] = PATH))
    process.env['PATH'] = '/nowhere'
    const demanding = await localProvider({ isolation: 'bubblewrap' })
    await expect(demanding.check(call)).rejects.toMatchObject({ kind: 'invalid', message: expect.stringContaining('install the package bubblewrap') as string })
    const flexible = await localProvider({ isolation: 'auto' })
    expect(await flexible.check(call)).toEqual([expect.stringContaining('install the package bubblewrap')])
  })
})

async function ids(provider: LocalProvider): Promise<string[]> {
  const found: string[] = []
  for await (const { id } of provider.list({}, call)) found.push(id)
  return found
}

/** Another process with a sandbox in which it has run a script. */
async function consumerWithSandbox(stateDir: string, isolation: string, script: string): Promise<{ child: ChildProcess; sandbox: SandboxInfo }> {
  const module = ownFile('src/providers/local/index.ts')
  const program = `
    const { LocalProvider } = await import(${JSON.stringify(module)})
    const provider = new LocalProvider(${JSON.stringify({ stateDir, isolation })})
    const sandbox = await provider.create(${JSON.stringify({ ...request(), image: undefined })}, { timeoutMs: 30000 })
    await provider.exec(sandbox.id, { script: ${JSON.stringify(script)} }, { timeoutMs: 30000 })
    process.stdout.write(JSON.stringify(sandbox) + '\\n')
    setInterval(() => undefined, 1000)
  `
  const child = spawn(process.execPath, [...loaderArgs, '--input-type=module', '-e', program], { stdio: ['ignore', 'pipe', 'inherit'] })
  after(() => child.kill('SIGKILL'))
  const [line] = (await once(createInterface(child.stdout), 'line')) as [string]
  return { child, sandbox: JSON.parse(line) as SandboxInfo }
}
