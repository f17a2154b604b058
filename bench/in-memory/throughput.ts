import { setTimeout as delay } from 'node:timers/promises'
import { Queue } from 'bullmq'
import { startRedis } from '../../src/embedded/index.js'
import { AgentQueue } from '../../src/producers/index.js'
import { createRedis } from '../../src/store/index.js'
import { keysBytes, redisFigures } from '../redis-figures.js'
import { startMember } from './fleet.js'

export interface ThroughputRun {
  /** Plain BullMQ, whose jobs do nothing, or Switchyard, whose jobs have a sandbox, a clone and a step that does nothing. */
  readonly what: 'raw' | 'switchyard'
  readonly processes: number
  /** How many jobs are in hand at once at most, in each process. */
  readonly concurrency: number
  readonly jobs: number
}

export interface Throughput {
  readonly jobsPerSecond: number
  /** Of all consumer processes together, and of Redis, per job: the same however much else the machine has to do. */
  readonly cpuMs: number
  readonly redisCpuMs: number
  readonly scripts: number
  readonly commands: number
  readonly sentBytes: number
}

export interface BytesPerJob {
  readonly enqueueSentBytes: number
  /** Of the keys alone, and of everything that Redis holds. */
  readonly waitingBytes: number
  readonly waitingUsedBytes: number
  readonly endedBytes: number
  readonly endedUsedBytes: number
}

const spec = { repository: 'bench/jobs', push: false as const, steps: ['true'] }
const perCall = 1_000
/** What Node compiles first, and starts with, is no job's own. */
const warmUpShare = 0.2

interface Side {
  readonly bull: Queue
  readonly program: 'consumer-process.ts' | 'raw-process.ts'
  enqueue(count: number): Promise<unknown>
  close(): Promise<void>
}

function sideOf(what: ThroughputRun['what'], url: string): Side {
  if (what === 'raw') {
    const bull = new Queue('raw', { connection: { url }, defaultJobOptions: { removeOnComplete: { age: 7 * 86_400, count: 10_000 } } })
    return { bull, program: 'raw-process.ts', enqueue: (count) => bull.addBulk(Array.from({ length: count }, () => ({ name: 'job', data: { spec } }))), close: () => bull.close() }
  }
  const bull = new Queue('agents', { connection: { url }, prefix: '{switchyard}' })
  const queue = new AgentQueue({ redis: { url } })
  const close = async () => {
    await queue.close()
    await bull.close()
  }
  return { bull, program: 'consumer-process.ts', enqueue: (count) => queue.enqueueMany(Array.from({ length: count }, () => spec)), close }
}

async function enqueueAll(side: Side, jobs: number): Promise<void> {
  for (let done = 0; done < jobs; done += perCall) await side.enqueue(Math.min(perCall, jobs - done))
}

async function ended(side: Side, count: number): Promise<void> {
  while ((await side.bull.getCompletedCount()) < count) {
    if ((await side.bull.getFailedCount()) > 0) throw new Error('a job failed')
    await delay(20)
  }
}

/** Empty jobs that wait before the consumers start, from the first fifth's end to the last job's. BullMQ keeps the latest 10,000 that have ended. */
export async function throughput({ what, processes, concurrency, jobs }: ThroughputRun): Promise<Throughput> {
  const redis = await startRedis()
  const client = createRedis({ url: redis.url }, 'commands')
  const side = sideOf(what, redis.url)
  await enqueueAll(side, jobs)
  const options = { redisUrl: redis.url, providers: [{ name: 'a', sandboxes: processes * concurrency }], maxJobs: concurrency, recordsChanges: false }
  const members = await Promise.all(Array.from({ length: processes }, () => startMember(side.program, options)))
  const cpuMs = async () => (await Promise.all(members.map((member) => member.ask<number>('cpu')))).reduce((sum, ms) => sum + ms, 0)
  try {
    await ended(side, Math.round(jobs * warmUpShare))
    const [from, cpuFrom, at, before] = [await side.bull.getCompletedCount(), await cpuMs(), performance.now(), await redisFigures(client)]
    await ended(side, jobs)
    const [tookMs, cpuUsedMs, after] = [performance.now() - at, (await cpuMs()) - cpuFrom, await redisFigures(client)]
    const counted = jobs - from
    if (counted < jobs / 10) throw new Error(`of ${jobs} jobs all but ${counted} had ended before they were counted: ask for more, by JOBS`)
    return {
      jobsPerSecond: (counted / tookMs) * 1000,
      cpuMs: cpuUsedMs / counted,
      redisCpuMs: (after.cpuMs - before.cpuMs) / counted,
      scripts: (after.scripts - before.scripts) / counted,
      commands: (after.commands - before.commands) / counted,
      sentBytes: (after.receivedBytes - before.receivedBytes) / counted,
    }
  } finally {
    await Promise.all(members.map((member) => member.stop()))
    await side.close()
    client.disconnect()
    await redis.close()
  }
}

/** What Redis is sent for a job that is enqueued, and holds of it while it waits and once it has ended: all keys together, BullMQ's events too. */
export async function bytesPerJob(what: ThroughputRun['what'], jobs: number): Promise<BytesPerJob> {
  const redis = await startRedis()
  const client = createRedis({ url: redis.url }, 'commands')
  const side = sideOf(what, redis.url)
  // What stands beside all jobs is there after the first ones.
  const first = 50
  const run = async (count: number) => {
    const member = await startMember(side.program, { redisUrl: redis.url, providers: [{ name: 'a', sandboxes: 10 }], maxJobs: 10, recordsChanges: false })
    await ended(side, count)
    await member.stop()
  }
  try {
    await side.enqueue(first)
    await run(first)
    const figures = async () => ({ ...(await redisFigures(client)), keysBytes: await keysBytes(client) })
    const before = await figures()
    await enqueueAll(side, jobs)
    const waiting = await figures()
    await run(first + jobs)
    const after = await figures()
    return {
      enqueueSentBytes: (waiting.receivedBytes - before.receivedBytes) / jobs,
      waitingBytes: (waiting.keysBytes - before.keysBytes) / jobs,
      waitingUsedBytes: (waiting.usedBytes - before.usedBytes) / jobs,
      endedBytes: (after.keysBytes - before.keysBytes) / jobs,
      endedUsedBytes: (after.usedBytes - before.usedBytes) / jobs,
    }
  } finally {
    await side.close()
    client.disconnect()
    await redis.close()
  }
}
