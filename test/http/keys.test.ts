import { createHash } from 'node:crypto'
import { connect } from 'node:net'
import { Queue } from 'bullmq'
import { describe, expect, it } from 'vitest'
import { keyTable } from '../../src/cli/commands/keys.js'
import type { NewApiKey } from '../../src/http/index.js'
import { jobResult } from '../../src/consumers/ending/job-result.js'
import { newRunRecord } from '../../src/job/run-record.js'
import type { JobStatus } from '../../src/job/status.js'
import { ApiKeyStore, RunStore } from '../../src/store/index.js'
import { after, until, useRedis } from '../store/fixture.js'
import { call, endJob, serve, spec } from './fixture.js'

const redis = useRedis()

/** Everything that Redis holds, as text. */
async function dump(): Promise<string> {
  const client = redis.connect()
  const parts: string[] = []
  for (const key of await client.keys('*')) {
    const type = await client.type(key)
    const value = type === 'hash' ? await client.hgetall(key) : type === 'stream' ? await client.xrange(key, '-', '+') : type === 'zset' ? await client.zrange(key, '0', '-1') : type === 'list' ? await client.lrange(key, 0, -1) : type === 'set' ? await client.smembers(key) : await client.get(key)
    parts.push(key, JSON.stringify(value))
  }
  return parts.join('\n')
}

