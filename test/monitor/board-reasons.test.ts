import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { InMemoryProvider } from '../../bench/in-memory/provider.js'
import { inMemoryGitHost } from '../../bench/in-memory/git-host.js'
import { openBoard } from '../../src/cli/open-board.js'
import { configSchema } from '../../src/config/schema.js'
import { Consumer, secretsFromEnvironment, type ConsumerOptions } from '../../src/consumers/index.js'
import { startRedis, type EmbeddedRedis } from '../../src/embedded/index.js'
import { InfrastructureError } from '../../src/job/errors.js'
import type { JobSpecInput } from '../../src/job/spec.js'
import { AgentQueue } from '../../src/producers/index.js'
import { createRedis } from '../../src/store/index.js'
import { altered, reached, until } from '../e2e/deployment.js'

/** The real board over a real queue says what each job waits for, whoever has it in hand or nobody. */
let redis: EmbeddedRedis
let queue: AgentQueue
let board: Awaited<ReturnType<typeof openBoard>>
let consumers: Consumer[] = []
let provider: InMemoryProvider

beforeEach(async () => {
  provider = new InMemoryProvider('a')
  redis = await startRedis()
  queue = await reached(new AgentQueue({ redis: { url: redis.url } }))
  board = await openBoard(configSchema.parse({ redis: { url: redis.url }, board: { port: 0 } }), {}, { auth: false })
})
afterEach(async () => {
  await Promise.all(consumers.map((consumer) => consumer.stop()))
  consumers = []
  await board.close()
  await queue.close()
  await redis.close()
})
async function startConsumer(more: Partial<ConsumerOptions> = {}): Promise<void> {
  const options: ConsumerOptions = {
    deployment: 'test', redis: { url: redis.url }, git: inMemoryGitHost, providers: [{ provider, limit: { sandboxes: 1 } }],
    secrets: secretsFromEnvironment([]), log: pino({ level: 'silent' }), ...more,
    settings: { leaseMs: 1_500, stallCheckMs: 500, stopGraceMs: 100, unrunnableGraceMs: 600_000, ...more.settings },
  }
  const consumer = new Consumer(options)
  consumers.push(consumer)
  await consumer.start()
}

interface Shown {
  readonly id: string
  readonly name: string
  readonly progress: unknown
}

/** Of a job as the board's list and its own page give it. */
async function shown(jobId: string): Promise<{ list: unknown; page: unknown }> {
  const read = async <Answer>(path: string) => (await (await fetch(new URL(path, board.board.url))).json()) as Answer
  const { queues } = await read<{ queues: { jobs: Shown[] }[] }>('api/queues?activeQueue=agents&status=latest&page=1&jobsPerPage=10')
  const { job } = await read<{ job: Shown }>(`api/queues/agents/${jobId}`)
  const listed = queues[0]?.jobs.find(({ id }) => id === jobId)
  // What is in the progress is beside the name as well, where nobody has to look for it.
  for (const one of [listed, job]) if (one !== undefined) expect(one.name).toContain(['bench/jobs', 'step 1', waitingOf(one.progress)].filter((part) => part !== '').join(' · '))
  return { list: listed?.progress, page: job.progress }
}

const waitingOf = (progress: unknown) => (progress as { waiting?: string } | null)?.waiting ?? ''

async function shows(jobId: string, reason: RegExp): Promise<void> {
  let last: unknown
  await until(`the board to show ${reason}`, async () => {
    const { list, page } = await shown(jobId)
    last = { list, page }
    return reason.test(waitingOf(list)) && reason.test(waitingOf(page))
  }).catch((error: unknown) => {
    throw new Error(`shown was ${JSON.stringify(last)}`, { cause: error })
  })
}

const spec = (more: Partial<JobSpecInput> = {}): JobSpecInput => ({ repository: 'bench/jobs', push: false, steps: ['sleep 0.05'], ...more })
const refusal = (source: string) => () => Promise.reject(new InfrastructureError({ kind: 'auth', owner: 'consumer-keys', source, message: `${source}: the key is refused (401)` }))

