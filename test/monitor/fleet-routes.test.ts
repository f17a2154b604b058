import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { serve, type ServerType } from '@hono/node-server'
import express from 'express'
import fastify from 'fastify'
import { Hono } from 'hono'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { openBoard } from '../../src/cli/open-board.js'
import { configSchema } from '../../src/config/schema.js'
import { createMonitor, type Monitor, type MonitorOptions } from '../../src/monitor/index.js'
import { Feed } from '../../src/monitor/feed.js'
import type { Fragment } from '../../src/monitor/pages/parts.js'
import { until } from '../e2e/deployment.js'
import { longJob, startMonitored, type Monitored } from './monitored.js'

let at: Monitored
const closers: (() => Promise<unknown>)[] = []
beforeAll(async () => {
  at = await startMonitored()
})
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})
afterAll(() => at.close())

async function board(more: { readonly writable?: boolean; readonly password?: string } = {}) {
  const { writable = true, password } = more
  const opened = await openBoard(configSchema.parse({ redis: { url: at.redis.url }, board: { port: 0, writable } }), password === undefined ? {} : { SWITCHYARD_BOARD_PASSWORD: password }, { auth: password !== undefined })
  closers.push(() => opened.close())
  return opened.board
}

async function runningJob(): Promise<string> {
  const { jobId } = await at.queue.enqueue(longJob())
  await until('its step', async () => (await at.queue.job(jobId).status()).step !== null)
  return jobId
}

/** A visitor who has logged in: the session's cookie, and the token of a page's form. */
async function logIn(url: string): Promise<{ cookie: string; page: (path: string) => Promise<string>; token: (path: string) => Promise<string> }> {
  const entered = await fetch(new URL('login', url), form({ username: 'admin', password: 'pass word' }))
  expect(entered.status).toBe(303)
  const cookie = entered.headers.getSetCookie().map((each) => each.split(';')[0]).join('; ')
  const page = async (path: string) => await (await fetch(new URL(path, url), { headers: { cookie } })).text()
  return { cookie, page, token: async (path) => /name="token" value="([^"]+)"/.exec(await page(path))?.[1] ?? '' }
}

const form = (fields: Record<string, string>) => ({ method: 'POST', body: new URLSearchParams(fields), redirect: 'manual' as const })

