import { z } from 'zod'

/** A span that others continue, as W3C's Trace Context writes it. */
export interface TraceCarrier {
  readonly traceparent: string
  readonly tracestate?: string | undefined
}

const traceparent = z.string().regex(/^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/)
const key = String.raw`(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})`
const member = String.raw`${key}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]`
const tracestate = z.string().max(512).regex(new RegExp(`^${member}(?:[ \t]*,[ \t]*${member}){0,31}$`))

/**
 * What says which trace a job belongs to comes from outside: a producer, a request, whoever can put a job into the queue. It goes into the environment
 * of commands and to other programs, so that nothing passes that is not by the letter.
 * @returns null for what is no carrier: the job is then in no trace, or in one of its own. A wrong `tracestate` alone is left out.
 */
export function parseCarrier(value: unknown): TraceCarrier | null {
  if (typeof value !== 'object' || value === null) return null
  const given = value as Readonly<Record<string, unknown>>
  const parent = traceparent.safeParse(given['traceparent'])
  if (!parent.success) return null
  const state = tracestate.safeParse(given['tracestate'])
  return { traceparent: parent.data, ...(state.success ? { tracestate: state.data } : {}) }
}

/** As the run record holds one; a wrong one is none. */
export const traceCarrierSchema = z.unknown().transform(parseCarrier)
