import { Queue } from 'bullmq'
import { pino } from 'pino'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { inMemoryGitHost } from '../../bench/in-memory/git-host.js'
import { InMemoryProvider } from '../../bench/in-memory/provider.js'
import { Consumer, secretsFromEnvironment } from '../../src/consumers/index.js'
import { startRedis, type EmbeddedRedis } from '../../src/embedded/index.js'
import { createApi } from '../../src/http/index.js'
import type { JobSpecInput } from '../../src/job/spec.js'
import { courseOf } from '../../src/monitor/pages/course.js'
import { AgentQueue } from '../../src/producers/index.js'
import { createRedis } from '../../src/store/index.js'
import { until } from '../e2e/deployment.js'

/** The fleet as the page and the API show it, of a real queue with a consumer. */
let redis: EmbeddedRedis
let queue: AgentQueue
let consumer: Consumer
const provider = new InMemoryProvider('a')
const spec = (more: Partial<JobSpecInput> = {}): JobSpecInput => ({ repository: 'acme/web', push: false, steps: [{ name: 'agent', run: 'sleep 600 # line every 0.1' }, 'sleep 0.01'], ...more })

async function startConsumer(): Promise<Consumer> {
  const started = new Consumer({
    deployment: 'test', redis: { url: redis.url }, git: inMemoryGitHost, secrets: secretsFromEnvironment([]), log: pino({ level: 'silent' }), tenants: { globex: { weight: 3, cap: 5 } },
    providers: [{ provider, limit: { sandboxes: 2 }, price: { perSandboxHour: 36 } }], settings: { leaseMs: 1_500, stallCheckMs: 500, stopGraceMs: 100, unrunnableGraceMs: 600_000, maxJobs: 7 },
  })
  await started.start()
  return started
}

beforeAll(async () => {
  redis = await startRedis()
  queue = new AgentQueue({ redis: { url: redis.url } })
  consumer = await startConsumer()
})
afterAll(async () => {
  await consumer.stop()
  await queue.close()
  await redis.close()
})

it('shows what runs with its step, consumer, cost and last line, what waits and why, providers, consumers, tenants, and what has ended', async () => {
  const done = await queue.enqueue(spec({ steps: ['sleep 0.01'] }))
  await done.result({ timeoutMs: 150_000 })
  const [first, second] = await queue.enqueueMany([spec({ tenant: 'globex' }), spec()])
  await until('both run', async () => (await queue.fleet()).running.filter(({ step, lastLine }) => step === '1/2 agent' && lastLine !== '').length === 2)
  const third = await queue.enqueue(spec({ repository: 'acme/api' }))
  await until('its reason', async () => (await queue.fleet()).waiting.reasons.some(({ reason }) => reason !== null))
  await until('the load', async () => (await queue.fleet()).consumers[0]?.jobs === 2)

  const fleet = await queue.fleet()
  expect(fleet).toMatchObject({
    queue: 'agents', paused: false, counts: { inHand: 2, waiting: 1, delayed: 0, succeeded: 1, failed: 0 },
    providers: [{ provider: 'a', limit: 2, used: 2, breaker: 'closed' }],
    consumers: [{ queue: 'agents', providers: ['a'], jobs: 2, maxJobs: 7, full: false, troubles: [] }],
    waiting: { looked: 1, reasons: [{ jobs: 1, reason: 'waiting for capacity: a full (2/2)' }], next: [{ jobId: third.jobId, repository: 'acme/api' }] },
    tenants: [{ tenant: 'globex', running: 1, cap: 5, weight: 3 }],
    runningMore: 0, ended: [{ jobId: done.jobId, status: 'succeeded', reason: null }],
  })
  const shown = fleet.running.find(({ jobId }) => jobId === first!.jobId)
  expect(shown).toMatchObject({ repository: 'acme/web', tenant: 'globex', phase: 'steps', provider: 'a', attempt: 1, reason: null, consumer: consumer.id })
  // Its last character is held back while it may begin a secret.
  expect(shown?.lastLine).toMatch(/^x{30,31}$/)
  expect(shown?.cost?.currency).toBe('USD')
  expect(shown?.cost?.micros).toBeGreaterThan(0)
  expect(fleet.atMs).toBeGreaterThanOrEqual(shown?.startedAtMs ?? Infinity)

  const view = await queue.view(first!.jobId)
  expect(view).toMatchObject({ run: 1, consumer: consumer.id, steps: ['agent', 'step 2'], attempts: [{ provider: 'a', outcome: 'running' }], status: { state: 'running', step: '1/2 agent' } })
  expect(view?.milestones.map(([what]) => what)).toEqual(expect.arrayContaining(['step']))
  expect(view?.output).toContain('x'.repeat(31))
  expect(await queue.view('none')).toBeNull()
  expect(await queue.view('meta')).toBeNull()

  const api = createApi({ queue, authenticate: (request) => ({ id: 'me', name: 'me', scope: 'read', tenants: request.headers.has('limited') ? ['globex'] : null }) })
  const answer = await api.fetch(new Request('http://localhost/v1/fleet'))
  expect([answer.status, ((await answer.json()) as typeof fleet).running.length]).toEqual([200, 2])
  expect((await api.fetch(new Request('http://localhost/v1/fleet', { headers: { limited: '1' } }))).status).toBe(403)
  await Promise.all([first, second, third].map((job) => job!.cancel('done')))
  await until('all have ended', async () => (await queue.fleet()).counts.inHand === 0)
  const ended = await queue.view(first!.jobId)
  expect(ended?.milestones.find(([what]) => what === 'step')).toEqual(['step', expect.any(Number), expect.any(Number), 'agent', null])
  expect((await queue.fleet()).ended[0]).toMatchObject({ status: 'cancelled', reason: 'done' })
})

