import { execFile } from 'node:child_process'
import { constants } from 'node:fs'
import { access, lstat, readlink, realpath } from 'node:fs/promises'
import { delimiter, dirname, join } from 'node:path'

/** What bubblewrap mode runs, as absolute paths of this machine. */
export interface Tools {
  readonly bwrap: string
  readonly nsenter: string
  readonly taskset: string | undefined
}

/** Folders for PATH in a sandbox. */
export const systemPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** What of /etc programs need: name lookup, certificates, the linker's cache, the time zone. No keys, no accounts. */
const etcFiles = [
  'ld.so.cache', 'ld.so.conf', 'ld.so.conf.d', 'alternatives', 'nsswitch.conf', 'resolv.conf', 'hosts', 'services', 'protocols',
  'localtime', 'timezone', 'os-release', 'debian_version', 'mime.types', 'terminfo', 'fonts', 'ca-certificates',
  'ssl/certs', 'ssl/openssl.cnf', 'pki/tls/certs', 'pki/ca-trust', 'crypto-policies',
]

/** The accounts that a sandbox sees. */
export const accountFiles = {
  passwd: 'root:x:0:0:root:/:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n',
  group: 'root:x:0:\nuser:x:1000:\nnogroup:x:65534:\n',
}

/** Busybox's nsenter goes by the same name and can't keep credentials. */
const probeScript = `
  nsenter --version 2>/dev/null | grep -q util-linux && [ -x /usr/bin/setsid ] || exit 43
  exec unshare --user --map-user=1000 --map-group=1000 -- /bin/sh -c 'exit 42'
`

/**
 * Looks for the tools and tries once whether this kernel lets this user make such namespaces.
 * @returns the tools, or why not, as a sentence that says how to mend it.
 */
export async function probeBubblewrap(): Promise<Tools | string> {
  if (process.platform !== 'linux') return 'there is no bubblewrap on this system'
  const found = await Promise.all(['bwrap', 'nsenter', 'unshare', 'taskset'].map(findProgram))
  const [bwrap, nsenter, unshare, taskset] = found
  if (bwrap === undefined) return 'bwrap is not on PATH; install the package bubblewrap'
  if (nsenter === undefined || unshare === undefined) return 'nsenter or unshare is not on PATH; install the package util-linux'
  const args = [...namespaces('none'), ...(await systemMounts([])), '--', '/bin/sh', '-c', probeScript]
  const outcome = await new Promise<{ code: unknown; said: string }>((ended) => {
    execFile(bwrap, args, { timeout: 20_000, env: { PATH: systemPath }, cwd: '/' }, (error, _stdout, stderr) => ended({ code: error?.code, said: stderr.trim() }))
  })
  if (outcome.code === 42) return { bwrap, nsenter, taskset }
  if (outcome.code === 43) return "nsenter and setsid are not util-linux's; install the package util-linux"
  return `bubblewrap does not work here (${outcome.said === '' ? `exit code ${String(outcome.code)}` : outcome.said}); allow unprivileged user namespaces, or run outside of a container`
}

async function findProgram(name: string): Promise<string | undefined> {
  for (const folder of (process.env['PATH'] ?? systemPath).split(delimiter)) {
    const file = join(folder, name)
    if (folder.startsWith('/') && (await access(file, constants.X_OK).then(() => true, () => false))) return file
  }
  return undefined
}

/**
 * What of /proc speaks for the whole machine and could be written by root, as OCI runtimes cover it. bubblewrap covers some of these
 * itself, but only where it may write the folder, which root may not in folders of mode 0555 whose files it may.
 */
const readOnlyOfProc = ['sys', 'irq', 'fs', 'bus', 'pressure', 'asound', 'acpi', 'scsi']
const hiddenOfProc = ['sysrq-trigger', 'keys', 'key-users', 'kcore', 'kmsg', 'timer_list', 'latency_stats', 'sched_debug', 'vmallocinfo', 'kpagecount', 'kpageflags']

/** Only what this kernel has: bubblewrap can't make what is missing there. */
async function procMounts(): Promise<string[]> {
  const existing = async (names: readonly string[]) => {
    const found = await Promise.all(names.map((name) => access(`/proc/${name}`).then(() => [`/proc/${name}`], () => [])))
    return found.flat()
  }
  const [readOnly, hidden] = await Promise.all([existing(readOnlyOfProc), existing(hiddenOfProc)])
  return ['--proc', '/proc', ...readOnly.flatMap((path) => ['--ro-bind', path, path]), ...hidden.flatMap((path) => ['--ro-bind', '/dev/null', path])]
}

