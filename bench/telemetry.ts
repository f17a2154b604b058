// What metrics and traces add to a consumer's own processor time for a trivial job (`true`, no push), with providers and git host in memory and a real
// Redis. Three consumers, each a process with a Redis of its own: without both, with metrics (scraped every 15 s), with traces (recorded, batched and
// thrown away). They take turns at batches of the same jobs, so that what the machine does meanwhile meets all alike; the figures are medians of the
// pairs. Beside that, what the metrics' changes of a job take by themselves, which no other work on the machine hides. ROUNDS=n and JOBS=n change how much.
import { startRedis } from '../src/embedded/index.js'
import { AgentQueue } from '../src/producers/index.js'
import { startMember } from './in-memory/fleet.js'
import { metricCalls } from './in-memory/metric-calls.js'
import { median, report } from './report.js'

const rounds = Number(process.env['ROUNDS'] ?? 15)
const jobs = Number(process.env['JOBS'] ?? 400)
const kinds = ['off', 'metrics', 'traces'] as const
const spec = { repository: 'bench/jobs', push: false as const, steps: ['true'] }

const parts = await Promise.all(
  kinds.map(async (telemetry) => {
    const redis = await startRedis()
    const queue = new AgentQueue({ redis: { url: redis.url } })
    const member = await startMember('consumer-process.ts', { redisUrl: redis.url, providers: [{ name: 'a', sandboxes: 20 }], maxJobs: 20, recordsChanges: false, telemetry })
    return { telemetry, redis, queue, member }
  }),
)
type Part = (typeof parts)[number]

/** Processor time of a batch, in milliseconds a job. */
async function batch({ queue, member }: Part): Promise<number> {
  const before = await member.ask<number>('cpu')
  const handles = await queue.enqueueMany(Array.from({ length: jobs }, () => spec))
  await Promise.all(handles.map((handle) => handle.result()))
  return ((await member.ask<number>('cpu')) - before) / jobs
}

try {
  // What is compiled with the first jobs is no job's own.
  for (let warm = 0; warm < 3; warm++) for (const part of parts) await batch(part)
  const taken: Record<Part['telemetry'], number[]> = { off: [], metrics: [], traces: [] }
  for (let round = 0; round < rounds; round++) {
    // Who comes first changes, so that no one has the better place.
    for (let each = 0; each < parts.length; each++) {
      const part = parts[(round + each) % parts.length]!
      taken[part.telemetry].push(await batch(part))
    }
  }
  const added = (of: 'metrics' | 'traces') => Number((100 * median(taken[of].map((ms, index) => ms / taken.off[index]! - 1))).toFixed(1))
  const perJob = (of: Part['telemetry']) => Number(median(taken[of]).toFixed(3))
  const { changesPerJob, redisCommandsPerJob, cpuUsPerJob } = await metricCalls(200)
  const alone = { metricChangesPerJob: Number(changesPerJob.toFixed(1)), measuredRedisCommandsPerJob: Number(redisCommandsPerJob.toFixed(1)), metricChangesUsPerJob: Number(cpuUsPerJob.toFixed(1)), metricChangesPercent: Number((cpuUsPerJob / 10 / median(taken.off)).toFixed(2)) }
  await report('telemetry', { rounds, jobs, offCpuMsPerJob: perJob('off'), metricsCpuMsPerJob: perJob('metrics'), tracesCpuMsPerJob: perJob('traces'), metricsAddedPercent: added('metrics'), tracesAddedPercent: added('traces'), ...alone })
} finally {
  for (const { member, queue, redis } of parts) {
    member.kill()
    await queue.close()
    await redis.close()
  }
}
