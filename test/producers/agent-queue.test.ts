import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Queue, Worker } from 'bullmq'
import { Redis } from 'ioredis'
import { describe, expect, it, vi } from 'vitest'
import { startRedis } from '../../src/embedded/index.js'
import { completionEvent, type CompletionEvent } from '../../src/events/index.js'
import { IdempotencyConflictError, InvalidInputError, NewerReleaseError, RedisUnavailableError, UnknownJobError } from '../../src/job/errors.js'
import { parseQueuedSpec, type JobSpecInput } from '../../src/job/spec.js'
import { AgentQueue, type AgentQueueOptions, type ListOptions, ResultTimeoutError, subscribe } from '../../src/producers/index.js'
import { Enqueuing } from '../../src/producers/enqueuing.js'
import { claimKeys } from '../../src/producers/idempotency.js'
import { cancelJob } from '../../src/producers/job-cancel.js'
import { retryJob } from '../../src/producers/job-retry.js'
import { connectTo } from '../../src/producers/producer-connection.js'
import { ResultWaiter } from '../../src/producers/result-waiter.js'
import { createRedis, type QueuedJob, RunStore, Roster, type Signals, SlotLedger } from '../../src/store/index.js'
import { after, becomeIdle, record, result, startClusterNode, until, useRedis } from '../store/fixture.js'

const redis = useRedis()
const spec = (fields: Partial<JobSpecInput> = {}): JobSpecInput => ({ repository: 'acme/web', steps: ['true'], ...fields })

function open(options: Partial<AgentQueueOptions> = {}) {
  const queue = new AgentQueue({ redis: redis.config, ...options })
  after(() => queue.close())
  return queue
}

/** BullMQ's own view of the queue, as a consumer or a board has it. */
function bull(): Queue<QueuedJob> {
  const queue = new Queue<QueuedJob>('agents', { connection: redis.connect(), prefix: '{switchyard}' })
  after(() => queue.close())
  return queue
}

async function take(jobId: string, generation = 1) {
  const store = new RunStore(redis.connect(), redis.keys)
  const acquired = await store.acquire(jobId, { holder: 'consumer', fresh: record(jobId, { generation, repository: 'acme/web' }) })
  if (acquired.kind !== 'acquired') throw new Error('the run has ended')
  return {
    store,
    fence: acquired.fence,
    finish: (fields: Parameters<typeof result>[1] = {}) => {
      const end = result(jobId, fields)
      return store.finish(jobId, acquired.fence, record(jobId, { generation, phase: 'ended' }), end, completionEvent(end, { generation }))
    },
  }
}

/** Counts what a connection writes: ioredis writes each command, and each pipeline, at once. */
function countWrites(): { stop: () => number } {
  type Stream = { write: (...args: unknown[]) => boolean }
  const prototype = Redis.prototype as unknown as { sendCommand: (command: { name: string }, stream?: Stream) => unknown }
  const original = prototype.sendCommand
  const pipelines = new Set<unknown>()
  let turns = 0
  let isCounted = false
  prototype.sendCommand = function (command, stream) {
    // A pipeline hands its commands a stream of its own that collects them.
    if (stream !== undefined && 'isPipeline' in stream) pipelines.add(stream)
    else if (!isCounted) {
      // What a turn of the event loop sends goes out in one write.
      turns++
      isCounted = true
      setImmediate(() => (isCounted = false))
    }
    return original.call(this, command, stream)
  }
  return {
    stop: () => {
      prototype.sendCommand = original
      return turns + pipelines.size
    },
  }
}

