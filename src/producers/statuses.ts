import type { Queue } from 'bullmq'
import type { Redis } from 'ioredis'
import { constraintsOf } from '../job/constraints.js'
import type { JobSpec } from '../job/spec.js'
import type { JobStatus } from '../job/status.js'
import type { KeyStanding, QueuedJob, StoredRun } from '../store/index.js'
import { mergeStatus } from './job-status.js'
import type { Connected } from './producer-connection.js'
import { viewOf } from './queue-view.js'
import type { Around, FlowStanding } from './waiting-reason.js'

/**
 * Where jobs of a queue stand, and what each waits for unless nobody asks for that (`reasons`); as many round trips for many as for one.
 * @returns in the order of the ids, null for a job that nobody knows.
 */
export async function statusesOf(connected: Connected, queueName: string, jobIds: readonly string[], { reasons = true }: { readonly reasons?: boolean | undefined } = {}): Promise<(JobStatus | null)[]> {
  const { queue, store, ready, redis } = connected
  const ids = [...new Set(jobIds)]
  const jobs = await Promise.all(ids.map((jobId) => queue.getJob(jobId)))
  const [runs, around, where] = await Promise.all([store.readMany(ids, { forShow: true }), reasons ? aroundOf(connected, queueName) : null, whereIn(queue, redis, ids)])
  const views = jobs.map((job, index) => (job === undefined ? null : viewOf(job, where[index]?.inHand ?? false)))
  // Only of what waits in nobody's hands.
  const waiting = views.map((view) => (!reasons || view === null || view.finished || view.inHand ? null : view))
  const constraints = waiting.map((view, index) => (view?.spec === undefined ? '' : constraintsOf(view.spec, isBegun(runs[index])).id))
  const [tenants, refusals, keys, unpaid, flows] = await Promise.all([
    lookUpEach(waiting.map((view) => view?.spec?.tenant ?? ''), (name) => ready.tenant(name)),
    lookUpEach([...ids.filter((_id, index) => waiting[index] !== null), ...constraints], (id) => ready.refusals(id)),
    Promise.all(ids.map((jobId, index) => keyOf(ready, jobId, waiting[index]?.spec))),
    ready.unpaid(constraints.map((id, index) => ({ tenant: waiting[index]?.spec?.tenant, constraints: id }))),
    flowsOf(queue, redis, ids.filter((_id, index) => waiting[index] !== null && where[index]?.forChildren === true)),
  ])
  const statuses = ids.map((jobId, index) => {
    const view = views[index] ?? null
    return mergeStatus(jobId, view, runs[index] ?? null, around === null ? null : {
      ...around,
      tenant: tenants.get(waiting[index]?.spec?.tenant ?? '') ?? null,
      refusals: refusals.get(jobId) ?? refusals.get(constraints[index] ?? '') ?? null,
      key: keys[index] ?? null,
      unpaid: unpaid[index] ?? null,
      delayedUntilMs: view?.delayedUntilMs ?? null,
      flow: flows.get(jobId) ?? null,
    })
  })
  const byId = new Map(ids.map((jobId, index) => [jobId, statuses[index] ?? null]))
  return jobIds.map((jobId) => byId.get(jobId) ?? null)
}

/** A run that has ended says nothing of what the next one needs. */
function isBegun(run: StoredRun | null | undefined): boolean {
  return run?.result === null
}

/** What any job of this queue may wait for. */
async function aroundOf({ queue, ledger, roster, operators }: Connected, queueName: string): Promise<Around> {
  const [loads, paused, live] = await Promise.all([ledger.loads(), queue.isPaused(), roster.live()])
  const pausedBy = paused ? await operators.queuePause() : null
  return { loads, paused, pausedBy, consumers: live.filter((consumer) => consumer.queue === queueName), tenant: null, refusals: null, key: null, unpaid: null, delayedUntilMs: null, flow: null }
}

async function keyOf(ready: Connected['ready'], jobId: string, spec: JobSpec | undefined): Promise<KeyStanding | null> {
  const standing = spec?.concurrency === undefined ? null : await ready.keyStanding(jobId, spec.concurrency)
  return standing?.parked === true ? standing : null
}

/** Which of these jobs a consumer holds now: the lock is BullMQ's. And which wait for the children of their flows. */
async function whereIn(queue: Queue<QueuedJob>, redis: Redis, jobIds: readonly string[]): Promise<{ inHand: boolean; forChildren: boolean }[]> {
  if (jobIds.length === 0) return []
  const pipeline = redis.pipeline()
  for (const jobId of jobIds) pipeline.exists(`${queue.toKey(jobId)}:lock`).zscore(queue.toKey('waiting-children'), jobId)
  const answers = ((await pipeline.exec()) ?? []).map(([error, answer]) => {
    if (error !== null) throw error
    return answer
  })
  return jobIds.map((_jobId, index) => ({ inHand: answers[2 * index] === 1, forChildren: answers[2 * index + 1] != null }))
}

/** How many children of a parent are looked at: a flow may have any number. */
const childrenLookedAt = 100

/** Of parents that wait for their children: a child that has ended and is waited for all the same has failed. */
async function flowsOf(queue: Queue<QueuedJob>, redis: Redis, jobIds: readonly string[]): Promise<Map<string, FlowStanding>> {
  if (jobIds.length === 0) return new Map()
  // Children may be of any queue; this deployment's user may read no others.
  const prefix = queue.toKey('').slice(0, -queue.name.length - 1)
  const children = await Promise.all(jobIds.map(async (jobId) => (await redis.srandmember(`${queue.toKey(jobId)}:dependencies`, childrenLookedAt)).filter((key) => key.startsWith(prefix))))
  const keys = children.flat()
  const pipeline = redis.pipeline()
  for (const key of keys) pipeline.hexists(key, 'finishedOn')
  const failed = new Set(((keys.length === 0 ? [] : await pipeline.exec()) ?? []).flatMap(([error, ended], index) => {
    if (error !== null) throw error
    return ended === 1 ? [keys[index]] : []
  }))
  return new Map(jobIds.map((jobId, index) => {
    const key = children[index]?.find((each) => failed.has(each))
    return [jobId, { failedChild: key === undefined ? null : shownJob(key.slice(prefix.length), queue.name) }]
  }))
}

/** @param key queue and id. */
function shownJob(key: string, ownQueue: string): string {
  return key.startsWith(`${ownQueue}:`) ? `job ${key.slice(ownQueue.length + 1)}` : `job ${key}`
}

/** Looks each name up once; the empty one stands for none. */
async function lookUpEach<Value>(names: readonly string[], lookUp: (name: string) => Promise<Value>): Promise<Map<string, Value>> {
  const distinct = [...new Set(names)].filter((name) => name !== '')
  return new Map(await Promise.all(distinct.map(async (name) => [name, await lookUp(name)] as const)))
}
