import { Queue } from 'bullmq'
import { describe, expect, it, vi } from 'vitest'
import { completionEvent } from '../../src/events/index.js'
import { ReadyJobs, Roster, RunStore, SlotLedger } from '../../src/store/index.js'
import { after, record, result, until, useRedis } from '../store/fixture.js'
import { endJob, serve, spec } from './fixture.js'

const redis = useRedis()

interface Change {
  readonly changed: boolean
  readonly before: Record<string, unknown> | null
  readonly after: Record<string, unknown> | null
  readonly ignoredBy: readonly string[]
}

/** A deployment with two providers, two tenants and a consumer of this release and one of an earlier one, none of which is a process. */
async function deployment() {
  const served = await serve(redis)
  const client = redis.connect()
  const admin = await served.newKey('admin')
  await new SlotLedger(client, redis.keys).reserve({ leaseId: 'x', holder: 'new', candidates: [{ provider: 'e2b', sandboxes: 5 }, { provider: 'modal', sandboxes: 5 }], demand: { cpu: 0, memoryMiB: 0 }, ttlMs: 600_000 })
  const roster = new Roster(client, redis.keys)
  const announce = async (consumer: string, about: object) =>
    await roster.announce({ consumer, profileId: consumer, profile: { queue: redis.keys.queueName, release: '1.0.0', providers: ['e2b'], secrets: [] }, troubles: [], startedAtMs: 1, shares: null, ...about }, 600_000)
  await announce('consumer-new', { heeds: ['drain', 'limit', 'move', 'pause', 'share', 'leave'], host: 'h', pid: 7, running: 1, places: 2 })
  await announce('consumer-old', {})
  const job = await served.queue.enqueue({ repository: 'acme/web', steps: ['true'], tenant: 'acme' })
  return { ...served, client, admin, roster, job, as: async <Body = Change>(method: string, path: string, body?: unknown) => await served.call<Body>(method, path, { key: admin, ...(body === undefined ? {} : { body }) }) }
}

/** All that is said or done by operators, twice each: the second time it was so already. */
const operations: readonly (readonly [string, string, object | undefined, unknown])[] = [
  ['POST', '/v1/providers/e2b/drain', { reason: 'maintenance', move: true }, { reason: 'maintenance', move: true }],
  ['POST', '/v1/providers/e2b/resume', undefined, null],
  ['PUT', '/v1/providers/e2b/limit', { sandboxes: 3 }, { limit: 3 }],
  ['DELETE', '/v1/providers/e2b/limit', undefined, null],
  ['POST', '/v1/tenants/acme/pause', { reason: 'leak' }, { reason: 'leak' }],
  ['POST', '/v1/tenants/acme/resume', undefined, null],
  ['PUT', '/v1/tenants/acme/share', { weight: 3, cap: 2 }, { weight: 3, cap: 2 }],
  ['DELETE', '/v1/tenants/acme/share', undefined, null],
  ['POST', '/v1/queue/pause', { reason: 'deploy' }, { reason: 'deploy' }],
  ['POST', '/v1/queue/resume', undefined, null],
]

it('each operation changes something once, says who and how it was, and is in the audit log', async () => {
  const { as, client } = await deployment()
  let before: unknown = null
  for (const [method, path, body, now] of operations) {
    const first = await as(method, path, body)
    expect([path, first.status, first.body]).toMatchObject([path, 200, { changed: true, before, after: now === null ? null : { ...(now as object), by: 'admin of a test', untilMs: null } }])
    const again = await as(method, path, body)
    expect([path, again.body]).toMatchObject([path, { changed: false, before: first.body.after, after: first.body.after }])
    // An earlier release knows nothing of it; of a queue's pause it does.
    expect([path, first.body.ignoredBy]).toEqual([path, path.startsWith('/v1/queue') ? [] : ['consumer-old']])
    before = first.body.after
  }
  const { body } = await as<{ entries: { action: string; name: string; before?: unknown; after?: unknown; status: number }[] }>('GET', '/v1/audit')
  const changes = body.entries.filter(({ action }) => action !== 'createKey')
  expect(changes.map(({ action }) => action).reverse()).toEqual(['drainProvider', 'resumeProvider', 'limitProvider', 'limitProvider', 'pauseTenant', 'resumeTenant', 'shareTenant', 'shareTenant', 'pauseQueue', 'resumeQueue'])
  expect(changes.every(({ name, status }) => name === 'admin of a test' && status === 200)).toBe(true)
  expect(changes.at(-1)).toMatchObject({ before: null, after: { reason: 'maintenance', move: true } })
  expect(changes.at(-2)).toMatchObject({ before: { reason: 'maintenance' }, after: null })
  expect(await client.hlen(`${redis.keys.ready()}:set`)).toBe(0)
})

