import { pino } from 'pino'
import { Webhook } from 'standardwebhooks'
import { describe, expect, it } from 'vitest'
import { checkWebhooks } from '../../src/cli/doctor/check-webhooks.js'
import { Checklist } from '../../src/cli/doctor/checklist.js'
import { groupsTable } from '../../src/cli/event-report.js'
import { SecretPatterns } from '../../src/consumers/output/secret-patterns.js'
import { type CompletionEvent, completionEvent, EventGroups, subscribe } from '../../src/events/index.js'
import { storedEvent } from '../../src/events/completion-event.js'
import { tellingOf } from '../../src/events/told-events.js'
import { hooksFor, type JobWebhook } from '../../src/job/event-kinds.js'
import { WebhookDeliveries } from '../../src/monitor/webhook-deliveries.js'
import { WebhooksAdapter } from '../../src/monitor/webhooks-adapter.js'
import { DeliveryLog, RunStore } from '../../src/store/index.js'
import { checkWebhookSettings, startWebhooks, type Webhooks, type WebhooksOptions } from '../../src/webhooks/index.js'
import { after, random, record, result, until, useRedis } from '../store/fixture.js'
import { hold, startReceiver } from './receiver.js'

const redis = useRedis()
const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYqr'
const local = ['127.0.0.1']

function deliver(options: Partial<WebhooksOptions> = {}): { webhooks: Webhooks; logged: string[] } {
  const logged: string[] = []
  const log = pino({ level: 'trace' }, { write: (line: string) => void logged.push(line) })
  const webhooks = startWebhooks({ redis: redis.config, signingSecrets: () => secret, secrets: ['HOOK'], allowNetworks: local, log, backoffMs: () => 5, ...options })
  after(() => webhooks.close())
  return { webhooks, logged }
}

/** A job whose steps are told one after the other, and then its end. */
async function tellJob(jobId: string, webhooks: JobWebhook[], steps = 0, metadata: Record<string, string> = {}): Promise<void> {
  const asked = { webhooks }
  const store = new RunStore(redis.client, redis.keys)
  let run = record(jobId, { asked })
  const telling = tellingOf(run, { source: '/test', everywhere: [], now: Date.now })
  const acquired = await store.acquire(jobId, { holder: 'a', fresh: run })
  if (acquired.kind !== 'acquired') throw new Error('it has ended')
  for (let index = 0; index < steps; index++) {
    run = { ...run, steps: [...run.steps, { name: `step ${index}`, exitCode: 0, durationMs: 1, stdoutTail: '', stderrTail: '' }] }
    await store.save(jobId, acquired.fence, run, undefined, telling)
  }
  const end = result(jobId, { metadata })
  await store.finish(jobId, acquired.fence, run, end, storedEvent(completionEvent(end), hooksFor('completed', asked)), [], telling)
}

const groups = () => {
  const client = redis.connect()
  return new EventGroups(redis.keys, (work) => work(client))
}
const hook = (url: string, more: Partial<JobWebhook> = {}): JobWebhook => ({ url, secretName: 'HOOK', ...more })
const dead = async (group = 'webhook-of-jobs:0') => ((await groups().list()).some((state) => state.group === group) ? groups().dead({ group }) : [])

