import type { IncomingMessage, ServerResponse } from 'node:http'
import { createRedis, type RedisConfig, whenReady } from '../store/index.js'
import { InvalidInputError } from '../job/errors.js'
import { type Authenticate, boardAccess, visitorAccess } from './board-access.js'
import type { LinkTemplates } from '../job/page-links.js'
import { application } from './monitor.js'
import type { MonitoredQueue } from './source.js'

export interface MonitorOptions {
  /** Whose jobs are shown, such as an `AgentQueue`; it stays the caller's to close. */
  readonly queue: MonitoredQueue
  /** The Redis of that queue; a connection of its own is opened. */
  readonly redis: RedisConfig
  /** Where it is mounted, such as `/ops`; left out for a server of its own. */
  readonly basePath?: string | undefined
  /** Whether jobs can be changed. Default false: every change answers 405. */
  readonly writable?: boolean | undefined
  /** The user name and password that it asks for itself. */
  readonly credentials?: { readonly username: string; readonly password: string } | undefined
  /**
   * Whether whoever sends a request may look and, if it is writable, change: for an application that knows its users already. With who it is, that
   * stands in the audit log and is shown to those who wait.
   */
  readonly authenticate?: Authenticate | undefined
  /** The git host's own pages of commits, branches and comparisons. */
  readonly links?: LinkTemplates | undefined
  /** Told of each job that was cancelled or run again from its page. */
  readonly onChange?: ((change: { readonly action: 'cancelJob' | 'retryJob'; readonly jobId: string }) => void) | undefined
}

/** Bull Board and the fleet's pages, without a server. */
export interface Monitor {
  /** For whatever speaks in requests and responses as `fetch` does; in Hono `app.all('/ops/*', ({ req }) => monitor.fetch(req.raw))`. */
  readonly fetch: (request: Request) => Response | Promise<Response>
  /** For `node:http`, Express and Fastify. */
  readonly listener: (request: IncomingMessage, response: ServerResponse) => Promise<void>
  /** Closes its connection. */
  close(): Promise<void>
}

/**
 * Bull Board at its root and the fleet's pages at `/fleet`, to be mounted in an application of one's own.
 * @throws InvalidInputError when an option is wrong, or neither says who may look; RedisUnavailableError when Redis does not answer.
 */
export async function createMonitor(options: MonitorOptions): Promise<Monitor> {
  const { queue, basePath: base = '', credentials, authenticate } = options
  if ((credentials === undefined) === (authenticate === undefined)) {
    throw new InvalidInputError('credentials, authenticate: give one of both: a user name and a password, or a function that says who may look')
  }
  const access = authenticate === undefined ? (credentials === undefined ? null : boardAccess({ ...credentials, now: Date.now, base })) : visitorAccess(authenticate)
  const redis = createRedis(options.redis, 'producer')
  try {
    // BullMQ remembers a failed start for ever.
    await whenReady(redis, options.redis)
    const app = application({
      redis,
      queues: [{ name: queue.name, prefix: queue.prefix, monitored: queue }],
      webhooks: { prefix: queue.prefix },
      writable: options.writable ?? false,
      base,
      links: options.links,
      access,
      onlyLoopback: false,
      onChange: options.onChange,
    })
    return {
      fetch: app.fetch,
      listener: app.listener,
      async close() {
        await app.close()
        redis.disconnect()
      },
    }
  } catch (error) {
    redis.disconnect()
    throw error
  }
}
