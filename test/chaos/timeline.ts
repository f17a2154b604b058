import { createWriteStream, type WriteStream } from 'node:fs'
import { once } from 'node:events'

export interface TimelineEntry {
  /** Milliseconds since the run's start. */
  readonly atMs: number
  readonly event: string
  readonly [detail: string]: unknown
}

/** What happened in a run, in order: one JSON object a line in a file, and in memory for the checker. */
export class Timeline {
  readonly entries: TimelineEntry[] = []
  private readonly file: WriteStream

  constructor(
    readonly path: string,
    readonly startedAtMs: number = Date.now(),
  ) {
    this.file = createWriteStream(path)
  }

  now(): number {
    return Date.now() - this.startedAtMs
  }

  add(event: string, details: Readonly<Record<string, unknown>> = {}): void {
    const entry = { atMs: this.now(), event, ...details }
    this.entries.push(entry)
    this.file.write(`${JSON.stringify(entry)}\n`)
  }

  async close(): Promise<void> {
    this.file.end()
    await once(this.file, 'finish')
  }
}
