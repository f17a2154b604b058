import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { AgentQueue } from '../../src/producers/index.js'
import { createRedis, Keys, SlotLedger } from '../../src/store/index.js'
import { checkCapacity, checkIdle, type ProviderEnd } from './check-capacity.js'
import { checkHostile } from './check-hostile.js'
import { checkJobs } from './check-jobs.js'
import { checkKeys } from './check-keys.js'
import { consumerLinesOf, readRedis, readRepository, type RedisEvidence } from './evidence.js'
import { planFaults, type FaultKind, type PlannedFault } from './fault-plan.js'
import { FaultRunner } from './faults.js'
import { Fleet } from './fleet.js'
import { writeJobScripts } from './job-scripts.js'
import { produce, type EnqueuedJob } from './producer.js'
import { random } from './random.js'
import { Sampler } from './sampler.js'
import { Timeline } from './timeline.js'
import type { Violation } from './violation.js'
import { startWatch } from './watch.js'
import { startWorld, type World } from './world.js'

export interface ChaosOptions {
  readonly seed: string
  /** For how long jobs come and things break, in milliseconds; the run then goes on until the last job has ended. */
  readonly spanMs: number
  readonly jobs: number
  /** One quick step a job, so that thousands go through in minutes. */
  readonly light: boolean
  readonly consumers: number
  /** Sandboxes at once, by provider. */
  readonly limits: Readonly<Record<string, number>>
  readonly faults: readonly FaultKind[]
  /** Gets the timeline, the consumers' logs and what is known of each violation. */
  readonly outDir: string
  /** How long a place may be nobody's, and how long without a sandbox, while a job waits, in peace; see `IdleTolerance`. */
  readonly toleratedFreeMs: number
  readonly toleratedUnusedMs: number
  /** For how long no job may end, once the last fault is over and while some are left. */
  readonly patienceMs: number
  /** Whether a real Prometheus scrapes it, and is asked every query of the dashboards. */
  readonly watched?: boolean | undefined
}

export interface ChaosReport {
  readonly violations: readonly Violation[]
  readonly summary: Readonly<Record<string, number | string>>
}

const settings = {
  leaseMs: 2_500,
  stallCheckMs: 500,
  stopGraceMs: 500,
  readWaitMs: 2_000,
  callTimeoutMs: 5_000,
  createTimeoutMs: 10_000,
  gitTimeoutMs: 15_000,
  reapIntervalMs: 3_000,
  reapGraceMs: 5_000,
  // A job must end by its script, not because the run took its sandboxes away too often.
  maxAttempts: 50,
}

