import { Queue, type FinishedStatus } from 'bullmq'
import type { Redis } from 'ioredis'
import { pino } from 'pino'
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest'
import { inMemoryGitHost } from '../../bench/in-memory/git-host.js'
import { InMemoryProvider } from '../../bench/in-memory/provider.js'
import { Consumer, secretsFromEnvironment } from '../../src/consumers/index.js'
import { startRedis, type EmbeddedRedis } from '../../src/embedded/index.js'
import { newRunRecord } from '../../src/job/run-record.js'
import type { JobSpecInput } from '../../src/job/spec.js'
import { AgentQueue } from '../../src/producers/index.js'
import type { JobHandle } from '../../src/producers/job-handle.js'
import { createRedis, Keys, RunStore } from '../../src/store/index.js'
import { result as resultOf } from '../store/fixture.js'
import { altered, quickSettings, until } from './deployment.js'

// What a job's run leaves behind is kept by the job's id, in many places. None of it may reach the job's next run, however the one ended and the other came
// about, and what is said to the new run while it is not begun is said to it.
let redis: EmbeddedRedis
let client: Redis
let bull: Queue
let queue: AgentQueue
/** As of another process. */
let other: AgentQueue
let store: RunStore
const closing: (() => Promise<unknown>)[] = []
const keys = new Keys()

/** Where a job stops until it is let go on: before it is acquired (`host`), or before it has a sandbox (`create`). By its repository. */
const gates = new Map<string, { reached: boolean; open: () => void; opened: Promise<void> }>()
function gate(at: 'host' | 'create', repository: string) {
  let open = (): void => undefined
  const opened = new Promise<void>((resolve) => (open = resolve))
  const made = {
    reached: false,
    open: () => {
      gates.delete(`${at} ${repository}`)
      open()
    },
    opened,
  }
  gates.set(`${at} ${repository}`, made)
  return { reached: () => until(`${repository} is at its gate`, () => made.reached), open: made.open }
}
async function pass(at: 'host' | 'create', repository: string): Promise<void> {
  const found = gates.get(`${at} ${repository}`)
  if (found === undefined) return
  found.reached = true
  await found.opened
}

beforeAll(async () => {
  redis = await startRedis()
})
beforeEach(async () => {
  client = createRedis({ url: redis.url }, 'commands')
  await client.flushall()
  bull = new Queue('agents', { connection: client, prefix: keys.prefix })
  bull.on('error', () => undefined)
  queue = new AgentQueue({ redis: { url: redis.url } })
  other = new AgentQueue({ redis: { url: redis.url } })
  store = new RunStore(client, keys)
})
afterEach(async () => {
  for (const { open } of [...gates.values()]) open()
  for (const close of closing.splice(0).reverse()) await close()
  await queue.close()
  await other.close()
  await bull.close()
  client.disconnect()
})
afterAll(() => redis.close())

const repositories = new Map<string, string>()
const spec = (repository: string, more: Partial<JobSpecInput> = {}): JobSpecInput => ({ repository, push: false, steps: ['true'], ...more })
async function enqueue(repository: string, more: Partial<JobSpecInput> = {}): Promise<JobHandle> {
  const job = await queue.enqueue(spec(repository, more))
  repositories.set(job.jobId, repository)
  return job
}

async function consume(): Promise<void> {
  const provider = new InMemoryProvider('a')
  const consumer = new Consumer({
    deployment: 'test',
    redis: { url: redis.url },
    git: altered(inMemoryGitHost, { resolve: async (repository, ...rest) => (await pass('host', repository), await inMemoryGitHost.resolve(repository, ...rest)) }),
    providers: [{ provider: altered(provider, { create: async (request) => (await pass('create', repositories.get(request.tags['switchyard-job'] ?? '') ?? ''), await provider.create(request)) }), limit: { sandboxes: 200 } }],
    secrets: secretsFromEnvironment([]),
    log: pino({ level: 'silent' }),
    settings: { ...quickSettings, maxJobs: 200, reapGraceMs: 60_000 },
  })
  await consumer.start()
  closing.push(() => consumer.stop())
}

/** A consumer takes a job and dies: nobody renews its lock. */
async function takenByOneThatDies(jobId: string): Promise<void> {
  expect(await client.zrem(keys.bullmq('prioritized'), jobId)).toBe(1)
  await client.multi().hset(keys.job(jobId), 'processedOn', Date.now()).lpush(keys.bullmq('active'), jobId).exec()
}

const bullmqHas = (jobId: string, ...states: string[]) => until(`BullMQ has ${jobId} as ${states.join(' or ')}`, async () => states.includes(await bull.getJobState(jobId)))
const finished = (jobId: string) => bullmqHas(jobId, 'completed', 'failed')

