import { Redis } from 'ioredis'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import type { RunRecord } from '../../src/job/run-record.js'
import { AgentQueue } from '../../src/producers/index.js'
import { Keys, RunStore } from '../../src/store/index.js'
import { replaceRecord } from '../store/fixture.js'
import { startDeployment, until, type Deployment } from './deployment.js'

// In a rolling deploy consumers and producers of two releases share a Redis. The newer one is played by what it would have written.
let deployment: Deployment
let redis: Redis
beforeEach(async () => {
  deployment = await startDeployment({ limits: [2] })
  await deployment.seed('acme/web', { 'README.md': 'hello\n' })
  redis = new Redis(deployment.redis.url)
})
afterEach(async () => {
  redis.disconnect()
  await deployment.close()
})

const keys = new Keys()
const changeRecord = async (jobId: string, change: (record: RunRecord) => object) => replaceRecord(redis, keys.run(jobId), (record) => change(record as RunRecord))
const logged = (text: string) => deployment.logs.filter((line) => line.includes(text)).length

const counting = 'echo began; i=0; while [ $i -lt 40 ]; do i=$((i+1)); echo "line $i"; sleep 0.1; done; echo x >> runs.txt; cat runs.txt'

it('a job of a newer release is gone on with, and keeps what only that release knows', async () => {
  const first = await deployment.startConsumer()
  const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: [counting] })
  await until('the step', async () => (await job.status()).step !== null)
  await first.stop()
  await changeRecord(job.jobId, (record) => ({ ...record, colour: 'blue', base: { ...record.base, signed: true } }))
  await deployment.startConsumer()
  expect(await job.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded', attempts: [{ outcome: 'succeeded' }], steps: [{ stdoutTail: expect.stringMatching(/line 40\nx\n$/) as string }] })
  expect((await new RunStore(redis, keys).read(job.jobId))?.record).toMatchObject({ phase: 'ended', colour: 'blue', base: { signed: true } })
})

it('a record that can’t be read is left, with its sandbox and place, to a consumer that can', async () => {
  const first = await deployment.startConsumer()
  const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: [counting] })
  await until('the step', async () => (await job.status()).step !== null)
  const { sandboxId } = await job.status()
  await first.stop()
  await changeRecord(job.jobId, (record) => ({ ...record, phase: 'dreaming' }))
  const older = await deployment.startConsumer()
  await until('it to be left twice', () => logged('job left to a consumer of a newer release') >= 2)
  expect(await redis.hget(keys.run(job.jobId), 'result')).toBeNull()
  // Others go their way meanwhile.
  const other = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['true'], push: false })
  expect(await other.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded' })
  await older.stop()
  // The newer release is here.
  await changeRecord(job.jobId, (record) => ({ ...record, phase: 'steps' }))
  await deployment.startConsumer()
  expect(await job.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded', attempts: [{ sandboxId, outcome: 'succeeded' }], steps: [{ stdoutTail: expect.stringMatching(/line 40\nx\n$/) as string }] })
})

it('a spec with fields that are not known is left to a consumer that knows them, without a place', async () => {
  const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['true'], push: false })
  const jobKey = `${keys.prefix}:${keys.queueName}:${job.jobId}`
  const plain = (await redis.hget(jobKey, 'data'))!
  const data = JSON.parse(plain) as { spec: object }
  await redis.hset(jobKey, 'data', JSON.stringify({ ...data, spec: { ...data.spec, colour: 'blue' } }))
  const older = await deployment.startConsumer()
  await until('it to be left twice', () => logged('colour: is not a known field') >= 2)
  await until('its status to say so', async () => (await job.status()).reason?.includes('waiting for another consumer: colour: is not a known field') === true)
  expect(await redis.exists(keys.run(job.jobId))).toBe(0)
  expect(await redis.hget(`${keys.ledger()}:jobs`, job.jobId)).toBeNull()
  await older.stop()
  await redis.hset(jobKey, 'data', plain)
  await deployment.startConsumer()
  expect(await job.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded' })
})

it('what a newer release lays out otherwise is left alone, by who runs already too', async () => {
  const leaves = vi.fn()
  const consumer = await deployment.startConsumer({ onLeave: leaves })
  expect(await redis.get(keys.layout())).toBe('1')
  await redis.set(keys.layout(), '2')
  await until('it to leave', () => leaves.mock.calls.length > 0)
  await consumer.stop()
  expect(leaves).toHaveBeenCalledTimes(1)
  const held = new Set(await redis.keys('*'))
  const refusal = { code: 'SWY_NEWER_RELEASE', message: expect.stringMatching(/layout 2, and this one knows 1\); update this process$/) as string }
  await expect(deployment.startConsumer()).rejects.toMatchObject(refusal)
  const producer = new AgentQueue({ redis: { url: deployment.redis.url } })
  await expect(producer.enqueue({ repository: 'acme/web', steps: ['true'] })).rejects.toMatchObject(refusal)
  await producer.close()
  // Some that were there have an end of their own.
  expect((await redis.keys('*')).filter((key) => !held.has(key))).toEqual([])
})

it('jobs that were laid out otherwise before that was said are not run twice', async () => {
  await redis.hset(keys.unsaidLayout()[0]!, 'job', '{}')
  await expect(deployment.startConsumer()).rejects.toMatchObject({ code: 'SWY_OLDER_RELEASE', message: expect.stringContaining('the queue "agents" (prefix "{switchyard}")') as string })
  // A tenant of that name, whose cap keeps its jobs, is none.
  await redis.del(...keys.unsaidLayout())
  await redis.zadd(keys.unsaidLayout()[0]!, 1, 'job')
  // Nor does it stop anybody that something else stands there.
  await redis.set(keys.layout(), 'noise')
  await deployment.startConsumer()
  expect(await redis.get(keys.layout())).toBe('1')
})
