import type { ChainableCommander, Redis } from 'ioredis'
import { z } from 'zod'
import { untilAborted } from './abort.js'
import type { Keys } from './keys.js'
import { queueScript, runScript } from './scripts.js'

/** How long an inbox that nobody reads lives, in milliseconds: a dead consumer's goes by itself. */
export const inboxTtlMs = 60_000

const messageSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('grant'), leaseId: z.string(), provider: z.string() }),
  z.object({
    kind: z.literal('work'),
    given: z.object({ jobId: z.string(), provider: z.string(), idle: z.boolean() }).optional(),
    asked: z.object({ view: z.string(), about: z.array(z.object({ id: z.string(), number: z.number(), json: z.string() })) }).optional(),
  }),
  z.object({ kind: z.literal('leave'), by: z.string(), reason: z.string().nullable() }),
])
/**
 * `leave`: an operator wants this consumer to hand its jobs over and stop, as SIGTERM does; `grant`: a place at `provider` is yours under this lease id; `work`: there may be a job to take; `given`: one that was chosen for this consumer,
 * with its place, and stands in BullMQ's wait list: it is taken without a look, and `idle` says whether this consumer still counts as idle; `asked`: what the
 * index has not heard of that view's consumers about, as `Dispatched.unknown`.
 */
export type InboxMessage = z.output<typeof messageSchema>

/**
 * A consumer's inbox: a Redis list that it alone reads. A message is lost when the consumer dies between taking and
 * using it: a grant then expires, and a job stays in the queue for whoever looks next. So `next` wants a timeout, and
 * an idle consumer looks into the queue once a timeout (seconds, not milliseconds).
 *
 * Wake-ups are not lost by going idle in the wrong moment: a consumer becomes idle in the very step that finds nothing for it
 * to do.
 */
export class Inbox {
  readonly #blocking: Redis
  readonly #commands: Redis
  readonly #keys: Keys
  readonly holder: string

  /** @param blocking a connection of its own: `next` blocks it. */
  constructor(connections: { blocking: Redis; commands: Redis }, keys: Keys, holder: string) {
    this.#blocking = connections.blocking
    this.#commands = connections.commands
    this.#keys = keys
    this.holder = holder
  }

  /**
   * Waits for the next message, at most `timeoutMs` (more than 0) while Redis is there; null when none came.
   * @throws the signal's reason once it aborts. A message may be lost then, so abort only to close.
   */
  async next(timeoutMs: number, signal?: AbortSignal): Promise<InboxMessage | null> {
    signal?.throwIfAborted()
    const answer = await untilAborted(this.#blocking.blpop(this.#keys.inbox(this.holder), Math.max(timeoutMs, 10) / 1000), signal)
    return answer === null ? null : messageSchema.parse(JSON.parse(answer[1]))
  }

  /** This consumer can't take what it was given: another idle one is told. */
  async passOn(): Promise<void> {
    await this.unregisterIdle()
    await runScript(this.#commands, 'inbox-wake', [this.#keys.ledger(), this.#keys.ready(), this.#keys.idle()], [this.#keys.inbox(''), inboxTtlMs, 1])
  }

  /** This consumer is idle no more. It became so by `ReadyJobs.dispatch`, in the step that found nothing for it. */
  async unregisterIdle(): Promise<void> {
    await this.#notIdle().exec()
  }

  /** Removes the inbox: the consumer is closing. */
  async close(): Promise<void> {
    await this.#notIdle().del(this.#keys.inbox(this.holder)).exec()
  }

  /** As `notIdle` in lua/ledger.lua. */
  #notIdle(): ChainableCommander {
    return this.#commands.multi().zrem(this.#keys.idle(), this.holder).hdel(this.#keys.viewsOfIdle(), this.holder, `room:${this.holder}`)
  }
}

/** Asks a consumer to leave; see `InboxMessage`. Only for one that says that it heeds that. */
export async function askToLeave(redis: Redis, keys: Keys, consumer: string, { by, reason }: { readonly by: string; readonly reason: string | null }): Promise<void> {
  const message: InboxMessage = { kind: 'leave', by, reason }
  await redis.multi().rpush(keys.inbox(consumer), JSON.stringify(message)).pexpire(keys.inbox(consumer), inboxTtlMs).exec()
}

/** Wakes up to `count` idle consumers, each once. */
export async function wake(redis: Redis, keys: Keys, count: number): Promise<void> {
  await runScript(redis, 'inbox-wake', ...wakeArguments(keys, count))
}

/** As `wake`, as part of a pipeline of a connection that `createRedis` made. */
export function queueWake(pipeline: object, keys: Keys, count: number): void {
  queueScript(pipeline, 'inbox-wake', ...wakeArguments(keys, count))
}

function wakeArguments(keys: Keys, count: number): [keys: string[], args: (string | number)[]] {
  return [
    [keys.ledger(), keys.ready(), keys.idle()],
    [keys.inbox(''), inboxTtlMs, count],
  ]
}
