import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { InMemoryTransport } from '@modelcontextprotocol/sdk/inMemory.js'
import { describe, expect, it } from 'vitest'
import { InfrastructureError } from '../../src/job/errors.js'
import { ApiCalls, createMcpServer, loadMcpSdk, mcpEndpoint } from '../../src/mcp/index.js'
import { mutated, oddJson } from '../fuzz/arbitraries.js'
import { endJob, serve, spec } from '../http/fixture.js'
import fc from '../seeded-fast-check.js'
import { RunStore } from '../../src/store/index.js'
import { after, record, until, useRedis } from '../store/fixture.js'
import { tries } from '../whole.js'

const redis = useRedis()
const sdk = await loadMcpSdk()

async function connect(url: string, key: string): Promise<Client> {
  const client = new Client({ name: 'test', version: '1' })
  await client.connect(new StreamableHTTPClientTransport(new URL('mcp', url), { requestInit: { headers: { authorization: `Bearer ${key}` } } }))
  after(() => client.close())
  return client
}

const serveMcp = (options: Parameters<typeof serve>[1] = {}) => {
  const failed: unknown[] = []
  return serve(redis, { mcp: mcpEndpoint(sdk, (error) => failed.push(error)), ...options }).then((served) => ({ ...served, failed }))
}

describe('the Model Context Protocol beside the HTTP API', () => {
  it('takes the same keys, each of which may what it may there', async () => {
    const { url, newKey, queue, failed } = await serveMcp()
    const [read, acme] = await Promise.all([newKey('read'), newKey('write', ['acme'])])
    const [looks, writes] = await Promise.all([connect(url, read), connect(url, acme)])
    expect((await looks.listTools()).tools).toHaveLength(9)
    const made = await writes.callTool({ name: 'enqueue_job', arguments: { job: spec() } })
    const { jobId } = made.structuredContent as { jobId: string }
    expect(await queue.job(jobId).status()).toMatchObject({ tenant: 'acme' })
    expect(await looks.callTool({ name: 'cancel_job', arguments: { jobId } })).toMatchObject({ isError: true, content: [{ text: expect.stringContaining('SWY_HTTP_FORBIDDEN') as string }] })

    const told: (string | undefined)[] = []
    const waiting = looks.callTool({ name: 'wait_for_job', arguments: { jobId } }, undefined, { onprogress: ({ message }) => told.push(message) })
    await until(() => told.length > 0, 'the first word of progress')
    await endJob(redis, jobId)
    expect((await waiting).structuredContent).toMatchObject({ ended: true, job: { state: 'succeeded' } })
    expect(told[0]).toMatch(/^waiting/)
    expect(failed).toEqual([])
  })

  it('refuses whoever has no key, pages of other origins, other methods, and what is too large', async () => {
    const { url, newKey, call, queue } = await serveMcp({ maxBodyBytes: 100_000 })
    const key = await newKey('write')
    const body = { jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'enqueue_job', arguments: { job: spec() } } }
    const accept = { accept: 'application/json, text/event-stream' }
    expect((await call('POST', '/mcp', { body, headers: accept })).status).toBe(401)
    expect((await call('POST', '/mcp', { body, headers: accept, key: `sy_0123456789abcdef_${'a'.repeat(43)}` })).status).toBe(401)
    expect((await call('POST', '/mcp', { body, headers: { ...accept, origin: 'https://evil.example' }, key })).status).toBe(403)
    expect((await call('GET', '/mcp', { key })).status).toBe(405)
    expect((await call('DELETE', '/mcp', { key })).status).toBe(405)
    const large = await fetch(new URL('mcp', url), { method: 'POST', headers: { ...accept, authorization: `Bearer ${key}`, 'content-type': 'application/json' }, body: JSON.stringify({ ...body, more: 'x'.repeat(200_000) }) })
    expect(large.status).toBe(413)
    expect(await queue.list()).toHaveLength(0)
    const plain = await serve(redis)
    expect((await plain.call('POST', '/mcp', { body, headers: accept, key })).status).toBe(404)
  })

  it('takes no job for ended that is parked for want of a budget', async () => {
    const { url, newKey, queue } = await serveMcp()
    const { jobId } = await queue.enqueue(spec())
    await new RunStore(redis.client, redis.keys).acquire(jobId, { holder: 'consumer', fresh: record(jobId, { repository: 'acme/web', parking: { reason: 'waits for the budget of acme', atMs: 1, timeUsedMs: 0, place: '', attempts: 0 } }) })
    const client = await connect(url, await newKey('read'))
    const answer = async (name: string, args: object) => (await client.callTool({ name, arguments: { ...args } })).structuredContent
    expect(await answer('wait_for_job', { jobId, timeoutSeconds: 0 })).toMatchObject({ ended: false, job: { state: 'parked' } })
    expect(await answer('read_log', { jobId })).toMatchObject({ state: 'parked', cursor: '0' })
    expect(await answer('list_jobs', { state: 'parked' })).toMatchObject({ jobs: [{ jobId, state: 'parked' }] })
  })

  it('ends waits when the server stops', async () => {
    const { url, newKey, queue, server } = await serveMcp()
    const { jobId } = await queue.enqueue(spec({ delay: '1h' }))
    const client = await connect(url, await newKey('read'))
    const told: unknown[] = []
    const waiting = client.callTool({ name: 'wait_for_job', arguments: { jobId, timeoutSeconds: 600 } }, undefined, { timeout: 5_000, onprogress: (progress) => told.push(progress) }).catch((error: unknown) => error)
    await until(() => told.length > 0, 'the first word of progress')
    await server.close()
    await waiting
  })
})

