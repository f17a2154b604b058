import { Queue } from 'bullmq'
import type { Redis } from 'ioredis'
import { QueueClosedError, RedisUnavailableError } from '../job/errors.js'
import {
  assertLayout,
  assertRightsOn,
  createRedis,
  isUnavailability,
  Operators,
  type Keys,
  type QueuedJob,
  ReadyJobs,
  type RedisConfig,
  Roster,
  RunStore,
  SlotLedger,
  unavailable,
  WaitDeadlines,
  whenReady,
} from '../store/index.js'
import { measureRedis } from '../telemetry/measure-redis.js'
import { noMetrics, type Metrics } from '../telemetry/metrics.js'

/** What a producer works with, all of it on one connection. */
export interface Connected {
  readonly redis: Redis
  readonly queue: Queue<QueuedJob>
  readonly store: RunStore
  readonly ledger: SlotLedger
  readonly ready: ReadyJobs
  readonly roster: Roster
  readonly waits: WaitDeadlines
  readonly operators: Operators
  /** Of jobs that end here, with no consumer. */
  readonly metrics: Metrics
}

/**
 * A producer's connection: opened at the first use, and reopened by ioredis after a fault. While Redis is away every
 * use fails within a second instead of waiting.
 */
export class ProducerConnection {
  #redis: Redis | undefined
  #opening: Promise<Connected> | undefined
  #closed = false

  constructor(
    private readonly config: RedisConfig,
    private readonly keys: Keys,
    private readonly retentionMs: number,
    private readonly metrics: Metrics = noMetrics,
  ) {
    metrics.declare('switchyard.job.ends', ['', 'cancelled'])
  }

  /** @throws RedisUnavailableError for faults of the connection; what `work` throws otherwise. */
  async use<T>(work: (connected: Connected) => Promise<T>): Promise<T> {
    if (this.#closed) throw new QueueClosedError('the queue is closed; make a new AgentQueue')
    const redis = (this.#redis ??= this.#measured(createRedis(this.config, 'producer')))
    try {
      await whenReady(redis, this.config)
      this.assertOpen()
      return await work(await this.#open(redis))
    } catch (error) {
      // Redis is not to blame, whatever the connection says.
      if (error instanceof RedisUnavailableError || isUnavailability(error)) this.assertOpen()
      throw isUnavailability(error) ? unavailable(this.config, error) : error
    }
  }

  /** @throws QueueClosedError once it is closed. */
  assertOpen(): void {
    if (this.#closed) throw new QueueClosedError('the queue was closed while it was asked for something, which may be done or not; make a new AgentQueue, and ask again')
  }

  async close(): Promise<void> {
    this.#closed = true
    const connected = await this.#opening?.catch(() => undefined)
    await connected?.queue.close()
    this.#redis?.disconnect()
  }

  #measured(redis: Redis): Redis {
    measureRedis(redis, this.metrics)
    return redis
  }

  async #open(redis: Redis): Promise<Connected> {
    this.#opening ??= this.#connect(redis)
    try {
      return await this.#opening
    } catch (error) {
      // BullMQ remembers a failed start for ever; the next use makes a new one.
      this.#opening = undefined
      throw error
    }
  }

  async #connect(redis: Redis): Promise<Connected> {
    // One after the other: rights are asked for in a transaction that is discarded.
    await assertRightsOn(redis, this.config, this.keys)
    await assertLayout(redis, this.keys)
    return await connectTo(redis, this.keys, this.retentionMs, this.metrics)
  }
}

/** What a producer works with, on a connection that is there; whoever calls closes the queue. */
export async function connectTo(redis: Redis, keys: Keys, retentionMs: number, metrics: Metrics = noMetrics): Promise<Connected> {
  const queue = new Queue<QueuedJob>(keys.queueName, { connection: redis, prefix: keys.prefix, skipWaitingForReady: true })
  // Faults reach whoever called; an 'error' event without a listener would end the process.
  queue.on('error', () => undefined)
  await queue.waitUntilReady()
  return { redis, queue, store: new RunStore(redis, keys, { retentionMs }), ledger: new SlotLedger(redis, keys), ready: new ReadyJobs(redis, keys), roster: new Roster(redis, keys), waits: new WaitDeadlines(redis, keys), operators: new Operators(redis, keys), metrics }
}
