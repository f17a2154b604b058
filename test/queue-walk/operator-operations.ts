import { by, providerNames, tenants } from './deployment.js'
import { aWhile, type Operation, type Step } from './operation.js'

/** What operators do while it runs, and what happens to providers. What stops work is taken back a while later. */
export const operatorOperations: readonly Operation[] = [
  { name: 'drain a provider', weight: 0.7, does: drainProvider },
  { name: 'limit a provider', weight: 0.7, does: limitProvider },
  { name: 'a provider loses its sandboxes', weight: 0.6, does: loseSandboxes },
  { name: 'pause a tenant', weight: 1, does: pauseTenant },
  { name: 'share a tenant', weight: 1, does: shareTenant },
  { name: 'pause the queue', weight: 0.5, does: pauseQueue },
  { name: 'drain the queue', weight: 0.3, does: ({ side }) => side.queue.operations.drainQueue({ by }) },
]

async function drainProvider({ side: { queue }, random }: Step): Promise<void> {
  const provider = random.pick(providerNames)
  await queue.operations.drainProvider(provider, { by, move: random.chance(0.5) })
  await aWhile(random)
  await queue.operations.resumeProvider(provider, { by })
}

async function limitProvider({ side: { queue }, random }: Step): Promise<void> {
  const provider = random.pick(providerNames)
  await queue.operations.limitProvider(provider, random.whole(1, 2), { by })
  await aWhile(random)
  await queue.operations.limitProvider(provider, null, { by })
}

async function loseSandboxes({ world, random }: Step): Promise<void> {
  random.pick(world.providers).die('transient')
}

async function pauseTenant({ side: { queue }, random }: Step): Promise<void> {
  const tenant = random.pick(tenants)
  await queue.operations.pauseTenant(tenant, { by, isNew: random.chance(0.5) })
  await aWhile(random)
  await queue.operations.resumeTenant(tenant, { by })
}

async function shareTenant({ side: { queue }, random }: Step): Promise<void> {
  const tenant = random.pick(tenants)
  await queue.operations.shareTenant(tenant, { weight: random.whole(1, 4), cap: random.whole(1, 2) }, { by, isNew: random.chance(0.5) })
  await aWhile(random)
  await queue.operations.shareTenant(tenant, null, { by })
}

async function pauseQueue({ side: { queue }, random }: Step): Promise<void> {
  await queue.operations.pauseQueue({ by, reason: 'the walk wants it' })
  await aWhile(random)
  await queue.operations.resumeQueue({ by })
}
