import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'

/** What a process of a benchmark is told, as JSON in its environment. */
export interface ProcessOptions {
  readonly redisUrl: string
  readonly providers: readonly { readonly name: string; readonly sandboxes: number }[]
  readonly maxJobs: number
  readonly recordsChanges: boolean
  /** What it does besides. Default: nothing. */
  readonly telemetry?: 'off' | 'metrics' | 'traces' | undefined
}

/** A sandbox that came to be (+1) or is gone (-1). */
export interface Change {
  readonly provider: string
  readonly by: 1 | -1
  readonly atMs: number
}

export interface Figures {
  /** After a collection: the heap and what it holds outside of itself. */
  readonly heapBytes: number
  readonly rssBytes: number
  /** Since the last question. */
  readonly loopDelayP99Ms: number
  readonly loopDelayMaxMs: number
}

export interface Member {
  ask<Answer>(question: string): Promise<Answer>
  stop(): Promise<void>
  kill(): void
}

/** What this process has used of the processors so far, in milliseconds. */
export function cpuMs(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1000
}

/**
 * Starts a program beside this file in a process of its own, compiled where this file is, and waits until it says "started". With `CPU_PROFILES=FOLDER` in this
 * process's environment each writes a profile of its processor time there when it stops.
 */
export async function startMember(program: 'consumer-process.ts' | 'fallback-process.ts' | 'raw-process.ts', options: ProcessOptions): Promise<Member> {
  const compiled = import.meta.url.endsWith('.js')
  const child: ChildProcess = fork(new URL(compiled ? program.replace(/\.ts$/, '.js') : program, import.meta.url), {
    execArgv: [...(compiled ? [] : ['--import', 'tsx']), '--expose-gc', ...profiling()],
    env: { PATH: process.env['PATH'], BENCH: JSON.stringify(options) },
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
  await Promise.race([once(child, 'message'), once(child, 'exit').then(() => Promise.reject(new Error(`${program} did not start`)))])
  return {
    async ask<Answer>(question: string) {
      const answer = once(child, 'message')
      child.send(question)
      return ((await answer) as [Answer])[0]
    },
    kill: () => void child.kill('SIGKILL'),
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return
      child.send('stop')
      await once(child, 'exit')
    },
  }
}

function profiling(): string[] {
  const folder = process.env['CPU_PROFILES']
  return folder === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${folder}`]
}
