import type { Logger } from 'pino'
import type { Config } from '../config/schema.js'
import { errorMessage } from '../job/errors.js'
import { deploymentFigures } from '../monitor/deployment-figures.js'
import type { Scrape } from '../monitor/monitor-server.js'
import { createRedis } from '../store/index.js'
import { PrometheusMetrics } from '../telemetry/prometheus-metrics.js'

/** What a process measures, and the connection for what is asked of Redis with it. */
export interface Measuring {
  readonly metrics: PrometheusMetrics
  close(): void
}

/** Measures, with the deployment's figures out of Redis. Nothing is asked before the first scrape. */
export function openMeasuring(config: Pick<Config, 'redis' | 'queue'>, log: Logger, stuckLoops?: () => number): Measuring {
  let redis: ReturnType<typeof createRedis> | undefined
  const metrics = new PrometheusMetrics({
    figures: async () => {
      // As a producer: a scrape that hangs while Redis is away is worse than one that says so.
      redis ??= createRedis(config.redis, 'producer')
      if (redis.status !== 'ready') await whenConnected(redis)
      return await deploymentFigures(redis, { prefix: config.queue.prefix, queue: config.queue.name })
    },
    stuckLoops,
    onError: (error) => log.warn({ message: errorMessage(error) }, 'the deployment’s figures not read; a scrape has this process’s own'),
  })
  return { metrics, close: () => redis?.disconnect() }
}

/** What `/metrics` answers. */
export function scrapeOf({ metrics }: Measuring): () => Promise<Scrape> {
  return () => metrics.scrape()
}

const connectMs = 2_000

async function whenConnected(redis: ReturnType<typeof createRedis>): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const ready = () => {
      clearTimeout(timer)
      resolve()
    }
    const timer = setTimeout(() => {
      redis.off('ready', ready)
      reject(new Error('Redis can’t be reached'))
    }, connectMs)
    redis.once('ready', ready)
  })
}