describe('a webhook', () => {
  it('of a job is told of its end, signed, with the event as its body', async () => {
    const receiver = await startReceiver()
    deliver()
    await tellJob('job', [hook(`${receiver.origin}/hooks?token=t`)], 2, { text: 'häßlich ✓' })
    await until(() => receiver.received.length === 1, 'it is delivered')
    const [{ body, headers, path }] = receiver.received as [(typeof receiver.received)[0]]
    expect(path).toBe('/hooks?token=t')
    expect(headers['content-type']).toBe('application/cloudevents+json; charset=utf-8')
    expect(headers['webhook-id']).toBe('job.1')
    const event = new Webhook(secret).verify(body, headers as Record<string, string>) as CompletionEvent
    expect(event).toMatchObject({ specversion: '1.0', type: 'dev.switchyard.job.succeeded', subject: 'job', data: { metadata: { text: 'häßlich ✓' } } })
    expect(event).not.toHaveProperty('hooks')
    // It is noted once the receiver has answered.
    const latest = async () => await new DeliveryLog(redis.client, redis.keys).latest(10)
    await until(async () => (await latest()).length > 0, 'it is noted')
    expect(await latest()).toMatchObject([{ group: 'webhook-of-jobs:0', event: 'job.1', status: 204, attempt: 1, to: receiver.origin, error: '' }])
  })

  it('of a deployment is told of every job from when it is first there; several of one job each of what they ask for', async () => {
    const [first, second, all] = [await startReceiver(), await startReceiver(), await startReceiver()]
    await tellJob('before', [])
    deliver({ endpoints: [{ name: 'all', url: all.origin, secretName: 'ALL' }] })
    await until(async () => (await groups().list()).some(({ group }) => group === 'webhook:all'), 'it is there')
    await tellJob('job', [hook(first.origin), hook(second.origin, { events: ['step.finished'] })], 2)
    await until(() => first.received.length === 1 && second.received.length === 2 && all.received.length === 1, 'all are delivered')
    expect(all.received[0]?.body).toContain('"subject":"job"')
    expect(second.received.map(({ headers }) => headers['webhook-id'])).toEqual(['job.1.step.1.0', 'job.1.step.1.1'])
  })

  it('that answers wrongly is tried again: by an error, a redirect, too late, by a reset; its answer is not read', async () => {
    let written = 0
    let tries = 0
    const elsewhere = await startReceiver()
    const chunk = Buffer.alloc(64 * 1024)
    const receiver = await startReceiver((_request, response) => {
      tries += 1
      if (tries === 1) response.writeHead(500).end('no')
      if (tries === 2) response.writeHead(307, { location: elsewhere.origin }).end()
      if (tries === 3) hold(response)
      if (tries === 4) {
        hold(response)
        response.destroy()
      }
      if (tries === 5) response.writeHead(200, { 'content-length': '100' }).write('x', () => response.destroy())
      if (tries === 6) {
        response.writeHead(500)
        // A gigabyte, as far as it is taken.
        const write = () => {
          while (written < 2 ** 30 && !response.destroyed) {
            written += chunk.length
            if (!response.write(chunk)) {
              response.once('drain', write)
              return
            }
          }
        }
        write()
      }
    })
    deliver({ timeoutMs: 2_000 })
    await tellJob('job', [hook(receiver.origin)])
    await until(async () => (await new DeliveryLog(redis.client, redis.keys).latest(20)).some(({ error }) => error === ''), 'it is delivered')
    const log = (await new DeliveryLog(redis.client, redis.keys).latest(20)).reverse()
    const host = receiver.origin
    expect(log.slice(0, 3).map(({ error }) => error)).toEqual([`${host} answered 500`, `${host} answered 307, a redirect, which is not followed; give the URL that it leads to`, `${host} did not answer within 2 s`])
    expect(log[3]?.error).toContain('could not be reached')
    // A success is one with its first line, whatever becomes of the rest.
    expect(log[4]).toMatchObject({ status: 200, error: '' })
    expect(elsewhere.received).toEqual([])
    expect(new Set(receiver.received.map(({ headers }) => headers['webhook-id']))).toEqual(new Set(['job.1']))

    tries = 5
    await tellJob('large', [hook(receiver.origin)])
    await until(async () => (await new DeliveryLog(redis.client, redis.keys).latest(20)).some(({ event, error }) => event === 'large.1' && error === ''), 'the next is delivered')
    expect(written).toBeLessThan(64 * 2 ** 20)
  })

  it('that asks for time gets it', async () => {
    const receiver = await startReceiver((_request, response) => void response.writeHead(429, { 'retry-after': '3600' }).end())
    deliver()
    await tellJob('job', [hook(receiver.origin)])
    const [, due = ''] = redis.keys.eventGroup('webhook-of-jobs:0')
    const client = redis.connect()
    await until(async () => Number((await client.zrange(due, '0', '0', 'WITHSCORES'))[1] ?? 0) - Date.now() > 3_000_000, 'it is due in an hour')
    expect(receiver.received.length).toBe(1)
  })

  it('of one job that answers slowly or never holds up no other for long, and what waits behind it loses no attempt', async () => {
    let [most, atOnce, slow] = [0, 0, false]
    const never = await startReceiver((_request, response) => {
      hold(response)
      atOnce++
      if (slow) most = Math.max(most, atOnce)
      response.on('close', () => atOnce--)
    })
    const other = await startReceiver()
    deliver({ concurrency: 4, timeoutMs: 1_200, backoffMs: () => 600_000 })
    for (let index = 0; index < 6; index++) await tellJob(`slow-${index}`, [hook(never.origin)])
    const log = async () => await new DeliveryLog(redis.client, redis.keys).latest(100)
    await until(async () => (await log()).length >= 4 && atOnce <= 1, 'the first ones are given up')
    slow = true
    await tellJob('other', [hook(other.origin)])
    await until(() => other.received.length === 1, 'it is delivered')
    await until(async () => new Set((await log()).map(({ event }) => event)).size === 7, 'each is tried')
    expect(most).toBe(1)
    expect((await log()).map(({ attempt }) => attempt)).toEqual(Array.from({ length: 7 }, () => 1))
  })

  it('is tried for a day, and then its event is dead, which lets the next one go; given back it comes again', async () => {
    let broken = true
    const receiver = await startReceiver((request, response) => void response.writeHead(broken && request.body.includes('step.finished') ? 503 : 200).end())
    // The real schedule.
    deliver({ backoffMs: undefined })
    await tellJob('job', [hook(receiver.origin, { events: ['step.finished', 'completed'] })], 1)
    const client = redis.connect()
    const [account = '', due = ''] = redis.keys.eventGroup('webhook-of-jobs:0')
    let waitedMs = 0
    for (let attempt = 1; attempt < 24; attempt++) {
      await until(() => receiver.received.length === attempt, `attempt ${attempt} was made`)
      const expectedMs = Math.min(7_200_000, 5_000 * 2 ** (attempt - 1))
      // While it is in hand it is due when its lease ends.
      const inMs = await until(async () => {
        const [, clock = '0'] = ((await client.hget(account, 'clock')) ?? '').split(' ')
        const wait = Number((await client.zrange(due, '0', '0', 'WITHSCORES'))[1] ?? 0) - Number(clock)
        return Math.abs(wait - expectedMs) <= 1_000 + expectedMs / 10 ? wait : undefined
      }, `attempt ${attempt} has failed`)
      const [id = ''] = await client.zrange(due, '0', '0')
      waitedMs += inMs
      // Time passes.
      await client.zadd(due, 0, id)
      await client.xadd(redis.keys.events(), '*', 'id', `wake${attempt}`, 'event', '{}')
    }
    await until(() => receiver.received.length === 25, 'the last attempt, and the next event')
    expect(receiver.received.map(({ headers }) => headers['webhook-id']).slice(-2)).toEqual(['job.1.step.1.0', 'job.1'])
    expect(waitedMs).toBeGreaterThan(23.9 * 3_600_000)
    const letters = await dead()
    expect(letters).toMatchObject([{ attempts: 24, error: `${receiver.origin} answered 503`, event: { id: 'job.1.step.1.0' } }])
    broken = false
    expect(await groups().redeliver({ group: 'webhook-of-jobs:0', ids: 'all' })).toBe(1)
    await until(() => receiver.received.length === 26, 'it is delivered')
    expect(receiver.received[25]?.headers['webhook-id']).toBe('job.1.step.1.0')
    expect(await dead()).toEqual([])
  }, 120_000)

  it('comes in order per job, whole, whatever fails, with several deliverers that come and go; what is given up holds up nothing', async () => {
    for (const seed of [1, 2, 3]) {
      const next = random(seed)
      const jobs = Array.from({ length: 12 }, (_job, index) => `s${seed}j${index}`)
      const poisoned = new Set(jobs.slice(0, 3).map((jobId) => `${jobId}.1.step.1.1`))
      const accepted = new Map<string, string[]>(jobs.map((jobId) => [jobId, []]))
      const receiver = await startReceiver(({ headers, body }, response) => {
        const id = String(headers['webhook-id'])
        new Webhook(secret).verify(body, headers as Record<string, string>)
        if (poisoned.has(id)) response.writeHead(500).end()
        else if (next() < 0.1) response.writeHead(500).end()
        else if (next() < 0.05) response.writeHead(429, { 'retry-after': '0' }).end()
        else if (next() < 0.03) {
          hold(response)
          response.destroy()
        } else if (next() < 0.02) hold(response)
        else accepted.get(id.split('.')[0] ?? '')?.push(id)
      })
      const options = { timeoutMs: 300, backoffMs: () => 1 + Math.floor(next() * 5) }
      let deliverers = [deliver(options), deliver(options)]
      const telling = Promise.all(jobs.map((jobId) => tellJob(jobId, [hook(receiver.origin, { events: ['step.finished', 'completed'] })], 4)))
      for (let turn = 0; turn < 2; turn++) {
        const [leaving, ...staying] = deliverers
        deliverers = [...staying, deliver(options)]
        await leaving?.webhooks.close()
      }
      await telling
      const wanted = (jobId: string) => [...Array(4).keys()].map((index) => `${jobId}.1.step.1.${index}`).concat(`${jobId}.1`).filter((id) => !poisoned.has(id))
      const seen = (jobId: string) => (accepted.get(jobId) ?? []).filter((id, index, all) => all.indexOf(id) === index)
      await until(() => jobs.every((jobId) => seen(jobId).length === wanted(jobId).length), `seed ${seed}: all are delivered`, 60_000)
      for (const jobId of jobs) expect(seen(jobId), `seed ${seed}`).toEqual(wanted(jobId))
      await until(async () => (await dead()).length === poisoned.size, `seed ${seed}: the others are dead`)
      expect(new Set((await dead()).map(({ event }) => event?.id))).toEqual(poisoned)
      await groups().redeliver({ group: 'webhook-of-jobs:0', ids: 'all' })
      poisoned.clear()
      await until(async () => (await groups().list()).every(({ pending, unread, deadLetters }) => pending + unread + deadLetters === 0), `seed ${seed}: nothing is left`)
      await Promise.all(deliverers.map(({ webhooks }) => webhooks.close()))
      await redis.client.flushall()
    }
  }, 180_000)
})

