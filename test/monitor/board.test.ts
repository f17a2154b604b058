import { createRequire } from 'node:module'
import { resolve } from 'node:path'
import { Queue, Worker } from 'bullmq'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startRedis, type EmbeddedRedis } from '../../src/embedded/redis.js'
import { isLoopback, startBoard, type Board, type BoardOptions } from '../../src/monitor/board.js'
import { shownValue } from '../../src/monitor/formatters.js'
import { InvalidInputError } from '../../src/job/errors.js'

const prefix = '{board-test}'
let redisServer: EmbeddedRedis
let redis: Redis
const boards: Board[] = []

async function open(options: Partial<BoardOptions> = {}): Promise<Board> {
  const board = await startBoard({ redis, queues: [{ name: 'agent-jobs', prefix }], host: '127.0.0.1', port: 0, credentials: 'none', ...options })
  boards.push(board)
  return board
}

beforeAll(async () => {
  redisServer = await startRedis()
  redis = new Redis({ ...redisServer.connection, maxRetriesPerRequest: 1 })
  const queue = new Queue('agent-jobs', { prefix, connection: redis })
  await queue.add('run', { repository: 'acme/web', env: { API_KEY: 'hunter2' }, steps: [{ name: 'agent', run: 'x'.repeat(100_000), env: { OTHER: 'hunter3' } }] }, { jobId: 'job-a' })
  const worker = new Worker('agent-jobs', async () => ({ stdoutTail: 'y'.repeat(100_000) }), { prefix, connection: { ...redisServer.connection, maxRetriesPerRequest: null } })
  await new Promise((resolve) => worker.once('completed', resolve))
  await worker.close()
  await queue.add('run', { repository: 'acme/web' }, { jobId: 'job-b', delay: 3_600_000 })
  await queue.close()
})
afterAll(async () => {
  await Promise.all(boards.map((board) => board.close()))
  redis.disconnect()
  await redisServer.close()
})

