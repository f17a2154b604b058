import { createHash } from 'node:crypto'
import { z } from 'zod'
import { apiKeyScopes, type ApiKeyScope } from '../store/index.js'
import { forbidden } from './refusal.js'

/**
 * What a caller may have run: on which repositories, and with which of the consumers' secrets. It limits what is begun (created, scheduled, run again), not
 * what is looked at or ended.
 */
export interface RunLimits {
  /** Ids such as `acme/web`, or how they begin, such as `acme/*`; null or left out for all. */
  readonly repositories?: readonly string[] | null | undefined
  /** Names of variables, those that sign webhooks too; empty for none, null or left out for all. */
  readonly secrets?: readonly string[] | null | undefined
}

/**
 * Who asks, and what that may see and touch. What a caller that is limited to tenants sends is changed so that it meets nothing of others': its jobs
 * bear one of its tenants, and the keys in them (of idempotency and concurrency, which hold for whole queues) are the tenant's own.
 */
export interface Caller extends RunLimits {
  /** As it stands in the audit log. */
  readonly id: string
  readonly name: string
  readonly scope: ApiKeyScope
  /** Null for everybody's jobs. */
  readonly tenants: readonly string[] | null
}

/** What is left out could be taken for everything: who may ask for all says so by a null. */
const callerSchema = z.object({
  id: z.string().min(1),
  name: z.string(),
  scope: z.enum(apiKeyScopes),
  tenants: z.array(z.string()).nullable(),
  repositories: z.array(z.string()).nullish(),
  secrets: z.array(z.string()).nullish(),
})

/**
 * Whom an application has let in, whatever it may answer: one without types says `false` or nothing of a stranger.
 * @returns null for nobody.
 * @throws Error for what is neither nobody nor a caller.
 */
export function callerIn(answer: unknown): Caller | null {
  if (typeof answer !== 'object' || answer === null) {
    if (answer === true) throw new Error('authenticate: answered true, which does not say who it is; answer { id, name, scope, tenants }, or null for nobody')
    return null
  }
  const parsed = callerSchema.safeParse(answer)
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  throw new Error(`authenticate: answered with a caller whose "${issue?.path.join('.') ?? ''}" is missing or wrong; answer { id, name, scope, tenants }, with null as tenants for everybody's jobs`)
}

const ranks: Readonly<Record<ApiKeyScope, number>> = { read: 0, write: 1, admin: 2 }

/** @throws HttpRefusalError 403. */
export function requireScope(caller: Caller, scope: ApiKeyScope): void {
  if (ranks[caller.scope] < ranks[scope]) throw forbidden(`API key ${caller.id} may only ${caller.scope}; this needs one with the scope "${scope}"`)
}

/** For what concerns all tenants. @throws HttpRefusalError 403. */
export function requireAllTenants(caller: Caller): void {
  if (caller.tenants !== null) throw forbidden(`API key ${caller.id} is limited to tenants; this concerns the whole deployment`)
}

/** @param tenant a job's; null for a job of nobody's. */
export function maySee({ tenants }: Caller, tenant: string | null): boolean {
  return tenants === null || (tenant !== null && tenants.includes(tenant))
}

/** Whose jobs are listed. @param asked undefined for all that may be seen. @throws HttpRefusalError 403. */
export function listedTenants(caller: Caller, asked: string | undefined): string | readonly string[] | undefined {
  if (asked === undefined) return caller.tenants ?? undefined
  if (!maySee(caller, asked)) throw foreignTenant(caller)
  return asked
}

/**
 * A job's spec as it goes to the queue; what is wrong with it is left for the queue to say.
 * @throws HttpRefusalError 403 for another tenant's.
 */
export function ownSpec(caller: Caller, spec: unknown): unknown {
  if (caller.tenants === null || typeof spec !== 'object' || spec === null || Array.isArray(spec)) return spec
  const given = spec as Readonly<Record<string, unknown>>
  const only = caller.tenants.length === 1 ? caller.tenants[0] : undefined
  const tenant = 'tenant' in given ? given['tenant'] : only
  if (tenant === undefined) throw forbidden(`tenant: is missing, and API key ${caller.id} is for several; say whose job it is`)
  if (typeof tenant !== 'string' || !maySee(caller, tenant)) throw foreignTenant(caller)
  const { idempotencyKey, concurrency } = given
  return {
    ...given,
    tenant,
    ...(typeof idempotencyKey === 'string' && idempotencyKey !== '' && idempotencyKey.length <= longestKey ? { idempotencyKey: ownKey(tenant, idempotencyKey) } : {}),
    ...(isKeyed(concurrency) && concurrency.key !== '' && concurrency.key.length <= longestConcurrencyKey ? { concurrency: { ...concurrency, key: ownConcurrencyKey(tenant, concurrency.key) } } : {}),
  }
}

/** Longer ones the queue refuses. */
const longestKey = 500
const longestConcurrencyKey = 200

function ownKey(tenant: string, key: string): string {
  return `tenant:${createHash('sha256').update(JSON.stringify([tenant, key])).digest('hex')}`
}

/**
 * One that says whose it is, where it is shown. It begins as none does that others choose for what they have: a repository's id looks like a tenant with a
 * key behind it. Where that is too long for the queue, as the names of many scripts make it, it is a digest, which holds no `/`.
 */
function ownConcurrencyKey(tenant: string, key: string): string {
  const readable = `tenant:${encodeURIComponent(tenant)}/${key}`
  return readable.length <= longestConcurrencyKey ? readable : ownKey(tenant, key)
}

function isKeyed(value: unknown): value is { readonly key: string } {
  return typeof value === 'object' && value !== null && 'key' in value && typeof value.key === 'string'
}

function foreignTenant(caller: Caller) {
  return forbidden(`tenant: is none of those that API key ${caller.id} is for`)
}
