// One consumer with 1,000 jobs under its supervision, each of which prints a line every 5 seconds: memory per job over the idle
// consumer, and the delay of its event loop while it takes them and while they run. The consumer is a process of its own; Redis
// is real, providers and git host are in memory (what they need for a job is counted in). JOBS=n changes the number.
import { setTimeout as delay } from 'node:timers/promises'
import { startRedis } from '../src/embedded/index.js'
import { AgentQueue } from '../src/producers/index.js'
import { startMember, type Figures } from './in-memory/fleet.js'
import { report } from './report.js'

const jobs = Number(process.env['JOBS'] ?? 1_000)
const observedMs = 20_000
const spec = { repository: 'bench/jobs', push: false as const, steps: ['sleep 3600 # line every 5'] }

const redis = await startRedis()
const queue = new AgentQueue({ redis: { url: redis.url } })
const member = await startMember('consumer-process.ts', { redisUrl: redis.url, providers: [{ name: 'a', sandboxes: jobs }], maxJobs: jobs, recordsChanges: false })
try {
  // What is loaded and compiled at the first job is no job's own.
  const first = await queue.enqueueMany(Array.from({ length: 50 }, () => ({ ...spec, steps: ['sleep 0.1'] })))
  await Promise.all(first.map((handle) => handle.result()))
  await delay(3_000)
  const idle = await member.ask<Figures>('figures')
  await queue.enqueueMany(Array.from({ length: jobs }, () => spec))
  while ((await member.ask<number>('running')) < jobs) await delay(200)
  const taking = await member.ask<Figures>('figures')
  await delay(observedMs)
  const busy = await member.ask<Figures>('figures')
  const kilobytes = (bytes: number) => Number((bytes / 1_000).toFixed(1))
  const mebibytes = (bytes: number) => Number((bytes / 1024 / 1024).toFixed(1))
  await report('consumer-load', {
    jobs,
    idleHeapMiB: mebibytes(idle.heapBytes),
    busyHeapMiB: mebibytes(busy.heapBytes),
    heapPerJobKB: kilobytes((busy.heapBytes - idle.heapBytes) / jobs),
    idleRssMiB: mebibytes(idle.rssBytes),
    busyRssMiB: mebibytes(busy.rssBytes),
    rssPerJobKB: kilobytes((busy.rssBytes - idle.rssBytes) / jobs),
    idleLoopDelayP99Ms: Number(idle.loopDelayP99Ms.toFixed(1)),
    takingLoopDelayP99Ms: Number(taking.loopDelayP99Ms.toFixed(1)),
    takingLoopDelayMaxMs: Number(taking.loopDelayMaxMs.toFixed(1)),
    runningLoopDelayP99Ms: Number(busy.loopDelayP99Ms.toFixed(1)),
    runningLoopDelayMaxMs: Number(busy.loopDelayMaxMs.toFixed(1)),
  })
} finally {
  member.kill()
  await queue.close()
  await redis.close()
}
