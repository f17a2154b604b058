import { chmod, mkdir, readFile, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it, vi } from 'vitest'
import { managerEnvironment, scopeCommand } from '../../src/providers/local/delegation.js'
import type * as limitsModule from '../../src/providers/local/limits.js'
import { after } from '../undo.js'
import { bubblewrapWorks, call, localProvider, processesWith, request, run, temporaryFolder, uniqueSeconds } from './local-sandboxes.js'

type Limits = typeof limitsModule

// As for a user who can make no cgroups, whoever runs this.
vi.mock('../../src/providers/local/limits.js', async (original) => {
  const limits = await original<Limits>()
  const makeLimits: typeof limits.makeLimits = (provider, seed, asked, cpus, _root, delegation) => limits.makeLimits(provider, seed, asked, cpus, undefined, delegation)
  return { ...limits, canLimit: () => Promise.resolve(false), makeLimits }
})

/** Stand-ins for systemd's programs, which write down how they are called and, as systemd-run's scopes do, become the command. */
async function standIns(probe: number): Promise<{ readonly said: () => Promise<string[]> }> {
  const folder = await temporaryFolder()
  const log = join(folder, 'log')
  await writeFile(log, '')
  await chmod(folder, 0o755)
  await mkdir(join(folder, 'run'))
  const note = `printf '%s' "$(basename "$0")" >>'${log}'; for word; do case $word in *[![:graph:]]*) printf ' …' ;; *) printf ' %s' "$word" ;; esac; done >>'${log}'; echo >>'${log}'\n`
  const reached = '[ -d "$XDG_RUNTIME_DIR" ] || { echo "no manager" >&2; exit 1; }\n'
  await writeFile(join(folder, 'systemctl'), `#!/bin/sh\n${note}${reached}`, { mode: 0o755 })
  await writeFile(join(folder, 'systemd-run'), `#!/bin/sh\n${note}${reached}case $* in *switchyard-probe*) exit ${probe} ;; esac\nwhile [ "$1" != -- ]; do shift; done\nshift\nINVOCATION_ID=of-the-scope exec "$@"\n`, { mode: 0o755 })
  const before = { PATH: process.env['PATH'], XDG_RUNTIME_DIR: process.env['XDG_RUNTIME_DIR'] }
  process.env['PATH'] = `${folder}:${before.PATH ?? ''}`
  process.env['XDG_RUNTIME_DIR'] = join(folder, 'run')
  after(() => {
    process.env['PATH'] = before.PATH
    if (before.XDG_RUNTIME_DIR === undefined) delete process.env['XDG_RUNTIME_DIR']
    else process.env['XDG_RUNTIME_DIR'] = before.XDG_RUNTIME_DIR
  })
  return { said: async () => (await readFile(log, 'utf8')).trimEnd().split('\n') }
}

