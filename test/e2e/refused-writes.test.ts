import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { afterEach, expect, it } from 'vitest'
import type { JobSpecInput } from '../../src/job/spec.js'
import { AgentQueue, subscribe } from '../../src/producers/index.js'
import { createRedis, Keys } from '../../src/store/index.js'
import { until } from './deployment.js'
import { startInMemoryDeployment, type InMemoryDeployment } from './in-memory-deployment.js'

// A Redis that refuses what writes, for moments and in the middle of everything: full memory, and a primary that lacks its replicas, which refuses all writes as one
// that has become a replica does. Redis refuses a script at its first write and none after it, so each has been done or has not; here, what becomes of the jobs.
let deployment: InMemoryDeployment
const undo: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
  await deployment.close()
})

const refused = /OOM|NOREPLICAS|Redis at/

it.each([
  ['its memory is full', 'maxmemory', '1', '0'],
  ['it lacks its replicas', 'min-replicas-to-write', '1', '0'],
])('no job is lost, doubled or left, where Redis now and then refuses writes because %s', async (_why, setting, on, off) => {
  deployment = await startInMemoryDeployment()
  const { queue, redis } = deployment
  const admin = createRedis({ url: redis.url }, 'commands')
  undo.push(async () => admin.disconnect())
  // A reaper whose word of what it did was refused keeps the provider to itself for two such calls and half a minute.
  for (let member = 0; member < 2; member++) await deployment.startConsumer({ settings: { callTimeoutMs: 2_000 } })
  // At least once: by their ids.
  const told = new Map<string, string>()
  const subscription = subscribe({ url: redis.url }, 'test', ({ id, subject }) => void told.set(id, subject), { from: 'start', onError: () => undefined })
  undo.push(() => subscription.close())
  const over = new AbortController()
  const toggled = (async () => {
    for (let moment = 0; !over.signal.aborted; moment++) {
      await admin.config('SET', setting, on)
      await delay(20 + (moment % 5) * 40)
      await admin.config('SET', setting, off)
      await delay(150 + (moment % 3) * 100)
    }
  })()
  const kinds: Partial<JobSpecInput>[] = [
    {},
    { concurrency: { key: 'branch', then: 'wait' } },
    { tenant: 'acme', priority: 1 },
    { waitTimeout: '10m', delay: '300ms' },
    { steps: ['sleep 0.2', 'true', 'sleep 0.1'], push: {} },
    { concurrency: { key: 'newest', then: 'cancel-running' }, steps: ['sleep 0.3'] },
  ]
  const jobs: string[] = []
  let wasRefused = 0
  for (let index = 0; index < 30; index++) {
    const spec = { repository: 'acme/web', steps: ['true'], push: false as const, idempotencyKey: `job-${index}`, ...kinds[index % kinds.length] }
    await until('a job is enqueued', async () => {
      try {
        jobs.push((await queue.enqueue(spec)).jobId)
        return true
      } catch (error) {
        if (!refused.test(String(error))) throw error
        wasRefused++
        return false
      }
    })
  }
  for (const [index, jobId] of jobs.entries()) {
    const { status } = await queue.job(jobId).result({ timeoutMs: 120_000 })
    expect(kinds[index % kinds.length]?.concurrency?.key === 'newest' ? ['succeeded', 'cancelled'] : ['succeeded']).toContain(status)
  }
  over.abort()
  await toggled
  expect(wasRefused).toBeGreaterThan(0)
  await until('all are told of', async () => told.size >= jobs.length)
  expect([...told.values()].toSorted()).toEqual(jobs.toSorted())
  await until('all places are free', async () => (await queue.providers()).every(({ used }) => used === 0))
  expect(deployment.providers.map(({ running }) => running)).toEqual([0, 0])
  const keys = new Keys()
  await until('nothing is in hand', async () => {
    const accounts = Object.values(await admin.hgetall(`${keys.ready()}:held`))
    return accounts.length === 0 && (await admin.llen(keys.bullmq('active'))) === 0
  })
  // Whoever asks now finds it as ever.
  const other = new AgentQueue({ redis: { url: redis.url } })
  undo.push(() => other.close())
  expect((await other.list({ limit: 100 })).filter(({ state }) => state === 'waiting' || state === 'running')).toEqual([])
}, 240_000)

it('a consumer that runs says that its Redis was set to drop keys, and how many it has dropped', async () => {
  deployment = await startInMemoryDeployment()
  const admin = createRedis({ url: deployment.redis.url }, 'commands')
  undo.push(async () => admin.disconnect())
  await deployment.startConsumer({ settings: { leaseMs: 500 } })
  const errors = () => deployment.logs.map((line) => JSON.parse(line) as { level: number; msg: string }).filter(({ level, msg }) => level === 50 && msg.includes('maxmemory-policy')).map(({ msg }) => msg)
  await admin.set('of-somebody-else', 'x'.repeat(100_000))
  await admin.config('SET', 'maxmemory-policy', 'volatile-lru')
  await until('it is said', () => errors().length > 0)
  await admin.pexpire('of-somebody-else', 600_000)
  // One at a time: Redis 6.2 takes no more.
  await admin.config('SET', 'maxmemory', '1')
  await admin.config('SET', 'maxmemory', '0')
  await until('what was dropped is said', () => errors().some((msg) => /has dropped \d+ keys? since/.test(msg)))
  expect(errors()[0]).toContain('set it to "noeviction"')
})

it('no script takes a refusal for done: what is asked by pcall is looked at, and passed on', () => {
  const folder = 'src/store/lua'
  const asked = readdirSync(folder).flatMap((name) => [...readFileSync(`${folder}/${name}`, 'utf8').matchAll(/redis\.pcall\('(\w+)'.*\n(.*)/g)].map(([, command, next]) => [name, command, /\.err\b/.test(next ?? '')]))
  expect(asked).toEqual([
    ['event-open.lua', 'XGROUP', true],
    ['event-replay.lua', 'XGROUP', true],
    ['event-take.lua', 'XREADGROUP', true],
  ])
})
