import { FlowProducer, Queue } from 'bullmq'
import { pino } from 'pino'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { inMemoryGitHost } from '../../bench/in-memory/git-host.js'
import { InMemoryProvider } from '../../bench/in-memory/provider.js'
import { Consumer, secretsFromEnvironment, type ConsumerOptions, type ConsumerSettings } from '../../src/consumers/index.js'
import { startRedis, type EmbeddedRedis } from '../../src/embedded/index.js'
import { subscribe } from '../../src/events/index.js'
import { parseJobSpec, type JobSpecInput } from '../../src/job/spec.js'
import { AgentQueue } from '../../src/producers/index.js'
import { createRedis, Keys } from '../../src/store/index.js'
import { quickSettings, until } from './deployment.js'

/** Whatever BullMQ's own calls do to a queue works, and shows. */
let redis: EmbeddedRedis
const closing: (() => Promise<unknown>)[] = []
beforeAll(async () => {
  redis = await startRedis()
})
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
  const client = createRedis({ url: redis.url }, 'commands')
  await client.flushall()
  client.disconnect()
})
afterAll(() => redis.close())

const spec = (more: Partial<JobSpecInput> = {}): JobSpecInput => ({ repository: 'bench/jobs', push: false, steps: ['sleep 0.01'], ...more })

/** A queue by both names: ours and BullMQ's. */
function open(name = 'agents', prefix?: string) {
  const queue = new AgentQueue({ redis: { url: redis.url }, name, ...(prefix === undefined ? {} : { prefix }) })
  const client = createRedis({ url: redis.url }, 'commands')
  const bull = new Queue(name, { connection: client, prefix: new Keys(prefix).prefix })
  bull.on('error', () => undefined)
  closing.push(async () => {
    await queue.close()
    await bull.close()
    client.disconnect()
  })
  return { queue, bull, client }
}

/**
 * A reaper without patience, for what only it ends. It also frees the place of a job that is being taken at that moment, and another job may get it:
 * nothing is said of an order, or of how many run, in its presence.
 */
const impatient: Partial<ConsumerSettings> = { reapIntervalMs: 1_000, reapGraceMs: 0 }

async function consume(places = 4, more: Partial<ConsumerOptions> = {}): Promise<InMemoryProvider> {
  const provider = new InMemoryProvider('a')
  await startConsumer(provider, places, more)
  return provider
}

async function startConsumer(provider: InMemoryProvider, places = 4, more: Partial<ConsumerOptions> = {}): Promise<Consumer> {
  const consumer = new Consumer({
    deployment: 'test',
    redis: { url: redis.url },
    git: inMemoryGitHost,
    providers: [{ provider, limit: { sandboxes: places } }],
    secrets: secretsFromEnvironment([]),
    log: pino({ level: 'silent' }),
    ...more,
    settings: { ...quickSettings, unrunnableGraceMs: 100, ...more.settings },
  })
  await consumer.start()
  closing.push(() => consumer.stop())
  return consumer
}

/** The provider has no place, until this returns. */
async function occupied(queue: AgentQueue) {
  const job = await queue.enqueue(spec({ steps: ['sleep 600'], tenant: 'occupant' }))
  await until('the place is taken', async () => (await job.status()).state === 'running')
  return async () => {
    await job.cancel('make room')
    await job.result({ timeoutMs: 150_000 })
  }
}
const ended = async (queue: AgentQueue, ids: readonly string[]) => {
  const all = await queue.statuses(ids)
  return all.every((each) => each?.result !== null && each !== null)
}
/** A spec as a queue holds it. */
async function dataOf(queue: AgentQueue, bull: Queue): Promise<unknown> {
  const job = await queue.enqueue(spec())
  await job.result({ timeoutMs: 150_000 })
  return (await bull.getJob(job.jobId))!.data as unknown
}

