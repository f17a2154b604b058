import { type FileHandle, open } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { ShellCommand } from '../provider.js'
import { nodeFolder, systemPath, type Tools } from './bubblewrap.js'
import { commandText, type Invocation } from './command.js'
import { isAlive } from './process-identity.js'
import { scripts } from './scripts.js'
import type { SandboxRecord } from './state.js'

const namespaceFiles = ['user', 'mnt', 'pid', 'ipc', 'uts'] as const
const nsenterOptions = { user: '--user', mnt: '--mount', pid: '--pid', ipc: '--ipc', uts: '--uts', net: '--net' }

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
 * With namespaces: nsenter goes into the outer user namespace with the others (enter.sh), from there into the inner one,
 * where a shell reads the command. The command's own environment reaches only that last shell: an LD_PRELOAD among it
 * must not act while privileges are left. The namespaces are opened before the process is looked at once more, so that
 * they are the sandbox's also when its pid becomes another process's in that moment.
 * @returns undefined when the sandbox has died.
 */
export async function enter(record: SandboxRecord, folder: string, tools: Tools | undefined, command: ShellCommand): Promise<Entered | undefined> {
  const { meta, init } = record
  if (init === undefined) return undefined
  if (meta.isolation === 'none') {
    if (!(await isAlive(init))) return undefined
    const home = join(folder, 'home')
    const env = { ...baseEnvironment(home, dirname(process.execPath)), TMPDIR: join(folder, 'tmp'), SWITCHYARD_SANDBOX: meta.id }
    const input = commandText(command, { maxFileMiB: meta.maxFileMiB, newSession: false })
    return { invocation: { file: '/bin/sh', args: [], env, cwd: home, input }, close: async () => undefined }
  }
  if (tools === undefined) throw new Error('bubblewrap worked when this sandbox was made, and does not now')
  const kinds = meta.network === 'none' ? ([...namespaceFiles, 'net'] as const) : namespaceFiles
  const opened: FileHandle[] = []
  const close = async () => {
    await Promise.all(opened.map((handle) => handle.close()))
  }
  try {
    for (const kind of kinds) opened.push(await open(`/proc/${init.pid}/ns/${kind}`))
  } catch (error) {
    await close()
    if (!(await isAlive(init))) return undefined
    throw error
  }
  if (!(await isAlive(init))) {
    await close()
    return undefined
  }
  const chain = [
    ...(meta.cgroups.length === 0 ? [] : ['/bin/sh', '-c', joinCgroups, 'join-cgroups', meta.cgroups.join('\n')]),
    ...(meta.cpus === null || tools.taskset === undefined ? [] : [tools.taskset, '--cpu-list', meta.cpus]),
    tools.nsenter,
    ...kinds.map((kind, index) => `${nsenterOptions[kind]}=/proc/self/fd/${3 + index}`),
    '--preserve-credentials',
    '--',
    ...['/bin/sh', '-c', scripts.enter, 'enter', String(meta.maxProcesses), '/bin/sh'],
  ]
  const [file = '', ...args] = chain
  const home = '/home/user'
  const at: ShellCommand = { ...command, cwd: command.cwd ?? home }
  return {
    invocation: {
      file,
      args,
      env: baseEnvironment(home, (await nodeFolder())?.bin),
      cwd: '/',
      input: commandText(at, { maxFileMiB: meta.maxFileMiB, newSession: true }),
      descriptors: opened.map(({ fd }) => fd),
    },
    close,
  }
}

/** Nothing of the consumer's environment. */
function baseEnvironment(home: string, nodeBin: string | undefined): Record<string, string> {
  const path = nodeBin === undefined || systemPath.split(':').includes(nodeBin) ? systemPath : `${systemPath}:${nodeBin}`
  return { PATH: path, HOME: home, LANG: 'C.UTF-8', USER: 'user', LOGNAME: 'user', SHELL: '/bin/sh' }
}
