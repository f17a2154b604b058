import { readFileSync } from 'node:fs'
import type { Logger } from 'pino'
import type { Config } from '../config/schema.js'
import { errorMessage } from '../job/errors.js'
import { deploymentFigures } from '../monitor/deployment-figures.js'
import type { Scrape } from '../monitor/monitor-server.js'
import { createRedis } from '../store/index.js'
import { startOpenTelemetry } from '../telemetry/open-telemetry.js'
import { otlpSettings } from '../telemetry/otlp-settings.js'
import { PrometheusMetrics } from '../telemetry/prometheus-metrics.js'

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }

/** What a process measures and traces, and the connection for what is asked of Redis with it. */
export interface Measuring {
  /** Null where nobody looks. */
  readonly metrics: PrometheusMetrics | null
  /** Sends what is left to the collector. */
  close(): Promise<void>
}

export interface MeasuringOptions {
  /** Such as `switchyard-consumer`. */
  readonly service: string
  readonly environment: Readonly<Record<string, string | undefined>>
  /** Whether it is measured also where nothing goes by OTLP. */
  readonly always: boolean
  readonly stuckLoops?: (() => number) | undefined
}

/**
 * Measures, with the deployment's figures out of Redis, and sends metrics and traces where the configuration or OpenTelemetry's variables say. Redis is
 * asked nothing before the first scrape.
 * @throws InvalidInputError when OpenTelemetry's packages are wanted and not installed.
 */
export async function openMeasuring(config: Pick<Config, 'redis' | 'queue' | 'telemetry'>, log: Logger, { service, environment, always, stuckLoops }: MeasuringOptions): Promise<Measuring> {
  let redis: ReturnType<typeof createRedis> | undefined
  const settings = otlpSettings(config.telemetry.otlp, environment, service)
  const onError = (error: unknown) => log.warn({ message: errorMessage(error) }, 'the deployment’s figures not read; a scrape has this process’s own')
  const figures = async () => {
    // As a producer: a scrape that hangs while Redis is away is worse than one that says so.
    redis ??= createRedis(config.redis, 'producer')
    if (redis.status !== 'ready') await whenConnected(redis)
    return await deploymentFigures(redis, { prefix: config.queue.prefix, queue: config.queue.name })
  }
  const metrics = always || settings.metrics !== null ? new PrometheusMetrics({ figures, stuckLoops, onError }) : null
  const sdk = settings.traces === null && settings.metrics === null ? null : await startOpenTelemetry(settings, { version, metrics, onError: (error) => log.warn({ message: errorMessage(error) }, 'what was left for the collector was not sent') })
  return {
    metrics,
    async close() {
      await sdk?.close()
      redis?.disconnect()
    },
  }
}

/** What `/metrics` answers. */
export function scrapeOf({ metrics }: Measuring): (() => Promise<Scrape>) | undefined {
  return metrics === null ? undefined : () => metrics.scrape()
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
