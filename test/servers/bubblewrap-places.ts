/**
 * Places with a home (/home/user, or /root for root), a /home and a /tmp of their own, and the rest of this machine read-only, by bubblewrap.
 *
 * Each command is a bwrap of its own over the same folders, in one user and one PID namespace for all of a place's: a command sees
 * and signals what an earlier one left running, and nothing of this machine. The demo uses these places; they are thinner walls than the local provider's, since
 * the rest of this machine's files and its network are in sight.
 */
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { randomUUID } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { promisify } from 'node:util'
import { procMounts } from '../../src/providers/local/bubblewrap.js'
import { canFilter, seccompProgram } from '../../src/providers/local/seccomp.js'
import { scripts } from '../../src/providers/local/scripts.js'
import { killMarked, plainPlaces, type OpenPlace } from './sandbox-host.js'

const run = promisify(execFile)

const accounts = 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/bash\n'

/** Who commands run as, in their own view. */
export interface Account {
  readonly name: 'user' | 'root'
  readonly id: number
  readonly home: string
}
export const user: Account = { name: 'user', id: 1000, home: '/home/user' }
export const root: Account = { name: 'root', id: 0, home: '/root' }
/** As the local provider makes them: an outer user namespace, which owns the PID namespace, and an inner one for those that are no root. */
const namespaces = ['--unshare-user', '--uid', '0', '--gid', '0', '--unshare-pid', '--as-pid-1', '--die-with-parent', '--cap-add', 'CAP_SETFCAP']

/** Places by bubblewrap where this machine lets it work, else plain ones. */
export async function bestPlaces(account?: Account): Promise<OpenPlace> {
  return (await bubblewrapWorks()) ? bubblewrapPlaces(account) : plainPlaces()
}

let probe: Promise<boolean> | undefined

/** Whether this process may mount a disk for each sandbox. */
export async function mountsWork(): Promise<boolean> {
  const folder = await mkdtemp(join(tmpdir(), 'switchyard-mount-'))
  const mounted = await run('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', folder]).then(() => true, () => false)
  if (mounted) await run('umount', [folder])
  await rm(folder, { recursive: true })
  return mounted
}

export function bubblewrapWorks(): Promise<boolean> {
  probe ??= holdNamespaces().then(
    ({ end }) => {
      end()
      return true
    },
    () => false,
  )
  return probe
}

/** $0 is a holder's folder in /proc, $1 a seccomp program; the rest of the arguments is the command. */
const within = 'filter=$1; shift; exec "$@" 5<"$0/ns/user" 6<"$0/ns/pid" 7<"$0/fd/5" 8<"$filter"'

interface Holder {
  /** What a command line begins with to run in its namespaces. */
  readonly enter: (account: Account, filter: string | undefined) => readonly string[]
  readonly end: () => void
}

/** Starts the first process of a place, the local provider's own. @throws Error where this machine does not let it. */
async function holdNamespaces(): Promise<Holder> {
  const child = spawn('bwrap', [...namespaces, '--info-fd', '3', '--ro-bind', '/', '/', '--dev', '/dev', '--proc', '/proc', '--tmpfs', '/tmp', '--', '/bin/sh', '-c', scripts.init, 'init', '0', '4'], {
    cwd: '/',
    env: { PATH: process.env.PATH },
    stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'],
  })
  const [info, up] = [child.stdio[3] as Readable, child.stdio[4] as Readable]
  let told = ''
  info.on('data', (piece: Buffer) => (told += piece.toString()))
  await Promise.race([once(up, 'data'), once(child, 'close').then(() => Promise.reject(new Error('bubblewrap does not work here')))])
  const first = /"child-pid": *(\d+)/.exec(told)?.[1] ?? ''
  for (const stream of [info, up]) stream.destroy()
  child.unref()
  return {
    enter: ({ id }, filter) => ['-c', within, `/proc/${first}`, filter ?? '/dev/null', 'bwrap', ...(filter === undefined ? [] : ['--seccomp', '8']), '--userns', '5', ...(id === 0 ? [] : ['--userns2', '7']), '--pidns', '6'],
    end: () => child.kill('SIGKILL'),
  }
}

/**
 * @param view what else bwrap is told: how an image differs from this machine.
 * @param diskMiB how large the disk of each is that its home and /tmp are on; that of this machine when left out. Takes the right to mount one.
 */
export function bubblewrapPlaces(account: Account = user, view: readonly string[] = [], diskMiB?: number): OpenPlace {
  return async (_id, network) => {
    const folder = await mkdtemp(join(tmpdir(), 'switchyard-hosted-'))
    if (diskMiB !== undefined) await run('mount', ['-t', 'tmpfs', '-o', `size=${diskMiB}m`, 'tmpfs', folder])
    const [homes, home, tmp, passwd] = [join(folder, 'homes'), join(folder, 'home'), join(folder, 'tmp'), join(folder, 'passwd')]
    await Promise.all([mkdir(homes), mkdir(home), mkdir(tmp), writeFile(passwd, accounts)])
    const mark = `SWITCHYARD_HOSTED=${randomUUID()}`
    const holder = await holdNamespaces()
    const filter = canFilter(process.arch) ? join(folder, 'filter') : undefined
    if (filter !== undefined && canFilter(process.arch)) await writeFile(filter, seccompProgram(process.arch, { nestedNamespaces: false, unixSockets: true, uncountedMemory: true }))
    const all = [
      ...holder.enter(account, filter),
      ...(network === 'none' ? ['--unshare-net'] : []),
      ...['--ro-bind', '/', '/', '--dev', '/dev', ...(await procMounts()), '--bind', passwd, '/etc/passwd', '--bind', homes, '/home', '--bind', home, account.home, '--bind', tmp, '/tmp'],
      // What this machine's login shells do is not a sandbox's business.
      ...(existsSync('/etc/profile.d') ? ['--tmpfs', '/etc/profile.d'] : []),
      ...view,
      '--die-with-parent',
    ]
    return {
      home: account.home,
      enter: (command) => ({
        file: '/bin/sh',
        args: [...all, '--chdir', command.cwd ?? account.home, '--', command.file, ...command.args],
        cwd: '/',
        env: {
          PATH: process.env.PATH ?? '/usr/local/bin:/usr/bin:/bin',
          HOME: account.home,
          USER: account.name,
          ...command.env,
          SWITCHYARD_HOSTED: mark.slice(mark.indexOf('=') + 1),
        },
      }),
      // bwrap, and the process by which it is in the PID namespace, stand before the command.
      leaderOf: (pid) => childOf(childOf(pid) ?? pid) ?? pid,
      accounts: async () => new Set((await readFile(passwd, 'utf8')).split('\n').flatMap((line) => line.split(':').slice(0, 1)).filter((name) => name !== '')),
      close: async () => {
        holder.end()
        await killMarked(mark)
        if (diskMiB !== undefined) await run('umount', ['--lazy', folder])
        await rm(folder, { recursive: true, force: true, maxRetries: 3 })
      },
    }
  }
}

/** The one child of a process that stands before the command. One that was killed before the two know each other would leave it behind. */
function childOf(pid: number): number | undefined {
  try {
    const [child] = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ')
    return child === undefined || child === '' ? undefined : Number(child)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}
