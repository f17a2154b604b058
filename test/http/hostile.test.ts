import { beforeEach, describe, expect, it } from 'vitest'
import { mutated, oddJson, oddText } from '../fuzz/arbitraries.js'
import fc from '../seeded-fast-check.js'
import { useRedis } from '../store/fixture.js'
import { whole } from '../whole.js'
import { expectProblem, serve, spec } from './fixture.js'

const redis = useRedis()

interface Operation {
  readonly method: string
  readonly path: string
  readonly query: readonly string[]
  readonly headers: readonly string[]
  readonly body: boolean
}

/** Every operation of the document that a server gives of itself. */
async function operationsAt(url: string): Promise<Operation[]> {
  type Parameter = { name: string; in: string }
  const document = (await (await fetch(new URL('/openapi.json', url))).json()) as { paths: Record<string, Record<string, { parameters?: Parameter[]; requestBody?: object }>> }
  return Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { parameters = [], requestBody }]) => ({
      method: method.toUpperCase(),
      path,
      query: parameters.filter((parameter) => parameter.in === 'query').map(({ name }) => name),
      headers: parameters.filter((parameter) => parameter.in === 'header').map(({ name }) => name),
      body: requestBody !== undefined,
    })),
  )
}

/** What a header can carry at all. */
const headerText = oddText.map((text) => text.replaceAll(/[^\t\x20-\x7e\x80-\xff]/g, '?').trim())
const pathText = oddText.filter((text) => !['', '.', '..'].includes(text)).map((text) => encodeURIComponent(text.replaceAll(/\p{Cs}/gu, '?')).slice(0, 8_000))

interface Input {
  readonly operation: number
  readonly id: string
  readonly query: readonly (readonly [number, string])[]
  readonly header: string | null
  readonly extra: string | null
  readonly body: unknown
  readonly raw: boolean
}

/** Everything in Redis by name, but for clocks and what counts requests and notes the use of keys. */
async function state(): Promise<Record<string, string>> {
  const client = redis.connect()
  const names = (await client.keys('*')).filter((name) => !/::http-rate|::api-key|::audit|:ledger:clock$/.test(name)).sort()
  // A large hash keeps its fields in an order that changes by itself.
  const contents = async (name: string) =>
    (await client.type(name)) === 'hash' ? JSON.stringify(Object.entries(await client.hgetall(name)).sort(([a], [b]) => (a < b ? -1 : 1))) : (await client.dumpBuffer(name)).toString('base64')
  return Object.fromEntries(await Promise.all(names.map(async (name) => [name, await contents(name)] as const)))
}

