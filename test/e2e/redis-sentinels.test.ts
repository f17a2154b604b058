import { Redis } from 'ioredis'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { JobResult } from '../../src/job/result.js'
import { type JobHandle, subscribe } from '../../src/producers/index.js'
import type { RedisSettings } from '../../src/store/index.js'
import type { RedisProcess } from '../servers/redis-process.js'
import { type RedisSentinels, startRedisSentinels } from '../servers/redis-sentinels.js'
import { startDeployment, until, type Deployment } from './deployment.js'

// Three real sentinels fail over to one of two replicas while jobs run: by command, and because the primary is killed. The primary refuses writes without a replica, and while a
// failover by command goes on without both of them, as docs/redis.md says: else what the former one takes until it hears of the other would be lost (test/store/failover-writes.test.ts).
let sentinels: RedisSentinels
let deployment: Deployment
const ended: string[] = []
const closing: (() => Promise<void>)[] = []

beforeAll(async () => {
  sentinels = await startRedisSentinels({ replicas: 2, lines: ['min-replicas-to-write 1', 'min-replicas-max-lag 10'] })
  closing.push(() => sentinels.close())
  const settings: RedisSettings = { sentinel: { nodes: sentinels.addresses, name: sentinels.name }, password: sentinels.password }
  deployment = await startDeployment({ limits: [3], address: () => Promise.resolve(settings) })
  closing.push(() => deployment.close())
  await deployment.seed('acme/web', { 'README.md': 'hello\n' })
  // A producer says after a second that Redis is away, which a busy machine may take to connect.
  await until('the producer is connected', () => deployment.queue.list().then(() => true, () => false))
  await Promise.all([deployment.startConsumer(), deployment.startConsumer()])
  const subscription = subscribe(settings, 'test', (event) => void ended.push(event.subject), { from: 'start' })
  closing.push(() => subscription.close())
}, 300_000)
afterAll(async () => {
  for (const close of closing.reverse()) await close()
})

const counting = 'echo began; i=0; while [ $i -lt 30 ]; do i=$((i+1)); echo "out $i"; sleep 0.1; done; echo x >> runs.txt; cat runs.txt'

async function leastReplicas(server: RedisProcess, count: number): Promise<void> {
  const client = new Redis(server.port, '127.0.0.1', { password: sentinels.password, protocol: 2 })
  await client.config('SET', 'min-replicas-to-write', String(count))
  client.disconnect()
}

it.each<[string, (primary: RedisProcess) => Promise<void>]>([
  [
    'by command',
    async (primary) => {
      await leastReplicas(primary, 2)
      await sentinels.failOver()
    },
  ],
  ['because the primary is killed', (primary) => primary.kill('SIGKILL')],
])('fails over %s, and each job ends once', async (_how, happens) => {
  const jobs = await Promise.all(Array.from({ length: 4 }, () => deployment.queue.enqueue({ repository: 'acme/web', steps: [counting] })))
  await until('steps under way', async () => (await Promise.all(jobs.map((job) => job.status()))).filter(({ state, phase }) => state === 'running' && phase === 'steps').length >= 2, 120_000)
  const before = await sentinels.primary()
  await happens(before)
  await until('the other one is the primary', async () => (await sentinels.primary()) !== before, 60_000)
  let later: JobHandle | undefined
  await until('a job can be added', async () => {
    later = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['echo x'], idempotencyKey: `later ${before.port}` }).catch(() => undefined)
    return later !== undefined
  })
  const results: JobResult[] = await Promise.all([...jobs, ...(later === undefined ? [] : [later])].map((job) => job.result({ timeoutMs: 200_000 })))
  for (const result of results) {
    expect(result).toMatchObject({ status: 'succeeded', attempts: [{ outcome: 'succeeded' }], steps: [{ exitCode: 0 }] })
    expect(result.steps[0]?.stdoutTail.split('\n').filter((line) => line === 'x')).toEqual(['x'])
  }
  await until('every event', () => results.every(({ jobId }) => ended.includes(jobId)), 60_000)
  expect(ended.length).toBe(new Set(ended).size)
  await until('no place is kept', async () => (await deployment.queue.providers()).every(({ used }) => used === 0), 120_000)
  if (before.pid === undefined) await before.start()
  else {
    await until('the former one follows', () => sentinels.isReplica(before), 60_000)
    await leastReplicas(before, 1)
  }
}, 400_000)
