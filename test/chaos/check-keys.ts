import type { Violation } from './violation.js'

const prefix = '\\{switchyard\\}'
/** Of the run's own; no other may have keys. */
const job = '(?<jobId>[^:]+)'

/**
 * The keys that may be in Redis when all jobs have ended and all consumers have stopped, and for how long.
 *
 * - `kept`: bounded in number whatever happens: what the queue, the events and the providers are remembered by
 * - `expiring`: one of a job's, must have a time to live
 * - `counted`: BullMQ's of an ended job; it removes them by age and number itself
 */
const allowed: readonly { readonly pattern: RegExp; readonly life: 'kept' | 'expiring' | 'counted' }[] = [
  { pattern: new RegExp(`^${prefix}:agents:(meta|id|marker|events|completed|failed|pc|stalled-check)$`), life: 'kept' },
  { pattern: new RegExp(`^${prefix}:(events|branches|ledger|ledger:arrivals|ledger:(provider|starts):[a-z0-9-]+)$`), life: 'kept' },
  { pattern: new RegExp(`^${prefix}:ready:agents:(arrivals|now|shares)$`), life: 'kept' },
  { pattern: new RegExp(`^${prefix}:(run|log|claim):${job}$`), life: 'expiring' },
  { pattern: new RegExp(`^${prefix}:log-account:${job}(:.+)?$`), life: 'expiring' },
  { pattern: new RegExp(`^${prefix}:reaping:[a-z0-9-]+$`), life: 'expiring' },
  // Of consumers that were killed: an inbox goes a minute after the last message to it, the idle ones a few seconds after the last.
  { pattern: new RegExp(`^${prefix}:(inbox:consumer-[0-9a-f-]+|idle:agents)$`), life: 'expiring' },
  { pattern: new RegExp(`^${prefix}:agents:${job}(:logs)?$`), life: 'counted' },
]

/** Whether Redis holds anything that it must not hold after all is done. */
export function checkKeys(keys: ReadonlyMap<string, number>, jobIds: ReadonlySet<string>): Violation[] {
  const violations: Violation[] = []
  for (const [key, ttlMs] of keys) {
    const rule = allowed.find(({ pattern }) => {
      const match = pattern.exec(key)
      const jobId = match?.groups?.['jobId']
      return match !== null && (jobId === undefined || jobIds.has(jobId))
    })
    if (rule === undefined) violations.push({ jobId: null, what: `the key ${key} is left in Redis` })
    else if (rule.life === 'expiring' && ttlMs === -1) violations.push({ jobId: null, what: `the key ${key} is left in Redis without a time to live` })
  }
  return violations
}
