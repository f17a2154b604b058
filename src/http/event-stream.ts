import { setTimeout as delay } from 'node:timers/promises'
import { UnknownJobError } from '../job/errors.js'
import { HttpRefusalError } from './refusal.js'

/**
 * Server-sent events, as fast as they are read: the next one is asked for when the one before has gone. Meanwhile a comment goes out every so often,
 * so that nothing on the way takes the connection for dead; each time, however much there is to send, it is asked whether the reader may still read.
 */
export interface ServerSentEvent {
  readonly event: string
  /** Sent as JSON. */
  readonly data: unknown
  /** What a reader that comes back sends as `Last-Event-ID`. */
  readonly id?: string | undefined
}

export interface EventStreamOptions {
  /** Ends the stream, without a word: the reader comes back, here or elsewhere. */
  readonly signal: AbortSignal
  readonly heartbeatMs?: number | undefined
  /** Where the stream begins: a reader that is cut off before its first event comes back with this id, and misses nothing. */
  readonly firstId?: string | undefined
  /** @throws HttpRefusalError once the reader may not read any more. */
  readonly mayRead: () => Promise<void>
  /** Told of what went wrong. */
  readonly onError: (error: unknown) => void
  readonly onEnd: () => void
}

const defaultHeartbeatMs = 15_000

/** @param open begins to read; its signal ends it. */
export function eventStream(open: (signal: AbortSignal) => AsyncIterable<ServerSentEvent>, options: EventStreamOptions): Response {
  const { signal, heartbeatMs = defaultHeartbeatMs, firstId, mayRead, onError, onEnd } = options
  const gone = new AbortController()
  const both = AbortSignal.any([signal, gone.signal])
  const events = open(both)[Symbol.asyncIterator]()
  const encoder = new TextEncoder()
  let next: Promise<IteratorResult<ServerSentEvent>> | undefined
  let begun = false
  let askAt = performance.now() + heartbeatMs
  let over = false
  const end = () => {
    if (over) return
    over = true
    gone.abort(new Error('nobody reads any more'))
    // A generator that waits ends by its signal.
    void Promise.resolve(events.return?.()).catch(() => undefined)
    onEnd()
  }
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        if (!begun) {
          // The headers go out with the first bytes.
          begun = true
          controller.enqueue(encoder.encode(firstId === undefined ? ': \n\n' : `: \nid: ${firstId}\n\n`))
          return
        }
        next ??= events.next()
        const timer = new AbortController()
        const leftMs = askAt - performance.now()
        // By the clock, and not by silence: a stream that is never silent is asked about too.
        const came = leftMs <= 0 ? 'ask' : await Promise.race([next, delay(leftMs, 'ask' as const, { signal: timer.signal })]).finally(() => timer.abort())
        if (came === 'ask') {
          // While Redis is away nobody knows, and nothing is read.
          await mayRead().catch((error: unknown) => {
            if (error instanceof HttpRefusalError) throw error
          })
          askAt = performance.now() + heartbeatMs
          controller.enqueue(encoder.encode(': \n\n'))
          return
        }
        next = undefined
        if (came.done === true) {
          controller.close()
          end()
        } else {
          controller.enqueue(encoder.encode(textOf(came.value)))
        }
      } catch (error) {
        // Whoever comes back is told why, if it is still so.
        if (!both.aborted && !(error instanceof HttpRefusalError || error instanceof UnknownJobError)) onError(error)
        controller.close()
        end()
      }
    },
    cancel: end,
  }, { highWaterMark: 1 })
  return new Response(body, { headers: { 'content-type': 'text/event-stream; charset=utf-8', 'x-accel-buffering': 'no' } })
}

/** One line of data: JSON holds no line end. */
function textOf({ event, data, id }: ServerSentEvent): string {
  return `${id === undefined ? '' : `id: ${id}\n`}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`
}