describe('API keys', () => {
  it('open until they are revoked, and only their digest is kept', async () => {
    const { keys, call } = await serve(redis)
    const { key, info } = await keys.create({ name: 'ci', scope: 'read', lifetimeMs: 3_600_000 })
    expect(key).toMatch(/^sy_[0-9a-f]{16}_[\w-]{43}$/)
    expect(info).toMatchObject({ name: 'ci', scope: 'read', tenants: null, state: 'valid', usedAtMs: null, expiresAtMs: info.createdAtMs + 3_600_000 })
    expect((await call('GET', '/v1/jobs', { key })).status).toBe(200)
    const [listed] = await keys.list()
    expect(listed).toMatchObject({ id: info.id, usedAtMs: expect.any(Number) as number })
    expect(keyTable(await keys.list())).toContain('ci    read   all      valid')

    const held = await dump()
    expect(held).toContain(createHash('sha256').update(key).digest('hex'))
    expect(held).not.toContain(key.slice(20))
    expect(JSON.stringify(await keys.list())).not.toContain(createHash('sha256').update(key).digest('hex'))

    expect(await keys.revoke(info.id)).toBe(true)
    expect(await keys.revoke(key)).toBe(false)
    expect(await call('GET', '/v1/jobs', { key })).toMatchObject({ status: 401, body: { detail: `API key ${info.id} was revoked; use another one` } })
    expect((await keys.list()).map(({ state }) => state)).toEqual(['revoked'])
    await expect(keys.revoke('0'.repeat(16))).rejects.toThrow('there is none with the id')
    await expect(keys.revoke('no id')).rejects.toThrow('must be 16 characters')
  })

  it('open nothing once they are revoked, not for a request that was let in before either: one that is still being sent, or waits', async () => {
    const { queue, keys, server } = await serve(redis)
    const writes = await keys.create({ name: 'writes', scope: 'write' })
    const reads = await keys.create({ name: 'reads', scope: 'read' })
    const letIn = (id: string) => until(async () => (await keys.list()).find((info) => info.id === id)?.usedAtMs != null, 'it is let in')
    const body = JSON.stringify(spec())
    const { hostname, port } = new URL(server.url)
    const socket = connect(Number(port), hostname)
    after(() => socket.destroy())
    let said = ''
    socket.setEncoding('utf8').on('data', (text: string) => (said += text))
    socket.write(`POST /v1/jobs HTTP/1.1\r\nhost: ${hostname}\r\nauthorization: Bearer ${writes.key}\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body.slice(0, 9)}`)
    const { jobId } = await queue.enqueue(spec())
    const waits = call(server.url, 'GET', `/v1/jobs/${jobId}?waitMs=30000`, { key: reads.key })
    for (const { info } of [writes, reads]) {
      await letIn(info.id)
      await keys.revoke(info.id)
    }
    // As long as tells a body that is sent slowly from others.
    const revokedAt = performance.now()
    await until(() => performance.now() - revokedAt > 150, 'some time is over')
    socket.write(body.slice(9))
    await endJob(redis, jobId)
    await until(() => said.includes('was revoked'), 'it is answered')
    expect(said).toMatch(/^HTTP\/1\.1 401 /)
    expect((await waits).status).toBe(401)
    expect((await queue.list()).map((job) => job.jobId)).toEqual([jobId])
  })

  it('are refused when they are not whole, by a sentence that tells nothing to a stranger', async () => {
    const { keys, call } = await serve(redis)
    const { key, info } = await keys.create({ name: 'ci', scope: 'admin' })
    const forged = key.replace(/.{43}$/, (secret) => secret.replace(/./g, (letter) => (letter === 'A' ? 'B' : 'A')))
    const wrong = [forged, `${key}x`, key.slice(0, -1), key.toUpperCase(), `sy_${'0'.repeat(16)}_${'A'.repeat(43)}`, 'sy_', '', 'x'.repeat(400), 'x'.repeat(4_000)]
    const details = new Set<unknown>()
    for (const text of wrong) {
      const { status, body } = await call('GET', '/v1/jobs', { key: text })
      expect([text, status]).toEqual([text, 401])
      details.add(body['detail'])
    }
    await keys.revoke(info.id)
    // Not even that it was revoked.
    details.add((await call('GET', '/v1/jobs', { key: forged })).body['detail'])
    expect([...details].filter((detail) => String(detail).includes(info.id))).toEqual([])
    expect((await keys.list())[0]?.usedAtMs).toBeNull()
  })

  it('expire by Redis’ clock, are shown for a while, and are bounded', async () => {
    const { keys, call } = await serve(redis)
    const { key, info } = await keys.create({ name: 'short', scope: 'read', lifetimeMs: 1_000 })
    await until(async () => (await keys.list())[0]?.state === 'expired', 'it has expired')
    expect(await call('GET', '/v1/jobs', { key })).toMatchObject({ status: 401, body: { detail: expect.stringContaining(`API key ${info.id} has expired`) as string } })
    const client = redis.connect()
    expect(await client.pttl(redis.keys.apiKey(info.id))).toBeGreaterThan(29 * 86_400_000)
    // One that is forgotten is not brought back by its use, nor counted.
    await client.del(redis.keys.apiKey(info.id))
    await new ApiKeyStore(client, redis.keys).used(info.id)
    expect(await client.exists(redis.keys.apiKey(info.id))).toBe(0)
    await client.zadd(redis.keys.apiKeys(), ...Array.from({ length: 10_000 }, (_, index) => ['+inf', `k${index}`]).flat())
    await expect(keys.create({ name: 'one more', scope: 'read' })).rejects.toThrow('there are 10000 already')
  })

  it('note their use once a minute', async () => {
    const { keys, newKey, call } = await serve(redis)
    const key = await newKey('read')
    await call('GET', '/v1/jobs', { key })
    const [first] = await keys.list()
    for (let count = 0; count < 5; count++) await call('GET', '/v1/jobs', { key })
    expect((await keys.list())[0]?.usedAtMs).toBe(first?.usedAtMs)
    await redis.client.hset(redis.keys.apiKey(first?.id ?? ''), 'usedAtMs', String((first?.usedAtMs ?? 0) - 60_000))
    await call('GET', '/v1/jobs', { key })
    expect((await keys.list())[0]?.usedAtMs).toBeGreaterThanOrEqual(first?.usedAtMs ?? 0)
  })

  it('are made of what can be', async () => {
    const { keys } = await serve(redis)
    const wrong: [object, string][] = [
      [{ scope: 'read' }, 'name: is missing'],
      [{ name: '', scope: 'read' }, 'name: must be'],
      [{ name: 'a\u001b[2J', scope: 'read' }, 'name: must be'],
      [{ name: 'a', scope: 'root' }, 'scope: must be'],
      [{ name: 'a', scope: 'read', tenants: [] }, 'tenants: is empty'],
      [{ name: 'a', scope: 'read', tenants: ['\ud800'] }, 'tenants[0]: holds half'],
      [{ name: 'a', scope: 'admin', tenants: ['acme'] }, 'tenants: an admin key'],
      [{ name: 'a', scope: 'read', lifetimeMs: 0.5 }, 'lifetimeMs: must be'],
      [{ name: 'a', scope: 'read', key: 'mine' }, 'key: is not a known field'],
    ]
    for (const [input, message] of wrong) await expect(keys.create(input as NewApiKey)).rejects.toThrow(message)
    expect(await keys.list()).toEqual([])
  })
})

