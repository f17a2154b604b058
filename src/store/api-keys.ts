import type { Redis } from 'ioredis'
import { z } from 'zod'
import type { Keys } from './keys.js'
import { refusesWrites } from './redis-faults.js'
import { redisNowMs } from './redis-time.js'
import { runScript } from './scripts.js'

/** How many API keys a deployment may have. */
export const mostApiKeys = 10_000
/** For how long a key that has expired or was revoked is still shown, in milliseconds. */
const shownMs = 30 * 24 * 60 * 60 * 1000
const keysPerRoundTrip = 500

export const apiKeyScopes = ['read', 'write', 'admin'] as const
export type ApiKeyScope = (typeof apiKeyScopes)[number]

const atMs = z.coerce.number()
const hashSchema = z.object({
  digest: z.string().regex(/^[0-9a-f]{64}$/),
  name: z.string(),
  scope: z.enum(apiKeyScopes),
  tenants: z.string(),
  // Left out by earlier releases.
  repositories: z.string().default(''),
  secrets: z.string().default(''),
  createdAtMs: atMs,
  expiresAtMs: atMs.optional(),
  usedAtMs: atMs.optional(),
  revokedAtMs: atMs.optional(),
})
const listSchema = z.array(z.string())

/** An API key as Redis holds it; times are in milliseconds since 1970 by Redis' clock. */
export interface StoredApiKey {
  readonly id: string
  /** SHA-256 of the whole key, in hex. */
  readonly digest: string
  readonly name: string
  readonly scope: ApiKeyScope
  /** Whose jobs it may see and touch; null for everybody's. */
  readonly tenants: readonly string[] | null
  /** What it may have jobs run on, as ids or how they begin; null for all. */
  readonly repositories: readonly string[] | null
  /** Which secrets its jobs may name; null for all. */
  readonly secrets: readonly string[] | null
  readonly createdAtMs: number
  readonly expiresAtMs: number | null
  readonly usedAtMs: number | null
  readonly revokedAtMs: number | null
}

/** The API keys of a deployment: what each may do, and nothing that opens with it. */
export class ApiKeyStore {
  constructor(
    private readonly redis: Redis,
    private readonly keys: Keys,
  ) {}

  /** @param key.lifetimeMs null for one that does not expire. */
  async put(key: Pick<StoredApiKey, 'id' | 'digest' | 'name' | 'scope' | 'tenants' | 'repositories' | 'secrets'> & { readonly lifetimeMs: number | null }): Promise<'added' | 'full'> {
    const { id, digest, name, scope, tenants, repositories, secrets, lifetimeMs } = key
    const nowMs = await redisNowMs(this.redis, this.keys)
    const text = (list: readonly string[] | null) => (list === null ? '' : JSON.stringify(list))
    const fields = { digest, name, scope, tenants: text(tenants), repositories: text(repositories), secrets: text(secrets), createdAtMs: nowMs, ...(lifetimeMs === null ? {} : { expiresAtMs: nowMs + lifetimeMs }) }
    const args: (string | number)[] = [id, mostApiKeys, lifetimeMs === null ? '' : lifetimeMs + shownMs, ...Object.entries<string | number>(fields).flat()]
    return z.enum(['added', 'full']).parse(await runScript(this.redis, 'api-key-put', [this.keys.apiKeys(), this.keys.apiKey(id)], args))
  }

  /** The key and Redis' time, in one round trip; null when there is none. */
  async read(id: string): Promise<{ readonly key: StoredApiKey | null; readonly nowMs: number }> {
    const [hash, time] = answersOf(await this.redis.pipeline().hgetall(this.keys.apiKey(id)).time().exec())
    return { key: parseKey(id, hash), nowMs: timeOf(time) }
  }

  /** All that are known, in no order; also those that have expired or were revoked lately. */
  async all(): Promise<{ readonly keys: StoredApiKey[]; readonly nowMs: number }> {
    const ids = await this.redis.zrange(this.keys.apiKeys(), '0', '-1')
    const keys: StoredApiKey[] = []
    for (let start = 0; start < ids.length; start += keysPerRoundTrip) {
      const part = ids.slice(start, start + keysPerRoundTrip)
      const pipeline = this.redis.pipeline()
      for (const id of part) pipeline.hgetall(this.keys.apiKey(id))
      for (const [index, hash] of answersOf(await pipeline.exec()).entries()) keys.push(...[parseKey(part[index] ?? '', hash)].filter((key) => key !== null))
    }
    return { keys, nowMs: await redisNowMs(this.redis, this.keys) }
  }

  async revoke(id: string): Promise<'revoked' | 'already' | 'unknown'> {
    return z.enum(['revoked', 'already', 'unknown']).parse(await runScript(this.redis, 'api-key-revoke', [this.keys.apiKeys(), this.keys.apiKey(id)], [id, shownMs]))
  }

  /** Notes that it was used. Where Redis takes no writes it is used all the same: who looks what is the matter there comes with one. */
  async used(id: string): Promise<void> {
    try {
      await runScript(this.redis, 'api-key-used', [this.keys.apiKey(id)], [])
    } catch (error) {
      if (!refusesWrites(error)) throw error
    }
  }
}

function answersOf(replies: [Error | null, unknown][] | null): unknown[] {
  return (replies ?? []).map(([error, value]) => {
    if (error !== null) throw error
    return value
  })
}

function parseKey(id: string, hash: unknown): StoredApiKey | null {
  if (typeof hash !== 'object' || hash === null || Object.keys(hash).length === 0) return null
  const { tenants, repositories, secrets, expiresAtMs = null, usedAtMs = null, revokedAtMs = null, ...rest } = hashSchema.parse(hash)
  const list = (text: string) => (text === '' ? null : listSchema.parse(JSON.parse(text)))
  return { id, ...rest, tenants: list(tenants), repositories: list(repositories), secrets: list(secrets), expiresAtMs, usedAtMs, revokedAtMs }
}

function timeOf(time: unknown): number {
  const [seconds, micros] = z.tuple([z.coerce.number(), z.coerce.number()]).parse(time)
  return seconds * 1000 + Math.floor(micros / 1000)
}
