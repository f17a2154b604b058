import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { z } from 'zod'
import { InvalidInputError } from '../job/errors.js'
import { parseInput } from '../job/explain.js'
import { accessOf, type AgentQueue, type QueueAccess } from '../producers/agent-queue.js'
import type { Operator } from '../producers/index.js'
import { apiKeyScopes, type ApiKeyScope, ApiKeyStore, appendAudit, mostApiKeys, type StoredApiKey } from '../store/index.js'
import type { Caller, RunLimits } from './caller.js'
import { unauthenticated } from './refusal.js'
import { repositoryPatterns, secretNames } from './run-limits.js'
import { tenantName } from '../job/tenant-name.js'

/**
 * Bearer keys: `sy_<id>_<secret>`. The id is no secret: it stands in lists and in the audit log, and a key is looked up by it. Redis holds the SHA-256 of
 * the whole key, which is enough for 256 random bits.
 */
export interface NewApiKey extends RunLimits {
  /** What it is for, such as `ci`; shown in lists and in the audit log. */
  readonly name: string
  /** `read`: look at jobs. `write`: enqueue, cancel and retry them too. `admin`: also what concerns the deployment as a whole. */
  readonly scope: ApiKeyScope
  /** Whose jobs it may see and touch, at most 100; left out for everybody's. */
  readonly tenants?: readonly string[] | undefined
  /** After how many milliseconds it opens nothing any more; left out for never. */
  readonly lifetimeMs?: number | undefined
}

/** A key as it is shown: nothing here opens anything. */
export interface ApiKeyInfo extends Omit<StoredApiKey, 'digest'> {
  readonly state: 'valid' | 'expired' | 'revoked'
}

const newKeySchema = z.strictObject({
  name: z.string({ error: 'is missing; say what the key is for, such as "ci"' }).regex(/^[\p{L}\p{N}][\p{L}\p{N} ._@-]{0,99}$/u, 'must be at most 100 letters, digits, spaces and ".", "_", "@", "-", and begin with a letter or a digit'),
  scope: z.enum(apiKeyScopes, { error: 'must be "read", "write" or "admin"' }),
  tenants: z.array(tenantName('is empty')).min(1, 'is empty; leave it out for all tenants').max(100, 'names more than 100 tenants').optional(),
  repositories: repositoryPatterns.nullish(),
  secrets: secretNames.nullish(),
  lifetimeMs: z.int('must be a whole number of milliseconds').min(1_000, 'must be at least a second').max(10 * 366 * 86_400_000, 'is more than ten years; leave it out for a key that does not expire').optional(),
}).superRefine(({ scope, tenants, repositories, secrets }, context) => {
  for (const [field, limit] of Object.entries({ repositories, secrets })) {
    if (scope !== 'write' && limit != null) context.addIssue({ code: 'custom', path: [field], message: `limits what is enqueued, which a key with the scope "${scope}" is not for; leave it out, or give the scope "write"` })
  }
  if (scope === 'admin' && tenants !== undefined) context.addIssue({ code: 'custom', path: ['tenants'], message: 'an admin key concerns the whole deployment; leave the tenants out, or give the scope "write"' })
})

const pattern = /^sy_([0-9a-f]{16})_[A-Za-z0-9_-]{43}$/
/** How often it is noted that a key was used, in milliseconds, whatever it is used for. */
const usedEveryMs = 60_000

/** The API keys of a queue's deployment. */
export class ApiKeys {
  readonly #access: QueueAccess

  /** @param by who makes and revokes them, for the audit log; by default whoever runs this, for whom there is no key that could be named. */
  constructor(queue: AgentQueue, private readonly by: Operator = { id: 'operator', name: '' }) {
    this.#access = accessOf(queue)
  }

