// How much of the places is in use while work waits: 1,200 jobs of 250 ms over 3 providers with 20 places each and 4 consumer
// processes, against the ideal of 20 waves; beside workers that each have a fixed share of every limit and fall back from one
// provider to the next. Then the same with one of the 4 processes missing; with four times the jobs, where the beginning (60 sandboxes
// at once) and the end (places that nobody needs any more) count a quarter; and with one place at each provider and 60 jobs, where the
// processors have nearly nothing to do. Redis is real; providers and git host are in memory, so that two cores carry 60 jobs at once: what
// is measured is scheduling. All have run short jobs before, 3,000 where there are 60 places, as processes have that have been up for a
// while: Node compiles what runs often, and a job after 600 others costs half as much again as after 3,000.
import { Queue } from 'bullmq'
import { AgentQueue } from '../src/producers/index.js'
import { startRedis } from '../src/embedded/index.js'
import { createRedis } from '../src/store/index.js'
import { startMember, type Change, type Member, type ProcessOptions } from './in-memory/fleet.js'
import { redisFigures } from './redis-figures.js'
import { median, report } from './report.js'

interface Load {
  readonly providers: readonly { readonly name: string; readonly sandboxes: number }[]
  readonly places: number
  readonly jobs: number
  readonly idealMs: number
  /** How many jobs are run before. */
  readonly warmUp: number
}
const jobMs = 250
function load(sandboxes: number, waves: number): Load {
  const places = 3 * sandboxes
  return { providers: ['a', 'b', 'c'].map((name) => ({ name, sandboxes })), places, jobs: waves * places, idealMs: waves * jobMs, warmUp: Math.max(300, 50 * places) }
}
const members = 4
const rounds = 15
const run = `sleep ${jobMs / 1000}`

interface Outcome {
  readonly makespanMs: number
  /** The most sandboxes that were alive at once at any provider. */
  readonly peak: number
  /** What the processes and Redis used of the processors, per job. */
  readonly cpuMsPerJob: number
}

/** From the first sandbox's start to the last one's end, by the providers' own records. */
async function outcomeOf(fleet: readonly Member[], { jobs }: Load): Promise<Omit<Outcome, 'cpuMsPerJob'>> {
  const changes = (await Promise.all(fleet.map((member) => member.ask<Change[]>('changes')))).flat().toSorted((a, b) => a.atMs - b.atMs || a.by - b.by)
  const alive = new Map<string, number>()
  let peak = 0
  for (const { provider, by } of changes) {
    alive.set(provider, (alive.get(provider) ?? 0) + by)
    peak = Math.max(peak, alive.get(provider) ?? 0)
  }
  if (changes.length !== 2 * jobs) throw new Error(`${jobs} jobs had ${changes.length / 2} sandboxes`)
  return { makespanMs: changes.at(-1)!.atMs - changes[0]!.atMs, peak }
}

async function startFleet(program: Parameters<typeof startMember>[0], options: ProcessOptions, count: number): Promise<Member[]> {
  return Promise.all(Array.from({ length: count }, () => startMember(program, options)))
}

/** What the processes and Redis have used so far. */
async function cpuMsOf(fleet: readonly Member[], redisUrl: string): Promise<number> {
  const client = createRedis({ url: redisUrl }, 'commands')
  const ofRedis = await redisFigures(client)
  client.disconnect()
  const ofFleet = await Promise.all(fleet.map((member) => member.ask<number>('cpu')))
  return ofFleet.reduce((sum, ms) => sum + ms, 0) + ofRedis.cpuMs
}

/** Asked alike of both, so that waiting costs them the same. */
async function completed(queue: Queue, count: number): Promise<void> {
  while ((await queue.getCompletedCount()) < count) await new Promise((resolve) => setTimeout(resolve, 100))
}

