import type { Job, JobsOptions } from 'bullmq'
import { madeData } from './made-jobs.js'
import { queueNames, schedulers } from './deployment.js'
import { aWhile, type Operation, onJob, type Step } from './operation.js'
import type { KnownJob } from './world.js'

/** What whoever has BullMQ's own library, or its board, does to a queue without asking Switchyard. */
export const bullmqOperations: readonly Operation[] = [
  { name: 'bullmq: retry', weight: 2, does: onJob(retry) },
  { name: 'bullmq: retry many', weight: 1, does: ({ side, random }) => side.bull.retryJobs({ state: random.pick(['failed', 'completed']), count: 5 }) },
  { name: 'bullmq: remove', weight: 4, does: onJob(async (job, { random }) => (random.chance(0.5) ? job.side.bull.remove(job.jobId) : (await held(job)).remove())) },
  { name: 'bullmq: promote', weight: 2, does: onJob(async (job) => (await held(job)).promote()) },
  { name: 'bullmq: change a priority', weight: 4, does: onJob(async (job, { random }) => (await held(job)).changePriority({ priority: random.pick([0, 1, 5, 2_097_151]), lifo: random.chance(0.3) })) },
  { name: 'bullmq: change a delay', weight: 1, does: onJob(async (job, { random }) => (await held(job)).changeDelay(random.pick([0, 100, 2_000]))) },
  { name: "bullmq: change a job's data", weight: 0.3, does: onJob(async (job, { world, random }) => (await held(job)).updateData(random.chance(0.5) ? madeData(random, world.settings) : { nothing: 1 })) },
  { name: 'bullmq: add under an id that was there', weight: 1, does: onJob(addAgain) },
  { name: 'bullmq: add a flow', weight: 1, does: addFlow },
  { name: 'bullmq: add a child', weight: 0.3, does: onJob(addChild) },
  { name: 'bullmq: add what deduplicates', weight: 0.3, does: addDeduplicated },
  { name: 'bullmq: add what nobody keeps', weight: 0.3, does: (step) => add(step, 'r', { removeOnComplete: true, removeOnFail: true, lifo: step.random.chance(0.5), attempts: 3, backoff: 100 }) },
  { name: 'bullmq: add some', weight: 0.3, does: addSome },
  { name: 'bullmq: add under an odd id', weight: 0.3, does: addOddId },
  { name: 'bullmq: add what is no job of ours', weight: 0.3, does: addForeign },
  { name: 'bullmq: put or remove a scheduler', weight: 0.3, does: changeScheduler },
  { name: 'bullmq: drain', weight: 0.7, does: ({ side, random }) => side.bull.drain(random.chance(0.5)) },
  { name: 'bullmq: clean', weight: 1, does: ({ side, random }) => side.bull.clean(0, 3, random.pick(['completed', 'failed', 'wait', 'delayed', 'prioritized', 'active', 'paused'])) },
  { name: 'bullmq: pause', weight: 0.5, does: pause },
  { name: 'bullmq: limit how many run', weight: 1, does: limitConcurrency },
  { name: 'bullmq: limit the rate', weight: 1, does: limitRate },
  { name: 'bullmq: obliterate', weight: 0.3, does: obliterate },
]

async function held({ side, jobId }: KnownJob): Promise<Job<unknown>> {
  const job = await side.bull.getJob(jobId)
  if (job === undefined) throw new Error(`${jobId} is not in the queue`)
  return job
}

/** Adds a job of ours under an id that is told from Switchyard's own. */
async function add({ world, side, random }: Step, prefix: string, options: JobsOptions): Promise<string> {
  const jobId = `${prefix}${world.number()}`
  await side.bull.add('by hand', madeData(random, world.settings), { ...options, jobId })
  world.added(side, jobId)
  return jobId
}

async function retry(job: KnownJob, { random }: Step): Promise<void> {
  const again = random.chance(0.5) ? { resetAttemptsMade: true, resetAttemptsStarted: true } : {}
  await (await held(job)).retry(random.pick(['failed', 'completed']), again)
}

