import { type FileHandle, open } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { ShellCommand } from '../provider.js'
import { nodeFolder, programMounts, systemPath } from './bubblewrap.js'
import { commandText, type Invocation } from './command.js'
import { isAlive, markOf } from './process-identity.js'
import { scopeCommand } from './delegation.js'
import { delegationOf } from './holder.js'
import { scripts } from './scripts.js'
import { asUser } from './staging.js'
import { filterFile, type SandboxRecord, shape } from './state.js'
import type { Tools } from './tools.js'

/** In the order of descriptors from 3 on: the sandbox's namespaces, as its first process has them. A network of its own comes last. */
const namespaceFiles = ['user', 'ipc', 'uts', 'pid', 'mnt'] as const
const descriptorOf = (name: (typeof namespaceFiles)[number]) => 3 + namespaceFiles.indexOf(name)
const filterDescriptor = 8
const networkDescriptor = 9
const at = (descriptor: number) => `/proc/self/fd/${descriptor}`

/** Moves this process into cgroups ($1, a list of lines) and goes on as the rest of the arguments. */
const joinCgroups = `
IFS='
'
for cgroup in $1; do echo 0 >"$cgroup/cgroup.procs" || exit 125; done
shift
exec "$@"
`

export interface Entered {
  readonly invocation: Invocation
  readonly close: () => Promise<void>
}

/**
 * How to run a command in a live sandbox.
 *
 * With namespaces: as the user that the sandbox is of on the host, nsenter goes into its outer user namespace; there bubblewrap enters the
 * PID namespace and loads the seccomp filter, which holds for all that follows; then come its mounts and the inner user namespace
 * (enter.sh), where a shell reads the command. So no process without the filter is ever one that the sandbox's own could get hold of: until the inner
 * namespace it belongs to the outer one. The command's own environment reaches only that last shell: an LD_PRELOAD among it
 * must not act while privileges are left. The namespaces are opened before the process is looked at once more, so that
 * they are the sandbox's also when its pid becomes another process's in that moment.
 * @returns undefined when the sandbox has died, or was made by a release that this one can't enter.
 */
export async function enter(record: SandboxRecord, folder: string, tools: Tools | undefined, command: ShellCommand): Promise<Entered | undefined> {
  const { meta, init } = record
  if (init === undefined) return undefined
  if (meta.isolation === 'none') {
    if (!(await isAlive(init))) return undefined
    const home = join(folder, 'home')
    const env = { ...baseEnvironment(home, dirname(process.execPath)), TMPDIR: join(folder, 'tmp'), SWITCHYARD_SANDBOX: meta.id }
    const input = commandText(command, { maxFileMiB: meta.maxFileMiB, newSession: false, mark: markOf(meta.id) })
    return { invocation: { file: '/bin/sh', args: [], env, cwd: home, input }, close: async () => undefined }
  }
  if (tools === undefined) throw new Error('bubblewrap worked when this sandbox was made, and does not now')
  if (meta.shape !== shape) return undefined
  const filtered = meta.filtered
  const opened: FileHandle[] = []
  const close = async () => {
    await Promise.all(opened.map((handle) => handle.close()))
  }
  try {
    for (const kind of namespaceFiles) opened.push(await open(`/proc/${init.pid}/ns/${kind}`))
    // A place is kept, so that the network's descriptor is the same with and without.
    opened.push(await open(filtered ? join(folder, filterFile) : '/dev/null'))
    if (meta.network !== 'shared') opened.push(await open(`/proc/${init.pid}/ns/net`))
  } catch (error) {
    await close()
    if (!(await isAlive(init))) return undefined
    throw error
  }
  if (!(await isAlive(init))) {
    await close()
    return undefined
  }
  const inside = [
    ...(meta.cpus === null || tools.taskset === undefined ? [] : [tools.taskset, '--cpu-list', meta.cpus]),
    tools.nsenter,
    ...['user', 'ipc', 'uts'].map((kind) => `--${kind}=${at(descriptorOf(kind as 'user'))}`),
    ...(meta.network === 'shared' ? [] : [`--net=${at(networkDescriptor)}`]),
    '--preserve-credentials', '--',
    tools.bwrap, '--pidns', String(descriptorOf('pid')), ...(filtered ? ['--seccomp', String(filterDescriptor)] : []),
    // Only for the programs that go on from here.
    ...(await programMounts()), '--dev-bind', '/proc', '/proc', '--chdir', '/', '--',
    tools.nsenter, `--mount=${at(descriptorOf('mnt'))}`, '--',
    ...['/bin/sh', '-c', scripts.enter, 'enter', String(meta.maxProcesses), String(meta.maxOpenFiles), '/bin/sh'],
  ]
  const delegation = delegationOf(meta, tools)
  const outside = [
    ...(meta.cgroups.length === 0 ? [] : ['/bin/sh', '-c', joinCgroups, 'join-cgroups', meta.cgroups.join('\n')]),
    ...(meta.user === null || typeof tools.staging !== 'object' ? inside : asUser(tools.staging, meta.user, inside)),
  ]
  const [file = '', ...args] = delegation === undefined ? outside : scopeCommand(delegation.by, delegation.slice, outside)
  const home = '/home/user'
  const placed: ShellCommand = { ...command, cwd: command.cwd ?? home }
  return {
    invocation: {
      file,
      args,
      env: { ...baseEnvironment(home, (await nodeFolder())?.bin), ...delegation?.by.environment },
      cwd: '/',
      input: commandText(placed, { maxFileMiB: meta.maxFileMiB, newSession: true }),
      descriptors: opened.map(({ fd }) => fd),
      // bubblewrap and the process that it waits by stand before the command's shell.
      depth: 2,
    },
    close,
  }
}

/** Nothing of the consumer's environment. */
function baseEnvironment(home: string, nodeBin: string | undefined): Record<string, string> {
  const path = nodeBin === undefined || systemPath.split(':').includes(nodeBin) ? systemPath : `${systemPath}:${nodeBin}`
  return { PATH: path, HOME: home, LANG: 'C.UTF-8', USER: 'user', LOGNAME: 'user', SHELL: '/bin/sh' }
}
