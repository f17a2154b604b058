import { Queue } from 'bullmq'
import type { Redis } from 'ioredis'
import { pino } from 'pino'
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest'
import { inMemoryGitHost } from '../../bench/in-memory/git-host.js'
import { InMemoryProvider } from '../../bench/in-memory/provider.js'
import { Consumer, secretsFromEnvironment, type ConsumerOptions } from '../../src/consumers/index.js'
import { startRedis, type EmbeddedRedis } from '../../src/embedded/index.js'
import type { JobSpecInput } from '../../src/job/spec.js'
import { AgentQueue } from '../../src/producers/index.js'
import { createRedis, Keys } from '../../src/store/index.js'
import { startWire } from '../queue-walk/wire.js'
import { quickSettings, until } from './deployment.js'

// Whoever removes a job around Switchyard ends its run, in whatever state that is; and what is added under its id is another job.
let redis: EmbeddedRedis
let client: Redis
let bull: Queue
let queue: AgentQueue
let consumer: Consumer | undefined
const keys = new Keys()

beforeAll(async () => {
  redis = await startRedis()
})
beforeEach(async () => {
  client = createRedis({ url: redis.url }, 'commands')
  await client.flushall()
  bull = new Queue('agents', { connection: client, prefix: keys.prefix })
  bull.on('error', () => undefined)
  queue = new AgentQueue({ redis: { url: redis.url } })
})
afterEach(async () => {
  await consumer?.stop()
  consumer = undefined
  await queue.close()
  await bull.close()
  client.disconnect()
})
afterAll(() => redis.close())

async function consume(options: Partial<ConsumerOptions> = {}): Promise<void> {
  consumer = new Consumer({
    deployment: 'test',
    redis: { url: redis.url },
    git: inMemoryGitHost,
    providers: [{ provider: new InMemoryProvider('a'), limit: { sandboxes: 5 }, price: { perSandboxHour: 3_600 } }],
    secrets: secretsFromEnvironment([]),
    log: pino({ level: 'silent' }),
    ...options,
    settings: { ...quickSettings, readWaitMs: 500, budgetPeriodMs: 1_000, reapGraceMs: 60_000, ...options.settings },
  })
  await consumer.start()
}

/** Nothing of any job is left but results and events. */
async function nothingIsLeft(): Promise<void> {
  const accounts = async () => Object.values(await client.hgetall(`${keys.ready()}:tenant`)).map((account) => account.split(' ').slice(3, 5).join(' '))
  await until('nobody has anything in hand', async () => (await client.exists(`${keys.ready()}:held`, `${keys.ready()}:begun`, `${keys.ready()}:keyed`, `${keys.ledger()}:jobs`)) === 0)
  expect(new Set(await accounts())).toEqual(new Set(['0 0']))
}
async function ends(): Promise<string[]> {
  return (await client.xrange(keys.events(), '-', '+')).map(([, fields]) => fields[1] ?? '')
}

it('one whose end BullMQ was told by somebody else ends as cancelled, with what it said of itself', async () => {
  await consume({ settings: { reapGraceMs: 0, reapIntervalMs: 1_000 } })
  const [failed, completed] = await queue.enqueueMany([1, 2].map((number) => ({ repository: 'acme/web', push: false, steps: ['sleep 3000'], metadata: { part: `${number}` } })))
  for (const { jobId } of [failed!, completed!]) {
    await until('it runs', async () => (await queue.job(jobId).status()).step !== null)
    // As of one that was to be taken as it is, superseded say: once it is run again it is as any other, and needs a place.
    await client.hset(keys.job(jobId), 'sy', '-')
    // As a worker of BullMQ's own, whose look for stalled jobs has other limits.
    const [job, token] = [await bull.getJob(jobId), await client.get(`${keys.job(jobId)}:lock`)]
    await (jobId === failed!.jobId ? job!.moveToFailed(new Error('job stalled more than allowable limit'), token!, false) : job!.moveToCompleted('done', token!, false))
  }
  for (const [index, { jobId }] of [failed!, completed!].entries()) {
    expect(await queue.job(jobId).result({ timeoutMs: 60_000 })).toMatchObject({ status: 'cancelled', metadata: { part: `${index + 1}` }, error: { message: 'the job was ended in the queue by something else than Switchyard' } })
  }
  expect(await ends()).toHaveLength(2)
  await nothingIsLeft()
  await until('they stand nowhere', async () => (await Promise.all([failed!, completed!].map(({ jobId }) => client.hexists(keys.job(jobId), 'sy')))).every((standing) => standing === 0), 10_000)
})

