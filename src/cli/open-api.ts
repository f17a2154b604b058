import { createArtifactStore, type ArtifactStore } from '../artifacts/index.js'
import { withKeyFiles } from '../config/key-files.js'
import type { Config } from '../config/schema.js'
import { createApi, startApiServer } from '../http/index.js'
import { InvalidInputError } from '../job/errors.js'
import { loadMcpSdk, mcpEndpoint } from '../mcp/index.js'
import { accessOf } from '../producers/agent-queue.js'
import { createLogger } from './logger.js'
import { openMeasuring, scrapeOf } from './open-measuring.js'
import { openMonitor, probesOf } from './open-monitor.js'
import { openQueue } from './open-queue.js'

/**
 * Serves the HTTP API that a configuration describes.
 * @throws RedisUnavailableError when Redis does not answer; InvalidInputError when the address can't be listened on.
 */
export async function openApi(config: Config): Promise<{ readonly url: string; readonly close: () => Promise<void> }> {
  const log = createLogger(config.logs.level)
  const measuring = await openMeasuring(config, log, { service: 'switchyard-serve', environment: process.env, always: true })
  const queue = openQueue(config, measuring.metrics ?? undefined)
  try {
    // Whoever starts it wants to hear of a Redis that is not there.
    await queue.statuses([])
    const artifacts = storeOf(config)
    const metrics = scrapeOf(measuring)
    const mcp = config.http.mcp ? mcpEndpoint(await loadMcpSdk(), (error) => log.error({ err: error }, 'a request to /mcp failed')) : undefined
    const api = createApi({ queue, metrics, artifacts, maxBodyBytes: config.http.maxBodyBytes, rateLimit: config.http.rateLimit, keyTries: config.http.keyTries, trustedProxies: config.http.trustedProxies, mcp, log })
    const monitor = await openMonitor(config, log, { ...probesOf(() => accessOf(queue).use(({ redis }) => redis.ping())), metrics })
    const server = await startApiServer({ api, host: config.http.host, port: config.http.port }).catch(async (error: unknown) => {
      await monitor?.close()
      throw error
    })
    return {
      url: server.url,
      close: async () => {
        await server.close()
        await monitor?.close()
        await measuring.close()
        artifacts?.close()
        await queue.close()
      },
    }
  } catch (error) {
    await measuring.close()
    await queue.close()
    throw error
  }
}

/** What serves jobs need not have the keys that consumers have: without those of the artifact store there are no links. */
export function storeOf(config: Config): ArtifactStore | undefined {
  if (config.artifacts === undefined) return undefined
  try {
    return createArtifactStore(config.artifacts, { environment: withKeyFiles(process.env, config.keyFiles, '.') })
  } catch (error) {
    if (!(error instanceof InvalidInputError)) throw error
    createLogger(config.logs.level).warn({ message: error.message }, 'no links to artifacts are made here')
    return undefined
  }
}