/** How the first run ends. BullMQ holds the job as ended afterwards. */
const ends = {
  'ran': async (job: JobHandle) => {
    expect(await job.result({ timeoutMs: 30_000 })).toMatchObject({ status: 'succeeded' })
  },
  'was cancelled while it ran': async (job: JobHandle, repository: string) => {
    const { reached, open } = gate('create', repository)
    await reached()
    expect(await job.cancel('the first run')).toBe('requested')
    open()
  },
  'was cancelled in hand, not begun': async (job: JobHandle, repository: string) => {
    const { reached, open } = gate('host', repository)
    await reached()
    expect(await job.cancel('the first run')).not.toBe('ended')
    open()
  },
  'ended, and its consumer died before it told BullMQ': async ({ jobId }: JobHandle, repository: string) => {
    await takenByOneThatDies(jobId)
    const fresh = newRunRecord({ jobId, generation: 1, repository, startedAtMs: 1 })
    const acquired = await store.acquire(jobId, { holder: 'dead', fresh, stalls: 0 })
    if (acquired.kind !== 'acquired') throw new Error('not acquired')
    await store.finish(jobId, acquired.fence, fresh, resultOf(jobId, { status: 'failed' }), { id: `${jobId}.1` })
  },
  'waited for too long, while nobody took jobs': async ({ jobId }: JobHandle) => {
    expect(await store.endWaiting(jobId, { result: resultOf(jobId, { status: 'failed' }), event: { id: `${jobId}.1` }, generation: 1 })).toBe(true)
  },
} as const

/** How it is run again. */
const retries = {
  'queue.retry': async (jobId: string) => {
    expect(await queue.retry(jobId)).toBe('retried')
  },
  'two calls of queue.retry at once': async (jobId: string) => {
    expect((await Promise.all([queue.retry(jobId), other.retry(jobId)])).sort()).toEqual(['pending', 'retried'])
  },
  'BullMQ’s retry': async (jobId: string) => (await bull.getJob(jobId))!.retry((await bull.getJobState(jobId)) as FinishedStatus),
  'BullMQ’s retry, attempts counted anew': async (jobId: string) => (await bull.getJob(jobId))!.retry((await bull.getJobState(jobId)) as FinishedStatus, { resetAttemptsMade: true, resetAttemptsStarted: true }),
} as const

interface Course {
  readonly job: JobHandle
  readonly repository: string
}

/** How many new runs somebody has taken who died. */
let dead = 0

/** What happens before the new run has begun. The queue is paused when it comes about; `go` resumes it. Each says how the new run ends. */
const meanwhile = {
  'nothing': async () => 'succeeded',
  'somebody takes it, and dies before it is begun': async ({ job }: Course) => {
    await until('it is listed', async () => /^\d+ /.test((await client.hget(keys.job(job.jobId), 'sy')) ?? ''))
    await takenByOneThatDies(job.jobId)
    dead += 1
    return 'succeeded'
  },
  'it is cancelled while it waits': async ({ job }: Course) => {
    return await job.cancel('the second run')
  },
  'it is cancelled in hand, not begun': async ({ job, repository }: Course, resumed: Promise<void>) => {
    const { reached, open } = gate('host', repository)
    await resumed
    await reached()
    const answer = await job.cancel('the second run')
    open()
    // One that was chosen with its place is not begun here; another may be, and is asked.
    return answer === 'ended' ? answer : 'cancelled'
  },
  'the first run is said to be cancelled, late, in hand': async ({ job, repository }: Course, resumed: Promise<void>) => {
    const { reached, open } = gate('host', repository)
    await resumed
    await reached()
    await client.publish(keys.cancelChannel(), JSON.stringify({ jobId: job.jobId, reason: 'the first run' }))
    open()
    return 'succeeded'
  },
} as const

const cases = Object.keys(ends).flatMap((end) => Object.keys(retries).flatMap((retry) => Object.keys(meanwhile).map((between) => ({ end, retry, between }) as { end: keyof typeof ends; retry: keyof typeof retries; between: keyof typeof meanwhile })))