describe('the board', () => {
  it('shows the page and the jobs', async () => {
    const { url } = await open()
    const page = await fetch(url)
    expect(page.status).toBe(200)
    const html = await page.text()
    expect(html).toContain('Switchyard')
    const script = /src="(static\/js\/main[^"]*)"/.exec(html)?.[1]
    expect((await fetch(new URL(script ?? 'none', url))).status).toBe(200)
    const body = (await (await fetch(new URL('api/queues?activeQueue=agent-jobs&status=completed', url))).json()) as { queues: { jobs: { id: string }[] }[] }
    expect(body.queues[0]?.jobs[0]?.id).toBe('job-a')
  })

  it('hides environment values and cuts what is long', async () => {
    const { url } = await open()
    const text = await (await fetch(new URL('api/queues/agent-jobs/job-a', url))).text()
    expect(text).toContain('API_KEY')
    expect(text).not.toContain('hunter')
    expect(text).toContain('characters …]')
    expect(text.length).toBeLessThan(30_000)
  })

  it('changes nothing unless it is told to', async () => {
    const { url } = await open()
    const clean = await fetch(new URL('api/queues/agent-jobs/clean/completed', url), { method: 'PUT' })
    expect(clean.status).toBe(405)
    const promote = await fetch(new URL('api/queues/agent-jobs/job-b/promote', url), { method: 'PUT' })
    expect(promote.status).toBe(405)

    const writable = await open({ writable: true })
    const forged = await fetch(new URL('api/queues/agent-jobs/job-b/promote', writable.url), { method: 'PUT', headers: { origin: 'http://evil.example' } })
    expect(forged.status).toBe(403)
    const own = await fetch(new URL('api/queues/agent-jobs/job-b/promote', writable.url), { method: 'PUT', headers: { origin: new URL(writable.url).origin } })
    expect(own.status).toBe(204)
  })

  it('answers 405 to every change while it is read-only, whatever Bull Board knows', async () => {
    const { url } = await open()
    // Every route of the installed Bull Board, as it declares them, and what it may come to have.
    const { appRoutes } = createRequire(import.meta.url)(resolve('node_modules/@bull-board/api/dist/routes.js')) as { appRoutes: { api: { method: string | string[]; route: string | string[] }[] } }
    const known = appRoutes.api.flatMap(({ method, route }) => [method].flat().flatMap((one) => [route].flat().map((path) => [one.toUpperCase(), path.replace(':queueName', 'agent-jobs').replace(':jobId', 'job-a').replace(/:\w+/g, 'completed')] as const)))
    const changes = [...known.filter(([method]) => method !== 'GET'), ['DELETE', '/api/queues/agent-jobs'], ['POST', '/anything/at/all'], ['PROPFIND', '/api/queues']] as const
    expect(changes.length).toBeGreaterThan(20)
    for (const [method, path] of changes) {
      const answer = await fetch(new URL(path, url), { method, headers: { 'content-type': 'application/json' }, body: '{}' })
      expect([answer.status, method, path]).toEqual([405, method, path])
    }
  })

  it('never saves what it shows in the place of a value', async () => {
    const { url } = await open({ writable: true })
    const shown = (await (await fetch(new URL('api/queues/agent-jobs/job-a', url))).json()) as { job: { data: object } }
    const send = (method: string, path: string, body: object, type = 'application/json') =>
      fetch(new URL(`api/queues/agent-jobs/${path}`, url), { method, headers: { 'content-type': type }, body: JSON.stringify(body) })
    // Bull Board takes it for JSON whatever it is called.
    for (const type of ['application/json', 'text/plain', 'application/x-www-form-urlencoded']) expect((await send('PATCH', 'job-a/update-data', { jobData: shown.job.data }, type)).status, type).toBe(422)
    expect((await send('POST', 'add', { name: 'run', data: shown.job.data, options: {} })).status).toBe(422)
    const queue = new Queue('agent-jobs', { prefix, connection: redis })
    const job = (await queue.getJob('job-a')) as { data: { env: { API_KEY: string } } } | undefined
    expect(job?.data.env.API_KEY).toBe('hunter2')
    await queue.close()
    expect((await send('PATCH', 'job-b/update-data', { jobData: { repository: 'acme/other' } })).status).toBe(200)
  })

  it('shows nothing that turns a page’s text around, of errors and output either, and saves no picture of it', async () => {
    const { url } = await open({ writable: true })
    const evil = 'a\u202eb\u001b[31m\u2028\u009bc'
    const queue = new Queue('agent-jobs', { prefix, connection: redis })
    const job = await queue.add(evil, { repository: 'acme/web', steps: [{ name: evil, run: 'x' }], [evil]: evil }, { jobId: 'job-evil' })
    await job.log(`output ${evil}`)
    await redis.hset(`${prefix}:agent-jobs:job-evil`, { failedReason: evil, stacktrace: JSON.stringify([evil]) })
    const get = async (path: string) => (await fetch(new URL(`api/queues${path}`, url))).text()
    const shown = await Promise.all(['/agent-jobs/job-evil', '/agent-jobs/job-evil/logs', '?activeQueue=agent-jobs&status=waiting'].map(get))
    for (const text of shown) {
      expect(text).toContain('␛[31m')
      expect(text).not.toMatch(/[\u202e\u2028\u009b]|\\u001b/)
    }
    const { job: found } = JSON.parse(shown[0] ?? '') as { job: { data: object } }
    const saved = await fetch(new URL('api/queues/agent-jobs/job-evil/update-data', url), { method: 'PATCH', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ jobData: found.data }) })
    expect(saved.status).toBe(422)
    expect(((await queue.getJob('job-evil')) as { data: Record<string, unknown> } | undefined)?.data[evil]).toBe(evil)
    await job.remove()
    await queue.close()
  })

  it('says what is the asker’s own mistake', async () => {
    const { url } = await open({ writable: true })
    expect((await fetch(new URL('api/queues?activeQueue=agent-jobs&status=%00', url))).status).toBe(400)
    expect((await fetch(new URL('api/queues/agent-jobs/job-a/promote', url), { method: 'PUT' })).status).toBe(409)
    for (const state of ['latest', 'active', 'waiting', 'waiting-children', 'prioritized', 'completed', 'failed', 'delayed', 'paused']) {
      expect((await fetch(new URL(`api/queues?activeQueue=agent-jobs&status=${state}`, url))).status, state).toBe(200)
    }
  })

  it('takes no list of the queue’s own for a job, and no other text for a state', async () => {
    const { url } = await open({ writable: true })
    const ask = async (method: string, path: string, body?: unknown) =>
      (await fetch(new URL(`api/queues/agent-jobs/${path}`, url), { method, headers: { 'content-type': 'application/json' }, ...(body === undefined ? {} : { body: JSON.stringify(body) }) })).status
    const before = await redis.keys('*')
    const metaBefore = await redis.hgetall(`${prefix}:agent-jobs:meta`)
    for (const id of ['meta', 'wait', 'events', 'completed', 'delayed', 'job-a:lock', 'job-b:logs', 'metrics:completed:data']) {
      expect(await ask('GET', id), id).toBe(404)
      expect(await ask('PUT', `${id}/clean`), id).toBe(404)
      expect(await ask('PUT', `${id}/promote`), id).toBe(404)
      expect(await ask('PATCH', `${id}/update-data`, { jobData: {} }), id).toBe(404)
    }
    for (const state of ['meta', 'events', '%00', 'job-a']) expect(await ask('PUT', `clean/${state}`), state).toBe(400)
    for (const jobId of ['a:b', '17']) expect(await ask('POST', 'add', { name: 'run', data: {}, options: { jobId } }), jobId).toBe(400)
    expect((await redis.keys('*')).toSorted()).toEqual(before.toSorted())
    expect(await redis.hgetall(`${prefix}:agent-jobs:meta`)).toEqual(metaBefore)
    expect(await ask('GET', 'job-b')).toBe(200)
  })

  it('says so where Redis can’t be used', async () => {
    const { url } = await open({ writable: true })
    const ask = async (path: string, method: string) => {
      const answer = await fetch(new URL(`api/queues${path}`, url), { method })
      return [answer.status, ((await answer.json()) as { error: string }).error] as const
    }
    const queue = new Queue('agent-jobs', { prefix, connection: redis })
    await redis.config('SET', 'min-replicas-to-write', '1')
    const refused = [503, expect.stringMatching(/^redis: .* can't be used \(NOREPLICAS: it refuses writes, since too few of its replicas are there\); bring the replicas back/)]
    expect(await ask('/agent-jobs/pause', 'PUT')).toEqual(refused)
    expect(await ask('/agent-jobs/job-b/promote', 'PUT')).toEqual(refused)
    await redis.config('SET', 'min-replicas-to-write', '0')
    expect(await queue.isPaused()).toBe(false)
    await queue.close()
  })

  it('reads no more of a change than a change has', async () => {
    const { url } = await open({ writable: true })
    const body = JSON.stringify({ jobData: { text: 'x'.repeat(5 * 1024 * 1024) } })
    const answer = await fetch(new URL('api/queues/agent-jobs/job-a/update-data', url), { method: 'PATCH', headers: { 'content-type': 'application/json' }, body }).then(({ status }) => status, () => 'cut')
    expect([413, 'cut']).toContain(answer)
    const deep = `{"jobData":${'['.repeat(200_000)}${']'.repeat(200_000)}}`
    expect((await fetch(new URL('api/queues/agent-jobs/job-a/update-data', url), { method: 'PATCH', headers: { 'content-type': 'application/json' }, body: deep })).status).toBe(422)
  })

  it('sends headers that keep it out of frames and away from other hosts', async () => {
    const { url } = await open()
    const page = await fetch(url)
    expect(page.headers.get('x-frame-options')).toBe('DENY')
    expect(page.headers.get('content-security-policy')).toMatch(/default-src 'self'.*script-src 'self'.*frame-ancestors 'none'/)
    expect(page.headers.get('x-content-type-options')).toBe('nosniff')
    expect(await page.text()).not.toMatch(/https?:\/\/(?!www\.w3\.org)/)
  })

  it('does not tell what Redis says of itself', async () => {
    const { url } = await open()
    const answer = await fetch(new URL('api/redis/stats', url))
    expect(await answer.text()).not.toContain('redis_version')
  })
})

