import type { Redis } from 'ioredis'
import { eventGroups, eventsAdded, hasRoom, Keys, oldestUnreadAtMs, queueFigures, Reaping, redisNowMs, Roster, SlotLedger, type LiveConsumer, type ProviderLoad, type QueueFigures } from '../store/index.js'
import type { MetricName } from '../telemetry/metric-table.js'
import type { DeploymentFigures } from '../telemetry/prometheus-metrics.js'
import { otherLabel, shownLabel } from '../telemetry/tenant-labels.js'

/** How long Redis may take for all of it unless told otherwise, in milliseconds: a scrape waits for it. */
const defaultPatienceMs = 3_000

/** How many groups of readers have a label of their own, the first by their names; the rest share `other`. An application may make one for each of its processes. */
const mostGroups = 100

/** Why what waits in a queue waits, all of it. */
export type QueueReason = 'paused' | 'no-consumer' | 'capacity' | 'turn'

/** What operators have to mend comes first. */
export function queueReason(queue: Pick<QueueFigures, 'paused'>, consumers: readonly Pick<LiveConsumer, 'providers'>[], loads: readonly ProviderLoad[]): QueueReason {
  if (queue.paused) return 'paused'
  if (consumers.length === 0) return 'no-consumer'
  const reachable = loads.filter(({ provider }) => consumers.some(({ providers }) => providers.includes(provider)))
  return reachable.length > 0 && !reachable.some(hasRoom) ? 'capacity' : 'turn'
}

/** For how many jobs there should be consumers: more than there are places can't run, a drained provider has those that are in use, and what is in hand has to stay in hands. */
export function wantedJobs({ paused, jobs }: Pick<QueueFigures, 'paused' | 'jobs'>, loads: readonly ProviderLoad[]): number {
  if (paused) return jobs.active
  // Before the first consumer nobody knows a provider.
  const places = loads.length === 0 ? Infinity : loads.reduce((sum, { effectiveLimit, drain, used }) => sum + (drain === null ? effectiveLimit : Math.min(used, effectiveLimit)), 0)
  return Math.max(jobs.active, Math.min(jobs.active + jobs.waiting, places))
}

/**
 * Reads what is the deployment's and not one process's: some thirty commands, whose cost grows with providers, consumers and groups of readers, and
 * not with what waits.
 * @throws what Redis says, or that it took too long.
 */
export async function deploymentFigures(redis: Redis, { prefix, queue, patienceMs = defaultPatienceMs }: { readonly prefix?: string | undefined; readonly queue?: string | undefined; readonly patienceMs?: number | undefined }): Promise<DeploymentFigures> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => (timer = setTimeout(() => reject(new Error(`Redis did not give the deployment’s figures within ${patienceMs / 1000} s`)), patienceMs)))
  const read = readFigures(redis, new Keys(prefix, queue))
  // Nobody listens any more once it is too late.
  read.catch(() => undefined)
  try {
    return await Promise.race([read, late])
  } finally {
    clearTimeout(timer)
  }
}

async function readFigures(redis: Redis, keys: Keys): Promise<DeploymentFigures> {
  const reaping = new Reaping(redis, keys, '')
  const [nowMs, figures, loads, live, groups, added] = await Promise.all([redisNowMs(redis, keys), queueFigures(redis, keys), new SlotLedger(redis, keys).loads([]), new Roster(redis, keys).live(), eventGroups(redis, keys), eventsAdded(redis, keys)])
  const ago = (atMs: number | null) => (atMs === null ? 0 : Math.max(0, nowMs - atMs) / 1000)
  const told = groups.slice(0, mostGroups)
  const unnamed = groups.slice(mostGroups)
  // Of the others those that are most behind.
  const behind = unnamed.toSorted((one, other) => other.unread - one.unread).slice(0, mostGroups)
  const lagOf = async ({ group, unread }: (typeof groups)[number]) => (unread === 0 ? 0 : ago(await oldestUnreadAtMs(redis, keys, group)))
  const [lags, otherLags, memories] = await Promise.all([Promise.all(told.map(lagOf)), Promise.all(behind.map(lagOf)), Promise.all(loads.map(({ provider }) => reaping.memory(provider)))])
  const queue = keys.queueName
  const consumers = live.filter((each) => each.queue === queue)
  const reason = queueReason(figures, consumers, loads)
  const { waiting, ...others } = figures.jobs
  const busy = consumers.filter(({ full }) => full).length
  type Values = readonly (readonly [readonly string[], number])[]
  const byProvider = (value: (load: ProviderLoad) => number): Values => loads.map((load) => [[load.provider], value(load)])
  const otherGroups = (value: number): Values => (unnamed.length === 0 ? [] : [[[otherLabel], value]])
  const byGroup = (value: (group: (typeof groups)[number]) => number): Values => [...told.map((group) => [[shownLabel(group.group)], value(group)] as const), ...otherGroups(unnamed.reduce((sum, group) => sum + value(group), 0))]
  return new Map<MetricName, Values>([
    ['switchyard.queue.jobs', [[[queue, 'waiting', reason], waiting], ...Object.entries(others).map(([state, count]) => [[queue, state, ''], count] as const)]],
    ['switchyard.queue.wanted', [[[queue], wantedJobs(figures, loads)]]],
    ['switchyard.queue.oldest.age', [[[queue, 'waiting', reason], ago(figures.oldestAtMs)], [[queue, 'active', ''], ago(figures.oldestActiveAtMs)]]],
    ['cicd.worker.count', [[[queue, 'available'], consumers.length - busy], [[queue, 'busy'], busy]]],
    ['switchyard.provider.running', byProvider(({ used }) => used)],
    ['switchyard.provider.limit', byProvider(({ effectiveLimit }) => effectiveLimit)],
    ['switchyard.provider.limit.configured', byProvider(({ limit }) => limit)],
    ['switchyard.provider.waiting', byProvider(({ waiting: here }) => here)],
    ['switchyard.provider.foreign', byProvider(({ foreign }) => foreign)],
    ['switchyard.provider.breaker.open', byProvider(({ breaker }) => (breaker === 'open' || breaker === 'probing' ? 1 : 0))],
    ['switchyard.sandbox.leaked', loads.map(({ provider }, index) => [[provider], Object.values(memories[index]?.sandboxes ?? {}).filter(({ failedKills }) => failedKills > 0).length])],
    ['switchyard.events.added', [[[], added]]],
    ['switchyard.events.unread', byGroup((group) => group.unread)],
    ['switchyard.events.pending', byGroup(({ pending }) => pending)],
    ['switchyard.events.dead', byGroup(({ deadLetters }) => deadLetters)],
    ['switchyard.events.trimmed.unread', byGroup(({ missed }) => missed)],
    ['switchyard.events.lag', [...told.map(({ group }, index) => [[shownLabel(group)], lags[index] ?? 0] as const), ...otherGroups(Math.max(0, ...otherLags))]],
  ])
}
