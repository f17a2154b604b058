import { madeSpec } from './made-jobs.js'
import { schedules, tenants } from './deployment.js'
import { type Operation, onJob, type Step } from './operation.js'

/** What applications do by `AgentQueue`. */
export const producerOperations: readonly Operation[] = [
  { name: 'enqueue', weight: 30, does: enqueue },
  { name: 'enqueue with an idempotency key', weight: 8, does: enqueueWithKey },
  { name: 'cancel', weight: 6, does: onJob(({ side, jobId }) => side.queue.job(jobId).cancel('the walk wants it')) },
  { name: 'retry', weight: 8, does: onJob(({ side, jobId }, { random }) => side.queue.retry(jobId, { from: random.pick(['start', 'checkpoint']) })) },
  { name: 'retry many', weight: 1, does: ({ side, random }) => side.queue.retryMany({ state: random.pick(['failed', 'cancelled']) }) },
  { name: 'enqueue many of one kind', weight: 1, does: enqueueAlike },
  { name: 'change the readers of events', weight: 3, does: ({ world, random }) => world.groups.change(random) },
  { name: 'put a schedule', weight: 2, does: putSchedule },
  { name: 'pause, resume or remove a schedule', weight: 2, does: changeSchedule },
  { name: 'look at all', weight: 4, does: lookAtAll },
  { name: "set a job's budget", weight: 0.3, does: onJob(({ side, jobId }) => side.queue.budgets.setJob(jobId, 1)) },
  { name: "set a tenant's budget low or high", weight: 2, needs: 'budgets', does: ({ side, random }) => side.queue.budgets.setTenant(random.pick(tenants), random.pick([0.0001, 0.002, 0.05, null])) },
  { name: "set a job's budget low or high", weight: 2, needs: 'budgets', does: onJob(({ side, jobId }, { random }) => side.queue.budgets.setJob(jobId, random.pick([0.0001, 1, null]))) },
]

async function enqueue({ world, side, random }: Step): Promise<string[]> {
  const specs = Array.from({ length: random.whole(1, 4) }, () => madeSpec(random, world.settings))
  const jobIds = (await side.queue.enqueueMany(specs)).map(({ jobId }) => jobId)
  world.added(side, ...jobIds)
  return jobIds
}

/** Many wait for what one provider, one tenant or one key has room for. */
async function enqueueAlike({ world, side, random }: Step): Promise<string[]> {
  const spec = madeSpec(random, world.settings)
  const handles = await side.queue.enqueueMany(Array.from({ length: random.whole(5, 15) }, () => spec))
  const jobIds = handles.map(({ jobId }) => jobId)
  world.added(side, ...jobIds)
  return jobIds
}

async function enqueueWithKey({ world, side, random }: Step): Promise<string> {
  const idempotencyKey = random.pick(['i0', 'i1', 'i2'])
  const place = `${side.name} ${idempotencyKey}`
  const spec = world.keyed.get(place) ?? madeSpec(random, world.settings)
  world.keyed.set(place, spec)
  const { jobId } = await side.queue.enqueue({ ...spec, idempotencyKey }, { onFailed: random.pick(['rerun', 'keep']) })
  world.added(side, jobId)
  return jobId
}

function putSchedule({ world, side, random }: Step): Promise<unknown> {
  const { delay: _delay, ...job } = madeSpec(random, world.settings)
  return side.queue.schedules.upsert(random.pick(schedules), { ...random.pick([{ every: '1s' }, { cron: '* * * * * *' }, { cron: '*/2 * * * * *', timezone: 'America/St_Johns' }]), job, missed: random.pick(['skip', 'once', 'all']), overlap: random.pick(['allow', 'skip', 'replace']) })
}

async function changeSchedule({ side, random }: Step): Promise<void> {
  const change = random.pick(['pause', 'resume', 'remove'] as const)
  await side.queue.schedules[change](random.pick(schedules))
}

async function lookAtAll({ world, side, random }: Step): Promise<string[]> {
  const listed = await side.queue.list({ limit: 20 })
  await side.queue.statuses(world.jobs.slice(-20).map(({ jobId }) => jobId))
  await side.queue.fleet()
  await side.queue.operations.tenants()
  await side.queue.schedules.list()
  const known = world.someJob(random)
  if (known !== undefined) await known.side.queue.view(known.jobId)
  return listed.map(({ jobId, state }) => `${jobId} ${state}`)
}