describe('a webhook that is gone', () => {
  const state = async (name: string) => (await groups().list()).find(({ group }) => group === `webhook:${name}`)
  /** Which jobs' ends arrived. */
  const ends = (receiver: Awaited<ReturnType<typeof startReceiver>>) => receiver.received.map(({ headers }) => headers['webhook-id'])

  it('is sent nothing more, says so everywhere, and goes on from where it stood when it is resumed', async () => {
    let gone = true
    const receiver = await startReceiver((_request, response) => void response.writeHead(gone ? 410 : 204).end())
    const other = await startReceiver()
    const endpoints = [{ name: 'gone', url: `${receiver.origin}/?token=t`, secretName: 'ALL' }, { name: 'other', url: other.origin, secretName: 'ALL' }]
    const { logged } = deliver({ endpoints, concurrency: 1 })
    await until(async () => (await groups().list()).length === 2, 'they are there')
    await tellJob('first', [])
    const stopped = await until(async () => (await state('gone'))?.stopped, 'it is stopped')
    expect(stopped).toEqual({ why: `${receiver.origin} answered 410 (Gone)`, atMs: expect.any(Number) as number })
    for (const jobId of ['second', 'third']) await tellJob(jobId, [])
    await until(() => other.received.length === 3, 'the other one has all')
    expect(ends(receiver)).toEqual(['first.1'])
    expect(await state('gone')).toMatchObject({ unread: 2, pending: 1, deadLetters: 0 })
    expect(logged.join('')).toContain('wants no more events (410 Gone)')
    expect(groupsTable(await groups().list())).toContain(`webhook:gone is stopped since ${new Date(stopped.atMs).toISOString().slice(0, 19)}Z: ${receiver.origin} answered 410 (Gone); mend the receiver, then: switchyard events resume --group webhook:gone`)
    const board = new WebhooksAdapter(new WebhookDeliveries(redis.client, '{switchyard}'), { readOnlyMode: false, description: '' })
    expect(await board.isPaused()).toBe(true)
    expect((await board.getJobs(['delayed'])).map((job) => job.toJSON().failedReason)).toEqual([expect.stringMatching(/^stopped: .* answered 410/)])
    const rows = new Checklist({ kind: 'webhooks', name: 'webhooks' }, new SecretPatterns(), new AbortController().signal)
    await checkWebhooks(rows, { redis: redis.config, prefix: '{switchyard}', endpoints: checkWebhookSettings({ endpoints }).endpoints }, 5_000)
    expect(rows.results).toMatchObject([{ check: 'receivers', outcome: 'warning', detail: expect.stringContaining('gone is stopped: ') as string }])
    // No page, log or state tells the URL, which may hold what only the receiver should know.
    expect(logged.join('') + JSON.stringify(await groups().list())).not.toContain('token=t')
    gone = false
    expect(await groups().resume({ group: 'webhook:gone' })).toBe(true)
    expect(await groups().resume({ group: 'webhook:gone' })).toBe(false)
    await until(() => receiver.received.length >= 4, 'all that it missed')
    expect(ends(receiver).slice(1).sort()).toEqual(['first.1', 'second.1', 'third.1'])
    expect(await board.isPaused()).toBe(false)
  })

  it('gets its events at another URL at once, also while a process still has the old one', async () => {
    const old = await startReceiver((_request, response) => void response.writeHead(410).end())
    const moved = await startReceiver()
    const at = (url: string) => deliver({ endpoints: [{ name: 'one', url, secretName: 'ALL' }], concurrency: 1 })
    const before = at(old.origin)
    await until(async () => (await groups().list()).length === 1, 'it is there')
    await tellJob('first', [])
    await until(async () => (await state('one'))?.stopped, 'it is stopped')
    await before.webhooks.close()
    at(moved.origin)
    await until(() => moved.received.length === 1, 'it is delivered')
    expect((await state('one'))?.stopped).toBeNull()
  })

  it('of a job gives its events up at once, and holds up nothing', async () => {
    const receiver = await startReceiver((_request, response) => void response.writeHead(410).end())
    const other = await startReceiver()
    deliver({ backoffMs: undefined })
    await tellJob('job', [hook(receiver.origin, { events: ['step.finished', 'completed'] })], 1)
    await until(async () => (await dead()).length === 2, 'both are dead')
    expect(await dead()).toMatchObject([{ attempts: 1, error: `${receiver.origin} answered 410 (Gone)` }, { attempts: 1 }])
    await tellJob('next', [hook(other.origin)])
    await until(() => other.received.length === 1, 'another job’s is delivered')
  })

  it('and is configured no more is forgotten, but not while anybody delivers to it, nor a subscriber of one’s own', async () => {
    const receiver = await startReceiver()
    const endpoint = (name: string) => ({ name, url: receiver.origin, secretName: 'ALL' })
    const own = subscribe(redis.config, 'billing', () => undefined)
    const first = deliver({ endpoints: [endpoint('removed'), endpoint('kept')] })
    deliver({ endpoints: [endpoint('elsewhere')] })
    await until(async () => (await groups().list()).length === 4, 'they are there')
    await Promise.all([first.webhooks.close(), own.close()])
    // As if nobody had read it for half a minute.
    const [account = ''] = redis.keys.eventGroup('webhook:removed')
    await redis.client.hset(account, 'clock', `${Date.now() - 30_000} ${Date.now() - 30_000}`)
    const { logged } = deliver({ endpoints: [endpoint('kept')], forgetAfterMs: 20_000 })
    await until(async () => !(await groups().list()).some(({ group }) => group === 'webhook:removed'), 'it is forgotten')
    await until(() => logged.join('').includes('not configured any more'), 'that is said')
    expect((await groups().list()).map(({ group }) => group)).toEqual(['billing', 'webhook:elsewhere', 'webhook:kept'])
    // Nothing of it is left.
    expect((await redis.client.keys('*')).filter((name) => name.includes('webhook:removed'))).toEqual([])
    await tellJob('job', [])
    await until(() => receiver.received.length === 2, 'the others have their events')
  })
})