it('a budget is set, shown, raised and removed, each once; by whom, and how it was, is in the audit log', async () => {
  const { as, job, client, queue } = await deployment()
  const other = await queue.enqueue({ repository: 'acme/web', steps: ['true'] })
  await endJob(redis, other.jobId)
  for (const [path, of] of [['tenants/acme', { tenant: 'acme' }], [`jobs/${job.jobId}`, { jobId: job.jobId }]] as const) {
    const said = [await as('PUT', `/v1/budgets/${path}`, { amount: 20 }), await as('PUT', `/v1/budgets/${path}`, { amount: 20 }), await as('PUT', `/v1/budgets/${path}`, { amount: 30.5 })]
    expect(said.map(({ status, body }) => [status, body])).toEqual([[200, { changed: true, before: null }], [200, { changed: false, before: 20_000_000 }], [200, { changed: true, before: 20_000_000 }]])
    const { body } = await as<{ tenants: object[]; jobs: object[] }>('GET', '/v1/budgets')
    expect([...body.tenants, ...body.jobs]).toMatchObject([{ ...of, micros: 30_500_000, by: 'admin of a test' }])
    expect([await as('DELETE', `/v1/budgets/${path}`), await as('DELETE', `/v1/budgets/${path}`)].map(({ body: done }) => done)).toEqual([{ changed: true, before: 30_500_000 }, { changed: false, before: null }])
  }
  expect((await as('GET', '/v1/budgets')).body).toEqual({ tenants: [], jobs: [] })
  // There is nothing more to spend.
  expect(await as('PUT', `/v1/budgets/jobs/${other.jobId}`, { amount: 5 })).toMatchObject({ status: 422, body: { detail: expect.stringMatching(/^budget: job \S+ has ended; there is nothing more to spend$/) as unknown } })
  expect(Object.keys(await client.hgetall(`${redis.keys.costs()}:caps`))).toEqual(['version'])
  const { body } = await as<{ entries: { action: string; name: string; targets: string[]; before: unknown; after: unknown }[] }>('GET', '/v1/audit')
  const entries = body.entries.filter(({ action }) => action.endsWith('Budget')).reverse()
  expect(entries.map(({ action, before, after }) => [action, before, after])).toEqual(['setTenantBudget', 'setJobBudget'].flatMap((action) => [[action, null, 20_000_000], [action, 20_000_000, 30_500_000], [action, 30_500_000, null]]))
  expect(entries.every(({ name }) => name === 'admin of a test')).toBe(true)
})

it('a queue is paused for a time, which is said anew, and a consumer finds that it is over', async () => {
  const { as, job, client } = await deployment()
  const ready = new ReadyJobs(redis.client, redis.keys)
  const paused = await as('POST', '/v1/queue/pause', { reason: 'deploy', forMs: 3_600_000 })
  expect(paused.body).toMatchObject({ changed: true, before: null, after: { reason: 'deploy', untilMs: expect.any(Number) as unknown } })
  expect((await job.status()).reason).toMatch(/^waiting: the queue is paused by admin of a test: deploy \(until 20\d\d-.*Z\); resume it$/)
  expect((await ready.reconcile('x', 1)).pauseOver).toBe(false)
  expect((await as('POST', '/v1/queue/pause', { reason: 'deploy', forMs: 1_000 })).body).toMatchObject({ changed: true, before: paused.body.after, after: { reason: 'deploy' } })
  await until(async () => (await ready.reconcile('x', 1)).pauseOver, 'its time is over')
  expect((await as('POST', '/v1/queue/pause', { reason: 'for good' })).body).toMatchObject({ changed: true, after: { reason: 'for good', untilMs: null } })
  expect((await as('POST', '/v1/queue/pause')).body).toMatchObject({ changed: false })
  expect((await ready.reconcile('x', 1)).pauseOver).toBe(false)
  expect(await client.hexists(redis.keys.bullmq('meta'), 'paused')).toBe(1)
})

