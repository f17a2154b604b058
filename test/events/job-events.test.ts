import { pino } from 'pino'
import { describe, expect, it } from 'vitest'
import { inMemoryGitHost } from '../../bench/in-memory/git-host.js'
import { InMemoryProvider } from '../../bench/in-memory/provider.js'
import { Consumer, secretsFromEnvironment } from '../../src/consumers/index.js'
import { EventGroups, type EventKind, eventKinds, type JobEvent, jobEventSchema, subscribe } from '../../src/events/index.js'
import { parseQueuedSpec, parseJobSpec, shortSpec, type JobSpecInput } from '../../src/job/spec.js'
import { AgentQueue, type AgentQueueOptions } from '../../src/producers/index.js'
import { after, until, useRedis } from '../store/fixture.js'

const redis = useRedis()
const early = eventKinds.filter((kind) => kind !== 'completed')
const trivial: JobSpecInput = { repository: 'acme/web', push: false, steps: ['true'] }

function openQueue(options: Partial<AgentQueueOptions> = {}): AgentQueue {
  const queue = new AgentQueue({ redis: redis.config, ...options })
  after(() => queue.close())
  return queue
}

async function startConsumer(providers: readonly InMemoryProvider[], eventTypes?: readonly EventKind[]): Promise<Consumer> {
  const consumer = new Consumer({
    deployment: 'test',
    redis: redis.config,
    git: inMemoryGitHost,
    providers: providers.map((provider) => ({ provider, limit: { sandboxes: 10 } })),
    secrets: secretsFromEnvironment([]),
    log: pino({ level: 'silent' }),
    eventTypes,
    // Looked at soon, so that the place of a dead sandbox is no reason to wait.
    settings: { reapIntervalMs: 1_000, leaseMs: 2_000, stallCheckMs: 500 },
  })
  after(() => consumer.stop())
  await consumer.start()
  return consumer
}

async function toldOf(jobId: string): Promise<JobEvent[]> {
  const client = redis.connect()
  const kept = await new EventGroups(redis.keys, (work) => work(client)).read({ types: eventKinds, limit: 1_000 })
  return kept.flatMap(({ event }) => (event?.subject === jobId ? [event] : []))
}

const short = (events: readonly JobEvent[]) => events.map(({ type }) => type.replace('dev.switchyard.job.', ''))

