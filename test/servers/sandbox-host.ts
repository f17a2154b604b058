/**
 * The sandboxes behind the servers that speak the providers' wire protocols: they really run the commands.
 *
 * A `SandboxHost` keeps many sandboxes by id, each with a lifetime that expires and `details` of the server's own (its
 * tags, its template). A sandbox lives in a `Place`, which says how a command enters it; see `plainPlaces` for child
 * processes with a temporary home, and ./bubblewrap-places.ts for a home and a /tmp at their usual paths. Whatever ends a
 * sandbox (`killed`, `expired`, `crashed`), every process in it is dead before `destroy` resolves.
 *
 * Ended sandboxes are remembered for a listing that lags (`list(asOfMs)`), the last thousand of them.
 */
import { execFile, spawn, type ChildProcessWithoutNullStreams } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync, readdirSync } from 'node:fs'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { promisify } from 'node:util'
import { withoutInherited } from '../../src/providers/local/inherited-descriptors.js'
import type { ServerState } from './shared-faults.js'

export type EndReason = 'killed' | 'expired' | 'crashed'

export interface HostedCommand {
  readonly file: string
  readonly args: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  /** Absolute as the sandbox sees it; the home when left out. */
  readonly cwd?: string | undefined
  /** Keep the standard input open for `stdin`; otherwise it is empty. */
  readonly stdin?: boolean
}

/** A command that runs in a sandbox. Read both streams, or it blocks on a full pipe, as a real one would. */
export interface HostedProcess {
  /** Unique within the sandbox; it need not be the number that the sandbox itself sees. */
  readonly pid: number
  readonly stdout: Readable
  readonly stderr: Readable
  readonly stdin: Writable | null
  /** After both streams have ended. One of the two is set. */
  readonly ended: Promise<{ readonly exitCode: number | null; readonly signal: NodeJS.Signals | null }>
  /** Signals the command itself, or with `group` everything in its process group. False when it has ended. */
  kill(signal: NodeJS.Signals, group?: boolean): boolean
}

/** Where a sandbox lives. */
export interface Place {
  /** The home as the sandbox sees it. */
  readonly home: string
  /** How to start a command in it: the arguments for `child_process.spawn`. */
  enter(command: HostedCommand): { readonly file: string; readonly args: readonly string[]; readonly env: Record<string, string>; readonly cwd: string | undefined }
  /** The process to signal for one that was started by `enter`, where that is not the command itself but stands before it. */
  leaderOf?(pid: number): number
  /** The users that are in its /etc/passwd now; whoever is asked for is there when left out. */
  accounts?(): Promise<ReadonlySet<string>>
  /** Kills everything in it and removes its files. */
  close(): Promise<void>
}
export type OpenPlace = (id: string, network: 'open' | 'none') => Promise<Place>

export interface HostedSandbox<Details> {
  readonly id: string
  readonly details: Details
  readonly home: string
  readonly createdAtMs: number
  readonly expiresAtMs: number
  readonly endedAtMs: number | undefined
  readonly endReason: EndReason | undefined
}

interface Entry<Details> {
  sandbox: HostedSandbox<Details>
  readonly place: Place
  readonly processes: Set<HostedProcess>
  expiry: NodeJS.Timeout | undefined
  ending: Promise<void> | undefined
  readonly onEnding: ((reason: EndReason) => void) | undefined
  readonly onEnd: ((reason: EndReason) => void) | undefined
}

const rememberedEnded = 1000
const longestTimerMs = 2 ** 31 - 1

export class SandboxHost<Details> {
  private readonly entries = new Map<string, Entry<Details>>()
  private readonly past: HostedSandbox<Details>[] = []
  private readonly endCounts: Record<EndReason, number> = { killed: 0, expired: 0, crashed: 0 }
  private created = 0
  private opening = 0
  private maxLive = 0

  constructor(private readonly open: OpenPlace = plainPlaces()) {}

  /** Sandboxes that live or are being made: what a concurrency limit counts. */
  get occupied(): number {
    return this.entries.size + this.opening
  }

  /** As `occupied`, but without what is ending: whoever asks is told that it is gone at once, its remains or not. */
  private get counted(): number {
    return [...this.entries.values()].filter(({ ending }) => ending === undefined).length + this.opening
  }

