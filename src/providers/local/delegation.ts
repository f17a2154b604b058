import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { quoted } from './command.js'

/**
 * An ordinary user's limits by systemd, which hands a part of the cgroups down to each user's manager. A sandbox is a slice of that manager's,
 * whose limits hold for all that runs in it: the holder and each command start as a scope in the slice (`systemd-run --user --scope`), which
 * becomes them, so that processes, descriptors and exit codes are the same as without.
 */
export interface Delegation {
  readonly systemdRun: string
  readonly systemctl: string
  /** Where the user's manager listens. */
  readonly environment: Readonly<Record<string, string>>
  /** See `scopeProperties`. */
  readonly scopeProperty: string
}

/**
 * What keeps a manager from ending all of a scope, a step with what waits for its end, when the kernel kills one process that is over the limit: the first
 * that it takes. Scopes have the policy since systemd 253; before that, its end is nothing that it signals anybody for.
 */
export const scopeProperties = ['OOMPolicy=continue', 'KillMode=none'] as const

export interface LimitRequest {
  readonly cpu: number | undefined
  readonly memoryMiB: number | undefined
  readonly maxProcesses: number
}

/** How the user's manager is reached; undefined where there is none. */
export function managerEnvironment(environment: Readonly<Record<string, string | undefined>>, uid: number | undefined): Record<string, string> | undefined {
  const folder = environment['XDG_RUNTIME_DIR'] ?? (uid === undefined ? undefined : `/run/user/${uid}`)
  if (folder === undefined || !existsSync(folder)) return undefined
  const bus = environment['DBUS_SESSION_BUS_ADDRESS']
  return { XDG_RUNTIME_DIR: folder, ...(bus === undefined ? {} : { DBUS_SESSION_BUS_ADDRESS: bus }) }
}

/** Exits with 42 in a scope whose limits bind; with 43 where the manager was not given these controllers. */
const probeScript = `
  IFS=: read -r _ _ path </proc/self/cgroup
  for controller in memory pids; do grep -qw "$controller" "/sys/fs/cgroup$path/cgroup.controllers" 2>/dev/null || exit 43; done
  exit 42
`

/** Tries whether limits of a slice bind here. */
export function probeCommand(delegation: Delegation): string[] {
  return scopeCommand(delegation, 'switchyard-probe.slice', ['/bin/sh', '-c', probeScript])
}

/** The name of a sandbox's slice: of all providers of this user's one. */
export function sliceOf(provider: string, sandboxId: string): string {
  return `switchyard-${createHash('sha256').update(`${provider}\n${sandboxId}`).digest('hex').slice(0, 24)}.slice`
}

/** @returns the command in a scope of the slice. What it takes to reach the manager is not for the command. */
export function scopeCommand({ systemdRun, environment, scopeProperty }: Delegation, slice: string, command: readonly string[]): string[] {
  const own = ['INVOCATION_ID', ...Object.keys(environment)].flatMap((name) => ['-u', name])
  return [systemdRun, '--user', '--scope', '--quiet', '--collect', `--slice=${slice}`, `--property=${scopeProperty}`, '--', '/usr/bin/env', ...own, ...command]
}

/** Sets a sandbox's limits before anything runs in it. They are gone with the manager, or by `endSlice`. @throws Error with what systemctl said. */
export async function limitSlice(delegation: Delegation, slice: string, { cpu, memoryMiB, maxProcesses }: LimitRequest): Promise<void> {
  await systemctl(delegation, [
    'set-property', '--runtime', slice,
    // The first process and those that lead commands in.
    `TasksMax=${maxProcesses + 16}`,
    // Nothing that is over the limit is to be found on the disk.
    ...(memoryMiB === undefined ? [] : [`MemoryMax=${memoryMiB * 1024 * 1024}`, 'MemorySwapMax=0']),
    ...(cpu === undefined ? [] : [`CPUQuota=${Math.max(1, Math.round(cpu * 100))}%`]),
  ])
}

/** Ends whatever is left in a slice, and forgets its limits. @throws Error with what systemctl said. */
export async function endSlice(delegation: Delegation, slice: string): Promise<void> {
  // A stop may signal nobody, see `scopeProperties`.
  await systemctl(delegation, ['kill', '--signal=KILL', slice]).catch(unlessUnknown)
  await systemctl(delegation, ['stop', slice]).catch(unlessUnknown)
  await systemctl(delegation, ['revert', slice]).catch(unlessUnknown)
}

/** The shell text by which the holder, which is in the slice, does the same when its sandbox has ended without a consumer. */
export function endScript({ systemctl: file, environment }: Delegation, slice: string): string {
  const words = (more: readonly string[]) => ['/usr/bin/env', ...Object.entries(environment).map(([name, value]) => `${name}=${value}`), file, '--user', '--quiet', '--no-ask-password', ...more, slice].map(quoted).join(' ')
  return `${words(['revert'])}\n${words(['--no-block', 'stop'])}\n`
}

function unlessUnknown(error: unknown): void {
  if (!(error instanceof Error) || !/not loaded|not found|does not exist|No files/i.test(error.message)) throw error
}

function systemctl({ systemctl: file, environment }: Delegation, args: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    execFile(file, ['--user', '--quiet', '--no-ask-password', ...args], { env: { PATH: '/usr/bin:/bin', ...environment }, timeout: 20_000 }, (error, _stdout, stderr) => {
      if (error === null) resolve()
      else reject(new Error(`systemctl --user ${args[0] ?? ''}: ${stderr.trim() === '' ? error.message : stderr.trim()}`))
    })
  })
}
