import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { canLimit, chooseCpus, makeLimits, removeCgroups, removeStaleCgroups } from '../../src/providers/local/limits.js'
import { bubblewrapWorks, call, localProvider, processesWith, request, run, temporaryFolder, uniqueSeconds } from './local-sandboxes.js'

/** Takes and keeps this many MiB, then says so. */
const hog = (mebibytes: number) => `node -e 'const a = []; for (let i = 0; i < ${mebibytes / 8}; i++) a.push(Buffer.alloc(8 << 20, 1)); setTimeout(() => console.log("kept", a.length), 3000)'`

for (const cgroups of [true, false]) {
  describe.skipIf(!bubblewrapWorks)(`a local sandbox’s limits, ${cgroups ? 'by cgroups where there are any' : 'without cgroups'}`, () => {
    it('kills the biggest process when all take more memory than the sandbox may have, and only that', async () => {
      const provider = await localProvider({ isolation: 'bubblewrap', cgroups })
      const small = await provider.create(request({ resources: { memoryMiB: 256 } }), call)
      const other = await provider.create(request(), call)
      await run(provider, small, 'sleep 300 >/dev/null 2>&1 & echo $! >"$HOME/pid"')
      const [over, within] = await Promise.all([run(provider, small, `${hog(640)}; exit $?`), run(provider, other, hog(400))])
      expect(over).toEqual({ exitCode: 137, stdout: '' })
      expect(within).toEqual({ exitCode: 0, stdout: 'kept 50\n' })
      expect((await run(provider, small, 'kill -0 "$(cat "$HOME/pid")" && echo alive')).stdout).toBe('alive\n')
    })

    // Root's processes are counted by cgroups only.
    it.skipIf(!cgroups && process.getuid?.() === 0)('bounds a fork bomb, which takes no other sandbox along', async () => {
      const provider = await localProvider({ isolation: 'bubblewrap', cgroups, maxProcesses: 64 })
      const [bombed, other] = await Promise.all([provider.create(request(), call), provider.create(request(), call)])
      const seconds = uniqueSeconds()
      const bomb = `i=0; while [ $i -lt 300 ]; do i=$((i+1)); sleep ${seconds} & done; wait`
      const enough = new AbortController()
      const bombing = provider.exec(bombed.id, { script: bomb }, { ...call, signal: enough.signal }).catch(() => undefined)
      await expect.poll(async () => (await processesWith('sleep', seconds)).length).toBeGreaterThan(30)
      expect((await run(provider, other, 'echo fine')).stdout).toBe('fine\n')
      expect((await processesWith('sleep', seconds)).length).toBeLessThanOrEqual(80)
      enough.abort()
      await bombing
      await provider.kill(bombed.id, call)
      expect(await processesWith('sleep', seconds)).toEqual([])
    })

    it('gives a sandbox as many CPUs as it asked for', async () => {
      const provider = await localProvider({ isolation: 'bubblewrap', cgroups })
      const sandbox = await provider.create(request({ resources: { cpu: 1 } }), call)
      const record = await readFile(join(provider.stateDir, 'local', 'sandboxes', sandbox.id, 'meta.json'), 'utf8')
      const groups = (JSON.parse(record) as { cgroups: string[] }).cgroups
      if (!cgroups) expect(groups).toEqual([])
      if (groups.length === 0) {
        expect((await run(provider, sandbox, 'nproc')).stdout).toBe('1\n')
        return
      }
      const quota = await Promise.any(
        groups.flatMap((group) => ['cpu.cfs_quota_us', 'cpu.max'].map((name) => readFile(join(group, name), 'utf8'))),
      )
      expect(quota).toMatch(/^100000\b/)
      // A command is in there, not only the first process.
      const seconds = uniqueSeconds()
      await run(provider, sandbox, `sleep ${seconds} >/dev/null 2>&1 & echo started`)
      const [pid] = await processesWith('sleep', seconds)
      for (const group of groups) expect((await readFile(join(group, 'cgroup.procs'), 'utf8')).split('\n')).toContain(String(pid))
    })
  })
}

