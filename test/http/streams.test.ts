import { describe, expect, it, vi } from 'vitest'
import { RunStore } from '../../src/store/index.js'
import { after, record, result, until, useRedis } from '../store/fixture.js'
import { completionEvent } from '../../src/events/index.js'
import { endJob, expectProblem, serve, spec } from './fixture.js'

const redis = useRedis()

interface Received {
  readonly id?: string
  readonly event?: string
  readonly data?: string
}

/** Reads a stream as a browser's EventSource does. */
async function openStream(url: string, key: string, headers: Readonly<Record<string, string>> = {}) {
  const abort = new AbortController()
  after(() => abort.abort())
  const response = await fetch(url, { headers: { authorization: `Bearer ${key}`, ...headers }, signal: abort.signal })
  const events: Received[] = []
  let comments = 0
  const over = (async () => {
    let text = ''
    const decoder = new TextDecoder()
    for await (const part of response.body as unknown as AsyncIterable<Uint8Array>) {
      text += decoder.decode(part, { stream: true })
      const blocks = text.split('\n\n')
      text = blocks.pop() ?? ''
      for (const block of blocks) {
        if (block.startsWith(':')) comments++
        else events.push(Object.fromEntries(block.split('\n').map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)])))
      }
    }
  })().catch(() => undefined)
  return { response, events: () => events.map(({ data, ...rest }) => ({ ...rest, data: JSON.parse(data ?? '') as Record<string, unknown> })), comments: () => comments, over, abort: () => abort.abort() }
}

/** A job in hand, whose output is written as its supervisor does. */
async function running(jobId: string) {
  const store = new RunStore(redis.client, redis.keys)
  const fresh = record(jobId, { repository: 'acme/web' })
  const acquired = await store.acquire(jobId, { holder: 'consumer', fresh })
  if (acquired.kind !== 'acquired') throw new Error('the run has ended')
  let offset = 0
  return {
    print: async (text: string) => {
      const data = Buffer.from(text)
      await store.append(jobId, acquired.fence, fresh, [{ step: 'agent', stream: 'stdout', attempt: 1, offset, data }])
      offset += data.length
    },
    finish: async () => {
      const end = result(jobId)
      await store.finish(jobId, acquired.fence, record(jobId, { phase: 'ended' }), end, completionEvent(end, {}))
    },
  }
}