  async create(options: {
    id: string
    details: Details
    lifetimeMs: number
    network?: 'open' | 'none'
    /** Called once, whatever ends it, before its processes are killed: the moment to break its streams as a dying machine would. */
    onEnding?: (reason: EndReason) => void
    /** Called once, whatever ended it, when its processes are dead. */
    onEnd?: (reason: EndReason) => void
  }): Promise<HostedSandbox<Details>> {
    if (this.entries.has(options.id)) throw new Error(`sandbox ${options.id} exists`)
    this.opening += 1
    this.maxLive = Math.max(this.maxLive, this.counted)
    try {
      const place = await this.open(options.id, options.network ?? 'open')
      const createdAtMs = Date.now()
      const sandbox = { id: options.id, details: options.details, home: place.home, createdAtMs, expiresAtMs: createdAtMs + options.lifetimeMs, endedAtMs: undefined, endReason: undefined }
      const entry: Entry<Details> = { sandbox, place, processes: new Set(), expiry: undefined, ending: undefined, onEnding: options.onEnding, onEnd: options.onEnd }
      this.entries.set(options.id, entry)
      this.created += 1
      this.armExpiry(entry)
      return sandbox
    } finally {
      this.opening -= 1
    }
  }

  /** A live sandbox. */
  get(id: string): HostedSandbox<Details> | undefined {
    const entry = this.entries.get(id)
    return entry?.ending === undefined ? entry?.sandbox : undefined
  }

  /** Whether a sandbox has a user of that name now. */
  async hasUser(id: string, name: string): Promise<boolean> {
    return (await this.entries.get(id)?.place.accounts?.())?.has(name) ?? true
  }

  /** The sandboxes that live, oldest first; with `asOfMs` those that lived at that moment (milliseconds since 1970). */
  list(asOfMs?: number): HostedSandbox<Details>[] {
    const live = [...this.entries.values()].filter((entry) => entry.ending === undefined).map((entry) => entry.sandbox)
    if (asOfMs === undefined) return live
    return [...this.past.filter((sandbox) => sandbox.endedAtMs !== undefined && sandbox.endedAtMs > asOfMs), ...live]
      .filter((sandbox) => sandbox.createdAtMs <= asOfMs)
      .sort((left, right) => left.createdAtMs - right.createdAtMs)
  }

  /** Sets the end to `lifetimeMs` from now. False when there is no such sandbox. */
  setLifetime(id: string, lifetimeMs: number): boolean {
    const entry = this.entries.get(id)
    if (entry === undefined || entry.ending !== undefined) return false
    entry.sandbox = { ...entry.sandbox, expiresAtMs: Date.now() + lifetimeMs }
    this.armExpiry(entry)
    return true
  }

  /** Makes a sandbox older than it is; its end stays. For limits that count from the start. */
  age(id: string, byMs: number): void {
    const entry = this.entries.get(id)
    if (entry !== undefined) entry.sandbox = { ...entry.sandbox, createdAtMs: entry.sandbox.createdAtMs - byMs }
  }

  /** Starts a command. @throws Error when the sandbox is gone or the command can't be started (no such file, no such cwd). */
  async exec(id: string, command: HostedCommand): Promise<HostedProcess> {
    const entry = this.entries.get(id)
    if (entry === undefined || entry.ending !== undefined) throw new Error(`no sandbox ${id}`)
    const { file, args, env, cwd } = entry.place.enter(command)
    const child = spawn(file, [...args], { env, cwd, detached: true, stdio: withoutInherited(['pipe', 'pipe', 'pipe']) }) as ChildProcessWithoutNullStreams
    const ended = new Promise<{ exitCode: number | null; signal: NodeJS.Signals | null }>((resolve) => {
      child.once('close', (exitCode, signal) => resolve({ exitCode, signal }))
    })
    await once(child, 'spawn') // rejects with the error when it can't be started
    const pid = child.pid ?? 0
    child.stdin.on('error', () => undefined) // A command may end without reading its input.
    if (command.stdin !== true) child.stdin.end()
    const hosted: HostedProcess = {
      pid,
      stdout: child.stdout,
      stderr: child.stderr,
      stdin: command.stdin === true ? child.stdin : null,
      ended,
      kill: (signal, group) => {
        if (child.exitCode !== null || child.signalCode !== null) return false
        return signalProcess(group === true ? -pid : (entry.place.leaderOf?.(pid) ?? pid), signal)
      },
    }
    entry.processes.add(hosted)
    void ended.then(() => entry.processes.delete(hosted))
    return hosted
  }

