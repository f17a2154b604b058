import type { Logger } from 'pino'
import type { Config } from '../config/schema.js'
import { errorMessage } from '../job/errors.js'
import { startMonitorServer, type MonitorServer, type MonitorServerOptions } from '../monitor/monitor-server.js'

/**
 * Answers probes where the configuration says; null when it names no port.
 * @throws InvalidInputError when the address can't be listened on.
 */
export async function openMonitor({ monitor: { host, port } }: Pick<Config, 'monitor'>, log: Logger, probes: Omit<MonitorServerOptions, 'host' | 'port'>): Promise<MonitorServer | null> {
  if (port === undefined) return null
  const server = await startMonitorServer({ host, port, ...probes })
  log.info({ address: server.url }, 'probes are answered')
  return server
}

/** Of a process that does nothing but answer requests out of Redis: it lives while it answers, and is ready while Redis does. */
export function probesOf(redis: () => Promise<unknown>): Omit<MonitorServerOptions, 'host' | 'port'> {
  return { stuck: () => [], unready: () => redis().then(() => [], (error: unknown) => [`Redis: ${errorMessage(error)}`]) }
}
