import { type Dispatcher, request } from 'undici'
import { errorMessage } from '../job/errors.js'
import { AddressRefusedError } from './guarded-agent.js'
import { retryAfterMs } from './retry-schedule.js'

export interface Delivery {
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

/** How an attempt went. `why` is a sentence without the URL's path and query, which may hold what only the receiver should know. */
export type Delivered =
  | { readonly ok: true; readonly status: number }
  | { readonly ok: false; readonly status: number | null; readonly why: string; readonly retryAfterMs: number }

/** How much of an answer is read before its connection is given up; nothing of it is kept. */
const readBytes = 64 * 1024

/**
 * Posts an event once. An answer of 2xx, and only that, is success: redirects are not followed.
 * @param options.timeoutMs of the whole attempt: name, connection, request and answer.
 */
export async function post({ url, headers, body }: Delivery, options: { readonly dispatcher: Dispatcher; readonly timeoutMs: number; readonly nowMs: number; readonly signal?: AbortSignal | undefined }): Promise<Delivered> {
  const { origin } = new URL(url)
  const timeout = AbortSignal.timeout(options.timeoutMs)
  const signal = options.signal === undefined ? timeout : AbortSignal.any([timeout, options.signal])
  const failed = (why: string, status: number | null = null, waitMs = 0): Delivered => ({ ok: false, status, why: `${origin} ${why}`, retryAfterMs: waitMs })
  let answer: Dispatcher.ResponseData
  try {
    answer = await request(url, { method: 'POST', headers: { 'content-type': 'application/cloudevents+json; charset=utf-8', 'user-agent': 'switchyard-webhooks/1', ...headers }, body, dispatcher: options.dispatcher, signal, headersTimeout: options.timeoutMs, bodyTimeout: options.timeoutMs })
  } catch (error) {
    if (timeout.aborted) return failed(`did not answer within ${options.timeoutMs / 1000} s`)
    if (error instanceof AddressRefusedError) return failed(`was not called: ${error.message}`)
    return failed(`could not be reached (${reasonOf(error)})`)
  }
  // What it says is nobody's; a receiver that never ends its answer has answered all the same.
  await answer.body.dump({ limit: readBytes, signal }).catch(() => undefined)
  const { statusCode: status } = answer
  if (status >= 200 && status < 300) return { ok: true, status }
  const header = answer.headers['retry-after']
  const waitMs = retryAfterMs(Array.isArray(header) ? header[0] : header, options.nowMs)
  if (status >= 300 && status < 400) return failed(`answered ${status}, a redirect, which is not followed; give the URL that it leads to`, status, waitMs)
  return failed(`answered ${status}`, status, waitMs)
}

function reasonOf(error: unknown): string {
  const code = typeof error === 'object' && error !== null && 'code' in error && typeof error.code === 'string' ? error.code : ''
  const message = errorMessage(error).split('\n')[0]?.slice(0, 200) ?? ''
  return code === '' || message.includes(code) ? message : message === '' ? code : `${code}: ${message}`
}
