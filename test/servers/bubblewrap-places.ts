/**
 * Places with a home (/home/user, or /root for root), a /home and a /tmp of their own, and the rest of this machine read-only, by bubblewrap.
 *
 * Each command is a bwrap of its own over the same folders, in one user, PID and IPC namespace for all of a place's: a command sees
 * and signals what an earlier one left running, and nothing of this machine. Processes and users are walled as the local provider does it, by its own
 * code: under its filter of system calls, without capabilities, at most so many of them, and, where root starts the place, as an unprivileged user of the
 * machine's, each place another. The demo uses these places; in files and network they are thinner than the local provider's, since the rest of this
 * machine's files and, unless it is taken away, its network are in sight.
 *
 * What a command's caller says of its environment is a job's word. It must act on nothing that comes before the walls (LD_PRELOAD, PATH), so it goes
 * there under other names, and the last shell gives them their own.
 */
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { randomInt, randomUUID } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { chown, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { promisify } from 'node:util'
import { deviceMounts, namespaces, procMounts, systemPath } from '../../src/providers/local/bubblewrap.js'
import { localProviderConfigSchema } from '../../src/providers/local/config.js'
import { withoutInherited } from '../../src/providers/local/inherited-descriptors.js'
import { canFilter, seccompProgram } from '../../src/providers/local/seccomp.js'
import { scripts } from '../../src/providers/local/scripts.js'
import { asUser, firstUser, lastUser } from '../../src/providers/local/staging.js'
import { killMarked, plainPlaces, removeFolder, type OpenPlace } from './sandbox-host.js'

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

/** Places by bubblewrap where this machine lets it work, else plain ones. */
export async function bestPlaces(account?: Account): Promise<OpenPlace> {
  return (await bubblewrapWorks()) ? bubblewrapPlaces(account) : plainPlaces()
}

/** What walls such places lack on this machine, one sentence each. */
export async function missingWalls(): Promise<string[]> {
  if (!(await bubblewrapWorks())) return ['bubblewrap does not work here: sandboxes are processes of this user’s, which see all of this machine']
  const problem = await ownUsers()
  return [
    ...(problem === undefined || process.getuid?.() !== 0 ? [] : [`sandboxes’ processes are root’s outside of their namespaces: ${problem}`]),
    ...(canFilter(process.arch) ? [] : [`there is no filter of system calls for ${process.arch}`]),
  ]
}

/** Whether this process may mount a disk for each sandbox. */
export async function mountsWork(): Promise<boolean> {
  const folder = await mkdtemp(join(tmpdir(), 'switchyard-mount-'))
  const mounted = await run('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', folder]).then(() => true, () => false)
  if (mounted) await run('umount', [folder])
  await rm(folder, { recursive: true, maxRetries: 10 })
  return mounted
}

let probe: Promise<boolean> | undefined
export function bubblewrapWorks(): Promise<boolean> {
  probe ??= holds(undefined).then((problem) => problem === undefined)
  return probe
}

let ownUsersProbe: Promise<string | undefined> | undefined
/** Why places can't be users of their own on this machine; undefined where they are. */
function ownUsers(): Promise<string | undefined> {
  ownUsersProbe ??= (async () => {
    if (process.getuid?.() !== 0) return 'only root can change users'
    // What sandboxes are to find there whoever they are, the folders of their files among it.
    const [file = '', ...args] = asUser(setpriv, firstUser, ['/bin/sh', '-c', 'for path; do [ -x "$path" ] || { echo "$path is closed to other users" >&2; exit 1; }; done', 'sh', process.execPath, tmpdir()])
    const problem = await run(file, args).then(() => undefined, (error: unknown) => (error as { stderr?: string }).stderr?.trim() ?? 'setpriv does not work')
    return problem ?? (await holds(firstUser))
  })()
  return ownUsersProbe
}

