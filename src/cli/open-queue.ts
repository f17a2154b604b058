import { AgentQueue } from '../producers/index.js'
import type { Config } from '../config/schema.js'
import { eventTypesOf } from '../config/event-types.js'
import type { Metrics } from '../telemetry/metrics.js'
import { configOf, type SharedFlags } from './shared-options.js'

/**
 * Opens the queue that the flags' configuration names, and closes it whatever happens.
 * @throws RedisUnavailableError within a second when Redis does not answer.
 */
export async function withQueue<Result>(flags: SharedFlags, work: (queue: AgentQueue, config: Config) => Promise<Result>): Promise<Result> {
  const { config } = await configOf(flags)
  const queue = openQueue(config)
  try {
    return await work(queue, config)
  } finally {
    await queue.close()
  }
}

/** The queue that a configuration names; the caller closes it. @param metrics where its Redis commands are measured. */
export function openQueue(config: Config, metrics?: Metrics): AgentQueue {
  return new AgentQueue({
    redis: config.redis,
    name: config.queue.name,
    prefix: config.queue.prefix,
    retentionMs: config.consumer.retentionMs,
    maxSpecBytes: config.limits.specBytes,
    eventTypes: eventTypesOf(config),
    timeZone: config.costs.timeZone,
    budgets: config.costs.budgets,
    metrics,
  })
}