describe('enqueuing', () => {
  it('adds a job as BullMQ holds it: validated, with a priority, attempts and bounds', async () => {
    const job = await open().enqueue(spec({ priority: 7, metadata: { issue: 1 } }))
    const queued = await bull().getJob(job.jobId)
    // Without what every spec has that does not say otherwise.
    expect(queued?.data.spec).toEqual({ repository: 'acme/web', priority: 7, metadata: { issue: 1 }, steps: [{ run: 'true' }] })
    expect(parseQueuedSpec(queued?.data.spec)).toMatchObject({ timeoutMs: 3_600_000, network: 'open', steps: [{ env: {} }] })
    expect(Object.keys(queued?.data ?? {}).sort()).toEqual(['spec'])
    expect(queued?.opts).toMatchObject({ priority: 7, attempts: 1 })
    // Consumers' workers have the usual retention as their own.
    expect(queued?.opts).not.toHaveProperty('removeOnComplete')
    const kept = await open({ retentionMs: 60_000 }).enqueue(spec())
    expect((await bull().getJob(kept.jobId))?.opts).toMatchObject({ removeOnComplete: { count: 10_000, age: 60 }, removeOnFail: { count: 10_000, age: 60 } })
    expect(await bull().getJobCounts('prioritized', 'waiting')).toEqual({ prioritized: 2, waiting: 0 })
  })

  it('fills in the defaults of the queue', async () => {
    const job = await open({ defaults: { tenant: 'acme', priority: 3 } }).enqueue(spec({ priority: 4 }))
    expect((await bull().getJob(job.jobId))?.data.spec).toMatchObject({ tenant: 'acme', priority: 4 })
  })

  it('refuses a wrong spec, and one that is too large, before anything is sent', async () => {
    // Nothing listens there: a spec that got so far would meet another error.
    const queue = open({ redis: { url: 'redis://127.0.0.1:1' }, maxSpecBytes: 2_000 })
    await expect(queue.enqueue(spec({ steps: [] }))).rejects.toThrow('steps: is empty')
    await expect(queue.enqueue(spec({ metadata: { text: 'x'.repeat(2_000) } }))).rejects.toThrow(/over the limit of 2000/)
    await expect(queue.enqueue(spec({ steps: Array.from({ length: 300 }, () => ':') }))).rejects.toThrow(/as the queue holds it, over the limit/)
    await expect(queue.enqueue(null as unknown as JobSpecInput)).rejects.toThrow(InvalidInputError)
  })

  it('of many validates all before it adds any, and names the position of every problem', async () => {
    const error = await open()
      .enqueueMany([spec(), spec({ steps: [] }), spec({ timeout: '-1s' })])
      .then(() => undefined, (thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(InvalidInputError)
    expect((error as InvalidInputError).problems.map((problem) => problem.split(':')[0])).toEqual(['jobs[1]', 'jobs[2]'])
    expect(await bull().getJobCountByTypes('prioritized')).toBe(0)
  })

  it('sends one round trip per 1,000 jobs, and one more for all idempotency keys', async () => {
    const queue = open()
    await queue.enqueue(spec())
    const many = (count: number, key?: string) => Array.from({ length: count }, (_, index) => spec(key === undefined ? {} : { idempotencyKey: `${key}-${index}` }))
    let writes = countWrites()
    const handles = await queue.enqueueMany(many(1_000))
    expect(writes.stop()).toBe(1)
    expect(new Set(handles.map(({ jobId }) => jobId)).size).toBe(1_000)
    writes = countWrites()
    await queue.enqueueMany(many(2_500))
    expect(writes.stop()).toBe(3)
    writes = countWrites()
    await queue.enqueueMany(many(1_500, 'key'))
    expect(writes.stop()).toBe(3)
    expect(await bull().getJobCountByTypes('prioritized')).toBe(5_001)
  })

  it('delays a job as BullMQ does, by Redis’ clock, and says until when it waits', async () => {
    const queue = open()
    const runAt = '2026-06-01T00:00:00+02:00'
    vi.useFakeTimers({ toFake: ['Date'], now: Date.parse(runAt) - 60_000 })
    after(() => vi.useRealTimers())
    const [later, past, plain] = await queue.enqueueMany([spec({ delay: '10m', waitTimeout: '1m' }), spec({ runAt }), spec()])
    const client = redis.connect()
    const [seconds] = await client.time()
    const dueAtMs = Math.floor(Number(await client.zscore('{switchyard}:agents:delayed', later!.jobId)) / 4096)
    expect(Math.abs(dueAtMs - (Number(seconds) * 1000 + 600_000))).toBeLessThan(60_000)
    expect(Math.abs(Number(await client.zscore(redis.keys.waits(), later!.jobId)) - dueAtMs - 60_000)).toBeLessThan(60_000)
    expect(await later!.status()).toMatchObject({ state: 'waiting', reason: `waiting: delayed until ${new Date(dueAtMs).toISOString().slice(0, 19)}Z` })
    // By Redis' clock it is past.
    expect(await bull().getDelayedCount()).toBe(1)
    expect((await bull().getPrioritized()).map(({ id }) => id).sort()).toEqual([past!.jobId, plain!.jobId].sort())
    expect(await later!.cancel('no more')).toBe('cancelled')
    expect(await bull().getDelayedCount()).toBe(0)
    vi.useRealTimers()
    const exact = new Date(Math.ceil(Date.now() / 1000) * 1000 + 3_600_000)
    const planned = await queue.enqueue(spec({ runAt: exact.toISOString() }))
    expect((await planned.status()).reason).toBe(`waiting: delayed until ${exact.toISOString().slice(0, 19)}Z`)
    for (const wrong of [{ delay: '10' }, { delay: '8d' }, { runAt: '2026-12-01' }, { runAt: new Date() as unknown as string }, { runAt: '2999-01-01T00:00:00Z' }, { delay: '1s', runAt: exact.toISOString() }]) {
      await expect(queue.enqueue(spec(wrong))).rejects.toThrow(/^job spec.*(delay|runAt)|^(delay|runAt)/)
    }
  })

  // A few go out one by one, many in a pipeline, and those of whose beginning is told in a transaction.
  it.each([
    ['few', 0, undefined],
    ['many', 20, undefined],
    ['told', 0, ['enqueued'] as const],
  ])('of %s jobs lists, delays, bounds and supersedes each as it asks for, and wakes for all', async (_, besides, eventTypes) => {
    const client = redis.connect()
    for (const holder of ['a', 'b', 'c', 'd']) await becomeIdle(client, redis.keys, holder, 60_000)
    const queue = open(eventTypes === undefined ? {} : { eventTypes })
    const concurrency = { key: 'branch', then: 'cancel-waiting' } as const
    const [delayed, bounded, older, newer] = await queue.enqueueMany([spec({ delay: '10m' }), spec({ waitTimeout: '5m' }), spec({ concurrency }), spec({ concurrency }), ...Array.from({ length: besides }, () => spec())])
    expect((await bull().getDelayed()).map(({ id }) => id)).toEqual([delayed!.jobId])
    expect(await client.zrange(redis.keys.waits(), '0', '-1')).toEqual([bounded!.jobId])
    expect(await older!.result({ timeoutMs: 10_000 })).toMatchObject({ status: 'cancelled' })
    const waiting = (await bull().getPrioritized(0, -1)).map(({ id }) => id)
    expect([waiting.length, waiting.includes(bounded!.jobId), waiting.includes(newer!.jobId), waiting.includes(older!.jobId)]).toEqual([2 + besides, true, true, false])
    expect(await client.hget(`${redis.keys.ready()}:listed`, 'agents')).toBe(String(2 + besides))
    const woken = await Promise.all(['a', 'b', 'c', 'd'].map((holder) => client.llen(redis.keys.inbox(holder))))
    expect(woken).toEqual([1, 1, 1, 1])
  })

  it('wakes as many idle consumers as there are new jobs', async () => {
    const client = redis.connect()
    for (const holder of ['a', 'b', 'c']) await becomeIdle(client, redis.keys, holder, 60_000)
    await open().enqueueMany([spec(), spec()])
    const woken = await Promise.all(['a', 'b', 'c'].map((holder) => client.llen(redis.keys.inbox(holder))))
    expect(woken.reduce((sum, count) => sum + count, 0)).toBe(2)
  })
})

describe('an idempotency key', () => {
  it('gives the same job for the same spec, whatever the order of its fields', async () => {
    const [a, b] = [open(), open()]
    const first = await a.enqueue({ repository: 'acme/web', steps: ['true'], env: { A: '1', B: '2' }, idempotencyKey: 'k' })
    const second = await b.enqueue({ idempotencyKey: 'k', env: { B: '2', A: '1' }, steps: ['true'], repository: 'acme/web' })
    expect(second.jobId).toBe(first.jobId)
    expect(await bull().getJobCountByTypes('prioritized')).toBe(1)
  })

  it('refuses another spec, and nothing changes', async () => {
    const queue = open()
    const first = await queue.enqueue(spec({ idempotencyKey: 'k' }))
    await expect(queue.enqueue(spec({ idempotencyKey: 'k', priority: 5 }))).rejects.toThrow(IdempotencyConflictError)
    await expect(queue.enqueueMany([spec({ idempotencyKey: 'new' }), spec(), spec({ idempotencyKey: 'k', steps: ['false'] })])).rejects.toThrow(first.jobId)
    await expect(queue.enqueueMany([spec({ idempotencyKey: 'x' }), spec({ idempotencyKey: 'x', priority: 5 })])).rejects.toThrow(IdempotencyConflictError)
    expect(await bull().getJobCountByTypes('prioritized')).toBe(1)
    expect(parseQueuedSpec((await bull().getJob(first.jobId))?.data.spec).priority).toBe(100)
    // Keys of the refused batches are still free.
    await queue.enqueue(spec({ idempotencyKey: 'new', priority: 9 }))
    await queue.enqueue(spec({ idempotencyKey: 'x', priority: 9 }))
  })

  it('that was claimed long before, for a job that nobody has added, keeps no other job from it', async () => {
    const client = redis.connect()
    const claim = { jobId: 'key-left', key: 'left', digest: 'a' }
    const another = { ...claim, digest: 'b' }
    await claimKeys(client, redis.keys, [claim], 3_600_000)
    // Its producer may be about to add it.
    await expect(claimKeys(client, redis.keys, [another], 3_600_000)).rejects.toThrow(IdempotencyConflictError)
    await client.pexpire(redis.keys.claim(claim.jobId), 3_600_000 - 600_001)
    for (const there of [redis.keys.job(claim.jobId), redis.keys.run(claim.jobId)]) {
      await client.hset(there, 'of', '1')
      await expect(claimKeys(client, redis.keys, [another], 3_600_000)).rejects.toThrow(IdempotencyConflictError)
      await client.del(there)
    }
    expect(await claimKeys(client, redis.keys, [another], 3_600_000)).toEqual([another])
    await expect(claimKeys(client, redis.keys, [claim], 3_600_000)).rejects.toThrow(IdempotencyConflictError)
  })

  it('of very many jobs is claimed in parts, and a conflict in the last one leaves none claimed but those of jobs', async () => {
    const client = redis.connect()
    const queue = open()
    const { jobId } = await queue.enqueue(spec({ idempotencyKey: 'of a job' }))
    const digest = (await client.get(redis.keys.claim(jobId))) ?? ''
    const claims = Array.from({ length: 12_500 }, (_, index) => ({ jobId: `key-${index}`, key: `k${index}`, digest: 'a' }))
    const taken = { jobId: 'key-taken', key: 'taken', digest: 'b' }
    await claimKeys(client, redis.keys, [{ ...taken, digest: 'c' }], 60_000)
    await expect(claimKeys(client, redis.keys, [{ jobId, key: 'of a job', digest }, ...claims, taken], 60_000)).rejects.toThrow(new IdempotencyConflictError('taken', 'key-taken'))
    expect((await client.keys('*:claim:*')).sort()).toEqual([redis.keys.claim(jobId), redis.keys.claim('key-taken')].sort())
    await claimKeys(client, redis.keys, claims, 60_000)
    expect(await client.keys('*:claim:*')).toHaveLength(12_502)
  })

  it('raced by many producers with two specs makes one job, and conflicts for the others', async () => {
    const queues = Array.from({ length: 6 }, () => open())
    await Promise.all(queues.map((queue) => queue.list()))
    for (let round = 0; round < 5; round++) {
      const outcomes = await Promise.allSettled(
        queues.map((queue, index) => queue.enqueue(spec({ idempotencyKey: `k${round}`, priority: 1 + (index % 2) }))),
      )
      const won = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value.jobId] : []))
      const lost = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason as unknown] : []))
      expect(new Set(won).size).toBe(1)
      expect([won.length, lost.length]).toEqual([3, 3])
      for (const error of lost) expect(error).toBeInstanceOf(IdempotencyConflictError)
    }
    expect(await bull().getJobCountByTypes('prioritized')).toBe(5)
  })

  it('of a failed job runs it again when that is asked for, and of no other', async () => {
    const queue = open()
    const keyed = (key: string) => spec({ idempotencyKey: key })
    const [failed, succeeded, waiting] = await queue.enqueueMany(['failed', 'succeeded', 'waiting'].map(keyed))
    const client = redis.connect()
    for (const [jobId, fields] of [[failed!.jobId, { status: 'failed', error: { kind: 'step-failed', message: 'exit 1' } }], [succeeded!.jobId, {}]] as const) {
      await (await take(jobId)).finish(fields)
      // As BullMQ has it once a consumer has ended it.
      await client.zrem('{switchyard}:agents:prioritized', jobId)
      await client.hset(`{switchyard}:agents:${jobId}`, 'finishedOn', Date.now(), 'processedOn', Date.now(), 'atm', 1)
      await client.zadd(`{switchyard}:agents:${jobId === failed!.jobId ? 'failed' : 'completed'}`, 5, jobId)
    }
    await queue.enqueueMany(['failed', 'succeeded', 'waiting'].map(keyed))
    expect((await failed!.status()).state).toBe('failed')
    const again = await queue.enqueueMany(['failed', 'succeeded', 'waiting', 'new'].map(keyed), { onFailed: 'rerun' })
    expect(again.slice(0, 3).map(({ jobId }) => jobId)).toEqual([failed!.jobId, succeeded!.jobId, waiting!.jobId])
    expect((await queue.statuses(again.map(({ jobId }) => jobId))).map((status) => status?.state)).toEqual(['waiting', 'succeeded', 'waiting', 'waiting'])
    const twice = [waiting!.jobId, 'not-there', waiting!.jobId]
    expect((await queue.statuses(twice)).map((status) => status?.jobId ?? null)).toEqual([waiting!.jobId, null, waiting!.jobId])
    await queue.enqueue(keyed('failed'), { onFailed: 'rerun' })
    expect((await bull().getJobs(['prioritized', 'waiting'])).map(({ id }) => id).sort()).toEqual([failed!, waiting!, again[3]!].map(({ jobId }) => jobId).sort())
    await expect(queue.enqueue(spec(), { onFailed: 'again' as 'rerun' })).rejects.toThrow('onFailed: must be "keep" or "rerun"')
  })

  /** As BullMQ has it once a consumer has ended it. */
  const failInQueue = async (jobId: string, attempts: number) => {
    const client = redis.connect()
    await client.zrem('{switchyard}:agents:prioritized', jobId)
    await client.hset(`{switchyard}:agents:${jobId}`, 'finishedOn', Date.now(), 'processedOn', Date.now(), 'atm', attempts)
    await client.zadd('{switchyard}:agents:failed', 5, jobId)
  }
  const failure = { status: 'failed', error: { kind: 'step-failed', message: 'exit 1' } } as const

  it.each([
    ['checkpoint', 'start', '1'],
    ['start', 'checkpoint', null],
  ] as const)('of a failed job is run again from where that one says who does it first: %s, though another one says %s at the same time', async (from, _other, wish) => {
    const { jobId } = await open().enqueue(spec())
    const [first, other] = [await connectTo(redis.connect(), redis.keys, 60_000), await connectTo(redis.connect(), redis.keys, 60_000)]
    after(async () => void (await Promise.all([first.queue.close(), other.queue.close()])))
    const { fence } = await take(jobId)
    const checkpoint = { sha: 'c'.repeat(40), stepIndex: 0, headSha: 'b'.repeat(40), commitsAhead: 0, branch: null, atMs: 5, withinStep: true, holdsPaths: false, repositoryPath: null }
    const end = result(jobId, failure)
    await first.store.finish(jobId, fence, record(jobId, { phase: 'ended', base: { ref: null, sha: 'a'.repeat(40) }, checkpoint }), end, completionEvent(end, { generation: 1 }))
    await failInQueue(jobId, 1)
    const said = { generation: 1, branch: null, kept: false }
    // The other one has seen that it has ended, and says so just before and just after BullMQ is told.
    const say = async (whileEnded: boolean) => (from === 'checkpoint' ? await other.store.withdrawContinuation(jobId, whileEnded) : await other.store.requestContinuation(jobId, said, 60_000, whileEnded))
    const getJob = first.queue.getJob.bind(first.queue)
    vi.spyOn(first.queue, 'getJob').mockImplementationOnce(async (id) => {
      const job = await getJob(id)
      const retry = job!.retry.bind(job)
      job!.retry = async (...args) => {
        expect(await say(true)).toBe('requested')
        await retry(...args)
      }
      return job
    })
    expect(await retryJob(first, redis.keys, jobId, { from })).toBe('retried')
    expect(await say(true)).toBe('changed')
    expect(await redis.client.hget(redis.keys.run(jobId), 'continue')).toBe(wish)
  })

  it('of a failed job runs that run again which was seen, not the one that somebody else began meanwhile and that failed too', async () => {
    const queue = open()
    const keyed = spec({ idempotencyKey: 'k' })
    const { jobId } = await queue.enqueue(keyed)
    await (await take(jobId)).finish(failure)
    await failInQueue(jobId, 1)
    const connected = await connectTo(redis.connect(), redis.keys, 60_000)
    after(() => connected.queue.close())
    const standings = connected.store.standings.bind(connected.store)
    let looks = 0
    connected.store.standings = async (jobIds) => {
      const seen = await standings(jobIds)
      if (++looks !== 2) return seen
      // It is about to run it again, and somebody else is faster.
      const first = (await connected.store.read(jobId))!.atMs
      expect(await queue.retry(jobId)).toBe('retried')
      await until(() => Date.now() > first, 'the clock goes on')
      await (await take(jobId, 2)).finish(failure)
      await failInQueue(jobId, 2)
      return seen
    }
    const enqueuing = new Enqueuing({ name: 'agents', keys: redis.keys, defaults: undefined, maxSpecBytes: 100_000, retentionMs: 60_000, eventSource: undefined, eventTypes: undefined })
    await enqueuing.add(connected, [enqueuing.newJob(keyed)], { onFailed: 'rerun' })
    expect(looks).toBeGreaterThanOrEqual(2)
    expect((await queue.job(jobId).status()).state).toBe('failed')
  })

  it.each([[1], [30]])('of %i is taken and told of once also after Redis has lost its scripts', async (count) => {
    const queue = open({ eventTypes: ['enqueued'] })
    const client = redis.connect()
    await queue.enqueue(spec())
    for (let round = 1; round <= 3; round++) {
      if (round < 3) await client.script('FLUSH')
      await queue.enqueueMany(Array.from({ length: count }, () => spec()))
      expect(await client.hget(`${redis.keys.ready()}:listed`, 'agents')).toBe(String(1 + round * count))
      expect(await client.xlen(redis.keys.events())).toBe(1 + round * count)
    }
  })

  it('of a job that is gone from the queue is told as what it is, each time once', async () => {
    const queue = open({ eventTypes: ['enqueued'] })
    const told = async () => (await queue.events.read({ types: ['enqueued'] })).map(({ event }) => [event?.id, event?.data.run] as const)
    const keyed = spec({ idempotencyKey: 'k' })
    const { jobId } = await queue.enqueue(keyed)
    await queue.enqueue(keyed)
    expect(await told()).toEqual([[`${jobId}.1.enqueued`, 1]])
    // Before it began: another job of that id is added.
    await bull().remove(jobId)
    await Promise.all([queue.enqueue(keyed), queue.enqueue(keyed)])
    expect(await told()).toHaveLength(2)
    expect(new Set((await told()).map(([id]) => id)).size).toBe(2)
    // After its end: it is the next run.
    await (await take(jobId)).finish(failure)
    await failInQueue(jobId, 1)
    await bull().remove(jobId)
    await queue.enqueue(keyed)
    expect(await told()).toHaveLength(2)
    await queue.enqueue(keyed, { onFailed: 'rerun' })
    expect((await told()).at(-1)).toEqual([`${jobId}.2.enqueued`, 2])
    expect(await told()).toHaveLength(3)
  })

  it('of a job whose result only a newer release can read is of that job, and stops no others', async () => {
    const queue = open()
    const specs = Array.from({ length: 5 }, (_each, index) => spec({ idempotencyKey: `k${index}` }))
    const jobs = await queue.enqueueMany(specs)
    await (await take(jobs[2]!.jobId)).finish({ status: 'of a newer release' as 'failed' })
    expect((await queue.enqueueMany([...specs, spec({ idempotencyKey: 'new' })])).slice(0, 5).map(({ jobId }) => jobId)).toEqual(jobs.map(({ jobId }) => jobId))
    expect(await redis.client.zcard(redis.keys.bullmq('prioritized'))).toBe(6)
    await expect(queue.enqueue(specs[2]!, { onFailed: 'rerun' })).rejects.toThrow(NewerReleaseError)
  })

  it('lives as long as its job is known', async () => {
    const queue = open({ retentionMs: 60_000 })
    const client = redis.connect()
    const job = await queue.enqueue(spec({ idempotencyKey: 'k' }))
    expect(await client.pttl(redis.keys.claim(job.jobId))).toBeGreaterThan(60_000)
    const store = new RunStore(client, redis.keys, { retentionMs: 60_000 })
    const acquired = await store.acquire(job.jobId, { holder: 'a', fresh: record(job.jobId) })
    if (acquired.kind !== 'acquired') throw new Error('ended')
    expect(await client.pttl(redis.keys.claim(job.jobId))).toBe(-1)
    await store.finish(job.jobId, acquired.fence, record(job.jobId), result(job.jobId), completionEvent(result(job.jobId)))
    const [claim, run] = await Promise.all([client.pttl(redis.keys.claim(job.jobId)), client.pttl(redis.keys.run(job.jobId))])
    expect(claim).toBeGreaterThan(0)
    expect(Math.abs(claim - run)).toBeLessThan(1_000)
    expect((await queue.enqueue(spec({ idempotencyKey: 'k' }))).jobId).toBe(job.jobId)
    expect((await job.result()).status).toBe('succeeded')
  })
})