it('says of a waiting job that an operator keeps it, and who', async () => {
  const { as, job, queue } = await deployment()
  await new ReadyJobs(redis.client, redis.keys).reconcile('x', 1)
  await as('POST', '/v1/tenants/acme/pause', { reason: 'leak', forMs: 3_600_000 })
  expect((await job.status()).reason).toMatch(/^waiting: tenant acme is paused by admin of a test: leak \(until 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ\)$/)
  await as('POST', '/v1/queue/pause', { reason: 'deploy' })
  expect((await job.status()).reason).toBe('waiting: the queue is paused by admin of a test: deploy; resume it')
  await as('POST', '/v1/queue/resume')
  await as('POST', '/v1/tenants/acme/resume')
  for (const provider of ['e2b', 'modal']) await as('POST', `/v1/providers/${provider}/drain`, { reason: 'maintenance' })
  expect((await job.status()).reason).toBe('waiting for capacity: e2b drained by admin of a test: maintenance')
  expect((await queue.providers()).map(({ drain }) => drain?.reason)).toEqual(['maintenance', 'maintenance'])
})

describe('an operation that is wrong', () => {
  const wrong: readonly (readonly [string, string, object | undefined, number, string | RegExp])[] = [
    ['POST', '/v1/providers/e2bb/drain', {}, 404, /^provider "e2bb" is not known \(did you mean "e2b"\?\); known are: e2b, modal$/],
    ['POST', '/v1/providers/e2bb/resume', undefined, 404, /did you mean "e2b"/],
    ['PUT', '/v1/providers/modl/limit', { sandboxes: 2 }, 404, /did you mean "modal"/],
    ['DELETE', '/v1/providers/nothing/limit', undefined, 404, /^provider "nothing" is not known; known are/],
    ['PUT', '/v1/providers/e2b/limit', { sandboxes: 0 }, 422, /limit: must be at least 1; drain the provider/],
    ['PUT', '/v1/providers/e2b/limit', { sandboxes: -1 }, 422, /limit: must be at least 1/],
    ['PUT', '/v1/providers/e2b/limit', { sandboxes: 1.5 }, 422, /whole number/],
    ['PUT', '/v1/providers/e2b/limit', {}, 422, /sandboxes: is missing/],
    ['POST', '/v1/providers/e2b/drain', { reasn: 'x' }, 422, /reasn: is not a known field of body \(did you mean "reason"\?\)/],
    ['POST', '/v1/providers/e2b/drain', { reason: 'a\nb' }, 422, /reason: must be one line/],
    ['POST', '/v1/providers/e2b/drain', { reason: 'x'.repeat(201) }, 422, /longer than 200/],
    ['POST', '/v1/providers/e2b/drain', { forMs: 1 }, 422, /forMs: must be at least a second/],
    ['POST', '/v1/tenants/acmee/pause', {}, 404, /^tenant "acmee" is not known \(did you mean "acme"\?\)/],
    ['PUT', '/v1/tenants/acme/share', { weight: 0 }, 422, /weight: must be more than 0/],
    ['PUT', '/v1/tenants/acme/share', { weight: 1, cap: 0 }, 422, /cap: must be at least 1; pause the tenant/],
    ['PUT', '/v1/tenants/other/share', { weight: 1 }, 404, /is not known/],
    ['POST', '/v1/queue/pause', { forMs: 1 }, 422, /forMs: must be at least a second/],
    ...[
      [{ amount: 0 }, /^budget: must be more than 0; remove the budget to lift it, or pause the tenant to stop its jobs$/],
      [{ amount: -5 }, /^budget: must be more than 0; remove the budget/],
      [{ amount: 1_000_001 }, /^budget: must be at most 1000000$/],
      [{ amount: 1e-9 }, /^budget: is less than a millionth; give more$/],
      [{ amount: 1e300 }, /^budget: must be at most/],
      [{ amount: '20/day' }, /amount: must be an amount of the deployment’s currency, such as 20/],
      [{ amount: null }, /amount: must be an amount/],
      [{}, /amount: is missing; give an amount/],
      [{ amount: 20, per: 'day' }, /per: is not a known field/],
    ].map(([body, says]) => ['PUT', '/v1/budgets/tenants/acme', body, 422, says] as [string, string, object, number, RegExp]),
    ['PUT', '/v1/budgets/jobs/00000000-0000-4000-8000-000000000000', { amount: 5 }, 404, /00000000-0000-4000-8000-000000000000/],
    ['PUT', '/v1/budgets/jobs/x%20y', { amount: 5 }, 404, /./],
    ['POST', '/v1/queue/drain', {}, 422, /confirm: must be true; this ends every job that waits/],
    ['POST', '/v1/consumers/consumer-neww/drain', {}, 404, /consumer "consumer-neww" is not known \(did you mean "consumer-new"\?\)/],
    ['POST', '/v1/consumers/consumer-old/drain', {}, 422, /of release 1\.0\.0, which does not heed this; send its process SIGTERM/],
    ['POST', '/v1/consumers/consumer-/drain', {}, 422, /is the beginning of 2 ids/],
    ['POST', '/v1/operations/retry-jobs', { where: '' }, 422, /where: is empty/],
    ['POST', '/v1/operations/retry-jobs', { where: 'state=running' }, 422, /can't be run again/],
    ['POST', '/v1/operations/retry-jobs', { where: 'stat=failed tenant= error=provider-dwn what' }, 422, /"stat" is not known \(did you mean "state"\?\)/],
    ['POST', '/v1/operations/cancel-jobs', { where: 'state=failed' }, 422, /have ended/],
    ['POST', '/v1/operations/cancel-jobs', { where: 'tenant=acme', limit: 1_001 }, 422, /limit: must be from 1 to 1000/],
    ['POST', '/v1/events/redeliver', { group: 'nobody', ids: 'all' }, 422, /nobody has subscribed as "nobody"/],
    ['POST', '/v1/keys', { name: 'x', scope: 'root' }, 422, /scope: must be "read", "write" or "admin"/],
    ['DELETE', '/v1/keys/0000000000000000', undefined, 422, /there is none with the id/],
  ]

  /** All that Redis holds but when a key was used, and who tried what. */
  async function everything(client: Awaited<ReturnType<typeof deployment>>['client']): Promise<string> {
    const parts: string[] = []
    for (const key of (await client.keys('*')).sort()) {
      if (/::api-key|http-rate|:ledger:clock|::audit/.test(key)) continue
      const type = await client.type(key)
      parts.push(key, JSON.stringify(type === 'hash' ? Object.entries(await client.hgetall(key)).sort() : type === 'stream' ? await client.xrange(key, '-', '+') : type === 'zset' ? await client.zrange(key, '0', '-1', 'WITHSCORES') : type === 'list' ? await client.lrange(key, 0, -1) : type === 'set' ? (await client.smembers(key)).sort() : await client.get(key)))
    }
    return parts.join('\n')
  }

  it('is refused with the mend, and changes nothing', async () => {
    const { as, client } = await deployment()
    const held = await everything(client)
    for (const [method, path, body, status, detail] of wrong) {
      const answer = await as<{ detail: string; problems?: string[] }>(method, path, body)
      expect([path, answer.status, answer.body]).toMatchObject([path, status, { detail: expect.stringMatching(detail) as unknown }])
    }
    const { body } = await as<{ problems: string[] }>('POST', '/v1/operations/retry-jobs', { where: 'stat=failed tenant= error=provider-dwn what since=x' })
    expect(body.problems).toMatchObject([/stat/, /tenant has no value/, /did you mean "provider-down"/, /"what" is not of the form/, /since: "x" must be a duration/].map((pattern) => expect.stringMatching(pattern) as unknown))
    expect(await everything(client)).toBe(held)
  })

  it('is refused to a key without the right, or one that is limited to tenants, and changes nothing', async () => {
    const { call, newKey, client, job } = await deployment()
    const keys = [await newKey('read'), await newKey('write'), await newKey('write', ['acme'])]
    const held = await everything(client)
    const all = [...operations, ...wrong].map(([method, path, body]) => [method, path, body] as const)
    const more = [['POST', '/v1/queue/drain', { confirm: true }], ['POST', '/v1/operations/cancel-jobs', { where: 'tenant=acme' }], ['GET', '/v1/events/dead?group=x', undefined], ['GET', '/v1/keys', undefined], ['POST', '/v1/keys', { name: 'x', scope: 'admin' }], ['POST', '/v1/consumers/consumer-new/drain', {}]] as const
    for (const key of keys) {
      for (const [method, path, body] of [...all, ...more]) expect([method, path, (await call(method, path, { key, body })).status]).toEqual([method, path, 403])
    }
    expect(await everything(client)).toBe(held)
    expect((await job.status()).state).toBe('waiting')
    // Who may look at all may look at these.
    expect((await call('GET', '/v1/consumers', { key: keys[0] })).status).toBe(200)
    expect((await call('GET', '/v1/queue', { key: keys[2] })).status).toBe(403)
  })
})

describe('many jobs', () => {
  async function jobs(served: Awaited<ReturnType<typeof deployment>>, count: number, fields: object = {}) {
    const ids: string[] = []
    const bull = new Queue(redis.keys.queueName, { connection: served.client, prefix: redis.keys.prefix })
    after(() => bull.close())
    const store = new RunStore(served.client, redis.keys)
    for (let i = 0; i < count; i++) {
      const { jobId } = await served.queue.enqueue(spec({ tenant: 'globex', ...fields }))
      // Two of them have done something, and left no checkpoint of it.
      const done = i === 0 || i === 2 ? [{ name: 'a', exitCode: 0, durationMs: 1, stdoutTail: '', stderrTail: '' }] : []
      const end = result(jobId, { status: 'failed', error: { kind: i % 2 === 0 ? 'provider-down' : 'step-failed', message: 'x' } })
      const acquired = await store.acquire(jobId, { holder: 'c', fresh: record(jobId) })
      if (acquired.kind !== 'acquired') throw new Error('not acquired')
      await store.finish(jobId, acquired.fence, record(jobId, { phase: 'ended', steps: done }), end, completionEvent(end, {}))
      await served.client.zrem(redis.keys.bullmq('prioritized'), jobId)
      await served.client.zadd(`${redis.keys.prefix}:${redis.keys.queueName}:failed`, String(Date.now() + i), jobId)
      await served.client.hset(redis.keys.job(jobId), 'finishedOn', String(Date.now()), 'atm', '1')
      ids.push(jobId)
    }
    return ids
  }

  interface Done {
    readonly found: number
    readonly more: boolean
    readonly jobIds: string[]
    readonly unchanged: number
    readonly failed: { jobId: string; code: string }[]
  }

  it('are found, counted and run again, to a bound; what fails is told, and the others go on', async () => {
    const served = await deployment()
    const { as, client } = served
    const ids = await jobs(served, 9)
    const down = ids.filter((_id, index) => index % 2 === 0)
    const where = 'state=failed tenant=globex since=2h error=provider-down'
    expect((await as<{ jobs: { jobId: string }[] }>('GET', '/v1/jobs?error=provider-down&state=failed')).body.jobs.map(({ jobId }) => jobId).sort()).toEqual([...down].sort())
    const dry = await as<Done>('POST', '/v1/operations/retry-jobs', { where, dryRun: true })
    expect({ ...dry.body, jobIds: [...dry.body.jobIds].sort() }).toEqual({ found: 5, more: false, jobIds: [...down].sort(), unchanged: 0, failed: [] })
    expect((await as<Done>('POST', '/v1/operations/retry-jobs', { where, dryRun: true, limit: 2 })).body).toMatchObject({ found: 2, more: true })
    const done = await as<Done>('POST', '/v1/operations/retry-jobs', { where, from: 'checkpoint' })
    expect(done.body).toMatchObject({ found: 5, unchanged: 0 })
    expect(done.body.failed.map(({ jobId, code }) => [jobId, code]).sort()).toEqual([down[0]!, down[1]!].sort().map((id) => [id, 'SWY_CHECKPOINT_GONE']))
    expect([...done.body.jobIds].sort()).toEqual(down.slice(2).sort())
    const again = await as<Done>('POST', '/v1/operations/retry-jobs', { where })
    expect([...again.body.jobIds].sort()).toEqual(down.slice(0, 2).sort())
    for (const id of down) expect(await client.zscore(redis.keys.bullmq('prioritized'), id)).not.toBeNull()
    // Those that were run again are found no more.
    expect((await as<Done>('POST', '/v1/operations/retry-jobs', { where })).body.jobIds).toEqual([])
    const { body } = await as<{ entries: { action: string; count: number; after?: { where: object } }[] }>('GET', '/v1/audit')
    expect(body.entries.find(({ action }) => action === 'retryJobs')).toMatchObject({ count: again.body.jobIds.length, after: { where: { tenant: 'globex', error: 'provider-down' } } })
  })

  it('are run again as they were found: what has had another run meanwhile is left alone, however that ended', async () => {
    const served = await deployment()
    const { as, client, queue } = served
    for (const retry of [
      async () => await as<Done>('POST', '/v1/operations/retry-jobs', { where: 'state=failed tenant=globex' }).then(({ body }) => body),
      async () => ({ jobIds: await queue.retryMany({ tenant: 'globex' }) }),
    ]) {
      const [again, succeeded, same] = await jobs(served, 3)
      const list = queue.list.bind(queue)
      // Between the finding and the doing somebody else runs two of them again, one in vain.
      const spy = vi.spyOn(queue, 'list').mockImplementationOnce(async (options) => {
        const page = await list(options)
        for (const [jobId, status] of [[again!, 'failed'], [succeeded!, 'succeeded']] as const) {
          const set = (name: string) => `${redis.keys.prefix}:${redis.keys.queueName}:${name}`
          expect(await queue.retry(jobId)).toBe('retried')
          await client.zrem(redis.keys.bullmq('prioritized'), jobId)
          const store = new RunStore(client, redis.keys)
          const acquired = await store.acquire(jobId, { holder: 'c', fresh: record(jobId, { generation: 2 }) })
          if (acquired.kind !== 'acquired') throw new Error('not acquired')
          const end = result(jobId, { status, ...(status === 'failed' ? { error: { kind: 'step-failed', message: 'x' } } : {}) })
          await store.finish(jobId, acquired.fence, record(jobId, { generation: 2, phase: 'ended' }), end, completionEvent(end, {}))
          await client.zadd(set(status === 'failed' ? 'failed' : 'completed'), String(Date.now()), jobId)
          await client.hset(redis.keys.job(jobId), 'finishedOn', String(Date.now()), 'atm', '2')
        }
        return page
      })
      expect(await retry()).toMatchObject({ jobIds: [same!] })
      spy.mockRestore()
      expect((await queue.statuses([again!, succeeded!, same!])).map((status) => status?.state)).toEqual(['failed', 'succeeded', 'waiting'])
      await queue.job(same!).cancel('enough')
      await client.zrem(`${redis.keys.prefix}:${redis.keys.queueName}:failed`, again!)
    }
  })

  it('are cancelled where they are parked too, which would go on some day', async () => {
    const { as, queue, client } = await deployment()
    const parked = await queue.enqueue(spec({ tenant: 'globex' }))
    const acquired = await new RunStore(client, redis.keys).acquire(parked.jobId, { holder: 'c', fresh: record(parked.jobId, { parking: { reason: 'no money', atMs: 1, timeUsedMs: 0, place: '', attempts: 0 } }) })
    expect([acquired.kind, (await parked.status()).state]).toEqual(['acquired', 'parked'])
    for (const where of ['tenant=globex', 'tenant=globex state=parked']) {
      expect((await as<Done>('POST', '/v1/operations/cancel-jobs', { where, dryRun: true })).body).toMatchObject({ found: 1, jobIds: [parked.jobId] })
    }
    expect((await as<Done>('POST', '/v1/operations/cancel-jobs', { where: 'tenant=globex' })).body).toMatchObject({ found: 1, jobIds: [parked.jobId], failed: [] })
    expect((await as('POST', '/v1/operations/retry-jobs', { where: 'state=parked' })).status).toBe(422)
  })

  it('are cancelled, and all that wait are ended with their results when the queue is drained', async () => {
    const { as, queue, job } = await deployment()
    const others = await Promise.all(Array.from({ length: 12 }, () => queue.enqueue({ repository: 'acme/web', steps: ['true'], tenant: 'globex' })))
    expect((await as<Done>('POST', '/v1/operations/cancel-jobs', { where: 'tenant=globex state=waiting', reason: 'wrong branch', limit: 10 })).body).toMatchObject({ found: 10, more: true, failed: [] })
    const states = await queue.statuses(others.map(({ jobId }) => jobId))
    expect(states.filter((state) => state?.result?.error?.message === 'wrong branch')).toHaveLength(10)
    expect((await as<Done>('POST', '/v1/queue/drain', { dryRun: true })).body).toMatchObject({ found: 3 })
    expect((await job.status()).state).toBe('waiting')
    expect((await as<Done>('POST', '/v1/queue/drain', { confirm: true })).body).toMatchObject({ found: 3, failed: [] })
    expect(await job.result()).toMatchObject({ status: 'cancelled', error: { message: 'the queue was drained by admin of a test' } })
    expect((await as<Record<string, unknown>>('GET', '/v1/queue')).body).toMatchObject({ paused: false, pause: null, counts: { waiting: 0, delayed: 0, active: 0 } })
    expect((await as<Done>('POST', '/v1/queue/drain', { confirm: true })).body).toMatchObject({ found: 0, jobIds: [] })
  })
})

it('consumers are listed with what they have, and one is asked to leave', async () => {
  const { as, client } = await deployment()
  const { body } = await as<{ consumers: Record<string, unknown>[] }>('GET', '/v1/consumers')
  expect(body.consumers).toMatchObject([
    { consumer: 'consumer-new', release: '1.0.0', host: 'h', pid: 7, running: 1, places: 2, draining: false, providers: ['e2b'], seenAtMs: expect.any(Number) as unknown },
    { consumer: 'consumer-old', host: null, pid: null, heeds: [] },
  ])
  expect((await as<Record<string, unknown>>('POST', '/v1/consumers/consumer-n/drain', { reason: 'node' })).body).toEqual({ consumer: 'consumer-new', changed: true })
  expect(await client.lrange(redis.keys.inbox('consumer-new'), 0, -1)).toEqual(['{"kind":"leave","by":"admin of a test","reason":"node"}'])
})

it('keys are made, listed and revoked', async () => {
  const { as, call } = await deployment()
  const made = await as<{ key: string; info: { id: string } }>('POST', '/v1/keys', { name: 'ci', scope: 'read' })
  expect(made).toMatchObject({ status: 201, body: { info: { name: 'ci', scope: 'read', state: 'valid' } } })
  expect((await call('GET', '/v1/jobs', { key: made.body.key })).status).toBe(200)
  expect(JSON.stringify((await as<object>('GET', '/v1/keys')).body)).not.toContain(made.body.key.slice(20))
  expect((await as<object>('DELETE', `/v1/keys/${made.body.info.id}`)).body).toEqual({ revoked: true })
  expect((await as<object>('DELETE', `/v1/keys/${made.body.info.id}`)).body).toEqual({ revoked: false })
  expect((await call('GET', '/v1/jobs', { key: made.body.key })).status).toBe(401)
  const { body } = await as<{ entries: { action: string; name: string }[] }>('GET', '/v1/audit')
  expect(body.entries.filter(({ action }) => action === 'revokeKey').every(({ name }) => name === 'admin of a test')).toBe(true)
})
