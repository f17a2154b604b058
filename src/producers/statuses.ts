import type { Queue } from 'bullmq'
import type { Redis } from 'ioredis'
import { constraintsOf } from '../job/constraints.js'
import type { JobSpec } from '../job/spec.js'
import type { JobStatus } from '../job/status.js'
import type { KeyStanding, QueuedJob, StoredRun } from '../store/index.js'
import { mergeStatus } from './job-status.js'
import type { Connected } from './producer-connection.js'
import { viewOf } from './queue-view.js'
import type { Around } from './waiting-reason.js'

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
  const [tenants, refusals, keys, unpaid] = await Promise.all([
    lookUpEach(waiting.map((view) => view?.spec?.tenant ?? ''), (name) => ready.tenant(name)),
    lookUpEach([...ids.filter((_id, index) => waiting[index] !== null), ...constraints], (id) => ready.refusals(id)),
    Promise.all(ids.map((jobId, index) => keyOf(ready, jobId, waiting[index]?.spec))),
    ready.unpaid(constraints.map((id, index) => ({ tenant: waiting[index]?.spec?.tenant, constraints: id }))),
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
      forChildren: where[index]?.forChildren ?? false,
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
  return { loads, paused, pausedBy, consumers: live.filter((consumer) => consumer.queue === queueName), tenant: null, refusals: null, key: null, unpaid: null, delayedUntilMs: null, forChildren: false }
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

/** Looks each name up once; the empty one stands for none. */
async function lookUpEach<Value>(names: readonly string[], lookUp: (name: string) => Promise<Value>): Promise<Map<string, Value>> {
  const distinct = [...new Set(names)].filter((name) => name !== '')
  return new Map(await Promise.all(distinct.map(async (name) => [name, await lookUp(name)] as const)))
}