describe('the pages', () => {
  it('cancel and run again by forms with the session’s token, and by nothing else', async () => {
    const { url, loginUrl } = await board({ password: 'pass word' })
    const jobId = await runningJob()
    const path = new URL(`fleet/jobs/${jobId}`, url)
    const stranger = await fetch(path, { redirect: 'manual', headers: { accept: 'text/html' } })
    expect([stranger.status, stranger.headers.get('location')]).toEqual([303, '/login'])
    // Style and script are everybody's, so that the login looks like the rest.
    expect((await fetch(new URL('fleet/style.css', url))).status).toBe(200)
    expect(loginUrl).toBe(`${url}login?key=${new URL(loginUrl).searchParams.get('key') ?? ''}`)
    const visitor = await logIn(url)
    const { cookie } = visitor
    const get = () => visitor.page(`fleet/jobs/${jobId}`)
    const token = await visitor.token(`fleet/jobs/${jobId}`)
    expect(token.length).toBeGreaterThan(20)
    const cancel = (fields: Record<string, string>, headers: Record<string, string> = {}) => fetch(`${path.href}/cancel`, { ...form(fields), headers: { cookie, ...headers } })
    expect((await cancel({})).status).toBe(403)
    expect((await cancel({ token: 'guess' })).status).toBe(403)
    expect((await cancel({ token, reason: 'x'.repeat(10_000) })).status).toBe(403)
    expect((await cancel({ token }, { 'sec-fetch-site': 'cross-site' })).status).toBe(403)
    expect((await at.queue.job(jobId).status()).state).toBe('running')
    const done = await cancel({ token, reason: 'not needed' })
    expect([done.status, done.headers.get('location')]).toEqual([303, `/fleet/jobs/${jobId}?said=requested`])
    expect((await at.queue.job(jobId).result({ timeoutMs: 150_000 })).error?.message).toContain('not needed')
    await until('the page to say so', async () => (await get()).includes('Run again'))
    const again = await fetch(`${path.href}/retry`, { ...form({ token, from: 'start' }), headers: { cookie } })
    expect(again.headers.get('location')).toBe(`/fleet/jobs/${jobId}?said=retried`)
    await at.queue.job(jobId).cancel('done')
    expect((await fetch(`${path.href}/retry`, { ...form({ token, from: 'nowhere' }), headers: { cookie } })).status).toBe(422)
    expect(await at.queue.operations.auditLog({ limit: 2 })).toMatchObject([{ by: 'board', name: 'admin', action: 'retryJob', targets: [jobId] }, { by: 'board', name: 'admin', action: 'cancelJob', targets: [jobId] }])
  })

  it('run again what ended as the page said, and not what has succeeded since', async () => {
    const { url } = await board({ password: 'pass word' })
    const visitor = await logIn(url)
    const { jobId } = await at.queue.enqueue({ ...longJob(), steps: ['true'] })
    expect(await at.queue.job(jobId).result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded' })
    const path = `/fleet/jobs/${jobId}`
    const press = async (seen: string) => await fetch(new URL(`${path}/retry${seen}`, url), { ...form({ token: await visitor.token(path), from: 'start' }), headers: { cookie: visitor.cookie } })
    for (const seen of ['failed', 'cancelled']) expect((await press(`?seen=${seen}`)).headers.get('location')).toBe(`${path}?said=changed`)
    expect(await visitor.page(`${path}?said=changed`)).toContain('has succeeded meanwhile')
    expect((await at.queue.job(jobId).status()).state).toBe('succeeded')
    const [retry] = (await visitor.page(path)).match(/<form[^>]*retry[^>]*>/) ?? []
    expect(retry).toContain(`action="${path}/retry?seen=succeeded"`)
    expect((await press('?seen=succeeded')).headers.get('location')).toBe(`${path}?said=retried`)
    expect(await at.queue.job(jobId).result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded' })
  })

  it('operate by the buttons of one form, once, with who and why in the audit log', async () => {
    const { url } = await board({ password: 'pass word' })
    const { cookie, page, token: tokenOf } = await logIn(url)
    const token = await tokenOf('fleet')
    const said = async () => {
      const [queue, providers, tenants] = await Promise.all([at.queue.operations.queue(), at.queue.providers(), at.queue.operations.tenants()])
      return [queue.pause, providers.find(({ provider }) => provider === 'e2b')?.drain ?? null, tenants.find(({ tenant }) => tenant === 'acme')?.pause ?? null]
    }
    const press = (name: string, fields: Record<string, string>) => fetch(new URL(`fleet/operate/${name}`, url), { ...form(fields), headers: { cookie } })
    const operations = [['pauseQueue', 'resumeQueue', '', 'agents'], ['drainProvider', 'resumeProvider', 'e2b', 'e2b'], ['pauseTenant', 'resumeTenant', 'acme', 'acme']] as const
    for (const [index, [stop, go, of, target]] of operations.entries()) {
      expect(await page('fleet')).toMatch(new RegExp(`form="operate" formaction="/fleet/operate/${stop}" name="of" value="${of}"`))
      expect((await press(stop, { of, reason: 'why' })).status).toBe(403)
      expect(await said()).toEqual([null, null, null])
      const pressed = await press(stop, { token, of, reason: 'why' })
      expect([pressed.status, pressed.headers.get('location')]).toEqual([303, `/fleet?said=${stop}`])
      expect(await said()).toEqual([0, 1, 2].map((each) => (each === index ? (expect.objectContaining({ by: 'admin', reason: 'why' }) as object) : null)))
      const shown = await page(`fleet?said=${stop}`)
      expect(shown).toMatch(/role="status"><span>(The queue is paused|The provider gets no new sandboxes|None of the tenant’s)/)
      expect(shown).toContain('by admin: why')
      expect(shown).toMatch(new RegExp(`formaction="/fleet/operate/${go}" name="of" value="${of}"`))
      expect((await press(stop, { token, of })).headers.get('location')).toBe(`/fleet?said=${stop}-before`)
      expect((await press(go, { token, of })).headers.get('location')).toBe(`/fleet?said=${go}`)
      expect(await said()).toEqual([null, null, null])
      expect(await at.queue.operations.auditLog({ limit: 2 })).toMatchObject([{ by: 'board', name: 'admin', action: go, targets: [target] }, { action: stop, targets: [target], after: { by: 'admin', reason: 'why' } }])
    }
    // Names that there are none of, and what is no reason.
    for (const [name, fields, status] of [['drainProvider', { of: 'no<b>ne' }, 404], ['pauseTenant', { of: 'nobody' }, 404], ['pauseTenant', { of: '' }, 422], ['pauseQueue', { reason: 'two\nlines' }, 422], ['none', {}, 404], ['constructor', {}, 404]] as const) {
      const refused = await press(name, { token, ...fields })
      expect([name, refused.status, (await refused.text()).includes('<b>')]).toEqual([name, status, false])
    }
    expect(await said()).toEqual([null, null, null])
    // What the address says is ours, whoever made the link.
    expect(await page('fleet?said=<b>&ignored=<b>')).not.toMatch(/role="status"><span>/)
    expect(await page('fleet?said=drainProvider&ignored=2')).toContain('Consumers of an earlier release that do not heed it: 2.')
    // What all who watch are sent holds nobody's token.
    const stop = new AbortController()
    const live = await fetch(new URL('fleet/live?since=0', url), { headers: { cookie }, signal: stop.signal })
    const reader = live.body!.pipeThrough(new TextDecoderStream()).getReader()
    let text = ''
    while (!text.includes('pauseQueue')) text += (await reader.read()).value ?? ''
    stop.abort()
    expect(text).not.toContain(token)
  })

  it('answer 405 to each change of a board that is read-only, and offer none', async () => {
    const { url } = await board({ writable: false })
    const jobId = await runningJob()
    expect(await (await fetch(new URL(`fleet/jobs/${jobId}`, url))).text()).not.toMatch(/<form[^>]*method="post"/)
    expect(await (await fetch(new URL('fleet', url))).text()).not.toMatch(/<form[^>]*method="post"|formaction|ask=cancel/)
    const operations = ['pauseQueue', 'resumeQueue', 'drainProvider', 'resumeProvider', 'pauseTenant', 'resumeTenant'].map((name) => `fleet/operate/${name}`)
    for (const path of [`fleet/jobs/${jobId}/cancel`, `fleet/jobs/${jobId}/retry`, 'fleet', 'fleet/live', ...operations]) expect([path, (await fetch(new URL(path, url), form({ from: 'start' }))).status]).toEqual([path, 405])
    await at.queue.job(jobId).cancel('done')
  })

  it('say what there is not, and bear no script and no style of their own', async () => {
    const { url } = await board()
    for (const path of ['fleet/jobs/none', 'fleet/jobs/%ff', 'fleet/jobs/meta', 'fleet/jobs/..%2f..%2fx', 'fleet/nothing']) {
      const answer = await fetch(new URL(path, url))
      expect([path, answer.status]).toEqual([path, 404])
      expect(await answer.text()).toContain('<html')
    }
    const page = await fetch(new URL('fleet', url))
    expect(page.headers.get('content-security-policy')).toMatch(/default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'/)
    expect(page.headers.get('cache-control')).toBe('no-store')
    const html = await page.text()
    expect(html).not.toMatch(/<style|style="|<script(?![^>]*\bsrc=)| on\w+="/)
    // All that a page loads, without compression.
    const [style, script] = await Promise.all(['style.css', 'live.js'].map(async (name) => (await (await fetch(new URL(`fleet/${name}`, url))).text()).length))
    expect((style ?? 0) + (script ?? 0)).toBeLessThan(12_000)
    expect((await fetch(new URL('fleet/find?job=a%2Fb', url), { redirect: 'manual' })).headers.get('location')).toBe('/fleet/jobs/a%2Fb')
  })

  it('send what has changed, and no more, as it happens', async () => {
    const { url } = await board()
    const page = await (await fetch(new URL('fleet', url))).text()
    const live = /data-live="([^"]+)"/.exec(page)?.[1] ?? ''
    const stop = new AbortController()
    const response = await fetch(new URL(live, url), { signal: stop.signal })
    expect(response.headers.get('content-type')).toContain('text/event-stream')
    const jobId = await runningJob()
    let text = ''
    const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader()
    while (!text.includes(jobId)) {
      const { value, done } = await reader.read()
      if (done) break
      text += value
    }
    stop.abort()
    const parts = text.split('\n').filter((each) => each.startsWith('data: {')).map((each) => Object.keys(JSON.parse(each.slice(6)) as object))
    expect(parts.flat()).toEqual(expect.arrayContaining(['running', 'summary']))
    // As it was when the page was loaded.
    expect(parts.flat()).not.toContain('attention')
    await at.queue.job(jobId).cancel('done')
  })
})

describe('a feed', () => {
  const fragment = (id: string, key: string, within?: string): Fragment => ({ id, key, html: `${id}=${key}`, ...(within === undefined ? {} : { within }) })

  it('looks once for all who watch, and not at all when nobody does', async () => {
    let loads = 0
    const feed = new Feed(async () => ++loads, (state) => [fragment('a', String(state)), fragment('b', 'same')], 20)
    expect(loads).toBe(0)
    const stops = Array.from({ length: 50 }, () => new AbortController())
    const watchers = stops.map(({ signal }) => feed.watch(signal))
    const first = await Promise.all(watchers.map((watcher) => watcher.next()))
    expect(first.every(({ value }) => JSON.stringify(value) === JSON.stringify({ event: 'change', parts: { a: 'a=1', b: 'b=same' } }))).toBe(true)
    expect(loads).toBe(1)
    const second = await Promise.all(watchers.map((watcher) => watcher.next()))
    expect(Object.keys((second[0]?.value as { parts: object }).parts)).toEqual(['a'])
    for (const stop of stops) stop.abort()
    await Promise.all(watchers.map((watcher) => watcher.return()))
    const after = loads
    await new Promise((resolve) => setTimeout(resolve, 60))
    expect(loads).toBe(after)
    // However many there were, each look was everybody's.
    expect(loads).toBeLessThan(20)
  })

  it('tells of trouble and goes on, begins where a page was loaded, and sends a part with what holds it once', async () => {
    let fails = false
    let rows = ['x']
    const feed = new Feed(async () => (fails ? Promise.reject(new Error('Redis is away')) : rows), (state) => [fragment('table', state.join()), ...state.map((row) => fragment(row, row, 'table'))], 1)
    const { number } = await feed.look()
    const watcher = feed.watch(new AbortController().signal, number)
    rows = ['x', 'y']
    expect((await watcher.next()).value).toEqual({ event: 'change', parts: { table: 'table=x,y' } })
    fails = true
    expect((await watcher.next()).value).toEqual({ event: 'trouble', text: 'Not up to date: Redis is away' })
    fails = false
    await until('it goes on', async () => ((await watcher.next()).value as { event: string }).event === 'change')
    await watcher.return()
  })
})

describe('mounted in an application of one’s own', () => {
  const options = (): MonitorOptions => ({ queue: at.queue, redis: { url: at.redis.url }, basePath: '/ops', writable: true, authenticate: (request) => request.headers.get('x-user') === 'me' && { id: 'u-1', name: 'anna' } })
  const hosts: Record<string, (monitor: Monitor) => Promise<string>> = {
    Hono: async (monitor) => {
      const app = new Hono()
      app.all('/ops/*', ({ req }) => monitor.fetch(req.raw))
      return await new Promise((resolve) => {
        const server: ServerType = serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' }, ({ port }) => resolve(`http://127.0.0.1:${port}`))
        closers.push(() => new Promise((done) => server.close(done)))
      })
    },
    Express: async (monitor) => {
      const app = express()
      app.use('/ops', monitor.listener)
      const server = app.listen(0, '127.0.0.1')
      closers.push(() => new Promise((done) => server.close(done)))
      await new Promise((resolve) => server.once('listening', resolve))
      return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    },
    Fastify: async (monitor) => {
      const app = fastify()
      app.removeAllContentTypeParsers()
      app.addContentTypeParser('*', (_request, _body, done) => done(null))
      app.all('/ops/*', async (request, reply) => {
        reply.hijack()
        await monitor.listener(request.raw, reply.raw)
      })
      closers.push(() => app.close())
      return await app.listen({ port: 0, host: '127.0.0.1' })
    },
    'node:http': async (monitor) => {
      const server = createServer((request, response) => void monitor.listener(request, response))
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
      closers.push(() => new Promise((done) => server.close(done)))
      return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    },
  }

  it.each(Object.keys(hosts))('of %s it serves both, and takes changes', async (name) => {
    const changes: unknown[] = []
    const monitor = await createMonitor({ ...options(), onChange: (change) => changes.push(change) })
    closers.push(() => monitor.close())
    const url = await hosts[name]!(monitor)
    const headers = { 'x-user': 'me' }
    expect((await fetch(`${url}/ops/fleet`)).status).toBe(401)
    const page = await (await fetch(`${url}/ops/fleet`, { headers })).text()
    expect(page).toContain('href="/ops/fleet/style.css')
    expect((await fetch(`${url}/ops/fleet/style.css`)).status).toBe(200)
    const bull = await (await fetch(`${url}/ops/`, { headers })).text()
    expect(bull).toContain('<base href="/ops/"')
    const script = /src="([^"]*static\/js\/main[^"]*)"/.exec(bull)?.[1] ?? ''
    expect((await fetch(new URL(script, `${url}/ops/`), { headers })).status).toBe(200)
    const { jobId } = await at.queue.enqueue(longJob({ delay: '1h' }))
    const shown = (await (await fetch(`${url}/ops/api/queues/agents/${jobId}`, { headers })).json()) as { job: { name: string; externalUrl: { href: string } } }
    expect(shown.job.name).toMatch(/^acme\/web · agent · waiting: delayed until /)
    expect(shown.job.externalUrl.href).toBe(`/ops/fleet/jobs/${jobId}`)
    const cancelled = await fetch(`${url}/ops/fleet/jobs/${jobId}/cancel`, { ...form({}), headers })
    expect([cancelled.status, cancelled.headers.get('location')]).toEqual([303, `/ops/fleet/jobs/${jobId}?said=cancelled`])
    expect(changes).toEqual([{ action: 'cancelJob', jobId }])
    expect(await at.queue.operations.auditLog({ limit: 1 })).toMatchObject([{ by: 'u-1', name: 'anna', action: 'cancelJob', targets: [jobId] }])
  })

  it.each([false, undefined, null, 0, '', 'yes', {}, { id: 1, name: 'x' }])('lets nobody in for %j', async (answer) => {
    const monitor = await createMonitor({ ...options(), authenticate: () => answer as boolean })
    closers.push(() => monitor.close())
    expect((await monitor.fetch(new Request('http://localhost/ops/fleet'))).status).toBe(401)
  })

  it('says who may look, or does not begin', async () => {
    await expect(createMonitor({ queue: at.queue, redis: { url: at.redis.url } })).rejects.toThrow(/^credentials, authenticate: give one of both/)
    await expect(createMonitor({ ...options(), basePath: 'ops/' })).rejects.toThrow(/^basePath: "ops\/" must be empty, or begin with "\/"/)
    await expect(createMonitor({ ...options(), redis: { url: 'redis://127.0.0.1:1' } })).rejects.toThrow(/^redis: 127\.0\.0\.1:1 can't be used/)
  })
})

describe('Bull Board', () => {
  it('cancels by its bin, runs again by its button, and shows schedules and a job’s flow', async () => {
    const { url } = await board()
    const call = (method: string, path: string) => fetch(new URL(`api/queues/${path}`, url), { method })
    const jobId = await runningJob()
    expect((await call('GET', `agents/${jobId}/flow`)).status).toBe(200)
    const running = (await (await call('GET', `agents/${jobId}`)).json()) as { job: { name: string; progress: object } }
    expect(running.job.name).toMatch(/^acme\/web · agent · 1\/2 agent at (e2b|modal)$/)
    expect(running.job.progress).toMatchObject({ status: 'running', step: '1/2 agent', attempts: [expect.stringMatching(/^1\. (e2b|modal): running$/)] })
    expect((await call('PUT', `agents/${jobId}/clean`)).status).toBe(204)
    expect(await at.queue.job(jobId).result({ timeoutMs: 150_000 })).toMatchObject({ status: 'cancelled', error: { message: 'cancelled from the board' } })
    let said = ''
    await until('the queue to have it', async () => {
      const answer = await call('PUT', `agents/${jobId}/retry`)
      said = `${answer.status} ${await answer.text()}`
      return answer.status === 204
    }).catch((error: unknown) => {
      throw new Error(said, { cause: error })
    })
    expect((await at.queue.job(jobId).status()).result).toBeNull()
    await at.queue.job(jobId).cancel('done')
    expect(await at.queue.operations.auditLog({ limit: 2 })).toMatchObject([{ by: 'board', action: 'bullBoard', targets: [`PUT /api/queues/agents/${jobId}/retry`] }, { action: 'bullBoard', targets: [`PUT /api/queues/agents/${jobId}/clean`] }])

    await at.queue.schedules.upsert('nightly', { cron: '0 3 * * *', timezone: 'UTC', job: longJob() })
    const { job } = (await (await call('GET', '~schedules-agents/nightly')).json()) as { job: { name: string; data: object } }
    expect(job.name).toBe('nightly · 0 3 * * * (UTC)')
    expect(job.data).toMatchObject({ repository: 'acme/web', last: 'none yet', missed: 'skip' })
    await at.queue.schedules.pause('nightly')
    const { queues } = (await (await fetch(new URL('api/queues?activeQueue=~schedules-agents&status=paused', url))).json()) as { queues: { name: string; counts: object; jobs: { name: string }[] }[] }
    expect(queues.find(({ name }) => name === '~schedules-agents')).toMatchObject({ counts: { delayed: 0, paused: 1 }, jobs: [{ name: 'nightly · 0 3 * * * (UTC) · paused' }] })
    await at.queue.schedules.remove('nightly')
  })
})
