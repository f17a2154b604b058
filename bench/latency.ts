// From `enqueue` to the provider's create call: alone, behind many jobs that wait for a full provider (`WAITING=20000` for fewer), and with four fifths of
// the places taken; beside BullMQ's own way from `add` to the processor. One process and one clock; Redis is real, provider and git host are in memory.
import { setTimeout as delay } from 'node:timers/promises'
import { Queue, Worker } from 'bullmq'
import { pino } from 'pino'
import { Consumer, secretsFromEnvironment } from '../src/consumers/index.js'
import { startRedis } from '../src/embedded/index.js'
import { AgentQueue } from '../src/producers/index.js'
import { inMemoryGitHost } from './in-memory/git-host.js'
import { InMemoryProvider } from './in-memory/provider.js'
import { reportTable } from './report.js'

const waiting = Number(process.env['WAITING'] ?? 200_000)
const rounds = Number(process.env['ROUNDS'] ?? 400)
/** Node compiles what runs often. */
const warmUp = 300
const base = { repository: 'bench/jobs', push: false as const }

/** Begins one every `everyMs`, whatever became of those before, and waits for all. */
async function atRate(count: number, everyMs: number, begin: () => Promise<number>): Promise<number[]> {
  const all: Promise<number>[] = []
  const from = performance.now()
  for (let index = 0; index < count; index++) {
    const dueInMs = from + index * everyMs - performance.now()
    if (dueInMs > 0) await delay(dueInMs)
    all.push(begin())
  }
  return Promise.all(all)
}

function rowOf(what: string, times: readonly number[]): Record<string, number | string> {
  const sorted = times.toSorted((a, b) => a - b)
  const at = (share: number) => Number((sorted[Math.ceil(sorted.length * share) - 1] ?? Number.NaN).toFixed(2))
  return { what, jobs: sorted.length, p50Ms: at(0.5), p90Ms: at(0.9), p99Ms: at(0.99) }
}

async function raw(): Promise<Record<string, number | string>> {
  const redis = await startRedis()
  const queue = new Queue('raw', { connection: { url: redis.url } })
  const started = new Map<string, () => void>()
  const worker = new Worker('raw', async (job) => started.get(job.id ?? '')?.(), { connection: { url: redis.url, maxRetriesPerRequest: null }, concurrency: 100 })
  await worker.waitUntilReady()
  let number = 0
  const one = async () => {
    const jobId = `job-${number++}`
    const began = performance.now()
    const taken = new Promise<number>((resolve) => started.set(jobId, () => resolve(performance.now() - began)))
    await queue.add('job', {}, { jobId })
    return taken
  }
  await atRate(warmUp, 5, one)
  const times = await atRate(rounds, 20, one)
  await worker.close()
  await queue.close()
  await redis.close()
  return rowOf('plain BullMQ', times)
}

/** The times to the create calls of all jobs, by id; whoever asks first waits. */
class Creates {
  readonly #at = new Map<string, number>()
  readonly #asked = new Map<string, (atMs: number) => void>()

  readonly heard = (jobId: string): void => {
    const now = performance.now()
    const ask = this.#asked.get(jobId)
    if (ask === undefined) this.#at.set(jobId, now)
    else ask(now)
  }

  of(jobId: string): Promise<number> {
    const at = this.#at.get(jobId)
    return at === undefined ? new Promise((resolve) => this.#asked.set(jobId, resolve)) : Promise.resolve(at)
  }
}

/** @param behind how many jobs wait for another provider, which is full. */
async function ours(what: string, { behind, stepMs, everyMs, places }: { behind: number; stepMs: number; everyMs: number; places: number }): Promise<Record<string, number | string>> {
  const redis = await startRedis()
  const queue = new AgentQueue({ redis: { url: redis.url } })
  const creates = new Creates()
  const [full, free] = [new InMemoryProvider('full'), new InMemoryProvider('free', { onCreateCall: (_name, { tags }) => creates.heard(tags['switchyard-job'] ?? '') })]
  const consumer = new Consumer({
    deployment: 'bench',
    redis: { url: redis.url },
    git: inMemoryGitHost,
    providers: [
      { provider: full, limit: { sandboxes: 1 } },
      { provider: free, limit: { sandboxes: places } },
    ],
    secrets: secretsFromEnvironment([]),
    log: pino({ level: 'silent' }),
  })
  const one = async () => {
    const began = performance.now()
    const { jobId } = await queue.enqueue({ ...base, steps: [stepMs === 0 ? 'true' : `sleep ${stepMs / 1000}`], providers: { allow: ['free'] } })
    return (await creates.of(jobId)) - began
  }
  try {
    for (let done = 0; done < behind; done += 5_000) {
      await queue.enqueueMany(Array.from({ length: Math.min(5_000, behind - done) }, (_, index) => ({ ...base, steps: ['sleep 3600'], timeout: '2h', tenant: `tenant-${index % 1_000}`, providers: { allow: ['full'] } })))
    }
    await consumer.start()
    while (behind > 0 && full.running === 0) await delay(20)
    await atRate(warmUp, Math.max(everyMs, 5), one)
    return rowOf(what, await atRate(rounds, everyMs, one))
  } finally {
    await consumer.stop()
    await queue.close()
    await redis.close()
  }
}

const quiet = { stepMs: 0, everyMs: 20, places: 100 }
await reportTable('latency', [
  await raw(),
  await ours('alone', { ...quiet, behind: 0 }),
  await ours(`behind ${waiting.toLocaleString('en')} that wait for a full provider`, { ...quiet, behind: waiting }),
  // 10 places for 100 ms each, one job every 12.5 ms.
  await ours('at four fifths of 10 places', { behind: 0, stepMs: 100, everyMs: 12.5, places: 10 }),
])
