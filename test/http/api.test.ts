import { createServer } from 'node:http'
import { connect, type AddressInfo } from 'node:net'
import { getRequestListener } from '@hono/node-server'
import express, { type ErrorRequestHandler } from 'express'
import fastify from 'fastify'
import { Hono } from 'hono'
import { describe, expect, it } from 'vitest'
import type { Api } from '../../src/http/index.js'
import { jobResultSchema } from '../../src/job/result.js'
import type { JobStatus } from '../../src/job/status.js'
import { jobSchema } from '../../src/http/schemas.js'
import { after, until, useRedis } from '../store/fixture.js'
import { call, endJob, expectProblem, serve, spec } from './fixture.js'

const redis = useRedis()

describe('jobs over HTTP', () => {
  it('are enqueued as AgentQueue enqueues them, read, cancelled and run again', async () => {
    const { call, newKey, queue } = await serve(redis)
    const key = await newKey('write')
    const made = await call<{ jobId: string }>('POST', '/v1/jobs', { key, body: spec({ priority: 7, tenant: 'acme', metadata: { issue: 1 } }) })
    expect(made).toMatchObject({ status: 201, body: { jobId: expect.stringMatching(/./) as string } })
    const { jobId } = made.body
    expect(new URL(made.headers.get('location') ?? '', 'http://host/v1/jobs').pathname).toBe(`/v1/jobs/${jobId}`)
    const own = await queue.job(jobId).status()
    const read = await call<JobStatus>('GET', `/v1/jobs/${jobId}`, { key })
    expect(read).toMatchObject({ status: 200, body: { ...own, tenant: 'acme', state: 'waiting' } })
    expect(jobSchema.safeParse(read.body).error).toBeUndefined()

    expect((await call('POST', `/v1/jobs/${jobId}/cancel`, { key, body: { reason: 'not needed' } })).body).toEqual({ outcome: 'cancelled' })
    const cancelled = await call<JobStatus>('GET', `/v1/jobs/${jobId}`, { key })
    expect(cancelled.body).toMatchObject({ state: 'cancelled', tenant: 'acme', result: { error: { message: 'not needed' }, tenant: 'acme' } })
    expect(jobResultSchema.safeParse(cancelled.body.result).error).toBeUndefined()
    expect((await call('POST', `/v1/jobs/${jobId}/cancel`, { key })).body).toEqual({ outcome: 'ended' })
    expect((await call('POST', `/v1/jobs/${jobId}/retry`, { key })).body).toEqual({ outcome: 'retried' })
    expect((await call('GET', `/v1/jobs/${jobId}`, { key })).body).toMatchObject({ state: 'waiting', result: null })

    const other = await call<{ jobId: string }>('POST', '/v1/jobs', { key, body: spec() })
    expect((await call('POST', `/v1/jobs/${other.body.jobId}/retry`, { key })).body).toEqual({ outcome: 'pending' })
    expect((await call('POST', `/v1/jobs/${other.body.jobId}/retry`, { key, body: { from: 'nowhere' } })).status).toBe(422)
  })

  it('in bulk all or none, and with their idempotency keys once', async () => {
    const { call, newKey } = await serve(redis)
    const key = await newKey('write')
    const jobs = Array.from({ length: 30 }, (_, index) => spec({ idempotencyKey: `k${index}` }))
    const first = await call<{ jobs: { jobId: string }[] }>('POST', '/v1/jobs/bulk', { key, body: { jobs } })
    expect(first).toMatchObject({ status: 201 })
    expect(new Set(first.body.jobs.map(({ jobId }) => jobId)).size).toBe(30)
    expect((await call('POST', '/v1/jobs/bulk', { key, body: { jobs } })).body).toEqual(first.body)
    const wrong = await call('POST', '/v1/jobs/bulk', { key, body: { jobs: [spec(), spec({ repository: '../x' })] } })
    expect(wrong).toMatchObject({ status: 422, body: { code: 'SWY_INPUT_INVALID', problems: [expect.stringContaining('jobs[1]: repository')] } })
    expect(await call('POST', '/v1/jobs', { key, body: spec({ idempotencyKey: 'k0', priority: 3 }) })).toMatchObject({ status: 409, body: { code: 'SWY_IDEMPOTENCY_CONFLICT' } })
    expect((await call<{ jobs: unknown[] }>('GET', '/v1/jobs?limit=200', { key })).body.jobs).toHaveLength(30)
  })

  it('are listed by filter, a page at a time', async () => {
    const { call, newKey } = await serve(redis)
    const key = await newKey('write')
    const jobs = Array.from({ length: 25 }, (_, index) => spec({ tenant: index % 5 === 0 ? 'rare' : 'usual', repository: index % 2 === 0 ? 'acme/web' : 'acme/api' }))
    await call('POST', '/v1/jobs/bulk', { key, body: { jobs } })
    const found: string[] = []
    let cursor: string | null = ''
    while (cursor !== null) {
      const page: { body: { jobs: JobStatus[]; cursor: string | null } } = await call('GET', `/v1/jobs?tenant=usual&state=waiting&limit=7${cursor === '' ? '' : `&cursor=${cursor}`}`, { key })
      found.push(...page.body.jobs.map(({ jobId }) => jobId))
      cursor = page.body.cursor
    }
    expect([found.length, new Set(found).size]).toEqual([20, 20])
    expect((await call<{ jobs: JobStatus[] }>('GET', '/v1/jobs?repository=acme/api&tenant=rare', { key })).body.jobs.map(({ repository }) => repository)).toEqual(['acme/api', 'acme/api'])
    expect((await call<{ jobs: JobStatus[] }>('GET', '/v1/jobs?since=2999-01-01T00:00:00Z', { key })).body.jobs).toEqual([])
    for (const query of ['state=ended', 'sate=failed', 'limit=0', 'limit=201', 'limit=many', 'since=yesterday', 'cursor=!!', 'tenant=', 'tenant=a&tenant=b']) {
      expect([query, (await call('GET', `/v1/jobs?${query}`, { key })).status]).toEqual([query, 422])
    }
  })

  it('can be waited for', async () => {
    const { call, newKey } = await serve(redis)
    const key = await newKey('write')
    const { jobId } = (await call<{ jobId: string }>('POST', '/v1/jobs', { key, body: spec() })).body
    expect((await call('GET', `/v1/jobs/${jobId}?waitMs=50`, { key })).body).toMatchObject({ state: 'waiting' })
    const waiting = call('GET', `/v1/jobs/${jobId}?waitMs=60000`, { key })
    await endJob(redis, jobId, { branch: 'agent/x' })
    expect((await waiting).body).toMatchObject({ state: 'succeeded', result: { branch: 'agent/x' } })
    expect((await call('GET', `/v1/jobs/${jobId}?waitMs=60001`, { key })).status).toBe(422)
  })

  it('are none where BullMQ keeps something else', async () => {
    const { call, newKey, queue } = await serve(redis)
    const key = await newKey('write')
    const { jobId } = (await call<{ jobId: string }>('POST', '/v1/jobs', { key, body: spec() })).body
    const before = (await redis.client.keys('*')).sort()
    for (const id of ['wait', 'meta', 'id', 'pc', 'marker', 'completed', 'prioritized', 'events', `${jobId}:lock`, `${jobId}:logs`, '..', '%00', 'a%2Fb', '%E0%A4%A', 'x'.repeat(300), '🙂']) {
      for (const [method, path] of [['GET', ''], ['POST', '/cancel'], ['POST', '/retry']] as const) {
        const { status } = await call(method, `/v1/jobs/${id}${path}`, { key })
        expect([id, method, status]).toEqual([id, method, expect.toSatisfy((value: number) => [404, 405, 422].includes(value))])
      }
    }
    expect((await redis.client.keys('*')).sort()).toEqual(before)
    expect((await queue.job(jobId).status()).state).toBe('waiting')
  })
})

