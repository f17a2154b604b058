import { costMicros, sumOf } from '../job/cost.js'
import type { EndedJob, Fleet, FleetJob, FleetTenant, FleetWaiting, JobView } from '../job/fleet.js'
import type { JobStatus } from '../job/status.js'
import { type JobGlance, jobGlances, type Keys, tenantLoads, type TenantStanding } from '../store/index.js'
import { describeWord } from '../store/operator-word.js'
import type { Connected } from './producer-connection.js'
import { viewOf } from './queue-view.js'
import { statusesOf } from './statuses.js'

/** How much is shown of each; what a look costs is bounded by it, whatever the deployment holds. */
const mostRunning = 200
const mostWaiting = 20
const mostEnded = 10
const mostTenants = 50
const mostConsumers = 100
const lineBytes = 600
/** Of one job. */
const outputBytes = 24 * 1024
const outputPieces = 60

/**
 * The deployment at a glance, with the jobs of one queue: a few round trips and about thirty commands, plus two for each job that is shown as
 * waiting.
 */
export async function fleetOf(connected: Connected, keys: Keys): Promise<Fleet> {
  const { redis, queue, ledger, roster, operators } = connected
  const key = (part: string) => queue.toKey(part)
  const [time, meta, inHand, listed, prioritized, delayed, succeeded, failed, taken, nextListed, next, nextDelayed, lastSucceeded, lastFailed, pause] = await Promise.all([
    redis.time(),
    redis.hget(key('meta'), 'paused'),
    redis.llen(key('active')),
    redis.llen(key('wait')),
    redis.zcard(key('prioritized')),
    redis.zcard(key('delayed')),
    redis.zcard(key('completed')),
    redis.zcard(key('failed')),
    redis.lrange(key('active'), -mostRunning, -1),
    redis.lrange(key('wait'), -mostWaiting, -1),
    redis.zrange(key('prioritized'), '0', String(mostWaiting - 1)),
    redis.zrange(key('delayed'), '0', String(mostWaiting - 1)),
    redis.zrevrange(key('completed'), 0, mostEnded - 1),
    redis.zrevrange(key('failed'), 0, mostEnded - 1),
    operators.queuePause(),
  ])
  const waitingIds = [...nextListed.toReversed().filter((id) => !id.startsWith('0:')), ...next, ...nextDelayed].slice(0, mostWaiting)
  const [loads, live, running, ended, statuses, accounts] = await Promise.all([
    ledger.loads(),
    roster.live(),
    jobGlances(redis, keys, taken.toReversed(), lineBytes),
    jobGlances(redis, keys, [...lastSucceeded, ...lastFailed], 0),
    readableStatuses(connected, keys.queueName, waitingIds),
    accountsOf(connected, keys),
  ])
  const tenants = await tenantsOf(connected, keys, running, accounts)
  const atMs = Number(time[0]) * 1000 + Math.floor(Number(time[1]) / 1000)
  return {
    atMs,
    queue: keys.queueName,
    paused: meta !== null,
    pausedBy: meta === null || pause === null ? null : describeWord(pause),
    counts: { inHand, waiting: listed + prioritized, delayed, succeeded, failed },
    providers: loads.map(({ provider, limit, effectiveLimit, drain, set, foreign, used, waiting, cpu, cpuLimit, memoryMiB, memoryMiBLimit, breaker, openUntilMs, openedBy, blockedUntilMs, startP50Ms, startP95Ms }) => ({ provider, limit, effectiveLimit, drained: drain === null ? null : describeWord(drain), limited: set === null ? null : describeWord(set), foreign, used, waiting, cpu, cpuLimit, memoryMiB, memoryMiBLimit, breaker, openUntilMs, openedBy, blockedUntilMs, startP50Ms, startP95Ms })),
    consumers: live.slice(0, mostConsumers).map(({ consumer, queue: of, release, providers, running: jobs, places: maxJobs, full, draining, startedAtMs, troubles }) => ({ consumer, queue: of, release, providers, jobs, maxJobs, full, draining, startedAtMs, troubles })),
    consumersMore: Math.max(0, live.length - mostConsumers),
    waiting: waitingOf(statuses),
    tenants: tenants.slice(0, mostTenants),
    tenantsMore: Math.max(0, Math.max(tenants.length, accounts.count) - mostTenants),
    running: running.map((job) => runningJob(job, atMs)).sort((one, other) => (one.startedAtMs ?? atMs) - (other.startedAtMs ?? atMs)),
    runningMore: Math.max(0, inHand - taken.length),
    ended: ended.flatMap(endedJob).sort((one, other) => other.endedAtMs - one.endedAtMs).slice(0, mostEnded),
  }
}

function runningJob({ jobId, name, progress, enqueuedAtMs, consumer, reason, output }: JobGlance, atMs: number): FleetJob {
  const { phase, provider, step, attempt, sinceMs, tenant, spent, billed, waiting } = progress
  const cost = sumOf([spent ?? undefined, ...billed.map((each) => ({ micros: costMicros(each, atMs - each.fromMs), currency: each.currency }))])
  return { jobId, repository: name, tenant, phase, provider, step, attempt, reason: reason ?? waiting, consumer, startedAtMs: sinceMs, enqueuedAtMs, cost, lastLine: lastLineOf(output) }
}