describe('a result', () => {
  it('is waited for by many at once, and is there for those who ask later', async () => {
    const queue = open()
    const jobs = await queue.enqueueMany(Array.from({ length: 20 }, () => spec()))
    const waiting = Promise.all(jobs.flatMap((job) => [job.result(), queue.job(job.jobId).result()]))
    for (const { jobId } of jobs) await (await take(jobId)).finish()
    expect((await waiting).map(({ jobId }) => jobId)).toEqual(jobs.flatMap(({ jobId }) => [jobId, jobId]))
    expect((await open().job(jobs[0]!.jobId).result()).status).toBe('succeeded')
  })

  it('comes although the signal was lost, because the subscription was cut while the job ended', async () => {
    const queue = open()
    const job = await queue.enqueue(spec())
    const waiting = job.result({ timeoutMs: 150_000 })
    await until(async () => (await redis.connect().pubsub('NUMSUB', redis.keys.doneChannel()))[1] === 1, 'the waiter listens')
    // The end is written where nobody hears it.
    const killed = await redis.connect().call('CLIENT', 'KILL', 'TYPE', 'pubsub')
    expect(killed).toBe(1)
    await (await take(job.jobId)).finish()
    expect((await waiting).jobId).toBe(job.jobId)
  })

  it('comes over a restart of Redis', async () => {
    const dataDir = await mkdtemp(join(tmpdir(), 'switchyard-aof-'))
    after(() => rm(dataDir, { recursive: true, force: true, maxRetries: 10 }))
    const server = await startRedis({ dataDir })
    after(() => server.close())
    const queue = new AgentQueue({ redis: { url: server.url } })
    after(() => queue.close())
    const client = createRedis({ url: server.url }, 'commands')
    after(() => client.disconnect())
    const job = await queue.enqueue(spec())
    const store = new RunStore(client, redis.keys)
    const acquired = await store.acquire(job.jobId, { holder: 'a', fresh: record(job.jobId) })
    if (acquired.kind !== 'acquired') throw new Error('ended')
    const waiting = job.result()
    await until(async () => (await client.pubsub('NUMSUB', redis.keys.doneChannel()))[1] === 1, 'the waiter listens')
    await server.kill('SIGTERM')
    const finished = store.finish(job.jobId, acquired.fence, record(job.jobId), result(job.jobId), completionEvent(result(job.jobId)))
    await server.restart()
    await finished
    expect((await waiting).status).toBe('succeeded')
  })

  it('is waited for without limit when timeoutMs is Infinity or longer than a timer can be set for, and nonsense is refused', async () => {
    const queue = open()
    const job = await queue.enqueue(spec())
    const waiting = [job.result({ timeoutMs: Number.POSITIVE_INFINITY }), job.result({ timeoutMs: 2 ** 40 })]
    const first = await Promise.race([...waiting.map((wait) => wait.catch((error: unknown) => error)), queue.job(job.jobId).status()])
    expect(first).toMatchObject({ state: 'waiting' })
    for (const timeoutMs of [Number.NaN, -1, '5' as unknown as number]) await expect(job.result({ timeoutMs })).rejects.toThrow('timeoutMs: ')
    await (await take(job.jobId)).finish()
    expect((await Promise.all(waiting)).map(({ status }) => status)).toEqual(['succeeded', 'succeeded'])
  })

  it('costs Redis no more the more jobs are waited for, and every one is looked at in turn', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    after(() => vi.useRealTimers())
    const asked: string[][] = []
    const signals = { onDone: () => Promise.resolve(() => undefined), onReconnect: () => () => undefined, close: () => undefined } as unknown as Signals
    const waiter = new ResultWaiter(() => signals, (jobIds) => Promise.resolve((asked.push([...jobIds]), jobIds.map(() => 'running' as const))))
    const ids = Array.from({ length: 10_000 }, (_, index) => `job-${index}`)
    const waits = ids.map((jobId) => waiter.wait(jobId).catch((error: unknown) => error))
    await vi.waitUntil(() => asked.flat().length === 2 * ids.length, { timeout: 60_000 })
    // So many at once.
    expect(asked).toHaveLength(40)
    asked.length = 0
    await vi.advanceTimersByTimeAsync(400_000)
    // Two commands for each look, at most 100 a second.
    for (const second of asked) expect(second.length).toBeLessThanOrEqual(50)
    expect(asked).toHaveLength(400)
    expect(new Set(asked.flat()).size).toBe(ids.length)
    waiter.close(new Error('over'))
    await Promise.all(waits)
  })

  it('says that it is not there in time, and stops for the signal', async () => {
    const queue = open()
    const job = await queue.enqueue(spec())
    await expect(job.result({ timeoutMs: 20 })).rejects.toThrow(ResultTimeoutError)
    const stop = new AbortController()
    const waiting = job.result({ signal: stop.signal })
    stop.abort(new Error('no more'))
    await expect(waiting).rejects.toThrow('no more')
  })

  it('of a job that nobody knows, or that was removed while waiting, is an UnknownJobError', async () => {
    const queue = open()
    await expect(queue.job('nobody').result()).rejects.toThrow(UnknownJobError)
    await expect(queue.job('nobody').status()).rejects.toThrow(UnknownJobError)
    await expect(queue.job('nobody').cancel('x')).rejects.toThrow(UnknownJobError)
    await expect(async () => {
      for await (const line of queue.job('nobody').logs()) expect(line).toBeUndefined()
    }).rejects.toThrow(UnknownJobError)
    const job = await queue.enqueue(spec())
    const waiting = expect(job.result()).rejects.toThrow(UnknownJobError)
    await (await bull().getJob(job.jobId))?.remove()
    await waiting
  })

  it('whose record is past its retention is known no more, though BullMQ has the job yet', async () => {
    const queue = open()
    const job = await queue.enqueue(spec())
    expect(await job.cancel('x')).toBe('cancelled')
    expect(await (await bull().getJob(job.jobId))?.getState()).toBe('failed')
    expect(await queue.list({ state: 'cancelled' })).toHaveLength(1)
    await redis.connect().del(redis.keys.run(job.jobId))
    await expect(job.status()).rejects.toThrow(UnknownJobError)
    expect(await queue.list()).toEqual([])
  })

  it('that is waited for fails when the queue is closed', async () => {
    const queue = open()
    const job = await queue.enqueue(spec())
    const waiting = job.result()
    const failed = expect(waiting).rejects.toThrow('closed')
    await until(async () => (await redis.connect().pubsub('NUMSUB', redis.keys.doneChannel()))[1] === 1, 'the waiter listens')
    await queue.close()
    await failed
    await expect(queue.enqueue(spec())).rejects.toThrow('closed')
  })

  it('that can’t be read says so to who waits for it, and keeps no other from being told', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    after(() => vi.useRealTimers())
    const signals = { onDone: () => Promise.resolve(() => undefined), onReconnect: () => () => undefined, close: () => undefined } as unknown as Signals
    let looks = 0
    let ended = false
    const waiter = new ResultWaiter(() => signals, async (jobIds) => {
      looks += jobIds.length
      if (ended && jobIds.includes('odd')) throw new NewerReleaseError('the result of job odd can’t be read')
      return jobIds.map((jobId) => (ended ? result(jobId) : 'running'))
    })
    const ids = [...Array.from({ length: 20 }, (_each, index) => `job-${index}`), 'odd']
    const ends = (jobIds: readonly string[]) => jobIds.map(async (jobId) => await waiter.wait(jobId).then(({ jobId: of }) => of, (error: unknown) => (error as Error).name))
    const waiting = ends(ids)
    await vi.waitUntil(() => looks === 2 * ids.length)
    ended = true
    // Their signals are lost.
    await vi.advanceTimersByTimeAsync(20_000)
    const told = [...ids.slice(0, -1), 'NewerReleaseError']
    expect(await Promise.all(waiting)).toEqual(told)
    expect(await Promise.all(ends(ids))).toEqual(told)
  })

  it('fails all the same when the queue is closed while the first look is under way, or has just been answered; and Redis is not to blame', async () => {
    const queue = open()
    const [first, ...others] = await queue.enqueueMany(Array.from({ length: 3_000 }, () => spec()))
    await first!.cancel('enough')
    const closed = first!.result().then(() => queue.close())
    const ends = await Promise.allSettled(others.map((job) => job.result()))
    await closed
    expect(new Set(ends.map((end) => (end.status === 'rejected' ? /closed|Redis/.exec(String(end.reason))?.[0] : end.status)))).toEqual(new Set(['closed']))
  })
})