describe('every refusal is a problem', () => {
  it('with a stable code, and nothing is enqueued', async () => {
    const { call, newKey, url, queue } = await serve(redis, { maxBodyBytes: 10_000 })
    const key = await newKey('write')
    const body = spec()
    const cases: [what: string, status: number, code: string, answer: Promise<{ status: number; body: { code?: unknown } }>][] = [
      ['broken JSON', 400, 'SWY_HTTP_MALFORMED', call('POST', '/v1/jobs', { key, body: '{"repository":' })],
      ['no UTF-8', 400, 'SWY_HTTP_MALFORMED', call('POST', '/v1/jobs', { key, body: new Uint8Array([0x22, 0xff, 0x22]) })],
      ['no key', 401, 'SWY_HTTP_UNAUTHENTICATED', call('POST', '/v1/jobs', { body })],
      ['another scheme', 401, 'SWY_HTTP_UNAUTHENTICATED', call('POST', '/v1/jobs', { body, headers: { authorization: `Basic ${key}` } })],
      ['another origin', 403, 'SWY_HTTP_FORBIDDEN', call('POST', '/v1/jobs', { key, body, headers: { origin: 'https://evil.example' } })],
      ['no origin', 403, 'SWY_HTTP_FORBIDDEN', call('POST', '/v1/jobs', { key, body, headers: { origin: 'null' } })],
      ['no such path', 404, 'SWY_HTTP_NOT_FOUND', call('GET', '/v2/jobs', { key })],
      ['no such job', 404, 'SWY_JOB_UNKNOWN', call('GET', '/v1/jobs/none', { key })],
      ['another method', 405, 'SWY_HTTP_METHOD', call('PUT', '/v1/jobs', { key, body })],
      ['a preflight', 405, 'SWY_HTTP_METHOD', call('OPTIONS', '/v1/jobs')],
      ['too large', 413, 'SWY_HTTP_BODY_SIZE', call('POST', '/v1/jobs', { key, body: spec({ metadata: { text: 'x'.repeat(20_000) } }) })],
      ['no content type', 415, 'SWY_HTTP_CONTENT_TYPE', call('POST', '/v1/jobs', { key, body: JSON.stringify(body), headers: { 'content-type': 'text/plain' } })],
      ['another charset', 415, 'SWY_HTTP_CONTENT_TYPE', call('POST', '/v1/jobs', { key, body, headers: { 'content-type': 'application/json; charset=latin1' } })],
      ['compressed', 415, 'SWY_HTTP_CONTENT_TYPE', call('POST', '/v1/jobs', { key, body, headers: { 'content-encoding': 'gzip' } })],
      ['no body', 422, 'SWY_INPUT_INVALID', call('POST', '/v1/jobs', { key })],
      ['a wrong spec', 422, 'SWY_INPUT_INVALID', call('POST', '/v1/jobs', { key, body: { steps: [] } })],
      ['an unknown field', 422, 'SWY_INPUT_INVALID', call('POST', '/v1/jobs', { key, body: spec({ __proto__x: 1 }) })],
      ['not for this key', 403, 'SWY_HTTP_FORBIDDEN', call('POST', '/v1/jobs', { key: await newKey('read'), body })],
    ]
    for (const [what, status, code, answer] of cases) expect([what, await answer]).toMatchObject([what, { status, body: { code } }])
    expect((await call('PUT', '/v1/jobs', { key })).headers.get('allow')).toBe('GET, HEAD, POST')
    expect((await call('POST', '/v1/jobs')).headers.get('www-authenticate')).toBe('Bearer realm="switchyard"')

    // In pieces, without a length.
    const piece = new TextEncoder().encode('x'.repeat(1_000))
    let left = 50
    const chunked = await fetch(new URL('/v1/jobs', url), {
      method: 'POST', duplex: 'half', headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: new ReadableStream({ pull: (controller) => (left-- > 0 ? controller.enqueue(piece) : controller.close()) }),
    })
    expect(expectProblem(chunked, await chunked.text()).code).toBe('SWY_HTTP_BODY_SIZE')
    expect(await queue.list()).toEqual([])
  })

  it('also what is no HTTP, and what the queue did not foresee', async () => {
    const { call, newKey, url, errors, queue } = await serve(redis)
    const raw = async (text: string) => {
      const socket = connect(Number(new URL(url).port), '127.0.0.1')
      socket.end(text)
      const parts: Buffer[] = []
      for await (const part of socket) parts.push(part as Buffer)
      const [head = '', body = ''] = Buffer.concat(parts).toString().split('\r\n\r\n')
      return expectProblem({ status: Number(head.split(' ')[1]), headers: new Headers({ 'content-type': /content-type: (\S+)/i.exec(head)?.[1] ?? '' }) }, body)
    }
    expect((await raw('NONSENSE\r\n\r\n')).status).toBe(400)
    expect((await raw(`GET / HTTP/1.1\r\nhost: a\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`)).status).toBe(431)
    expect((await raw('GET /healthz HTTP/1.1\r\nhost: a b\r\nconnection: close\r\n\r\n')).status).toBe(400)
    expect((await raw('TRACE /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n')).status).toBeGreaterThanOrEqual(400)

    const key = await newKey('read')
    const secret = 'a sentence of somebody else'
    queue.list = () => Promise.reject(new Error(secret))
    const failed = await call('GET', '/v1/jobs', { key })
    expect(failed).toMatchObject({ status: 500, body: { code: 'SWY_INTERNAL' } })
    expect(JSON.stringify(failed.body)).not.toContain(secret)
    expect(errors).toMatchObject([{ err: { message: secret } }])
  })

  it('while Redis is away', async () => {
    const { call, newKey, queue } = await serve(redis)
    const key = await newKey('write')
    await queue.close()
    expect((await call('GET', '/healthz')).status).toBe(200)
    const away = await serve(redis, { queueOptions: { redis: { url: 'redis://127.0.0.1:1' } } })
    expect((await away.call('GET', '/healthz')).status).toBe(200)
    for (const [method, path] of [['GET', '/readyz'], ['GET', '/v1/jobs'], ['POST', '/v1/jobs']] as const) {
      const answer = await away.call(method, path, { key, ...(method === 'POST' ? { body: spec() } : {}) })
      expect(answer).toMatchObject({ status: 503, body: { code: 'SWY_REDIS_UNAVAILABLE' } })
      expect(answer.headers.get('retry-after')).toBe('1')
    }
    const known = await serve(redis, { queueOptions: { redis: { url: 'redis://127.0.0.1:1' } }, authenticate: () => ({ id: 'ada', name: 'Ada', scope: 'write', tenants: null }) })
    for (const _again of [1, 2]) expect(await known.call('POST', '/v1/jobs', { body: spec(), headers: { 'idempotency-key': 'a' } })).toMatchObject({ status: 503, body: { code: 'SWY_REDIS_UNAVAILABLE' } })
    expect([...away.errors, ...known.errors].filter((fields) => !(fields as { err: Error }).err.message.startsWith('redis: '))).toEqual([])
  })
})