describe('a key for tenants', () => {
  it('sees and touches their jobs alone: another’s is as unknown as one that never was', async () => {
    const { call, newKey, queue } = await serve(redis)
    const [all, acme] = [await newKey('write'), await newKey('write', ['acme'])]
    const enqueue = async (key: string, fields: object) => (await call<{ jobId: string }>('POST', '/v1/jobs', { key, body: spec(fields) })).body.jobId
    const own = await enqueue(acme, {})
    const foreign = await enqueue(all, { tenant: 'globex' })
    const nobodys = await enqueue(all, {})
    expect((await queue.job(own).status()).tenant).toBe('acme')
    const gone = (await call('GET', '/v1/jobs/key-none', { key: acme })).body['detail']
    for (const id of [foreign, nobodys]) {
      for (const [method, path] of [['GET', ''], ['GET', '?waitMs=1000'], ['POST', '/cancel'], ['POST', '/retry']] as const) {
        const answer = await call(method, `/v1/jobs/${id}${path}`, { key: acme })
        expect(answer).toMatchObject({ status: 404, body: { code: 'SWY_JOB_UNKNOWN', detail: String(gone).replace('key-none', id) } })
      }
      expect((await queue.job(id).status()).state).toBe('waiting')
    }
    // Also once they have ended, and once the queue has dropped them.
    await endJob(redis, foreign, { tenant: 'globex' })
    await queue.job(nobodys).cancel('enough')
    for (const id of [foreign, nobodys]) expect((await call('GET', `/v1/jobs/${id}`, { key: acme })).status).toBe(404)
    const listed = await call<{ jobs: JobStatus[] }>('GET', '/v1/jobs', { key: acme })
    expect(listed.body.jobs.map(({ jobId }) => jobId)).toEqual([own])
    expect((await call('GET', '/v1/jobs?tenant=globex', { key: acme })).status).toBe(403)
    // A cursor of somebody else's leads nowhere.
    for (let count = 0; count < 3; count++) await enqueue(all, { tenant: 'globex' })
    const page = await call<{ cursor: string }>('GET', '/v1/jobs?limit=1', { key: all })
    expect((await call('GET', `/v1/jobs?limit=1&cursor=${page.body.cursor}`, { key: acme })).status).toBe(422)
    expect((await call('POST', `/v1/jobs/${own}/cancel`, { key: acme })).body).toEqual({ outcome: 'cancelled' })
    expect((await call('GET', `/v1/jobs/${own}`, { key: acme })).body).toMatchObject({ state: 'cancelled', result: { error: { message: 'cancelled by write of a test' } } })
  })

  it('sees a job of theirs that runs when the queue has dropped it', async () => {
    const { call, newKey, queue } = await serve(redis)
    const [acme, globex] = [await newKey('write', ['acme']), await newKey('write', ['globex'])]
    const { jobId } = await queue.enqueue({ repository: 'acme/web', steps: ['true'], tenant: 'acme' })
    const fresh = newRunRecord({ jobId, generation: 1, repository: 'acme/web', startedAtMs: 1, tenant: 'acme' })
    await new RunStore(redis.client, redis.keys).acquire(jobId, { holder: 'consumer', fresh })
    await redis.client.del(redis.keys.job(jobId))
    expect((await call('GET', `/v1/jobs/${jobId}`, { key: acme })).body).toMatchObject({ state: 'running', tenant: 'acme' })
    expect((await call('GET', `/v1/jobs/${jobId}`, { key: globex })).status).toBe(404)
    // What the reaper ends it with is theirs, too.
    expect(jobResult({ ...fresh, outcome: { status: 'cancelled', error: null } }, { metadata: {} }, [], 0).tenant).toBe('acme')
  })

  it('enqueues for them alone', async () => {
    const { call, newKey, queue } = await serve(redis)
    const [one, two] = [await newKey('write', ['acme']), await newKey('write', ['acme', 'globex'])]
    for (const [key, tenant] of [[one, 'globex'], [one, null], [one, ['acme']], [one, ''], [two, 'other'], [two, undefined]] as const) {
      expect([tenant, (await call('POST', '/v1/jobs', { key, body: spec(tenant === undefined ? {} : { tenant }) })).status]).toEqual([tenant, 403])
    }
    expect((await call('POST', '/v1/jobs/bulk', { key: two, body: { jobs: [spec({ tenant: 'acme' }), spec({ tenant: 'other' })] } })).status).toBe(403)
    expect(await queue.list()).toEqual([])
    await call('POST', '/v1/jobs/bulk', { key: two, body: { jobs: [spec({ tenant: 'acme' }), spec({ tenant: 'globex' })] } })
    await queue.enqueue({ repository: 'acme/web', steps: ['true'], tenant: 'other' })
    expect((await call<{ jobs: JobStatus[] }>('GET', '/v1/jobs', { key: two })).body.jobs.map(({ tenant }) => tenant).sort()).toEqual(['acme', 'globex'])
    expect((await call<{ jobs: JobStatus[] }>('GET', '/v1/jobs', { key: one })).body.jobs.map(({ tenant }) => tenant)).toEqual(['acme'])
  })

  it('shares no key of idempotency or concurrency with another tenant', async () => {
    const { call, newKey, queue } = await serve(redis)
    const [acme, globex] = [await newKey('write', ['acme']), await newKey('write', ['globex'])]
    const body = spec({ idempotencyKey: 'nightly', concurrency: { key: 'main', then: 'cancel-waiting' } })
    const first = await call<{ jobId: string }>('POST', '/v1/jobs', { key: acme, body })
    const second = await call<{ jobId: string }>('POST', '/v1/jobs', { key: globex, body })
    expect([first.status, second.status]).toEqual([201, 201])
    expect(first.body.jobId).not.toBe(second.body.jobId)
    expect((await call('POST', '/v1/jobs', { key: acme, body })).body).toEqual(first.body)
    const conflict = await call('POST', '/v1/jobs', { key: acme, body: { ...body, priority: 1 } })
    expect(conflict).toMatchObject({ status: 409, body: { detail: expect.stringContaining('"nightly" was used for job') as string } })
    // The other tenant's newer job has not ended this one's.
    expect((await queue.job(first.body.jobId).status()).state).toBe('waiting')
    const own = await call<{ jobId: string }>('POST', '/v1/jobs', { key: acme, body: spec({ concurrency: { key: 'main', then: 'cancel-waiting' } }) })
    await until(async () => (await queue.job(first.body.jobId).status()).state === 'cancelled', 'its own newer one has')
    expect((await queue.job(own.body.jobId).status()).state).toBe('waiting')
  })
})

