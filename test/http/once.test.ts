import { describe, expect, it } from 'vitest'
import { idempotencyKeyOf } from '../../src/http/idempotency-key.js'
import { useRedis } from '../store/fixture.js'
import { serve, spec } from './fixture.js'

const redis = useRedis()
const keyed = (key: string) => ({ 'idempotency-key': key })

describe('Idempotency-Key', () => {
  it('gives a request that is sent again the answer of the first, and does nothing', async () => {
    const { call, newKey, queue } = await serve(redis)
    const key = await newKey('write')
    const body = spec({ priority: 9 })
    const first = await call<{ jobId: string }>('POST', '/v1/jobs', { key, body, headers: keyed('"a b"') })
    const again = await call('POST', '/v1/jobs', { key, body, headers: keyed('"a b"') })
    expect([first.status, again.status, again.body]).toEqual([201, 201, first.body])
    expect([first.headers.get('idempotency-replayed'), again.headers.get('idempotency-replayed')]).toEqual([null, 'true'])
    expect(again.headers.get('location')).toBe(first.headers.get('location'))
    expect(await queue.list()).toHaveLength(1)

    for (const other of [call('POST', '/v1/jobs', { key, body: spec(), headers: keyed('"a b"') }), call('POST', '/v1/jobs?onFailed=rerun', { key, body, headers: keyed('"a b"') }), call('POST', `/v1/jobs/${first.body.jobId}/cancel`, { key, headers: keyed('"a b"') })]) {
      expect(await other).toMatchObject({ status: 422, body: { code: 'SWY_IDEMPOTENCY_CONFLICT' } })
    }
    expect((await queue.job(first.body.jobId).status()).state).toBe('waiting')
    // Each caller's own.
    const theirs = await call<{ jobId: string }>('POST', '/v1/jobs', { key: await newKey('write'), body, headers: keyed('"a b"') })
    expect(theirs.body.jobId).not.toBe(first.body.jobId)
    const jobs = { jobs: [spec(), spec()] }
    const many = await call<{ jobs: { jobId: string }[] }>('POST', '/v1/jobs/bulk', { key, body: jobs, headers: keyed('many') })
    expect(new Set(many.body.jobs.map(({ jobId }) => jobId)).size).toBe(2)
    expect((await call('POST', '/v1/jobs/bulk', { key, body: jobs, headers: keyed('many') })).body).toEqual(many.body)
    expect(await queue.list()).toHaveLength(4)
    const ttl = await Promise.all((await redis.client.keys('{switchyard}::http-answer:*')).map((name) => redis.client.pttl(name)))
    expect([ttl.length, ttl.every((ms) => ms > 0 && ms <= 86_400_000)]).toEqual([3, true])
  })

  it('has one of many at once enqueue, and the others wait or get its answer', async () => {
    const { call, newKey, queue } = await serve(redis)
    const key = await newKey('write')
    const answers = await Promise.all(Array.from({ length: 20 }, () => call<{ jobId?: string; code?: string }>('POST', '/v1/jobs', { key, body: spec(), headers: keyed('one') })))
    const jobs = new Set(answers.filter(({ status }) => status === 201).map(({ body }) => body.jobId))
    expect(jobs.size).toBe(1)
    expect(answers.filter(({ status }) => status !== 201).every(({ status, body }) => status === 409 && body.code === 'SWY_IDEMPOTENCY_IN_FLIGHT')).toBe(true)
    expect(await queue.list()).toHaveLength(1)
  })

  it('survives a server that dies between enqueuing and keeping the answer', async () => {
    const { call, newKey, queue } = await serve(redis)
    const key = await newKey('write')
    const first = await call<{ jobId: string }>('POST', '/v1/jobs', { key, body: spec(), headers: keyed('crash') })
    const client = redis.connect()
    const [name = ''] = await client.keys('{switchyard}::http-answer:*')
    // As the dead server left it: in flight.
    await client.hdel(name, 'answer')
    await client.hset(name, 'token', 'of the dead', 'untilMs', String(Date.now() + 3_600_000))
    expect(await call('POST', '/v1/jobs', { key, body: spec(), headers: keyed('crash') })).toMatchObject({ status: 409 })
    await client.hset(name, 'untilMs', '1')
    expect((await call('POST', '/v1/jobs', { key, body: spec(), headers: keyed('crash') })).body).toEqual(first.body)
    // Also where nothing is left of it.
    await client.del(name)
    expect((await call('POST', '/v1/jobs', { key, body: spec(), headers: keyed('crash') })).body).toEqual(first.body)
    await client.del(name)
    expect(await call('POST', '/v1/jobs', { key, body: spec({ priority: 1 }), headers: keyed('crash') })).toMatchObject({ status: 422, body: { code: 'SWY_IDEMPOTENCY_CONFLICT' } })
    expect(await queue.list()).toHaveLength(1)
  })

  it('is free again after a refusal, and belongs to a tenant’s job as any other does', async () => {
    const { call, newKey } = await serve(redis)
    const key = await newKey('write', ['acme'])
    expect((await call('POST', '/v1/jobs', { key, body: spec({ priority: 0 }), headers: keyed('k') })).status).toBe(422)
    const made = await call('POST', '/v1/jobs', { key, body: spec(), headers: keyed('k') })
    expect(made.status).toBe(201)
    expect((await call('POST', '/v1/jobs', { key, body: spec(), headers: keyed('k') })).body).toEqual(made.body)
  })

  it('must be one text', async () => {
    const { call, newKey, queue } = await serve(redis)
    const key = await newKey('write')
    for (const text of ['""', '"', '"a', 'a"', '"a" "b"', '"a", "b"', 'a, b', '"a\\x"', `"${'x'.repeat(256)}"`]) {
      expect([text, await call('POST', '/v1/jobs', { key, body: spec(), headers: keyed(text) })]).toMatchObject([text, { status: 400, body: { code: 'SWY_HTTP_MALFORMED' } }])
    }
    expect(await queue.list()).toEqual([])
    expect([idempotencyKeyOf(undefined), idempotencyKeyOf('"a \\"b\\" \\\\"'), idempotencyKeyOf('8e03978e-40d5')]).toEqual([undefined, 'a "b" \\', '8e03978e-40d5'])
  })
})