describe('the events of a job', () => {
  it('tell its whole life where it asks for them: its move and its promotion too, each as its schema says', async () => {
    const providers = [new InMemoryProvider('a'), new InMemoryProvider('b')]
    await startConsumer(providers)
    const queue = openQueue()
    const spec: JobSpecInput = { repository: 'acme/web', steps: ['true', { name: 'long', run: 'sleep 1.5' }], promote: { to: 'done' }, events: early, providers: { prefer: ['a'] }, tenant: 'acme', metadata: { issue: 7 } }
    const job = await queue.enqueue(spec)
    await until(async () => short(await toldOf(job.jobId)).includes('checkpointed') && providers[0]!.running > 0, 'its second step runs')
    providers[0]!.die('sandbox-lost')
    expect((await job.result({ timeoutMs: 150_000 })).status).toBe('succeeded')

    const told = await toldOf(job.jobId)
    for (const event of told) expect(jobEventSchema.safeParse(event).error).toBeUndefined()
    expect(new Set(told.map(({ id }) => id)).size).toBe(told.length)
    const names = short(told)
    expect(names.filter((name) => name !== 'checkpointed')).toEqual(['enqueued', 'started', 'step.finished', 'moved', 'step.finished', 'promoted', 'succeeded'])
    expect(told[0]).toMatchObject({ data: { tenant: 'acme', metadata: { issue: 7 }, run: 1 } })
    expect(told.find(({ type }) => type.endsWith('moved'))).toMatchObject({ source: '/switchyard/test', data: { from: { provider: 'a', outcome: 'lost' }, to: { provider: 'b' }, attempt: 2 } })
    expect(told.find(({ type }) => type.endsWith('promoted'))).toMatchObject({ data: { to: 'done', result: 'fast_forward' } })
  })

  it('tell nothing twice and nothing out of order of a job that another consumer takes over', async () => {
    const provider = new InMemoryProvider('a')
    const first = await startConsumer([provider])
    const job = await openQueue().enqueue({ ...trivial, steps: ['true', 'sleep 2', 'true'], events: early })
    await until(async () => short(await toldOf(job.jobId)).includes('step.finished') && provider.running > 0, 'its second step runs')
    await startConsumer([provider])
    await first.stop()
    expect((await job.result({ timeoutMs: 150_000 })).status).toBe('succeeded')
    expect(short(await toldOf(job.jobId))).toEqual(['enqueued', 'started', 'step.finished', 'step.finished', 'step.finished', 'succeeded'])
  })

  it('are told of the runs of a schedule too', async () => {
    await startConsumer([new InMemoryProvider('a')], ['enqueued'])
    const queue = openQueue()
    await queue.schedules.upsert('often', { every: '1s', job: { ...trivial, events: ['started'] } })
    const last = await until(async () => (await queue.schedules.get('often')).last, 'it has begun')
    await queue.schedules.pause('often')
    await queue.job(last.jobId).result({ timeoutMs: 150_000 })
    expect(short(await toldOf(last.jobId))).toEqual(['enqueued', 'started', 'succeeded'])
  })

  it('are its end alone where nobody asked for more, and leave what an end has always left', async () => {
    await startConsumer([new InMemoryProvider('a')])
    const job = await openQueue().enqueue(trivial)
    await job.result({ timeoutMs: 150_000 })
    const entries = await redis.client.xrange(redis.keys.events(), '-', '+')
    expect(entries.length).toBe(1)
    expect(entries[0]?.[1].filter((_part, index) => index % 2 === 0)).toEqual(['id', 'event', 'n', 'b', 'log'])
  })

  it('are those that the deployment asks for, of every job', async () => {
    await startConsumer([new InMemoryProvider('a')], ['enqueued', 'started'])
    const queue = openQueue({ eventTypes: ['enqueued', 'started'] })
    const jobs = await queue.enqueueMany(Array.from({ length: 130 }, () => trivial))
    for (const job of jobs) await job.result({ timeoutMs: 150_000 })
    for (const { jobId } of [jobs[0]!, jobs[129]!]) expect(short(await toldOf(jobId))).toEqual(['enqueued', 'started', 'succeeded'])
  })

  it('tell once of a job that is enqueued again by its key, and anew of one that is run again', async () => {
    await startConsumer([new InMemoryProvider('a')])
    const queue = openQueue()
    const spec: JobSpecInput = { ...trivial, events: ['enqueued', 'started'], idempotencyKey: 'once' }
    const [job] = await queue.enqueueMany([spec, spec])
    await queue.enqueue(spec)
    await job!.result({ timeoutMs: 150_000 })
    await queue.enqueue(spec)
    expect(short(await toldOf(job!.jobId))).toEqual(['enqueued', 'started', 'succeeded'])
    // By several at once, too: all but the first find that it waits or runs already.
    expect((await Promise.all([1, 2, 3, 4].map(() => queue.retry(job!.jobId)))).filter((outcome) => outcome === 'retried')).toHaveLength(1)
    await job!.result({ timeoutMs: 150_000 })
    expect(await queue.retry(job!.jobId)).toBe('retried')
    await job!.result({ timeoutMs: 150_000 })
    const told = await toldOf(job!.jobId)
    const once = ['enqueued', 'started', 'succeeded']
    expect(short(told)).toEqual([...once, ...once, ...once])
    expect(told.map(({ id }) => id.split('.').at(1))).toEqual(['1', '1', '1', '2', '2', '2', '3', '3', '3'])
  })

  it('tell of a job that is cancelled while it waits: it was enqueued, and it ended', async () => {
    const queue = openQueue()
    const job = await queue.enqueue({ ...trivial, events: early })
    await job.cancel('not needed')
    expect(short(await toldOf(job.jobId))).toEqual(['enqueued', 'cancelled'])
  })

  it('go to subscribers by the types that these choose, in their order; to others their ends alone', async () => {
    await startConsumer([new InMemoryProvider('a')])
    const queue = openQueue()
    const [all, ends, some]: [string[], string[], string[]] = [[], [], []]
    const onError = (error: unknown) => void all.push(String(error))
    const subscriptions = [
      subscribe(redis.config, 'all', (event) => void all.push(event.type), { types: eventKinds, onError }),
      subscribe(redis.config, 'ends', (event) => void ends.push(event.data.status), { onError }),
      subscribe(redis.config, 'some', (event) => void some.push('step' in event.data ? event.data.step : event.data.status), { types: ['step.finished', 'completed'], onError }),
    ]
    for (const subscription of subscriptions) after(() => subscription.close())
    const job = await queue.enqueue({ ...trivial, steps: ['true', { name: 'second', run: 'true' }], events: early })
    await job.result({ timeoutMs: 150_000 })
    await until(() => all.length >= 5 && ends.length >= 1 && some.length >= 3, 'all came')
    expect(all.map((type) => type.replace('dev.switchyard.job.', ''))).toEqual(['enqueued', 'started', 'step.finished', 'step.finished', 'succeeded'])
    expect(ends).toEqual(['succeeded'])
    expect(some).toEqual(['step 1', 'second', 'succeeded'])
    expect((await queue.events.list()).map(({ group, unread, pending, deadLetters, missed }) => [group, unread, pending, deadLetters, missed])).toEqual(['all', 'ends', 'some'].map((group) => [group, 0, 0, 0, 0]))
    expect((await queue.events.read()).map(({ event }) => event?.type)).toEqual(['dev.switchyard.job.succeeded'])
    expect((await queue.events.read({ types: ['started'], limit: 1 })).map(({ event }) => event?.data.provider)).toEqual(['a'])
  })
})

describe('what a job may ask to be told of', () => {
  const problems: [string, object, RegExp][] = [
    ['a type that there is none of', { events: ['finished'] }, /events.*must be one of "enqueued"/],
    ['no list', { events: 'started' }, /events.*must be a list/],
    ['a webhook without a secret', { webhooks: [{ url: 'https://a.example/' }] }, /secretName.*is missing/],
    ['a secret in place of its name', { webhooks: [{ url: 'https://a.example/', secretName: 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw=' }] }, /secretName.*not the secret itself/],
    ['a password in the URL', { webhooks: [{ url: 'https://me:pw@a.example/', secretName: 'A' }] }, /url.*password/],
    ['another protocol', { webhooks: [{ url: 'file:///etc/passwd', secretName: 'A' }] }, /url.*must begin with https/],
    ['no URL', { webhooks: [{ url: 'a.example', secretName: 'A' }] }, /url.*is no URL/],
    ['too many', { webhooks: Array.from({ length: 5 }, () => ({ url: 'https://a.example/', secretName: 'A' })) }, /webhooks.*more than 4/],
  ]
  it.each(problems)('refuses %s', (_what, fields, problem) => {
    expect(() => parseJobSpec({ ...trivial, ...fields })).toThrow(problem)
  })

  it('comes through the queue as it was', () => {
    const spec = parseJobSpec({ ...trivial, events: ['moved'], webhooks: [{ url: 'https://a.example/', secretName: 'A' }] })
    expect(parseQueuedSpec(JSON.parse(JSON.stringify(shortSpec(spec))))).toEqual(spec)
  })
})
