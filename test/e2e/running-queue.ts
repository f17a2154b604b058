import { Queue } from 'bullmq'
import type { Redis } from 'ioredis'
import { pino } from 'pino'
import { afterAll, afterEach, beforeAll, beforeEach } from 'vitest'
import { inMemoryGitHost } from '../../bench/in-memory/git-host.js'
import { InMemoryProvider } from '../../bench/in-memory/provider.js'
import { Consumer, secretsFromEnvironment } from '../../src/consumers/index.js'
import { startRedis, type EmbeddedRedis } from '../../src/embedded/index.js'
import { AgentQueue } from '../../src/producers/index.js'
import { createRedis, Keys } from '../../src/store/index.js'
import { quickSettings } from './deployment.js'

export interface RunningQueue {
  /** Of its Redis. */
  readonly url: string
  readonly client: Redis
  readonly queue: AgentQueue
  /** The same queue as BullMQ has it. */
  readonly bull: Queue
}

/** Gives each test of the calling file a queue with a consumer that has room for five jobs, on an empty Redis. */
export function runsQueue(use: (running: RunningQueue) => void): void {
  let redis: EmbeddedRedis
  const closing: (() => unknown)[] = []
  beforeAll(async () => {
    redis = await startRedis()
  })
  beforeEach(async () => {
    const { url } = redis
    const client = createRedis({ url }, 'commands')
    await client.flushall()
    const bull = new Queue('agents', { connection: client, prefix: new Keys().prefix })
    bull.on('error', () => undefined)
    const queue = new AgentQueue({ redis: { url } })
    const consumer = new Consumer({
      deployment: 'test',
      redis: { url },
      git: inMemoryGitHost,
      providers: [{ provider: new InMemoryProvider('a'), limit: { sandboxes: 5 } }],
      secrets: secretsFromEnvironment([]),
      log: pino({ level: 'silent' }),
      settings: quickSettings,
    })
    closing.push(
      () => consumer.stop(),
      () => queue.close(),
      () => bull.close(),
      () => {
        client.disconnect()
      },
    )
    await consumer.start()
    use({ url, client, queue, bull })
  })
  afterEach(async () => {
    for (const close of closing.splice(0)) await close()
  })
  afterAll(() => redis.close())
}