it('whatever is asked of a queue that was closed says so by a code, and what is under way does too', async () => {
  const queue = open()
  const job = await queue.enqueue(spec())
  const by = { id: 'operator', name: '' }
  const waiting = expect(job.result()).rejects.toMatchObject({ code: 'SWY_QUEUE_CLOSED' })
  await queue.statuses([job.jobId])
  await queue.close()
  await waiting
  const calls: readonly Promise<unknown>[] = [
    queue.enqueue(spec()), queue.enqueueMany([spec()]), queue.list(), queue.statuses([job.jobId]), queue.retry(job.jobId), queue.retryMany(), queue.providers(), queue.consumers(),
    queue.costs(), queue.fleet(), queue.view(job.jobId), job.result(), job.status(), job.cancel('no more'), job.logs()[Symbol.asyncIterator]().next(), queue.schedules.list(),
    queue.schedules.upsert('s', { every: '1h', job: spec() }), queue.budgets.list(), queue.events.read({}), queue.operations.queue(), queue.operations.pauseQueue({ by }),
  ]
  for (const call of await Promise.allSettled(calls)) expect(call).toMatchObject({ status: 'rejected', reason: { code: 'SWY_QUEUE_CLOSED', message: expect.stringContaining('make a new AgentQueue') as string } })
})