async function holds(uid: number | undefined): Promise<string | undefined> {
  try {
    ;(await holdNamespaces(uid, 'open')).end()
    return undefined
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}

const setpriv = { unshare: 'unshare', setpriv: 'setpriv', target: '', script: '' }

let lastGiven = randomInt(firstUser, lastUser + 1)
function nextUser(): number {
  lastGiven = lastGiven === lastUser ? firstUser : lastGiven + 1
  return lastGiven
}

/**
 * Runs on the machine, as the place's user. $0 is a holder's folder in /proc, $1 how many processes there may be, $2 a seccomp program; the rest
 * is the command.
 */
const within = `{ ulimit -u "$1" || ulimit -p "$1"; ulimit -c 0; } 2>/dev/null
filter=$2; shift 2
exec "$@" 3<"$0/ns/uts" 4<"$0/ns/net" 5<"$0/ns/user" 6<"$0/ns/pid" 7<"$0/fd/5" 8<"$filter" 9<"$0/ns/ipc"`

/** Runs within the walls: gives the variables that are named up to "--" their own names, and goes on as the rest. */
const unpack = String.raw`while [ "$1" != -- ]; do eval "export $1=\"\$$0_$1\""; unset "$0_$1"; shift; done; shift; exec "$@" 3<&- 4<&- 5<&- 6<&- 7<&- 8<&- 9<&-`
const packed = 'SWITCHYARD_PACKED'

interface Holder {
  /** What a command line begins with to run in its namespaces. */
  readonly enter: (account: Account, filter: string | undefined, maxProcesses: number) => readonly string[]
  readonly end: () => void
}

/** Starts the first process of a place, the local provider's own. @throws Error where this machine does not let it. */
async function holdNamespaces(uid: number | undefined, network: 'open' | 'none'): Promise<Holder> {
  const held = ['bwrap', ...namespaces(network === 'none' ? 'own' : 'shared'), '--info-fd', '3', '--ro-bind', '/', '/', '--dev', '/dev', '--proc', '/proc', '--tmpfs', '/tmp', '--', '/bin/sh', '-c', scripts.init, 'init', '0', '4']
  const as = (command: readonly string[]) => (uid === undefined ? command : asUser(setpriv, uid, command))
  const [file = '', ...args] = as(held)
  const child = spawn(file, args, { cwd: '/', env: { PATH: process.env.PATH }, stdio: withoutInherited(['ignore', 'ignore', 'pipe', 'pipe', 'pipe']) })
  const [errors, info, up] = [child.stdio[2] as Readable, child.stdio[3] as Readable, child.stdio[4] as Readable]
  let [told, complaint] = ['', '']
  info.on('data', (piece: Buffer) => (told += piece.toString()))
  errors.on('data', (piece: Buffer) => (complaint = `${complaint}${piece.toString()}`.slice(-500)))
  const failed = Promise.race([once(child, 'close'), once(child, 'error')]).then(() => Promise.reject(new Error(`bubblewrap does not work here: ${complaint.trim()}`)))
  await Promise.race([once(up, 'data'), failed])
  failed.catch(() => undefined)
  const first = /"child-pid": *(\d+)/.exec(told)?.[1] ?? ''
  for (const stream of [errors, info, up]) stream.destroy()
  child.unref()
  return {
    enter: ({ id }, filter, maxProcesses) => [
      ...as(['/bin/sh', '-c', within, `/proc/${first}`, String(maxProcesses), filter ?? '/dev/null']),
      ...['nsenter', '--user=/proc/self/fd/5', '--ipc=/proc/self/fd/9', '--uts=/proc/self/fd/3', ...(network === 'none' ? ['--net=/proc/self/fd/4'] : []), '--preserve-credentials', '--'],
      ...['bwrap', ...(filter === undefined ? [] : ['--seccomp', '8']), ...(id === 0 ? [] : ['--userns2', '7']), '--pidns', '6', '--cap-drop', 'ALL'],
    ],
    end: () => child.kill('SIGKILL'),
  }
}

export interface PlaceOptions {
  /** What else bwrap is told: how an image differs from this machine. Given a folder for files of the place's own, which become its user's. */
  readonly view?: readonly string[] | ((folder: string) => Promise<readonly string[]>)
  /** How large the disk of each is that its home and /tmp are on; that of this machine when left out. Takes the right to mount one. */
  readonly diskMiB?: number
  /** The most processes and threads of a place; as at the local provider when left out. */
  readonly maxProcesses?: number
}

export function bubblewrapPlaces(account: Account = user, { view = [], diskMiB, maxProcesses = localProviderConfigSchema.parse({}).maxProcesses }: PlaceOptions = {}): OpenPlace {
  return async (_id, network) => {
    const uid = (await ownUsers()) === undefined ? nextUser() : undefined
    const folder = await mkdtemp(join(tmpdir(), 'switchyard-hosted-'))
    if (diskMiB !== undefined) await run('mount', ['-t', 'tmpfs', '-o', `size=${diskMiB}m,mode=0700`, 'tmpfs', folder])
    const [homes, home, tmp, passwd] = [join(folder, 'homes'), join(folder, 'home'), join(folder, 'tmp'), join(folder, 'passwd')]
    await Promise.all([mkdir(homes), mkdir(home), mkdir(tmp), writeFile(passwd, accounts)])
    const mark = `SWITCHYARD_HOSTED=${randomUUID()}`
    const holder = await holdNamespaces(uid, network)
    const filter = canFilter(process.arch) ? join(folder, 'filter') : undefined
    if (filter !== undefined && canFilter(process.arch)) await writeFile(filter, seccompProgram(process.arch, { nestedNamespaces: false, unixSockets: true, uncountedMemory: true }))
    const image = typeof view === 'function' ? join(folder, 'image') : undefined
    if (image !== undefined) await mkdir(image)
    const differs = typeof view === 'function' ? await view(join(folder, 'image')) : view
    if (uid !== undefined && image !== undefined) await run('chown', ['-R', `${uid}:${uid}`, image])
    if (uid !== undefined) await Promise.all([folder, homes, home, tmp, passwd, ...(filter === undefined ? [] : [filter])].map((path) => chown(path, uid, uid)))
    const [file = '', ...entering] = holder.enter(account, filter, maxProcesses)
    const all = [
      ...entering,
      ...['--ro-bind', '/', '/', ...deviceMounts, ...(await procMounts()), '--bind', passwd, '/etc/passwd', '--bind', homes, '/home', '--bind', home, account.home, '--bind', tmp, '/tmp'],
      // What this machine's login shells do is not a sandbox's business.
      ...(existsSync('/etc/profile.d') ? ['--tmpfs', '/etc/profile.d'] : []),
      ...differs,
      '--die-with-parent',
    ]
    return {
      home: account.home,
      enter: (command) => {
        const given = { PATH: process.env.PATH ?? systemPath, HOME: account.home, USER: account.name, ...command.env }
        // Others no shell passes on.
        const names = Object.keys(given).filter((name) => /^[A-Za-z_]\w*$/.test(name))
        return {
          file,
          args: [...all, '--chdir', command.cwd ?? account.home, '--', '/bin/sh', '-c', unpack, packed, ...names, '--', command.file, ...command.args],
          cwd: '/',
          env: {
            ...Object.fromEntries(names.map((name) => [`${packed}_${name}`, given[name as keyof typeof given]])),
            PATH: process.env.PATH ?? systemPath,
            SWITCHYARD_HOSTED: mark.slice(mark.indexOf('=') + 1),
          },
        }
      },
      // bwrap, and the process by which it is in the PID namespace, stand before the command.
      leaderOf: (pid) => childOf(childOf(pid) ?? pid) ?? pid,
      accounts: async () => new Set((await readFile(passwd, 'utf8')).split('\n').flatMap((line) => line.split(':').slice(0, 1)).filter((name) => name !== '')),
      close: async () => {
        holder.end()
        await killMarked(mark)
        if (diskMiB !== undefined) await run('umount', ['--lazy', folder])
        await removeFolder(folder)
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
