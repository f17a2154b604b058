import type { Redis } from 'ioredis'
import { z } from 'zod'
import type { Keys } from './keys.js'
import { runScript } from './scripts.js'

const atMs = z.int().min(0)
const memorySchema = z.object({
  /** Sandboxes that nobody owned at the last round, by id. */
  sandboxes: z.record(z.string(), z.object({ firstSeenAtMs: atMs, failedKills: z.int().min(0), lastError: z.string().nullable() })),
  /** Places whose owner was gone at the last round, by lease id: since when. */
  places: z.record(z.string(), atMs),
})
/** What one round at a provider tells the next, whoever makes it. */
export type ReapMemory = z.output<typeof memorySchema>

/** How long a provider's memory is kept when nobody reaps there any more. */
const keptMs = 7 * 24 * 60 * 60 * 1000
/** More are not remembered: a first sight or a count of failed kills that is forgotten starts anew. */
const maxRemembered = 1_000

const claimReply = z.union([z.tuple([z.literal(0)]), z.tuple([z.literal(1), z.string().nullable()])])
const nothing: ReapMemory = { sandboxes: {}, places: {} }

/**
 * Who reaps at which provider: one process at a time, so that twenty consumers do not list twenty times.
 *
 *   free ──claim──► held ──finish──► free, but not to be claimed again within the gap
 *                    └──── not renewed in time ────► free
 */
export class Reaping {
  constructor(
    private readonly redis: Redis,
    private readonly keys: Keys,
    private readonly holder: string,
  ) {}

  /**
   * Begins a round, or renews the claim of one under way.
   * @param options.gapMs how long ago the round before must have ended.
   * @param options.ttlMs how long the claim holds without renewal.
   * @returns what the last round left, or null when another process reaps there or did so just now.
   */
  async claim(provider: string, options: { gapMs: number; ttlMs: number }): Promise<ReapMemory | null> {
    const reply = claimReply.parse(await runScript(this.redis, 'reap-claim', [this.keys.reaping(provider)], [this.holder, options.gapMs, options.ttlMs, keptMs]))
    return reply[0] === 0 ? null : parse(reply[1])
  }

  /** Ends a round. @param memory null leaves what was remembered, after a round that came to nothing. */
  async finish(provider: string, memory: ReapMemory | null): Promise<void> {
    const text = memory === null ? '' : JSON.stringify({ sandboxes: bounded(memory.sandboxes), places: bounded(memory.places) })
    await runScript(this.redis, 'reap-finish', [this.keys.reaping(provider)], [this.holder, text, keptMs])
  }

  /** What the last round left, without beginning one. */
  async memory(provider: string): Promise<ReapMemory> {
    return parse(await this.redis.hget(this.keys.reaping(provider), 'memory'))
  }
}

function parse(text: string | null): ReapMemory {
  return text === null ? nothing : memorySchema.parse(JSON.parse(text))
}

function bounded<Value>(record: Readonly<Record<string, Value>>): Record<string, Value> {
  return Object.fromEntries(Object.entries(record).slice(0, maxRemembered))
}
