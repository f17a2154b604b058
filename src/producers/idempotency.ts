import { createHash, randomUUID } from 'node:crypto'
import type { JobSpec } from '../job/spec.js'

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
