import { Redis } from 'ioredis'
import type { Fleet } from './fleet.js'
import type { World } from './world.js'

/** How things stood at one moment, by the providers' own count and the queue's. */
export interface Sample {
  readonly atMs: number
  /** Sandboxes that live, by provider. */
  readonly live: Readonly<Record<string, number>>
  /** Places that are taken in the ledger, by provider; null while Redis does not answer. */
  readonly taken: Readonly<Record<string, number>> | null
  /** Jobs in the queue that nobody has taken; null while Redis does not answer. */
  readonly waiting: number | null
  readonly consumers: number
}

/** Looks at the whole deployment several times a second. */
export class Sampler {
  readonly samples: Sample[] = []
  private readonly redis: Redis
  private timer: NodeJS.Timeout | undefined
  private looking: Promise<void> | undefined

  constructor(
    private readonly world: World,
    private readonly fleet: Fleet,
    private readonly now: () => number,
  ) {
    this.redis = new Redis(world.redis.url, { enableOfflineQueue: false, maxRetriesPerRequest: 0, commandTimeout: 500, retryStrategy: () => 100 })
    // Redis goes away on purpose here; its samples say so.
    this.redis.on('error', () => undefined)
  }

  start(everyMs = 200): void {
    this.timer = setInterval(() => {
      this.looking ??= this.look().finally(() => (this.looking = undefined))
    }, everyMs)
  }

  async stop(): Promise<void> {
    clearInterval(this.timer)
    await this.looking
    this.redis.disconnect()
  }

  private async taken(): Promise<Record<string, number>> {
    const names = this.world.entries.map(({ name }) => name)
    const counts = await Promise.all(names.map((name) => this.redis.zcard(`{switchyard}:ledger:leases:${name}`)))
    return Object.fromEntries(names.map((name, index) => [name, counts[index] ?? 0]))
  }

  private async look(): Promise<void> {
    const atMs = this.now()
    const counts = await Promise.all([
      ...this.world.servers.map(async (server) => [server.name, (await server.state()).live] as const),
      ...(this.world.local === null ? [] : [localCount(this.world.local.provider)]),
    ])
    const [taken, waiting] = await Promise.all([this.taken(), this.redis.zcard('{switchyard}:agents:prioritized')]).catch(() => [null, null])
    this.samples.push({ atMs, live: Object.fromEntries(counts), taken, waiting, consumers: this.fleet.healthy })
  }
}

async function localCount(provider: NonNullable<World['local']>['provider']): Promise<readonly [string, number]> {
  let count = 0
  for await (const _info of provider.list({}, { timeoutMs: 10_000 })) count += 1
  return [provider.name, count]
}
