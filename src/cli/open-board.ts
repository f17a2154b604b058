import type { Config } from '../config/schema.js'
import { startBoard, type Board } from '../monitor/board.js'
import { createRedis, whenReady } from '../store/index.js'
import { measureRedis } from '../telemetry/measure-redis.js'
import { noMetrics } from '../telemetry/metrics.js'
import { createLogger } from './logger.js'
import { openMeasuring, scrapeOf } from './open-measuring.js'
import { openMonitor, probesOf } from './open-monitor.js'
import { openQueue } from './open-queue.js'

/**
 * Opens the board that a configuration describes.
 * @throws RedisUnavailableError when Redis does not answer; InvalidInputError as `startBoard` does.
 */
export async function openBoard(
  config: Config,
  environment: Readonly<Record<string, string | undefined>>,
  options: { readonly auth?: boolean | undefined } = {},
): Promise<{ readonly board: Board; readonly close: () => Promise<void> }> {
  const log = createLogger(config.logs.level)
  const measuring = await openMeasuring(config, log, { service: 'switchyard-board', environment: environment, always: true })
  // As a producer: a page that hangs while Redis is away is worse than one that says so.
  const redis = createRedis(config.redis, 'producer')
  measureRedis(redis, measuring.metrics ?? noMetrics)
  const queue = openQueue(config, measuring.metrics ?? undefined)
  try {
    await whenReady(redis, config.redis)
    const password = environment[config.board.passwordEnv]
    const metrics = scrapeOf(measuring)
    const monitor = await openMonitor(config, log, { ...probesOf(() => redis.ping()), metrics })
    const board = await startBoard({
      redis,
      metrics,
      queues: [{ ...config.queue, description: `deployment ${config.deployment}`, monitored: queue }],
      links: config.board,
      webhooks: { prefix: config.queue.prefix },
      host: config.board.host,
      port: config.board.port,
      writable: config.board.writable,
      credentials: options.auth === false ? 'none' : password === undefined || password === '' ? undefined : { username: config.board.username, password },
    }).catch(async (error: unknown) => {
      await monitor?.close()
      throw error
    })
    return {
      board,
      close: async () => {
        await board.close()
        await monitor?.close()
        await measuring.close()
        await queue.close()
        redis.disconnect()
      },
    }
  } catch (error) {
    await measuring.close()
    await queue.close()
    redis.disconnect()
    throw error
  }
}
