import { expect } from 'vitest'
import { completionEvent } from '../../src/events/index.js'
import { ApiKeys, type ApiOptions, createApi, type NewApiKey, type Problem, startApiServer } from '../../src/http/index.js'
import type { JobResult } from '../../src/job/result.js'
import { AgentQueue, type AgentQueueOptions } from '../../src/producers/index.js'
import { RunStore } from '../../src/store/index.js'
import { after, record, result, type useRedis } from '../store/fixture.js'

type TestRedis = ReturnType<typeof useRedis>

export interface Answer<Body> {
  readonly status: number
  readonly headers: Headers
  readonly body: Body
}

export interface CallOptions {
  readonly key?: string | undefined
  /** Sent as JSON; a text or bytes as they are. */
  readonly body?: unknown
  readonly headers?: Readonly<Record<string, string>>
}

export const spec = (fields: object = {}) => ({ repository: 'acme/web', steps: ['true'], ...fields })

/** Calls and reads the answer; whatever is no success must be a problem. */
export async function call<Body = Record<string, unknown>>(url: string, method: string, path: string, { key, body, headers = {} }: CallOptions = {}): Promise<Answer<Body>> {
  const raw = body === undefined || typeof body === 'string' || body instanceof Uint8Array
  const response = await fetch(new URL(`${url.replace(/\/$/, '')}${path}`), {
    method,
    headers: { ...(key === undefined ? {} : { authorization: `Bearer ${key}` }), ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
    ...(body === undefined ? {} : { body: raw ? (body as string | Uint8Array<ArrayBuffer>) : JSON.stringify(body) }),
  })
  const text = await response.text()
  if (response.status >= 400 && method !== 'HEAD') expectProblem(response, text)
  return { status: response.status, headers: response.headers, body: (text === '' ? undefined : JSON.parse(text)) as Body }
}

/** What every refusal is, whoever gives it. */
export function expectProblem(response: Pick<Response, 'status' | 'headers'>, text: string): Problem {
  expect({ type: response.headers.get('content-type'), status: response.status, text }).toMatchObject({ type: 'application/problem+json' })
  const problem = JSON.parse(text) as Problem
  expect(problem).toMatchObject({ status: response.status, type: `urn:switchyard:error:${problem.code}`, code: expect.stringMatching(/^SWY_[A-Z_]+$/) as string, title: expect.stringMatching(/./) as string, detail: expect.stringMatching(/./) as string })
  return problem
}

/** A served API over a queue of its own. */
export async function serve(redis: TestRedis, options: Partial<ApiOptions> & { readonly queueOptions?: Partial<AgentQueueOptions>; readonly graceMs?: number } = {}) {
  const { queueOptions, graceMs, ...rest } = options
  const queue = new AgentQueue({ redis: redis.config, ...queueOptions })
  after(() => queue.close())
  const errors: unknown[] = []
  const api = createApi({ queue, log: { info: () => undefined, error: (fields: unknown) => errors.push(fields) }, ...rest })
  const server = await startApiServer({ api, host: '127.0.0.1', port: 0, graceMs: graceMs ?? 1_000 })
  after(() => server.close())
  const keys = new ApiKeys(queue)
  return {
    queue,
    api,
    server,
    url: server.url,
    keys,
    /** What was logged as an error. */
    errors,
    newKey: async (scope: NewApiKey['scope'], tenants?: string[]) => (await keys.create({ name: `${scope} of a test`, scope, tenants })).key,
    call: <Body = Record<string, unknown>>(method: string, path: string, given?: CallOptions) => call<Body>(server.url, method, path, given),
  }
}

/** Runs a waiting job to its end, as a consumer would write it. */
export async function endJob(redis: TestRedis, jobId: string, fields: Partial<JobResult> = {}): Promise<void> {
  const store = new RunStore(redis.client, redis.keys)
  const acquired = await store.acquire(jobId, { holder: 'consumer', fresh: record(jobId, { repository: 'acme/web' }) })
  if (acquired.kind !== 'acquired') throw new Error('the run has ended')
  const end = result(jobId, fields)
  await store.finish(jobId, acquired.fence, record(jobId, { phase: 'ended' }), end, completionEvent(end, {}))
}