describe('a job’s log', () => {
  it('is streamed while it is written, and ends with the job', async () => {
    const { call, newKey, url } = await serve(redis)
    const key = await newKey('write')
    const { jobId } = (await call<{ jobId: string }>('POST', '/v1/jobs', { key, body: spec() })).body
    const job = await running(jobId)
    await job.print('one\ntwo ☃\r\n')
    const stream = await openStream(`${url}v1/jobs/${jobId}/logs`, key)
    expect(stream.response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8')
    await until(() => stream.events().length === 1, 'the first piece has come')
    await job.print('three')
    await until(() => stream.events().length === 2, 'the second has')
    await job.finish()
    await stream.over
    const [first, second, last, ...more] = stream.events()
    expect(first).toMatchObject({ event: 'log', data: { step: 'agent', stream: 'stdout', attempt: 1, offset: 0, text: 'one\ntwo ☃\r\n' } })
    expect(first?.id).toBe(String(first?.data['seq']))
    expect([second?.data['text'], last, more]).toEqual(['three', { event: 'end', data: { state: 'succeeded' } }, []])

    // Whoever comes back gets what it has not had.
    const again = await openStream(`${url}v1/jobs/${jobId}/logs`, key, { 'last-event-id': first?.id ?? '' })
    await again.over
    expect(again.events()).toEqual([second, last])
    const later = await openStream(`${url}v1/jobs/${jobId}/logs?after=${second?.id}`, key)
    await later.over
    expect(later.events()).toEqual([last])
    const { status, body } = await call('GET', `/v1/jobs/${jobId}/logs`, { key, headers: { 'last-event-id': 'x' } })
    expect([status, body['code']]).toEqual([400, 'SWY_HTTP_MALFORMED'])
  })

  it('stops at what is there when it is not to be followed, is nobody’s before the key, and costs nothing once it is not read', async () => {
    const { call, newKey, url } = await serve(redis, { heartbeatMs: 50 })
    const key = await newKey('write', ['acme'])
    const { jobId } = (await call<{ jobId: string }>('POST', '/v1/jobs', { key, body: spec() })).body
    const once = await openStream(`${url}v1/jobs/${jobId}/logs?follow=false`, key)
    await once.over
    expect(once.events()).toEqual([{ event: 'end', data: { state: 'waiting' } }])
    expect((await call('GET', `/v1/jobs/${jobId}/logs`, { key: await newKey('read', ['globex']) })).status).toBe(404)
    expect((await call('GET', `/v1/jobs/${jobId}/logs?follow=maybe`, { key })).status).toBe(422)
    expect((await fetch(`${url}v1/jobs/${jobId}/logs`, { method: 'HEAD', headers: { authorization: `Bearer ${key}` } })).status).toBe(200)

    const clients = async () => String(await redis.connect().client('LIST')).split('\n').filter((line) => line.includes('cmd=xread')).length
    const stream = await openStream(`${url}v1/jobs/${jobId}/logs`, key)
    await until(async () => (await clients()) === 1, 'it waits at Redis')
    await until(() => stream.comments() > 2, 'it says that it lives')
    stream.abort()
    await until(async () => (await clients()) === 0, 'nobody waits any more')
  })

  it('breaks off without its end where the job is gone in the middle, so that whoever comes back is told', async () => {
    const { call, newKey, url, errors } = await serve(redis)
    const key = await newKey('write')
    const { jobId } = (await call<{ jobId: string }>('POST', '/v1/jobs', { key, body: spec() })).body
    const job = await running(jobId)
    await job.print('one\n')
    const stream = await openStream(`${url}v1/jobs/${jobId}/logs`, key)
    await until(() => stream.events().length === 1, 'the first piece has come')
    await redis.client.del(redis.keys.run(jobId), redis.keys.job(jobId), redis.keys.log(jobId))
    await stream.over
    expect(stream.events().map(({ event }) => event)).toEqual(['log'])
    expect((await call('GET', `/v1/jobs/${jobId}/logs`, { key, headers: { 'last-event-id': stream.events()[0]?.id ?? '' } })).body).toMatchObject({ code: 'SWY_JOB_UNKNOWN' })
    expect(errors).toEqual([])
  })

  it('of which what there is was read says of no job that it has ended whose last output is not among that', async () => {
    const { call, newKey, url, queue } = await serve(redis)
    const key = await newKey('write')
    const { jobId } = (await call<{ jobId: string }>('POST', '/v1/jobs', { key, body: spec() })).body
    const job = await running(jobId)
    await job.print('one\n')
    const handle = queue.job(jobId)
    const asked = vi.spyOn(queue, 'job').mockReturnValueOnce({
      ...handle,
      async *logs(options) {
        yield* handle.logs(options)
        await job.print('two\n')
        await job.finish()
      },
    })
    const once = await openStream(`${url}v1/jobs/${jobId}/logs?follow=false`, key)
    await once.over
    asked.mockRestore()
    expect(once.events()).toMatchObject([{ data: { text: 'one\n' } }, { event: 'end', data: { state: 'running' } }])
    const rest = await openStream(`${url}v1/jobs/${jobId}/logs?follow=false`, key, { 'last-event-id': once.events()[0]?.id ?? '' })
    await rest.over
    expect(rest.events()).toMatchObject([{ data: { text: 'two\n' } }, { event: 'end', data: { state: 'succeeded' } }])
  })

  it('ends when the key does, and when the server stops, without its end', async () => {
    const { call, keys, newKey, url, server } = await serve(redis, { heartbeatMs: 50, graceMs: 60_000 })
    const [key, other] = [await newKey('write'), await newKey('read')]
    const { jobId } = (await call<{ jobId: string }>('POST', '/v1/jobs', { key, body: spec() })).body
    const [stream, kept] = [await openStream(`${url}v1/jobs/${jobId}/logs`, other), await openStream(`${url}v1/jobs/${jobId}/logs`, key)]
    await keys.revoke(other)
    await stream.over
    expect(stream.events()).toEqual([])
    // Long before its grace is over.
    await server.close()
    await kept.over
    expect(kept.events()).toEqual([])
  })

  it('ends when the key does, also where it is never silent', async () => {
    // Streams look for new events every half a second: that is the longest silence of one to which something comes at each look.
    const { queue, keys, newKey, url } = await serve(redis, { heartbeatMs: 1_500 })
    const key = await newKey('read')
    const stream = await openStream(`${url}v1/events`, key)
    let over = false
    void stream.over.then(() => (over = true))
    await keys.revoke(key)
    await until(async () => {
      await (await queue.enqueue(spec())).cancel('told of')
      return over
    }, 'it is over')
  })

  it('is streamed to so many at once', async () => {
    const { call, newKey, url } = await serve(redis)
    const key = await newKey('write')
    const { jobId } = (await call<{ jobId: string }>('POST', '/v1/jobs', { key, body: spec() })).body
    const streams = await Promise.all(Array.from({ length: 100 }, () => openStream(`${url}v1/jobs/${jobId}/logs`, key)))
    const refused = await fetch(`${url}v1/jobs/${jobId}/logs`, { headers: { authorization: `Bearer ${key}` } })
    expect(expectProblem(refused, await refused.text()).code).toBe('SWY_HTTP_RATE_LIMITED')
    for (const stream of streams) stream.abort()
    await until(async () => {
      const next = await openStream(`${url}v1/jobs/${jobId}/logs`, key)
      next.abort()
      return next.response.status === 200
    }, 'there is room again')
  })
})

describe('events', () => {
  it('are streamed as CloudEvents, on from where a reader was, and to tenants their own', async () => {
    const { call, newKey, url, queue } = await serve(redis)
    const [key, acme] = [await newKey('write'), await newKey('read', ['acme'])]
    const old = await queue.enqueue({ repository: 'acme/web', steps: ['true'] })
    await old.cancel('before anybody reads')
    const [all, own] = [await openStream(`${url}v1/events`, key), await openStream(`${url}v1/events`, acme)]
    const theirs = await queue.enqueue({ repository: 'acme/web', steps: ['true'], tenant: 'globex' })
    await theirs.cancel('enough')
    const ours = await queue.enqueue({ repository: 'acme/web', steps: ['true'], tenant: 'acme' })
    await endJob(redis, ours.jobId, { tenant: 'acme' })
    await until(() => all.events().length === 2 && own.events().length === 1, 'all have come')
    expect(all.events().map(({ event, data }) => [event, data['subject']])).toEqual([
      ['dev.switchyard.job.cancelled', theirs.jobId],
      ['dev.switchyard.job.succeeded', ours.jobId],
    ])
    expect(own.events()).toMatchObject([{ data: { specversion: '1.0', subject: ours.jobId, data: { tenant: 'acme' } } }])
    // Whoever is cut off before the first event comes back to where the stream began.
    const begun = await fetch(`${url}v1/events?after=0-0`, { headers: { authorization: `Bearer ${key}` } })
    const reader = begun.body?.getReader()
    expect(Buffer.from((await reader?.read())?.value ?? []).toString()).toMatch(/^: \nid: 0-0\n\n/)
    await reader?.cancel()
    const [first, second] = all.events()
    expect(first?.id).toBe(first?.data['sequence'])
    const again = await openStream(`${url}v1/events`, key, { 'last-event-id': first?.id ?? '' })
    await until(() => again.events().length === 1, 'the next has come')
    expect(again.events()).toEqual([second])
    const whole = await openStream(`${url}v1/events?after=0-0`, key)
    await until(() => whole.events().length === 3, 'all that are kept have')
    const asking = await queue.enqueue({ repository: 'acme/web', steps: ['true'], tenant: 'acme', events: ['enqueued'] })
    await until(() => own.events().length === 2 && whole.events().length === 4, 'what comes before the end has, where a job asks for it')
    expect(own.events()[1]).toMatchObject({ event: 'dev.switchyard.job.enqueued', data: { subject: asking.jobId, data: { tenant: 'acme' } } })
    expect((await call('GET', '/v1/events?after=yesterday', { key })).status).toBe(422)
    expect((await call('GET', '/v1/events', { key, headers: { 'last-event-id': '1' } })).status).toBe(400)
  })
})