/** One run from its seed: the same jobs, the same faults at the same times. What the processes make of it is theirs. */
export async function runChaos(options: ChaosOptions): Promise<ChaosReport> {
  await mkdir(options.outDir, { recursive: true })
  const world = await startWorld(options.limits, { redisClock: options.faults.includes('redis-clock') })
  const timeline = new Timeline(join(options.outDir, 'timeline.jsonl'))
  const queue = new AgentQueue({ redis: { url: world.redis.url } })
  const watch = options.watched === true ? await startWatch(world.redis.url) : null
  const providersOf = () => (watch === null ? world.entries : world.entries.map((entry) => ({ ...entry, price: { perSandboxHour: 3 } })))
  const fleet = new Fleet({
    size: options.consumers,
    consumer: { redisUrl: world.redis.url, git: world.gitOptions, providers: providersOf(), settings, watched: watch === null ? undefined : { webhookUrl: watch.webhookUrl } },
    onMonitor: watch?.onMonitor,
    keys: world.keys,
    environment: world.environment,
    logDir: options.outDir,
    timeline,
  })
  const sampler = new Sampler(world, fleet, () => timeline.now())
  const faults = new FaultRunner(world, fleet, timeline, queue)
  try {
    await fleet.start()
    const source = random(options.seed)
    const providers = Object.keys(options.limits)
    const scripts = writeJobScripts(source.fork('jobs'), { count: options.jobs, spanMs: options.spanMs * 0.7, repositories: world.repositories, providers, light: options.light })
    const plan = planFaults(source.fork('faults'), { spanMs: options.spanMs, kinds: options.faults, servers: world.servers.map(({ name }) => name), providers, repositories: world.repositories })
    const startedAtMs = timeline.now()
    const shift = <Item extends { readonly atMs: number }>(items: readonly Item[]): Item[] => items.map((item) => ({ ...item, atMs: item.atMs + startedAtMs }))
    sampler.start()
    const [jobs] = await Promise.all([produce(queue, shift(scripts), timeline), faults.run(shift(plan))])
    timeline.add('calm', { jobs: jobs.length })
    const unended = await awaitEnds(queue, [...jobs, ...faults.hostile], options.patienceMs)
    timeline.add('jobs-ended', { unended })
    const endedMs = timeline.now()
    await noSandboxes(world, 40_000)
    for (const lease of await placesLeft(world, 30_000)) timeline.add('place-left', { lease })
    await sampler.stop()
    const unseen = (await watch?.judge()) ?? []
    await fleet.close()
    timeline.add('consumers-stopped')
    const { violations, summary } = await judge(options, { world, jobs, timeline, sampler, faults, fleet, plan, startedMs: startedAtMs, endedMs })
    return { violations: [...violations, ...unseen], summary: { ...summary, violations: violations.length + unseen.length, ...(watch === null ? {} : { unansweredQueries: unseen.length }) } }
  } finally {
    await sampler.stop()
    await queue.close()
    await fleet.close()
    await watch?.close()
    await world.close()
    await timeline.close()
  }
}

/** Waits as long as jobs end, however many there are. Returns how many have not. */
async function awaitEnds(queue: AgentQueue, jobs: readonly { readonly jobId: string }[], patienceMs: number): Promise<number> {
  let left = jobs
  while (left.length > 0) {
    const ended = await Promise.all(
      left.map(({ jobId }) =>
        queue
          .job(jobId)
          .result({ timeoutMs: patienceMs })
          .then(
            () => true,
            () => false,
          ),
      ),
    )
    if (!ended.includes(true)) break
    left = left.filter((_job, index) => ended[index] !== true)
  }
  return left.length
}

/** Waits for the last sandboxes to go; whether they have is for the checker to say. */
async function noSandboxes(world: World, patienceMs: number): Promise<void> {
  const deadline = Date.now() + patienceMs
  while (Date.now() < deadline && (await providerEnds(world, [])).some(({ state }) => state.live > 0)) await new Promise((resolve) => setTimeout(resolve, 200))
}

/** Places of what was left behind are freed by the reaper; whether all are is for the checker of keys to say. */
async function placesLeft(world: World, patienceMs: number): Promise<string[]> {
  const redis = createRedis({ url: world.redis.url }, 'commands')
  try {
    const ledger = new SlotLedger(redis, new Keys())
    const deadline = Date.now() + patienceMs
    while (Date.now() < deadline && (await ledger.loads()).some(({ used }) => used > 0)) await new Promise((resolve) => setTimeout(resolve, 200))
    return await redis.hvals(`${new Keys().ledger()}:lease`)
  } finally {
    redis.disconnect()
  }
}

async function providerEnds(world: World, samples: Sampler['samples']): Promise<ProviderEnd[]> {
  const ends: ProviderEnd[] = []
  for (const server of world.servers) ends.push({ provider: server.name, limit: server.limit, state: await server.state() })
  if (world.local !== null) {
    const { provider, limit } = world.local
    const sandboxes: { id: string }[] = []
    for await (const { id } of provider.list({}, { timeoutMs: 10_000 })) sandboxes.push({ id })
    ends.push({ provider: provider.name, limit, state: { live: sandboxes.length, maxLive: Math.max(0, ...samples.map(({ live }) => live[provider.name] ?? 0)), sandboxes } })
  }
  return ends
}

