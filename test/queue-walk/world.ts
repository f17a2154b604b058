import { copyFile } from 'node:fs/promises'
import { join } from 'node:path'
import { FlowProducer, Queue } from 'bullmq'
import { Redis } from 'ioredis'
import { type EmbeddedRedis, startRedis } from '../../src/embedded/index.js'
import type { JobSpecInput } from '../../src/job/spec.js'
import { createMonitor, type Monitor } from '../../src/monitor/index.js'
import { AgentQueue } from '../../src/producers/index.js'
import { Keys } from '../../src/store/index.js'
import type { Random } from '../chaos/random.js'
import { by, providerNames, queueNames } from './deployment.js'
import { Groups, groupNames } from './groups.js'
import { Journal } from './journal.js'
import { Members } from './members.js'
import { Phases } from './phases.js'
import type { WalkSettings } from './settings.js'
import { TroubledProvider } from './troubled-provider.js'

/** A queue, by both doors. */
export interface Side {
  readonly name: (typeof queueNames)[number]
  readonly keys: Keys
  readonly queue: AgentQueue
  readonly bull: Queue<unknown>
  /** The board of this queue; opened with the first use. */
  readonly monitor: () => Promise<Monitor>
}

/** A job that was added, and may have been removed since. */
export interface KnownJob {
  readonly side: Side
  readonly jobId: string
}

/** A whole deployment: Redis, two queues, providers and git host in memory, consumers. What operations do to it goes straight to Redis; consumers have their wires. */
export class World {
  readonly journal = new Journal()
  readonly client: Redis
  readonly sides: readonly Side[]
  readonly flows: FlowProducer
  readonly providers = providerNames.map((name) => new TroubledProvider(name, (...what) => this.journal.note(...what)))
  readonly phases: Phases | undefined
  readonly members: Members
  readonly groups: Groups
  /** The latest last. */
  readonly jobs: KnownJob[] = []
  /** What idempotency keys stand for: the same key comes with the same spec. */
  readonly keyed = new Map<string, JobSpecInput>()
  private numbers = 0
  private under: Promise<void> = Promise.resolve()
  private readonly connections: Redis[] = []
  private readonly monitors: Monitor[] = []

  private constructor(
    readonly redis: EmbeddedRedis,
    readonly settings: WalkSettings,
    random: Random,
  ) {
    this.client = this.connect()
    this.sides = queueNames.map((name) => {
      const keys = new Keys(undefined, name)
      const bull = new Queue<unknown>(name, { connection: this.connect(), prefix: keys.prefix })
      bull.on('error', () => undefined)
      const queue = new AgentQueue({ redis: { url: redis.url }, name })
      let opened: Promise<Monitor> | undefined
      const monitor = () => (opened ??= this.openMonitor(queue).catch((error: unknown) => {
        opened = undefined
        throw error
      }))
      return { name, keys, bull, queue, monitor }
    })
    this.flows = new FlowProducer({ connection: this.connect(), prefix: new Keys().prefix })
    this.flows.on('error', () => undefined)
    this.phases = settings.phases ? new Phases(random.fork('phases'), (...what) => this.journal.note(...what)) : undefined
    this.members = new Members(new URL(redis.url), this.providers, settings.budgets, settings.restart, this.journal, this.phases)
    this.groups = new Groups(redis.url, this.journal, random.fork('groups'))
  }

  static async open(settings: WalkSettings, random: Random): Promise<World> {
    const world = new World(await startRedis(), settings, random)
    for (const name of groupNames) world.groups.start(name)
    for (const queueName of ['agents', 'agents', 'claim'] as const) await world.members.startSome(queueName, random)
    return world
  }

  /** The first, for what concerns the whole deployment. */
  get main(): Side {
    return this.sides[0]!
  }

  /** Whether what was written may be lost. */
  get losesWrites(): boolean {
    return this.settings.flush || this.settings.restart
  }

  /** Part of the name of what is to be told from everything else. */
  number(): number {
    return this.numbers++
  }

  added(side: Side, ...jobIds: readonly string[]): void {
    for (const jobId of jobIds) this.jobs.push({ side, jobId })
  }

  /** One of the latest more often than not; undefined while there is none. */
  someJob(random: Random): KnownJob | undefined {
    const latest = 15
    if (this.jobs.length === 0) return undefined
    return random.pick(random.chance(0.6) ? this.jobs.slice(-latest) : this.jobs)
  }

  /** Redis loses everything, and whatever was added is not known any more. */
  async flush(): Promise<void> {
    this.journal.note('FLUSH')
    await this.client.flushall()
    this.jobs.length = 0
    this.keyed.clear()
    this.groups.forget()
  }

  /** Redis is as it was so long ago. */
  async goBack(ms: number): Promise<void> {
    this.journal.note('SAVE', ms)
    await this.client.save()
    await new Promise((passed) => setTimeout(passed, ms))
    await this.redis.kill()
    await this.redis.restart()
    this.journal.note('WENT BACK')
  }

  /**
   * A replica that was so long behind takes over while half of the consumers still write to the former primary; then all are with the new one.
   * It comes to the primary's address in the end, where producers are all along.
   */
  async split(behindMs: number, ms: number, random: Random): Promise<void> {
    const { password } = this.redis.connection
    const { port } = this.redis
    if (port === undefined) throw new Error('the walk’s Redis has no port')
    const replica = await startRedis({ password })
    const own = new Redis(replica.url)
    own.on('error', () => undefined)
    try {
      await own.config('SET', 'masterauth', password)
      await own.replicaof('127.0.0.1', port)
      while (!(await own.info('replication')).includes('master_link_status:up')) await new Promise((passed) => setTimeout(passed, 20))
      await own.replicaof('NO', 'ONE')
      this.journal.note('SPLIT', behindMs, ms)
      await new Promise((passed) => setTimeout(passed, behindMs))
      const bringTo = this.members.lead(random, replica.port ?? port)
      this.journal.note('SPLIT NOW')
      await new Promise((passed) => setTimeout(passed, ms))
      await this.redis.kill()
      await own.save()
      await copyFile(join(replica.dataDir, 'dump.rdb'), join(this.redis.dataDir, 'dump.rdb'))
      await this.redis.restart()
      bringTo(port)
      this.journal.note('JOINED')
    } finally {
      own.disconnect()
      await replica.close()
    }
  }

  /** Only one thing at a time happens to Redis. */
  async alone(work: () => Promise<void>): Promise<void> {
    const before = this.under
    this.under = before.then(work)
    await this.under
  }

  /** @returns what did not close well. */
  async close(): Promise<string[]> {
    const problems = await this.members.close()
    await this.groups.close()
    for (const monitor of this.monitors) await monitor.close()
    for (const { queue, bull } of this.sides) {
      await queue.close()
      await bull.close()
    }
    await this.flows.close()
    for (const connection of this.connections) connection.disconnect()
    await this.redis.close()
    return problems
  }

  private async openMonitor(queue: AgentQueue): Promise<Monitor> {
    const monitor = await createMonitor({ queue, redis: { url: this.redis.url }, writable: true, authenticate: () => by })
    this.monitors.push(monitor)
    return monitor
  }

  private connect(): Redis {
    const connection = new Redis(this.redis.url, { maxRetriesPerRequest: null })
    connection.on('error', () => undefined)
    this.connections.push(connection)
    return connection
  }
}
