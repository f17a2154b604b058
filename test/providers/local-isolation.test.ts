import { spawn, spawnSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { closeSync, existsSync, openSync } from 'node:fs'
import { chmod, chown, copyFile, mkdir, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { homedir, networkInterfaces, tmpdir } from 'node:os'
import { join } from 'node:path'
import { once } from 'node:events'
import { describe, expect, it } from 'vitest'
import { metadataAddresses, needsForwardedDns } from '../../src/providers/local/network.js'
import { loaderArgs, ownFile } from '../own-programs.js'
import { processes } from '../processes.js'
import { after } from '../undo.js'
import { bubblewrapWorks, call, localProvider, processesWith, request, run, temporaryFolder, uniqueSeconds } from './local-sandboxes.js'

/** A port of this machine's loopback at which somebody says hello. */
async function hostPort(): Promise<number> {
  const server = createServer((socket) => socket.end('hello\n').on('error', () => undefined))
  await once(server.listen(0), 'listening')
  after(() => server.close())
  const address = server.address()
  return typeof address === 'object' && address !== null ? address.port : 0
}

/** Prints what it hears there, or why it hears nothing. */
function asking(port: number, address = '127.0.0.1'): string {
  const program = `const s = require("net").connect(${port}, process.argv[1]); s.setTimeout(1500, () => { console.log("nobody"); process.exit() }); s.on("data", (d) => process.stdout.write(d)); s.on("error", (e) => console.log(e.code))`
  return `node -e '${program}' "${address}"`
}

const programPath = (name: string) => (process.env['PATH'] ?? '').split(':').map((folder) => join(folder, name)).find((path) => existsSync(path))

/** What a provider is at whose machine these programs do not work. */
async function withoutPrograms<Made extends { check(options: typeof call): Promise<unknown> }>(names: readonly string[], make: () => Promise<Made>): Promise<Made> {
  const folder = await temporaryFolder()
  // A root consumer's sandboxes are another user's.
  await chmod(folder, 0o755)
  for (const name of names) await writeFile(join(folder, name), '#!/bin/sh\nexit 1\n', { mode: 0o755 })
  const before = process.env['PATH']
  process.env['PATH'] = `${folder}:${before}`
  try {
    const made = await make()
    await made.check(call)
    return made
  } finally {
    process.env['PATH'] = before
  }
}

describe.skipIf(!bubblewrapWorks)('a local sandbox with bubblewrap', () => {
  it('sees nothing of the host’s files', async () => {
    const provider = await localProvider({ isolation: 'bubblewrap' })
    const hidden = await temporaryFolder()
    await writeFile(join(hidden, 'secret'), 'host')
    const sandbox = await provider.create(request(), call)
    const { stdout } = await run(provider, sandbox, 'ls -A /; for f in "$@" /etc/shadow /etc/sudoers /root /var/log /run /sys /boot; do [ -e "$f" ] && echo "sees $f"; done; ls -A /home /tmp')
    expect(stdout).not.toContain('sees')
    expect(stdout.split('\n')).toEqual(expect.arrayContaining(['usr', 'tmp', 'home', 'user']))
    for (const path of [join(hidden, 'secret'), provider.stateDir, homedir(), process.cwd()]) {
      if (path.startsWith('/usr')) continue
      expect(await run(provider, sandbox, '[ -e "$HOST_PATH" ]', { HOST_PATH: path }), path).toEqual({ exitCode: 1, stdout: '' })
    }
    expect((await run(provider, sandbox, 'wc -l </etc/passwd; id -un; pwd')).stdout).toBe('3\nuser\n/home/user\n')
  })

  it('can write its home and /tmp, and nothing of the system', async () => {
    const provider = await localProvider({ isolation: 'bubblewrap' })
    const sandbox = await provider.create(request(), call)
    const places = '"$HOME" /tmp /var/tmp /dev/shm / /etc /usr /usr/bin /usr/local /opt /dev /proc /var /home'
    const { stdout } = await run(provider, sandbox, `for p in ${places}; do if [ -d "$p" ] && : >"$p/new" ; then echo "$p"; fi; done 2>/dev/null`)
    expect(stdout).toBe('/home/user\n/tmp\n/var/tmp\n/dev/shm\n')
  })

  it('sees what it may read wherever that lies, under its own /tmp too, and can’t write there', async () => {
    const tools = await temporaryFolder()
    await writeFile(join(tools, 'tool'), 'here')
    // Open to everybody: sandboxes of a root consumer are another user's.
    await chmod(tools, 0o755)
    const provider = await localProvider({ isolation: 'bubblewrap', readOnlyPaths: [tools] })
    const sandbox = await provider.create(request(), call)
    expect((await run(provider, sandbox, 'cat "$TOOLS/tool"; ( : >"$TOOLS/new" ) 2>/dev/null || echo " read-only"; : >/tmp/own && ls -A "$TOOLS"', { TOOLS: tools })).stdout).toBe('here read-only\ntool\n')
    await provider.kill(sandbox.id, call)
    expect(await readdir(tools)).toEqual(['tool'])
  })

  it('can open nothing of /proc for writing that speaks for the machine', async () => {
    const provider = await localProvider({ isolation: 'bubblewrap' })
    const sandbox = await provider.create(request(), call)
    const open = `find /proc -path '/proc/[0-9]*' -prune -o -type f -print 2>/dev/null | while read -r file; do if ( : >>"$file" ) 2>/dev/null; then echo "$file"; fi; done; cat /proc/keys /proc/sysrq-trigger 2>/dev/null`
    expect((await run(provider, sandbox, open)).stdout).toBe('')
  })

  it('has Node and npm of a prefix of their own, and nothing else of that prefix', async () => {
    const [prefix, provider] = await Promise.all([temporaryFolder(), localProvider({ isolation: 'bubblewrap' })])
    await mkdir(join(prefix, 'bin'))
    await mkdir(join(prefix, 'lib/node_modules/npm/bin'), { recursive: true })
    await copyFile(process.execPath, join(prefix, 'bin/node'))
    for (const name of ['npm', 'npx']) {
      await writeFile(join(prefix, `lib/node_modules/npm/bin/${name}-cli.js`), `#!/usr/bin/env node\nconsole.log(${JSON.stringify(name)})\n`, { mode: 0o755 })
    }
    for (const secret of ['.env', 'lib/node_modules/secret.json']) await writeFile(join(prefix, secret), 'secret')
    const module = ownFile('src/providers/local/index.ts')
    const script = `node -p process.version; npm; npx; find / -name secret.json -o -name .env 2>/dev/null; [ -e ${prefix} ]; echo $?`
    const program = `
      const { LocalProvider } = await import(${JSON.stringify(module)})
      const provider = new LocalProvider(${JSON.stringify({ isolation: 'bubblewrap', stateDir: provider.stateDir })})
      const sandbox = await provider.create(${JSON.stringify(request())}, { timeoutMs: 30000 })
      const { stdout } = await provider.exec(sandbox.id, { script: ${JSON.stringify(script)}, env: { PATH: '/node/bin:/usr/bin:/bin' } }, { timeoutMs: 30000 })
      process.stdout.write(JSON.stringify({ stdout }))
    `
    const child = spawn(join(prefix, 'bin/node'), [...loaderArgs, '--input-type=module', '-e', program], { stdio: ['ignore', 'pipe', 'inherit'] })
    const { stdout } = JSON.parse((await child.stdout.toArray()).join('')) as { stdout: string }
    expect(stdout).toBe(`${process.version}\nnpm\nnpx\n1\n`)
  })

  it('takes no state folder that somebody else could have made', async () => {
    const folder = await temporaryFolder()
    await mkdir(join(folder, 'elsewhere'))
    await symlink(join(folder, 'elsewhere'), join(folder, 'local'))
    await expect((await localProvider({ stateDir: folder })).check(call)).rejects.toThrow(/stateDir: .*\/local is a link or no folder; remove it, or set stateDir/)
    const open = join(folder, 'open')
    await mkdir(join(open, 'local'), { recursive: true })
    for (const each of [open, join(open, 'local')]) await chmod(each, 0o777)
    const own = await localProvider({ stateDir: open })
    await expect(own.check(call)).rejects.toThrow(/open can be written by others/)
    await chmod(open, 0o755)
    await own.check(call)
    expect((await stat(join(open, 'local'))).mode & 0o777).toBe(0o700)
    if (process.getuid?.() !== 0) return
    for (const each of [open, join(open, 'local')]) {
      await chown(each, 12_345, 12_345)
      await expect(own.create(request(), call)).rejects.toMatchObject({ kind: 'provider-down', message: expect.stringMatching(/belongs to another user \(uid 12345\)/) as string })
      await chown(each, 0, 0)
    }
  })

  it('sees its own processes only, and can neither signal nor look into its first one', async () => {
    const provider = await localProvider({ isolation: 'bubblewrap' })
    const sandbox = await provider.create(request(), call)
    const { stdout } = await run(provider, sandbox, 'ls -d /proc/[0-9]* | wc -l; kill -KILL 1; kill -TERM 1; cat /proc/1/environ 2>/dev/null; readlink /proc/1/fd/* /proc/1/exe /proc/1/root /proc/1/cwd 2>/dev/null; echo "alive $$"')
    const [count, alive] = stdout.split('\n')
    expect(Number(count)).toBeLessThan(10)
    expect(alive).toMatch(/^alive \d+$/)
    expect((await run(provider, sandbox, 'echo still')).stdout).toBe('still\n')
  })

  it('runs commands without privileges and without the namespaces that led there', async () => {
    const provider = await localProvider({ isolation: 'bubblewrap' })
    const sandbox = await provider.create(request(), call)
    const { stdout } = await run(provider, sandbox, `grep -E 'Cap(Inh|Prm|Eff|Amb)' /proc/self/status | tr -d '\\t'; readlink /proc/$$/fd/* | grep -cvE '^(/dev/null|socket:.*|pipe:.*)$'`)
    expect(stdout).toMatch(/^CapInh:0+\nCapPrm:0+\nCapEff:0+\nCapAmb:0+\n0\n$/)
    const attempts = ['mount -o remount,rw /usr', 'mount -o remount,rw /', 'mount -t tmpfs x /usr', 'nsenter -t 1 -m true', 'nsenter -t 1 -U true', 'chroot / true']
    for (const attempt of attempts) expect((await run(provider, sandbox, `${attempt} 2>/dev/null`)).exitCode, attempt).not.toBe(0)
    // In user namespaces of its own making it still is nobody to the outer ones.
    expect((await run(provider, sandbox, 'unshare -Urm sh -c "mount -o remount,rw,bind /usr && touch /usr/new" 2>/dev/null')).exitCode).not.toBe(0)
  })

  it('gets no descriptor that the consumer itself was started with', async () => {
    const provider = await localProvider({ isolation: 'bubblewrap' })
    const module = ownFile('src/providers/local/index.ts')
    const program = `
      const { LocalProvider } = await import(${JSON.stringify(module)})
      const provider = new LocalProvider(${JSON.stringify({ isolation: 'bubblewrap', stateDir: provider.stateDir })})
      const sandbox = await provider.create(${JSON.stringify(request())}, { timeoutMs: 30000 })
      const script = 'readlink /proc/$$/fd/* /proc/2/fd/*; ls -a /proc/$$/fd/7/ /proc/2/fd/7/ /proc/$$/fd/33/ /proc/2/fd/33/'
      const { stdout } = await provider.exec(sandbox.id, { script }, { timeoutMs: 30000 })
      process.stdout.write(JSON.stringify({ listing: stdout }))
    `
    const outside = openSync('/', 'r')
    after(() => closeSync(outside))
    // As a careless process manager starts it: with folders of the host open.
    const stdio = [...(['ignore', 'pipe', 'inherit'] as const), ...Array.from({ length: 31 }, (_, index) => ([4, 30].includes(index) ? outside : ('ignore' as const)))]
    const child = spawn(process.execPath, [...loaderArgs, '--input-type=module', '-e', program], { stdio })
    const { listing } = JSON.parse((await child.stdout!.toArray()).join('')) as { listing: string }
    expect(listing.split('\n').filter((line) => !/^(\/dev\/null|socket:.*|pipe:.*|)$/.test(line))).toEqual([])
  })

  it('takes LD_PRELOAD and PATH for the command alone', async () => {
    const provider = await localProvider({ isolation: 'bubblewrap' })
    const sandbox = await provider.create(request(), call)
    // Were it loaded on the way in, the loader's complaint or the missing programs would end the entering.
    const env = { LD_PRELOAD: '/nowhere/evil.so', ENV: '/nowhere/evil.sh', BASH_ENV: '/nowhere/evil.sh', PATH: '/nowhere', IFS: 'e' }
    expect(await run(provider, sandbox, 'echo "$LD_PRELOAD"', env)).toEqual({ exitCode: 0, stdout: '/nowhere/evil.so\n' })
  })

  it('shows nothing of the secrets of one command to the process list', async () => {
    const provider = await localProvider({ isolation: 'bubblewrap' })
    const sandbox = await provider.create(request(), call)
    const [seconds, token] = [uniqueSeconds(), `token-${randomUUID()}`]
    const running = run(provider, sandbox, `sleep ${seconds}; true`, { TOKEN: token }).catch(() => undefined)
    await expect.poll(() => processesWith('sleep', seconds)).toHaveLength(1)
    expect((await processes('args')).filter((line) => line.includes(token))).toEqual([])
    await provider.kill(sandbox.id, call)
    await running
  })

  it('keeps another sandbox out of its /tmp and processes', async () => {
    const provider = await localProvider({ isolation: 'bubblewrap' })
    const [one, two] = await Promise.all([provider.create(request(), call), provider.create(request(), call)])
    const seconds = uniqueSeconds()
    await run(provider, one, `echo mine >/tmp/mine; sleep ${seconds} >/dev/null 2>&1 & echo started`)
    expect((await run(provider, two, 'ls -A /tmp "$HOME"; cat /proc/[0-9]*/cmdline | tr "\\0" " "')).stdout).not.toMatch(new RegExp(`mine|${seconds}`))
  })

  it('has no network with "none", except its own loopback', async () => {
    const provider = await localProvider({ isolation: 'bubblewrap' })
    const port = await hostPort()
    const own = `const s = require('net').createServer((c) => c.end('own')).listen(0, '127.0.0.1', () => require('net').connect(s.address().port, '127.0.0.1').on('data', (d) => { console.log(String(d)); process.exit() }))`
    const closed = await provider.create(request({ network: 'none' }), call)
    expect((await run(provider, closed, asking(port))).stdout).toBe('ECONNREFUSED\n')
    expect((await run(provider, closed, `node -e "$PROGRAM"`, { PROGRAM: own })).stdout).toBe('own\n')
    expect((await run(provider, closed, 'tail -n +3 /proc/net/dev | wc -l')).stdout.trim()).toBe('1')
    const never = await localProvider({ isolation: 'bubblewrap', network: 'none' })
    const forced = await never.create(request({ network: 'open' }), call)
    expect((await run(never, forced, asking(port))).stdout).toBe('ECONNREFUSED\n')
  })

  it('reaches of this machine’s loopback the git host and the named ports, and nothing else', async () => {
    const [git, named, other] = await Promise.all([hostPort(), hostPort(), hostPort()])
    const provider = await localProvider({ isolation: 'bubblewrap', loopbackPorts: [named] })
    const sandbox = await provider.create(request({ gitHosts: [`127.0.0.1:${git}`, 'git.example'] }), call)
    expect((await run(provider, sandbox, asking(git))).stdout).toBe('hello\n')
    expect((await run(provider, sandbox, asking(named))).stdout).toBe('hello\n')
    const warnings = await provider.check(call)
    const shared = warnings.some((warning) => warning.includes('loopback included'))
    // Where nothing can make it a network of its own, check says so and it shares the machine's.
    expect((await run(provider, sandbox, asking(other))).stdout).toBe(shared ? 'hello\n' : 'ECONNREFUSED\n')
    if (shared) return
    // Not by another name of this machine's either: its addresses, and the way that leads to it.
    const addresses = Object.values(networkInterfaces()).flatMap((each) => each ?? []).filter(({ scopeid }) => scopeid === undefined || scopeid === 0)
    for (const { address } of addresses) expect((await run(provider, sandbox, asking(other, address))).stdout, address).not.toContain('hello')
    const gateway = `ip route 2>/dev/null | sed -n 's/^default via \\([^ ]*\\).*/\\1/p'`
    expect((await run(provider, sandbox, `gateway=$(${gateway}); [ -z "$gateway" ] || ${asking(other, '$gateway')}`)).stdout).not.toContain('hello')
  })

  it('has no way to where a cloud gives out the keys of a machine’s account, unless it is to have one', async () => {
    const provider = await localProvider({ isolation: 'bubblewrap' })
    const warnings = await provider.check(call)
    if (warnings.some((warning) => /loopback included|install the package iproute2/.test(warning))) return
    const without = await withoutPrograms(['ip'], () => localProvider({ isolation: 'bubblewrap' }))
    expect(await without.check(call)).toContainEqual('jobs with an open network reach the addresses at which a cloud gives out the keys of a machine\'s account: ip can add no route here (exit code 1)')
    const open = await localProvider({ isolation: 'bubblewrap', cloudMetadata: true })
    const ways = 'cat /proc/net/route /proc/net/ipv6_route'
    const unreachable = async (made: typeof provider) => (await run(made, await made.create(request(), call), ways)).stdout.match(/^\*\tFEA9FEA9\t/gm)?.length ?? 0
    expect([await unreachable(without), await unreachable(open)]).toEqual([0, 0])
    const sandbox = await provider.create(request(), call)
    for (const address of metadataAddresses.IPv4) expect((await run(provider, sandbox, asking(80, address))).stdout, address).toMatch(/^(EHOSTUNREACH|ENETUNREACH)\n$/)
    expect((await run(provider, sandbox, 'ip route del unreachable 169.254.169.254; ip route flush table main; exit 0')).exitCode).toBe(0)
    expect((await run(provider, sandbox, asking(80, '169.254.169.254'))).stdout).toBe('EHOSTUNREACH\n')
  })

  it.each([
    ['nameserver 127.0.0.53\noptions edns0\n', true],
    ['nameserver 169.254.169.254\n', true],
    ['nameserver 168.63.129.16\nnameserver ::1\n', true],
    ['nameserver 127.0.0.1\nnameserver 192.0.2.1\n', false],
    ['search example.com\n', false],
  ])('has its lookups forwarded where it can’t ask this machine’s name servers: %j', async (text, forwarded) => {
    const file = join(await temporaryFolder(), 'resolv.conf')
    await writeFile(file, text)
    expect(await needsForwardedDns(file)).toBe(forwarded)
  })

  it.skipIf(programPath('slirp4netns') === undefined)('has slirp4netns’ network where there is no pasta, unless it is to reach ports of this machine’s loopback', async () => {
    const port = await hostPort()
    const provider = await withoutPrograms(['pasta'], () => localProvider({ isolation: 'bubblewrap' }))
    expect(await provider.check(call)).toContainEqual(expect.stringMatching(/^the network of jobs is slirp4netns's; those that are to reach ports .* loopback included/))
    const sandbox = await provider.create(request(), call)
    expect((await run(provider, sandbox, 'tail -n +3 /proc/net/dev | sed "s/:.*//" | tr -d " " | sort | tr "\\n" " "; grep -c tap0 /proc/net/route')).stdout).toMatch(/^lo tap0 [1-9]/)
    expect((await run(provider, sandbox, asking(port))).stdout).toBe('ECONNREFUSED\n')
    // The way to the outside is none to this machine's loopback.
    for (const address of ['10.0.2.2', '10.0.2.3']) expect((await run(provider, sandbox, asking(port, address))).stdout, address).not.toContain('hello')
    const init = (await readFile(join(provider.stateDir, 'local/sandboxes', sandbox.id, 'init'), 'utf8')).split(' ')[0] ?? ''
    expect((await processesWith('slirp4netns', ` ${init}`)).length).toBeGreaterThan(0)
    await provider.kill(sandbox.id, call)
    expect(await processesWith('slirp4netns', ` ${init}`)).toEqual([])
    const near = await provider.create(request({ gitHosts: [`127.0.0.1:${port}`] }), call)
    expect((await run(provider, near, asking(port))).stdout).toBe('hello\n')
  })

  it('shares this machine’s network where nothing gives it one, and check says what is missing', async () => {
    const provider = await withoutPrograms(['pasta', 'slirp4netns'], () => localProvider({ isolation: 'bubblewrap' }))
    expect(await provider.check(call)).toContainEqual(expect.stringMatching(/^jobs with an open network share this machine's own, loopback included, .*: pasta does not work here \(exit code 1\); .*; and slirp4netns does not work here \(exit code 1\)$/))
    const port = await hostPort()
    expect((await run(provider, await provider.create(request(), call), asking(port))).stdout).toBe('hello\n')
  })

  it('leaves no process of its network behind', async () => {
    const provider = await localProvider({ isolation: 'bubblewrap', loopbackPorts: [await hostPort()] })
    const [killed, died] = await Promise.all([provider.create(request(), call), provider.create(request(), call)])
    const init = async ({ id }: { id: string }) => (await readFile(join(provider.stateDir, 'local/sandboxes', id, 'init'), 'utf8')).split(' ')[0] ?? ''
    const [first, second] = await Promise.all([init(killed), init(died)])
    await provider.kill(killed.id, call)
    expect(await processesWith('pasta', ` ${first}`)).toEqual([])
    process.kill(Number(second), 'SIGKILL')
    await expect.poll(() => processesWith('pasta', ` ${second}`)).toEqual([])
  })

  it.each(['open', 'none'] as const)('connects to no UNIX socket of this machine, by path or by name, network %s', async (network) => {
    const folder = await temporaryFolder()
    const sockets = [join(folder, 'socket'), `\0switchyard-test-${randomUUID()}`]
    for (const path of sockets) {
      const server = createServer((socket) => socket.end('hello\n'))
      await once(server.listen(path), 'listening')
      after(() => server.close())
    }
    const provider = await localProvider({ isolation: 'bubblewrap' })
    const sandbox = await provider.create(request({ network }), call)
    for (const path of sockets) {
      const program = `const s = require('net').connect(${JSON.stringify(path)}); s.on('data', (d) => process.stdout.write(d)); s.on('error', (e) => console.log(e.code))`
      expect((await run(provider, sandbox, 'node -e "$PROGRAM"', { PROGRAM: program })).stdout, path).toMatch(/^E[A-Z]+\n$/)
    }
    await expect((await localProvider({ isolation: 'bubblewrap', readOnlyPaths: [folder] })).check(call)).rejects.toThrow(/readOnlyPaths: .* holds the socket/)
  })

  it('runs node, git and programs that want a terminal', async () => {
    const provider = await localProvider({ isolation: 'bubblewrap' })
    const sandbox = await provider.create(request(), call)
    expect((await run(provider, sandbox, 'node -p process.version')).stdout).toBe(`${process.version}\n`)
    expect((await run(provider, sandbox, 'cd /tmp && git init -q x && cd x && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m x && git log --oneline | wc -l')).stdout.trim()).toBe('1')
    if (spawnSync('script', ['--version']).status === 0) {
      expect((await run(provider, sandbox, 'script -qc tty /dev/null')).stdout).toMatch(/^\/dev\/pts\/\d+/)
    }
  })

  it('is unharmed by a command that kills everything it can', async () => {
    const provider = await localProvider({ isolation: 'bubblewrap' })
    const sandbox = await provider.create(request(), call)
    await run(provider, sandbox, 'echo kept >"$HOME/file"; sleep 300 >/dev/null 2>&1 & kill -KILL -1')
    await expect.poll(() => run(provider, sandbox, 'cat "$HOME/file"').catch(() => undefined)).toEqual({ exitCode: 0, stdout: 'kept\n' })
  })

  it('is removed whole, whatever it made of its folders, without touching what its links point to', async () => {
    const provider = await localProvider({ isolation: 'bubblewrap' })
    const host = await temporaryFolder()
    await mkdir(join(host, 'keep'))
    await writeFile(join(host, 'keep', 'file'), 'kept')
    const sandbox = await provider.create(request(), call)
    const made = await run(
      provider,
      sandbox,
      `ln -s "$HOST_PATH" "$HOME/link"; ln -s / "$HOME/root"; mkdir -p "$HOME/closed/inner"; touch "$HOME/closed/inner/x"; chmod 0 "$HOME/closed/inner" "$HOME/closed"
      cd "$HOME"; i=0; while [ $i -lt 300 ]; do mkdir deep-deep-deep-deep-deep && cd -P deep-deep-deep-deep-deep || exit 9; i=$((i+1)); done; mkfifo "$HOME/pipe"; touch "$HOME/-rf" "$HOME/a
b"`,
      { HOST_PATH: join(host, 'keep') },
    )
    expect(made.exitCode).toBe(0)
    await provider.kill(sandbox.id, call)
    expect(await readdir(join(provider.stateDir, 'local', 'sandboxes'))).toEqual([])
    expect(await readdir(join(provider.stateDir, 'local', 'names'))).toEqual([])
    expect(await readdir(join(host, 'keep'))).toEqual(['file'])
  })

  it('never makes the host follow a link out of its home', async () => {
    const provider = await localProvider({ isolation: 'bubblewrap' })
    const sandbox = await provider.create(request(), call)
    // Its own record is out of its reach: what stands where the host reads is nothing that it wrote.
    const { stdout } = await run(provider, sandbox, `cd "$HOME/.." && ls -A; for f in meta.json init holder deadline; do echo x >"$HOME/../$f" || echo no; done 2>/dev/null`)
    expect(stdout).toBe('user\nno\nno\nno\nno\n')
    const outside = await temporaryFolder()
    await symlink('/etc/passwd', join(outside, 'meta.json'))
    expect(await provider.get('../../..', call)).toBeUndefined()
    expect(await provider.get(`..${'/x'.repeat(3)}.000000000000`, call)).toBeUndefined()
    await provider.kill(`../${outside.slice(tmpdir().length + 1)}`, call)
    expect(await readdir(outside)).toEqual(['meta.json'])
  })
})
