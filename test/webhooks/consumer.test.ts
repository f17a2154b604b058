import { pino } from 'pino'
import { Webhook } from 'standardwebhooks'
import { describe, expect, it } from 'vitest'
import { inMemoryGitHost } from '../../bench/in-memory/git-host.js'
import { InMemoryProvider } from '../../bench/in-memory/provider.js'
import { eventTypesOf } from '../../src/config/event-types.js'
import { localWebhooks } from '../../src/cli/local-stack.js'
import { addressesAllowed } from '../../src/webhooks/addresses.js'
import { parseConfig } from '../../src/config/load.js'
import { Consumer, secretsFromEnvironment } from '../../src/consumers/index.js'
import { eventKinds } from '../../src/events/index.js'
import { AgentQueue } from '../../src/producers/index.js'
import { startBoard } from '../../src/monitor/board.js'
import { createRedis, whenReady } from '../../src/store/index.js'
import { after, until, useRedis } from '../store/fixture.js'
import { startReceiver } from './receiver.js'

const redis = useRedis()
const secret = `whsec_${Buffer.alloc(32, 1).toString('base64')}`

function start(config: ReturnType<typeof parseConfig>): { consumer: Consumer; queue: AgentQueue } {
  const eventTypes = eventTypesOf(config)
  const consumer = new Consumer({
    deployment: 'test',
    redis: redis.config,
    git: inMemoryGitHost,
    providers: [{ provider: new InMemoryProvider('a'), limit: { sandboxes: 5 } }],
    secrets: secretsFromEnvironment([]),
    log: pino({ level: 'silent' }),
    eventTypes,
    webhooks: { ...config.webhooks, signingSecrets: (name) => ({ BILLING: secret, HOOK: secret })[name] },
  })
  const queue = new AgentQueue({ redis: redis.config, eventTypes })
  after(() => queue.close())
  after(() => consumer.stop())
  return { consumer, queue }
}

describe('a consumer', () => {
  it('delivers the whole life of a job to its own webhook and to the deployment’s receivers, in order and signed', async () => {
    const [own, billing] = [await startReceiver(), await startReceiver()]
    const { consumer, queue } = start(parseConfig({ webhooks: { endpoints: [{ name: 'billing', url: `${billing.origin}/`, secretName: 'BILLING', events: ['started', 'completed'] }], secrets: ['HOOK'], allowNetworks: ['127.0.0.0/8'] } }))
    await consumer.start()
    await until(async () => (await queue.events.list()).length > 0, 'the receiver’s group is there')
    const job = await queue.enqueue({ repository: 'acme/web', steps: ['true', 'true'], promote: { to: 'done' }, webhooks: [{ url: `${own.origin}/jobs`, secretName: 'HOOK', events: [...eventKinds] }] })
    expect((await job.result({ timeoutMs: 150_000 })).status).toBe('succeeded')
    await until(() => own.received.length >= 7 && billing.received.length === 2, 'all are delivered')
    const types = ({ received }: typeof own) => received.map(({ body, headers }) => (new Webhook(secret).verify(body, headers as Record<string, string>) as { type: string }).type.replace('dev.switchyard.job.', ''))
    expect(types(own)).toEqual(['enqueued', 'started', 'step.finished', 'checkpointed', 'step.finished', 'promoted', 'succeeded'])
    expect(types(billing)).toEqual(['started', 'succeeded'])
  })

  it('delivers the end of a job that never ran', async () => {
    const own = await startReceiver()
    const { consumer, queue } = start(parseConfig({ webhooks: { secrets: ['HOOK'], allowNetworks: ['127.0.0.1'] } }))
    const hook = { url: own.origin, secretName: 'HOOK' }
    const job = await queue.enqueue({ repository: 'acme/web', steps: ['true'], webhooks: [hook] })
    await job.cancel('not needed')
    await queue.enqueue({ repository: 'acme/web', steps: ['true'], providers: { allow: ['nowhere'] }, waitTimeout: '1s', webhooks: [hook] })
    await consumer.start()
    await until(() => own.received.length === 2, 'both are delivered', 60_000)
    expect(own.received.map(({ body }) => (JSON.parse(body) as { type: string }).type).sort()).toEqual(['dev.switchyard.job.cancelled', 'dev.switchyard.job.failed'])
  })

  it('refuses a webhook’s configuration that can’t work before it begins', async () => {
    const config = parseConfig({})
    const { consumer } = start({ ...config, webhooks: { ...config.webhooks, allowNetworks: ['everything'] } })
    await expect(consumer.start()).rejects.toThrow(/allowNetworks.*is no network/)
    expect(() => parseConfig({ webhooks: { endpoints: [{ name: 'a', url: 'ftp://x/', secretName: 'A' }] } })).toThrow(/webhooks.endpoints\[0\].url/)
  })
})

