import type { Redis } from 'ioredis'
import { z } from 'zod'
import type { Keys } from './keys.js'
import { runScript } from './scripts.js'

const jobsPerLook = 200
/** Consumers may be configured with different leases, and one that has come just now is not known yet. */
const leaseFactor = 10

/**
 * Shortens the times to live of BullMQ's locks where Redis' clock was set back, so that the jobs of a consumer that is gone are found again.
 * @param settings.leaseMs the longest that a live consumer has.
 * @returns how many were shortened; 0 as long as Redis' clock goes as it should.
 */
export async function mendLocks(redis: Redis, keys: Keys, settings: { readonly leaseMs: number; readonly stallCheckMs: number }): Promise<number> {
  const { leaseMs, stallCheckMs } = settings
  const args = [leaseFactor * stallCheckMs, leaseFactor * leaseMs, keys.job(''), jobsPerLook]
  return z.number().parse(await runScript(redis, 'locks-mend', [keys.bullmq('stalled-check'), keys.bullmq('active')], args))
}
