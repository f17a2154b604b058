import { pino } from 'pino'
import { inMemoryGitHost } from '../../bench/in-memory/git-host.js'
import { InMemoryProvider } from '../../bench/in-memory/provider.js'
import { Consumer, secretsFromEnvironment } from '../../src/consumers/index.js'
import { startRedis, type EmbeddedRedis } from '../../src/embedded/index.js'
import type { JobSpecInput } from '../../src/job/spec.js'
import { AgentQueue } from '../../src/producers/index.js'
import { reached } from '../e2e/deployment.js'

/** A real queue with a consumer whose sandboxes are none, to look at. */
export interface Monitored {
  readonly redis: EmbeddedRedis
  readonly queue: AgentQueue
  readonly provider: InMemoryProvider
  close(): Promise<void>
}

export async function startMonitored(): Promise<Monitored> {
  const redis = await startRedis()
  const queue = await reached(new AgentQueue({ redis: { url: redis.url } }))
  const provider = new InMemoryProvider('e2b')
  const consumer = new Consumer({
    deployment: 'test', redis: { url: redis.url }, git: inMemoryGitHost, secrets: secretsFromEnvironment([]), log: pino({ level: 'silent' }), tenants: { acme: { weight: 2, cap: 5 } },
    providers: [{ provider, limit: { sandboxes: 3 } }, { provider: new InMemoryProvider('modal'), limit: { sandboxes: 2 } }], settings: { leaseMs: 1_500, stallCheckMs: 500, stopGraceMs: 100, unrunnableGraceMs: 600_000 },
  })
  await consumer.start()
  return {
    redis,
    queue,
    provider,
    async close() {
      await consumer.stop()
      await queue.close()
      await redis.close()
    },
  }
}

/** Runs until it is cancelled, and prints. */
export function longJob(more: Partial<JobSpecInput> = {}): JobSpecInput {
  return { repository: 'acme/web', tenant: 'acme', push: false, steps: [{ name: 'agent', run: 'sleep 600 # line every 0.2' }, 'npm test'], ...more }
}
