import { setTimeout as pause } from 'node:timers/promises'
import { UnknownNameError, UnknownScheduleError } from '../../src/job/errors.js'
import { by, providerNames, schedulers, schedules, settings, tenants } from './deployment.js'
import type { Side, World } from './world.js'

/** A provider that was down is not asked for up to a minute after. */
const patienceMs = 120_000
const lookEveryMs = 150
/** Nothing may come back in that time: it is as long as it takes to take over from a consumer that died, and a round of the reaper. */
const calmMs = settings.leaseMs + settings.stallCheckMs + settings.reapGraceMs + settings.reapIntervalMs

/**
 * Takes back whatever keeps jobs from running, starts a consumer of each queue that can run all of its jobs, and waits until none waits or runs.
 * @returns what is then still there, a sentence a job; nothing when all is quiet.
 */
export async function settle(world: World): Promise<string[]> {
  world.journal.note('QUIET')
  world.groups.settle()
  world.phases?.settle()
  for (const provider of world.providers) provider.trouble = undefined
  await takeBack(world)
  for (const { name } of world.sides) await world.members.startWhole(name)
  const giveUpAt = performance.now() + patienceMs
  let quietSince: number | undefined
  for (;;) {
    if (world.settings.budgets) await raiseBudgets(world)
    const nowMs = performance.now()
    if ((await unfinished(world)) > 0) quietSince = undefined
    else quietSince ??= nowMs
    if (quietSince !== undefined && nowMs - quietSince > calmMs) return []
    if (nowMs > giveUpAt) return await describeUnfinished(world)
    await pause(lookEveryMs)
  }
}

/** Does it, and bears that what it is about was never there. */
async function forgiving(work: Promise<unknown>): Promise<void> {
  await work.catch((error: unknown) => {
    if (!(error instanceof UnknownNameError || error instanceof UnknownScheduleError)) throw error
  })
}

async function takeBack({ sides, main, settings: { budgets } }: World): Promise<void> {
  for (const { queue, bull } of sides) {
    for (const id of schedulers) await bull.removeJobScheduler(id)
    for (const id of schedules) await forgiving(queue.schedules.remove(id))
    await bull.resume()
    await bull.removeGlobalConcurrency()
    await bull.removeGlobalRateLimit()
  }
  const { operations, budgets: costs } = main.queue
  for (const provider of providerNames) {
    await forgiving(operations.resumeProvider(provider, { by }))
    await forgiving(operations.limitProvider(provider, null, { by }))
  }
  for (const tenant of tenants) {
    await forgiving(operations.resumeTenant(tenant, { by }))
    await forgiving(operations.shareTenant(tenant, null, { by }))
    if (budgets) await costs.setTenant(tenant, 1_000)
  }
}

/** Of jobs that wait: some do for their budget. */
async function raiseBudgets({ sides, journal }: World): Promise<void> {
  for (const { queue, bull } of sides) {
    for (const { id } of [...(await bull.getPrioritized()), ...(await bull.getDelayed())]) {
      // It may have gone meanwhile.
      if (id !== undefined) await queue.budgets.setJob(id, 100).catch((error: unknown) => journal.threw("raise a job's budget", error))
    }
  }
}

const states = ['waiting', 'active', 'delayed', 'prioritized'] as const

async function unfinished({ sides }: World): Promise<number> {
  const counts = await Promise.all(sides.map(({ bull }) => bull.getJobCounts(...states)))
  return counts.flatMap((each) => Object.values(each)).reduce((sum, count) => sum + count, 0)
}

async function describeUnfinished({ sides, client }: World): Promise<string[]> {
  const described = sides.map(async ({ name, keys, queue, bull }: Side) => {
    const jobs = await bull.getJobs([...states], 0, 9)
    return await Promise.all(
      jobs.map(async (job) => {
        const jobId = job.id ?? ''
        const status = await queue.job(jobId).status().catch(String)
        return `job ${jobId} of ${name} has not ended after ${patienceMs} ms: BullMQ says ${await job.getState()}, the index ${(await client.hget(keys.job(jobId), 'sy')) ?? 'nothing'}, its status ${JSON.stringify(status)}, its data ${JSON.stringify(job.data)}`
      }),
    )
  })
  return (await Promise.all(described)).flat()
}