describe('rate limits', () => {
  it('count each key’s requests for all servers, and say when to come back', async () => {
    const rateLimit = { requests: 5, perSeconds: 3_600 }
    const [one, two] = [await serve(redis, { rateLimit }), await serve(redis, { rateLimit })]
    const [key, other] = [await one.newKey('read'), await one.newKey('read')]
    const first = await one.call('GET', '/v1/jobs', { key })
    expect([first.headers.get('ratelimit-policy'), first.headers.get('ratelimit')]).toEqual(['"key";q=5;w=3600', expect.stringMatching(/^"key";r=4;t=\d+$/)])
    for (const server of [two, one, two, one]) expect((await server.call('GET', '/v1/jobs', { key })).status).toBe(200)
    for (const server of [one, two]) {
      const refused = await server.call('GET', '/v1/jobs', { key })
      expect(refused).toMatchObject({ status: 429, body: { code: 'SWY_HTTP_RATE_LIMITED' } })
      expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(3_000)
    }
    expect((await one.call('GET', '/v1/jobs', { key: other })).status).toBe(200)
    expect((await one.call('GET', '/healthz')).status).toBe(200)
    const names = await redis.client.keys('*http-rate*')
    expect(names.every((name) => name.startsWith('{switchyard}::http-rate')) && names.length === 2).toBe(true)
    expect((await Promise.all(names.map((name) => redis.client.pttl(name)))).every((ms) => ms > 0)).toBe(true)
  })
})

describe('the audit log', () => {
  it('says who did what with what outcome, bounded, and to admins alone', async () => {
    const lines: unknown[] = []
    const { call, newKey, keys } = await serve(redis, { log: { info: (fields: unknown) => lines.push(fields), error: () => undefined } })
    const [key, admin] = [await newKey('write'), await newKey('admin')]
    const made = await call<{ jobId: string }>('POST', '/v1/jobs', { key, body: spec({ env: { SECRET: 'canary' } }) })
    await call('POST', '/v1/jobs/bulk', { key, body: { jobs: Array.from({ length: 30 }, () => spec()) } })
    await call('POST', `/v1/jobs/${made.body.jobId}/cancel`, { key })
    await call('POST', '/v1/jobs/none/cancel', { key })
    await call('GET', '/v1/jobs', { key })
    expect((await call('GET', '/v1/audit', { key })).status).toBe(403)
    const { entries } = (await call<{ entries: { id: string; targets: string[] }[] }>('GET', '/v1/audit', { key: admin })).body
    const id = (await keys.list()).find(({ scope }) => scope === 'write')?.id
    expect(entries).toMatchObject([
      { by: id, name: 'write of a test', action: 'cancelJob', targets: ['none'], count: 1, status: 404 },
      { by: id, action: 'cancelJob', targets: [made.body.jobId], count: 1, status: 200 },
      { by: id, action: 'createJobs', count: 30, status: 201 },
      { by: id, action: 'createJob', targets: [made.body.jobId], status: 201 },
      { by: 'operator', action: 'createKey', count: 1 },
      { by: 'operator', action: 'createKey', targets: [id] },
    ])
    expect(entries[2]?.targets).toHaveLength(20)
    expect(lines).toHaveLength(4)
    expect(JSON.stringify([entries, lines])).not.toContain('canary')
    const page = await call<{ entries: unknown[] }>('GET', `/v1/audit?limit=1&before=${entries[0]?.id}`, { key: admin })
    expect(page.body.entries).toEqual([entries[1]])
    const client = redis.connect()
    for (let count = 0; count < 101; count++) {
      const pipeline = client.pipeline()
      for (let each = 0; each < 100; each++) pipeline.xadd(redis.keys.audit(), '*', 'entry', '{}')
      await pipeline.exec()
    }
    await call('POST', '/v1/jobs/none/cancel', { key })
    expect(await client.xlen(redis.keys.audit())).toBeLessThan(10_200)
  })
})

