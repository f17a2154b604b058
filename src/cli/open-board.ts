import type { Config } from '../config/schema.js'
import { startBoard, type Board } from '../monitor/board.js'
import { createRedis, whenReady } from '../store/index.js'

/**
 * Opens the board that a configuration describes.
 * @throws RedisUnavailableError when Redis does not answer; InvalidInputError as `startBoard` does.
 */
export async function openBoard(
  config: Config,
  environment: Readonly<Record<string, string | undefined>>,
  options: { readonly auth?: boolean | undefined } = {},
): Promise<{ readonly board: Board; readonly close: () => Promise<void> }> {
  // As a producer: a page that hangs while Redis is away is worse than one that says so.
  const redis = createRedis(config.redis, 'producer')
  try {
    await whenReady(redis, config.redis)
    const password = environment[config.board.passwordEnv]
    const board = await startBoard({
      redis,
      queues: [{ ...config.queue, description: `deployment ${config.deployment}` }],
      host: config.board.host,
      port: config.board.port,
      writable: config.board.writable,
      credentials: options.auth === false ? 'none' : password === undefined || password === '' ? undefined : { username: config.board.username, password },
    })
    return {
      board,
      close: async () => {
        await board.close()
        redis.disconnect()
      },
    }
  } catch (error) {
    redis.disconnect()
    throw error
  }
}
