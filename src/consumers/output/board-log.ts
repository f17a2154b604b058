import type { Job } from 'bullmq'
import type { Logger } from 'pino'
import { type Billed, type Cost, sumOf } from '../../job/cost.js'
import { errorMessage } from '../../job/errors.js'
import { harmlessText } from '../../job/harmless-text.js'
import type { LogChunk } from '../../job/log.js'
import type { RunRecord } from '../../job/run-record.js'
import type { JobSpec } from '../../job/spec.js'

const flushMs = 1_000
const maxPendingBytes = 64 * 1024
/** How much of a job's output the board shows, the latest of it, in bytes and in rows; the latter is BullMQ's own bound, unless the job has another. */
const maxShownBytes = 512 * 1024
const maxShownRows = 1_000

interface JobProgress {
  readonly phase: string
  readonly provider: string | null
  readonly step: string | null
  readonly attempt: number
  /** When its run began, in milliseconds since 1970. */
  readonly sinceMs: number
  readonly tenant?: string
  /** What its sandboxes before have cost, and the price of what lives. */
  readonly spent?: Cost
  readonly billed?: readonly Billed[]
  /** What the job waits for; left out when it moves. */
  readonly waiting?: string
}

/**
 * What Bull Board shows of a running job: its output as BullMQ log rows and its progress, each at most once a second. For people
 * only, never for truth: rows are dropped when a job prints faster than anybody reads, old ones when they are many, and failures to write
 * are only logged.
 */
export class BoardLog {
  private pending: string[] = []
  private pendingBytes = 0
  private droppedBytes = 0
  private timer: NodeJS.Timeout | undefined
  private progressNow: JobProgress | undefined
  private shown = ''
  private atLineStart = true
  private writing: Promise<void> = Promise.resolve()
  /** The sizes of the rows that are shown, in bytes, and their sum. What a consumer before wrote goes with the first one that has to. */
  private rows: number[] = []
  private rowBytes = 0

  constructor(
    private readonly job: Pick<Job, 'log' | 'clearLogs' | 'updateProgress' | 'id' | 'opts'>,
    private readonly log: Logger,
  ) {
    job.opts.keepLogs ??= maxShownRows
  }

  /** Takes pieces of output, secrets masked already. */
  add(chunks: readonly LogChunk[]): void {
    for (const chunk of chunks) {
      if (this.pendingBytes + chunk.data.length > maxPendingBytes) {
        this.droppedBytes += chunk.data.length
        continue
      }
      this.pendingBytes += chunk.data.length
      this.pending.push(this.lines(chunk))
    }
    if (this.pending.length > 0 || this.droppedBytes > 0) this.flushSoon()
  }

  /** A line of Switchyard's own begins with `>>> `, and none that a job prints does. */
  private lines({ stream, data }: LogChunk): string {
    const text = harmlessText(Buffer.from(data).toString('utf8'))
    const begun = this.atLineStart
    this.atLineStart = /(^|\n)\p{Default_Ignorable_Code_Point}*$/u.test(text) && (begun || text.includes('\n'))
    if (stream === 'system') return `${begun ? '' : '\n'}>>> ${text}`
    return text.replace(/(^|\n)(\p{Default_Ignorable_Code_Point}*>)/gu, (all, before: string, mark: string) => (before === '' && !begun ? all : `${before}| ${mark}`))
  }

  progress(record: RunRecord, spec: Pick<JobSpec, 'steps'>): void {
    const step = spec.steps[record.stepIndex]
    this.progressNow = {
      phase: record.phase,
      provider: record.sandbox?.provider ?? record.creating?.provider ?? null,
      step: step === undefined ? null : `${record.stepIndex + 1}/${spec.steps.length} ${step.name}`,
      attempt: record.attempts.length,
      sinceMs: record.startedAtMs,
      ...(record.tenant === undefined ? {} : { tenant: record.tenant }),
      ...costOf(record),
    }
    this.flushSoon()
  }

  /** What the job waits for, for its progress; null when it moves. */
  waits(reason: string | null): void {
    if (this.progressNow === undefined || (this.progressNow.waiting ?? null) === reason) return
    const { waiting: _before, ...rest } = this.progressNow
    this.progressNow = reason === null ? rest : { ...rest, waiting: reason }
    this.flushSoon()
  }

  /** Writes what is left and waits for it. A job that was over before its progress was ever shown, and printed nothing, shows none. */
  async close(): Promise<void> {
    if (this.shown === '' && this.pending.length === 0 && this.droppedBytes === 0) this.progressNow = undefined
    this.flush()
    await this.writing
  }

  private flushSoon(): void {
    this.timer ??= setTimeout(() => this.flush(), flushMs)
  }

  private flush(): void {
    clearTimeout(this.timer)
    this.timer = undefined
    const progress = this.progressNow
    const text = JSON.stringify(progress)
    if (progress !== undefined && text !== this.shown) {
      this.shown = text
      this.write(() => this.job.updateProgress(progress))
    }
    if (this.pending.length === 0 && this.droppedBytes === 0) return
    const dropped = this.droppedBytes === 0 ? '' : `\n[… ${this.droppedBytes} bytes not shown here …]`
    const row = this.pending.join('').trimEnd() + dropped
    // Rows stand below each other.
    this.atLineStart = true
    this.pending = []
    this.pendingBytes = 0
    this.droppedBytes = 0
    this.write(() => this.job.log(row))
    this.rows.push(Buffer.byteLength(row))
    this.rowBytes += this.rows.at(-1) ?? 0
    if (this.rowBytes <= maxShownBytes) return
    // Not at each row: down to a half.
    while (this.rowBytes > maxShownBytes / 2) this.rowBytes -= this.rows.shift() ?? this.rowBytes
    const kept = this.rows.length
    this.write(() => this.job.clearLogs(kept))
  }

  private write(operation: () => Promise<unknown>): void {
    this.writing = this.writing.then(operation).then(
      () => undefined,
      (error: unknown) => this.log.warn({ jobId: this.job.id, message: errorMessage(error) }, 'Bull Board’s view of a job not written'),
    )
  }
}

/** What its cost is worked out from at any time. */
function costOf({ attempts, sandbox, next }: RunRecord): Pick<JobProgress, 'spent' | 'billed'> {
  const spent = sumOf(attempts.map(({ cost }) => cost))
  const billed = [sandbox?.billed, next?.sandbox?.billed].filter((each) => each !== undefined)
  return { ...(spent === null ? {} : { spent }), ...(billed.length === 0 ? {} : { billed }) }
}