describe('the server', () => {
  it('stops: waits for what is under way, and takes nothing more', async () => {
    const { call, newKey, api, server, url } = await serve(redis)
    const key = await newKey('write')
    const { jobId } = (await call<{ jobId: string }>('POST', '/v1/jobs', { key, body: spec() })).body
    expect((await call('GET', '/readyz')).status).toBe(200)
    const waiting = call('GET', `/v1/jobs/${jobId}?waitMs=60000`, { key })
    await until(async () => (await redis.client.pubsub('NUMSUB', redis.keys.doneChannel()))[1] === 1, 'the request waits')
    api.stop()
    expect((await waiting).body).toMatchObject({ state: 'waiting' })
    expect(await call('GET', '/readyz')).toMatchObject({ status: 503, body: { code: 'SWY_HTTP_UNAVAILABLE' } })
    await server.close()
    await expect(fetch(url)).rejects.toThrow('fetch failed')
  })

  it('gives no answer to caches or pages', async () => {
    const { call } = await serve(redis)
    for (const path of ['/healthz', '/v1/jobs', '/none']) {
      const { headers } = await call('GET', path)
      expect([headers.get('cache-control'), headers.get('x-content-type-options')]).toEqual(['no-store', 'nosniff'])
    }
  })
})

describe('the document', () => {
  it('is OpenAPI 3.1, says of each route what it takes and gives, and leads nowhere that is not there', async () => {
    const { call } = await serve(redis)
    type Operation = { operationId: string; security: unknown[]; responses: Record<string, object>; requestBody?: object }
    const { body: document } = await call<{ openapi: string; paths: Record<string, Record<string, Operation>>; components: { schemas: Record<string, object> } }>('GET', '/openapi.json')
    expect(document.openapi).toBe('3.1.0')
    const operations = Object.values(document.paths).flatMap((methods) => Object.values(methods))
    const ids = operations.map(({ operationId }) => operationId)
    expect(ids).toEqual(expect.arrayContaining(['createJob', 'createJobs', 'listJobs', 'getJob', 'cancelJob', 'retryJob', 'getHealth', 'getReadiness']))
    expect(new Set(ids).size).toBe(ids.length)
    for (const { operationId, responses, security } of operations) {
      expect([operationId, Object.keys(responses)]).toEqual([operationId, expect.arrayContaining(['401', '403', '422', '500', '503'])])
      expect([operationId, security]).toEqual([operationId, operationId.startsWith('get') && ['getHealth', 'getReadiness'].includes(operationId) ? [] : [{ key: [] }]])
    }
    const text = JSON.stringify(document)
    const names = [...text.matchAll(/"\$ref":"([^"]*)"/g)].map(([, name = '']) => name)
    expect(names.filter((name) => !(name.replace('#/components/schemas/', '') in document.components.schemas))).toEqual([])
    expect(Object.keys(document.components.schemas).filter((name) => !names.includes(`#/components/schemas/${name}`))).toEqual([])
    // What may come to have more values is a plain text in answers; what has a default is always there.
    const job = document.components.schemas['Job'] as { required: string[]; properties: Record<string, { type?: unknown; enum?: unknown }> }
    expect(job.properties['state']).toMatchObject({ type: 'string' })
    expect(job.properties['state']?.enum).toBeUndefined()
    expect(job.properties['tenant']).toMatchObject({ type: ['string', 'null'] })
    const result = document.components.schemas['JobResult'] as { required: string[] }
    expect(result.required).toEqual(expect.arrayContaining(['branch', 'unsavedMore', 'tenant']))
    expect((document.components.schemas['JobSpec'] as { required: string[] }).required).toEqual(['repository', 'steps'])
    expect(text).not.toContain('9007199254740991')
  })
})

