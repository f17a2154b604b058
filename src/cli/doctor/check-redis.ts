import { InfrastructureError, InvalidInputError } from '../../job/errors.js'
import { bounded, type CallOptions } from '../../providers/index.js'
import { createRedis, describeRedis, redisFacts, redisProblems, unavailable, whenReady, type RedisConfig } from '../../store/index.js'
import type { Checklist } from './checklist.js'

/** More than a producer has: a process that has just started on a busy machine is no reason to call Redis unwell. */
const patienceMs = 4_000

/** Redis: that it answers, is new enough, and never drops a key. */
export async function checkRedis(list: Checklist, config: RedisConfig, options: CallOptions): Promise<void> {
  // As a producer: a command fails at once while Redis is away.
  const redis = createRedis(config, 'producer')
  try {
    const facts = await list.run('connect', async () => {
      await whenReady(redis, config, Math.min(options.timeoutMs, patienceMs))
      const facts = await bounded('redis', 'INFO', options, () => redisFacts(redis)).catch((error: unknown) => {
        throw error instanceof InfrastructureError ? error : unavailable(config, error)
      })
      return { value: facts, detail: describeRedis(config) }
    })
    if (facts === undefined) {
      for (const check of ['version', 'eviction']) list.skip(check, 'Redis did not answer')
      return
    }
    const problems = redisProblems(facts)
    const judge = (check: string, problem: string | undefined, detail: string) =>
      list.run(check, async () => {
        if (problem !== undefined) throw new InvalidInputError(problem)
        return { value: true, detail }
      })
    await judge('version', problems.version, facts.version)
    await judge('eviction', problems.maxmemoryPolicy, facts.maxmemoryPolicy ?? 'the server does not tell its maxmemory-policy; it must be noeviction')
  } finally {
    redis.disconnect()
  }
}
