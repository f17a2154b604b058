import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import type { Consumer } from '../../src/consumers/index.js'
import type { JobResult } from '../../src/job/result.js'
import { type JobHandle, subscribe } from '../../src/producers/index.js'
import type { RedisSettings } from '../../src/store/index.js'
import { type RedisCluster, startRedisCluster } from '../servers/redis-cluster.js'
import { startDeployment, until, type Deployment } from './deployment.js'

// A real Redis Cluster of three primaries with a replica each, under jobs: what happens to its nodes costs no job anything but time. Each ends once, with
// one event, and no step runs twice.
let cluster: RedisCluster
let deployment: Deployment
let consumers: Consumer[]
let slot: number
const ended: string[] = []
const closing: (() => Promise<void>)[] = []

beforeAll(async () => {
  cluster = await startRedisCluster()
  closing.push(() => cluster.close())
  slot = await cluster.slotOf('{switchyard}')
  const settings: RedisSettings = { cluster: { nodes: cluster.addresses }, password: cluster.password }
  deployment = await startDeployment({ limits: [3], address: () => Promise.resolve(settings) })
  closing.push(() => deployment.close())
  await deployment.seed('acme/web', { 'README.md': 'hello\n' })
  // A producer says after a second that Redis is away, which a busy machine may take to connect.
  await until('the producer is connected', () => deployment.queue.list().then(() => true, () => false))
  consumers = await Promise.all([deployment.startConsumer(), deployment.startConsumer()])
  const subscription = subscribe(settings, 'test', (event) => void ended.push(event.subject), { from: 'start' })
  closing.push(() => subscription.close())
}, 300_000)
afterEach(() => ended.splice(0))
afterAll(async () => {
  for (const close of closing.reverse()) await close()
})

const counting = 'echo began; i=0; while [ $i -lt 30 ]; do i=$((i+1)); echo "out $i"; sleep 0.1; done; echo x >> runs.txt; cat runs.txt'

/** Jobs under way, and more that wait: what happens meets every part of a job. */
async function underLoad(happens: () => Promise<void>): Promise<void> {
  const jobs = await Promise.all(Array.from({ length: 4 }, (_, n) => deployment.queue.enqueue({ repository: 'acme/web', idempotencyKey: `${expect.getState().currentTestName ?? ''} ${n}`, steps: [counting] })))
  await until('steps under way', async () => (await Promise.all(jobs.map((job) => job.status()))).filter(({ state, phase }) => state === 'running' && phase === 'steps').length >= 2, 120_000)
  await happens()
  const later = await enqueued()
  const results: JobResult[] = await Promise.all([...jobs, later].map((job) => job.result({ timeoutMs: 200_000 })))
  for (const result of results) {
    expect(result).toMatchObject({ status: 'succeeded', attempts: [{ outcome: 'succeeded' }], steps: [{ exitCode: 0 }] })
    // One line of the step's: it ran once.
    expect(result.steps[0]?.stdoutTail.split('\n').filter((line) => line === 'x')).toEqual(['x'])
  }
  await until('every event', () => results.every(({ jobId }) => ended.includes(jobId)), 60_000)
  await delay(500)
  expect(ended.length).toBe(new Set(ended).size)
  await until('no place is kept', async () => (await deployment.queue.providers()).every(({ used }) => used === 0), 120_000)
}

/** A producer fails at once while nobody serves the slot, and tries again as an application does. */
async function enqueued(): Promise<JobHandle> {
  let job: JobHandle | undefined
  await until('a job can be added', async () => {
    job = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['echo x'], idempotencyKey: `later ${expect.getState().currentTestName ?? ''}` }).catch(() => undefined)
    return job !== undefined
  })
  if (job === undefined) throw new Error('no job')
  return job
}

it('the replica takes over by command', async () => {
  await underLoad(async () => {
    const replica = await cluster.replicaOf(slot)
    await replica.client.cluster('FAILOVER')
    await until('it is the primary', async () => (await cluster.primaryOf(slot)) === replica)
  })
}, 400_000)

it('the queue’s own slot is moved to another primary, key by key, and back', async () => {
  await underLoad(async () => {
    const from = await cluster.primaryOf(slot)
    const to = await cluster.primaryOf((slot + 5_461) % 16_384)
    expect(to).not.toBe(from)
    // Part of the keys is here and part there for a while.
    await cluster.moveSlot(slot, to, { slowly: true })
    expect(await cluster.primaryOf(slot)).toBe(to)
    await cluster.moveSlot(slot, from)
  })
}, 400_000)

it('the primary of the queue is killed', async () => {
  await underLoad(async () => {
    const primary = await cluster.primaryOf(slot)
    const replica = await cluster.replicaOf(slot)
    await primary.kill('SIGKILL')
    await until('its replica takes over', async () => (await cluster.primaryOf(slot)) === replica)
    await primary.start()
  })
  expect(deployment.logs.filter((line) => /Cluster redirections|MOVED|unhandled/.test(line))).toEqual([])
  expect(consumers).toHaveLength(2)
}, 400_000)

it('cancels and ends are heard at whichever node they are said', async () => {
  const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['sleep 60'] })
  await until('it runs', async () => (await job.status()).state === 'running', 120_000)
  const result = job.result({ timeoutMs: 150_000 })
  await job.cancel('not needed')
  expect(await result).toMatchObject({ status: 'cancelled' })
}, 300_000)