async function switchyard(count: number, given: Load): Promise<Outcome & { aloneMs: number }> {
  const { providers, places, jobs, warmUp } = given
  const redis = await startRedis()
  const queue = new AgentQueue({ redis: { url: redis.url } })
  const bull = new Queue('agents', { connection: { url: redis.url }, prefix: '{switchyard}' })
  const fleet = await startFleet('consumer-process.ts', { redisUrl: redis.url, providers, maxJobs: places, recordsChanges: true }, count)
  try {
    const spec = { repository: 'bench/jobs', push: false as const, steps: [run] }
    await queue.enqueueMany(Array.from({ length: warmUp }, () => ({ ...spec, steps: ['sleep 0.05'] })))
    await completed(bull, warmUp)
    const alone: number[] = []
    for (let round = 0; round < rounds; round++) {
      const began = performance.now()
      await (await queue.enqueue(spec)).result()
      alone.push(performance.now() - began)
    }
    await Promise.all(fleet.map((member) => member.ask('changes')))
    const usedBefore = await cpuMsOf(fleet, redis.url)
    const handles = await queue.enqueueMany(Array.from({ length: jobs }, () => spec))
    await completed(bull, warmUp + rounds + jobs)
    const cpuMsPerJob = ((await cpuMsOf(fleet, redis.url)) - usedBefore) / jobs
    const results = await Promise.all(handles.map((handle) => handle.result()))
    if (results.some(({ status }) => status !== 'succeeded')) throw new Error('a job did not succeed')
    return { ...(await outcomeOf(fleet, given)), cpuMsPerJob, aloneMs: median(alone) }
  } finally {
    await Promise.all(fleet.map((member) => member.stop()))
    await bull.close()
    await queue.close()
    await redis.close()
  }
}

async function fallback(count: number, given: Load): Promise<Outcome> {
  const { providers, places, jobs, warmUp } = given
  const redis = await startRedis()
  const queue = new Queue('fallback', { connection: { url: redis.url } })
  const shares = providers.map(({ name, sandboxes }) => ({ name, sandboxes: sandboxes / members }))
  const fleet = await startFleet('fallback-process.ts', { redisUrl: redis.url, providers: shares, maxJobs: places / members, recordsChanges: true }, count)
  try {
    await queue.addBulk(Array.from({ length: warmUp }, () => ({ name: 'job', data: { run: 'sleep 0.05' } })))
    await completed(queue, warmUp)
    await Promise.all(fleet.map((member) => member.ask('changes')))
    const usedBefore = await cpuMsOf(fleet, redis.url)
    await queue.addBulk(Array.from({ length: jobs }, () => ({ name: 'job', data: { run } })))
    await completed(queue, warmUp + jobs)
    const cpuMsPerJob = ((await cpuMsOf(fleet, redis.url)) - usedBefore) / jobs
    return { ...(await outcomeOf(fleet, given)), cpuMsPerJob }
  } finally {
    await Promise.all(fleet.map((member) => member.stop()))
    await queue.close()
    await redis.close()
  }
}

const ratio = (value: number, to: number) => Number((value / to).toFixed(3))
const full = load(20, 20)
const long = load(20, 80)
const [ours, theirs] = [await switchyard(members, full), await fallback(members, full)]
const [oursFewer, theirsFewer] = [await switchyard(members - 1, full), await fallback(members - 1, full)]
const [oursLong, theirsLong] = [await switchyard(members, long), await fallback(members, long)]
const three = load(1, 20)
const alone = await switchyard(members, three)
await report('utilisation', {
  jobs: full.jobs,
  places: full.places,
  idealMs: full.idealMs,
  aloneMs: Math.round(ours.aloneMs),
  makespanMs: Math.round(ours.makespanMs),
  overIdeal: ratio(ours.makespanMs, full.idealMs),
  overAlone: ratio(ours.makespanMs, ours.aloneMs * 20),
  fallbackMakespanMs: Math.round(theirs.makespanMs),
  fallbackOverIdeal: ratio(theirs.makespanMs, full.idealMs),
  oneProcessMissingOverIdeal: ratio(oursFewer.makespanMs, full.idealMs),
  fallbackOneProcessMissingOverIdeal: ratio(theirsFewer.makespanMs, full.idealMs),
  fourTimesTheJobsOverIdeal: ratio(oursLong.makespanMs, long.idealMs),
  fallbackFourTimesTheJobsOverIdeal: ratio(theirsLong.makespanMs, long.idealMs),
  threePlacesOverIdeal: ratio(alone.makespanMs, three.idealMs),
  cpuMsPerJob: Number(ours.cpuMsPerJob.toFixed(1)),
  fallbackCpuMsPerJob: Number(theirs.cpuMsPerJob.toFixed(1)),
  mostSandboxesAtAProvider: Math.max(ours.peak, oursFewer.peak, oursLong.peak),
})
