import { TextDecoder } from 'node:util'
import type { Redis } from 'ioredis'
import { z } from 'zod'
import { UnknownJobError } from '../job/errors.js'
import type { LogLine } from '../job/log.js'
import { untilAborted } from './abort.js'
import type { Keys } from './keys.js'

export interface ReadLogOptions {
  /** Go on behind the piece with this sequence number. Default: from the start. */
  readonly after?: number | undefined
  /** Wait for more until the job has ended. Default: stop at what is there. */
  readonly follow?: boolean | undefined
  /** Stops reading; the iteration throws the signal's reason. */
  readonly signal?: AbortSignal | undefined
}

/** What a reader needs besides the stream. */
export interface LogSource {
  /** For reads that don't block. */
  readonly redis: Redis
  /** Opens a connection of the purpose `blocking`; used while following, and closed after. */
  readonly openBlocking: () => Redis
  readonly keys: Keys
  /** Whether the job's current run has ended, so that no more output comes; `unknown` where nobody knows the job any more. */
  readonly standing: (jobId: string) => Promise<'running' | 'ended' | 'unknown'>
  /** Calls `wake` when a run of the job ends; returns how to stop. Left out, a follower of a run without output learns of its end up to 2 seconds late. */
  readonly onEnd?: (jobId: string, wake: () => void) => Promise<() => void>
}

/** Pieces are at most 64 KiB, so a read holds at most 2 MiB. */
const piecesPerRead = 32
const blockMs = 2_000
/** How far back a resumed reader looks for the piece before, to join split characters and to see gaps. */
const lookBack = 32
/** Of so many pieces it is remembered which they were: where Redis goes back by no more, a reader goes on with the first that is another one. */
const remembered = 1_000

interface Piece {
  readonly seq: number
  readonly end: boolean
  readonly line: Omit<LogLine, 'text'> | null
}

/**
 * Reads a job's output from its log stream, in order. `data` is exact; `text` joins characters that are split over
 * pieces of the same stream. Where the middle of a long output was dropped, a piece of the stream `system` says how
 * many bytes are missing, such as `[… 123456 bytes omitted …]`; who resumes behind that may be told so again. Where Redis went back to before what was read
 * (an older snapshot, a replica that lagged), numbers come again: such a piece says so, and from there on it is read as it is now.
 * @throws UnknownJobError while following, when nobody knows the job any more before its end was read.
 */
export async function* readLog(source: LogSource, jobId: string, options: ReadLogOptions = {}): AsyncGenerator<LogLine, void, undefined> {
  const { signal, follow = false } = options
  const key = source.keys.log(jobId)
  let last = options.after ?? 0
  const text = new TextJoiner(last === 0)
  const seen = new SeenPieces(last === 0)
  let ended = false
  let blocking: Redis | undefined
  let stopListening: (() => void) | undefined
  let wake: () => void = () => undefined
  try {
    signal?.throwIfAborted()
    if (last > 0) {
      const before = await source.redis.xrevrangeBuffer(key, `${last}-0`, '-', 'COUNT', lookBack)
      for (const { line } of before.map(parsePiece).reverse()) if (line !== null) text.join(line)
    }
    for (;;) {
      const range = (blocking ?? source.redis).xrangeBuffer(key, `(${last}-0`, '+', 'COUNT', piecesPerRead)
      let pieces = (await untilAborted(range, signal)).map(parsePiece)
      if (pieces.length === 0) {
        const before = await seen.goneBack(blocking ?? source.redis, key, last)
        if (before !== null) {
          last = before
          yield wentBack(before)
          continue
        }
        if (!follow) return
        const standing = await source.standing(jobId)
        if (standing !== 'running') {
          // What was written between our read and the end is there now.
          const rest = await source.redis.xrangeBuffer(key, `(${last}-0`, '+', 'COUNT', 1)
          if (rest.length > 0) continue
          // It was removed, with its record, or Redis was emptied: whoever follows is not to take what there was for the whole.
          if (standing === 'unknown' && !ended) throw new UnknownJobError(jobId)
          return
        }
        signal?.throwIfAborted()
        if (source.onEnd !== undefined && stopListening === undefined) {
          stopListening = await untilAborted(source.onEnd(jobId, () => wake()), signal)
          // It may have ended before this heard of it.
          continue
        }
        blocking ??= source.openBlocking()
        const woken = new Promise<'woken'>((resolve) => {
          wake = () => resolve('woken')
        })
        const waiting = blocking.xreadBuffer('COUNT', piecesPerRead, 'BLOCK', blockMs, 'STREAMS', key, `${last}-0`)
        const answer = await untilAborted(Promise.race([waiting, woken]), signal)
        if (answer === 'woken') {
          // Whatever is asked of that connection now would wait for its answer.
          blocking.disconnect()
          blocking = undefined
          continue
        }
        pieces = (answer?.[0]?.[1] ?? []).map(parsePiece)
      }
      for (const { seq, end, line } of pieces) {
        signal?.throwIfAborted()
        ended = end
        if (line !== null) {
          const omitted = text.omittedBefore(line)
          // Its number is the one before, so that whoever resumes behind it still gets the piece itself.
          if (omitted > 0) yield omission(line, omitted)
          yield { ...line, text: text.join(line) }
        }
        last = seq
        seen.add(seq, line)
      }
    }
  } finally {
    stopListening?.()
    blocking?.disconnect()
  }
}