describe('a server of another kind', () => {
  it('is told of by a sentence, and no redirect takes the key elsewhere', async () => {
    const asked: (string | undefined)[] = []
    const listen = async (answer: (request: IncomingMessage, response: ServerResponse) => void) => {
      const server = createServer(answer).listen(0, '127.0.0.1')
      after(() => {
        server.closeAllConnections()
        server.close()
      })
      await until(() => server.listening, 'it listens')
      return `http://127.0.0.1:${(server.address() as { port: number }).port}/`
    }
    const elsewhere = await listen((request, response) => {
      asked.push(request.headers.authorization)
      response.end('{}')
    })
    const answers: Record<string, (response: ServerResponse) => void> = {
      html: (response) => response.writeHead(200, { 'content-type': 'text/html' }).end('<script>alert(1)</script>'),
      redirect: (response) => response.writeHead(307, { location: elsewhere }).end(),
      problem: (response) => response.writeHead(500, { 'content-type': 'application/problem+json' }).end('{"code": "SWY_\\u001b[2JX", "detail": "\\u001b[31mred\\nline"}'),
      cut: (response) => response.writeHead(200, { 'content-length': 100 }).end('{', () => response.destroy()),
      huge: (response) => {
        const part = 'x'.repeat(1024 * 1024)
        response.writeHead(200)
        const more = () => {
          while (!response.destroyed && response.write(part));
        }
        response.on('drain', more)
        more()
      },
    }
    const url = await listen((request, response) => answers[(request.url ?? '').split('/').at(-1) ?? '']?.(response))
    const get = async (baseUrl: string, jobId: string) => {
      const mcp = createMcpServer({ sdk, api: new ApiCalls({ answer: (request) => fetch(request), baseUrl, headers: { authorization: 'Bearer sy_any' } }), onError: () => undefined })
      const [here, there] = InMemoryTransport.createLinkedPair()
      await mcp.connect(there)
      const client = new Client({ name: 'test', version: '1' })
      await client.connect(here)
      after(() => client.close())
      const answer = await client.callTool({ name: 'get_job', arguments: { jobId } })
      return [answer.isError, (answer.content as [{ text: string }])[0].text]
    }
    for (const [jobId, expected] of [
      ['html', /^SWY_HTTP_UNAVAILABLE: http:\/\/127\.0\.0\.1:\d+ answered with something else/], ['redirect', /^SWY_HTTP_UNAVAILABLE: .* answered 307/], ['problem', /^SWY_X: red␊line$/],
      ['cut', /^SWY_HTTP_UNAVAILABLE: .* broke off its answer/], ['huge', /^SWY_HTTP_UNAVAILABLE: .* broke off its answer \(it is over \d+ bytes\)/],
    ] as const) expect(await get(url, jobId)).toEqual([true, expect.stringMatching(expected)])
    expect(asked).toEqual([])
    expect(await get('http://127.0.0.1:9/', 'a')).toEqual([true, expect.stringMatching(/^SWY_HTTP_UNAVAILABLE: the HTTP API at http:\/\/127\.0\.0\.1:9 can't be reached/)])
  })
})

describe('hostile arguments', () => {
  it('are answered by every tool, never by a defect, and change nothing', { timeout: 300_000 }, async () => {
    const { queue, api } = await serve(redis, { authenticate: () => ({ id: 'mcp', name: 'mcp', scope: 'write' as const, tenants: null }), rateLimit: 'none' })
    const { jobId } = await queue.enqueue(spec({ delay: '1h', tenant: 'acme' }))
    const defects: unknown[] = []
    const mcp = createMcpServer({ sdk, api: new ApiCalls({ answer: api.fetch, baseUrl: 'http://mcp.invalid/' }), onError: (error) => defects.push(error) })
    const [here, there] = InMemoryTransport.createLinkedPair()
    await mcp.connect(there)
    const client = new Client({ name: 'test', version: '1' })
    await client.connect(here)
    after(() => client.close())
    const { tools } = await client.listTools()
    const sound = fc.constantFrom<unknown>(
      { job: spec({ secrets: ['A'], env: { A: 'b' } }) }, { job: spec(), onFailed: 'rerun' }, { jobId: 'nobody' }, { jobId: 'nobody', timeoutSeconds: 0 }, { jobId: 'nobody', cursor: '1.2', maxBytes: 2_048 },
      { state: 'failed', tenant: 'acme', limit: 5 }, { jobId: 'nobody', reason: 'enough' }, { jobId: 'nobody', from: 'checkpoint' }, { jobId: 'nobody', path: 'a', linkSeconds: 1 },
    )
    let enqueued = 0
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...tools.map(({ name }) => name)), fc.oneof(oddJson, mutated(sound)), async (name, given) => {
        const args = typeof given === 'object' && given !== null && !Array.isArray(given) ? (given as Record<string, unknown>) : { jobId: given, job: given }
        const answer = await client.callTool({ name, arguments: args }).catch((error: unknown) => error as Error)
        // What the protocol itself refuses.
        if (answer instanceof Error) return
        const [{ text }] = answer.content as [{ text: string }]
        if (answer.isError === true) expect(text).toMatch(/^SWY_(?!INTERNAL)[A-Z_]+: /)
        else if (name === 'enqueue_job') enqueued++
        expect(text).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e]/)
      }),
      { numRuns: tries(400), endOnFailure: true },
    )
    expect(defects).toEqual([])
    expect(await queue.job(jobId).status()).toMatchObject({ state: 'waiting' })
    expect((await queue.list({ limit: 1_000 })).length).toBe(1 + enqueued)
  })

  it('say what to install where the SDK is missing', async () => {
    const missing = Object.assign(new Error('not there'), { code: 'ERR_MODULE_NOT_FOUND' })
    const refused = await loadMcpSdk(() => Promise.reject(missing)).catch((error: unknown) => error)
    expect(refused).toBeInstanceOf(InfrastructureError)
    expect((refused as Error).message).toBe('mcp: the package "@modelcontextprotocol/sdk" is not installed; run "npm install @modelcontextprotocol/sdk@1.32.2", or use the HTTP API')
  })
})
