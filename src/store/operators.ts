import type { Redis } from 'ioredis'
import { z } from 'zod'
import type { AuditEntry } from './audit-log.js'
import type { Keys } from './keys.js'
import { redisNowMs } from './redis-time.js'
import { runLedgerScript } from './ledger-call.js'
import { type OperatorWord, operatorWordSchema } from './operator-word.js'

export { describeWord, type OperatorWord } from './operator-word.js'

/** What consumers of this release heed. Each consumer says of itself what it does; see `LiveConsumer.heeds`. */
export const heeded = ['drain', 'limit', 'move', 'pause', 'share', 'leave'] as const
export type Heeded = (typeof heeded)[number]

/** For how long something is said, and who says it and why. */
export interface Saying {
  readonly by: string
  readonly reason?: string | undefined
  /** Left out: until it is taken back. */
  readonly forMs?: number | undefined
  /** For the audit log; `before` and `after` are added in the step that changes it. */
  readonly audit: AuditEntry
}

/** What became of it; `same`: it was so before. */
export interface Said<Word> {
  readonly outcome: 'changed' | 'same'
  readonly before: Word | null
  readonly after: Word | null
}

const drainSchema = operatorWordSchema.extend({ move: z.boolean().default(false) })
const limitSchema = operatorWordSchema.extend({ limit: z.number() })
const shareSchema = operatorWordSchema.extend({ weight: z.number(), cap: z.number().nullable().default(null) })
export type ProviderDrain = z.output<typeof drainSchema>
export type ProviderLimitSet = z.output<typeof limitSchema>
export type TenantShareSet = z.output<typeof shareSchema>

const tenantSchema = z.object({ pause: operatorWordSchema.optional(), share: shareSchema.optional() })
const providerReply = z.union([z.tuple([z.literal('unknown')]), z.tuple([z.enum(['changed', 'same']), z.string(), z.string(), z.number()])])
const tenantReply = z.union([z.tuple([z.enum(['unknown', 'full'])]), z.tuple([z.enum(['changed', 'same']), z.string(), z.string()])])

/** How many tenants operators may have said something of. */
export const mostOperatedTenants = 1_000

/**
 * What operators say at run time: it stands in Redis beside what it concerns, so that all consumers heed it with their next look, and it
 * survives each of them. Each call is one Lua script, which notes the change in the audit log too. The rules are in lua/ledger-operate.lua and lua/operate.lua.
 */
export class Operators {
  constructor(
    private readonly redis: Redis,
    private readonly keys: Keys,
  ) {}

  /**
   * No new sandboxes at a provider; null to take that back.
   * @returns null when no consumer has such a provider.
   */
  async drain(provider: string, said: { readonly move: boolean } | null, saying: Saying): Promise<Said<ProviderDrain> | null> {
    // Left out rather than false: what was said of it before stays.
    return await this.sayOfProvider(provider, 'drain', said === null ? null : said.move ? { move: true } : {}, saying, drainSchema)
  }

  /**
   * Another limit than the configured one; null for that again.
   * @returns null when no consumer has such a provider; with it the configured limit.
   */
  async limit(provider: string, sandboxes: number | null, saying: Saying): Promise<(Said<ProviderLimitSet> & { readonly configured: number }) | null> {
    return await this.sayOfProvider(provider, 'set', sandboxes === null ? null : { limit: sandboxes }, saying, limitSchema)
  }

  /** A tenant's waiting jobs wait on; null to take that back. `isNew`: also for a tenant that has no jobs, account or share. */
  async pauseTenant(tenant: string, paused: boolean, saying: Saying, isNew = false): Promise<Said<OperatorWord> | 'unknown' | 'full'> {
    return await this.sayOfTenant(tenant, 'pause', paused ? {} : null, saying, isNew, operatorWordSchema)
  }

  /** Another share than the configured one; null for that again. */
  async shareTenant(tenant: string, share: { readonly weight: number; readonly cap?: number | undefined } | null, saying: Saying, isNew = false): Promise<Said<TenantShareSet> | 'unknown' | 'full'> {
    return await this.sayOfTenant(tenant, 'share', share, saying, isNew, shareSchema)
  }

  /** Who paused this queue, as far as is known: BullMQ itself, which holds that it is, does not say. Taken away once it is not paused any more. */
  async queuePause(): Promise<OperatorWord | null> {
    const json = await this.redis.get(this.pauseKey())
    return json === null ? null : operatorWordSchema.parse(JSON.parse(json))
  }