describe('hostile requests', () => {
  it('to every operation of the document are answered, never by a 500', { timeout: 300_000 }, async () => {
    const { newKey, url, errors } = await serve(redis, { rateLimit: 'none' })
    const operations = await operationsAt(url)
    expect(operations.length).toBeGreaterThan(15)
    const keys = [await newKey('admin'), await newKey('write', ['acme']), await newKey('write', ['acme', 'globex']), await newKey('read')]
    const known = ((await (await fetch(new URL('/v1/jobs', url), { method: 'POST', headers: { authorization: `Bearer ${keys[0] ?? ''}`, 'content-type': 'application/json' }, body: JSON.stringify(spec()) })).json()) as { jobId: string }).jobId
    const sound = fc.constantFrom<unknown>(spec({ tenant: 'acme', idempotencyKey: 'a', concurrency: { key: 'k' }, metadata: { a: [1] }, env: { A: 'b' } }), { jobs: [spec({ tenant: 'acme' }), spec()] }, { reason: 'enough' }, { from: 'checkpoint' }, { cron: '0 3 * * *', job: spec({ tenant: 'acme' }) })
    const inputs: fc.Arbitrary<Input> = fc.record({
      operation: fc.nat(operations.length - 1),
      id: fc.oneof({ weight: 1, arbitrary: fc.constant(known) }, { weight: 3, arbitrary: pathText }),
      query: fc.array(fc.tuple(fc.nat(20), fc.oneof(oddText, fc.constantFrom('1', 'true', 'failed', 'rerun', '0-0', '2026-01-01T00:00:00Z'))), { maxLength: 3 }),
      header: fc.option(headerText),
      extra: fc.option(headerText),
      body: fc.oneof({ weight: 3, arbitrary: mutated(sound) }, { weight: 1, arbitrary: oddJson }),
      raw: fc.boolean(),
    })
    let turn = 0
    const check = async ({ operation: index, id, query, header, extra, body, raw }: Input) => {
      const operation = operations[index]
      if (operation === undefined) return
      const target = new URL(operation.path.replace(/\{\w+\}/, id), url)
      for (const [at, value] of query) target.searchParams.append(operation.query[at % (operation.query.length + 1)] ?? 'other', value.slice(0, 2_000))
      const headers = new Headers({ authorization: `Bearer ${keys[turn++ % keys.length] ?? ''}` })
      if (header !== null) for (const name of operation.headers) headers.set(name, header.slice(0, 2_000))
      if (extra !== null) headers.set(['origin', 'content-type', 'accept', 'authorization', 'content-encoding'][turn % 5] ?? 'x', extra.slice(0, 2_000))
      if (operation.body && !headers.has('content-type')) headers.set('content-type', 'application/json')
      const text = operation.body ? (raw && typeof body === 'string' ? body : JSON.stringify(body)) : undefined
      const abort = new AbortController()
      const response = await fetch(target, { method: operation.method, headers, ...(text === undefined ? {} : { body: text }), signal: abort.signal })
      try {
        const what = `${operation.method} ${target.pathname}${target.search}`
        expect(response.status, `${what}\n${text ?? ''}`).toBeLessThan(500)
        if (response.status >= 400) expectProblem(response, await response.text())
        else if (response.headers.get('content-type')?.startsWith('text/event-stream') !== true) await response.text()
      } finally {
        abort.abort()
      }
    }
    await fc.assert(fc.asyncProperty(inputs, check), { numRuns: Number(process.env['SWITCHYARD_FUZZ_RUNS'] ?? (whole ? 500 : 170)), endOnFailure: true })
    expect(errors).toEqual([])
  })

  it('with every parameter at and over its bounds', { timeout: 300_000 }, async () => {
    const { call, newKey, url, errors } = await serve(redis, { rateLimit: 'none' })
    const key = await newKey('admin')
    const { jobId } = (await call<{ jobId: string }>('POST', '/v1/jobs', { key, body: spec({ tenant: 'acme' }) })).body
    const values = [
      '', ' ', '0', '-0', '-1', '1', '1e2', '0x10', '1.5', 'NaN', 'Infinity', '200', '201', '60001', '999999999999999', '9007199254740993', '18446744073709551616', '0-0', '00-000', '1-0', '9999999999999999999-9999999999999999999', '18446744073709551615-18446744073709551615', '-', '+', '$', '*', '(0-0',
      'true', 'false', 'failed', 'rerun', '__proto__', 'constructor', 'acme', "a'b", '\ud800', '\0', '1970-01-01T00:00:00Z', '0000-01-01T00:00:00Z', '9999-12-31T23:59:59.999999999Z', '2026-02-30T00:00:00Z', '+275760-09-13T00:00:00Z', Buffer.from('{"filter":"[]","at":[null]}').toString('base64url'), 'x'.repeat(4_000),
    ]
    for (const { method, path, query, headers } of await operationsAt(url)) {
      const target = new URL(path.replace('{jobId}', jobId).replace('{scheduleId}', 'none'), url)
      const send = async (what: string, from: URL, more: Record<string, string>) => {
        const abort = new AbortController()
        const response = await fetch(from, { method, headers: { authorization: `Bearer ${key}`, ...more }, signal: abort.signal })
        expect([method, path, what, response.status]).toEqual([method, path, what, expect.toSatisfy((status: number) => status < 500)])
        if (response.status >= 400) expectProblem(response, await response.text())
        abort.abort()
      }
      await Promise.all(values.map(async (value) => {
        for (const name of query) {
          // Only the waiting itself takes time.
          if (name === 'waitMs' && Number(value) > 1 && Number(value) <= 60_000) continue
          const from = new URL(target)
          from.searchParams.set(name, value)
          await send(`${name}=${value}`, from, {})
        }
        if (/^[\x20-\x7e]*$/.test(value)) for (const name of headers) await send(`${name}: ${value}`, target, { [name]: value })
      }))
    }
    expect(errors).toEqual([])
  })

  it('by paths, methods and bodies of every odd kind', async () => {
    const { call, newKey } = await serve(redis, { rateLimit: 'none' })
    const key = await newKey('admin')
    for (const path of ['/v1/jobs/', '//v1/jobs', '/v1//jobs', '/v1/jobs/a/b/c', '/v1/../v1/none', '/%2e%2e/x', '/v1/jobs%00', '/V1/JOBS', '/v1/jobs;x=1', '/v1/schedules/%F0%9F%92%A5', `/v1/${'a/'.repeat(2_000)}`]) {
      for (const method of ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'PROPFIND']) {
        const { status } = await call(method, path, { key })
        expect([method, path, status >= 400 && status < 500]).toEqual([method, path, true])
      }
    }
    const deep = `${'['.repeat(200_000)}${']'.repeat(200_000)}`
    const bodies: [string, number][] = [
      [deep, 422],
      [`{"repository":"acme/web","steps":["true"],"metadata":{"a":${deep}}}`, 422],
      ['{"repository":"acme/web","steps":["true"],"__proto__":{"tenant":"x"}}', 422],
      ['{"repository":"acme/web","repository":"../x","steps":["true"]}', 422],
      ['{"repository":"acme/web\u0000","steps":["true"]}', 400],
      ['{"repository":"acme/web\\u0000","steps":["true"]}', 422],
      ['{"repository":"acme/w\u202eeb","steps":["true"]}', 422],
      ['1e400', 422], ['"\\ud800"', 422], ['null', 422], ['[]', 422], ['true', 422], [' ', 400], ['\ufeff', 400], ["{'a':1}", 400], ['{"a":1}{"a":1}', 400],
    ]
    for (const [body, status] of bodies) expect([body.slice(0, 80), (await call('POST', '/v1/jobs', { key, body })).status]).toEqual([body.slice(0, 80), status])
    const jobs = JSON.stringify({ jobs: Array.from({ length: 1_001 }, () => spec()) })
    expect((await call('POST', '/v1/jobs/bulk', { key, body: jobs })).status).toBe(422)
    expect((await call<{ jobs: unknown[] }>('GET', '/v1/jobs', { key })).body.jobs).toEqual([])
  })

  describe('by keys that may not', () => {
    let server: Awaited<ReturnType<typeof serve>>
    beforeEach(async () => {
      server = await serve(redis)
    })

    it.each([
      ['read-only', 403, async () => server.newKey('read')],
      ['another tenant’s', 404, async () => server.newKey('write', ['globex'])],
      ['expired', 401, async () => {
        const { key, info } = await server.keys.create({ name: 'old', scope: 'admin', lifetimeMs: 3_600_000 })
        await redis.client.hset(redis.keys.apiKey(info.id), 'expiresAtMs', '1')
        return key
      }],
      ['revoked', 401, async () => {
        const { key } = await server.keys.create({ name: 'gone', scope: 'admin' })
        await server.keys.revoke(key)
        return key
      }],
      ['of another deployment', 401, async () => `sy_${'0'.repeat(16)}_${'A'.repeat(43)}`],
    ] as const)('%s: nothing is changed', async (_which, status, makeKey) => {
      const { queue, url, call } = server
      const key = await makeKey()
      const { jobId } = await queue.enqueue({ repository: 'acme/web', steps: ['true'], tenant: 'acme' })
      await queue.schedules.upsert('nightly', { every: '1d', job: { repository: 'acme/web', steps: ['true'], tenant: 'acme' } })
      const before = await state()
      for (const { method, path, body } of await operationsAt(url)) {
        if (method === 'GET') continue
        const target = path.replace('{jobId}', jobId).replace('{scheduleId}', 'nightly')
        const sent = path.includes('schedules') ? { every: '1d', job: spec({ tenant: 'acme' }) } : path === '/v1/jobs/bulk' ? { jobs: [spec({ tenant: 'acme' })] } : path === '/v1/jobs' ? spec({ tenant: 'acme' }) : {}
        const answer = await call(method, target, { key, ...(body ? { body: sent } : {}), headers: { 'idempotency-key': `"${method} ${target}"` } })
        // Of what is to be another tenant's own it is told that it may not.
        const refusals = status === 404 ? [403, 404] : [status]
        expect([method, path, answer.status]).toEqual([method, path, expect.toSatisfy((given: number) => refusals.includes(given))])
      }
      expect(await state()).toEqual(before)
    })
  })
})
