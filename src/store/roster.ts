import type { Redis } from 'ioredis'
import { z } from 'zod'
import type { Keys } from './keys.js'
import { layout, newerLayout } from './layout.js'
import { redisNowMs } from './redis-time.js'
import { parseShares, type TenantShare } from './tenant-shares.js'
import { runScript } from './scripts.js'

/** What a consumer is configured with, as far as it decides which jobs it can run. Many consumers share one profile. */
export const profileSchema = z.object({
  /** The queue that it serves. */
  queue: z.string(),
  release: z.string(),
  /** Names of its providers. */
  providers: z.array(z.string()),
  /** Names of the secrets that it has a value for. */
  secrets: z.array(z.string()),
})
export type Profile = z.output<typeof profileSchema>

/** A key that the other side refuses, of one consumer. */
export const keyTroubleSchema = z.object({
  /** `git`, or the provider's name. */
  of: z.string(),
  /** One sentence, with the mend. Never holds a key. */
  message: z.string(),
  sinceMs: z.number(),
})
export type KeyTrouble = z.output<typeof keyTroubleSchema>

const saidSchema = z.object({
  profile: z.string(),
  queue: z.string(),
  release: z.string(),
  troubles: z.array(keyTroubleSchema),
  startedAtMs: z.number(),
  // What earlier releases did not say.
  full: z.boolean().default(false),
  heeds: z.array(z.string()).default([]),
  host: z.string().nullable().default(null),
  pid: z.number().nullable().default(null),
  running: z.number().nullable().default(null),
  places: z.number().nullable().default(null),
  draining: z.boolean().default(false),
  ttlMs: z.number().nullable().default(null),
})
const announceReply = z.union([z.tuple([z.literal('newer'), z.string()]), z.tuple([z.string(), z.number(), z.array(z.string()), z.string(), z.number(), z.number()])])
/** Which announcement of its process it is, and when it was made; nothing of a release that does not say so. */
const numberedSchema = z.object({ number: z.number(), atMs: z.number() })

/** Redis is known to have lost writes. */
export interface LostWrites {
  /** Those since then, in milliseconds since 1970 by this process's clock; null where that can't be told: all, or those of minutes and more. */
  readonly sinceMs: number | null
}

/** An announcement that Redis has answered. */
interface Acknowledged {
  readonly consumer: string
  readonly number: number
  readonly redisMs: number
}

export interface Announcement {
  readonly consumer: string
  /** A digest of all that decides which jobs it can run: equal for consumers that are configured alike. */
  readonly profileId: string
  readonly profile: Profile
  readonly troubles: readonly KeyTrouble[]
  /** Whether it has as many jobs as it may have. Default false. */
  readonly full?: boolean
  /** Milliseconds since 1970. */
  readonly startedAtMs: number
  /** For people and operators; see `LiveConsumer`. */
  readonly heeds?: readonly string[] | undefined
  readonly host?: string | undefined
  readonly pid?: number | undefined
  readonly running?: number | undefined
  readonly places?: number | undefined
  readonly draining?: boolean | undefined
  /** The tenants' shares that it was configured with or has learned of. */
  readonly shares: SharesInForce | null
}

/** The tenants' shares, and since when they hold: those that were configured last do. */
export interface SharesInForce {
  readonly shares: Readonly<Record<string, TenantShare>>
  /** Milliseconds since 1970 by Redis' clock; null for those that a consumer was configured with and has not announced yet. */
  readonly sinceMs: number | null
}

/** A consumer that is live. */
export interface LiveConsumer {
  readonly consumer: string
  readonly queue: string
  readonly release: string
  readonly providers: readonly string[]
  readonly secrets: readonly string[]
  /** Keys that are refused; it takes no jobs that need them. */
  readonly troubles: readonly KeyTrouble[]
  /** It had as many jobs as it may have when it last said so. */
  readonly full: boolean
  readonly startedAtMs: number
  /** What of operators' words it heeds; nothing of a release that knows of none. */
  readonly heeds: readonly string[]
  /** Where it runs, and in which process; null of a release that does not say so. */
  readonly host: string | null
  readonly pid: number | null
  /** Jobs in its hands, and how many it may have; null likewise. */
  readonly running: number | null
  readonly places: number | null
  /** It hands its jobs over and takes no more. */
  readonly draining: boolean
  /** When it last announced itself, in milliseconds since 1970 by Redis' clock; null likewise. */
  readonly seenAtMs: number | null
}