it('asks Redis for the same, however much waits, runs or is remembered, and shows no more of it than it says', async () => {
  const other = new AgentQueue({ redis: { url: redis.url }, name: 'other' })
  const connection = createRedis({ url: redis.url }, 'producer')
  await connection.ping().catch(() => new Promise((resolve) => connection.once('ready', resolve)))
  const bull = new Queue('other', { connection, prefix: '{switchyard}', skipWaitingForReady: true })
  const commands = async (): Promise<number> => {
    const calls = async () => [...(await connection.info('commandstats')).matchAll(/^cmdstat_([\w|]+):calls=(\d+)/gm)].filter(([, name = '']) => !/^(info|ping)/.test(name)).reduce((sum, [, , count]) => sum + Number(count), 0)
    const before = await calls()
    await other.fleet()
    return (await calls()) - before
  }
  await other.enqueueMany(Array.from({ length: 30 }, (_, index) => spec({ tenant: `tenant-${index}` })))
  await other.fleet()
  const few = await commands()
  await other.enqueueMany(Array.from({ length: 600 }, (_, index) => spec({ tenant: `tenant-${index}` })))
  // As if they were in hand, with names and progress that nobody of ours has written.
  const ids = (await bull.getPrioritized(0, 299)).map(({ id }) => id ?? '')
  await connection.lpush('{switchyard}:other:active', ...ids)
  const garble = (id: string | undefined) => connection.hset(`{switchyard}:other:${id}`, 'progress', 'y'.repeat(1_000_000), 'name', 'n'.repeat(1_000_000))
  await garble(ids[150])
  const many = await commands()
  // Three for each of the 200 jobs in hand that are shown, within one script; the background of the consumer beside it goes on.
  expect(many).toBeLessThan(few + 800)
  const fleet = await other.fleet()
  expect([fleet.running.length, fleet.runningMore, fleet.waiting.looked, fleet.tenants.length]).toEqual([200, 100, 20, 50])
  // One that can't be read hides no other.
  await garble(ids[0])
  expect((await other.fleet()).waiting.looked).toBe(19)
  expect(fleet.counts.waiting).toBe(630)
  expect(fleet.tenantsMore).toBeGreaterThan(540)
  expect(JSON.stringify(fleet).length).toBeLessThan(300_000)
  await connection.del('{switchyard}:other:active')
  await bull.obliterate({ force: true })
  await bull.close()
  connection.disconnect()
  await other.close()
})

it('tells of a hand-over in the middle of a step, which stays one', async () => {
  const { jobId } = await queue.enqueue(spec())
  await until('its step', async () => (await queue.view(jobId))?.milestones.some(([what]) => what === 'step') === true)
  const before = consumer
  consumer = await startConsumer()
  await before.stop()
  await until('the other has it', async () => (await queue.view(jobId))?.milestones.some(([what]) => what === 'taken') === true)
  const view = await queue.view(jobId)
  expect(view?.consumer).toBe(consumer.id)
  expect(view?.milestones.filter(([what]) => what === 'taken' || what === 'step')).toEqual([['step', expect.any(Number), null, 'agent', null], ['taken', expect.any(Number), expect.any(Number), consumer.id, null]])
  const course = courseOf(view!)
  expect(course.marks).toMatchObject([{ kind: 'taken', label: `handed over to ${consumer.id}` }])
  expect(course.bars.map(({ lane, tone }) => [lane, tone])).toEqual(expect.arrayContaining([['sandboxes', 'now'], ['steps', 'now']]))
  await queue.job(jobId).cancel('done')
  await queue.job(jobId).result({ timeoutMs: 150_000 })
})
