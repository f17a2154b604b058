import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { loaderArgs, ownFile } from '../own-programs.js'
import type { ConsumerProcessOptions } from './consumer-process.js'
import type { Timeline } from './timeline.js'

interface Member {
  readonly name: string
  readonly child: ChildProcess
  readonly exited: Promise<void>
  ready: boolean
  frozen: boolean
  ending: boolean
  readonly narrow: boolean
}

export interface FleetOptions {
  readonly size: number
  readonly consumer: Omit<ConsumerProcessOptions, 'logFile' | 'keyFile'>
  /** The git host's key, and one that it does not know. */
  readonly keys: { readonly right: string; readonly stale: string }
  readonly environment: Readonly<Record<string, string>>
  readonly logDir: string
  readonly timeline: Timeline
  /** Told where a consumer serves its metrics. */
  readonly onMonitor?: ((url: string) => void) | undefined
}

/** A stop that takes longer than this is a defect: hand-over has nothing to wait for but calls with deadlines of their own. */
const stopPatienceMs = 30_000

/** The consumers' processes. Whatever ends one, another takes its place, as an orchestrator would do. */
export class Fleet {
  private readonly members = new Map<string, Member>()
  private started = 0
  private closing = false
  /** What a consumer did that it must never do: ending by itself, or not ending when told to. */
  readonly problems: string[] = []
  private readonly replacements = new Set<Promise<void>>()

  constructor(private readonly options: FleetOptions) {}

  async start(): Promise<void> {
    await Promise.all(Array.from({ length: this.options.size }, () => this.add()))
  }

  /** Those that take jobs now. */
  get healthy(): number {
    return [...this.members.values()].filter(({ ready, frozen, ending }) => ready && !frozen && !ending).length
  }

  /** Kills one at once, and starts another. */
  kill(pick: number): string | null {
    const member = this.choose(pick)
    if (member === null) return null
    this.replace(member)
    member.child.kill('SIGKILL')
    return member.name
  }

  /** Starts another one and tells this one to stop, as a rolling restart does. */
  stop(pick: number): string | null {
    const member = this.choose(pick)
    if (member === null) return null
    this.replace(member)
    void this.terminate(member)
    return member.name
  }

  /** Stops one as by SIGSTOP. Another takes its place for good; the frozen one goes on when it is thawed, and is stopped. */
  freeze(pick: number, forMs: number): string | null {
    const member = this.choose(pick)
    if (member === null) return null
    member.frozen = true
    member.child.kill('SIGSTOP')
    setTimeout(() => {
      member.child.kill('SIGCONT')
      member.frozen = false
      this.options.timeline.add('consumer-thawed', { consumer: member.name })
    }, forMs)
    return member.name
  }

  /** Changes one's git key into one that the host refuses, in the file from which it is read. Returns how to change it back. */
  async staleKey(pick: number): Promise<{ readonly name: string; restore(): Promise<void> } | null> {
    const member = this.choose(pick)
    if (member === null) return null
    const { keys } = this.options
    await writeFile(this.keyFile(member.name), keys.stale)
    return { name: member.name, restore: () => writeFile(this.keyFile(member.name), keys.right) }
  }

  /** Sets one's clock forward by so much, or back. Returns how to set it right. */
  stepClock(pick: number, byMs: number): { readonly name: string; restore(): void } | null {
    const member = this.choose(pick)
    if (member === null) return null
    member.child.send({ clockByMs: byMs })
    return { name: member.name, restore: () => { if (member.child.connected) member.child.send({ clockByMs: 0 }) } }
  }

  /** Starts another one that lacks a provider, and tells this one to stop, as a change of configuration that rolls out does. */
  narrow(pick: number, provider: string): string | null {
    const member = this.choose(pick)
    if (member === null) return null
    this.replace(member, provider)
    void this.terminate(member)
    return member.name
  }

  /** Replaces the consumers that lack a provider. */
  widen(): void {
    for (const member of this.members.values()) {
      if (!member.narrow || member.ending) continue
      this.replace(member)
      void this.terminate(member)
    }
  }

  /** Stops all and waits for them. */
  async close(): Promise<void> {
    this.closing = true
    await Promise.all(this.replacements)
    await Promise.all([...this.members.values()].map((member) => this.terminate(member)))
  }

  private choose(pick: number): Member | null {
    const candidates = [...this.members.values()].filter(({ ready, frozen, ending }) => ready && !frozen && !ending)
    return candidates[Math.floor(pick * candidates.length)] ?? null
  }

  private keyFile(name: string): string {
    return join(this.options.logDir, `${name}.pem`)
  }

  private replace(member: Member, without?: string): void {
    member.ending = true
    if (this.closing) return
    const replacement = this.add(without).catch((error: unknown) => void this.problems.push(`a consumer did not start: ${String(error)}`))
    this.replacements.add(replacement)
    void replacement.finally(() => this.replacements.delete(replacement))
  }

  private async terminate(member: Member): Promise<void> {
    member.ending = true
    member.child.kill('SIGCONT')
    member.child.kill('SIGTERM')
    const late = setTimeout(() => {
      this.problems.push(`${member.name} did not stop within ${stopPatienceMs} ms of SIGTERM`)
      member.child.kill('SIGKILL')
    }, stopPatienceMs)
    await member.exited
    clearTimeout(late)
  }

  /** @param without a provider that it lacks. */
  private async add(without?: string): Promise<void> {
    const { consumer, environment, logDir, timeline, keys } = this.options
    const name = `consumer-${++this.started}`
    const keyFile = this.keyFile(name)
    await writeFile(keyFile, keys.right, { mode: 0o600 })
    const told: ConsumerProcessOptions = { ...consumer, providers: consumer.providers.filter((entry) => entry.name !== without), logFile: join(logDir, `${name}.jsonl`), keyFile }
    const child = fork(ownFile('test/chaos/consumer-process.ts'), {
      execArgv: [...loaderArgs],
      env: { PATH: process.env['PATH'], ...environment, CONSUMER: JSON.stringify(told) },
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    })
    const exited = once(child, 'exit').then(() => {
      this.members.delete(name)
      timeline.add('consumer-exited', { consumer: name, exitCode: child.exitCode, signal: child.signalCode })
      if (member.ending) return
      // One that finds no Redis at its start says so and ends; its orchestrator starts it again, as here.
      if (member.ready) this.problems.push(`${name} ended by itself with ${child.signalCode ?? `exit code ${child.exitCode ?? 'unknown'}`}`)
      this.replace(member)
    })
    const member: Member = { name, child, exited, ready: false, frozen: false, ending: false, narrow: without !== undefined }
    this.members.set(name, member)
    timeline.add('consumer-starting', { consumer: name, pid: child.pid, ...(without === undefined ? {} : { without }) })
    child.on('message', (message) => {
      if (typeof message === 'object' && 'monitor' in message) this.options.onMonitor?.(String(message.monitor))
    })
    await Promise.race([once(child, 'message'), exited])
    if (!this.members.has(name)) return
    member.ready = true
    timeline.add('consumer-started', { consumer: name })
  }
}