  /**
   * Makes a key.
   * @returns the key itself, which nobody can look up later, and what is shown of it.
   * @throws InvalidInputError, RedisUnavailableError.
   */
  async create(input: NewApiKey): Promise<{ readonly key: string; readonly info: ApiKeyInfo }> {
    const { name, scope, tenants, repositories, secrets, lifetimeMs } = parseInput(newKeySchema, input, 'API key')
    const id = randomBytes(8).toString('hex')
    const key = `sy_${id}_${randomBytes(32).toString('base64url')}`
    return await this.#use(async (store) => {
      const put = await store.put({ id, digest: digestOf(key), name, scope, tenants: tenants ?? null, repositories: repositories ?? null, secrets: secrets ?? null, lifetimeMs: lifetimeMs ?? null })
      if (put === 'full') throw new InvalidInputError(`API key: there are ${mostApiKeys} already, as many as there may be; revoke those that are not needed`)
      const { key: stored, nowMs } = await store.read(id)
      if (stored === null) throw new Error('the API key is gone right after it was made')
      await this.#audit('createKey', id)
      return { key, info: infoOf(stored, nowMs) }
    })
  }

  /** All keys, the newest first; those that have expired or were revoked in the last 30 days too. @throws RedisUnavailableError. */
  async list(): Promise<ApiKeyInfo[]> {
    const { keys, nowMs } = await this.#use((store) => store.all())
    return keys.map((key) => infoOf(key, nowMs)).sort((a, b) => b.createdAtMs - a.createdAtMs || (a.id < b.id ? -1 : 1))
  }

  /**
   * From now on the key opens nothing.
   * @param id as in lists; the key itself will do.
   * @returns whether it did until now. @throws InvalidInputError when there is no such key; RedisUnavailableError.
   */
  async revoke(id: string): Promise<boolean> {
    const own = pattern.exec(id)?.[1] ?? id
    if (!/^[0-9a-f]{16}$/.test(own)) throw new InvalidInputError('API key: the id must be 16 characters of 0-9 and a-f, as the list shows it')
    const revoked = await this.#use((store) => store.revoke(own))
    if (revoked === 'unknown') throw new InvalidInputError(`API key: there is none with the id ${own}; the list shows those that there are`)
    await this.#audit('revokeKey', own)
    return revoked === 'revoked'
  }

  /**
   * Whose key it is. That it was used is noted once a minute.
   * @throws HttpRefusalError 401, which tells only whoever has the whole key why; RedisUnavailableError.
   */
  async callerOf(key: string): Promise<Caller> {
    const id = pattern.exec(key)?.[1]
    if (id === undefined) throw unknownKey()
    return await this.#use(async (store) => {
      const { key: stored, nowMs } = await store.read(id)
      if (stored === null || !timingSafeEqual(Buffer.from(digestOf(key), 'hex'), Buffer.from(stored.digest, 'hex'))) throw unknownKey()
      const { state } = infoOf(stored, nowMs)
      if (state === 'revoked') throw unauthenticated(`API key ${id} was revoked; use another one`, 'invalid_token')
      if (state === 'expired') throw unauthenticated(`API key ${id} has expired; make a new one (switchyard keys create)`, 'invalid_token')
      // Redis' clock may be set back.
      if (stored.usedAtMs === null || Math.abs(nowMs - stored.usedAtMs) >= usedEveryMs) await store.used(id)
      const { name, scope, tenants, repositories, secrets } = stored
      return { id, name, scope, tenants, repositories, secrets }
    })
  }

  async #audit(action: string, id: string): Promise<void> {
    await this.#access.use(({ redis }) => appendAudit(redis, this.#access.keys, { by: this.by.id, name: this.by.name, action, targets: [id], count: 1, status: 200 }))
  }

  async #use<T>(work: (store: ApiKeyStore) => Promise<T>): Promise<T> {
    return await this.#access.use(({ redis }) => work(new ApiKeyStore(redis, this.#access.keys)))
  }
}

function unknownKey() {
  return unauthenticated('authorization: the API key is none of this deployment’s; look for a typing error, or make one (switchyard keys create)', 'invalid_token')
}

function digestOf(key: string): string {
  return createHash('sha256').update(key).digest('hex')
}

function infoOf({ digest: _digest, ...rest }: StoredApiKey, nowMs: number): ApiKeyInfo {
  const expired = rest.expiresAtMs !== null && rest.expiresAtMs <= nowMs
  return { ...rest, state: rest.revokedAtMs !== null ? 'revoked' : expired ? 'expired' : 'valid' }
}