describe('who may look', () => {
  it('listens to others only with a password', async () => {
    await expect(open({ host: '0.0.0.0' })).rejects.toThrow(InvalidInputError)
    await expect(open({ host: '0.0.0.0', credentials: undefined })).rejects.toThrow(InvalidInputError)
    await expect(open({ host: '0.0.0.0' })).rejects.toThrow(/"0\.0\.0\.0" can be reached by others, so the board needs a password/)
    const { url } = await open({ host: '0.0.0.0', credentials: { username: 'admin', password: 'pass word' } })
    const local = url.replace('0.0.0.0', '127.0.0.1')
    const paths = ['', 'api/queues', 'static/favicon.ico']
    const basic = (text: string) => ({ headers: { authorization: `Basic ${Buffer.from(text).toString('base64')}` } })
    for (const path of paths) {
      expect((await fetch(new URL(path, local))).status, path).toBe(401)
      expect((await fetch(new URL(path, local), basic('admin:wrong'))).status, path).toBe(401)
      expect((await fetch(new URL(path, local), basic('other:pass word'))).status, path).toBe(401)
      expect((await fetch(new URL(path, local), basic('admin:pass word'))).status, path).toBe(200)
    }
    expect((await fetch(new URL('healthz', local))).status).toBe(200)
  })

  it('makes a password of its own on loopback, and a link that logs in', async () => {
    const { url, loginUrl } = await open({ credentials: undefined, writable: true })
    expect((await fetch(new URL('api/queues', url))).status).toBe(401)
    const stranger = await fetch(url, { headers: { accept: 'text/html' }, redirect: 'manual' })
    expect([stranger.status, stranger.headers.get('location')]).toEqual([303, '/login'])
    expect((await fetch(new URL('login?key=guess', url))).status).toBe(403)

    const login = await fetch(loginUrl, { redirect: 'manual' })
    const cookies = login.headers.getSetCookie()
    expect(cookies.find((cookie) => cookie.startsWith('switchyard_board_'))).toMatch(/; HttpOnly.*; SameSite=Strict/)
    const cookie = cookies.map((each) => each.split(';')[0]).join('; ')
    expect((await fetch(new URL('api/queues', url), { headers: { cookie } })).status).toBe(200)
    const forged = cookie.replace(/(switchyard_board_\d+=)\d+/, '$19999999999999')
    expect((await fetch(new URL('api/queues', url), { headers: { cookie: forged } })).status).toBe(401)

    const pause = (headers: Record<string, string>) => fetch(new URL('api/queues/agent-jobs/resume', url), { method: 'PUT', headers: { cookie, ...headers } })
    expect((await pause({})).status).toBe(403)
    expect((await pause({ 'x-xsrf-token': 'guess' })).status).toBe(403)
    const token = /XSRF-TOKEN=([^;]*)/.exec(cookie)?.[1] ?? ''
    expect((await pause({ 'x-xsrf-token': token })).status).toBe(200)
  })

  it('takes the password by a form, and stops looking at passwords after too many wrong ones', async () => {
    const { url } = await open({ credentials: { username: 'admin', password: 'pass word' } })
    const post = (password: string) =>
      fetch(new URL('login', url), { method: 'POST', body: new URLSearchParams({ username: 'admin', password }), redirect: 'manual' })
    const right = await post('pass word')
    expect(right.status).toBe(303)
    const cookie = right.headers.getSetCookie().map((each) => each.split(';')[0]).join('; ')
    for (let tries = 0; tries < 10; tries++) expect((await post(`wrong ${tries}`)).status).toBe(401)
    for (const password of ['wrong', 'pass word']) {
      const answer = await post(password)
      expect([answer.status, answer.headers.get('retry-after')]).toEqual([429, '6'])
    }
    expect((await fetch(new URL('api/queues', url), { headers: { cookie } })).status).toBe(200)
  })

  it('reads no more of a form than a form has, also where its length is not said', async () => {
    const { url } = await open({ credentials: { username: 'admin', password: 'pass word' } })
    const body = new ReadableStream({
      pull: (controller) => controller.enqueue(new Uint8Array(64 * 1024)),
    })
    const answer = await fetch(new URL('login', url), { method: 'POST', body, duplex: 'half' }).then(({ status }) => status, () => 'cut')
    expect([413, 'cut']).toContain(answer)
    expect((await fetch(new URL('healthz', url))).status).toBe(200)
  })

  it('answers to this machine’s names alone when there is no password', async () => {
    const { url } = await open()
    const { port } = new URL(url)
    const { request } = await import('node:http')
    const status = await new Promise<number | undefined>((resolve, reject) => {
      request({ host: '127.0.0.1', port, path: '/api/queues', headers: { host: 'evil.example' } }, (response) => {
        response.resume()
        resolve(response.statusCode)
      }).on('error', reject).end()
    })
    expect(status).toBe(403)
  })

  it('knows the loopback addresses', () => {
    expect(['127.0.0.1', '127.9.9.9', 'localhost', '::1'].every(isLoopback)).toBe(true)
    expect(['0.0.0.0', '::', '10.0.0.1', '127.0.0.1.example.com', ''].some(isLoopback)).toBe(false)
  })

  it('says when the port is taken', async () => {
    const { url } = await open()
    await expect(open({ port: Number(new URL(url).port) })).rejects.toThrow(/can't listen on 127\.0\.0\.1:\d+ \(.*EADDRINUSE.*\); choose another/)
  })
})

describe('health', () => {
  it('is 503 while Redis is gone', async () => {
    const server = await startRedis()
    const connection = new Redis({ ...server.connection, maxRetriesPerRequest: 0, enableOfflineQueue: false })
    connection.on('error', () => undefined)
    await new Promise((resolve) => connection.once('ready', resolve))
    const { url } = await open({ redis: connection })
    expect(await (await fetch(new URL('healthz', url))).json()).toEqual({ status: 'ok' })
    await server.kill()
    await expect.poll(async () => (await fetch(new URL('healthz', url))).status).toBe(503)
    connection.disconnect()
    await server.close()
  })
})

describe('what is shown of a value', () => {
  it('masks env at every depth and leaves the rest', () => {
    expect(shownValue({ env: { A: '1' }, steps: [{ run: 'x', env: { B: '2' } }], n: 1, none: null })).toEqual({
      env: { A: '[hidden]' }, steps: [{ run: 'x', env: { B: '[hidden]' } }], n: 1, none: null,
    })
    expect(shownValue({ env: 'oops' })).toEqual({ env: '[hidden]' })
  })
  it('is bounded in every direction', () => {
    const wide = shownValue(Array.from({ length: 1000 }, (_, index) => index)) as unknown[]
    expect(wide).toHaveLength(201)
    let deep: unknown = 'end'
    for (let level = 0; level < 100; level += 1) deep = { deep }
    expect(JSON.stringify(shownValue(deep))).toContain('[deeper than is shown]')
  })
})