it('one whose end BullMQ was told by somebody else, and that is run again before anybody has noticed, has two ends', async () => {
  const provider = new InMemoryProvider('a')
  await consume({ providers: [{ provider, limit: { sandboxes: 5 } }] })
  const { jobId } = await queue.enqueue({ repository: 'acme/web', push: false, steps: ['sleep 3000'], metadata: { part: '1' } })
  await until('it runs', async () => (await queue.job(jobId).status()).step !== null)
  await (await bull.getJob(jobId))!.moveToFailed(new Error('job stalled more than allowable limit'), (await client.get(`${keys.job(jobId)}:lock`))!, false)
  expect(await queue.retry(jobId)).toBe('retried')
  await until('it runs again', async () => (await queue.job(jobId).status()).step !== null && (await ends()).length > 0)
  const sandboxId = async () => (await queue.job(jobId).status()).sandboxId!
  provider.finish(await sandboxId())
  expect(await queue.job(jobId).result({ timeoutMs: 60_000 })).toMatchObject({ status: 'succeeded' })
  expect((await queue.events.read()).map(({ event }) => event?.data)).toMatchObject([
    { status: 'cancelled', metadata: { part: '1' }, error: { message: 'the job was ended in the queue by something else than Switchyard' } },
    { status: 'succeeded', error: null },
  ])
  await nothingIsLeft()
})

it('one that is run again like that and cancelled before anybody has noticed has two ends too', async () => {
  await consume()
  const { jobId } = await queue.enqueue({ repository: 'acme/web', push: false, steps: ['sleep 3000'] })
  await until('it runs', async () => (await queue.job(jobId).status()).step !== null)
  await bull.pause()
  await (await bull.getJob(jobId))!.moveToFailed(new Error('job stalled more than allowable limit'), (await client.get(`${keys.job(jobId)}:lock`))!, false)
  expect(await queue.retry(jobId)).toBe('retried')
  expect(await queue.job(jobId).cancel('not now')).toBe('requested')
  await bull.resume()
  await until('it has ended twice', async () => (await ends()).length === 2)
  expect((await queue.events.read()).map(({ event }) => event?.data)).toMatchObject([
    { status: 'cancelled', error: { message: 'the job was ended in the queue by something else than Switchyard' } },
    { status: 'cancelled', error: { message: 'not now' } },
  ])
  await nothingIsLeft()
})

it('the next job of a scheduler is cancelled, though BullMQ removes none alone, and the one after it comes', async () => {
  const { jobId: other } = await queue.enqueue({ repository: 'acme/web', push: false, steps: ['true'], delay: '1h' })
  const scheduled = await bull.upsertJobScheduler('hourly', { every: 3_600_000 }, { name: 'by hand', data: (await bull.getJob(other))!.data as object })
  const jobId = scheduled.id!
  expect(await queue.job(jobId).cancel('not now')).toBe('cancelled')
  await consume()
  await until('the next one is there', async () => (await bull.getDelayed()).some(({ id }) => id!.startsWith('repeat:hourly:') && id !== jobId))
  await until('it is out of the way', async () => ['failed', 'completed', 'unknown'].includes(await bull.getJobState(jobId)))
  expect(await queue.job(jobId).status()).toMatchObject({ state: 'cancelled', startedAtMs: null })
  expect((await ends()).filter((id) => id.startsWith(jobId))).toHaveLength(1)
})

it('one that is parked for its budget ends as cancelled', async () => {
  await consume()
  const job = await queue.enqueue({ repository: 'acme/web', tenant: 'acme', budget: { amount: 3 }, setup: ['sleep 3000'], checkpoint: { paths: ['~/.memory'] }, steps: [{ run: 'true', resume: 'true' }] })
  await until('it is parked', async () => (await job.status()).state === 'parked')
  await until('it is delayed', async () => (await bull.getJobState(job.jobId)) === 'delayed')
  expect(await bull.remove(job.jobId)).toBe(1)
  expect(await job.result({ timeoutMs: 60_000 })).toMatchObject({ status: 'cancelled', error: { message: 'the job was removed from the queue' } })
  expect(await ends()).toHaveLength(1)
  await nothingIsLeft()
})

