import { harmlessText, harmlessValue } from '../../job/harmless-text.js'
import type { JobStatus } from '../../job/status.js'
import { elapsed } from '../output.js'
import { printTo } from '../print.js'

/**
 * Live progress, a job a line. On a terminal the lines are written over; elsewhere a line is printed when what it says,
 * besides the time, has changed.
 */
export interface Progress {
  show(jobs: readonly { readonly name: string; readonly status: JobStatus }[], nowMs: number): void
  /** A line that stays, above the jobs' lines, or several. */
  say(line: string): void
}

export function startProgress(stream: NodeJS.WriteStream): Progress {
  return stream.isTTY ? new LiveProgress(stream) : new PlainProgress(stream)
}

/** What a job's line says, without the time. */
export function progressText(name: string, found: JobStatus): string {
  const status = harmlessValue(found)
  const place = status.provider === null ? '' : ` at ${status.provider}`
  const what = status.reason ?? (status.step === null ? (status.phase ?? '') : `step ${status.step}`)
  const again = status.attempts > 1 ? ` (attempt ${status.attempts})` : ''
  const ended = status.endedAtMs !== null
  return `${`${name} `.padEnd(10)}${status.state.padEnd(11)}${ended ? '' : `${what}${place}`}${again}`.trimEnd()
}

/** How long a job has run, or ran. */
export function jobElapsed(status: JobStatus, nowMs: number): string {
  return elapsed(Math.max(0, (status.endedAtMs ?? nowMs) - (status.startedAtMs ?? status.enqueuedAtMs)))
}

class PlainProgress implements Progress {
  private readonly shown = new Map<string, string>()
  constructor(private readonly stream: NodeJS.WriteStream) {}

  show(jobs: readonly { readonly name: string; readonly status: JobStatus }[], nowMs: number): void {
    for (const { name, status } of jobs) {
      const text = progressText(name, status)
      if (this.shown.get(name) === text) continue
      this.shown.set(name, text)
      this.say(`${jobElapsed(status, nowMs).padStart(6)}  ${text}`)
    }
  }

  say(line: string): void {
    printTo(this.stream, line)
  }
}

class LiveProgress implements Progress {
  private lines: string[] = []
  constructor(private readonly stream: NodeJS.WriteStream) {}

  show(jobs: readonly { readonly name: string; readonly status: JobStatus }[], nowMs: number): void {
    this.clear()
    // Some terminals don't say how wide they are. A line that wraps would not be cleared again.
    const width = (this.stream.columns > 0 ? this.stream.columns : 80) - 1
    this.lines = jobs.map(({ name, status }) => `${jobElapsed(status, nowMs).padStart(6)}  ${progressText(name, status)}`.slice(0, width))
    this.stream.write(this.lines.map((line) => `${line}\n`).join(''))
  }

  say(line: string): void {
    const { lines } = this
    this.clear()
    this.stream.write(`${harmlessText(line)}\n${lines.map((kept) => `${kept}\n`).join('')}`)
    this.lines = lines
  }

  private clear(): void {
    if (this.lines.length > 0) this.stream.write(`\u001b[${this.lines.length}A\u001b[J`)
    this.lines = []
  }
}