it('nothing of a run reaches the next one of its job', async () => {
  const courses = await Promise.all(
    cases.map(async (each, index) => {
      const repository = `bench/${index}`
      const name = `${each.end}; ${each.retry}; ${each.between}`
      return { ...each, name, repository, job: await enqueue(repository) }
    }),
  )
  // Before anybody takes jobs: what a gate is for stands at it, and what is done by hand is done.
  const first = courses.map(({ end, job, repository }) => ends[end](job, repository))
  await consume()
  await Promise.all(first)
  await Promise.all(courses.map(({ job }) => finished(job.jobId)))
  for (const { job, name } of courses) expect(await client.hlen(keys.run(job.jobId)), name).toBeGreaterThan(0)

  const problems: string[] = []
  await bull.pause()
  for (const { retry, job, name } of courses) {
    await retries[retry](job.jobId)
    const { state } = await job.status()
    if (state !== 'waiting') problems.push(`${name}: ${state} right after that`)
  }
  let resume = (): void => undefined
  const resumed = new Promise<void>((resolve) => (resume = resolve))
  const waiting = courses.map(async (course) => {
    const status = await meanwhile[course.between](course, resumed)
    const got = await course.job.result({ timeoutMs: 20_000 }).catch(() => null)
    if (got === null) {
      problems.push(`${course.name}: has not ended`)
      return
    }
    if (got.status !== status) problems.push(`${course.name}: ${got.status} (${got.error?.message ?? ''}), not ${status}`)
    if (got.status === 'cancelled' && got.error?.message !== 'the second run') problems.push(`${course.name}: ${got.error?.message ?? ''}`)
    await bullmqHas(course.job.jobId, 'completed', 'failed', 'unknown')
  })
  await until('those are taken whose taker dies', () => dead === courses.filter(({ between }) => between.startsWith('somebody')).length)
  await bull.resume()
  resume()
  await Promise.all(waiting)
  expect(problems).toEqual([])

  const told = new Map<string, number>()
  for (const [, fields] of await client.xrange(keys.events(), '-', '+')) told.set(fields[fields.indexOf('id') + 1] ?? '', (told.get(fields[fields.indexOf('id') + 1] ?? '') ?? 0) + 1)
  expect([...told.keys()].sort()).toEqual(courses.flatMap(({ job }) => [`${job.jobId}.1`, `${job.jobId}.2`]).sort())
  expect([...told.values()].every((count) => count === 1)).toBe(true)
  for (const { job, name } of courses) expect(await client.hmget(keys.run(job.jobId), 'generation', 'cancelReason', 'cancelAtMs', 'continue', 'again'), name).toEqual(['2', null, null, null, null])
  const ready = keys.ready()
  for (const key of [`${ready}:held`, `${ready}:keyed`, keys.refusals(), `${keys.ledger()}:jobs`]) {
    const left = Object.entries(await client.hgetall(key))
    // A create that nobody waits for any more keeps its place by a name of its own, until its sandbox is gone.
    expect(left.filter(([id]) => !id.startsWith(':create:')).map(([id, value]) => `${courses.find(({ job }) => job.jobId === id)?.name ?? id}: ${value}`), key).toEqual([])
  }
  expect(Number((await client.hget(`${ready}:listed`, 'agents')) ?? 0)).toBe(0)
}, 120_000)

it.each(Object.keys(retries) as (keyof typeof retries)[])('run again by %s, a job comes after those that came before it for its key, and is superseded by none of them', async (means) => {
  await consume()
  const key = (then: 'wait' | 'cancel-running') => ({ concurrency: { key: 'k', then } })
  const first = await enqueue('bench/first', key('cancel-running'))
  await first.result({ timeoutMs: 30_000 })
  const { reached, open } = gate('create', 'bench/second')
  const second = await enqueue('bench/second', key('cancel-running'))
  await reached()
  await finished(first.jobId)
  await retries[means](first.jobId)
  // It does not wait until the other one has ended.
  expect(await first.result({ timeoutMs: 30_000 })).toMatchObject({ status: 'succeeded' })
  open()
  expect(await second.result({ timeoutMs: 30_000 })).toMatchObject({ status: 'cancelled', error: { message: `superseded by job ${first.jobId}` } })

  // Superseded once, it is a job like others when it is run again; and waits for who has the key where it is told to wait.
  await finished(second.jobId)
  const third = gate('create', 'bench/third')
  const holder = await enqueue('bench/third', key('wait'))
  await third.reached()
  await client.hset(keys.job(second.jobId), 'data', JSON.stringify({ spec: { ...((await bull.getJob(second.jobId))!.data as { spec: object }).spec, concurrency: { key: 'k', limit: 1, then: 'wait' } } }))
  await retries[means](second.jobId)
  await until('it says what it waits for', async () => (await second.status()).reason?.includes('concurrency key') === true)
  third.open()
  expect(await holder.result({ timeoutMs: 30_000 })).toMatchObject({ status: 'succeeded' })
  expect(await second.result({ timeoutMs: 30_000 })).toMatchObject({ status: 'succeeded' })
  await until('nobody has the key', async () => (await client.hlen(`${keys.ready()}:keyed`)) === 0)
})

