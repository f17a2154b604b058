import type { Redis } from 'ioredis'
import { z } from 'zod'
import { isUnavailability, unavailable } from '../store/index.js'

/** What is to be answered in the place of Bull Board's 500. */
export interface Mistake {
  readonly status: 400 | 404 | 409 | 503
  readonly error: string
}

const boardFault = z.object({ message: z.string() })

/** How the sentences of our own errors begin: of an error Bull Board hands on no more than its message. */
const ours: readonly { readonly status: 404 | 409; readonly sentence: RegExp }[] = [
  { status: 404, sentence: /^job .{1,600}? is not known: it was never enqueued/s },
  { status: 409, sentence: /^job .{1,600}? can't (be run again|go on from its checkpoint)/s },
]

/** Bull Board calls it its own fault too when a job is not as its page showed it, an id can't be one, or Redis can't be used. Null for what is its fault. */
export function mistakeIn(answer: string, connection: Redis): Mistake | null {
  let value: unknown
  try {
    value = JSON.parse(answer)
  } catch {
    return null
  }
  const { message } = boardFault.safeParse(value).data ?? {}
  if (message === undefined) return null
  // What our own calls say is a sentence already; of what the client says its name is lost.
  if (/^redis: .* can't be used \(/.test(message)) return { status: 503, error: message }
  const error = new Error(message)
  if (isUnavailability(error) || /max retries per request/.test(message)) return { status: 503, error: unavailable({ connection }, error).message }
  if (/is not in the [\w-]+ state|Missing (key|lock) for job/.test(message)) return { status: 409, error: 'The job is not as the page shows it any more; load the page again.' }
  if (/Custom Ids? cannot /.test(message)) return { status: 400, error: 'options.jobId: must hold no ":" and be more than a number; leave it out to have one made' }
  const known = ours.find(({ sentence }) => sentence.test(message))
  return known === undefined ? null : { status: known.status, error: message }
}