it('what is under way says that the queue was closed, and can be asked again', async () => {
  const queue = open()
  const specs = Array.from({ length: 3_000 }, (_each, index) => spec({ idempotencyKey: `k${index}` }))
  const adding = expect(queue.enqueueMany(specs)).rejects.toThrow('the queue was closed')
  await until(async () => (await redis.client.zcard(`{switchyard}:agents:prioritized`)) > 0, 'some are there')
  await queue.close()
  await adding
  expect(await open().enqueueMany(specs)).toHaveLength(3_000)
  expect(await redis.client.zcard(`{switchyard}:agents:prioritized`)).toBe(3_000)
})

describe('cancelling', () => {
  it.each([undefined, null, new Error('no more')])('needs a reason, since nobody could read a result without one: %s', async (reason) => {
    const job = await open().enqueue(spec())
    await expect(job.cancel(reason as unknown as string)).rejects.toThrow('reason: is missing')
    expect(await job.status()).toMatchObject({ state: 'waiting' })
  })

  it('ends a waiting job at once, with its event, and has it stand among those that have ended', async () => {
    const queue = open({ eventSource: '/switchyard/test' })
    const job = await queue.enqueue(spec({ metadata: { issue: 1 } }))
    const events: CompletionEvent[] = []
    const subscription = subscribe(redis.config, 'group', (event) => void events.push(event))
    after(() => subscription.close())
    expect(await job.cancel('changed my mind')).toBe('cancelled')
    expect(await job.result()).toMatchObject({ status: 'cancelled', error: { kind: 'cancelled', message: 'changed my mind' }, metadata: { issue: 1 } })
    expect(await bull().getJobState(job.jobId)).toBe('failed')
    expect((await bull().getJob(job.jobId))?.failedReason).toBe('cancelled: changed my mind')
    expect(await job.status()).toMatchObject({ state: 'cancelled', repository: 'acme/web' })
    expect(await job.cancel('again')).toBe('ended')
    await until(() => events.length === 1, 'the event came')
    expect(events[0]).toMatchObject({ type: 'dev.switchyard.job.cancelled', id: `${job.jobId}.1`, source: '/switchyard/test' })
  })

  it('has those that waited listed, counted and run again as all that have ended', async () => {
    const queue = open()
    const plain = await queue.enqueue(spec())
    const delayed = await queue.enqueue(spec({ delay: '1h' }))
    const urgent = await queue.enqueue(spec({ priority: 1 }))
    const jobs = [plain, delayed, urgent]
    const before = await Promise.all(jobs.map(async (job) => (await job.status()).enqueuedAtMs))
    expect((await queue.operations.drainQueue({ by: { id: 'anna', name: 'Anna' } })).jobIds).toHaveLength(3)
    const listed = await queue.list({ state: 'cancelled' })
    expect(listed.map(({ jobId }) => jobId).sort()).toEqual(jobs.map(({ jobId }) => jobId).sort())
    expect(jobs.map(({ jobId }) => listed.find((each) => each.jobId === jobId)?.enqueuedAtMs)).toEqual(before)
    expect(await bull().getJobCounts('prioritized', 'delayed', 'failed')).toEqual({ prioritized: 0, delayed: 0, failed: 3 })
    expect(await redis.connect().hget(`${redis.keys.ready()}:listed`, 'agents')).toBe('0')
    expect((await queue.operations.retryJobs({ state: 'cancelled' }, { by: { id: 'anna', name: 'Anna' } })).jobIds).toHaveLength(3)
    for (const job of jobs) {
      expect(await job.status()).toMatchObject({ state: 'waiting' })
      await expect(take(job.jobId)).rejects.toThrow('the run has ended')
      await take(job.jobId, 2)
    }
  })

  it('has all run again that are found, but for those that somebody removes meanwhile', async () => {
    const queue = open()
    const jobs = await queue.enqueueMany([spec(), spec(), spec(), spec()])
    const [first, removed, forgotten, last] = jobs
    for (const job of jobs) await job.cancel('not now')
    const list = queue.list.bind(queue)
    vi.spyOn(queue, 'list').mockImplementationOnce(async (options) => {
      const page = await list(options)
      await bull().remove(removed!.jobId)
      await bull().remove(forgotten!.jobId)
      await redis.connect().del(redis.keys.run(forgotten!.jobId))
      return page
    })
    expect((await queue.retryMany({ state: 'cancelled' })).sort()).toEqual([first!.jobId, last!.jobId].sort())
  })

  it('leaves one alone that somebody has run again before BullMQ has heard of its end', async () => {
    const queue = open()
    const job = await queue.enqueue(spec())
    const connected = await connectTo(redis.connect(), redis.keys, 60_000)
    after(() => connected.queue.close())
    const keepEnded = connected.ready.keepEnded.bind(connected.ready)
    connected.ready.keepEnded = async (...args) => {
      expect(await queue.retry(job.jobId)).toBe('retried')
      return await keepEnded(...args)
    }
    expect(await cancelJob(connected, job.jobId, 'no more', undefined)).toBe('cancelled')
    expect(await bull().getJobState(job.jobId)).toBe('prioritized')
    expect(await redis.connect().hget(`${redis.keys.ready()}:listed`, 'agents')).toBe('1')
    await take(job.jobId, 2)
  })

  it('leaves to BullMQ what its flows and deduplications have to do with, and keeps the latest alone', async () => {
    const queue = open()
    const client = redis.connect()
    const child = await queue.enqueue(spec())
    const only = await queue.enqueue(spec())
    const unkept = await queue.enqueue(spec())
    await client.hset(redis.keys.job(child.jobId), 'parentKey', redis.keys.job('parent'), 'parent', JSON.stringify({ id: 'parent', queueKey: redis.keys.job('').slice(0, -1) }))
    await client.hset(redis.keys.job(only.jobId), 'deid', 'x')
    await client.hset(redis.keys.job(unkept.jobId), 'opts', JSON.stringify({ removeOnFail: true }))
    for (const job of [child, only, unkept]) {
      expect(await job.cancel('no more')).toBe('cancelled')
      expect(await bull().getJob(job.jobId)).toBeUndefined()
      expect(await job.status()).toMatchObject({ state: 'cancelled' })
    }
    const many = (await queue.enqueueMany(Array.from({ length: 5 }, () => spec()))).map(({ jobId }) => jobId)
    // BullMQ takes any number.
    for (const jobId of many) await client.hset(redis.keys.job(jobId), 'opts', JSON.stringify({ removeOnFail: { count: 2.5 } }))
    for (const jobId of many) await queue.job(jobId).cancel('no more')
    expect(await Promise.all(many.map((jobId) => bull().getJobState(jobId)))).toEqual(['unknown', 'unknown', 'failed', 'failed', 'failed'])
  })

  it('asks the supervisor of a running job, and says so when it had ended', async () => {
    const queue = open()
    const job = await queue.enqueue(spec())
    const run = await take(job.jobId)
    expect(await job.cancel('stop')).toBe('requested')
    expect((await run.store.save(job.jobId, run.fence, record(job.jobId))).cancel).toMatchObject({ reason: 'stop' })
    await run.finish({ status: 'cancelled', error: { kind: 'cancelled', message: 'stop' } })
    expect(await job.cancel('stop')).toBe('ended')
  })
})