it('a tenant’s key of concurrency is nobody else’s, whatever it is called, and may be as long for each', async () => {
  const { call, newKey, queue } = await serve(redis)
  const key = await newKey('write', ['acme'])
  // As the application that has everybody's jobs calls it: by the repository.
  const others = await queue.enqueue({ repository: 'acme/web', steps: ['true'], tenant: 'globex', concurrency: { key: 'acme/web:main' } })
  for (const name of ['web:main', '/web:main', 'acme/web:main', '../acme/web:main']) {
    expect((await call('POST', '/v1/jobs', { key, body: spec({ concurrency: { key: name, then: 'cancel-waiting' } }) })).status).toBe(201)
  }
  expect((await queue.job(others.jobId).status()).state).toBe('waiting')

  const [one, two] = ['社'.repeat(100), `${'社'.repeat(99)}長`]
  const keys = [await newKey('write', [one]), await newKey('write', [two])]
  const send = async (of: string | undefined, name: string) => await call<{ jobId: string }>('POST', '/v1/jobs', { key: of, body: spec({ concurrency: { key: name, then: 'cancel-waiting' } }) })
  for (const name of ['main', 'm'.repeat(200)]) {
    const sent = [await send(keys[0], name), await send(keys[1], name), await send(keys[0], `${name.slice(1)}x`), await send(keys[0], name)]
    expect(sent.map(({ status }) => status)).toEqual([201, 201, 201, 201])
    await until(async () => (await queue.job(sent[0]?.body.jobId ?? '').status()).state === 'cancelled', 'their own newer one has it')
    expect((await queue.statuses(sent.slice(1).map(({ body }) => body.jobId))).map((status) => status?.state)).toEqual(['waiting', 'waiting', 'waiting'])
  }
  expect(await send(keys[0], 'm'.repeat(201))).toMatchObject({ status: 422, body: { detail: expect.stringContaining('concurrency.key: is longer than 200 characters') as string } })
})

