import { access, lstat, readlink, realpath } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { unlessShort } from './shortage.js'

/** Folders for PATH in a sandbox. */
export const systemPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** What of /etc programs need: name lookup, certificates, the linker's cache, the time zone. No keys, no accounts. */
const etcFiles = [
  'ld.so.conf', 'ld.so.conf.d', 'nsswitch.conf', 'resolv.conf', 'hosts', 'services', 'protocols',
  'localtime', 'timezone', 'os-release', 'debian_version', 'mime.types', 'terminfo', 'fonts', 'ca-certificates',
  'ssl/certs', 'ssl/openssl.cnf', 'pki/tls/certs', 'pki/ca-trust', 'crypto-policies',
]

/** The accounts that a sandbox sees. */
export const accountFiles = {
  passwd: 'root:x:0:0:root:/:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n',
  group: 'root:x:0:\nuser:x:1000:\nnogroup:x:65534:\n',
}

/**
 * What of /proc speaks for the whole machine and could be written by root, as OCI runtimes cover it. bubblewrap covers some of these
 * itself, but only where it may write the folder, which root may not in folders of mode 0555 whose files it may.
 */
const readOnlyOfProc = ['sys', 'irq', 'fs', 'bus', 'pressure', 'asound', 'acpi', 'scsi']
const hiddenOfProc = ['sysrq-trigger', 'keys', 'key-users', 'kcore', 'kmsg', 'timer_list', 'latency_stats', 'sched_debug', 'vmallocinfo', 'kpagecount', 'kpageflags']

/** A /proc of the PID namespace's own, with that covered: only what this kernel has, since bubblewrap can't make what is missing there. */
export async function procMounts(): Promise<string[]> {
  const existing = async (names: readonly string[]) => {
    const found = await Promise.all(names.map((name) => access(`/proc/${name}`).then(() => [`/proc/${name}`], unlessShort([]))))
    return found.flat()
  }
  const [readOnly, hidden] = await Promise.all([existing(readOnlyOfProc), existing(hiddenOfProc)])
  return ['--proc', '/proc', ...readOnly.flatMap((path) => ['--ro-bind', path, path]), ...hidden.flatMap((path) => ['--ro-bind', '/dev/null', path])]
}

/** @param network whether with a network namespace of its own, or in the host's. */
export function namespaces(network: 'own' | 'shared'): string[] {
  return [
    '--unshare-user', '--uid', '0', '--gid', '0', '--unshare-pid', '--unshare-ipc', '--unshare-uts', '--unshare-cgroup-try',
    ...(network === 'own' ? ['--unshare-net'] : []),
    // Writing a map that holds the outer uid 0 takes CAP_SETFCAP; init.sh's `unshare` does so, and nothing else has it.
    '--cap-drop', 'ALL', '--cap-add', 'CAP_SETFCAP',
    '--hostname', 'sandbox', '--die-with-parent', '--new-session', '--as-pid-1',
  ]
}

/** The programs and libraries, read-only, as this machine has them: /usr, and /bin and /lib as the links or folders that they are. */
export async function programMounts(): Promise<string[]> {
  const args = ['--ro-bind', '/usr', '/usr']
  for (const path of ['/bin', '/sbin', '/lib', '/lib32', '/lib64', '/libx32']) {
    const stat = await lstat(path).catch(unlessShort(undefined))
    if (stat?.isSymbolicLink() === true) args.push('--symlink', await readlink(path), path)
    else if (stat?.isDirectory() === true) args.push('--ro-bind', path, path)
  }
  return [...args, '--ro-bind-try', '/etc/ld.so.cache', '/etc/ld.so.cache', '--ro-bind-try', '/etc/alternatives', '/etc/alternatives']
}

export async function systemMounts(): Promise<string[]> {
  const args = await programMounts()
  for (const name of etcFiles) args.push('--ro-bind-try', `/etc/${name}`, `/etc/${name}`)
  return [...args, ...(await procMounts()), ...deviceMounts]
}

/** /dev/shm is memory: bounded, and nothing else of /dev can be written. */
export const deviceMounts = ['--dev', '/dev', '--size', String(64 * 1024 * 1024), '--tmpfs', '/dev/shm', '--remount-ro', '/dev']

/** Where a sandbox finds a Node that is not in the system's own folders. */
const nodeMount = '/node'

/**
 * The running Node with its npm, when not in the system's own folders: the program, npm and npx and nothing else of their prefix, which
 * may be a user's home with keys and other programs' settings beside them.
 * @returns bubblewrap's arguments, and the folder for PATH.
 */
export async function nodeFolder(at: (path: string) => string = (path) => path, execPath: string = process.execPath): Promise<{ readonly mounts: readonly string[]; readonly bin: string } | undefined> {
  const program = await realpath(execPath)
  if (program.startsWith('/usr/')) return undefined
  const bin = join(nodeMount, 'bin')
  const mounts = ['--ro-bind', at(program), join(bin, 'node')]
  const npm = join(dirname(dirname(program)), 'lib', 'node_modules', 'npm')
  // Some installations link to where npm really is.
  const npmFolder = await realpath(npm).catch(unlessShort(undefined))
  if (npmFolder !== undefined) {
    mounts.push('--ro-bind', at(npmFolder), join(nodeMount, 'lib', 'node_modules', 'npm'))
    for (const name of ['npm', 'npx']) mounts.push('--symlink', `../lib/node_modules/npm/bin/${name}-cli.js`, join(bin, name))
  }
  return { mounts, bin }
}

export interface SandboxView {
  readonly network: 'own' | 'shared'
  readonly readOnlyPaths: readonly string[]
  /** What it reads in place of this machine's /etc/resolv.conf. */
  readonly resolver: string | undefined
  /** The arguments of init.sh. */
  readonly init: readonly string[]
  /** Where a folder or file of the host is found by whoever runs bubblewrap; see staging.ts. */
  readonly at: (path: string) => string
}

/** The arguments of the bubblewrap that starts a sandbox from its folder. */
export async function sandboxArguments(folder: string, { network, readOnlyPaths, resolver, init, at }: SandboxView): Promise<string[]> {
  const node = await nodeFolder(at)
  // What lies where the sandbox has a folder of its own goes over that folder, or it would be hidden by it.
  const covered = readOnlyPaths.filter((path) => ['/home/user/', '/tmp/', '/var/tmp/'].some((own) => path.startsWith(own)))
  const bound = (paths: readonly string[]) => paths.flatMap((path) => ['--ro-bind-try', at(path), path])
  return [
    ...namespaces(network),
    ...(await systemMounts()),
    ...bound(readOnlyPaths.filter((path) => !covered.includes(path))),
    ...(node?.mounts ?? []),
    '--ro-bind', at(join(folder, 'passwd')), '/etc/passwd',
    '--ro-bind', at(join(folder, 'group')), '/etc/group',
    '--ro-bind', at(join(folder, 'init.sh')), '/etc/switchyard-init.sh',
    ...(resolver === undefined ? [] : ['--ro-bind', at(resolver), '/etc/resolv.conf']),
    '--bind', at(join(folder, 'home')), '/home/user',
    '--bind', at(join(folder, 'tmp')), '/tmp',
    '--dir', '/var', '--symlink', '../tmp', '/var/tmp',
    ...bound(covered),
    // A file such as /etc/ld.so.preload would run in the steps of `enter` that still have privileges over the namespaces.
    '--remount-ro', '/',
    '--chdir', '/home/user',
    '--info-fd', '3',
    '--', '/bin/sh', '/etc/switchyard-init.sh', ...init,
  ]
}
