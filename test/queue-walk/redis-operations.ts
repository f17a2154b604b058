import type { Operation, Step } from './operation.js'

/** What happens to Redis itself. */
export const redisOperations: readonly Operation[] = [
  { name: 'redis: freeze', weight: 0.4, needs: 'restart', does: freeze },
  { name: 'redis: refuse writes', weight: 0.4, needs: 'restart', does: refuseWrites },
  { name: 'redis: go back', weight: 0.4, needs: 'restart', does: goBack },
  { name: 'redis: split', weight: 0.4, needs: 'restart', does: split },
]

async function freeze({ world, random }: Step): Promise<void> {
  await world.alone(async () => {
    world.redis.freeze()
    await new Promise((passed) => setTimeout(passed, random.pick([300, 1_000, 2_500, 4_000])))
    world.redis.thaw()
  })
}

async function refuseWrites({ world, random }: Step): Promise<void> {
  await world.alone(async () => {
    const [name, low, high] = random.pick([['maxmemory', '1', '0'], ['min-replicas-to-write', '1', '0']] as const)
    await world.client.config('SET', name, low)
    await new Promise((passed) => setTimeout(passed, random.whole(20, 1_500)))
    await world.client.config('SET', name, high)
  })
}

/** As a restart without the latest of the append-only file, or a replica that takes over: what was written last is lost. */
async function goBack({ world, random }: Step): Promise<void> {
  await world.alone(() => world.goBack(random.pick([0, 20, 200, 1_000, 5_000])))
}

/** A failover that leaves consumers at both: what the former primary takes meanwhile is lost. */
async function split({ world, random }: Step): Promise<void> {
  await world.alone(() => world.split(random.pick([0, 20, 1_000, 5_000]), random.pick([200, 1_000, 2_500, 5_000]), random))
}