it.each([
  ['with a key of concurrency and a tenant with a cap', { tenant: 'acme', concurrency: { key: 'k' } }],
  ['without', {}],
])('one that is added anew while the run of the one before is in hand has a run of its own: %s', async (_what, more) => {
  await consume({ tenants: { acme: { weight: 1, cap: 1 } } })
  const spec: JobSpecInput = { repository: 'acme/web', push: false, idempotencyKey: 'same', steps: ['sleep 2'], ...more }
  const before = await queue.enqueue(spec)
  await until('it runs', async () => (await before.status()).step !== null)
  await bull.obliterate({ force: true })
  const after = await queue.enqueue(spec)
  expect(after.jobId).toBe(before.jobId)
  expect(await after.result({ timeoutMs: 60_000 })).toMatchObject({ status: 'succeeded' })
  const told = await ends()
  expect(told).toHaveLength(2)
  expect(new Set(told).size).toBe(2)
  // Both were counted once.
  expect(await (await queue.enqueue({ ...spec, idempotencyKey: 'other', steps: ['true'] })).result({ timeoutMs: 60_000 })).toMatchObject({ status: 'succeeded' })
  await nothingIsLeft()
})

it('what lives of it has its place until it is dead', async () => {
  const provider = new InMemoryProvider('a')
  const kill = provider.kill.bind(provider)
  provider.kill = () => Promise.reject(new Error('the provider answers nothing'))
  await consume({ providers: [{ provider, limit: { sandboxes: 1 } }], settings: { reapIntervalMs: 1_000 } })
  const spec: JobSpecInput = { repository: 'acme/web', push: false, steps: ['sleep 3000'] }
  const removed = await queue.enqueue(spec)
  await until('it runs', async () => (await removed.status()).step !== null)
  await bull.obliterate({ force: true })
  expect(await removed.result({ timeoutMs: 60_000 })).toMatchObject({ status: 'cancelled' })
  const next = await queue.enqueue({ ...spec, steps: ['true'] })
  await until('its account is closed', async () => (await client.exists(`${keys.ready()}:held`)) === 0)
  expect(await queue.providers()).toMatchObject([{ used: 1 }])
  expect((await next.status()).state).toBe('waiting')
  provider.kill = kill
  expect(await next.result({ timeoutMs: 60_000 })).toMatchObject({ status: 'succeeded' })
  await nothingIsLeft()
})

it('one whose consumer died after it had given its place back ends all the same', async () => {
  const wire = await startWire(new URL(redis.url))
  let deletes = false
  await consume({
    redis: { url: wire.url },
    git: {
      ...inMemoryGitHost,
      deleteBranch: () => {
        deletes = true
        wire.cutAfter(1, { arrives: false, comesBack: false })
        return new Promise(() => undefined)
      },
    },
  })
  const dead = consumer
  const job = await queue.enqueue({ repository: 'acme/web', push: {}, steps: ['true', 'true'] })
  await until('its checkpoints are deleted', () => Promise.resolve(deletes))
  await until('its place is free', async () => (await client.exists(`${keys.ready()}:held`, `${keys.ledger()}:jobs`)) === 0)
  await bull.obliterate({ force: true })
  await consume()
  expect(await job.result({ timeoutMs: 20_000 })).toMatchObject({ status: 'succeeded' })
  await dead?.stop()
  await wire.close()
  await nothingIsLeft()
})

it('one that BullMQ numbers anew has nothing of the one before', async () => {
  await consume()
  const add = async (repository: string, step: string) => queue.job((await bull.add('by hand', { spec: { repository, push: false, steps: [step] } })).id ?? '')
  const before = await add('acme/before', 'sleep 3000')
  await until('it runs', async () => (await before.status()).step !== null)
  await bull.obliterate({ force: true })
  const after = await add('acme/after', 'true')
  expect(after.jobId).toBe(before.jobId)
  expect(await after.result({ timeoutMs: 60_000 })).toMatchObject({ status: 'succeeded', repository: 'acme/after', attempts: [{ outcome: 'succeeded' }] })
  await nothingIsLeft()
})