describe.skipIf(!bubblewrapWorks)('a local sandbox', () => {
  it('can have no more open files in a process than maxOpenFiles, and leaves no core file', async () => {
    const provider = await localProvider({ isolation: 'bubblewrap', maxOpenFiles: 64 })
    const sandbox = await provider.create(request(), call)
    const open = `const fs = require('fs'); let count = 0; try { for (;;) { fs.openSync('/dev/null'); count++ } } catch (error) { console.log(error.code, count < 64) }`
    expect((await run(provider, sandbox, 'node -e "$PROGRAM"; ulimit -Hn; ulimit -n 65 2>/dev/null || echo no; ulimit -Hc', { PROGRAM: open })).stdout).toBe('EMFILE true\n64\nno\n0\n')
  })

  it('can write no larger file than maxFileMiB', async () => {
    const provider = await localProvider({ isolation: 'bubblewrap', maxFileMiB: 1 })
    const sandbox = await provider.create(request(), call)
    expect((await run(provider, sandbox, 'head -c 1000000 /dev/zero >"$HOME/fits" && echo ok')).stdout).toBe('ok\n')
    await run(provider, sandbox, 'head -c 3000000 /dev/zero >"$HOME/large"')
    expect((await run(provider, sandbox, 'wc -c <"$HOME/large"')).stdout.trim()).toBe('1048576')
  })
})

describe.skipIf(!bubblewrapWorks)('a local sandbox’s disk', () => {
  it.each([
    ['more than it may hold', 'head -c 100000000 /dev/zero >"$HOME/large"; sleep 300'],
    ['more files than it may have', 'mkdir "$HOME/many"; cd "$HOME/many"; i=0; while [ $i -lt 1200 ]; do : >$i; i=$((i+1)); done; sleep 300'],
  ])('ends what runs in it when it holds %s, takes no other sandbox along, and can be used on', async (_what, script) => {
    const provider = await localProvider({ isolation: 'bubblewrap', maxFiles: 1_000, diskMiB: 512 })
    const [sandbox, other] = await Promise.all([provider.create(request({ resources: { diskMiB: 64 } }), call), provider.create(request(), call)])
    const within = provider.exec(other.id, { script: 'head -c 100000000 /dev/zero >"$HOME/large"; sleep 5; echo kept' }, { timeoutMs: 120_000 })
    expect(await provider.exec(sandbox.id, { script }, { timeoutMs: 120_000 })).toEqual({ exitCode: 137, stdout: '' })
    expect(await run(provider, sandbox, 'rm -rf "$HOME/large" "$HOME/many"; echo on')).toEqual({ exitCode: 0, stdout: 'on\n' })
    expect(await within).toEqual({ exitCode: 0, stdout: 'kept\n' })
    await expect(provider.create(request({ resources: { diskMiB: 600 } }), call)).rejects.toThrow(/resources\.diskMiB: a sandbox of this provider has at most 512/)
  })
})

describe('a local sandbox’s lifetime', () => {
  const modes = (['bubblewrap', 'none'] as const).filter((isolation) => isolation === 'none' || bubblewrapWorks)

  it.each(modes)('ends it with its processes and files, isolation %s', async (isolation) => {
    const provider = await localProvider({ isolation })
    const sandbox = await provider.create(request({ lifetimeMs: 1_000 }), call)
    const seconds = uniqueSeconds()
    await run(provider, sandbox, `sleep ${seconds} >/dev/null 2>&1 & echo started`).catch(() => undefined)
    await expect.poll(() => provider.get(sandbox.id, call)).toBeUndefined()
    await expect.poll(() => processesWith('sleep', seconds)).toEqual([])
    await expect.poll(() => processesWith('sh', sandbox.id)).toEqual([])
    await expect(run(provider, sandbox, 'true')).rejects.toMatchObject({ kind: 'sandbox-lost' })
  })

  it.each(modes)('goes on when it is extended, up to the maximum, isolation %s', async (isolation) => {
    const provider = await localProvider({ isolation, maxLifetimeMs: 60_000 })
    const sandbox = await provider.create(request({ lifetimeMs: 8_000 }), call)
    await provider.extend(sandbox.id, 30_000, call)
    const extended = await provider.get(sandbox.id, call)
    expect(extended!.expiresAtMs! - sandbox.createdAtMs!).toBeGreaterThanOrEqual(30_000)
    // Never shorter, never past the maximum.
    expect(await provider.extend(sandbox.id, 1_000, call)).toEqual({ expiresAtMs: extended!.expiresAtMs, lifetimeEndsAtMs: sandbox.createdAtMs! + 60_000 })
    expect((await provider.get(sandbox.id, call))!.expiresAtMs).toBe(extended!.expiresAtMs)
    await provider.extend(sandbox.id, 3_600_000, call)
    expect((await provider.get(sandbox.id, call))!.expiresAtMs).toBeLessThanOrEqual(sandbox.createdAtMs! + 61_000)
    await expect.poll(() => Date.now()).toBeGreaterThan(sandbox.expiresAtMs! + 1_500)
    expect((await run(provider, sandbox, 'echo alive')).stdout).toBe('alive\n')
  })
})

const asked = { cpu: 1.5, memoryMiB: 100, maxProcesses: 84 }

