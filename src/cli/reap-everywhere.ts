import { randomUUID } from 'node:crypto'
import { withKeyFiles } from '../config/key-files.js'
import { createProviders } from '../config/providers.js'
import type { Config } from '../config/schema.js'
import { reapNow, reapRound, type ReapParts, type ReapRound } from '../consumers/index.js'
import { InvalidInputError } from '../job/errors.js'
import { createRedis, isUnavailability, Keys, Reaping, RunStore, SlotOwners, unavailable, whenReady } from '../store/index.js'
import { createLogger } from './logger.js'

/** How long a round that a consumer is making is waited for. */
const patienceMs = 60_000

/**
 * One round of the reaper at every configured provider.
 * @param parts.kill false only looks.
 * @param parts.only the names of the providers; all when left out.
 * @throws InvalidInputError for mistakes in the configuration, RedisUnavailableError: without the run records nothing is judged.
 */
export async function reapEverywhere(
  config: Config,
  parts: { readonly directory: string; readonly environment: NodeJS.ProcessEnv; readonly kill: boolean; readonly only?: readonly string[] | undefined },
): Promise<ReapRound[]> {
  if (config.providers.length === 0) throw new InvalidInputError('providers: none is configured; name the configuration of the consumers with --config')
  const unknown = parts.only?.find((name) => config.providers.every((entry) => entry.name !== name))
  if (unknown !== undefined) throw new InvalidInputError(`--provider: "${unknown}" is not configured; configured are: ${config.providers.map(({ name }) => name).join(', ')}`)
  const environment = withKeyFiles(parts.environment, config.keyFiles, parts.directory)
  const providers = await createProviders(config.providers.filter(({ name }) => parts.only?.includes(name) ?? true), { directory: parts.directory, environment })
  const redis = createRedis(config.redis, 'producer')
  try {
    await whenReady(redis, config.redis)
    const keys = new Keys(config.queue.prefix, config.queue.name)
    const reaping = new Reaping(redis, keys, `reap-${randomUUID()}`)
    const shared: ReapParts = {
      deployment: config.deployment,
      store: new RunStore(redis, keys.ofRuns()),
      owners: new SlotOwners(redis, keys),
      reaping,
      callTimeoutMs: config.consumer.callTimeoutMs,
      graceMs: config.consumer.reapGraceMs,
      branchRetentionMs: config.consumer.branchRetentionMs,
      // What went wrong is in the report.
      log: createLogger('silent'),
      now: Date.now,
      signal: new AbortController().signal,
    }
    return await Promise.all(
      providers.map(async ({ provider }) => {
        if (parts.kill) return reapNow(shared, provider, patienceMs)
        const { round } = await reapRound(shared, provider, { memory: await reaping.memory(provider.name), claim: null })
        return round
      }),
    )
  } catch (error) {
    throw isUnavailability(error) ? unavailable(config.redis, error) : error
  } finally {
    redis.disconnect()
    await Promise.all(providers.map(({ provider }) => provider.close()))
  }
}