describe('a webhook’s address', () => {
  it('is refused when it is not public, in whatever way it is written, and nothing is called', async () => {
    const receiver = await startReceiver()
    const { port } = receiver
    const resolve = async (hostname: string) => (hostname === 'both.example' ? [{ address: '93.184.216.34', family: 4 }, { address: '127.0.0.1', family: 4 }] : [{ address: '127.0.0.1', family: 4 }])
    deliver({ allowNetworks: [], resolve, backoffMs: () => 1 })
    const hosts = ['127.0.0.1', 'localhost', 'inside.example', 'both.example', '[::1]', '[::ffff:127.0.0.1]', '2130706433', '0x7f.1', '127.0.0.1.', '0', '[::]', '169.254.169.254', '10.0.0.1']
    for (const [index, host] of hosts.entries()) await tellJob(`job${index}`, [hook(`http://${host}:${port}/`)])
    await until(async () => (await dead()).length === hosts.length, 'all are dead', 60_000)
    for (const { error, event } of await dead()) expect(error, event?.id).toMatch(/was not called: .* is no public address/)
    expect(receiver.received).toEqual([])
  }, 90_000)

  it('is the one that is called: a name that leads elsewhere the next time is looked at again', async () => {
    const outside = await startReceiver((_request, response) => void response.writeHead(200, { connection: 'close' }).end(), { host: '127.0.0.2' })
    const inside = await startReceiver(undefined, { host: '127.0.0.1', port: outside.port })
    let asked = 0
    const resolve = async () => [{ address: asked++ === 0 ? '127.0.0.2' : '127.0.0.1', family: 4 }]
    deliver({ allowNetworks: ['127.0.0.2/32'], resolve })
    const url = `http://rebinding.example:${outside.port}/`
    await tellJob('first', [hook(url)])
    await until(() => outside.received.length === 1, 'the first is delivered')
    await tellJob('second', [hook(url)])
    await until(async () => (await dead()).length === 1, 'the second is refused')
    expect(inside.received).toEqual([])
    expect(asked).toBeGreaterThan(1)
  }, 60_000)
})