describe('status', () => {
  it('goes from waiting over running to the end, and says why a job waits', async () => {
    const queue = open()
    const job = await queue.enqueue(spec({ steps: [{ name: 'agent', run: 'x' }, 'npm test'], providers: { deny: ['other'] } }))
    expect(await job.status()).toMatchObject({ state: 'waiting', reason: 'waiting for a consumer: none is live for this queue; start one', provider: null, startedAtMs: null, result: null })
    const profile = { queue: 'agents', release: '1.0.0', providers: ['local-a'], secrets: [] }
    await new Roster(redis.connect(), redis.keys).announce({ consumer: 'c', profileId: 'p', profile, troubles: [], startedAtMs: 1, shares: null }, 600_000)
    expect(await job.status()).toMatchObject({ state: 'waiting', reason: null })
    const ledger = new SlotLedger(redis.connect(), redis.keys)
    const limits = [{ provider: 'local-a', sandboxes: 1 }]
    await ledger.reserve({ leaseId: '1', holder: 'x', candidates: limits, demand: { cpu: 1, memoryMiB: 1 }, ttlMs: 60_000 })
    expect((await job.status()).reason).toBe('waiting for capacity: local-a full (1/1)')

    const run = await take(job.jobId)
    const running = record(job.jobId, {
      phase: 'steps',
      stepIndex: 1,
      startedAtMs: 5,
      sandbox: { provider: 'local-a', id: 'sb-1', createdAtMs: 5, repositoryPath: '/r' },
      running: { key: 'k', startedAtMs: 6, stdoutOffset: 0, stderrOffset: 0, timedOut: false },
    })
    await run.store.save(job.jobId, run.fence, running, 'rate limited')
    expect(await job.status()).toMatchObject({
      state: 'running',
      reason: 'rate limited',
      phase: 'steps',
      provider: 'local-a',
      sandboxId: 'sb-1',
      step: '2/2 step 2',
      startedAtMs: 5,
      endedAtMs: null,
    })
    await run.finish({ status: 'failed', error: { kind: 'step-failed', message: 'exit 1' } })
    expect(await job.status()).toMatchObject({ state: 'failed', reason: null, step: null, result: { error: { message: 'exit 1' } } })
  })

  it('of a job that was retried on the board is waiting again, until the next generation is taken', async () => {
    const queue = open()
    const job = await queue.enqueue(spec())
    const run = await take(job.jobId)
    await run.finish({ status: 'failed', error: { kind: 'step-failed', message: 'exit 1' } })
    const worker = new Worker('agents', async () => Promise.reject(new Error('exit 1')), { connection: redis.connect('blocking'), prefix: '{switchyard}' })
    after(() => worker.close())
    const jobs = bull()
    await until(async () => (await jobs.getJob(job.jobId))?.isFailed(), 'BullMQ holds it as failed')
    expect((await job.status()).state).toBe('failed')
    await worker.close()
    await (await jobs.getJob(job.jobId))?.retry()
    expect(await job.status()).toMatchObject({ state: 'waiting', result: null })
    const second = await take(job.jobId, 2)
    expect((await job.status()).state).toBe('running')
    await second.finish()
    expect(await job.status()).toMatchObject({ state: 'succeeded' })
  })

  it('is listed wherever the job is on its way from one of BullMQ’s lists to the next', async () => {
    const queue = open()
    const { jobId } = await queue.enqueue(spec())
    const [client, key] = [redis.connect(), (list: string) => `{switchyard}:agents:${list}`]
    const enough = new AbortController()
    const moving = (async () => {
      while (!enough.signal.aborted) {
        await client.multi().zrem(key('prioritized'), jobId).lpush(key('wait'), jobId).exec()
        await client.multi().lrem(key('wait'), 1, jobId).lpush(key('active'), jobId).exec()
        await client.multi().lrem(key('active'), 1, jobId).zadd(key('completed'), 1, jobId).exec()
        await client.multi().zrem(key('completed'), jobId).zadd(key('prioritized'), 1, jobId).exec()
      }
    })()
    const found: number[] = []
    for (let round = 0; round < 200; round++) found.push((await queue.list()).length)
    enough.abort()
    await moving
    expect(found.filter((count) => count !== 1)).toEqual([])
  })

  it('is listed for many jobs, the newest first, by state', async () => {
    const queue = open()
    const jobs = []
    for (let index = 0; index < 4; index++) jobs.push(await queue.enqueue(spec()))
    await take(jobs[1]!.jobId)
    await (await take(jobs[2]!.jobId)).finish()
    const listed = await queue.list()
    expect(listed.map(({ jobId }) => jobId).sort()).toEqual(jobs.map(({ jobId }) => jobId).sort())
    expect(listed.map(({ enqueuedAtMs }) => enqueuedAtMs)).toEqual(listed.map(({ enqueuedAtMs }) => enqueuedAtMs).sort((a, b) => b - a))
    expect((await queue.list({ state: 'running' })).map(({ jobId }) => jobId)).toEqual([jobs[1]!.jobId])
    expect(await queue.list({ state: 'waiting' })).toHaveLength(2)
    expect(await queue.list({ limit: 1 })).toHaveLength(1)
    // Without reasons they are the same but for what waits in nobody's hands.
    const without = await queue.list({ reasons: false })
    expect(without).toEqual(listed.map((status) => (status.state === 'waiting' ? { ...status, reason: null } : { ...status, reason: expect.toSatisfy((reason) => reason === null || reason === status.reason) as string })))
    expect(listed.filter(({ reason }) => reason?.startsWith('waiting for a consumer'))).not.toEqual([])
  })

  it('is found while it runs although those before it end between two pages', async () => {
    const queue = open()
    const client = redis.connect()
    const jobs = (await queue.enqueueMany(Array.from({ length: 450 }, () => spec()))).map(({ jobId }) => jobId)
    const store = new RunStore(client, redis.keys)
    await Promise.all(jobs.map((jobId) => store.acquire(jobId, { holder: 'consumer', fresh: record(jobId) })))
    await client.multi().del(redis.keys.bullmq('prioritized')).lpush(redis.keys.bullmq('active'), ...jobs).exec()
    const found = new Set<string>()
    for (let cursor: string | null | undefined; cursor !== null; ) {
      const page: Awaited<ReturnType<typeof queue.list>> = await queue.list({ state: 'running', limit: 100, cursor: cursor ?? undefined })
      for (const { jobId } of page) found.add(jobId)
      // Of those that were found some end, and one that was not.
      for (const { jobId } of page.slice(0, 60)) await client.lrem(redis.keys.bullmq('active'), 0, jobId)
      if (cursor === undefined) await client.lrem(redis.keys.bullmq('active'), 0, jobs[1]!)
      cursor = page.cursor
    }
    expect(jobs.filter((jobId) => !found.has(jobId))).toEqual([jobs[1]])
  })

  it('passes over nobody where one leaves that has the time of others and was on the page before', async () => {
    const queue = open()
    const ids = (await queue.enqueueMany(Array.from({ length: 6 }, () => spec()))).map(({ jobId }) => jobId)
    await redis.client.multi().del(redis.keys.bullmq('prioritized')).zadd(redis.keys.bullmq('delayed'), ...ids.flatMap((id) => [1_000, id])).exec()
    const first = await queue.list({ limit: 3 })
    await redis.client.zrem(redis.keys.bullmq('delayed'), first[0]!.jobId, first[2]!.jobId)
    const second = await queue.list({ limit: 3, cursor: first.cursor! })
    expect([...first, ...second].map(({ jobId }) => jobId).sort()).toEqual(ids.sort())
  })

  it('is found among many by state, tenant, repository and time, a page at a time, each once', async () => {
    const queue = open()
    const many = Array.from({ length: 900 }, (_, index) => spec({ tenant: `t${index % 300}`, priority: 1 + (index % 3), repository: index % 300 === 7 ? 'acme/api' : 'acme/web' }))
    const jobs = (await queue.enqueueMany(many)).map(({ jobId }) => jobId)
    const [failed, cancelled, running] = [jobs[7]!, jobs[307]!, jobs[8]!]
    await bull().add('foreign', { anything: 'tenant' } as unknown as QueuedJob)
    await take(running)
    // BullMQ takes any number.
    await (await bull().getJob(jobs[3] ?? ''))?.changePriority({ priority: -5 })
    // As BullMQ has them once a consumer has ended them.
    const client = redis.connect()
    for (const [jobId, status] of [[failed, 'failed'], [cancelled, 'cancelled']] as const) {
      await (await take(jobId)).finish({ status, error: { kind: status === 'failed' ? 'step-failed' : 'cancelled', message: 'over' } })
      await client.zrem('{switchyard}:agents:prioritized', jobId)
      await client.hset(`{switchyard}:agents:${jobId}`, 'finishedOn', Date.now())
      await client.zadd('{switchyard}:agents:failed', 5, jobId)
    }
    const idsOf = async (options: ListOptions) => (await queue.list(options)).map(({ jobId }) => jobId).sort()
    expect(await idsOf({ tenant: 't7' })).toEqual([failed, cancelled, jobs[607]!].sort())
    expect(await idsOf({ repository: 'acme/api', state: 'waiting' })).toEqual([jobs[607]])
    expect(await idsOf({ state: 'failed' })).toEqual([failed])
    expect(await idsOf({ state: 'cancelled', tenant: 't7' })).toEqual([cancelled])
    expect(await idsOf({ state: 'running' })).toEqual([running])
    expect(await idsOf({ since: Date.now() + 60_000 })).toEqual([])
    const later = await queue.enqueue(spec({ tenant: 'late' }))
    const sinceMs = (await later.status()).enqueuedAtMs
    expect(await idsOf({ since: new Date(sinceMs), tenant: 'late' })).toEqual([later.jobId])

    for (const filter of [{}, { state: 'waiting' }, { repository: 'acme/web' }] as const) {
      const found: string[] = []
      let cursor: string | undefined
      do {
        const page = await queue.list({ ...filter, limit: 100, cursor })
        expect(page.length).toBeLessThanOrEqual(100)
        found.push(...page.map(({ jobId }) => jobId))
        cursor = page.cursor ?? undefined
      } while (cursor !== undefined)
      expect(new Set(found).size).toBe(found.length)
      expect(found).toHaveLength({ all: 902, waiting: 899, repository: 898 }['state' in filter ? 'waiting' : 'repository' in filter ? 'repository' : 'all'])
    }
    const { cursor } = await queue.list({ limit: 1 })
    const forged = Buffer.from(Buffer.from(cursor ?? '', 'base64url').toString().replaceAll(/"score":[^,]+/g, '"score":"none"')).toString('base64url')
    for (const wrong of [{ cursor: 'x' }, { cursor: forged }, { cursor: cursor ?? '', state: 'failed' }, { limit: 0 }, { since: Number.NaN }, { state: 'odd' }, { name: 'x' }]) {
      await expect(queue.list(wrong as ListOptions)).rejects.toThrow(InvalidInputError)
    }
  })
})