describe('a stack of dev', () => {
  it('calls receivers on this machine, and lets jobs sign with what is named for that', () => {
    const { webhooks } = parseConfig({ webhooks: localWebhooks({ MY_WEBHOOK_SECRET: 'x', WEBHOOK_SECRET: 'x', ANTHROPIC_API_KEY: 'x' }) })
    expect(webhooks.secrets).toEqual(['MY_WEBHOOK_SECRET', 'WEBHOOK_SECRET'])
    expect(['127.0.0.1', '::1', '10.0.0.1'].map(addressesAllowed(webhooks.allowNetworks))).toEqual([true, true, false])
  })
})

describe('the board', () => {
  it('shows what was delivered and what is dead, and gives that back', async () => {
    let broken = true
    const own = await startReceiver((_request, response) => void response.writeHead(broken ? 500 : 200).end())
    const good = await startReceiver()
    const { consumer, queue } = start({ ...parseConfig({ webhooks: { secrets: ['HOOK'], allowNetworks: ['127.0.0.1'] } }) })
    await consumer.start()
    const job = await queue.enqueue({ repository: 'acme/web', steps: ['true'], push: false, webhooks: [{ url: `${good.origin}/secret-path`, secretName: 'HOOK' }, { url: `${own.origin}/secret-path`, secretName: 'HOOK' }] })
    await job.result({ timeoutMs: 150_000 })
    await until(() => good.received.length === 1 && own.received.length === 1, 'one is delivered, one failed')
    const connection = createRedis(redis.config, 'producer')
    after(() => connection.disconnect())
    await whenReady(connection, redis.config)
    const board = await startBoard({ redis: connection, queues: [], host: '127.0.0.1', port: 0, credentials: 'none', writable: true, webhooks: { prefix: redis.keys.prefix } })
    after(() => board.close())
    const page = async (status: string) => ((await (await fetch(`${board.url}api/queues?activeQueue=~webhooks&status=${status}&page=1&jobsPerPage=10`)).json()) as { queues: { name: string; counts: Record<string, number>; jobs: { id: string; name: string; failedReason: string; data: object }[] }[] }).queues[0]!
    expect((await page('completed')).jobs).toMatchObject([{ name: 'webhook-of-jobs:0', data: { id: `${job.jobId}.1` } }])
    // It is due again for a day; here it dies at once.
    const client = redis.connect()
    const [, due = '', state = ''] = redis.keys.eventGroup('webhook-of-jobs:1')
    const [entry = ''] = await until(async () => ((await client.zcard(due)) === 1 ? client.zrange(due, '0', '0') : undefined), 'it is due again')
    expect((await page('delayed')).jobs).toMatchObject([{ name: 'webhook-of-jobs:1', data: { data: { jobId: job.jobId } } }])
    await client.hset(state, entry, `24 ${job.jobId}`)
    await client.zadd(due, 0, entry)
    await until(async () => (await page('failed')).jobs.length === 1, 'it is dead')
    const failed = await page('failed')
    expect(failed.counts).toMatchObject({ failed: 1, completed: 1, delayed: 0 })
    expect(JSON.stringify([failed, await page('completed')])).not.toContain('secret-path')
    broken = false
    const retried = await fetch(`${board.url}api/queues/~webhooks/${encodeURIComponent(failed.jobs[0]!.id)}/retry`, { method: 'PUT', headers: { 'sec-fetch-site': 'same-origin' } })
    expect(retried.ok, await retried.text()).toBe(true)
    await until(() => own.received.length >= 2, 'it is delivered')
    await until(async () => (await page('failed')).counts['failed'] === 0, 'nothing is dead')
  })
})