  /**
   * Pauses the queue; with `word` null, notes that BullMQ has resumed it.
   * @param before how it was.
   */
  async pauseQueue(word: OperatorWord | null, before: OperatorWord | null, entry: AuditEntry): Promise<void> {
    const json = (each: OperatorWord | null) => (each === null ? '' : JSON.stringify(each))
    await runLedgerScript(this.redis, this.keys, 'queue-pause', [json(word), json(before), JSON.stringify(entry)], [this.keys.audit()])
  }

  /**
   * Resumes the queue, in one step with finding that the time is over for which it was paused.
   * @returns what was said of that; null where nothing is over.
   */
  async liftQueuePause(): Promise<OperatorWord | null> {
    const json = z.string().nullable().parse(await runLedgerScript(this.redis, this.keys, 'queue-lift', []))
    return json === null ? null : operatorWordSchema.parse(JSON.parse(json))
  }

  private pauseKey(): string {
    return `${this.keys.ready()}:q:${this.keys.queueName}:pause`
  }

  /** What is said of tenants now, by their names; what is over is left out. */
  async tenants(): Promise<Map<string, { readonly pause: OperatorWord | null; readonly share: TenantShareSet | null }>> {
    const said = await this.redis.hgetall(`${this.keys.ready()}:set`)
    return await this.readTenants(Object.entries(said))
  }

  /** The same of some. */
  async tenantsOf(names: readonly string[]): Promise<Map<string, { readonly pause: OperatorWord | null; readonly share: TenantShareSet | null }>> {
    if (names.length === 0) return new Map()
    const found = await this.redis.hmget(`${this.keys.ready()}:set`, ...names)
    return await this.readTenants(names.flatMap((name, index) => (found[index] == null ? [] : [[name, found[index]] as const])))
  }

  private async readTenants(entries: readonly (readonly [name: string, json: string])[]): Promise<Map<string, { readonly pause: OperatorWord | null; readonly share: TenantShareSet | null }>> {
    if (entries.length === 0) return new Map()
    const [clock, redisMs] = await Promise.all([this.redis.get(`${this.keys.ledger()}:clock`), redisNowMs(this.redis, this.keys)])
    // The ledger's own clock, which may be behind Redis': see lua/ledger.lua.
    const [readAtMs = redisMs, steadyMs = redisMs] = (clock ?? '').split(' ').filter((part) => part !== '').map(Number)
    const shown = <Word extends OperatorWord>(word: Word | undefined): Word | null => {
      if (word === undefined || word.untilMs === null) return word ?? null
      const untilMs = word.untilMs + readAtMs - steadyMs
      return untilMs <= redisMs ? null : { ...word, untilMs }
    }
    return new Map(
      entries.map(([name, json]) => {
        const { pause, share } = tenantSchema.parse(JSON.parse(json))
        return [name, { pause: shown(pause), share: shown(share) }] as const
      }),
    )
  }

  private async sayOfProvider<Schema extends z.ZodType<OperatorWord>>(provider: string, field: 'drain' | 'set', said: object | null, saying: Saying, schema: Schema): Promise<(Said<z.output<Schema>> & { readonly configured: number }) | null> {
    const args = [provider, field, wordOf(said, saying), saying.forMs ?? '', JSON.stringify(saying.audit)]
    const reply = providerReply.parse(await runLedgerScript(this.redis, this.keys, 'ledger-operate', args, [this.keys.audit()]))
    return reply.length === 1 ? null : { ...saidOf(schema, reply), configured: reply[3] }
  }

  private async sayOfTenant<Schema extends z.ZodType<OperatorWord>>(tenant: string, what: 'pause' | 'share', said: object | null, saying: Saying, isNew: boolean, schema: Schema): Promise<Said<z.output<Schema>> | 'unknown' | 'full'> {
    const args = [tenant, what, wordOf(said, saying), saying.forMs ?? '', isNew ? 1 : 0, JSON.stringify(saying.audit)]
    const reply = tenantReply.parse(await runLedgerScript(this.redis, this.keys, 'tenant-operate', args, [this.keys.audit()]))
    return reply.length === 1 ? reply[0] : saidOf(schema, reply)
  }
}

function wordOf(said: object | null, { by, reason }: Saying): string {
  return said === null ? '' : JSON.stringify({ by, reason, ...said })
}

function saidOf<Schema extends z.ZodType>(schema: Schema, [outcome, before, after]: readonly ['changed' | 'same', string, string, ...unknown[]]): Said<z.output<Schema>> {
  const read = (json: string) => (json === '' ? null : schema.parse(JSON.parse(json)))
  return { outcome, before: read(before), after: read(after) }
}