it('lists schedules though a newer release wrote one of them', async () => {
  const queue = open()
  const client = redis.connect()
  for (const id of ['known', 'newer', 'unknown']) await queue.schedules.upsert(id, { every: '1h', job: spec() })
  const change = async (id: string, by: (definition: { overlap: string; spec: object }) => object) => {
    const key = redis.keys.schedule(id)
    await client.hset(key, 'definition', JSON.stringify(by(JSON.parse((await client.hget(key, 'definition')) ?? '') as { overlap: string; spec: object })))
  }
  await change('newer', (definition) => ({ ...definition, overlap: 'queue', colour: 'red', spec: { ...definition.spec, network: 'sometimes', colour: 'red' } }))
  await change('unknown', () => ({ by: 'the moon' }))
  expect((await queue.schedules.list()).map(({ id, overlap }) => `${id} ${overlap}`).sort()).toEqual(['known skip', 'newer queue'])
  expect(await queue.schedules.get('newer')).toMatchObject({ everyMs: 3_600_000, job: { repository: spec().repository } })
  await expect(queue.schedules.get('unknown')).rejects.toThrow(NewerReleaseError)
})

it('reads a job’s output while it runs', async () => {
  const job = await open().enqueue(spec())
  const run = await take(job.jobId)
  const chunk = { step: 'agent', stream: 'stdout', attempt: 1 } as const
  await run.store.append(job.jobId, run.fence, record(job.jobId), [{ ...chunk, offset: 0, data: Buffer.from('one\n') }])
  const lines: string[] = []
  for await (const line of job.logs({ follow: true })) {
    lines.push(line.text)
    if (lines.length === 1) {
      await run.store.append(job.jobId, run.fence, record(job.jobId), [{ ...chunk, offset: 4, data: Buffer.from('two\n') }])
      await run.finish()
    }
  }
  expect(lines).toEqual(['one\n', 'two\n'])
})