  processes(id: string): readonly HostedProcess[] {
    return [...(this.entries.get(id)?.processes ?? [])]
  }

  /** Ends a sandbox and waits until all in it is dead. False when there is none. */
  async destroy(id: string, reason: EndReason): Promise<boolean> {
    const entry = this.entries.get(id)
    if (entry === undefined) return false
    if (entry.ending !== undefined) {
      await entry.ending
      return false
    }
    entry.ending = this.end(entry, reason)
    await entry.ending
    return true
  }

  state(): ServerState {
    const sandboxes = this.list().map(({ id, createdAtMs, expiresAtMs }) => ({ id, createdAtMs, expiresAtMs }))
    return { live: sandboxes.length, maxLive: this.maxLive, created: this.created, ended: { ...this.endCounts }, sandboxes }
  }

  async close(): Promise<void> {
    await Promise.all([...this.entries.keys()].map((id) => this.destroy(id, 'killed')))
  }

  private armExpiry(entry: Entry<Details>): void {
    clearTimeout(entry.expiry)
    const leftMs = entry.sandbox.expiresAtMs - Date.now()
    entry.expiry = setTimeout(() => {
      if (leftMs > longestTimerMs) this.armExpiry(entry)
      else void this.destroy(entry.sandbox.id, 'expired')
    }, Math.min(Math.max(leftMs, 0), longestTimerMs))
    entry.expiry.unref()
  }

  private async end(entry: Entry<Details>, reason: EndReason): Promise<void> {
    clearTimeout(entry.expiry)
    entry.onEnding?.(reason)
    try {
      await entry.place.close()
    } finally {
      this.endCounts[reason] += 1
      this.entries.delete(entry.sandbox.id)
      this.past.push({ ...entry.sandbox, endedAtMs: Date.now(), endReason: reason })
      if (this.past.length > rememberedEnded) this.past.shift()
      entry.onEnd?.(reason)
    }
  }
}

/** Child processes with a temporary home and a folder for temporary files: no isolation at all. Every process bears a mark in its environment to be found by. */
export function plainPlaces(): OpenPlace {
  return async () => {
    const folder = await mkdtemp(join(tmpdir(), 'switchyard-hosted-'))
    const [home, temporary] = [join(folder, 'home'), join(folder, 'tmp')]
    await Promise.all([mkdir(home), mkdir(temporary)])
    const mark = `SWITCHYARD_HOSTED=${randomUUID()}`
    return {
      home,
      enter: (command) => ({
        file: command.file,
        args: command.args,
        cwd: command.cwd ?? home,
        env: {
          PATH: process.env.PATH ?? '/usr/local/bin:/usr/bin:/bin',
          HOME: home,
          // The machine's own may be large, and holds what is nobody's business here.
          TMPDIR: temporary,
          USER: 'user',
          // Nothing of this machine but the home is the sandbox's own.
          SWITCHYARD_REPOSITORY_IN_HOME: '1',
          ...command.env,
          SWITCHYARD_HOSTED: mark.slice(mark.indexOf('=') + 1),
        },
      }),
      close: async () => {
        await killMarked(mark)
        await removeFolder(folder)
      },
    }
  }
}

/** Also where a job has closed folders of its own: an ordinary user could not look into them. Links are not followed. */
export async function removeFolder(folder: string): Promise<void> {
  const remove = () => rm(folder, { recursive: true, force: true, maxRetries: 3 })
  await remove().catch(async () => {
    await promisify(execFile)('chmod', ['-R', 'u+rwX', folder])
    await remove()
  })
}

/** Kills every process with the mark in its environment until there is none: a process may fork while it is looked for. */
export async function killMarked(mark: string): Promise<void> {
  for (let round = 0; round < 50; round += 1) {
    let found = false
    // Read at once, not through the thread pool: a busy machine would take seconds, in which processes fork.
    for (const name of readdirSync('/proc')) {
      if (/^\d+$/.test(name) && environmentOf(name).includes(mark)) found = signalProcess(Number(name), 'SIGKILL') || found
    }
    if (!found) return
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  throw new Error('processes of a sandbox would not die')
}

/** None of a process that ended in between, or that is another user's. */
function environmentOf(pid: string): string[] {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0')
  } catch {
    return []
  }
}

function signalProcess(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false
    throw error
  }
}