describe.skipIf(!bubblewrapWorks)('a local sandbox of a user with a systemd of their own', () => {
  it('has its limits on a slice, in which it is and every command runs', async () => {
    const systemd = await standIns(42)
    const provider = await localProvider({ isolation: 'bubblewrap', maxProcesses: 84 })
    expect(await provider.check(call)).not.toContainEqual(expect.stringContaining('cgroups'))
    const sandbox = await provider.create(request({ resources: { memoryMiB: 100, cpu: 1.5 } }), call)
    const meta = JSON.parse(await readFile(join(provider.stateDir, 'local/sandboxes', sandbox.id, 'meta.json'), 'utf8')) as { slice: string; watchedMemoryKiB: number; cpus: null; cgroups: [] }
    expect(meta).toMatchObject({ slice: expect.stringMatching(/^switchyard-[0-9a-f]{24}\.slice$/) as string, watchedMemoryKiB: 0, cpus: null, cgroups: [] })
    expect(await systemd.said()).toContain(`systemctl --user --quiet --no-ask-password set-property --runtime ${meta.slice} TasksMax=100 MemoryMax=104857600 MemorySwapMax=0 CPUQuota=150%`)
    const scopes = async () => (await systemd.said()).filter((line) => line.startsWith(`systemd-run --user --scope --quiet --collect --slice=${meta.slice} --property=OOMPolicy=continue -- /usr/bin/env -u INVOCATION_ID -u XDG_RUNTIME_DIR `))
    expect((await scopes()).map((line) => line.includes('/holder.sh '))).toEqual([true])

    // The command's exit code, output and signals are its own, and nothing of the way there is in its environment.
    const seconds = uniqueSeconds()
    expect(await run(provider, sandbox, `env | grep -E '^(XDG_RUNTIME_DIR|INVOCATION_ID|DBUS)'; sleep ${seconds} >/dev/null 2>&1 & echo out; exit 7`)).toEqual({ exitCode: 7, stdout: 'out\n' })
    expect((await run(provider, sandbox, 'kill -KILL $$')).exitCode).toBe(137)
    expect((await scopes()).length).toBe(3)

    await provider.kill(sandbox.id, call)
    expect(await processesWith('sleep', seconds)).toEqual([])
    expect((await systemd.said()).slice(-3)).toEqual(['kill --signal=KILL', 'stop', 'revert'].map((what) => `systemctl --user --quiet --no-ask-password ${what} ${meta.slice}`))
    expect(await readdir(join(provider.stateDir, 'local', 'sandboxes'))).toEqual([])
  })

  it('takes its slice along when it ends at its deadline, with nobody there to kill it', async () => {
    const systemd = await standIns(42)
    const provider = await localProvider({ isolation: 'bubblewrap' })
    await provider.create(request({ lifetimeMs: 1_000 }), call)
    await expect.poll(async () => (await systemd.said()).slice(-2).join('\n')).toMatch(/^systemctl .* revert switchyard-[0-9a-f]{24}\.slice\nsystemctl .* --no-block stop switchyard-[0-9a-f]{24}\.slice$/)
    expect(await readdir(join(provider.stateDir, 'local', 'sandboxes'))).toEqual([])
  })

  it.each([
    [43, /hands this user’s manager no limits of memory and processes down; .*Delegate=memory pids cpu/],
    [1, /this user’s systemd manager does not answer \(exit code 1\)/],
  ])('has them by the other means where that does not work (%i), and check says what is missing', async (probe, missing) => {
    await standIns(probe)
    const provider = await localProvider({ isolation: 'bubblewrap' })
    const warning = (await provider.check(call)).find((each) => each.includes('can make no cgroups')) ?? ''
    if (process.getuid?.() !== 0) expect(warning).toMatch(missing)
    else expect(warning).not.toBe('')
    const sandbox = await provider.create(request({ resources: { memoryMiB: 100 } }), call)
    expect(JSON.parse(await readFile(join(provider.stateDir, 'local/sandboxes', sandbox.id, 'meta.json'), 'utf8'))).toMatchObject({ slice: null, watchedMemoryKiB: 102_400 })
    expect((await run(provider, sandbox, 'echo on')).stdout).toBe('on\n')
  })
})

describe('the user’s manager', () => {
  it('is at XDG_RUNTIME_DIR, or where systemd makes that folder, when it is there', async () => {
    const folder = await temporaryFolder()
    expect(managerEnvironment({ XDG_RUNTIME_DIR: folder, DBUS_SESSION_BUS_ADDRESS: 'unix:path=/x' }, 1)).toEqual({ XDG_RUNTIME_DIR: folder, DBUS_SESSION_BUS_ADDRESS: 'unix:path=/x' })
    expect(managerEnvironment({ XDG_RUNTIME_DIR: join(folder, 'none') }, 1)).toBeUndefined()
    expect(managerEnvironment({}, 4_294_967_294)).toBeUndefined()
  })

  it('is kept out of the environment of what it starts', () => {
    const command = scopeCommand({ systemdRun: '/usr/bin/systemd-run', systemctl: '/usr/bin/systemctl', environment: { XDG_RUNTIME_DIR: '/run/user/1', DBUS_SESSION_BUS_ADDRESS: 'x' }, scopeProperty: 'KillMode=none' }, 'a.slice', ['true'])
    expect(command.slice(-8)).toEqual(['/usr/bin/env', '-u', 'INVOCATION_ID', '-u', 'XDG_RUNTIME_DIR', '-u', 'DBUS_SESSION_BUS_ADDRESS', 'true'])
  })
})

