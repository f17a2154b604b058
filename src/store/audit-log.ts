import type { Redis } from 'ioredis'
import { z } from 'zod'
import type { Keys } from './keys.js'

/** About how many entries are kept. */
const mostEntries = 10_000

const entrySchema = z.object({
  /** The caller's id: of an API key, or what the application says; `operator` for the command line. */
  by: z.string(),
  name: z.string(),
  /** The operation's id in the API's document, such as `cancelJob`. */
  action: z.string(),
  /** What it concerned: the ids of jobs, a schedule, a key; at most 20 of them. */
  targets: z.array(z.string()),
  /** How many there were. */
  count: z.int(),
  /** The HTTP status of the answer. */
  status: z.int(),
  /** What an operator changed: how it was and how it is; null where nothing was, or is. */
  before: z.unknown().default(null),
  after: z.unknown().default(null),
})

/** Who did what. */
export type AuditEntry = z.input<typeof entrySchema>

export interface KeptAuditEntry extends z.output<typeof entrySchema> {
  /** Where it stands; older ones are before it. */
  readonly id: string
  /** Milliseconds since 1970 by Redis' clock. */
  readonly atMs: number
}

/** Adds an entry; the oldest go. */
export async function appendAudit(redis: Redis, keys: Keys, entry: AuditEntry): Promise<void> {
  await redis.xadd(keys.audit(), 'MAXLEN', '~', mostEntries, '*', 'entry', JSON.stringify(entry))
}

/** @param before an entry's id, or null for the newest. @param limit how many at most. */
export async function readAudit(redis: Redis, keys: Keys, before: string | null, limit: number): Promise<KeptAuditEntry[]> {
  // Redis takes no interval that ends before the first id there can be.
  if (before !== null && /^0+-0+$/.test(before)) return []
  const found = await redis.xrevrange(keys.audit(), before === null ? '+' : `(${before}`, '-', 'COUNT', limit)
  return found.map(([id, [, json = '']]) => ({ id, atMs: Number.parseInt(id, 10), ...entrySchema.parse(JSON.parse(json)) }))
}
