import type { Redis } from 'ioredis'
import { z } from 'zod'
import type { Keys } from './keys.js'
import { runScript } from './scripts.js'

/** For how long the answer to a request with an idempotency key is remembered, in milliseconds: a day. */
export const answersKeptMs = 24 * 60 * 60 * 1000
/** How long a request may take before another one with its key may be answered in its place. */
const requestMs = 120_000

const beginReply = z.union([z.tuple([z.enum(['new', 'other'])]), z.tuple([z.literal('busy'), z.number()]), z.tuple([z.literal('known'), z.string()])])

export type BegunAnswer = { readonly kind: 'new' | 'other' } | { readonly kind: 'busy'; readonly forMs: number } | { readonly kind: 'known'; readonly answer: string }

/** What was answered to requests that bear an idempotency key; each is a digest of the key and of whose it is. */
export class HttpAnswers {
  constructor(
    private readonly redis: Redis,
    private readonly keys: Keys,
  ) {}

  /** @param print tells the request from others. @param token of whoever answers it. */
  async begin(key: string, print: string, token: string): Promise<BegunAnswer> {
    const [kind, more] = beginReply.parse(await runScript(this.redis, 'answer-begin', [this.keys.httpAnswer(key)], [print, token, requestMs, answersKeptMs]))
    if (kind === 'busy') return { kind, forMs: more }
    return kind === 'known' ? { kind, answer: more } : { kind }
  }

  /** @param answer null when nothing was done, so that the key is free again. */
  async settle(key: string, token: string, answer: string | null): Promise<void> {
    await runScript(this.redis, 'answer-settle', [this.keys.httpAnswer(key)], [token, answer ?? '', answersKeptMs])
  }
}