describe('makeLimits', () => {
  it('writes the unified hierarchy’s files and hands the controllers down', async () => {
    const root = await temporaryFolder()
    const folder = join(root, 'switchyard', 'mine', 'id')
    // As the kernel does: the files are there once the folder is.
    await mkdir(folder, { recursive: true })
    await writeFile(join(root, 'cgroup.controllers'), 'cpu memory pids')
    for (const each of [root, join(root, 'switchyard'), join(root, 'switchyard', 'mine')]) await writeFile(join(each, 'cgroup.subtree_control'), '')
    for (const name of ['pids.max', 'memory.max', 'cpu.max']) await writeFile(join(folder, name), '')
    expect(await makeLimits('mine', 'id', asked, 4, root)).toEqual({ cgroups: [folder], slice: null, cpus: null, watchedMemoryKiB: 0 })
    const read = (...path: string[]) => readFile(join(root, ...path), 'utf8')
    expect(await read('switchyard', 'mine', 'id', 'pids.max')).toBe('100')
    expect(await read('switchyard', 'mine', 'id', 'memory.max')).toBe(String(100 * 1024 * 1024))
    expect(await read('switchyard', 'mine', 'id', 'cpu.max')).toBe('150000 100000')
    for (const path of [[], ['switchyard'], ['switchyard', 'mine']]) {
      expect(await read(...path, 'cgroup.subtree_control')).toBe('+memory +cpu +pids')
    }
  })

  it('leaves it to the other means where no cgroup can be made, and leaves nothing behind', async () => {
    const limits = await makeLimits('mine', 'id', asked, 4, await temporaryFolder())
    expect(limits).toMatchObject({ cgroups: [], watchedMemoryKiB: 102_400 })
    expect(limits.cpus).toMatch(/^\d,\d$/)
  })
})

describe.skipIf(!(await canLimit()))('removeCgroups', () => {
  it('waits for what ends in one for as long as the caller does, and then says that it is in use', async () => {
    const { cgroups } = await makeLimits(`ending-${process.pid}`, 'id', asked, 4, '/sys/fs/cgroup')
    const child = spawn('sleep', ['300'])
    for (const cgroup of cgroups) await writeFile(join(cgroup, 'cgroup.procs'), String(child.pid))
    await expect(removeCgroups(cgroups, AbortSignal.abort())).rejects.toThrow(/the cgroup .* can't be removed: EBUSY/)
    const removed = removeCgroups(cgroups, AbortSignal.timeout(60_000))
    child.kill('SIGKILL')
    await removed
    expect(cgroups.map((cgroup) => [existsSync(cgroup), existsSync(dirname(cgroup))])).toEqual(cgroups.map(() => [false, false]))
  })
})

describe('removeStaleCgroups', () => {
  it('removes old ones without processes, of this provider alone', async () => {
    const root = await temporaryFolder()
    const folders = ['pids/switchyard/mine/idle', 'pids/switchyard/mine/busy', 'pids/switchyard/other/idle', 'memory/switchyard/mine/idle']
    for (const folder of folders) await mkdir(join(root, folder), { recursive: true })
    // As in the kernel, a folder in use can't be removed.
    await mkdir(join(root, 'pids/switchyard/mine/busy/in-use'))
    await removeStaleCgroups('mine', root)
    expect(await readdir(join(root, 'pids/switchyard/mine'))).toEqual(['busy', 'idle'])
    await removeStaleCgroups('mine', root, Date.now() + 180_000)
    expect(await readdir(join(root, 'pids/switchyard'))).toEqual(['mine', 'other'])
    expect(await readdir(join(root, 'pids/switchyard/mine'))).toEqual(['busy'])
    expect(await readdir(join(root, 'memory'))).toEqual([])
  })
})

describe('chooseCpus', () => {
  it('rounds up to whole CPUs of those that there are', () => {
    expect(chooseCpus('a', undefined, 8)).toBeNull()
    expect(chooseCpus('a', 8, 8)).toBeNull()
    expect(chooseCpus('a', 7.5, 8)).toBeNull()
    for (const seed of ['a', 'b', 'sandbox-77']) {
      const chosen = chooseCpus(seed, 2.5, 8)!.split(',').map(Number)
      expect(new Set(chosen).size).toBe(3)
      expect(chosen.every((cpu) => cpu >= 0 && cpu < 8)).toBe(true)
    }
  })

  it('spreads sandboxes over the CPUs', () => {
    const chosen = new Set(Array.from({ length: 40 }, (_, index) => chooseCpus(`job-${index}`, 1, 4)))
    expect([...chosen].sort()).toEqual(['0', '1', '2', '3'])
  })
})
