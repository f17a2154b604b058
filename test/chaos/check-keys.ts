import { readFileSync } from 'node:fs'
import type { Violation } from './violation.js'

/** What stands for a part of a key in the documents. */
const placeholders: Readonly<Record<string, string>> = {
  PROVIDER: '[a-z0-9-]+',
  CONSUMER: 'consumer-[0-9a-f-]+',
  EPOCH: '\\d+',
  DAY: '\\d{4}-\\d\\d-\\d\\d',
  GROUP: '.+',
  REST: '.+',
}

interface Rule {
  readonly pattern: RegExp
  readonly life: 'bounded' | 'expires' | 'counted'
}

/**
 * The keys that may be in Redis when all jobs have ended and all consumers have stopped: the table in docs/operating.md.
 * @param jobIds what jobs' ids look like, as a pattern.
 */
export function documentedKeys(document: string, queues: readonly string[] = ['agents'], jobIds = '[^:]+'): Rule[] {
  const rules: Rule[] = []
  const queue = `(?:${queues.join('|')})`
  // Of the run's own jobs, each by its id among all queues; no other may have keys.
  const stands: Readonly<Record<string, string>> = { ...placeholders, QUEUE: queue, JOB: `(?<jobId>(?:${queue}:)?(?:${jobIds}))` }
  for (const [, keys = '', life] of document.matchAll(/^\| (`[^|]+`) \| (bounded|expires|counted) \|/gm)) {
    for (const [, key = ''] of keys.matchAll(/`([^`]+)`/g)) {
      const pattern = key.split(/([A-Z]+)/).map((part) => stands[part] ?? part).join('')
      rules.push({ pattern: new RegExp(`^\\{switchyard\\}${pattern}$`), life: life as Rule['life'] })
    }
  }
  if (rules.length === 0) throw new Error('docs/operating.md: there is no table of keys; see "What Redis holds"')
  return rules
}

/** Whether Redis holds anything that it must not hold after all is done. */
export function checkKeys(
  keys: ReadonlyMap<string, number>,
  jobIds: Pick<ReadonlySet<string>, 'has'>,
  allowed: readonly Rule[] = documentedKeys(readFileSync(new URL('../../docs/operating.md', import.meta.url), 'utf8')),
): Violation[] {
  const violations: Violation[] = []
  for (const [key, ttlMs] of keys) {
    // A job's id can look like one of BullMQ's own names: whatever allows a key does.
    const rules = allowed.filter(({ pattern }) => {
      const match = pattern.exec(key)
      const jobId = match?.groups?.['jobId']
      return match !== null && (jobId === undefined || jobIds.has(jobId))
    })
    if (rules.length === 0) violations.push({ jobId: null, what: `the key ${key} is left in Redis` })
    else if (rules.every(({ life }) => life === 'expires') && ttlMs === -1) violations.push({ jobId: null, what: `the key ${key} is left in Redis without a time to live` })
  }
  return violations
}