describe('schedules over HTTP', () => {
  it('are made, changed, paused, gone on with and removed, each tenant’s by itself', async () => {
    const { call, newKey, queue } = await serve(redis)
    const [all, acme] = [await newKey('write'), await newKey('write', ['acme'])]
    const body = { cron: '0 3 * * *', timezone: 'Europe/Berlin', job: spec({ env: { A: 'canary' } }) }
    const made = await call('PUT', '/v1/schedules/nightly', { key: acme, body })
    expect(made).toMatchObject({ status: 200, body: { id: 'nightly', cron: '0 3 * * *', paused: false, repository: 'acme/web', tenant: 'acme', last: null } })
    expect(JSON.stringify(made.body)).not.toContain('canary')
    expect((await queue.schedules.get('nightly')).job).toMatchObject({ tenant: 'acme', env: { A: 'canary' } })
    expect((await call('PUT', '/v1/schedules/theirs', { key: all, body: { ...body, job: spec({ tenant: 'globex' }) } })).status).toBe(200)
    expect((await call<{ schedules: { id: string }[] }>('GET', '/v1/schedules', { key: acme })).body.schedules.map(({ id }) => id)).toEqual(['nightly'])
    for (const [method, path] of [['GET', ''], ['POST', '/pause'], ['POST', '/resume'], ['DELETE', '']] as const) {
      expect([method, await call(method, `/v1/schedules/theirs${path}`, { key: acme })]).toMatchObject([method, { status: 404, body: { code: 'SWY_SCHEDULE_UNKNOWN' } }])
    }
    expect((await call('PUT', '/v1/schedules/theirs', { key: acme, body })).status).toBe(422)
    expect((await call('PUT', '/v1/schedules/mine', { key: acme, body: { ...body, job: spec({ tenant: 'globex' }) } })).status).toBe(403)
    expect((await queue.schedules.get('theirs')).job.tenant).toBe('globex')

    expect((await call('POST', '/v1/schedules/nightly/pause', { key: acme })).body).toMatchObject({ paused: true, nextRunAt: null })
    expect((await call('POST', '/v1/schedules/nightly/resume', { key: acme })).body).toMatchObject({ paused: false, nextRunAt: expect.any(String) as string })
    expect((await call('PUT', '/v1/schedules/nightly', { key: acme, body: { ...body, cron: 'often' } })).status).toBe(422)
    expect((await call('PUT', '/v1/schedules/..%2Fx', { key: acme, body })).status).toBe(422)
    expect((await call('DELETE', '/v1/schedules/nightly', { key: acme })).status).toBe(204)
    expect((await call('DELETE', '/v1/schedules/nightly', { key: acme })).status).toBe(404)
  })
})

describe('the deployment over HTTP', () => {
  it('shows providers to whoever may see all, and tenants to each its own', async () => {
    const { call, newKey, queue } = await serve(redis)
    const [all, acme] = [await newKey('read'), await newKey('read', ['acme', 'unheard of'])]
    await queue.enqueue({ repository: 'acme/web', steps: ['true'], tenant: 'acme' })
    await queue.enqueue({ repository: 'acme/web', steps: ['true'], tenant: 'globex' })
    await queue.enqueue({ repository: 'acme/web', steps: ['true'] })
    await redis.client.hset(`${redis.keys.ready()}:shares`, 'acme', '{"weight":2,"cap":10}', '*', '{"weight":1,"cap":3}', '', '1')
    expect((await call('GET', '/v1/providers', { key: all })).body).toEqual({ providers: [] })
    expect((await call('GET', '/v1/providers', { key: acme })).status).toBe(403)
    const listed = await call<{ tenants: { tenant: string }[]; cursor: null }>('GET', '/v1/tenants', { key: all })
    expect(listed.body.cursor).toBeNull()
    expect(listed.body.tenants.sort((a, b) => (a.tenant < b.tenant ? -1 : 1))).toEqual([
      { tenant: 'acme', running: 0, cap: 10, weight: 2, pause: null, set: null },
      { tenant: 'globex', running: 0, cap: 3, weight: 1, pause: null, set: null },
    ])
    expect((await call('GET', '/v1/tenants', { key: acme })).body).toEqual({ tenants: [{ tenant: 'acme', running: 0, cap: 10, weight: 2, pause: null, set: null }, { tenant: 'unheard of', running: 0, cap: 3, weight: 1, pause: null, set: null }], cursor: null })
  })
})