function lastLineOf(output: string): string {
  return output.split(/[\r\n]/).findLast((line) => line.trim() !== '') ?? ''
}

function endedJob({ jobId, name, failedReason, returned, endedAtMs }: JobGlance): EndedJob[] {
  if (endedAtMs === null) return []
  const [, status = 'failed', reason = failedReason] = /^(failed|cancelled): (.*)$/s.exec(failedReason ?? '') ?? []
  if (failedReason !== null) return [{ jobId, repository: name, status: status === 'cancelled' ? 'cancelled' : 'failed', reason: reason ?? null, endedAtMs }]
  return [{ jobId, repository: name, status: returned?.includes('"status":"cancelled"') === true ? 'cancelled' : 'succeeded', reason: null, endedAtMs }]
}

/** Anybody can put anything into a queue of BullMQ's: what can't be read must not hide the rest. */
async function readableStatuses(connected: Connected, queueName: string, jobIds: readonly string[]): Promise<(JobStatus | null)[]> {
  const together = await statusesOf(connected, queueName, jobIds).catch((error: unknown) => {
    if (error instanceof SyntaxError || error instanceof TypeError) return null
    throw error
  })
  if (together !== null) return together
  return (await Promise.all(jobIds.map((jobId) => statusesOf(connected, queueName, [jobId]).catch(() => [null])))).flat()
}

function waitingOf(statuses: readonly (JobStatus | null)[]): FleetWaiting {
  const found = statuses.filter((status) => status !== null && status.result === null) as JobStatus[]
  const counts = new Map<string | null, number>()
  for (const { reason } of found) counts.set(reason, (counts.get(reason) ?? 0) + 1)
  const reasons = [...counts].map(([reason, jobs]) => ({ reason, jobs })).sort((one, other) => other.jobs - one.jobs)
  return {
    looked: found.length,
    reasons,
    next: found.map(({ jobId, repository, tenant, enqueuedAtMs, reason }) => ({ jobId, repository, tenant, enqueuedAtMs, reason })),
  }
}

interface Accounts {
  readonly count: number
  readonly tenants: readonly TenantStanding[]
  /** Tenants of whom operators have said something; there are few. */
  readonly said: readonly string[]
}

/** One page of the tenants that have an account, and how many there are. */
async function accountsOf({ redis }: Connected, keys: Keys): Promise<Accounts> {
  const [count, { tenants }, said] = await Promise.all([redis.hlen(`${keys.ready()}:tenant`), tenantLoads(redis, keys, '0'), redis.hkeys(`${keys.ready()}:set`)])
  return { count, tenants, said }
}

/** With those of the jobs that run, and those of whom operators have said something, which one page may lack. */
async function tenantsOf({ redis }: Connected, keys: Keys, running: readonly JobGlance[], { tenants, said }: Accounts): Promise<FleetTenant[]> {
  const known = new Set(tenants.map(({ tenant }) => tenant))
  const missing = [...new Set([...running.flatMap(({ progress: { tenant } }) => tenant ?? []), ...said])].filter((tenant) => !known.has(tenant))
  const more = missing.length === 0 ? [] : (await tenantLoads(redis, keys, missing)).tenants
  return [...tenants, ...more]
    .map(({ tenant, running: jobs, cap, weight, pause }) => ({ tenant, running: jobs, cap, weight, paused: pause === null ? null : describeWord(pause) }))
    .sort((one, other) => Number(other.paused !== null) - Number(one.paused !== null) || other.running - one.running || (one.tenant < other.tenant ? -1 : 1))
}

/** A job in full; null when nobody knows it. */
export async function jobViewOf(connected: Connected, keys: Keys, jobId: string): Promise<JobView | null> {
  const { redis, queue, store } = connected
  const [[status = null], [stored = null], job, time, pieces] = await Promise.all([
    statusesOf(connected, keys.queueName, [jobId]),
    store.readMany([jobId], { forShow: true }),
    queue.getJob(jobId),
    redis.time(),
    redis.xrevrangeBuffer(keys.log(jobId), '+', '-', 'COUNT', outputPieces),
  ])
  if (status === null) return null
  const commit = status.result?.commit ?? null
  const patch = commit === null ? null : await store.readPatch(jobId, commit)
  const spec = job === undefined ? undefined : viewOf(job, false).spec
  const output = Buffer.concat(pieces.toReversed().flatMap(([, fields]) => fields.flatMap((field, index) => (index % 2 === 0 && field.toString() === 'd' ? [fields[index + 1] ?? Buffer.alloc(0)] : []))))
  return {
    atMs: Number(time[0]) * 1000 + Math.floor(Number(time[1]) / 1000),
    status,
    run: stored?.generation ?? 1,
    consumer: stored?.holder ?? null,
    milestones: stored?.record?.milestones ?? [],
    attempts: status.result?.attempts ?? stored?.record?.attempts ?? [],
    stepResults: status.result?.steps ?? stored?.record?.steps ?? [],
    steps: spec?.steps.map(({ name }) => name) ?? [],
    promoteTo: spec?.promote?.to ?? null,
    patch,
    output: output.subarray(-outputBytes).toString('utf8'),
    outputCut: output.length > outputBytes || pieces.length === outputPieces,
  }
}
