import { pino } from 'pino'
import { inMemoryGitHost } from '../../bench/in-memory/git-host.js'
import { InMemoryProvider } from '../../bench/in-memory/provider.js'
import type { Consumer } from '../../src/consumers/index.js'
import { startRedis, type EmbeddedRedis } from '../../src/embedded/index.js'
import { AgentQueue } from '../../src/producers/index.js'
import { beginConsumer, reached, type ConsumerOverrides } from './deployment.js'

export interface InMemoryDeployment {
  readonly redis: EmbeddedRedis
  readonly queue: AgentQueue
  readonly providers: readonly InMemoryProvider[]
  /** Lines that consumers logged, as JSON. */
  readonly logs: string[]
  startConsumer(options?: ConsumerOverrides): Promise<Consumer>
  close(): Promise<void>
}

/**
 * As `startDeployment`, on a real Redis, but without machines and git: what consumers, queue and providers' places do to a job is the same and takes a tenth
 * of the processor's time. Of steps only `sleep` counts; `InMemoryProvider.finish` ends them.
 */
export async function startInMemoryDeployment(options: { limits?: readonly number[] } = {}): Promise<InMemoryDeployment> {
  const limits = options.limits ?? [4, 4]
  const redis = await startRedis()
  const queue = await reached(new AgentQueue({ redis: { url: redis.url } }))
  const providers = limits.map((_limit, index) => new InMemoryProvider(`local-${'abcdef'[index]}`))
  const consumers: Consumer[] = []
  const logs: string[] = []
  const log = pino({ level: 'debug' }, { write: (line: string) => void logs.push(line) })
  return {
    redis,
    queue,
    providers,
    logs,
    async startConsumer(overrides = {}) {
      return await beginConsumer(consumers, { redis: { url: redis.url }, git: inMemoryGitHost, log, ...overrides }, providers, limits)
    },
    async close() {
      await Promise.all(consumers.map((consumer) => consumer.stop()))
      await queue.close()
      await redis.close()
    },
  }
}
