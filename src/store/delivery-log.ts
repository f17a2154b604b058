import type { Redis } from 'ioredis'
import { z } from 'zod'
import type { Keys } from './keys.js'

/** An attempt to deliver an event to a webhook; for showing, never for truth, which the groups of readers hold. */
export interface DeliveryAttempt {
  /** Of readers. */
  readonly group: string
  /** Where the event stands in the stream. */
  readonly sequence: string
  readonly event: string
  readonly type: string
  /** The receiver's origin: a path or a query may hold what only it should know. */
  readonly to: string
  readonly attempt: number
  /** Of HTTP; null when there was no answer. */
  readonly status: number | null
  readonly durationMs: number
  readonly atMs: number
  /** Empty when it was delivered. */
  readonly error: string
}

/** About how many attempts are kept, of all webhooks together. */
const kept = 1_000

const schema = z.object({
  group: z.string(), sequence: z.string(), event: z.string(), type: z.string(), to: z.string(), attempt: z.number(),
  status: z.number().nullable(), durationMs: z.number(), atMs: z.number(), error: z.string(),
})

/** The last attempts to deliver events to webhooks. */
export class DeliveryLog {
  constructor(
    private readonly redis: Redis,
    private readonly keys: Keys,
  ) {}

  async add(attempt: DeliveryAttempt): Promise<void> {
    await this.redis.xadd(this.keys.deliveries(), 'MAXLEN', '~', kept, '*', 'a', JSON.stringify(attempt))
  }

  /** The newest first. What is not one is left out. */
  async latest(count: number): Promise<(DeliveryAttempt & { readonly id: string })[]> {
    const found = await this.redis.xrevrange(this.keys.deliveries(), '+', '-', 'COUNT', count)
    return found.flatMap(([id, [, json = '']]) => {
      const parsed = schema.safeParse(parseJson(json))
      return parsed.success ? [{ ...parsed.data, id }] : []
    })
  }

  /** How many webhooks a job has named at most, of those of which there was something to tell; see lua/event-append.lua. */
  async jobWebhooks(): Promise<number> {
    return Number((await this.redis.hget(this.keys.eventAccount(), 'hooks')) ?? 0)
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