it('keeps no log of a silent job, and its followers learn of the end at once', async () => {
  const queue = open()
  const [job, cancelled] = await queue.enqueueMany([spec(), spec()])
  const run = await take(job!.jobId)
  const read = async (jobId: string) => {
    for await (const line of queue.job(jobId).logs({ follow: true })) expect(line).toBeUndefined()
  }
  const client = redis.connect()
  const readers = [read(job!.jobId), read(job!.jobId), read(cancelled!.jobId)]
  // Each blocks at the stream: what wakes it is the end, not the block's own.
  await until(async () => String(await client.client('LIST')).split('cmd=xread ').length === 4, 'the readers block')
  await run.finish()
  await cancelled!.cancel('no more')
  await Promise.all(readers)
  expect(await client.exists(redis.keys.log(job!.jobId), redis.keys.log(cancelled!.jobId))).toBe(0)
  await read(job!.jobId)
})

describe('without Redis', () => {
  it('every call fails and names host and port, never the password; and works again when Redis is back', async () => {
    const queue = open()
    const job = await queue.enqueue(spec())
    await redis.server.kill()
    const calls = [() => queue.enqueue(spec()), () => queue.enqueueMany([spec()]), () => job.status(), () => job.result(), () => job.cancel('x'), () => queue.list()]
    for (const call of calls) {
      const error = await call().then(() => undefined, (thrown: unknown) => thrown)
      expect(error).toBeInstanceOf(RedisUnavailableError)
      expect(String(error)).toContain(`127.0.0.1:${redis.server.port}`)
      expect(String(error)).not.toContain(redis.server.connection.password)
    }
    const never = open()
    await expect(never.enqueue(spec())).rejects.toThrow(RedisUnavailableError)
    await redis.server.restart()
    await until(() => queue.enqueue(spec()).catch(() => undefined), 'the queue works again')
    await until(() => never.enqueue(spec()).catch(() => undefined), 'the queue that never worked works')
  })
})

it('keeps all keys in one slot: everything works in a cluster', async () => {
  const node = await startClusterNode()
  after(() => node.close())
  const queue = new AgentQueue({ redis: { url: node.url } })
  after(() => queue.close())
  const client = new Redis(node.url, { protocol: 2 })
  after(() => client.disconnect())
  const [kept, cancelled] = await queue.enqueueMany([spec({ idempotencyKey: 'a' }), spec()])
  const store = new RunStore(client, redis.keys)
  const ledger = new SlotLedger(client, redis.keys)
  const ask = { candidates: [{ provider: 'a', sandboxes: 1 }], demand: { cpu: 1, memoryMiB: 1 }, ttlMs: 60_000, holder: 'h' }
  await ledger.reserve({ ...ask, leaseId: '1' })
  await ledger.reserve({ ...ask, leaseId: '2', wait: { rank: 0 } })
  await ledger.bind('1', kept!.jobId)
  const acquired = await store.acquire(kept!.jobId, { holder: 'h', fresh: record(kept!.jobId) })
  if (acquired.kind !== 'acquired') throw new Error('ended')
  await store.append(kept!.jobId, acquired.fence, record(kept!.jobId), [{ step: 's', stream: 'stdout', attempt: 1, offset: 0, data: Buffer.alloc(40_000_000) }])
  await ledger.release('1', { jobId: kept!.jobId, fence: acquired.fence })
  const waiting = kept!.result()
  await store.finish(kept!.jobId, acquired.fence, record(kept!.jobId), result(kept!.jobId), completionEvent(result(kept!.jobId)))
  expect((await waiting).status).toBe('succeeded')
  expect(await cancelled!.cancel('x')).toBe('cancelled')
  const slots = new Set<unknown>()
  for (const key of await client.keys('*')) slots.add(await client.call('CLUSTER', 'KEYSLOT', key))
  expect([...slots]).toEqual([await client.call('CLUSTER', 'KEYSLOT', '{switchyard}')])
})