function namespaces(network: 'open' | 'none'): string[] {
  return [
    '--unshare-user', '--uid', '0', '--gid', '0', '--unshare-pid', '--unshare-ipc', '--unshare-uts', '--unshare-cgroup-try',
    ...(network === 'none' ? ['--unshare-net'] : []),
    // Writing a map that holds the outer uid 0 takes CAP_SETFCAP; init.sh's `unshare` does so, and nothing else has it.
    '--cap-drop', 'ALL', '--cap-add', 'CAP_SETFCAP',
    '--hostname', 'sandbox', '--die-with-parent', '--new-session', '--as-pid-1',
  ]
}

/** The system, read-only, as this machine has it: /usr, and /bin and /lib as the links or folders that they are. */
async function systemMounts(readOnlyPaths: readonly string[]): Promise<string[]> {
  const args = ['--ro-bind', '/usr', '/usr']
  for (const path of ['/bin', '/sbin', '/lib', '/lib32', '/lib64', '/libx32']) {
    const stat = await lstat(path).catch(() => undefined)
    if (stat?.isSymbolicLink() === true) args.push('--symlink', await readlink(path), path)
    else if (stat?.isDirectory() === true) args.push('--ro-bind', path, path)
  }
  for (const name of etcFiles) args.push('--ro-bind-try', `/etc/${name}`, `/etc/${name}`)
  for (const path of readOnlyPaths) args.push('--ro-bind-try', path, path)
  // /dev/shm is memory: bounded, and nothing else of /dev can be written.
  return [...args, ...(await procMounts()), '--dev', '/dev', '--size', String(64 * 1024 * 1024), '--tmpfs', '/dev/shm', '--remount-ro', '/dev']
}

/** Where a sandbox finds a Node that is not in the system's own folders. */
const nodeMount = '/node'

/**
 * The running Node with its npm, when not in the system's own folders: the program, npm and npx and nothing else of their prefix, which
 * may be a user's home with keys and other programs' settings beside them.
 * @returns bubblewrap's arguments, and the folder for PATH.
 */
export async function nodeFolder(execPath: string = process.execPath): Promise<{ readonly mounts: readonly string[]; readonly bin: string } | undefined> {
  const program = await realpath(execPath)
  if (program.startsWith('/usr/')) return undefined
  const bin = join(nodeMount, 'bin')
  const mounts = ['--ro-bind', program, join(bin, 'node')]
  const npm = join(dirname(dirname(program)), 'lib', 'node_modules', 'npm')
  // Some installations link to where npm really is.
  const npmFolder = await realpath(npm).catch(() => undefined)
  if (npmFolder !== undefined) {
    mounts.push('--ro-bind', npmFolder, join(nodeMount, 'lib', 'node_modules', 'npm'))
    for (const name of ['npm', 'npx']) mounts.push('--symlink', `../lib/node_modules/npm/bin/${name}-cli.js`, join(bin, name))
  }
  return { mounts, bin }
}

/**
 * The command line that starts a sandbox from its folder.
 * @param init the arguments of init.sh.
 */
export async function sandboxCommand(
  tools: Tools,
  folder: string,
  options: { readonly network: 'open' | 'none'; readonly readOnlyPaths: readonly string[]; readonly init: readonly string[] },
): Promise<string[]> {
  const node = await nodeFolder()
  // What lies where the sandbox has a folder of its own goes over that folder, or it would be hidden by it.
  const covered = options.readOnlyPaths.filter((path) => ['/home/user/', '/tmp/', '/var/tmp/'].some((own) => path.startsWith(own)))
  return [
    tools.bwrap,
    ...namespaces(options.network),
    ...(await systemMounts(options.readOnlyPaths.filter((path) => !covered.includes(path)))),
    ...(node?.mounts ?? []),
    '--ro-bind', join(folder, 'passwd'), '/etc/passwd',
    '--ro-bind', join(folder, 'group'), '/etc/group',
    '--ro-bind', join(folder, 'init.sh'), '/etc/switchyard-init.sh',
    '--bind', join(folder, 'home'), '/home/user',
    '--bind', join(folder, 'tmp'), '/tmp',
    '--dir', '/var', '--symlink', '../tmp', '/var/tmp',
    ...covered.flatMap((path) => ['--ro-bind-try', path, path]),
    // A file such as /etc/ld.so.preload would run in the steps of `enter` that still have privileges over the namespaces.
    '--remount-ro', '/',
    '--chdir', '/home/user',
    '--info-fd', '3',
    '--', '/bin/sh', '/etc/switchyard-init.sh', ...options.init,
  ]
}
