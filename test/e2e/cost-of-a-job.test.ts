import { Queue } from 'bullmq'
import { Redis } from 'ioredis'
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { inMemoryGitHost } from '../../bench/in-memory/git-host.js'
import { InMemoryProvider } from '../../bench/in-memory/provider.js'
import { keysBytes, redisFigures } from '../../bench/redis-figures.js'
import { Consumer, secretsFromEnvironment } from '../../src/consumers/index.js'
import { startRedis, type EmbeddedRedis } from '../../src/embedded/index.js'
import type { JobSpecInput } from '../../src/job/spec.js'
import { AgentQueue } from '../../src/producers/index.js'
import { Keys } from '../../src/store/index.js'
import { until } from '../store/fixture.js'
import { reached } from './deployment.js'

// Counted in bytes and commands, which are the same however much else the machine has to do.
let redis: EmbeddedRedis
let client: Redis
let bull: Queue
let queue: AgentQueue
let consumer: Consumer
let ended = 0
beforeAll(async () => {
  redis = await startRedis()
  client = new Redis(redis.url)
  bull = new Queue('agents', { connection: { url: redis.url }, prefix: '{switchyard}' })
  queue = new AgentQueue({ redis: { url: redis.url } })
  const provider = new InMemoryProvider('a')
  consumer = new Consumer({ deployment: 'cost', redis: { url: redis.url }, git: inMemoryGitHost, providers: [{ provider, limit: { sandboxes: 10 } }], secrets: secretsFromEnvironment([]), log: pino({ level: 'silent' }) })
  await consumer.start()
  await reached(queue)
  // What stands beside all jobs is there after the first ones.
  await run(20, trivial)
})
afterAll(async () => {
  await consumer.stop()
  await queue.close()
  await bull.close()
  client.disconnect()
  await redis.close()
})

const trivial: JobSpecInput = { repository: 'bench/jobs', push: false, steps: ['true'] }

/** Runs jobs to their end, in BullMQ too. */
async function run(count: number, spec: JobSpecInput): Promise<string[]> {
  const handles = await queue.enqueueMany(Array.from({ length: count }, () => spec))
  ended += count
  await until(async () => (await bull.getCompletedCount()) === ended, `${count} jobs have ended`, 60_000)
  return handles.map(({ jobId }) => jobId)
}

describe('what a job costs Redis', () => {
  it('a finished trivial one leaves 3 KiB, the events of both kinds included', async () => {
    const before = await keysBytes(client)
    await run(200, trivial)
    expect(((await keysBytes(client)) - before) / 200).toBeLessThanOrEqual(3_072)
  })

  it('one that follows another is taken with that one’s end: seven scripts in all, where there were ten', async () => {
    const before = await redisFigures(client)
    await run(400, trivial)
    // The job is added, acquired, saved three times and ended, here and in BullMQ. Some come each second besides, for all jobs together.
    expect(((await redisFigures(client)).scripts - before.scripts) / 400).toBeLessThan(9.5)
  })

  it('one that comes while a consumer is idle is given to it: no look is made for it', async () => {
    const lone = new AgentQueue({ redis: { url: redis.url }, name: 'lone' })
    // What a look chooses has its place under a number of that consumer's.
    const places: Promise<string | null>[] = []
    const provider = new InMemoryProvider('b', { onCreateCall: (_name, { tags }) => places.push(client.hget(`${new Keys().ledger()}:jobs`, tags['switchyard-job'] ?? '')) })
    // It looks by itself when it begins, and not again in this test.
    const idle = new Consumer({ deployment: 'cost', redis: { url: redis.url }, queue: { name: 'lone' }, git: inMemoryGitHost, providers: [{ provider, limit: { sandboxes: 10 } }], secrets: secretsFromEnvironment([]), settings: { pollMs: 300_000 }, log: pino({ level: 'silent' }) })
    await idle.start()
    try {
      for (let index = 0; index < 20; index++) expect((await (await lone.enqueue(trivial)).result({ timeoutMs: 60_000 })).status).toBe('succeeded')
    } finally {
      await idle.stop()
      await lone.close()
    }
    const [first, ...others] = (await Promise.all(places)).map((place) => place?.split('/')[0])
    // The first is of a kind that nobody has heard of.
    expect(first).toMatch(/^consumer-/)
    expect(others).toEqual(Array.from({ length: 19 }, () => 'on'))
  })

  it('fifty steps that print in many pieces send what is new, and nothing of what was before', async () => {
    const before = await redisFigures(client)
    const [jobId = ''] = await run(1, { ...trivial, steps: Array.from({ length: 50 }, () => 'sleep 0.06 # line every 0.001') })
    const bytes = (await redisFigures(client)).receivedBytes - before.receivedBytes
    const pieces = await client.xlen(new Keys().log(jobId))
    // Each step's first read and its last at the least, however slow the machine.
    expect(pieces).toBeGreaterThan(75)
    // Each piece of output with what a call has around it, the steps with their tails, and all of them once more in result and event.
    expect(bytes).toBeLessThan(pieces * 1_200 + 400_000)
  })
})
