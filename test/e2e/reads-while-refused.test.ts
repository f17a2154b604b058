import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openBoard } from '../../src/cli/open-board.js'
import { configSchema } from '../../src/config/schema.js'
import { ApiKeys, createApi, startApiServer } from '../../src/http/index.js'
import { AgentQueue, subscribe } from '../../src/producers/index.js'
import { createRedis, Keys, Roster, SlotLedger } from '../../src/store/index.js'
import { after } from '../undo.js'
import { makePlace, type Place } from '../cli/run-switchyard.js'
import { type RedisProcess, startRedisProcess, until } from '../servers/redis-process.js'

// Operators look when Redis takes nothing more: each read, by each way, answers what it answers otherwise, and each write says in one sentence what is wrong.
const undo: (() => unknown)[] = []
const states = ['takes everything', 'is out of memory', 'lacks its replicas', 'is a replica'] as const
const said = { 'takes everything': /^/, 'is out of memory': /^(?:RedisUnavailableError|BulkInterruptedError: cancelJobs: 3 of 3 jobs were seen to, and the audit log has no entry of it): redis: 127\.0\.0\.1:\d+ can't be used \(OOM: [^\n]*\); [^\n]+$/, 'lacks its replicas': /^RedisUnavailableError: redis: 127\.0\.0\.1:\d+ can't be used \(NOREPLICAS: [^\n]*\); [^\n]+$/, 'is a replica': /^RedisUnavailableError: redis: 127\.0\.0\.1:\d+ can't be used \(READONLY: [^\n]*\); [^\n]+$/ } as const
let primary: RedisProcess
let replica: RedisProcess
let admin: ReturnType<typeof createRedis>
let place: Place
let jobs: string[]
let apiKey: string
const operator = { id: 'anna', name: 'Anna' }

beforeAll(async () => {
  primary = await startRedisProcess(() => ['repl-diskless-sync-delay 0'])
  undo.push(() => primary.close())
  replica = await startRedisProcess(() => [`replicaof 127.0.0.1 ${primary.port}`])
  undo.push(() => replica.close())
  admin = createRedis({ url: urlOf(primary) }, 'commands')
  undo.push(() => admin.disconnect())
  place = await makePlace()
  undo.push(() => place.remove())
})
afterAll(async () => {
  for (const step of undo.splice(0).reverse()) await step()
})

const urlOf = (server: RedisProcess) => `redis://127.0.0.1:${server.port}`

/** Something of everything that can be read. */
async function fill(): Promise<void> {
  await admin.flushall()
  const redis = { url: urlOf(primary) }
  const queue = new AgentQueue({ redis })
  const keys = new Keys()
  await new SlotLedger(admin, keys).reserve({ leaseId: 'x', holder: 'c', candidates: [{ provider: 'e2b', sandboxes: 5, cpu: 8 }], demand: { cpu: 2, memoryMiB: 0 }, ttlMs: 600_000 })
  await new Roster(admin, keys).announce({ consumer: 'consumer-1', profileId: 'p', profile: { queue: 'agents', release: '1.0.0', providers: ['e2b'], secrets: [] }, troubles: [], startedAtMs: Date.now(), shares: null, heeds: ['drain', 'leave'], host: 'h', pid: 7, running: 1, places: 2 }, 600_000)
  jobs = (await queue.enqueueMany(Array.from({ length: 5 }, (_, index) => ({ repository: 'acme/web', tenant: 'acme', steps: ['true'], concurrency: { key: `k${index % 2}` } })))).map(({ jobId }) => jobId)
  await queue.job(jobs[0]!).cancel('no more')
  await queue.schedules.upsert('nightly', { cron: '0 3 * * *', job: { repository: 'acme/web', steps: ['true'] } })
  await queue.budgets.setTenant('acme', 20, operator)
  await queue.operations.pauseTenant('acme', { by: operator })
  apiKey = (await new ApiKeys(queue).create({ name: 'test', scope: 'admin' })).key
  const subscription = subscribe(redis, 'billing', () => { throw new Error('no') }, { from: 'start', attempts: 1, onError: () => undefined })
  await until('an event is dead', async () => (await queue.events.list())[0]?.deadLetters === 1)
  await subscription.close()
  await queue.close()
  await until('the replica follows', async () => (await admin.wait(1, 1_000)) === 1)
}

const reads: Record<string, (queue: AgentQueue) => Promise<unknown>> = {
  status: (queue) => queue.job(jobs[1]!).status(),
  statuses: (queue) => queue.statuses(jobs),
  'list()': (queue) => queue.list(),
  'list(state)': (queue) => queue.list({ state: 'waiting', tenant: 'acme', limit: 2 }),
  providers: (queue) => queue.providers(),
  consumers: (queue) => queue.consumers(),
  costs: (queue) => queue.costs({ since: new Date(Date.now() - 86_400_000).toISOString().slice(0, 10) }),
  fleet: (queue) => queue.fleet(),
  view: (queue) => queue.view(jobs[0]!),
  'result of an ended job': (queue) => queue.job(jobs[0]!).result({ timeoutMs: 30_000 }),
  logs: async (queue) => {
    for await (const line of queue.job(jobs[0]!).logs({ follow: false })) return line
    return null
  },
  'schedules.list': (queue) => queue.schedules.list(),
  'schedules.get': (queue) => queue.schedules.get('nightly'),
  'budgets.list': (queue) => queue.budgets.list(),
  tenants: (queue) => queue.operations.tenants(),
  audit: (queue) => queue.operations.auditLog(),
  queue: (queue) => queue.operations.queue(),
  'cancelJobs, dry run': (queue) => queue.operations.cancelJobs({}, { dryRun: true, by: operator }),
  'retryJobs, dry run': (queue) => queue.operations.retryJobs({}, { dryRun: true, by: operator }),
  'drainQueue, dry run': (queue) => queue.operations.drainQueue({ dryRun: true, by: operator }),
  'events.list': (queue) => queue.events.list(),
  'events.dead': (queue) => queue.events.dead({ group: 'billing' }),
  'events.read': (queue) => queue.events.read(),
  'events.trimmed': (queue) => queue.events.trimmed({ from: { sinceMs: 0 } }),
}

const writes: Record<string, (queue: AgentQueue) => Promise<unknown>> = {
  enqueue: (queue) => queue.enqueue({ repository: 'acme/web', steps: ['true'] }),
  'enqueue with a key': (queue) => queue.enqueue({ repository: 'acme/web', steps: ['true'], idempotencyKey: 'x', concurrency: { key: 'x' }, waitTimeout: '10m' }),
  enqueueMany: (queue) => queue.enqueueMany([{ repository: 'acme/web', steps: ['true'] }, { repository: 'acme/web', steps: ['true'] }]),
  cancel: (queue) => queue.job(jobs[1]!).cancel('no more'),
  cancelJobs: (queue) => queue.operations.cancelJobs({}, { by: operator }),
  drainQueue: (queue) => queue.operations.drainQueue({ by: operator }),
  'schedules.upsert': (queue) => queue.schedules.upsert('hourly', { cron: '0 * * * *', job: { repository: 'acme/web', steps: ['true'] } }),
  'schedules.pause': (queue) => queue.schedules.pause('nightly'),
  drainProvider: (queue) => queue.operations.drainProvider('e2b', { by: operator }),
  limitProvider: (queue) => queue.operations.limitProvider('e2b', 1, { by: operator }),
  pauseQueue: (queue) => queue.operations.pauseQueue({ by: operator }),
  resumeTenant: (queue) => queue.operations.resumeTenant('acme', { by: operator }),
  drainConsumer: (queue) => queue.operations.drainConsumer('consumer-1', { by: operator }),
  setTenantBudget: (queue) => queue.budgets.setTenant('acme', 30, operator),
  'events.redeliver': (queue) => queue.events.redeliver({ group: 'billing', ids: 'all' }),
  'events.replay': (queue) => queue.events.replay({ group: 'billing', from: { after: '0-0' } }),
  'keys.create': (queue) => new ApiKeys(queue).create({ name: 'other', scope: 'admin' }),
}

const commands = ['status JOB', 'jobs list', 'logs ENDED', 'providers', 'providers list --json', 'consumers', 'tenants', 'queue', 'schedules', 'budgets', 'costs', 'audit', 'keys list', 'events dead --group billing', 'events list', 'events groups', 'artifacts ENDED']
const paths = ['/healthz', '/readyz', '/v1/jobs', '/v1/jobs/JOB', '/v1/jobs/ENDED/logs?follow=false', '/v1/providers', '/v1/tenants', '/v1/fleet', '/v1/queue', '/v1/consumers', '/v1/events/dead?group=billing', '/v1/keys', '/v1/schedules', '/v1/schedules/nightly', '/v1/costs', '/v1/budgets', '/v1/audit']
const pages = ['healthz', 'metrics', 'fleet', 'fleet/jobs/JOB', 'fleet/jobs/ENDED', 'api/queues?activeQueue=agents&status=latest&page=1', 'api/queues/agents/JOB', '']

const named = (text: string) => text.replaceAll('JOB', jobs[1]!).replaceAll('ENDED', jobs[0]!)

/** What each of them ended with: an error in words, or nothing. */
async function failures<Value>(of: readonly (readonly [name: string, work: () => Promise<Value>])[], problem: (value: Value) => string | null): Promise<Record<string, string>> {
  const found: Record<string, string> = {}
  for (const [name, work] of of) {
    const failed = await work().then(problem, String)
    if (failed !== null) found[name] = failed
  }
  return found
}

describe.each(states)('where Redis %s', (state) => {
  const url = () => urlOf(state === 'is a replica' ? replica : primary)
  const queueThere = () => {
    const queue = new AgentQueue({ redis: { url: url() } })
    after(() => queue.close())
    return queue
  }
  beforeAll(async () => {
    await fill()
    await admin.config('SET', 'min-replicas-to-write', state === 'lacks its replicas' ? '5' : '0')
    await admin.config('SET', 'maxmemory', state === 'is out of memory' ? '1' : '0')
  })
  afterAll(async () => {
    await admin.config('SET', 'min-replicas-to-write', '0')
    await admin.config('SET', 'maxmemory', '0')
  })

  it('everything can be read: by the queue, by commands, by the API and in the monitor', async () => {
    const queue = queueThere()
    expect(await failures(Object.entries(reads).map(([name, read]) => [name, () => read(queue)]), () => null)).toEqual({})
    const environment = { SWITCHYARD_REDIS_URL: url() }
    expect(await failures(commands.map((command) => [command, () => place.command(named(command).split(' '), environment)]), ({ code, stderr }) => (code === 0 ? null : stderr))).toEqual({})

    const logged: unknown[] = []
    const api = createApi({ queue, log: { info: () => undefined, error: (fields: unknown) => logged.push(fields) } })
    const server = await startApiServer({ api, host: '127.0.0.1', port: 0, graceMs: 1_000 })
    after(() => server.close())
    const { board, close } = await openBoard(configSchema.parse({ redis: { url: url() }, board: { port: 0 } }), {}, { auth: false })
    after(close)
    const bad = async (answer: Response) => (answer.status === 200 ? null : `${answer.status} ${await answer.text()}`)
    const got = (base: string, path: string) => fetch(new URL(named(path), base), { headers: { authorization: `Bearer ${apiKey}` } }).then(bad)
    expect(await failures(paths.map((path) => [path, () => got(server.url, path)]), (problem) => problem)).toEqual({})
    expect(await failures(pages.map((path) => [path, () => got(board.url, path)]), (problem) => problem)).toEqual({})
    expect(logged).toEqual([])
    // The deployment's figures, not this process's own alone.
    expect(await (await fetch(new URL('metrics', board.url))).text()).toMatch(/^switchyard_provider_limit\S*\{.*e2b.*\} 5$/m)
    expect(await queue.providers()).toMatchObject([{ provider: 'e2b', used: 1, cpu: 2 }])
    expect(await queue.job(jobs[1]!).status()).toMatchObject({ state: 'waiting', reason: 'waiting: tenant acme is paused by Anna' })
  })

  it.skipIf(state === 'takes everything')('every change is refused in one sentence that says why, and what to do', async () => {
    const queue = queueThere()
    const refused = await failures(Object.entries(writes).map(([name, write]) => [name, () => write(queue)]), () => null)
    for (const [name, message] of Object.entries(refused)) expect([name, message]).toEqual([name, expect.stringMatching(said[state])])
    // What removes may be written without memory, and so a job's end, which makes room. After these nothing waits.
    expect(Object.keys(writes).filter((name) => refused[name] === undefined)).toEqual(state === 'is out of memory' ? ['cancel', 'drainQueue'] : [])
    if (state === 'is out of memory') expect(await queue.job(jobs[1]!).status()).toMatchObject({ state: 'cancelled' })
  })
})