describe('mounted in an application', () => {
  const applications: Record<string, (api: Api) => Promise<string>> = {
    'of Hono': async (api) => {
      const app = new Hono().get('/own', (context) => context.text('own')).route('/switchyard', api.app)
      return await listen(createServer((request, response) => void getRequestListener(app.fetch, { overrideGlobalObjects: false })(request, response)))
    },
    'of Express': async (api) => {
      const app = express()
      app.use('/switchyard', (request, response) => void api.listener(request, response))
      app.get('/own', (_request, response) => void response.send('own'))
      return await listen(createServer(app))
    },
    'of Express that has parsed the body': async (api) => {
      const app = express()
      app.use(express.json({ strict: false }))
      app.use('/switchyard', (request, response) => void api.listener(request, response))
      app.get('/own', (_request, response) => void response.send('own'))
      app.use(((_error, _request, response, _next) => void response.status(400).json({}).end()) as ErrorRequestHandler)
      return await listen(createServer(app))
    },
    'of Fastify': async (api) => {
      const app = fastify()
      await app.register(async (scope) => {
        scope.removeAllContentTypeParsers()
        scope.addContentTypeParser('*', (_request, _payload, done) => done(null))
        scope.all('/switchyard/*', (request, reply) => {
          reply.hijack()
          request.raw.url = request.raw.url?.slice('/switchyard'.length) ?? '/'
          void api.listener(request.raw, reply.raw)
        })
      })
      app.get('/own', async () => 'own')
      await app.listen({ port: 0, host: '127.0.0.1' })
      after(() => app.close())
      return `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`
    },
    'of node:http': async (api) => {
      return await listen(createServer((request, response) => {
        if (request.url?.startsWith('/switchyard/') !== true) return void response.end('own')
        request.url = request.url.slice('/switchyard'.length)
        void api.listener(request, response)
      }))
    },
  }

  it.each(Object.entries(applications))('%s it answers as it does alone, and the rest is the application’s', async (which, mount) => {
    const { api, newKey } = await serve(redis)
    const key = await newKey('write')
    const url = await mount(api)
    expect(await (await fetch(`${url}/own`)).text()).toBe('own')
    const made = await call<{ jobId: string }>(url, 'POST', '/switchyard/v1/jobs', { key, body: spec() })
    expect(made.status).toBe(201)
    expect((await call(url, 'GET', `/switchyard/v1/jobs/${made.body.jobId}`, { key })).body).toMatchObject({ state: 'waiting' })
    expect((await call(url, 'GET', '/switchyard/openapi.json')).body).toMatchObject({ openapi: '3.1.0' })
    expect((await call(url, 'GET', '/switchyard/none')).status).toBe(404)
    expect((await call(url, 'DELETE', '/switchyard/v1/jobs')).status).toBe(405)
    expect((await call(url, 'POST', '/switchyard/v1/jobs', { body: spec() })).status).toBe(401)
    // What does not come to it is the application's.
    if (!which.includes('parsed')) expect((await call(url, 'POST', '/switchyard/v1/jobs', { key, body: '{' })).status).toBe(400)
  })

  it('behind what has read the body it says so', async () => {
    const { api, newKey } = await serve(redis)
    const key = await newKey('write')
    const url = await listen(createServer((request, response) => {
      request.resume().once('end', () => void api.listener(request, response))
    }))
    expect(await call(url, 'POST', '/v1/jobs', { key, body: spec() })).toMatchObject({ status: 400, body: { detail: expect.stringContaining('was read by the application') as string } })
  })

  it('knows the application’s users by what that says of them', async () => {
    const { queue, call } = await serve(redis, { authenticate: (request) => (request.headers.get('x-user') === 'ada' ? { id: 'ada', name: 'Ada', scope: 'write', tenants: ['acme'] } : null) })
    expect((await call('POST', '/v1/jobs', { body: spec() })).status).toBe(401)
    const made = await call<{ jobId: string }>('POST', '/v1/jobs', { body: spec(), headers: { 'x-user': 'ada' } })
    expect((await queue.job(made.body.jobId).status()).tenant).toBe('acme')
  })

  it('takes nobody for a user who is none, whatever an application without types answers', async () => {
    const ada = { id: 'ada', name: 'Ada', scope: 'read', tenants: null }
    const table: readonly [unknown, number][] = [[false, 401], [undefined, 401], ['', 401], [0, 401], [true, 500], [{}, 500], [{ ...ada, tenants: undefined }, 500], [{ ...ada, scope: 'reader' }, 500], [{ ...ada, id: '' }, 500], [{ ...ada, tenants: 'acme' }, 500], [ada, 200]]
    let answer: unknown
    const { queue, call, errors } = await serve(redis, { authenticate: () => answer as never })
    await queue.enqueue({ ...spec(), tenant: 'globex' })
    for (const [given, status] of table) {
      answer = given
      for (const path of ['/v1/jobs', '/v1/tenants', '/v1/costs']) expect([given, path, (await call('GET', path)).status]).toEqual([given, path, status])
    }
    expect(errors).toHaveLength(3 * 6)
    expect(errors.at(-1)).toMatchObject({ err: { message: expect.stringMatching(/^authenticate: answered with a caller whose "tenants" is missing or wrong; answer \{ id/) as string } })
  })
})

async function listen(server: ReturnType<typeof createServer>): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', () => resolve()))
  after(() => new Promise<void>((resolve) => {
    server.close(() => resolve())
    server.closeAllConnections()
  }))
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}
