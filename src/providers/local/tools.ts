import { spawn, type ChildProcessByStdio } from 'node:child_process'
import { constants } from 'node:fs'
import { access, lstat } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import type { Readable } from 'node:stream'
import { errorMessage } from '../../job/errors.js'
import { started } from '../../job/started.js'
import { namespaces, systemMounts, systemPath } from './bubblewrap.js'
import { managerEnvironment, probeCommand, scopeProperties, type Delegation } from './delegation.js'
import { canLimit } from './limits.js'
import { metadataAddresses, pastaArguments, slirpArguments, slirpDevice } from './network.js'
import { scripts } from './scripts.js'
import { isShortage, shortageIn, unlessShort } from './shortage.js'
import { firstUser, type Staging, stagedCommand } from './staging.js'

/** What bubblewrap mode runs, as absolute paths of this machine. */
export interface Tools {
  readonly bwrap: string
  readonly nsenter: string
  readonly taskset: string | undefined
  /** How a root consumer's sandboxes become an unprivileged user's; undefined where they are this user's own, or why root can't do so. */
  readonly staging: Staging | undefined | string
  /** What gives a sandbox a network without the host's loopback, or why nothing does. */
  readonly pasta: { readonly program: string } | string
  /** What does so where pasta does not, for sandboxes without ports of that loopback; or why it does not. Looked for only then. */
  readonly slirp: { readonly program: string } | string
  /** What takes a sandbox's way to this cloud's metadata away, or why nothing does. */
  readonly ip: { readonly program: string } | string
  /** How an ordinary user's sandboxes are limited by that user's systemd, or why they are not; see delegation.ts. */
  readonly delegation: Delegation | string
}

/** Busybox's nsenter goes by the same name and can't keep credentials. */
const probeScript = `
  nsenter --version 2>/dev/null | grep -q util-linux && [ -x /usr/bin/setsid ] || exit 43
  exec unshare --user --map-user=1000 --map-group=1000 -- /bin/sh -c 'exit 42'
`

/**
 * Looks for the tools and tries once whether this kernel lets this user make such namespaces.
 * @returns the tools, or why not, as a sentence that says how to mend it.
 * @throws Error where that can't be found out at present.
 */
export async function probeTools(): Promise<Tools | string> {
  if (process.platform !== 'linux') return 'there is no bubblewrap on this system'
  const programs = ['bwrap', 'nsenter', 'unshare', 'taskset', 'setpriv', 'pasta', 'slirp4netns', 'ip', 'systemd-run', 'systemctl']
  const [bwrap, nsenter, unshare, taskset, setpriv, pastaProgram, slirpProgram, ipProgram, systemdRun, systemctl] = await Promise.all(programs.map(findProgram))
  if (bwrap === undefined) return 'bwrap is not on PATH; install the package bubblewrap'
  if (nsenter === undefined || unshare === undefined) return 'nsenter or unshare is not on PATH; install the package util-linux'
  const command = [bwrap, ...namespaces('shared'), ...(await systemMounts()), '--', '/bin/sh', '-c', probeScript]
  let staging: Staging | undefined | string
  if (process.getuid?.() === 0) {
    staging = await stagingOf(unshare, setpriv)
    if (typeof staging !== 'string') {
      const tried = await outcomeOf(stagedCommand(staging, firstUser, '/dev/null', command))
      if (tried.code === 'SIGKILL') throw tooSlow()
      if (tried.code !== 42) staging = `root may not mount or change its user here (${describe(tried)})`
    }
  }
  if (staging === undefined || typeof staging === 'string') {
    const tried = await outcomeOf(command)
    if (tried.code === 43) return "nsenter and setsid are not util-linux's; install the package util-linux"
    if (tried.code === 'SIGKILL') throw tooSlow()
    if (tried.code !== 42) return `bubblewrap does not work here (${describe(tried)}); allow unprivileged user namespaces, or run outside of a container`
  }
  const pasta = await probePasta(pastaProgram, staging)
  const slirp = typeof pasta === 'object' ? 'pasta is there' : await probeSlirp(slirpProgram, unshare, staging)
  return { bwrap, nsenter, taskset, staging, pasta, slirp, ip: await probeIp(ipProgram, unshare), delegation: await probeDelegation(systemdRun, systemctl) }
}

/** It waits for nothing by itself: it was ended for its time, or by the kernel for memory. */
function tooSlow(): Error {
  return Object.assign(new Error('bubblewrap did not come to an end here within 20 s; this machine has too little left'), { code: 'EAGAIN' })
}

async function probePasta(program: string | undefined, staging: Staging | undefined | string): Promise<Tools['pasta']> {
  if (program === undefined) return 'pasta is not on PATH; install the package passt'
  const command = [program, ...pastaArguments([]), '--', '/bin/true']
  const tried = await outcomeOf(typeof staging === 'object' ? stagedCommand(staging, firstUser, '/dev/null', command) : command)
  return tried.code === 0 ? { program } : `pasta does not work here (${describe(tried)}); it needs /dev/net/tun and a route to the outside`
}

