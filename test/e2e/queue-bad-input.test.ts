import { Queue } from 'bullmq'
import type { Redis } from 'ioredis'
import { beforeEach, expect, it } from 'vitest'
import { parseJobSpec, type JobSpecInput } from '../../src/job/spec.js'
import { AgentQueue } from '../../src/producers/index.js'
import { createRedis, Keys } from '../../src/store/index.js'
import { after } from '../undo.js'
import { until } from './deployment.js'
import { startInMemoryDeployment, type InMemoryDeployment } from './in-memory-deployment.js'

// What nobody means to put into a queue, and somebody does: it ends as what it is, what comes beside it is run, and every view goes on.
let deployment: InMemoryDeployment
let client: Redis
let bull: Queue

beforeEach(async () => {
  deployment = await startInMemoryDeployment({ limits: [20] })
  client = createRedis({ url: deployment.redis.url }, 'commands')
  bull = new Queue('agents', { connection: client, prefix: '{switchyard}' })
  bull.on('error', () => undefined)
  after(async () => {
    await bull.close()
    client.disconnect()
    await deployment.close()
  })
})

const spec = (more: Partial<JobSpecInput> = {}): JobSpecInput => ({ repository: 'acme/web', push: false, steps: ['true'], ...more })
/** Each byte as a character of its own. */
const everyByte = Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(byte))
const patience = { timeoutMs: 120_000 }

async function goesOn(queue: AgentQueue): Promise<void> {
  expect(await (await queue.enqueue(spec())).result(patience)).toMatchObject({ status: 'succeeded' })
  await until('nothing is in hand', async () => (await queue.providers()).every(({ used }) => used === 0) && (await bull.getActiveCount()) === 0)
  expect((await queue.list({ limit: 1_000 })).filter(({ state }) => state === 'running' || state === 'waiting')).toEqual([])
}

it('a job’s id of any character that BullMQ takes is that of a job which runs, and is found by it', { timeout: 240_000 }, async () => {
  await deployment.startConsumer()
  const ids: string[] = []
  for (const [byte, text] of everyByte.entries()) {
    const jobId = `z${text}${byte}`
    const added = await bull.add('by hand', { spec: parseJobSpec(spec()) }, { jobId }).then(() => true, () => false)
    if (added) ids.push(jobId)
  }
  expect(ids.length).toBeGreaterThan(250)
  for (const jobId of ids) expect(await deployment.queue.job(jobId).result(patience), JSON.stringify(jobId)).toMatchObject({ jobId, status: 'succeeded' })
  for (const jobId of ids) expect(await deployment.queue.job(jobId).status(), JSON.stringify(jobId)).toMatchObject({ jobId, state: 'succeeded' })
  await goesOn(deployment.queue)
})

it('tenants, images and keys of any character are told apart, and so are those that begin alike', { timeout: 240_000 }, async () => {
  await deployment.startConsumer()
  const jobs = await deployment.queue.enqueueMany(everyByte.map((text, byte) => spec({ tenant: `t${text}`, image: `image${byte}`, concurrency: { key: `k${text}` }, idempotencyKey: `i${text}` })))
  expect(new Set(jobs.map(({ jobId }) => jobId)).size).toBe(256)
  for (const [byte, job] of jobs.entries()) expect(await job.result(patience)).toMatchObject({ status: 'succeeded', tenant: `t${everyByte[byte] ?? ''}` })
  for (const text of ['\0', '\n', ' ', ':', '%', '\u00ff']) expect((await deployment.queue.list({ tenant: `t${text}` })).map(({ tenant }) => tenant)).toEqual([`t${text}`])
  await goesOn(deployment.queue)
})

it('data of any size and kind ends as what it is', { timeout: 240_000 }, async () => {
  await deployment.startConsumer()
  const large = 'x'.repeat(1_000_000)
  const data: unknown[] = [null, '', 0, [], {}, { spec: null }, { spec: '' }, { spec: [] }, { spec: {} }, { spec: { repository: large } }, { spec: { steps: large } }, large, { spec: parseJobSpec(spec({ metadata: { text: 'y'.repeat(900_000) } })) }]
  const added = await Promise.all(data.map((each) => bull.add('by hand', each)))
  const statuses = await Promise.all(added.map(async ({ id }) => (await deployment.queue.job(id ?? '').result(patience)).status))
  expect(statuses).toEqual([...data.slice(1).map(() => 'failed'), 'succeeded'])
  await goesOn(deployment.queue)
})

it('priorities at both ends are taken in their order', { timeout: 240_000 }, async () => {
  const ended: string[] = []
  for (const [id, priority] of [['last', 2_097_151], ['first', 1], ['stray', 0]] as const) await bull.add('by hand', { spec: parseJobSpec(spec({ steps: ['sleep 0.1'] })) }, { jobId: id, priority })
  await deployment.startConsumer({ providers: [{ provider: deployment.providers[0]!, limit: { sandboxes: 1 } }] })
  await Promise.all(['last', 'first', 'stray'].map(async (id) => void ended.push((await deployment.queue.job(id).result(patience)).jobId)))
  expect(ended.indexOf('first')).toBeLessThan(ended.indexOf('last'))
  expect(ended).toHaveLength(3)
  await goesOn(deployment.queue)
})

it('messages that are not Switchyard’s are passed over, on its channels and in its consumers’ inboxes', { timeout: 240_000 }, async () => {
  await deployment.startConsumer()
  const job = await deployment.queue.enqueue(spec({ steps: ['sleep 1'] }))
  await until('it runs', async () => (await job.status()).step !== null)
  const channels = (await client.call('PUBSUB', 'CHANNELS', '*')) as string[]
  expect(channels.length).toBeGreaterThan(0)
  const inboxes = await client.keys('{switchyard}:inbox:*')
  for (const text of ['', '\0', 'null', '{', '[]', '{}', '{"kind":"grant"}', '{"kind":"work","given":{"jobId":7}}', '{"jobId":null}', JSON.stringify({ jobId: 'gone', reason: 7 }), 'x'.repeat(100_000)]) {
    for (const channel of channels) await client.publish(channel, text)
    for (const inbox of inboxes) await client.rpush(inbox, text)
  }
  expect(await job.result(patience)).toMatchObject({ status: 'succeeded' })
  await goesOn(deployment.queue)
})

it('two deployments on one Redis, whose queues and jobs are called alike, never meet', { timeout: 240_000 }, async () => {
  const other = new AgentQueue({ redis: { url: deployment.redis.url }, prefix: '{switchyard}2' })
  after(() => other.close())
  await deployment.startConsumer()
  await deployment.startConsumer({ queue: { prefix: '{switchyard}2' }, deployment: 'second' })
  const both = await Promise.all([deployment.queue, other].map((queue) => queue.enqueue(spec({ steps: ['sleep 600'], idempotencyKey: 'same', tenant: 'acme', concurrency: { key: 'same' } }))))
  for (const job of both) await until('both run at once', async () => (await job.status()).step !== null)
  await bull.obliterate({ force: true })
  expect(await both[0]!.result(patience)).toMatchObject({ status: 'cancelled' })
  expect(await both[1]!.status()).toMatchObject({ state: 'running' })
  expect((await other.list({})).map(({ jobId }) => jobId)).toEqual([both[1]!.jobId])
  await both[1]!.cancel('seen')
  expect(await both[1]!.result(patience)).toMatchObject({ status: 'cancelled', error: { message: 'seen' } })
  const keys = new Keys('{switchyard}2')
  await until('nothing is held', async () => (await client.exists(`${keys.ready()}:held`)) === 0)
})