describe('a signing secret', () => {
  it('is nowhere but where it signs', async () => {
    const canary = Buffer.from('canary-canary-canary-canary').toString('base64')
    const receiver = await startReceiver((_request, response) => void response.writeHead(500).end())
    const { logged } = deliver({ signingSecrets: (name) => (name === 'HOOK' ? `whsec_${canary}` : name === 'BROKEN' ? canary.slice(0, 20) : undefined), secrets: ['HOOK', 'BROKEN'] })
    await tellJob('job', [hook(receiver.origin), hook(receiver.origin, { secretName: 'BROKEN' })])
    await until(async () => (await dead()).length === 1 && (await dead('webhook-of-jobs:1')).length === 1, 'both are dead')
    const client = redis.connect()
    let held = ''
    for (const key of await client.keys('*')) held += (await client.dumpBuffer(key)).toString('latin1')
    for (const text of [held, logged.join(''), JSON.stringify([await dead(), await dead('webhook-of-jobs:1')])]) for (const part of [canary, canary.slice(0, 20), 'canary-canary']) expect(text).not.toContain(part)
    for (const { headers, body } of receiver.received) expect(JSON.stringify(headers) + body).not.toContain('canary-canary')
  })

  it('that is missing, or not for jobs, is said by its name, and its event waits for it', async () => {
    const receiver = await startReceiver()
    const values = new Map<string, string>([['OTHER', secret]])
    deliver({ signingSecrets: (name) => values.get(name), secrets: ['HOOK'] })
    await tellJob('job', [hook(receiver.origin), hook(receiver.origin, { secretName: 'OTHER' })])
    await until(async () => (await dead()).length === 1 && (await dead('webhook-of-jobs:1')).length === 1, 'both are dead')
    expect((await dead())[0]?.error).toMatch(/signing secret HOOK: has no value/)
    expect((await dead('webhook-of-jobs:1'))[0]?.error).toMatch(/signing secret OTHER: has no value/)
    values.set('HOOK', secret)
    await groups().redeliver({ group: 'webhook-of-jobs:0', ids: 'all' })
    await until(() => receiver.received.length === 1, 'it is delivered')
  })
})
