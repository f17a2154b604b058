import { z } from 'zod'
import { InvalidInputError } from '../job/errors.js'
import { harmlessText } from '../job/harmless-text.js'
import { isFinal } from '../job/status.js'
import { type ApiCalls, CallRefusedError } from './api-calls.js'
import { cutAt } from './shown.js'

/**
 * A job's output, a bounded part at a time. The cursor `SEQ` stands behind a piece of the log; `SEQ.N` stands within it, behind its N-th character: pieces
 * may be larger than what is asked for.
 */
export interface LogPart {
  readonly entries: readonly LogEntry[]
  /** Where to go on; null when the job has ended and all was read. */
  readonly cursor: string | null
  /** Whether there is more to be read now. */
  readonly more: boolean
  /** The job's, once all that there is was read. */
  readonly state: string | null
}

interface LogEntry {
  readonly step: string
  readonly stream: string
  readonly attempt: number
  text: string
}

const lineSchema = z.object({ seq: z.int().min(0), step: z.string(), stream: z.string(), attempt: z.int(), text: z.string() })
const endSchema = z.object({ state: z.string().nullable() })

/** The form of a cursor, for the tool's schema. */
export const cursorPattern = /^\d{1,15}(\.\d{1,9})?$/

/** @param jobPath the job's at the API. @param options.maxBytes of the text, in UTF-8. */
export async function readLog(api: ApiCalls, jobPath: string, options: { readonly cursor?: string | undefined; readonly maxBytes: number; readonly signal: AbortSignal }): Promise<LogPart> {
  const { cursor = '0', maxBytes, signal } = options
  if (!cursorPattern.test(cursor)) throw new InvalidInputError('cursor: is none that read_log gave; leave it out to begin at the start')
  const [seq = 0, read] = cursor.split('.').map(Number)
  const after = read === undefined ? seq : Math.max(0, seq - 1)
  const entries: LogEntry[] = []
  let room = maxBytes
  let last = cursor
  const stop = new AbortController()
  try {
    for await (const { event, data } of api.events(`${jobPath}/logs`, { query: { follow: 'false', after }, signal: AbortSignal.any([signal, stop.signal]) })) {
      if (event === 'end') {
        const { state } = endSchema.parse(data)
        return { entries: shownEntries(entries), cursor: state !== null && isFinal(state) ? null : last, more: false, state }
      }
      const line = lineSchema.safeParse(data).data
      if (line === undefined) continue
      // What is said of a gap before a piece of which a part was read.
      if (read !== undefined && line.seq < seq) continue
      const begun = read !== undefined && line.seq === seq ? read : 0
      const text = line.text.slice(begun)
      const part = cutToBytes(text, room)
      if (part.length < text.length) {
        // A character that there is no room for at all would be asked for for ever.
        if (part === '' && entries.length === 0) throw new InvalidInputError('maxBytes: has no room for the next character; give at least 1024')
        if (part !== '') add(entries, line, part)
        return { entries: shownEntries(entries), cursor: part === '' && begun === 0 ? last : `${line.seq}.${begun + part.length}`, more: true, state: null }
      }
      if (text !== '') add(entries, line, text)
      room -= Buffer.byteLength(text)
      last = String(line.seq)
    }
  } finally {
    stop.abort(new Error('enough was read'))
  }
  throw new CallRefusedError('SWY_HTTP_UNAVAILABLE', ['the log broke off; read it again with the same cursor'])
}

function add(entries: LogEntry[], { step, stream, attempt }: Omit<LogEntry, 'text'>, text: string): void {
  const before = entries.at(-1)
  if (before !== undefined && before.step === step && before.stream === stream && before.attempt === attempt) before.text += text
  else entries.push({ step, stream, attempt, text })
}

/** Only now, since a sequence may go over the border of two pieces. */
function shownEntries(entries: readonly LogEntry[]): LogEntry[] {
  return entries.map(({ step, stream, attempt, text }) => ({ step: harmlessText(step), stream: harmlessText(stream), attempt, text: harmlessText(text) }))
}

function cutToBytes(text: string, bytes: number): string {
  if (Buffer.byteLength(text) <= bytes) return text
  // Cuts no character in two: what is left over is U+FFFD at the end alone.
  return new TextDecoder('utf-8', { ignoreBOM: true }).decode(Buffer.from(cutAt(text, bytes)).subarray(0, bytes), { stream: true })
}
