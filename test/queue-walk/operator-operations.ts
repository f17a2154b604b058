import type { Random } from '../chaos/random.js'
import { by, providerNames, tenants } from './deployment.js'
import { aWhile, type Operation, type Step } from './operation.js'
import { troubleNames } from './troubled-provider.js'

/** What operators do while it runs, and what happens to providers. What stops work is taken back a while later. */
export const operatorOperations: readonly Operation[] = [
  { name: 'drain a provider', weight: 0.7, does: drainProvider },
  { name: 'limit a provider', weight: 0.7, does: limitProvider },
  { name: 'a provider loses its sandboxes', weight: 0.6, does: loseSandboxes },
  { name: 'a sandbox dies', weight: 2, does: async ({ world, random }) => await random.pick(world.providers).loseOne(random) },
  { name: 'a provider is in trouble', weight: 2, needs: 'trouble', does: trouble },
  { name: 'cancel what a filter finds', weight: 0.5, does: cancelMany },
  { name: 'run again what a filter finds', weight: 0.7, does: retryMany },
  { name: 'drain a consumer', weight: 0.5, does: ({ world, random }) => world.members.drainSome(random, world.main.queue) },
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

/** Of one provider at a time, so that there is a way for jobs to go on, and now and then of all. */
async function trouble({ world, random }: Step): Promise<string> {
  const trouble = random.pick(troubleNames)
  const providers = random.chance(0.2) ? world.providers : [random.pick(world.providers)]
  for (const provider of providers) provider.trouble = trouble
  await new Promise((passed) => setTimeout(passed, random.pick([100, 500, 2_000])))
  for (const provider of providers) if (provider.trouble === trouble) provider.trouble = undefined
  return `${providers.map(({ name }) => name).join()} ${trouble}`
}

function someFilter(random: Random): { tenant?: string; since?: number; limit?: number } {
  return { ...(random.chance(0.5) ? { tenant: random.pick(tenants) } : {}), ...(random.chance(0.3) ? { since: Date.now() - 2_000 } : {}) }
}

async function cancelMany({ side: { queue }, random }: Step): Promise<unknown> {
  const state = random.pick(['waiting', 'running', 'parked', undefined] as const)
  return await queue.operations.cancelJobs({ ...someFilter(random), ...(state === undefined ? {} : { state }) }, { by, limit: random.whole(1, 10) })
}

async function retryMany({ side: { queue }, random }: Step): Promise<unknown> {
  return await queue.operations.retryJobs({ ...someFilter(random), state: random.pick(['failed', 'cancelled', 'succeeded']) }, { by, limit: random.whole(1, 10) })
}