describe('a key for repositories and secrets', () => {
  const limits = { repositories: ['acme/web', 'acme/tool-*', 'globex/*'], secrets: ['API_KEY', 'HOOK_SECRET'] }

  it('has jobs run on these and with these alone, whichever way they are begun', async () => {
    const { call, keys, queue } = await serve(redis)
    const { key } = await keys.create({ name: 'limited', scope: 'write', ...limits })
    const hook = (secretName: string) => ({ webhooks: [{ url: 'https://example.com/jobs', secretName }] })
    const inject = (name: string) => ({ name, inject: { host: 'api.example.com', header: 'x-api-key' } })
    const table: readonly [object, boolean][] = [
      [{}, true], [{ repository: 'acme/tool-a' }, true], [{ repository: 'globex/x/y' }, true], [{ secrets: ['API_KEY'] }, true], [{ secrets: [inject('API_KEY')] }, true], [hook('HOOK_SECRET'), true],
      [{ repository: 'acme/web2' }, false], [{ repository: 'acme/other' }, false], [{ repository: 'Acme/web' }, false], [{ repository: 'globex' }, false], [{ repository: 'acme/tool' }, false],
      [{ secrets: ['OTHER'] }, false], [{ secrets: ['API_KEY', 'OTHER'] }, false], [{ secrets: [inject('OTHER')] }, false], [hook('API_KEY_2'), false],
    ]
    const schedule = (fields: object) => ({ cron: '0 3 * * *', job: spec(fields) })
    for (const [fields, allowed] of table) {
      const single = await call('POST', '/v1/jobs', { key, body: spec(fields) })
      const bulk = await call('POST', '/v1/jobs/bulk', { key, body: { jobs: [spec(), spec(fields)] } })
      const put = await call('PUT', '/v1/schedules/nightly', { key, body: schedule(fields) })
      expect([fields, single.status, bulk.status, put.status]).toEqual([fields, ...(allowed ? [201, 201, 200] : [403, 403, 403])])
      if (!allowed) {
        expect(single.body).toMatchObject({ code: 'SWY_HTTP_FORBIDDEN', detail: expect.stringMatching(/^(repository|secrets|webhooks): ".+" is none of those that API key [0-9a-f]{16} may have jobs (run on|use); .* or use another key$/) as string })
        expect(bulk.body['detail']).toMatch(/^jobs\[1\]\./)
        expect(put.body['detail']).toMatch(/^job\./)
      }
    }
    const jobs = await queue.list({ limit: 100 })
    const allowed = table.filter(([, may]) => may).length
    expect(jobs).toHaveLength(3 * allowed)
    // What is wrong is still told as that.
    expect((await call('POST', '/v1/jobs', { key, body: { repository: 'nowhere' } })).status).toBe(422)
    expect((await call('POST', '/v1/jobs', { key, body: [] })).status).toBe(422)
  })

  it('begins nothing again that another one could: by retry, by resume, by a default of the queue', async () => {
    const { call, keys, queue, newKey } = await serve(redis, { queueOptions: { defaults: { repository: 'secret/base', secrets: ['DEFAULT_KEY'] } } })
    const [{ key }, all] = [await keys.create({ name: 'limited', scope: 'write', ...limits }), await newKey('write')]
    expect((await call('POST', '/v1/jobs', { key, body: { steps: ['true'] } })).status).toBe(403)
    expect((await call('POST', '/v1/jobs', { key, body: { repository: 'acme/web', steps: ['true'] } })).status).toBe(403)
    for (const fields of [{ repository: 'other/x', secrets: [] }, { repository: 'acme/web', secrets: ['OTHER'] }]) {
      const { jobId } = (await call<{ jobId: string }>('POST', '/v1/jobs', { key: all, body: spec(fields) })).body
      await endJob(redis, jobId, { status: 'failed' })
      expect((await call('POST', `/v1/jobs/${jobId}/retry`, { key })).status).toBe(403)
      expect((await queue.job(jobId).status()).state).toBe('failed')
      // Looking and ending is not what it is limited in.
      expect((await call('GET', `/v1/jobs/${jobId}`, { key })).status).toBe(200)
      await call('PUT', '/v1/schedules/nightly', { key: all, body: { cron: '0 3 * * *', job: spec(fields) } })
      await call('POST', '/v1/schedules/nightly/pause', { key: all })
      expect((await call('POST', '/v1/schedules/nightly/resume', { key })).status).toBe(403)
      expect((await queue.schedules.get('nightly')).paused).toBe(true)
    }
    // Added by hand, as consumers take it: without what else a producer writes; and one of which nobody here knows what it runs.
    const byHand = new Queue(queue.name, { prefix: queue.prefix, connection: redis.client })
    after(() => byHand.close())
    const inHand = { repository: 'other/x', steps: ['true'], secrets: ['OTHER'], providers: { allow: ['e2b'] } }
    for (const [jobId, added, status] of [['other', inHand, 403], ['later', { ...inHand, repository: 'acme/web', secrets: [], later: true }, 403], ['own', { ...inHand, repository: 'acme/web', secrets: [] }, 200]] as const) {
      await byHand.add('by hand', { spec: added }, { jobId })
      await endJob(redis, jobId, { status: 'failed' })
      expect([jobId, (await call('POST', `/v1/jobs/${jobId}/retry`, { key })).status]).toEqual([jobId, status])
      expect((await queue.job(jobId).status()).state).toBe(status === 403 ? 'failed' : 'waiting')
    }
    expect((await call('POST', '/v1/schedules/none/resume', { key })).status).toBe(404)
    expect((await call('POST', '/v1/jobs/none/retry', { key })).status).toBe(404)
  })

  it('lets an application’s own admin have run what is within them alone, also by many at once or by a new key', async () => {
    const { call, queue } = await serve(redis, { authenticate: () => ({ id: 'ada', name: 'Ada', scope: 'admin', tenants: null, repositories: ['acme/*'] }) })
    const { jobId } = await queue.enqueue(spec({ repository: 'other/x' }))
    await endJob(redis, jobId, { status: 'failed' })
    for (const [path, body] of [['/v1/operations/retry-jobs', { where: 'state=failed' }], ['/v1/keys', { name: 'a', scope: 'write' }]] as const) expect((await call('POST', path, { body })).status).toBe(403)
    expect((await queue.job(jobId).status()).state).toBe('failed')
    expect((await call('POST', '/v1/queue/pause', { body: {} })).status).toBe(200)
  })

  it('is made of what can be, and shows its limits', async () => {
    const { keys, call } = await serve(redis)
    const wrong: [object, string][] = [
      [{ repositories: [] }, 'repositories: is empty'], [{ repositories: ['../x'] }, 'repositories[0]: must be'], [{ repositories: ['*/web'] }, 'repositories[0]: must be'], [{ repositories: ['a\u001b*'] }, 'repositories[0]: must be'],
      [{ repositories: Array<string>(101).fill('a') }, 'repositories: names more than 100'], [{ secrets: ['A B'] }, 'secrets[0]: must be'], [{ secrets: 'API_KEY' }, 'secrets: '],
      [{ scope: 'read', secrets: [] }, 'secrets: limits what is enqueued'], [{ scope: 'admin', repositories: ['a'] }, 'repositories: limits what is enqueued'],
    ]
    for (const [input, message] of wrong) await expect(keys.create({ name: 'a', scope: 'write', ...input })).rejects.toThrow(message)
    const { key } = await keys.create({ name: 'none', scope: 'write', repositories: ['acme/*'], secrets: [] })
    expect((await call('POST', '/v1/jobs', { key, body: spec({ secrets: ['A'] }) })).status).toBe(403)
    expect((await call('POST', '/v1/jobs', { key, body: spec() })).status).toBe(201)
    expect(keyTable(await keys.list())).toMatch(/none +write +all +valid .* acme\/\* +none$/m)
    // As an earlier release left it.
    const [info] = await keys.list()
    await redis.client.hdel(redis.keys.apiKey(info?.id ?? ''), 'repositories', 'secrets')
    expect((await call('POST', '/v1/jobs', { key, body: spec({ repository: 'other/x' }) })).status).toBe(201)
  })
})

