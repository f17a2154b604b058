import type { Redis } from 'ioredis'
import { InfrastructureError, InvalidInputError } from '../../job/errors.js'
import { bounded, type CallOptions } from '../../providers/index.js'
import { assertRights, createRedis, describeRedis, isUnavailability, Keys, redisFacts, redisProblems, unavailable, whenReady, type RedisConfig } from '../../store/index.js'
import type { Checklist } from './checklist.js'

/** More than a producer has: a process that has just started on a busy machine is no reason to call Redis unwell. */
const patienceMs = 4_000

/** Redis: that it answers and is of the kind that is configured, is new enough, never drops a key, takes what a job writes, and refuses nothing. */
export async function checkRedis(list: Checklist, config: RedisConfig, prefix: string, options: CallOptions): Promise<void> {
  let redis: Redis | undefined
  try {
    const facts = await list.run('connect', async () => {
      // As a producer: a command fails at once while Redis is away.
      const made = (redis = createRedis(config, 'producer'))
      await whenReady(made, config, Math.min(options.timeoutMs, patienceMs))
      const facts = await bounded('redis', 'INFO', options, () => redisFacts(made)).catch((error: unknown) => {
        throw error instanceof InfrastructureError ? error : unavailable(config, error)
      })
      return { value: { ...facts, redis: made }, detail: describeRedis(config) }
    })
    if (facts === undefined) {
      for (const check of ['version', 'eviction', 'write', 'rights']) list.skip(check, 'Redis did not answer')
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
    const keys = new Keys(prefix)
    await list.run('write', async () => {
      // As everything of a job is written: by a script, under the deployment's prefix. It is gone at once.
      await bounded('redis', 'EVAL', options, () => facts.redis.eval("redis.call('SET', KEYS[1], '1', 'PX', '1000') return redis.call('DEL', KEYS[1])", 1, `${prefix}::doctor`)).catch((error: unknown) => {
        throw isUnavailability(error) ? unavailable(config, error) : error
      })
      return { value: true, detail: `a script under ${prefix}` }
    })
    await list.run('rights', async () => {
      await assertRights(config, keys)
      return { value: true, detail: 'every command that is needed' }
    })
  } finally {
    redis?.disconnect()
  }
}