describe('jobs that came around Switchyard', () => {
  it('by add, addBulk, a flow, with and without a priority, a delay or a schedule, are run', async () => {
    const { queue, bull } = open()
    await consume()
    const data = await dataOf(queue, bull)
    const flows = new FlowProducer({ connection: createRedis({ url: redis.url }, 'commands'), prefix: bull.opts.prefix ?? '' })
    closing.push(() => flows.close())
    await bull.add('by hand', data, { jobId: 'plain' })
    await bull.add('by hand', data, { jobId: 'last', priority: 2_097_151 })
    await bull.addBulk(['one', 'two'].map((jobId) => ({ name: 'by hand', data, opts: { jobId, priority: 7 } })))
    await bull.add('by hand', data, { jobId: 'later', delay: 300 })
    await bull.add('by hand', data, { jobId: 'later-too', delay: 300, priority: 5 })
    await bull.add('by hand', data, { jobId: 'promoted', delay: 3_600_000, priority: 5 })
    await (await bull.getJob('promoted'))!.promote()
    await flows.add({ name: 'parent', queueName: bull.name, data, opts: { jobId: 'parent' }, children: [{ name: 'child', queueName: bull.name, data, opts: { jobId: 'child' } }] })
    await bull.upsertJobScheduler('schedule', { every: 500 }, { name: 'scheduled', data })
    await until('all have ended', () => ended(queue, ['plain', 'last', 'one', 'two', 'later', 'later-too', 'promoted', 'parent', 'child']))
    await until('the schedule goes on', async () => (await bull.getCompleted()).filter(({ name }) => name === 'scheduled').length >= 3)
    await bull.removeJobScheduler('schedule')
  })

  it('fail with a child of their flow that is to fail them, unbegun; run again they end, though BullMQ completes none whose child has failed', async () => {
    const { queue, bull } = open()
    await consume()
    const data = await dataOf(queue, bull)
    const flows = new FlowProducer({ connection: createRedis({ url: redis.url }, 'commands'), prefix: bull.opts.prefix ?? '' })
    closing.push(() => flows.close())
    const unreadable = { name: 'child', queueName: bull.name, data: {}, opts: { jobId: 'child', failParentOnFailure: true } }
    await flows.add({ name: 'parent', queueName: bull.name, data, opts: { jobId: 'parent' }, children: [unreadable] })
    const parent = queue.job('parent')
    const failed = await parent.result({ timeoutMs: 150_000 })
    expect(failed).toMatchObject({ status: 'failed', attempts: [], error: { owner: 'job', code: 'SWY_JOB_INVALID' } })
    expect(failed.error!.message).toMatch(/parent of a flow, and child \S+:child failed; run the child again/)
    const failedInBullmq = async () => (await bull.getJobState('parent')) === 'failed'
    await until('BullMQ has heard of it', failedInBullmq)
    expect(await queue.retry('parent')).toBe('retried')
    expect(await parent.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded' })
    await until('nobody has it in hand any more', failedInBullmq)
    expect((await parent.status()).state).toBe('succeeded')
    expect((await queue.list({ state: 'succeeded' })).map(({ jobId }) => jobId)).toContain('parent')
  })

  it('fail with such a child that is cancelled while it waits, whatever it waits for, and go on without one that lets them', async () => {
    const { queue, bull } = open()
    await consume()
    const data = await dataOf(queue, bull)
    const flows = new FlowProducer({ connection: createRedis({ url: redis.url }, 'commands'), prefix: bull.opts.prefix ?? '' })
    closing.push(() => flows.close())
    const job = (jobId: string, opts: object = {}) => ({ name: 'by hand', queueName: bull.name, data, opts: { jobId, ...opts } })
    const delay = 3_600_000
    await flows.add({ ...job('first'), children: [{ ...job('parent-too', { failParentOnFailure: true }), children: [job('left', { delay })] }] })
    await flows.add({ ...job('second'), children: [job('freeing', { delay, continueParentOnFailure: true }), job('left-too', { delay })] })
    await flows.add({ ...job('third'), children: [job('leaving', { delay })] })
    for (const jobId of ['parent-too', 'freeing', 'leaving']) expect(await queue.job(jobId).cancel('no more')).toBe('cancelled')
    const ends = await Promise.all(['first', 'second', 'third'].map(async (jobId) => await queue.job(jobId).result({ timeoutMs: 60_000 })))
    expect(ends.map(({ status }) => status)).toEqual(['failed', 'succeeded', 'succeeded'])
    expect(ends[0]!.error!.message).toMatch(/parent of a flow, and child \S+:parent-too failed/)
    for (const jobId of ['parent-too', 'freeing']) {
      await until('BullMQ has heard of it', async () => (await bull.getJobState(jobId)) === 'failed')
      expect((await queue.job(jobId).status()).state).toBe('cancelled')
    }
    const told = (await queue.events.read()).map(({ event }) => `${event?.subject} ${event?.type.split('.').at(-1)}`)
    for (const end of ['first failed', 'second succeeded', 'third succeeded', 'freeing cancelled', 'leaving cancelled', 'parent-too cancelled']) expect(told.filter((each) => each === end)).toHaveLength(1)
  })

  it('are listed while they wait for the children of their flow, say so, and are cancelled without these', async () => {
    const { queue, bull } = open()
    await consume()
    const data = await dataOf(queue, bull)
    const flows = new FlowProducer({ connection: createRedis({ url: redis.url }, 'commands'), prefix: bull.opts.prefix ?? '' })
    closing.push(() => flows.close())
    const children = ['first', 'second'].map((jobId) => ({ name: 'child', queueName: bull.name, data, opts: { jobId, delay: 3_600_000 } }))
    await flows.add({ name: 'parent', queueName: bull.name, data, opts: { jobId: 'parent' }, children })
    expect(await queue.job('parent').status()).toMatchObject({ state: 'waiting', reason: 'waiting for the children of its flow' })
    for (const options of [{}, { state: 'waiting' }] as const) expect((await queue.list(options)).map(({ jobId }) => jobId)).toContain('parent')
    expect(await queue.job('parent').cancel('no more')).toBe('cancelled')
    expect(await bull.getJobState('parent')).toBe('unknown')
    expect((await queue.job('parent').status()).state).toBe('cancelled')
    for (const { opts } of children) await (await bull.getJob(opts.jobId))!.promote()
    for (const { opts } of children) expect(await queue.job(opts.jobId).result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded' })
  })

  it('say which child of their flow has failed that they wait for, and go on once it was run again', async () => {
    const { queue, bull } = open()
    await consume()
    const data = await dataOf(queue, bull)
    const flows = new FlowProducer({ connection: createRedis({ url: redis.url }, 'commands'), prefix: bull.opts.prefix ?? '' })
    closing.push(() => flows.close())
    const job = (jobId: string, delay: number) => ({ name: 'by hand', queueName: bull.name, data, opts: { jobId, delay } })
    await flows.add({ ...job('parent', 0), children: [job('other', 0), { ...job('child', 0), data: {} }] })
    expect(await queue.job('child').result({ timeoutMs: 60_000 })).toMatchObject({ status: 'failed' })
    await until('it says so', async () => (await queue.job('parent').status()).reason === 'waiting for the children of its flow, of which job child has failed; run that again')
    await (await bull.getJob('child'))!.updateData(data)
    expect(await queue.retry('child')).toBe('retried')
    expect(await queue.job('parent').result({ timeoutMs: 60_000 })).toMatchObject({ status: 'succeeded' })
  })

  it('are delayed by enqueue too, and run once it is time', async () => {
    const { queue } = open()
    await consume()
    const runAt = new Date(Date.now() + 1_000)
    const [later, planned] = await queue.enqueueMany([spec({ delay: '400ms' }), spec({ runAt: runAt.toISOString() })])
    const [first, second] = await Promise.all([later, planned].map(async (job) => (await job!.result({ timeoutMs: 150_000 })).status))
    expect([first, second]).toEqual(['succeeded', 'succeeded'])
    expect((await planned!.status()).startedAtMs).toBeGreaterThanOrEqual(runAt.getTime() - 50)
  })

  it('are run again by retry, at once and behind others, one by one and by a filter', async () => {
    const { queue, bull } = open()
    await consume()
    const of = (tenant: string) => spec({ tenant })
    const [one, other] = await queue.enqueueMany([of('x'), of('y')])
    const first = await one!.result({ timeoutMs: 150_000 })
    await other!.result({ timeoutMs: 150_000 })
    // Right after its end, when BullMQ may not have heard of it yet.
    expect(await queue.retry(one!.jobId, { from: 'start' })).toBe('retried')
    const second = await one!.result({ timeoutMs: 150_000 })
    expect(second.attempts[0]!.sandboxId).not.toBe(first.attempts[0]!.sandboxId)
    await until('BullMQ has heard of it', async () => (await bull.getCompletedCount()) === 2)
    expect(await queue.retryMany({ state: 'succeeded', tenant: 'y' })).toEqual([other!.jobId])
    await other!.result({ timeoutMs: 150_000 })
    expect((await bull.getJob(other!.jobId))!.attemptsMade).toBeGreaterThan(0)
    expect(await queue.retryMany()).toEqual([])

    const waiting = await queue.enqueue(spec({ delay: '1h' }))
    expect(await queue.retry(waiting.jobId)).toBe('pending')
    await waiting.cancel('no more')
    await bull.remove(waiting.jobId)
    await expect(queue.retry(waiting.jobId)).rejects.toThrow('does not hold it any more')
    await expect(queue.retry('nobody')).rejects.toThrow('is not known')
    await expect(queue.retry(one!.jobId, { from: 'middle' as 'start' })).rejects.toThrow('from: must be "start"')
  })

  it('without a spec end as what they are, and break nobody’s view', async () => {
    const { queue, bull } = open()
    await bull.add('foreign', { anything: 1 }, { jobId: 'foreign' })
    await bull.add('foreign', 'text', { jobId: 'text', priority: 3 })
    await bull.add('foreign', null, { jobId: 'nothing', priority: 3 })
    expect(await queue.list()).toHaveLength(3)
    expect(await queue.job('foreign').status()).toMatchObject({ state: 'waiting', repository: '' })
    await consume()
    const own = await queue.enqueue(spec())
    expect(await own.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded' })
    await until('they have failed', async () => (await bull.getFailedCount()) === 3)
    expect((await queue.list()).map(({ state }) => state).sort()).toEqual(['failed', 'failed', 'failed', 'succeeded'])
  })

  it('is found behind many that wait for a full provider', async () => {
    const { queue, bull } = open()
    const free = new InMemoryProvider('b')
    const full = new InMemoryProvider('a')
    await consume(1, { providers: [{ provider: full, limit: { sandboxes: 1 } }, { provider: free, limit: { sandboxes: 1 } }] })
    const data = (await dataOf(queue, bull)) as { spec: object }
    const long = await queue.enqueue(spec({ steps: ['sleep 600'], providers: { allow: ['a'] } }))
    await until('a is full', async () => (await long.status()).state === 'running')
    await queue.enqueueMany(Array.from({ length: 3_000 }, () => spec({ providers: { allow: ['a'] } })))
    const ghosts = await bull.getPrioritized(0, 20)
    for (const ghost of ghosts) await ghost.remove()
    await bull.add('by hand', { ...data, spec: { ...data.spec, providers: { allow: ['b'], prefer: [], deny: [] } } }, { jobId: 'behind', priority: 1_000_000 })
    await until('it has ended', () => ended(queue, ['behind']))
  })
})

describe('what is done to waiting jobs', () => {
  it('changePriority counts, 0 and last-in-first-out too', async () => {
    const { queue, bull } = open()
    await consume(1)
    const free = await occupied(queue)
    const jobs = await queue.enqueueMany(Array.from({ length: 5 }, () => spec({ priority: 100 })))
    const ids = jobs.map(({ jobId }) => jobId)
    await (await bull.getJob(ids[4]!))!.changePriority({ priority: 1 })
    await (await bull.getJob(ids[3]!))!.changePriority({ priority: 0 })
    await (await bull.getJob(ids[2]!))!.changePriority({ priority: 100, lifo: true })
    const client = createRedis({ url: redis.url }, 'commands')
    closing.push(async () => {
      client.disconnect()
      await Promise.resolve()
    })
    // Listed as BullMQ has it.
    await until('the change is known', async () => {
      const [key] = await client.keys(`${new Keys().ready()}:q:agents:*:j:*:`)
      if (key === undefined) return false
      const listed = await client.zrange(key, '0', '-1')
      return listed.join() === [ids[3], ids[4], ids[2], ids[0], ids[1]].join()
    })
    await free()
    const results = await Promise.all(jobs.map((job) => job.result({ timeoutMs: 150_000 })))
    const order = results.toSorted((a, b) => Date.parse(a.attempts[0]!.startedAt) - Date.parse(b.attempts[0]!.startedAt)).map(({ jobId }) => jobId)
    expect(order).toEqual([ids[3], ids[4], ids[2], ids[0], ids[1]])
  })

  it.each(['remove', 'clean', 'drain', 'obliterate'] as const)('%s leaves no ghost, and what comes next is run', async (means) => {
    const { queue, bull, client } = open()
    await consume(1, { settings: impatient })
    const free = await occupied(queue)
    const jobs = await queue.enqueueMany(Array.from({ length: 40 }, (_, index) => spec({ tenant: `t${index % 3}` })))
    if (means === 'remove') for (const { jobId } of jobs) await bull.remove(jobId)
    if (means === 'clean') await bull.clean(0, 1_000, 'prioritized')
    if (means === 'drain') await bull.drain()
    if (means === 'obliterate') {
      await bull.pause()
      await bull.obliterate({ force: true })
    }
    await until('nothing is listed', async () => Number((await client.hget(`${new Keys().ready()}:listed`, 'agents')) ?? 0) === 0)
    if (means !== 'obliterate') await free()
    const next = await queue.enqueue(spec())
    if (means === 'obliterate') expect(await queue.job(next.jobId).status()).toMatchObject({ state: 'waiting' })
    expect(await next.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded' })
  })

  it('pause and resume hold, and a limit of the queue’s own too', async () => {
    const { queue, bull } = open()
    await consume(10)
    await bull.pause()
    const paused = await queue.enqueue(spec())
    await until('it says so', async () => (await paused.status()).reason?.includes('paused') === true)
    await bull.resume()
    expect(await paused.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded' })
    await bull.setGlobalConcurrency(2)
    let most = 0
    const jobs = await queue.enqueueMany(Array.from({ length: 8 }, () => spec({ steps: ['sleep 0.1'] })))
    await until('all have ended', async () => {
      most = Math.max(most, await bull.getActiveCount())
      return ended(queue, jobs.map(({ jobId }) => jobId))
    })
    expect(most).toBeLessThanOrEqual(2)
    await bull.removeGlobalConcurrency()
    await bull.setGlobalRateLimit(2, 1_500)
    const beforeMs = Date.now()
    const limited = await queue.enqueueMany(Array.from({ length: 4 }, () => spec()))
    const results = await Promise.all(limited.map((job) => job.result({ timeoutMs: 150_000 })))
    const starts = results.map(({ attempts }) => Date.parse(attempts[0]!.startedAt)).toSorted((a, b) => a - b)
    // No earlier than a period after the first could be taken; when that one then begins is the machine's.
    expect(starts[2]! - beforeMs).toBeGreaterThan(1_400)
  })
})

describe('what is done to jobs that have ended, or are in hand', () => {
  it('retry and retryJobs run again, under the caps, and in nobody’s way', async () => {
    const { queue, bull } = open()
    await consume(10, { tenants: { t: { weight: 1, cap: 1 } } })
    const jobs = await queue.enqueueMany(Array.from({ length: 6 }, () => spec({ tenant: 't', steps: ['sleep 0.05'] })))
    await Promise.all(jobs.map((job) => job.result({ timeoutMs: 150_000 })))
    await (await bull.getJob(jobs[0]!.jobId))!.retry('completed')
    await bull.retryJobs({ state: 'completed' })
    const other = await queue.enqueue(spec({ tenant: 'u' }))
    expect(await other.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded' })
    let most = 0
    await until('all have run twice', async () => {
      most = Math.max(most, await bull.getActiveCount())
      return (await bull.getCompletedCount()) === 7
    })
    expect(most).toBeLessThanOrEqual(1)
  })

  it('one whose data is no job any more is cancelled all the same, when its consumer has left it', async () => {
    const { queue, bull } = open()
    await consume()
    const job = await queue.enqueue(spec({ steps: ['sleep 600'] }))
    await until('it runs', async () => (await job.status()).step !== null)
    await (await bull.getJob(job.jobId))!.updateData({ nothing: 1 })
    await closing.pop()!()
    expect(await job.cancel('no more')).toBe('requested')
    await consume(4, { settings: impatient })
    expect(await job.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'cancelled', error: { message: 'no more' } })
    await until('BullMQ has heard of it', async () => (await bull.getFailedCount()) === 1)
  })

  it('are run, or end as cancelled, also where drain() drops the next job of a scheduler in the place of another one', async () => {
    const { queue, bull, client } = open()
    const consumer = await startConsumer(new InMemoryProvider('a'))
    const data = await dataOf(queue, bull)
    const begun = await queue.enqueue(spec({ steps: ['sleep 600'] }))
    await until('it runs', async () => (await begun.status()).step !== null)
    await consumer.stop()
    // BullMQ 6.7.0 passes over the next job of a scheduler as it removes the others, and then cuts off as many as these were from the end of the list at which it stands.
    await bull.upsertJobScheduler('s', { every: 3_600_000 }, { name: 'scheduled', data })
    expect((await bull.getWaiting()).map(({ name }) => name)).toContain('scheduled')
    await bull.drain()
    await consume(4, { settings: impatient })
    expect(await begun.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'cancelled' })
    await until('the job of the schedule has run', async () => (await bull.getCompleted()).some(({ name }) => name === 'scheduled'))
    await until('nothing is left', async () => (await client.llen(bull.toKey('wait'))) + (await client.llen(bull.toKey('active'))) + (await client.exists(bull.toKey(begun.jobId))) === 0)
    await bull.removeJobScheduler('s')
  })

  it.each(['obliterate', 'remove'] as const)('a run whose job is gone by %s ends as cancelled, also without a place', async (means) => {
    const { queue, bull, client } = open()
    const provider = await consume(2, { settings: impatient })
    provider.refusesCreates = 'capacity'
    const job = await queue.enqueue(spec())
    await until('it waits for a place', async () => (await job.status()).state === 'running')
    if (means === 'obliterate') {
      await bull.pause()
      await bull.obliterate({ force: true })
    } else {
      // What BullMQ refuses while somebody holds the job, a script can do all the same.
      await client.del(`${bull.toKey(job.jobId)}:lock`)
      await client.lrem(bull.toKey('active'), 0, job.jobId)
      await client.del(bull.toKey(job.jobId))
    }
    expect(await job.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'cancelled' })
    await until('its event is there', async () => (await client.xlen(new Keys().events())) === 1)
  })
})

it.each([
  ['run', undefined],
  ['log', undefined],
  ['claim', undefined],
  ['ready', undefined],
  ['a b', 'x:{y}'],
  ['*', undefined],
  ['{x}', undefined],
  ['ü/%', 'deep:{er}:still'],
])('a queue named %s under the prefix %s works', async (name, prefix) => {
  const { queue, bull } = open(name, prefix)
  await consume(2, { queue: { name, ...(prefix === undefined ? {} : { prefix }) } })
  const job = await queue.enqueue(spec({ idempotencyKey: 'key' }))
  expect(await job.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded' })
  expect((await queue.enqueue(spec({ idempotencyKey: 'key' }))).jobId).toBe(job.jobId)
  await until('BullMQ says so too', async () => (await bull.getCompletedCount()) === 1)
})

it('queues of a deployment share its places: a busy one does not keep another waiting', async () => {
  const [busy, other] = [open('busy'), open('other')]
  const provider = new InMemoryProvider('a')
  for (const name of ['busy', 'other']) await consume(2, { queue: { name }, providers: [{ provider, limit: { sandboxes: 2 } }] })
  const many = await busy.queue.enqueueMany(Array.from({ length: 200 }, () => spec({ steps: ['sleep 0.2'] })))
  await until('the busy one has all places', async () => (await many[1]!.status()).state === 'running')
  const few = await other.queue.enqueueMany(Array.from({ length: 4 }, () => spec()))
  await Promise.all(few.map((job) => job.result({ timeoutMs: 150_000 })))
  expect(await busy.bull.getCompletedCount()).toBeLessThan(100)
})

it('jobs of several queues that BullMQ gave the same ids are jobs of their own', async () => {
  const names = ['agents', 'other', 'third']
  const opened = names.map((name) => open(name))
  const provider = new InMemoryProvider('a')
  const events = new Map<string, unknown>()
  const subscription = subscribe({ url: redis.url }, 'test', ({ id, data }) => void events.set(id, data), { from: 'start' })
  closing.push(() => subscription.close())
  for (const name of names) await consume(6, { queue: { name }, providers: [{ provider, limit: { sandboxes: 6 } }], settings: impatient })
  // BullMQ counts from 1 in each; its schedulers call the same run of the same schedule the same.
  const long = await Promise.all(opened.map(({ bull }, index) => bull.add('by hand', { spec: parseJobSpec(spec({ steps: [`sleep ${index === 0 ? 8 : 600}`], metadata: { of: names[index]! } })) })))
  expect(long.map(({ id }) => id)).toEqual(['1', '1', '1'])
  const jobs = opened.map(({ queue }) => queue.job('1'))
  await until('each has a sandbox of its own', () => provider.running === 3)
  await until('each has a place of its own', async () => (await opened[0]!.queue.providers())[0]?.used === 3)
  // What is done to one is not done to the others.
  await jobs[1]!.cancel('not this one')
  expect(await jobs[1]!.result({ timeoutMs: 150_000 })).toMatchObject({ jobId: '1', status: 'cancelled', metadata: { of: 'other' } })
  expect((await jobs[2]!.status()).state).toBe('running')
  await opened[2]!.bull.obliterate({ force: true })
  await until('a removed one is ended', () => events.has('third:1.1'))
  expect(await jobs[0]!.result({ timeoutMs: 150_000 })).toMatchObject({ jobId: '1', status: 'succeeded', metadata: { of: 'agents' } })
  await until('all places are free', async () => (await opened[0]!.queue.providers())[0]?.used === 0)
  await until('each has its event', () => events.size === 3)
  expect([...events.keys()].toSorted()).toEqual(['1.1', 'other:1.1', 'third:1.1'])
  // The next ones that bear these ids are others again.
  const scheduled = await Promise.all(opened.map(({ bull }) => bull.upsertJobScheduler('nightly', { every: 86_400_000 }, { name: 'by schedule', data: { spec: parseJobSpec(spec()) } })))
  const results = await Promise.all(opened.map(({ queue }, index) => queue.job(scheduled[index]!.id!).result({ timeoutMs: 150_000 })))
  expect(results.map(({ status }) => status)).toEqual(['succeeded', 'succeeded', 'succeeded'])
  await until('and each its own event', () => events.size === 6)
})

it('a job that was added by hand gives its place back with its end, in any queue', async () => {
  const { bull, queue } = open('other')
  await consume(1, { queue: { name: 'other' }, settings: { reapIntervalMs: 3_600_000 } })
  const added = await bull.addBulk(Array.from({ length: 3 }, () => ({ name: 'by hand', data: { spec: parseJobSpec(spec()) } })))
  for (const { id } of added) expect((await queue.job(id!).result({ timeoutMs: 150_000 })).status).toBe('succeeded')
  await until('the place is free', async () => (await queue.providers())[0]?.used === 0)
})