function omission(next: Omit<LogLine, 'text'>, omitted: number): LogLine {
  const text = `[… ${omitted} bytes omitted …]\n`
  return { ...next, seq: next.seq - 1, stream: 'system', offset: next.offset - omitted, data: Buffer.from(text), text }
}

function wentBack(seq: number): LogLine {
  const text = '[… Redis went back to before what was shown last: some of that is lost, and what follows may be shown again …]\n'
  return { seq, step: '', stream: 'system', attempt: 0, offset: 0, atMs: Date.now(), data: Buffer.from(text), text }
}

/** Which pieces a reader has seen, by which it knows a log whose numbers come again. */
class SeenPieces {
  readonly #marks = new Map<number, string>()

  /** @param fromStart whether the reader began with the first piece. */
  constructor(private readonly fromStart: boolean) {}

  add(seq: number, line: Piece['line']): void {
    this.#marks.set(seq, markOf(line))
    if (this.#marks.size <= remembered) return
    for (const oldest of this.#marks.keys()) {
      this.#marks.delete(oldest)
      return
    }
  }

  /** @returns behind which piece to read on where the log ends before what was read, or with another piece; null where it ends with that one. */
  async goneBack(redis: Redis, key: string, last: number): Promise<number | null> {
    if (last === 0) return null
    const [newest] = (await redis.xrevrangeBuffer(key, '+', '-', 'COUNT', 1)).map(parsePiece)
    if (newest === undefined || newest.seq > last) return null
    const mark = this.#marks.get(newest.seq)
    if (newest.seq === last && (mark === undefined || mark === markOf(newest.line))) return null
    const [oldest = last] = this.#marks.keys()
    const pieces = oldest > newest.seq ? [] : (await redis.xrangeBuffer(key, `${oldest}-0`, '+', 'COUNT', remembered)).map(parsePiece)
    let same: number | null = null
    for (const { seq, line } of pieces) {
      if (this.#marks.get(seq) !== markOf(line)) break
      same = seq
    }
    this.#marks.clear()
    // Who has seen all, and nothing of which is there any more, is shown all that is; who began behind something does not know what came before.
    return same ?? (this.fromStart ? 0 : newest.seq)
  }
}

function markOf(line: Piece['line']): string {
  return line === null ? 'end' : `${line.step} ${line.stream} ${line.attempt} ${line.offset} ${line.atMs} ${line.data.length}`
}

const streamName = z.enum(['stdout', 'stderr', 'system'])

function parsePiece([id, fields]: [Buffer, Buffer[]]): Piece {
  const values = new Map<string, Buffer>()
  for (let index = 0; index + 1 < fields.length; index += 2) {
    const [name, value] = [fields[index], fields[index + 1]]
    if (name !== undefined && value !== undefined) values.set(name.toString(), value)
  }
  const seq = Number.parseInt(id.toString(), 10)
  if (values.has('end')) return { seq, end: true, line: null }
  const field = (name: string) => (values.get(name) ?? '').toString()
  const line = {
    seq,
    step: field('s'),
    stream: streamName.parse(field('o')),
    attempt: Number(field('n')),
    offset: Number(field('b')),
    atMs: Number(field('t')),
    data: values.get('d') ?? Buffer.alloc(0),
  }
  return { seq, end: false, line }
}

/** Knows, for each stream of each step and attempt, where the next byte should be and what character is still open. */
class TextJoiner {
  readonly #streams = new Map<string, { decoder: TextDecoder; next: number }>()

  /** @param fromStart whether a stream's first piece seen here should begin at byte 0; a resumed reader can't say. */
  constructor(private readonly fromStart: boolean) {}

  /** How many bytes are missing before this piece. */
  omittedBefore(line: Omit<LogLine, 'text'>): number {
    if (line.stream === 'system') return 0
    const next = this.#streams.get(nameOf(line))?.next ?? (this.fromStart ? 0 : line.offset)
    return Math.max(0, line.offset - next)
  }

  join(line: Omit<LogLine, 'text'>): string {
    const known = this.#streams.get(nameOf(line))
    // Behind a gap, half a character from before it must not be joined to what follows.
    const contiguous = known !== undefined && (line.stream === 'system' || known.next === line.offset)
    const decoder = contiguous ? known.decoder : new TextDecoder('utf-8', { ignoreBOM: true })
    this.#streams.set(nameOf(line), { decoder, next: line.offset + line.data.length })
    return decoder.decode(line.data, { stream: line.stream !== 'system' })
  }
}

function nameOf(line: Omit<LogLine, 'text'>): string {
  return `${line.attempt}:${line.stream}:${line.step}`
}
