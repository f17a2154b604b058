/**
 * Places with a home (/home/user, or /root for root), a /home and a /tmp of their own, and the rest of this machine read-only, by bubblewrap.
 *
 * Each command is a bwrap of its own over the same folders. Process ids are this machine's, so that a command can
 * signal what an earlier one left running. That is a view and no wall: the commands of tests are trusted.
 */
import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
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
const identity = ({ id }: Account): string[] => ['--unshare-user', '--uid', String(id), '--gid', String(id)]

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
  probe ??= run('bwrap', [...identity(user), '--ro-bind', '/', '/', '--dev', '/dev', '--', '/bin/true'], { timeout: 20_000 }).then(
    () => true,
    () => false,
  )
  return probe
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
    const all = [
      ...identity(account),
      ...(network === 'none' ? ['--unshare-net'] : []),
      ...['--ro-bind', '/', '/', '--dev', '/dev', '--bind', passwd, '/etc/passwd', '--bind', homes, '/home', '--bind', home, account.home, '--bind', tmp, '/tmp'],
      // What this machine's login shells do is not a sandbox's business.
      ...(existsSync('/etc/profile.d') ? ['--tmpfs', '/etc/profile.d'] : []),
      ...view,
      '--die-with-parent',
    ]
    return {
      home: account.home,
      enter: (command) => ({
        file: 'bwrap',
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
      leaderOf: (pid) => childOf(pid) ?? pid,
      accounts: async () => new Set((await readFile(passwd, 'utf8')).split('\n').flatMap((line) => line.split(':').slice(0, 1)).filter((name) => name !== '')),
      close: async () => {
        await killMarked(mark)
        if (diskMiB !== undefined) await run('umount', ['--lazy', folder])
        await rm(folder, { recursive: true, force: true, maxRetries: 3 })
      },
    }
  }
}

/** The command is the one child of its bwrap. A bwrap that was killed before the two know each other would leave it behind. */
function childOf(pid: number): number | undefined {
  try {
    const [child] = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ')
    return child === undefined || child === '' ? undefined : Number(child)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}