async function probeIp(program: string | undefined, unshare: string): Promise<Tools['ip']> {
  if (program === undefined) return 'ip is not on PATH; install the package iproute2'
  const tried = await outcomeOf([unshare, '--user', '--map-root-user', '--net', '--', program, 'route', 'add', 'unreachable', metadataAddresses.IPv4[0]])
  return tried.code === 0 ? { program } : `ip can add no route here (${describe(tried)})`
}

async function probeDelegation(systemdRun: string | undefined, systemctl: string | undefined): Promise<Tools['delegation']> {
  if (await canLimit()) return 'this user makes cgroups itself'
  if (systemdRun === undefined || systemctl === undefined) return 'there is no systemd'
  const environment = managerEnvironment(process.env, process.getuid?.())
  if (environment === undefined) return 'this user has no systemd manager of its own; log in by it, or run "loginctl enable-linger"'
  let tried: Outcome | undefined
  for (const scopeProperty of scopeProperties) {
    const delegation = { systemdRun, systemctl, environment, scopeProperty }
    tried = await outcomeOf(probeCommand(delegation), environment)
    if (tried.code === 42) return delegation
    // Its own answer, which no other property would change.
    if (tried.code === 43) break
  }
  if (tried?.code === 43) return 'systemd hands this user’s manager no limits of memory and processes down; have it run with the unified cgroup hierarchy, and set Delegate=memory pids cpu for user@.service'
  return `this user’s systemd manager does not answer (${tried === undefined ? '' : describe(tried)})`
}

/** It joins a network that there is: one of a process that waits. $1: unshare; $2: the device; then slirp4netns and its arguments. */
const slirpScript = `
  unshare=$1 device=$2
  shift 2
  "$unshare" --user --map-root-user --net -- sleep 20 &
  waiting=$! tries=0
  while [ "$(readlink "/proc/$waiting/ns/net")" = "$(readlink /proc/self/ns/net)" ]; do
    kill -0 "$waiting" || exit 1
    sleep 0.02
  done
  "$@" "$waiting" "$device" &
  slirp=$!
  until grep -q "^$device" "/proc/$waiting/net/route"; do
    kill -0 "$slirp" 2>/dev/null || exit 1
    tries=$((tries + 1))
    [ "$tries" -lt 250 ] || exit 1
    sleep 0.02
  done
`

async function probeSlirp(program: string | undefined, unshare: string, staging: Staging | undefined | string): Promise<Tools['slirp']> {
  if (program === undefined) return 'slirp4netns is not on PATH'
  const command = ['/bin/sh', '-c', slirpScript, 'slirp', unshare, slirpDevice, program, ...slirpArguments]
  const tried = await outcomeOf(typeof staging === 'object' ? stagedCommand(staging, firstUser, '/dev/null', command) : command)
  return tried.code === 0 ? { program } : `slirp4netns does not work here (${describe(tried)})`
}

async function stagingOf(unshare: string, setpriv: string | undefined): Promise<Staging | string> {
  if (setpriv === undefined) return 'setpriv is not on PATH; install the package util-linux'
  for (const target of ['/mnt', '/media', '/srv']) {
    if ((await lstat(target).catch(unlessShort(undefined)))?.isDirectory() === true) return { unshare, setpriv, target, script: scripts.stage }
  }
  return 'there is no /mnt'
}

interface Outcome {
  readonly code: unknown
  readonly said: string
}

/**
 * Whatever it leaves is killed: a pasta that may not open its device dies without the child that waits for it, which would keep its pipes open.
 * @throws Error where nothing could be tried, for want of processes, memory or descriptors: that would be no answer for as long as this process lives.
 */
async function outcomeOf([file = '', ...args]: readonly string[], environment: Readonly<Record<string, string>> = {}): Promise<Outcome> {
  let child
  try {
    child = await started(spawn(file, args, { detached: true, stdio: ['ignore', 'ignore', 'pipe'], env: { PATH: systemPath, ...environment }, cwd: '/' }))
  } catch (error) {
    if (isShortage(error)) throw error
    return { code: (error as NodeJS.ErrnoException).code, said: errorMessage(error) }
  }
  const outcome = await outcomeOfStarted(child)
  const shortage = outcome.code === 0 ? undefined : shortageIn(file, outcome.said)
  if (shortage !== undefined) throw shortage
  return outcome
}

function outcomeOfStarted(child: ChildProcessByStdio<null, null, Readable>): Promise<Outcome> {
  return new Promise((ended) => {
    let said = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text))
    const killAll = () => {
      try {
        if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL')
      } catch {
        // All of them have ended.
      }
    }
    const tooLong = setTimeout(killAll, 20_000)
    child.once('exit', (code, signal) => {
      clearTimeout(tooLong)
      killAll()
      const tell = () => ended({ code: code ?? signal, said: said.trim() })
      const waited = setTimeout(tell, 1_000)
      child.once('close', () => {
        clearTimeout(waited)
        tell()
      })
    })
  })
}

function describe({ code, said }: Outcome): string {
  return said === '' ? `exit code ${String(code)}` : (said.split('\n').at(-1) ?? said)
}

async function findProgram(name: string): Promise<string | undefined> {
  for (const folder of (process.env['PATH'] ?? systemPath).split(delimiter)) {
    const file = join(folder, name)
    if (folder.startsWith('/') && (await access(file, constants.X_OK).then(() => true, unlessShort(false)))) return file
  }
  return undefined
}
