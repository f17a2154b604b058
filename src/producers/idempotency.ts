import { createHash, randomUUID } from 'node:crypto'
import type { Redis } from 'ioredis'
import { z } from 'zod'
import { IdempotencyConflictError } from '../job/errors.js'
import type { JobSpec } from '../job/spec.js'
import type { Keys } from '../store/index.js'
import { runScript } from '../store/scripts.js'

/** A key, the id of the job that it stands for, and the digest of that job's spec. */
export interface Claim {
  readonly jobId: string
  readonly key: string
  readonly digest: string
}

/** One script takes so many, so that none takes long; so many scripts go in one round trip. */
const claimsPerScript = 1_000
const scriptsPerRoundTrip = 10

/** The position of a conflict within the script's claims, or 0; those that it made. */
const claimReply = z.tuple([z.int()]).rest(z.int())

/** A new job's id: derived from the idempotency key when there is one, so that the same key is the same job; random otherwise. */
export function newJobId(queueName: string, idempotencyKey: string | undefined): string {
  if (idempotencyKey === undefined) return randomUUID()
  // 128 bits, and a letter first: BullMQ refuses ids that are integers or hold ":".
  return `key-${createHash('sha256').update(`${queueName}\0${idempotencyKey}`).digest('hex').slice(0, 32)}`
}

/** A digest that two specs share when they mean the same, whatever the order of their fields. */
export function specDigest(spec: JobSpec): string {
  return createHash('sha256').update(JSON.stringify(sorted(spec))).digest('hex')
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, inner]) => [name, sorted(inner)]),
  )
}

/**
 * Claims idempotency keys: all of them, or none when one belongs to another spec. What had been claimed before the conflict was met is given back.
 * @param ttlMs for how long they are remembered, in milliseconds.
 * @returns those that nobody had claimed before.
 * @throws IdempotencyConflictError.
 */
export async function claimKeys(redis: Redis, keys: Keys, claims: readonly Claim[], ttlMs: number): Promise<Claim[]> {
  const made: Claim[] = []
  for (let start = 0; start < claims.length; start += claimsPerScript * scriptsPerRoundTrip) {
    const conflict = await claimSome(redis, keys, claims.slice(start, start + claimsPerScript * scriptsPerRoundTrip), ttlMs, made)
    if (conflict === undefined) continue
    await giveBack(redis, keys, made)
    throw new IdempotencyConflictError(conflict.key, conflict.jobId)
  }
  return made
}

/** One round trip. Adds to `made` what nobody had claimed before; returns the first conflict. */
async function claimSome(redis: Redis, keys: Keys, claims: readonly Claim[], ttlMs: number, made: Claim[]): Promise<Claim | undefined> {
  const parts: (readonly Claim[])[] = []
  for (let start = 0; start < claims.length; start += claimsPerScript) parts.push(claims.slice(start, start + claimsPerScript))
  const answers = await Promise.allSettled(parts.map(async (part) => runScript(redis, 'claim', [keys.bullmq('completed'), keys.bullmq('failed'), ...part.flatMap(({ jobId }) => [keys.claim(jobId), keys.job(jobId), keys.run(jobId)])], [ttlMs, ...part.map(({ digest }) => digest)])))
  let conflict: Claim | undefined
  for (const [index, answer] of answers.entries()) {
    if (answer.status === 'rejected') throw answer.reason
    const [refused, ...fresh] = claimReply.parse(answer.value)
    const part = parts[index] ?? []
    for (const position of fresh) made.push(...part.slice(position - 1, position))
    conflict ??= part[refused - 1]
  }
  return conflict
}

async function giveBack(redis: Redis, keys: Keys, made: readonly Claim[]): Promise<void> {
  for (let start = 0; start < made.length; start += claimsPerScript) {
    const part = made.slice(start, start + claimsPerScript)
    await runScript(redis, 'claim-undo', part.flatMap(({ jobId }) => [keys.claim(jobId), keys.job(jobId)]), part.map(({ digest }) => digest))
  }
}
