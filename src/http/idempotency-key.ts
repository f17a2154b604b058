import { createHash, randomUUID } from 'node:crypto'
import type { Context } from 'hono'
import { z } from 'zod'
import { IdempotencyConflictError } from '../job/errors.js'
import { accessOf } from '../producers/agent-queue.js'
import { HttpAnswers } from '../store/index.js'
import type { ApiContext, Env } from './context.js'
import { HttpRefusalError, malformed } from './refusal.js'

/**
 * `Idempotency-Key`, as the IETF's draft has it: a request that is sent again with its key is answered as the first one was, and does nothing. Keys
 * are each caller's own, and remembered for a day.
 *
 *   new ──► in flight (another one: 409) ──► answered: kept and given again (another request with the key: 422)
 *                    └──► refused or failed: the key is free
 *
 * A server that dies between the two has enqueued the job, or not: the job's own key in the queue is made of this one, so that whoever tries again
 * gets the same job.
 */
export interface OnceAnswer {
  readonly status: 200 | 201
  readonly body: object
  readonly location?: string | undefined
}

const answerSchema = z.object({ status: z.union([z.literal(200), z.literal(201)]), body: z.looseObject({}), location: z.string().optional() })

/** A quoted text as of RFC 9651, or the text alone, as many clients send it. */
const quoted = /^"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"$/
const bare = /^[\x21\x23-\x2b\x2d-\x5b\x5d-\x7e]+$/
const longest = 255

/** @returns undefined when there is none. @throws HttpRefusalError 400. */
export function idempotencyKeyOf(header: string | undefined): string | undefined {
  if (header === undefined) return undefined
  const text = header.trim()
  const key = quoted.exec(text)?.[1]?.replace(/\\(["\\])/g, '$1') ?? (bare.test(text) ? text : undefined)
  if (key === undefined || key.length === 0 || key.length > longest) throw malformed(`idempotency-key: must be one quoted text of 1 to ${longest} printable ASCII characters, such as "8e03978e-40d5-43dd-bc93-6894a57f9324"`)
  return key
}

/**
 * Answers a request once.
 * @param bytes its body.
 * @param answer does what it asks for; `jobKey` is a key of idempotency for what it enqueues, undefined when the request bears none.
 */
export async function once(context: Context<Env>, { queue, log }: ApiContext, bytes: Uint8Array, answer: (jobKey: string | undefined) => Promise<OnceAnswer>): Promise<Response> {
  const key = idempotencyKeyOf(context.req.header('idempotency-key'))
  if (key === undefined) return responseOf(context, await answer(undefined))
  const own = digest([context.var.caller.id, key])
  const { pathname, search } = new URL(context.req.url)
  const print = digest([context.req.method, pathname, search, digest([Buffer.from(bytes).toString('base64')])])
  const token = randomUUID()
  const { use, keys } = accessOf(queue)
  const begun = await use(({ redis }) => new HttpAnswers(redis, keys).begin(own, print, token))
  if (begun.kind === 'other') throw otherRequest()
  if (begun.kind === 'busy') throw new HttpRefusalError(409, 'SWY_IDEMPOTENCY_IN_FLIGHT', 'idempotency-key: the first request with it is being answered; ask again in a moment', { 'retry-after': '1' })
  if (begun.kind === 'known') {
    context.header('idempotency-replayed', 'true')
    return responseOf(context, answerSchema.parse(JSON.parse(begun.answer)))
  }
  let given: OnceAnswer
  try {
    given = await answer(`http:${own}`)
  } catch (error) {
    // Where this fails too, the key is free when its time is over.
    await use(({ redis }) => new HttpAnswers(redis, keys).settle(own, token, null)).catch(() => undefined)
    if (error instanceof IdempotencyConflictError && error.idempotencyKey.startsWith('http:')) throw otherRequest()
    throw error
  }
  // What was done is done; whoever asks again before its time is over is told to wait, and then gets the same job.
  await use(({ redis }) => new HttpAnswers(redis, keys).settle(own, token, JSON.stringify(given))).catch((error: unknown) => log.error({ err: error }, 'an answer could not be kept for its idempotency key'))
  return responseOf(context, given)
}

/** The specs with a key each, where they have none of their own. */
export function withJobKeys(specs: readonly unknown[], jobKey: string | undefined): unknown[] {
  return specs.map((spec, index) => {
    if (jobKey === undefined || typeof spec !== 'object' || spec === null || Array.isArray(spec) || 'idempotencyKey' in spec) return spec
    return { ...spec, idempotencyKey: specs.length === 1 ? jobKey : `${jobKey}:${index}` }
  })
}

function responseOf(context: Context<Env>, { status, body, location }: OnceAnswer): Response {
  return context.json(body, status, location === undefined ? {} : { location })
}

function otherRequest(): HttpRefusalError {
  return new HttpRefusalError(422, 'SWY_IDEMPOTENCY_CONFLICT', 'idempotency-key: was used for another request; use a new key, or send the same request')
}

function digest(parts: readonly string[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex')
}