describe('the board says of a job that nobody has in hand', () => {
  it('that no consumer is live, and then that it moves', async () => {
    const { jobId } = await queue.enqueue(spec({ steps: ['sleep 600'] }))
    await shows(jobId, /^waiting for a consumer: none is live for this queue; start one$/)
    await startConsumer()
    await until('the step', async () => (await queue.job(jobId).status()).step !== null)
    const { list, page } = await shown(jobId)
    expect([waitingOf(list), waitingOf(page)]).toEqual(['', ''])
    await queue.job(jobId).cancel('done')
    await queue.job(jobId).result({ timeoutMs: 150_000 })
    expect(waitingOf((await shown(jobId)).page)).toBe('')
  })

  it('which job has its concurrency key', async () => {
    await startConsumer()
    const keyed = spec({ steps: ['sleep 600'], concurrency: { key: 'k' } })
    const holder = await queue.enqueue(keyed)
    await until('the step', async () => (await holder.status()).step !== null)
    const { jobId } = await queue.enqueue(keyed)
    await shows(jobId, new RegExp(`^waiting for the concurrency key "k": job ${holder.jobId} has it \\(1 of at most 1\\)$`))
    await holder.cancel('done')
    await until('its step', async () => (await queue.job(jobId).status()).step !== null)
    await queue.job(jobId).cancel('done')
    await queue.job(jobId).result({ timeoutMs: 150_000 })
  })

  it('that the queue is paused', async () => {
    await startConsumer()
    const { Queue } = await import('bullmq')
    const bull = new Queue('agents', { connection: { url: redis.url }, prefix: '{switchyard}' })
    await bull.pause()
    const { jobId } = await queue.enqueue(spec())
    await shows(jobId, /^waiting: the queue is paused; resume it$/)
    await bull.resume()
    await bull.close()
    expect(await queue.job(jobId).result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded' })
  })

  it('that the provider is full, that its tenant has what it may have, and that a secret is missing', async () => {
    await startConsumer({ providers: [{ provider, limit: { sandboxes: 1 } }, { provider: new InMemoryProvider('b'), limit: { sandboxes: 5 } }], tenants: { t: { weight: 1, cap: 1 } } })
    const long = await queue.enqueue(spec({ steps: ['sleep 600'], tenant: 't', providers: { allow: ['a'] } }))
    await until('the step', async () => (await long.status()).step !== null)
    const [full, capped, lacks] = await queue.enqueueMany([spec({ providers: { allow: ['a'] } }), spec({ tenant: 't' }), spec({ secrets: ['NOT_THERE'] })])
    await shows(full!.jobId, /^waiting for capacity: a full \(1\/1\)$/)
    await shows(capped!.jobId, /^waiting for tenant t: 1 of at most 1 jobs are running$/)
    await shows(lacks!.jobId, /NOT_THERE/)
    await Promise.all([long, full, capped, lacks].map((job) => job!.cancel('done')))
  })

  it('that the git host refuses the consumer’s key', async () => {
    await startConsumer({ git: { ...inMemoryGitHost, check: refusal('in-memory'), resolve: refusal('in-memory') } })
    const { jobId } = await queue.enqueue(spec())
    await shows(jobId, /^waiting for a consumer whose key is taken \(git: /)
    await queue.job(jobId).cancel('done')
  })

  it('that all live consumers have as many jobs as they may', async () => {
    await startConsumer({ providers: [{ provider, limit: { sandboxes: 5 } }], settings: { maxJobs: 1 } })
    const long = await queue.enqueue(spec({ steps: ['sleep 600'] }))
    await until('the step', async () => (await long.status()).step !== null)
    const { jobId } = await queue.enqueue(spec())
    await shows(jobId, /^waiting for a consumer with room: each that may run it has as many jobs as it may \(consumer\.maxJobs\)$/)
    await long.cancel('done')
    expect(await queue.job(jobId).result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded' })
  })
})

describe('and of one in a consumer’s hands', () => {
  it('that the provider is away', async () => {
    provider.refusesCreates = 'provider-down'
    // The place of a create that may have come to something stays taken for a while.
    await startConsumer({ providers: [{ provider, limit: { sandboxes: 9 } }] })
    const { jobId } = await queue.enqueue(spec())
    await shows(jobId, /^waiting for capacity: a open until \d\d:\d\d:\d\d \(down\)$/)
    await queue.job(jobId).cancel('done')
  })

  it('that the git host is away', async () => {
    let away = true
    const down = new InfrastructureError({ kind: 'provider-down', owner: 'git-host', source: 'in-memory', message: 'in-memory: answered 503' })
    await startConsumer({ git: { ...inMemoryGitHost, resolve: (...call) => (away ? Promise.reject(down) : inMemoryGitHost.resolve(...call)) } })
    const { jobId } = await queue.enqueue(spec())
    await shows(jobId, /git host.*answered 503/)
    away = false
    expect(await queue.job(jobId).result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded' })
  })
})

it('a board shows its jobs also while the reasons can’t be looked up, and says so', async () => {
  const { startBoard } = await import('../../src/monitor/board.js')
  const connection = createRedis({ url: redis.url }, 'commands')
  const { jobId } = await queue.enqueue(spec())
  const other = await startBoard({
    redis: connection, host: '127.0.0.1', port: 0, credentials: 'none', writable: true,
    queues: [{ name: 'agents', prefix: '{switchyard}', monitored: altered(queue, { statuses: () => Promise.reject(new Error('Redis is slow')), view: () => Promise.reject(new Error('Redis is slow')) }) }],
  })
  const { job } = (await (await fetch(new URL(`api/queues/agents/${jobId}`, other.url))).json()) as { job: Shown }
  expect(job.progress).toEqual({ waiting: 'not known: Redis is slow' })

  // The board's Duplicate begins with the name that is shown.
  await fetch(new URL('api/queues/agents/add', other.url), { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ name: job.name, data: {}, options: { jobId: 'copy' } }) })
  const { job: copy } = (await (await fetch(new URL('api/queues/agents/copy', other.url))).json()) as { job: Shown }
  expect(copy.name).toBe('bench/jobs · not known: Redis is slow')
  expect(await connection.hget('{switchyard}:agents:copy', 'name')).toBe('bench/jobs')
  await other.close()
  connection.disconnect()
})