it('a cancel after the run’s record is past its retention is not heard by the next run', async () => {
  await consume()
  const job = await enqueue('bench/old')
  await job.result({ timeoutMs: 30_000 })
  await finished(job.jobId)
  await client.del(keys.run(job.jobId))
  expect(await job.cancel('too late')).toBe('ended')
  expect(await queue.retry(job.jobId)).toBe('retried')
  expect(await job.result({ timeoutMs: 30_000 })).toMatchObject({ status: 'succeeded' })
})

it.each(Object.keys(retries) as (keyof typeof retries)[])('run again by %s, a job waits for as long as it may anew', async (means) => {
  await consume()
  const job = await enqueue('bench/waits', { waitTimeout: '10m' })
  await job.result({ timeoutMs: 30_000 })
  await finished(job.jobId)
  expect(await client.zscore(keys.waits(), job.jobId)).toBeNull()
  await bull.pause()
  await retries[means](job.jobId)
  await until('its time is known', async () => Number((await client.zscore(keys.waits(), job.jobId)) ?? 0) > Date.now() + 300_000)
  await client.zadd(keys.waits(), 1, job.jobId)
  expect(await job.result({ timeoutMs: 30_000 })).toMatchObject({ status: 'failed', error: { kind: 'timeout' } })
  expect(await client.hget(keys.run(job.jobId), 'generation')).toBe('2')
})

it('the same key is the same job, also when BullMQ does not hold it any more; a failed one runs again where that is asked for', async () => {
  const more = { idempotencyKey: 'one' }
  const failed = await enqueue('bench/failed', more)
  await ends['waited for too long, while nobody took jobs'](failed)
  const ended = await enqueue('bench/other', { idempotencyKey: 'other' })
  await consume()
  await Promise.all([finished(failed.jobId), finished(ended.jobId)])
  for (const { jobId } of [failed, ended]) await bull.remove(jobId)
  for (const onFailed of ['keep', 'rerun'] as const) {
    const [again] = await queue.enqueueMany([spec('bench/other', { idempotencyKey: 'other' }), spec('bench/new')], { onFailed })
    expect(await again!.result({ timeoutMs: 30_000 })).toMatchObject({ jobId: ended.jobId, status: 'succeeded' })
    expect(await bull.getJob(ended.jobId)).toBeUndefined()
  }
  expect(await (await queue.enqueue(spec('bench/failed', more))).result({ timeoutMs: 30_000 })).toMatchObject({ jobId: failed.jobId, status: 'failed' })
  expect(await bull.getJob(failed.jobId)).toBeUndefined()
  const rerun = await queue.enqueue(spec('bench/failed', more), { onFailed: 'rerun' })
  expect(await rerun.result({ timeoutMs: 30_000 })).toMatchObject({ jobId: failed.jobId, status: 'succeeded' })
})

it('what was said of a job that is cancelled before it begins goes: the budget that was set, and how much of a log was kept', async () => {
  const job = await enqueue('bench/said')
  const fresh = newRunRecord({ jobId: job.jobId, generation: 1, repository: 'bench/said', startedAtMs: 1 })
  const acquired = await store.acquire(job.jobId, { holder: 'by hand', fresh, stalls: 0 })
  if (acquired.kind !== 'acquired') throw new Error('not acquired')
  const small = new RunStore(client, keys, { logMaxBytesPerStream: 2_048 })
  for (let offset = 0; offset < 8; offset++) await small.append(job.jobId, acquired.fence, fresh, [{ step: 's', stream: 'stdout', attempt: 1, offset: offset * 512, data: Buffer.alloc(512, 'x') }])
  expect(await client.keys(`${keys.logAccount(job.jobId)}:*`)).toHaveLength(1)
  await store.finish(job.jobId, acquired.fence, fresh, resultOf(job.jobId, { status: 'failed' }), { id: `${job.jobId}.1` })
  await client.zrem(keys.bullmq('prioritized'), job.jobId)
  await client.multi().hset(keys.job(job.jobId), 'finishedOn', 1, 'atm', 1).zadd(`${keys.prefix}:agents:failed`, 1, job.jobId).exec()
  expect(await queue.retry(job.jobId)).toBe('retried')
  await queue.budgets.setJob(job.jobId, 5)
  expect(await job.cancel('not again')).toBe('cancelled')
  expect(await client.keys(`${keys.logAccount(job.jobId)}*`)).toEqual([])
  expect(await client.hget(`${keys.costs()}:caps`, `j:${job.jobId}`)).toBeNull()
})