async function addAgain({ side, jobId }: KnownJob, { world, random }: Step): Promise<void> {
  await side.bull.add('by hand', madeData(random, world.settings), { jobId, ...(random.chance(0.5) ? { priority: 3 } : {}), ...(random.chance(0.2) ? { lifo: true } : {}) })
}

async function addFlow({ world, side, random }: Step): Promise<void> {
  const name = `f${world.number()}`
  const child = { jobId: `${name}-c`, ...(random.chance(0.5) ? { failParentOnFailure: true } : { ignoreDependencyOnFailure: true }) }
  const children = [{ name: 'child', queueName: random.pick(queueNames), data: madeData(random, world.settings), opts: child }]
  await world.flows.add({ name: 'parent', queueName: side.name, data: madeData(random, world.settings), opts: { jobId: `${name}-p` }, children })
  world.added(side, `${name}-p`)
}

/** Of a job that is there, may run, or may have ended. */
async function addChild({ side: of, jobId: parent }: KnownJob, step: Step): Promise<string> {
  return await add(step, 'ch', { parent: { id: parent, queue: of.bull.qualifiedName }, ...(step.random.chance(0.5) ? { failParentOnFailure: true } : {}) })
}

async function addDeduplicated({ world, side, random }: Step): Promise<void> {
  const how = random.pick([{}, { ttl: 500 }, { extend: true, replace: true, ttl: 500 }, { keepLastIfActive: true }])
  await side.bull.add('by hand', madeData(random, world.settings), {
    // It may not be added at all, so nobody waits for it.
    jobId: `d${world.number()}`,
    deduplication: { id: random.pick(['x', 'y']), ...how },
    ...(random.chance(0.3) ? { delay: 200 } : {}),
    ...(random.chance(0.4) ? { priority: 4 } : {}),
  })
}

async function addSome({ world, side, random }: Step): Promise<void> {
  const jobs = Array.from({ length: 3 }, () => ({ name: 'by hand', data: madeData(random, world.settings), opts: { jobId: `b${world.number()}`, lifo: random.chance(0.5) } }))
  await side.bull.addBulk(jobs)
  world.added(side, ...jobs.map(({ opts }) => opts.jobId))
}

async function addOddId({ world, side, random }: Step): Promise<string> {
  // Some come twice.
  const jobId = random.pick(['ü ', 'a~b~c', '\u0001x', 'x y*[?', 'é/..', ' ', 'q\'"\\']) + String(random.whole(0, 2))
  await side.bull.add('by hand', madeData(random, world.settings), { jobId, ...(random.chance(0.5) ? { priority: 2 } : {}) })
  world.added(side, jobId)
  return jobId
}

async function addForeign({ world, side, random }: Step): Promise<void> {
  const data = random.pick([null, 'text', 1, { spec: null }, { spec: { repository: 'x' } }])
  await side.bull.add('not ours', data, { jobId: `fo${world.number()}`, ...(random.chance(0.5) ? { priority: 2 } : {}) })
}

async function changeScheduler({ world, side, random }: Step): Promise<void> {
  const id = random.pick(schedulers)
  if (random.chance(0.5)) await side.bull.removeJobScheduler(id)
  else await side.bull.upsertJobScheduler(id, random.pick([{ every: 400 }, { pattern: '* * * * * *' }]), { name: id, data: madeData(random, world.settings), opts: { priority: random.pick([0, 5]) } })
}

async function pause({ side, random }: Step): Promise<void> {
  await side.bull.pause()
  await aWhile(random)
  await side.bull.resume()
}

async function limitConcurrency({ side, random }: Step): Promise<void> {
  await side.bull.setGlobalConcurrency(random.whole(1, 2))
  await aWhile(random)
  await side.bull.removeGlobalConcurrency()
}

async function limitRate({ side, random }: Step): Promise<void> {
  await side.bull.setGlobalRateLimit(random.whole(1, 3), 300)
  await aWhile(random)
  await side.bull.removeGlobalRateLimit()
}

async function obliterate({ side }: Step): Promise<void> {
  await side.bull.pause()
  try {
    await side.bull.obliterate({ force: true })
  } finally {
    await side.bull.resume()
  }
}
