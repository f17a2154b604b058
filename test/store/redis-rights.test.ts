import { readdirSync, readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { Redis } from 'ioredis'
import { pino } from 'pino'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { inMemoryGitHost } from '../../bench/in-memory/git-host.js'
import { InMemoryProvider } from '../../bench/in-memory/provider.js'
import { Checklist } from '../../src/cli/doctor/checklist.js'
import { checkRedis } from '../../src/cli/doctor/check-redis.js'
import { openApi } from '../../src/cli/open-api.js'
import { openBoard } from '../../src/cli/open-board.js'
import { eventTypesOf } from '../../src/config/event-types.js'
import { parseConfig } from '../../src/config/load.js'
import { Consumer, secretsFromEnvironment } from '../../src/consumers/index.js'
import { SecretPatterns } from '../../src/consumers/output/secret-patterns.js'
import { type EmbeddedRedis, startRedis } from '../../src/embedded/index.js'
import { ApiKeys } from '../../src/http/index.js'
import { RedisUnavailableError } from '../../src/job/errors.js'
import { AgentQueue, subscribe } from '../../src/producers/index.js'
import { aclRule, assertRights, boardRights, clusterRights, Keys, redisRights } from '../../src/store/index.js'
import { after, until, useRedis } from './fixture.js'
import { startReceiver } from '../webhooks/receiver.js'

// The rights in docs/redis.md are the ones here: held against every script, and against what a whole deployment runs under a user with exactly these.
useRedis()
let server: EmbeddedRedis
let admin: Redis
let url: string
beforeAll(async () => {
  server = await startRedis()
  admin = new Redis(server.url, { protocol: 2 })
  await admin.call('ACL', 'SETUSER', 'app', 'on', '>app-password', ...aclRule('{switchyard}', boardRights).split(' '))
  url = `redis://app:app-password@127.0.0.1:${server.port ?? 0}`
})
afterAll(async () => {
  admin.disconnect()
  await server.close()
})

/** What scripts call, as `name` or `name|subcommand`. */
function commandsOf(folders: readonly string[]): Set<string> {
  const texts = folders.flatMap((folder) => readdirSync(folder).filter((name) => name.endsWith('.lua')).map((name) => readFileSync(join(folder, name), 'utf8')))
  const calls = texts.flatMap((text) => [...text.matchAll(/(?:redis\.p?call|\brcall|\bcall)\s*\(\s*["']([A-Za-z]+)["'](?:\s*,\s*["']([A-Za-z]+)["'])?/g)])
  return new Set(calls.map(([, name = '', sub = '']) => (/^(xgroup|xinfo)$/i.test(name) ? `${name}|${sub}` : name).toLowerCase()))
}

it('names what every script of ours and of BullMQ’s calls, and what is sent beside them, and nothing else', () => {
  const bullmq = join(dirname(createRequire(import.meta.url).resolve('bullmq')), 'commands')
  const inScripts = commandsOf(['src/store/lua', bullmq, join(bullmq, 'includes')])
  // Sent by ioredis and BullMQ themselves, or by a call of ours that is no script.
  const beside = ['auth', 'hello', 'client|id', 'client|setname', 'ping', 'info', 'select', 'eval', 'evalsha', 'multi', 'exec', 'discard', 'publish', 'subscribe', 'unsubscribe', 'blpop', 'bzpopmin', 'scan', 'hscan', 'xack', 'xautoclaim', 'xgroup|delconsumer', 'xinfo|consumers', 'xpending', 'xrevrange']
  expect([...redisRights].sort()).toEqual([...new Set([...inScripts, ...beside])].sort())
})

it('is what the documents say', async () => {
  const document = await readFile('docs/redis.md', 'utf8')
  expect(document).toContain(aclRule('{switchyard}'))
  for (const right of [...clusterRights, ...boardRights]) expect(document).toContain(`+${right}`)
})

it('is enough for everything that a deployment does, and nothing is refused', async () => {
  const receiver = await startReceiver()
  const hook = `whsec_${Buffer.alloc(32, 1).toString('base64')}`
  const config = parseConfig({
    redis: { url },
    board: { port: 0 },
    http: { port: 0 },
    webhooks: { endpoints: [{ name: 'billing', url: `${receiver.origin}/`, secretName: 'BILLING', events: ['started', 'completed'] }], allowNetworks: ['127.0.0.0/8'] },
  })
  const eventTypes = eventTypesOf(config)
  const consumer = new Consumer({
    deployment: 'test',
    redis: config.redis,
    git: inMemoryGitHost,
    providers: [{ provider: new InMemoryProvider('a'), limit: { sandboxes: 2 } }],
    secrets: secretsFromEnvironment([]),
    log: pino({ level: 'silent' }),
    eventTypes,
    tenants: { acme: { weight: 2, cap: 10 } },
    settings: { leaseMs: 1_500, stallCheckMs: 500, reapIntervalMs: 1_000, reapGraceMs: 1_000, stopGraceMs: 500 },
    webhooks: { ...config.webhooks, signingSecrets: () => hook },
  })
  const queue = new AgentQueue({ redis: config.redis, eventTypes })
  after(() => queue.close())
  after(() => consumer.stop())
  await consumer.start()
  const seen: string[] = []
  const subscription = subscribe(config.redis, 'test', ({ subject }) => {
    seen.push(subject)
    if (seen.length === 1) throw new Error('once more')
  }, { from: 'start', redeliverAfterMs: 500, attempts: 3, onError: () => undefined })
  after(() => subscription.close())

  const spec = { repository: 'acme/web', steps: ['true'] }
  const done = await queue.enqueue({ ...spec, promote: { to: 'done' }, tenant: 'acme', priority: 5, idempotencyKey: 'one' })
  expect((await done.result({ timeoutMs: 150_000 })).status).toBe('succeeded')
  for await (const line of done.logs({ follow: true })) expect(line.text).toBeTypeOf('string')
  const keyed = await queue.enqueueMany([1, 2, 3].map(() => ({ ...spec, steps: ['sleep 0.3'], concurrency: { key: 'prod', limit: 1 } })))
  await Promise.all(keyed.map((job) => job.result({ timeoutMs: 150_000 })))
  const delayed = await queue.enqueue({ ...spec, delay: '1h' })
  expect(await delayed.cancel('not needed')).toBe('cancelled')
  const running = await queue.enqueue({ ...spec, steps: ['sleep 60'] })
  await until(async () => (await running.status()).phase === 'steps', 'it runs')
  // As if its consumer were dead: the lock is gone, the stall check puts the job back, and it is taken over.
  await admin.del(`{switchyard}:agents:${running.jobId}:lock`)
  await until(async () => Number(await admin.hget('{switchyard}::run:' + running.jobId, 'fence')) > 1, 'it is taken over')
  expect(await running.cancel('enough')).toBe('requested')
  expect((await running.result({ timeoutMs: 150_000 })).status).toBe('cancelled')
  await until(async () => (await queue.retry(running.jobId)) === 'retried', 'it is run again')
  await queue.job(running.jobId).cancel('enough')
  await queue.job(running.jobId).result({ timeoutMs: 150_000 })
  const never = await queue.enqueue({ ...spec, providers: { allow: ['nowhere'] }, waitTimeout: '1s' })
  expect((await never.result({ timeoutMs: 150_000 })).status).toBe('failed')

  await queue.schedules.upsert('often', { every: '1s', job: spec })
  await until(async () => (await queue.schedules.get('often')).last !== null, 'a scheduled run has begun')
  await queue.schedules.pause('often')
  await queue.schedules.resume('often')
  await queue.schedules.remove('often')

  expect((await queue.providers()).length).toBe(1)
  expect((await queue.consumers()).length).toBe(1)
  expect((await queue.list({ state: 'succeeded', limit: 2 })).length).toBe(2)
  expect((await queue.events.list()).length).toBeGreaterThan(0)
  await queue.events.read({ limit: 5 })
  await queue.events.replay({ group: 'test', from: { sinceMs: 0 } })
  await until(() => seen.includes(done.jobId) && receiver.received.length > 0, 'events are told')

  const { board, close: closeBoard } = await openBoard(config, {}, { auth: false })
  after(closeBoard)
  for (const path of ['', 'api/queues?activeQueue=agents&status=completed&page=1&jobsPerPage=10', 'api/queues?activeQueue=agents&status=latest&page=1&jobsPerPage=10', 'api/queues/agents/workers']) expect((await fetch(board.url + path)).status).toBeLessThan(500)
  const { key } = await new ApiKeys(queue).create({ name: 'test', scope: 'admin' })
  const api = await openApi(config)
  after(api.close)
  for (const path of ['v1/jobs', `v1/jobs/${done.jobId}`, `v1/jobs/${done.jobId}/logs`, 'v1/providers', 'v1/consumers', 'v1/schedules', 'v1/keys', 'v1/audit']) {
    expect((await fetch(new URL(path, api.url), { headers: { authorization: `Bearer ${key}` } })).status, path).toBeLessThan(500)
  }
  const checks = new Checklist({ kind: 'redis', name: 'redis' }, new SecretPatterns(), new AbortController().signal)
  await checkRedis(checks, config.redis, '{switchyard}', { timeoutMs: 10_000 })
  expect(checks.results.map(({ outcome, detail }) => [outcome, detail])).toEqual(checks.results.map(({ detail }) => ['ok', detail]))
  await consumer.stop()
  expect(await admin.call('ACL', 'LOG')).toEqual([])
}, 300_000)

it('a right that is missing is named, with the way to give it, before anything is done', async () => {
  const keys = new Keys('{less}')
  await admin.call('ACL', 'SETUSER', 'less', 'on', '>less-password', ...aclRule(keys.prefix).split(' '), '-xautoclaim', '-hget', '-zadd')
  const config = { url: `redis://less:less-password@127.0.0.1:${server.port ?? 0}` }
  const says = /the user may not run HGET, XAUTOCLAIM, ZADD\); give it the rights by "\+hget \+xautoclaim \+zadd" of its ACL/
  const refused = async (given: { url: string }, prefix: string) => {
    const queue = new AgentQueue({ redis: given, prefix })
    after(() => queue.close())
    return await Promise.all([queue.enqueue({ repository: 'acme/web', steps: ['true'] }), assertRights(given, new Keys(prefix))].map((call) => Promise.resolve<unknown>(call).then(() => undefined, (error: unknown) => error)))
  }
  const consumer = new Consumer({ deployment: 'test', redis: config, queue: { prefix: keys.prefix }, git: inMemoryGitHost, providers: [{ provider: new InMemoryProvider('a'), limit: { sandboxes: 1 } }], secrets: secretsFromEnvironment([]), log: pino({ level: 'silent' }) })
  after(() => consumer.stop())
  const starts = await Promise.all([consumer.start(), openApi(parseConfig({ redis: config, queue: { prefix: keys.prefix }, http: { port: 0 } }))].map((call) => Promise.resolve<unknown>(call).then(() => undefined, (error: unknown) => error)))
  for (const error of [...(await refused(config, keys.prefix)), ...starts]) {
    expect(error).toBeInstanceOf(RedisUnavailableError)
    expect(String(error)).toMatch(says)
  }
  const checks = new Checklist({ kind: 'redis', name: 'redis' }, new SecretPatterns(), new AbortController().signal)
  await checkRedis(checks, config, keys.prefix, { timeoutMs: 10_000 })
  expect(checks.results.filter(({ outcome }) => outcome === 'failed').map(({ detail, mend }) => `${detail}; ${mend ?? ''}`).join('\n')).toMatch(says)
  await admin.call('ACL', 'SETUSER', 'elsewhere', 'on', '>less-password', ...aclRule('{other}').split(' '))
  for (const error of await refused({ url: config.url.replace('less:', 'elsewhere:') }, keys.prefix)) expect(String(error)).toMatch(/on the deployment’s keys.*"~PREFIX:\*"/)
  expect(await admin.keys('{less}*')).toEqual([])
})