describe('keys that open nothing', () => {
  const bad = (letter: string) => `sy_${'0'.repeat(16)}_${letter.repeat(43)}`
  const limit = { keyTries: { requests: 3, perSeconds: 60 } }

  it('are refused more briefly once many came from an address, and never shut out one that opens', async () => {
    const { call, newKey, keys } = await serve(redis, limit)
    const key = await newKey('read')
    const { key: gone, info } = await keys.create({ name: 'gone', scope: 'read' })
    await keys.revoke(info.id)
    const statuses: number[] = []
    for (const text of [bad('a'), bad('b'), 'no key', bad('c'), gone, bad('d')]) statuses.push((await call('GET', '/v1/jobs', { key: text })).status)
    expect(statuses).toEqual([401, 401, 401, 429, 429, 429])
    const refused = await call('GET', '/v1/jobs', { key: bad('e') })
    expect(refused.body).toMatchObject({ code: 'SWY_HTTP_RATE_LIMITED', detail: expect.stringMatching(/^authorization: 3 keys that open nothing/) as string })
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
    for (let count = 0; count < 5; count++) expect((await call('GET', '/v1/jobs', { key })).status).toBe(200)
    // Who sends none tries none.
    expect((await call('GET', '/v1/jobs')).status).toBe(401)
    // Redis holds nothing of it.
    expect((await redis.client.keys('*')).filter((name) => name.includes('127.0.0.1'))).toEqual([])
  })

  it('are counted by the client behind a proxy that is trusted, and by nothing that a client makes up', async () => {
    const table: readonly [readonly string[], (n: number) => string, number][] = [
      // Not trusted: whatever it says is one address.
      [[], (n) => `198.51.100.${n}`, 429],
      [['127.0.0.1'], (n) => `198.51.100.${n}`, 401],
      // Only what the proxy itself wrote last counts.
      [['127.0.0.1'], (n) => `198.51.100.${n}, 203.0.113.7`, 429],
      [['127.0.0.1', '10.0.0.0/8'], (n) => `198.51.100.${n}, 203.0.113.7, 10.1.2.3`, 429],
      [['127.0.0.1'], (n) => `2001:db8:1:1::${n}`, 429],
      [['127.0.0.1'], (n) => `2001:db8:1:${n}::1`, 401],
      [['127.0.0.1'], (n) => `nonsense ${n}`, 429],
      [['127.0.0.1'], () => '', 429],
    ]
    for (const [trustedProxies, forwarded, last] of table) {
      const { call } = await serve(redis, { ...limit, trustedProxies })
      let status = 0
      for (let n = 1; n <= 4; n++) status = (await call('GET', '/v1/jobs', { key: bad('a'), headers: { 'x-forwarded-for': forwarded(n) } })).status
      expect([trustedProxies, forwarded(1), status]).toEqual([trustedProxies, forwarded(1), last])
    }
    await expect(serve(redis, { trustedProxies: ['10.1'] })).rejects.toThrow('trustedProxies: "10.1" is no network')
  })
})
