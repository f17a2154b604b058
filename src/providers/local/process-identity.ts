import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { scripts } from './scripts.js'
import { isShortage } from './shortage.js'

/**
 * "pid start-time", as holder.sh writes it. Start times are counted from the boot, so a file that survived a reboot
 * may in theory name a process of today; the chance is one tick in the same pid.
 */
export interface ProcessIdentity {
  readonly pid: number
  readonly startTime: string
}

/** @returns undefined when the text is not what holder.sh writes. */
export function parseIdentity(text: string): ProcessIdentity | undefined {
  const match = /^(\d+) (\S.*)\n?$/.exec(text)
  return match?.[1] === undefined || match[2] === undefined ? undefined : { pid: Number(match[1]), startTime: match[2] }
}

/**
 * The identity of a live process; undefined when there is none, or only its zombie.
 * @param proc where the process file system is mounted.
 * @throws Error when it can't be found out: one that has no descriptor left to look by must not take what runs for dead.
 */
export async function identify(pid: number, proc = '/proc'): Promise<ProcessIdentity | undefined> {
  if (process.platform !== 'linux') return identifyByPs(pid)
  const stat = await readFile(join(proc, String(pid), 'stat'), 'utf8').catch((error: unknown) => {
    // The second is said of one that ends between the opening and the reading.
    if (!['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error
    return ''
  })
  // The command's name is in parentheses and may hold anything; the fields after it are the third and on.
  const fields = stat.slice(stat.lastIndexOf(') ') + 2).split(' ')
  const startTime = fields[19]
  return startTime === undefined || /^[ZX]/.test(fields[0] ?? '') ? undefined : { pid, startTime }
}

async function identifyByPs(pid: number): Promise<ProcessIdentity | undefined> {
  const listed = await promisify(execFile)('ps', ['-o', 'stat=,lstart=', '-p', String(pid)], { env: { ...process.env, LC_ALL: 'C' } }).catch((error: unknown) => {
    // It ended and found none; without a number it did not run.
    if (typeof (error as { code?: unknown }).code !== 'number') throw error
    return { stdout: '' }
  })
  const [state, ...started] = listed.stdout.trim().split(/\s+/)
  return state === undefined || state === '' || state.startsWith('Z') ? undefined : { pid, startTime: started.join(' ') }
}

export async function isAlive(identity: ProcessIdentity): Promise<boolean> {
  return (await identify(identity.pid))?.startTime === identity.startTime
}

/** Kills a process, or with `group` its whole group, unless the pid is another process by now. */
export async function killProcess(identity: ProcessIdentity, what: 'process' | 'group'): Promise<void> {
  if (!(await isAlive(identity))) return
  try {
    process.kill(what === 'group' ? -identity.pid : identity.pid, 'SIGKILL')
  } catch (error) {
    // It ended between the look and the signal.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

/**
 * Kills the process of a call and its descendants, as far as their parents still live. A descendant that has made a session of its own
 * is meant to outlive the call, as a step's supervisor is: it is left alone, with all below it. Only the call's own shell has one too.
 * @param depth how many processes stand before that shell, `pid` among them.
 * @throws Error when some could not be looked for.
 */
export function killTree(pid: number, depth: number): void {
  const tree = [pid]
  const depths = new Map([[pid, 0]])
  let unseen: Error | undefined
  try {
    for (const parent of tree) {
      const below = (depths.get(parent) ?? 0) + 1
      for (const child of childrenOf(parent).filter((each) => below <= depth || !leadsSession(each))) {
        depths.set(child, below)
        tree.push(child)
      }
    }
  } catch (error) {
    // What was found is killed all the same.
    unseen = new Error('some processes of a command could not be looked for', { cause: error })
  }
  // The group first: where there is no /proc, it is all that there is.
  for (const target of [-pid, ...tree]) {
    try {
      process.kill(target, 'SIGKILL')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
    }
  }
  if (unseen !== undefined) throw unseen
}

function leadsSession(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    // After the name in parentheses: state, parent, group, session.
    return stat.slice(stat.lastIndexOf(') ') + 2).split(' ')[3] === String(pid)
  } catch (error) {
    if (isShortage(error)) throw error
    // It has ended.
    return true
  }
}

function childrenOf(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter((text) => text !== '').map(Number)
  } catch (error) {
    if (isShortage(error)) throw error
    // It has ended, or there is no /proc.
    return []
  }
}

/**
 * A number by which the processes of a sandbox without namespaces are known besides their environment, which they can lose: their limit
 * of file locks, which Linux has not looked at since 2.4 and every process inherits.
 */
export function markOf(sandboxId: string): number {
  return Number.parseInt(sandboxId.slice(-12), 16)
}

/** Kills every process that bears the id or the mark of a sandbox without namespaces. @throws when some are left. */
export async function runKillMarked(id: string): Promise<void> {
  await promisify(execFile)('/bin/sh', ['-c', scripts.killMarked, 'kill-marked', id, String(markOf(id))]).catch((error: unknown) => {
    throw new Error(`processes of sandbox ${id} are left`, { cause: error })
  })
}