/** Who is there and has what: consumers announce themselves, each for a while. The rules are in lua/roster-announce.lua. */
export class Roster {
  private number = 0
  private acknowledged: Acknowledged | null = null

  constructor(
    private readonly redis: Redis,
    private readonly keys: Keys,
  ) {}

  /**
   * Says what a consumer has, for `ttlMs`; one command.
   * @returns the tenants' shares that hold for the deployment, null for none; the names of the providers that its live consumers have; and what Redis has lost,
   * where it no longer knows the announcement before, null where it does; and the longest for which a live consumer asks to be believed, where that is far longer than `ttlMs`, else that.
   * @throws NewerReleaseError when a newer release lays out otherwise what Redis holds.
   */
  async announce({ consumer, profileId, profile, troubles, full = false, startedAtMs, shares, ...about }: Announcement, ttlMs: number): Promise<{ shares: SharesInForce | null; providers: string[]; lost: LostWrites | null; longestTtlMs: number }> {
    const number = ++this.number
    const said = { profile: profileId, queue: profile.queue, release: profile.release, troubles, full, startedAtMs, ...about, ttlMs, number, atMs: Date.now() }
    const reply = announceReply.parse(
      await runScript(
        this.redis,
        'roster-announce',
        [this.keys.consumers(), this.keys.ready(), this.keys.layout()],
        [consumer, ttlMs, JSON.stringify(said), profileId, JSON.stringify(profile), shares === null ? '' : JSON.stringify(shares.shares), shares?.sinceMs ?? '', layout],
      ),
    )
    if (reply.length === 2) throw newerLayout(this.keys, reply[1])
    const [json, sinceMs, providers, before, redisMs, longestTtlMs] = reply
    const lost = lostSince(this.acknowledged?.consumer === consumer ? this.acknowledged : null, before, redisMs, ttlMs)
    this.acknowledged = { consumer, number, redisMs }
    return { shares: json === '' ? null : { shares: parseShares(json), sinceMs }, providers, lost, longestTtlMs }
  }

  /** This consumer is leaving. What it was able to run is believed of the deployment until its last announcement runs out. */
  async withdraw(consumer: string): Promise<void> {
    await this.redis.multi().zrem(this.keys.consumers(), consumer).hdel(`${this.keys.consumers()}:said`, consumer).exec()
  }

  /** The live consumers of all queues, by id. */
  async live(): Promise<LiveConsumer[]> {
    const [nowMs, scored, said, profiles] = await Promise.all([
      redisNowMs(this.redis, this.keys),
      this.redis.zrange(this.keys.consumers(), '0', '-1', 'WITHSCORES'),
      this.redis.hgetall(`${this.keys.consumers()}:said`),
      this.redis.hgetall(`${this.keys.consumers()}:profile`),
    ])
    return scored.flatMap((consumer, index) => {
      if (index % 2 === 1 || Number(scored[index + 1]) <= nowMs) return []
      const text = said[consumer]
      const parsed = text === undefined ? undefined : saidSchema.safeParse(JSON.parse(text)).data
      if (parsed === undefined) return []
      const { profile: id, ttlMs, ...rest } = parsed
      const seenAtMs = ttlMs === null ? null : Number(scored[index + 1]) - ttlMs
      const profile = profileSchema.safeParse(JSON.parse(profiles[id] ?? '{}')).data
      return [{ consumer, ...rest, seenAtMs, providers: profile?.providers ?? [], secrets: profile?.secrets ?? [] }]
    })
  }
}

/** @param before what Redis knew of the consumer, as JSON; empty for nothing. */
function lostSince(acknowledged: Acknowledged | null, before: string, redisMs: number, ttlMs: number): LostWrites | null {
  if (acknowledged === null) return null
  // Its time was over by Redis' clock, as after an outage.
  if (before === '') return redisMs - acknowledged.redisMs < ttlMs ? { sinceMs: null } : null
  const known = numberedSchema.safeParse(JSON.parse(before)).data
  return known !== undefined && known.number < acknowledged.number ? { sinceMs: known.atMs } : null
}
