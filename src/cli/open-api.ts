import type { Config } from '../config/schema.js'
import { createApi, startApiServer } from '../http/index.js'
import { createLogger } from './logger.js'
import { openQueue } from './open-queue.js'

/**
 * Serves the HTTP API that a configuration describes.
 * @throws RedisUnavailableError when Redis does not answer; InvalidInputError when the address can't be listened on.
 */
export async function openApi(config: Config): Promise<{ readonly url: string; readonly close: () => Promise<void> }> {
  const queue = openQueue(config)
  try {
    // Whoever starts it wants to hear of a Redis that is not there.
    await queue.statuses([])
    const api = createApi({ queue, maxBodyBytes: config.http.maxBodyBytes, rateLimit: config.http.rateLimit, log: createLogger(config.logs.level) })
    const server = await startApiServer({ api, host: config.http.host, port: config.http.port })
    return {
      url: server.url,
      close: async () => {
        await server.close()
        await queue.close()
      },
    }
  } catch (error) {
    await queue.close()
    throw error
  }
}
