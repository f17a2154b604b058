/**
 * A real engine for the tests: `podman system service` with a store of its own in a temporary folder, and an image made of this
 * machine's busybox and git, since no registry is asked for anything.
 *
 * It needs root, podman, busybox and git. Two things let it run inside of another sandbox, and change nothing elsewhere: the empty
 * second cgroup hierarchy is taken out of its sight, which crun refuses to work beside; and the runtime is not asked to raise
 * limits (open files, processes), which takes a capability that a container's root may lack.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { cp, mkdir, mkdtemp, readdir, readFile, realpath, rm, symlink, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

export interface PodmanServer {
  readonly socketPath: string
  /** The id of an image with busybox and git. */
  readonly image: string
  close(): Promise<void>
}

/** Why no engine can be started here; undefined where one can. */
export async function podmanUnavailable(): Promise<string | undefined> {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return 'podman is only tried by root on Linux'
  for (const tool of ['podman', 'crun', 'busybox', 'git', 'unshare']) {
    const found = await run('sh', ['-c', `command -v ${tool}`]).then(() => true, () => false)
    if (!found) return `${tool} is not installed`
  }
  return undefined
}

/** @param programs what the image has besides, of this machine: those that are not here are left out. */
export async function startPodman(programs: readonly string[] = []): Promise<PodmanServer> {
  // A UNIX socket's path is short, and TMPDIR may not be.
  const folder = await mkdtemp(join(tmpdir().length < 40 ? tmpdir() : '/tmp', 'switchyard-podman-'))
  const socketPath = join(folder, 'api.sock')
  const runtime = join(folder, 'crun')
  await writeFile(runtime, runtimeScript, { mode: 0o755 })
  // Of each command a process stays for this many seconds, so that its exit code can be asked for: 300 by default.
  await writeFile(join(folder, 'containers.conf'), `[engine]\nexit_command_delay = 20\nruntime = "crun"\n[engine.runtimes]\ncrun = ["${runtime}"]\n`)
  const folders = ['--root', join(folder, 'store'), '--runroot', join(folder, 'run'), '--tmpdir', join(folder, 'tmp')]
  const podman = [...folders, '--cgroup-manager', 'cgroupfs', 'system', 'service', '--time', '0', `unix://${socketPath}`]
  const child = spawn('unshare', ['--mount', 'sh', '-c', 'umount /sys/fs/cgroup/unified 2>/dev/null; exec podman "$@"', 'podman', ...podman], {
    // Its monitors leave files where they were started.
    cwd: folder,
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { PATH: process.env.PATH, HOME: folder, CONTAINERS_CONF: join(folder, 'containers.conf') },
  })
  let said = ''
  child.stderr.on('data', (chunk: Buffer) => (said = `${said}${chunk.toString()}`.slice(-4000)))
  const close = async () => {
    await end(child)
    await killMonitors(folder)
    await run('umount', ['--recursive', join(folder, 'store')]).catch(() => undefined)
    await rm(folder, { recursive: true, force: true, maxRetries: 5 })
  }
  try {
    for (let tries = 0; !(await engineCall(socketPath, 'GET', '/_ping').then(() => true, () => false)); tries += 1) {
      if (child.exitCode !== null || tries > 300) throw new Error(`podman did not start: ${said}`)
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
    const archive = await readFile(await makeRootFileSystem(folder, programs))
    const answer = await engineCall(socketPath, 'POST', '/images/create?fromSrc=-&repo=switchyard-test', archive)
    const image = /sha256:[0-9a-f]{64}/.exec(answer)?.[0]
    if (image === undefined) throw new Error(`podman made no image: ${answer} ${said}`)
    return { socketPath, image, close }
  } catch (error) {
    await close()
    throw error
  }
}

const runtimeScript = `#!/bin/sh
# Runs crun, with no limits to raise in the file that describes the process.
previous=
for argument in "$@"; do
  case $previous in
    --bundle | -b) file=$argument/config.json ;;
    --process | -p) file=$argument ;;
  esac
  previous=$argument
done
[ -z "\${file-}" ] || sed -i 's/"rlimits":\\[[^]]*\\]/"rlimits":[]/' "$file"
exec /usr/bin/crun "$@"
`

async function makeRootFileSystem(folder: string, programs: readonly string[]): Promise<string> {
  const root = join(folder, 'rootfs')
  for (const path of ['bin', 'usr/bin', 'etc', 'proc', 'sys', 'dev', 'root']) await mkdir(join(root, path), { recursive: true })
  await mkdir(join(root, 'tmp'), { mode: 0o1777 })
  await writeFile(join(root, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n')
  await writeFile(join(root, 'etc/group'), 'root:x:0:\n')
  const { stdout: busybox } = await run('sh', ['-c', 'command -v busybox'])
  await cp(await realpath(busybox.trim()), join(root, 'bin/busybox'))
  const { stdout: applets } = await run('busybox', ['--list'])
  for (const applet of applets.trim().split('\n')) if (applet !== 'busybox') await symlink('busybox', join(root, 'bin', applet))
  // The programs themselves and nothing that links to them by the hundred.
  const { stdout: gitPath } = await run('git', ['--exec-path'])
  const gitCore = join(root, gitPath.trim())
  await mkdir(gitCore, { recursive: true })
  await cp(await realpath('/usr/bin/git'), join(root, 'usr/bin/git'))
  await symlink('/usr/bin/git', join(gitCore, 'git'))
  for (const helper of ['git-remote-http', 'git-remote-https']) {
    await cp(join(gitPath.trim(), helper), join(gitCore, helper), { dereference: true })
  }
  const others = (await Promise.all(programs.map((name) => realpath(join('/usr/bin', name)).catch(() => [])))).flat()
  for (const path of others) await cp(path, join(root, 'usr/bin', basename(path)))
  const { stdout: linked } = await run('ldd', ['/usr/bin/git', join(gitPath.trim(), 'git-remote-http'), await realpath(busybox.trim()), ...others]).catch((error: unknown) => error as { stdout: string })
  for (const [, library = ''] of linked.matchAll(/(\/[^\s:]+\.so[^\s:]*) \(0x/g)) {
    await mkdir(join(root, dirname(library)), { recursive: true })
    await cp(library, join(root, library), { dereference: true })
  }
  await mkdir(join(root, 'etc/ssl/certs'), { recursive: true })
  await cp('/etc/ssl/certs/ca-certificates.crt', join(root, 'etc/ssl/certs/ca-certificates.crt'), { dereference: true }).catch(() => undefined)
  const archive = join(folder, 'rootfs.tar')
  await run('tar', ['-C', root, '-cf', archive, '.'])
  return archive
}

/** A call of the engine's API, for what the adapter itself does not do. A text is sent as JSON, bytes as a tar archive. */
export function engineCall(socketPath: string, method: string, path: string, body?: string | Buffer): Promise<string> {
  return new Promise((resolve, reject) => {
    const headers = body === undefined ? {} : { 'content-type': typeof body === 'string' ? 'application/json' : 'application/x-tar' }
    const sent = request({ socketPath, method, path, headers }, (response) => {
      let text = ''
      response.on('data', (chunk: Buffer) => (text += chunk.toString()))
      response.on('end', () => resolve(text))
      response.on('error', reject)
    })
    sent.on('error', reject)
    sent.end(body)
  })
}

/** The processes that watch over containers and their commands outlive the engine. Each names the engine's folder. */
async function killMonitors(folder: string): Promise<void> {
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name) || name === String(process.pid)) continue
    const argv = await readFile(`/proc/${name}/cmdline`, 'latin1').catch(() => '')
    if (!argv.includes(`${folder}/`)) continue
    try {
      process.kill(Number(name), 'SIGKILL')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
    }
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGTERM')
  const late = setTimeout(() => child.kill('SIGKILL'), 10_000)
  await ended
  clearTimeout(late)
}
