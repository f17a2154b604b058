import { createHash } from 'node:crypto'
import type { Redis } from 'ioredis'
import { z } from 'zod'
import type { JobSpec } from '../job/spec.js'
import type { Keys } from './keys.js'

/** What a job says of its key of concurrency, as far as others hold it. */
type KeyAndLimit = Pick<NonNullable<JobSpec['concurrency']>, 'key' | 'limit'>

/** Who holds a key of concurrency that a job waits for. */
export interface KeyStanding extends KeyAndLimit {
  readonly held: number
  /** Some of the jobs that hold it. */
  readonly holders: readonly string[]
}

/** What stands for a key in Redis: 20 hexadecimal digits. */
export function keyDigest(key: string): string {
  return createHash('sha256').update(key).digest('hex').slice(0, 20)
}

const namedHolders = 3
const keyReply = z.tuple([z.number(), z.array(z.string()), z.string().nullable()])

/** Who holds a key, and whether a job is parked for it. */
export async function keyStanding(redis: Redis, keys: Keys, jobId: string, { key, limit }: KeyAndLimit): Promise<KeyStanding & { readonly parked: boolean }> {
  const holders = `${keys.ready()}:key:${keyDigest(key)}:in`
  const answers = await redis.pipeline().zcard(holders).zrange(holders, '0', String(namedHolders - 1)).hget(keys.job(jobId), 'sy').exec()
  const [held, members, listed] = keyReply.parse(
    answers?.map(([error, answer]) => {
      if (error !== null) throw error
      return answer
    }),
  )
  // A member is its queue and its id.
  return { key, limit, held, holders: members.map((member) => member.slice(member.indexOf(':') + 1)), parked: listed?.split(' ')[1]?.startsWith('!') === true }
}

/** As a reason to wait, for people. */
export function describeKey({ key, limit, held, holders }: KeyStanding): string {
  const waits = `waiting for the concurrency key "${key}"`
  if (held === 0) return `${waits}: others that wait for it come first`
  const named = `${holders.length === 1 ? 'job' : 'jobs'} ${holders.join(', ')}${held > holders.length ? ` and ${held - holders.length} more` : ''}`
  return `${waits}: ${named} ${held === 1 ? 'has' : 'have'} it (${held} of at most ${limit})`
}