interface RunEvidence {
  readonly world: World
  readonly jobs: readonly EnqueuedJob[]
  readonly timeline: Timeline
  readonly sampler: Sampler
  readonly faults: FaultRunner
  readonly fleet: Fleet
  readonly plan: readonly PlannedFault[]
  readonly startedMs: number
  readonly endedMs: number
}

async function judge(options: ChaosOptions, { world, jobs, timeline, sampler, faults, fleet, plan, startedMs, endedMs }: RunEvidence): Promise<ChaosReport> {
  const hostileIds = faults.hostile.map(({ jobId }) => jobId)
  const evidence = await readRedis(world, [...jobs.map(({ jobId }) => jobId), ...hostileIds])
  const repositories = new Map(await Promise.all(world.repositories.map(async (repository) => [repository, await readRepository(world, repository)] as const)))
  const ends = await providerEnds(world, sampler.samples)
  const idle = checkIdle(sampler.samples, faults.windows, options.limits, {
    consumers: options.consumers,
    freeMs: options.toleratedFreeMs,
    unusedMs: options.toleratedUnusedMs,
  })
  const violations: Violation[] = [
    ...[...fleet.problems, ...faults.problems].map((what) => ({ jobId: null, what })),
    ...(await checkJobs(jobs, evidence, repositories, { killedSandboxes: faults.killedSandboxes, refusals: faults.refusals, others: hostileIds })),
    ...checkHostile(faults.hostile, evidence),
    ...checkCapacity(ends),
    ...checkKeys(evidence.keys, new Set([...jobs.map(({ jobId }) => jobId), ...hostileIds])),
    ...idle.violations,
  ]
  for (const { jobId, what } of violations) timeline.add('violation', { jobId, what })
  await explain(options.outDir, violations, jobs, evidence, timeline)
  const results = [...evidence.runs.values()].map(({ result }) => result).filter((result) => result !== null)
  const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0)
  return {
    violations,
    summary: {
      seed: options.seed,
      jobs: jobs.length,
      succeeded: results.filter(({ status }) => status === 'succeeded').length,
      failed: results.filter(({ status }) => status === 'failed').length,
      cancelled: results.filter(({ status }) => status === 'cancelled').length,
      hostileJobs: faults.hostile.length,
      faults: plan.length,
      faultKinds: [...new Set(plan.map(({ kind }) => kind))].sort().join(' '),
      attempts: sum(results.map(({ attempts }) => attempts.length)),
      lostSandboxes: sum(results.map(({ attempts }) => attempts.filter(({ outcome }) => outcome === 'lost').length)),
      ...Object.fromEntries(ends.map(({ provider, limit, state }) => [`${provider} at once`, `${state.maxLive} of ${limit}`])),
      longestFreeMs: idle.longestFreeMs,
      longestUnusedMs: idle.longestUnusedMs,
      judgedForIdleMs: idle.judgedMs,
      tookMs: timeline.now(),
      jobsPerSecond: (jobs.length / ((endedMs - startedMs) / 1000)).toFixed(2),
      violations: violations.length,
    },
  }
}

/** Writes all that is known of each job that went wrong. */
async function explain(outDir: string, violations: readonly Violation[], jobs: readonly EnqueuedJob[], evidence: RedisEvidence, timeline: Timeline): Promise<void> {
  for (const jobId of new Set(violations.map((violation) => violation.jobId))) {
    if (jobId === null) continue
    const script = jobs.find((job) => job.jobId === jobId)?.script
    await writeFile(
      join(outDir, `violation-${script?.key ?? jobId}.txt`),
      [
        ...violations.filter((violation) => violation.jobId === jobId).map(({ what }) => `- ${what}`),
        '\n# script',
        JSON.stringify(script?.spec, null, 2),
        '\n# Redis',
        JSON.stringify(evidence.runs.get(jobId), null, 2),
        '\n# timeline',
        ...timeline.entries.filter((entry) => entry['jobId'] === jobId).map((entry) => JSON.stringify(entry)),
        '\n# consumers',
        ...(await consumerLinesOf(outDir, jobId)),
        '',
      ].join('\n'),
    )
  }
}
