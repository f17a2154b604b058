import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createHash } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { artifactsConfigSchema, createArtifactStore } from '../../src/artifacts/index.js'
import { completionEvent } from '../../src/events/index.js'
import type { JobSpecInput } from '../../src/job/spec.js'
import { RunStore } from '../../src/store/index.js'
import { signedHeaders, signersOf } from '../../src/webhooks/signing.js'
import { endJob, serve, spec } from '../http/fixture.js'
import { startS3Server } from '../servers/s3/server.js'
import { startTcpProxy } from '../servers/tcp-proxy.js'
import { after, record, result, startProxy, until, useRedis } from '../store/fixture.js'
import { findLanguages, RaisedError, type Driver, type Raised } from './driver.js'

/** What each language's client does at a server, the same for all of them. */
const redis = useRedis()
const languages = await findLanguages()
const timeout = 240_000
/** Nobody listens there, and nobody comes to. */
const nobody = 1

describe.each(languages.map((language) => [language.missing === undefined ? language.name : `${language.name} (skipped: ${language.missing})`, language] as const))('%s', (_name, language) => {
  let driver: Driver
  beforeAll(async () => {
    if (language.missing === undefined) driver = await language.start()
  }, 180_000)
  afterAll(async () => {
    if (language.missing === undefined) await driver.close()
  })
  const test = it.skipIf(language.missing !== undefined)

  const connect = (url: string, key: string, more: object = {}) => driver.ask('connect', { url, key, maxRetries: 4, ...more })
  const raised = async (op: string, args?: object): Promise<Raised> => {
    try {
      return { kind: 'none', message: `it gave ${JSON.stringify(await driver.ask(op, args))}` }
    } catch (error) {
      if (error instanceof RaisedError) return error.raised
      throw error
    }
  }

  test('enqueues jobs of every shape, one and many, and reads, lists and cancels them', { timeout }, async () => {
    const { url, newKey, queue } = await serve(redis)
    await connect(url, await newKey('write'))
    await driver.ask('check')
    const shapes: readonly JobSpecInput[] = [
      {
        repository: 'acme/web', ref: 'main', setup: [{ run: 'npm ci' }], steps: [{ name: 'tests', run: 'npm test', timeout: '40m', env: { A: 'ä' }, cwd: 'web', resume: 'npm test -- --again' }, { run: 'true' }], env: { B: '"' },
        secrets: ['TOKEN', { name: 'KEY', inject: { host: 'api.example.com', header: 'x-api-key', fallback: 'environment' } }], lfs: { include: ['*.psd'] }, push: { message: 'Fix ☃', author: { name: 'A', email: 'a@example.com' }, keep: true },
        promote: { to: 'fix', strategy: 'merge', pullRequest: {} }, network: ['api.example.com'], concurrency: { key: 'a', then: 'drop' }, metadata: { nested: { deep: [1, 'two', null, 1.5] } }, priority: 5, attempts: 2, delay: '10m', waitTimeout: '1h',
        checkpoint: { everySeconds: 30, paths: ['~/.agent'] }, artifacts: ['a/**'], providers: { prefer: ['local'] }, resources: { cpu: 0.5, memoryMiB: 512 }, image: 'node', timeout: '2h', tenant: 'acme', events: ['started', 'step.finished'],
        webhooks: [{ url: 'https://ci.example.com/', secretName: 'HOOK_WEBHOOK_SECRET', events: ['moved'] }],
      },
      { ...spec(), steps: [{ run: 'x' }], push: false, lfs: 'off', network: 'none', idempotencyKey: 'one' },
      { ...spec(), steps: [{ run: 'x' }], lfs: 'auto', network: 'git-only', runAt: new Date(Math.floor(Date.now() / 1000) * 1000 + 86_400_190).toISOString(), promote: { to: 'x', pullRequest: { title: 'T', draft: true, labels: ['a'], reviewers: ['ada'], base: 'main', body: 'B' } } },
    ]
    const stored = async (jobId: string) => {
      const { spec: whole } = JSON.parse(String(await redis.connect().hget(`{switchyard}:agents:${jobId}`, 'data'))) as { spec: Record<string, unknown> }
      const { idempotencyKey: _own, ...rest } = whole
      return rest
    }
    for (const shape of shapes) {
      const jobId = (await driver.ask('enqueue', { spec: shape })) as string
      expect(await driver.ask('get', { jobId })).toMatchObject({ jobId, repository: 'acme/web', state: 'waiting', result: null, tenant: shape.tenant ?? null })
      // As TypeScript's producer enqueues it.
      const { jobId: same } = await queue.enqueue({ ...shape, ...(shape.idempotencyKey === undefined ? {} : { idempotencyKey: 'other' }) })
      expect(await stored(jobId)).toEqual(await stored(same))
    }
    const ids = (await driver.ask('enqueueMany', { specs: Array.from({ length: 7 }, (_, index) => ({ ...spec(), repository: 'acme/many', tenant: `t${index % 2}` })) })) as string[]
    expect(new Set(ids).size).toBe(7)
    expect(new Set((await driver.ask('list', { filter: { repository: 'acme/many' }, pageSize: 2 })) as string[])).toEqual(new Set(ids))
    expect((await driver.ask('list', { filter: { state: 'waiting', tenant: 't1' }, pageSize: 2 })) as string[]).toHaveLength(3)
    expect(await driver.ask('cancel', { jobId: ids[0], reason: 'enough ☃' })).toBe('cancelled')
    expect(await driver.ask('cancel', { jobId: ids[0] })).toBe('ended')
    expect(await driver.ask('wait', { jobId: ids[0], timeoutMs: 20_000 })).toMatchObject({ status: 'cancelled', error: { kind: 'cancelled', message: expect.stringContaining('enough ☃') as string } })
    expect(await driver.ask('retry', { jobId: ids[1] })).toBe('pending')
    expect(await driver.ask('retry', { jobId: ids[0], from: 'checkpoint' })).toBe('retried')
    expect((await raised('retry', { jobId: 'nobody', from: 'checkpoint' })).message).toContain('is not known')
    expect(((await driver.ask('tenants')) as { tenant: string }[]).map(({ tenant }) => tenant)).toContain('t1')
    expect(await driver.ask('providers')).toEqual([])
    expect(await driver.ask('costs', { since: new Date(Date.now() - 86_400_000).toISOString().slice(0, 10), tenant: 't1' })).toEqual([])
    expect(await raised('costs', { since: 'yesterday', tenant: '' })).toMatchObject({ status: 422 })
  })

  test('waits for a result, or no longer than it was told to', { timeout }, async () => {
    const { url, newKey } = await serve(redis)
    await connect(url, await newKey('write'))
    const jobId = (await driver.ask('enqueue', { spec: spec() })) as string
    expect((await raised('wait', { jobId, timeoutMs: 300 })).message).toMatch(/had not ended after 0\.3 seconds|deadline exceeded/)
    const waited = driver.ask('wait', { jobId, timeoutMs: 40_000 })
    await endJob(redis, jobId, { branch: 'agent/x', commit: 'a'.repeat(40), tenant: null })
    expect(await waited).toMatchObject({ status: 'succeeded', branch: 'agent/x', error: null, promoted: null })
  })

  test('reads states, kinds and fields of later releases, and answers of earlier ones', { timeout }, async () => {
    const job = { jobId: 'j', repository: 'acme/web', tenant: null, state: 'thawing', reason: null, phase: 'orbit', provider: null, sandboxId: null, step: null, attempts: 0, checkpointSha: null, checkpointProblem: null, unsaved: [], unsavedMore: 0, enqueuedAtMs: 1_800_000_000_123, startedAtMs: null, endedAtMs: null, result: null, novelty: { a: 1 } }
    const server = await answering(() => ({ status: 200, type: 'application/json', body: JSON.stringify(job) }))
    await connect(server.url, 'sy_a_b')
    expect(await driver.ask('get', { jobId: 'j' })).toMatchObject({ state: 'thawing', phase: 'orbit', enqueuedAtMs: 1_800_000_000_123 })
    const { checkpointProblem: _later, unsaved: _too, tenant: _and, ...early } = job
    const earlier = await answering(() => ({ status: 200, type: 'application/json', body: JSON.stringify(early) }))
    await connect(earlier.url, 'sy_a_b')
    expect(await driver.ask('get', { jobId: 'j' })).toMatchObject({ jobId: 'j', state: 'thawing' })
  })

  test('follows a log over broken connections and a server that stops, and misses and repeats nothing', { timeout }, async () => {
    const first = await serve(redis)
    const proxy = await startTcpProxy(Number(new URL(first.url).port))
    after(() => proxy.close())
    await connect(`http://127.0.0.1:${proxy.port}`, await first.newKey('write'), { maxRetries: 10 })
    const jobId = (await driver.ask('enqueue', { spec: spec() })) as string
    const job = await running(jobId)
    const texts: unknown[] = []
    const following = driver.ask('logs', { jobId, follow: true }, (item) => texts.push(item['text']))
    const print = async (text: string) => {
      await job.print(text)
      await until(() => texts.at(-1) === text, text)
    }
    await print('one ☃\r\n')
    proxy.cut()
    await print('two')
    const second = await serve(redis)
    proxy.target(Number(new URL(second.url).port))
    await first.server.close()
    await print('{"three":\n\n"data: 3"}\u2028')
    proxy.cut()
    await job.print('four')
    await job.finish()
    expect([await following, texts]).toEqual([4, ['one ☃\r\n', 'two', '{"three":\n\n"data: 3"}\u2028', 'four']])
    const again: Record<string, unknown>[] = []
    await driver.ask('logs', { jobId, follow: false }, (item) => again.push(item))
    const rest: unknown[] = []
    await driver.ask('logs', { jobId, follow: false, after: again[1]?.['seq'] }, (item) => rest.push(item['text']))
    expect(rest).toEqual(texts.slice(2))
    await driver.ask('logs', { jobId, follow: true, count: 1 }, (item) => rest.push(item['text']))
    expect(rest.at(-1)).toBe('one ☃\r\n')
  })

  test('follows events, on from where it began when it was cut off before the first', { timeout }, async () => {
    const [first, second] = [await serve(redis), await serve(redis)]
    const proxy = await startTcpProxy(Number(new URL(first.url).port))
    after(() => proxy.close())
    await connect(`http://127.0.0.1:${proxy.port}`, await first.newKey('write'), { maxRetries: 10 })
    const cancelled = async () => {
      const job = await first.queue.enqueue({ repository: 'acme/web', steps: ['true'] })
      await job.cancel('enough')
      return job.jobId
    }
    await cancelled()
    const seen: Record<string, unknown>[] = []
    const following = driver.ask('events', { count: 2 }, (item) => seen.push(item))
    await until(() => /^id: \d+-\d+/m.test(proxy.carried()), 'the stream has begun')
    proxy.target(nobody)
    await first.server.close()
    const missed = [await cancelled(), await cancelled()]
    proxy.target(Number(new URL(second.url).port))
    expect(await following).toBe(2)
    expect(seen.map(({ subject, type }) => [subject, type])).toEqual(missed.map((id) => [id, 'dev.switchyard.job.cancelled']))
    expect(seen[0]).toMatchObject({ data: { jobId: missed[0], status: 'cancelled' } })
    const all: unknown[] = []
    await driver.ask('events', { after: '0-0', count: 3 }, (item) => all.push(item['subject']))
    expect(all.slice(1)).toEqual(missed)
  })

  test('enqueues once, although an answer was lost or the server said “not now”', { timeout }, async () => {
    const { url, newKey, queue } = await serve(redis)
    const proxy = await startProxy(Number(new URL(url).port))
    const key = await newKey('write')
    await connect(`http://127.0.0.1:${proxy.port}`, key)
    const lost = proxy.loseNextAnswer()
    const jobId = await driver.ask('enqueue', { spec: spec() })
    await lost
    expect((await queue.list()).map((job) => job.jobId)).toEqual([jobId])
    expect(await driver.ask('enqueue', { spec: spec(), requestKey: 'ticket "4711"' })).toBe(await driver.ask('enqueue', { spec: spec(), requestKey: 'ticket "4711"' }))
    expect(await raised('enqueue', { spec: { ...spec(), repository: 'acme/other' }, requestKey: 'ticket "4711"' })).toMatchObject({ status: 422, code: 'SWY_IDEMPOTENCY_CONFLICT' })
    expect((await queue.list()).length).toBe(2)

    for (const refusals of [[429, 503], [409, 502]]) {
      const keys: unknown[] = []
      const busy = await answering((request) => {
        const status = refusals[keys.push(request.headers['idempotency-key']) - 1]
        if (status === undefined) return { status: 201, type: 'application/json', body: '{"jobId":"j"}' }
        return { status, type: 'application/problem+json', body: JSON.stringify({ type: 'x', title: 't', status, detail: 'not now', code: 'SWY_HTTP_RATE_LIMITED' }), headers: { 'retry-after': '0' } }
      })
      await connect(busy.url, key)
      expect(await driver.ask('enqueue', { spec: spec() })).toBe('j')
      expect([new Set(keys).size, keys.length]).toEqual([1, 3])
      expect(keys[0]).toMatch(/^"[\x21-\x7e]{16,}"$/)
    }
    // Whoever is told to come back in an hour is not made to wait.
    const later = await answering(() => ({ status: 503, type: 'application/problem+json', body: JSON.stringify({ type: 'x', title: 't', status: 503, detail: 'come back later', code: 'SWY_HTTP_UNAVAILABLE' }), headers: { 'retry-after': '3600' } }))
    await connect(later.url, key)
    expect(await raised('enqueue', { spec: spec() })).toMatchObject({ status: 503, message: expect.stringContaining('come back later') as string })
    expect(later.count()).toBe(1)
  })

  test('has the schedules and the audit log', { timeout }, async () => {
    const { url, newKey } = await serve(redis)
    await connect(url, await newKey('admin'))
    const ask = (verb: string, ...given: unknown[]) => driver.ask('schedules', { do: verb, with: given })
    expect(await ask('put', 'nightly', { cron: '0 3 * * *', timezone: 'Europe/Berlin', job: spec() })).toMatchObject({ id: 'nightly', cron: '0 3 * * *', paused: false, last: null })
    expect(await ask('pause', 'nightly')).toMatchObject({ paused: true, nextRunAt: null })
    expect(await ask('resume', 'nightly')).toMatchObject({ paused: false })
    expect(await ask('get', 'nightly')).toMatchObject({ repository: 'acme/web' })
    expect(await ask('list')).toMatchObject([{ id: 'nightly' }])
    await ask('remove', 'nightly')
    expect(await raised('schedules', { do: 'get', with: ['nightly'] })).toMatchObject({ status: 404, code: 'SWY_SCHEDULE_UNKNOWN' })
    expect(((await driver.ask('audit', { limit: 2 })) as { action: string }[]).map(({ action }) => action)).toEqual(['removeSchedule', 'resumeSchedule'])
    let asked = 0
    const gone = await answering(() => (asked++ === 0 ? { status: 502, type: 'text/html', body: '' } : { status: 404, type: 'application/problem+json', body: JSON.stringify({ type: 'x', title: 't', status: 404, detail: 'no such schedule', code: 'SWY_SCHEDULE_UNKNOWN' }) }))
    await connect(gone.url, 'sy_a_b')
    await ask('remove', 'nightly')
    expect(asked).toBe(2)
  })

  test('lists artifacts and downloads them whole, or not at all, and shows the store no key', { timeout }, async () => {
    const s3 = await startS3Server()
    after(() => s3.close())
    const store = createArtifactStore(artifactsConfigSchema.parse({ s3: { bucket: s3.bucket, region: s3.region, endpoint: s3.url, accessKeyIdEnv: 'KEY', secretAccessKeyEnv: 'SECRET' } }), { environment: { KEY: s3.key.accessKeyId, SECRET: s3.key.secretAccessKey } })
    const { url, newKey, queue } = await serve(redis, { artifacts: store })
    const key = await newKey('write')
    await connect(url, key)
    const bytes = Buffer.from('a report ☃\0')
    const sha256 = createHash('sha256').update(bytes).digest('hex')
    const where = await store.put({ key: 'j/1.1/report.bin', sizeBytes: bytes.length, mediaType: 'text/plain', sha256, content: { bytes } }, { timeoutMs: 10_000 })
    const { jobId } = await queue.enqueue(spec())
    const artifact = { path: 'report.bin', sizeBytes: bytes.length, mediaType: 'text/plain', sha256, where, from: 'sandbox' as const }
    await endJob(redis, jobId, { artifacts: [{ ...artifact, path: 'forged.bin', sha256: '0'.repeat(64) }, artifact, { ...artifact, path: 'local.bin', where: 'file:///var/artifacts/x' }, { ...artifact, path: 'short.bin', sizeBytes: 3 }] })
    expect(await driver.ask('artifacts', { jobId, linkSeconds: 60 })).toMatchObject({ artifacts: [{ path: 'forged.bin', link: expect.stringContaining(s3.url) as string }, { path: 'report.bin' }, { link: null }, {}] })
    const folder = await mkdtemp(join(tmpdir(), 'sy-download-'))
    after(() => rm(folder, { recursive: true, maxRetries: 10 }))
    await driver.ask('download', { jobId, path: 'report.bin', to: join(folder, 'here.bin') })
    expect(await readFile(join(folder, 'here.bin'))).toEqual(bytes)
    for (const [path, sentence] of [['forged.bin', /is not what the job left/], ['short.bin', /is not what the job left/], ['local.bin', /in a folder of the consumers'/], ['none', /left no artifact/]] as const) {
      expect((await raised('download', { jobId, path, to: join(folder, 'never.bin') })).message).toMatch(sentence)
    }
    expect(await readdir(folder)).toEqual(['here.bin'])
  })

  test('verifies webhooks: each secret of a rotation, and nothing else', { timeout }, async () => {
    const secrets = [1, 2, 3].map((fill) => `whsec_${Buffer.alloc(32, fill).toString('base64')}`)
    const nowMs = 1_800_000_000_000
    const body = JSON.stringify({ ...completionEvent(result('job')), subject: 'jöb ☃' })
    const headers = signedHeaders(signersOf('NAME', () => secrets.slice(0, 2).join(' ')), 'job.1', body, nowMs)
    const verify = (change: object = {}) => ({ secrets: [secrets[0]], headers, body, now: nowMs / 1000, ...change })
    for (const given of [[secrets[0]], [secrets[1]], [secrets[2], secrets[1]], [`${secrets[2]} ${secrets[0]}`]]) {
      expect(await driver.ask('verify', verify({ secrets: given }))).toMatchObject({ type: 'dev.switchyard.job.succeeded', subject: 'jöb ☃', data: { jobId: 'job', status: 'succeeded' } })
    }
    const mixed = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.replace('webhook', 'Webhook'), value]))
    expect(await driver.ask('verify', verify({ headers: mixed, now: nowMs / 1000 + 299 }))).toMatchObject({ subject: 'jöb ☃' })
    const { 'webhook-signature': signature = '', ...unsigned } = headers
    const wrong: readonly [object, RegExp][] = [
      [{ secrets: [secrets[2]] }, /signature: is by none/],
      [{ body: `${body} ` }, /signature: is by none/],
      [{ headers: { ...headers, 'webhook-id': 'job.2' } }, /signature: is by none/],
      [{ now: nowMs / 1000 + 301 }, /timestamp: is too far/],
      [{ now: nowMs / 1000 - 301 }, /timestamp: is too far/],
      [{ headers: unsigned }, /signature: is missing/],
      [{ headers: { ...headers, 'webhook-timestamp': 'soon' } }, /timestamp: is no time/],
      [{ headers: { ...headers, 'webhook-timestamp': '1e9' } }, /timestamp: is no time/],
      [{ headers: { ...headers, 'webhook-signature': signature.replaceAll('v1,', 'v2,') } }, /signature: is by none/],
      [{ headers: { ...headers, 'webhook-signature': 'v1, v1 , ,' } }, /signature: is by none/],
      [{ headers: { ...headers, 'webhook-signature': 'v1,ü☃' } }, /signature: is by none/],
    ]
    for (const [change, sentence] of wrong) {
      const { kind, message } = await raised('verify', verify(change))
      expect({ change, kind, message }).toMatchObject({ kind: expect.stringMatching(/Verification/) as string, message: expect.stringMatching(sentence) as string })
    }
    for (const given of [[], [''], ['whsec_not base64'], ['whsec_YQ==']]) {
      const { kind, message } = await raised('verify', verify({ secrets: given }))
      expect([kind, message]).toEqual([expect.not.stringMatching(/none|Verification/), expect.stringMatching(/signing secret (is empty|must be "whsec_")/)])
      expect(message).not.toContain('YQ==')
    }
  })

  test('says in one sentence what is wrong and what to do', { timeout }, async () => {
    const { url, newKey, keys } = await serve(redis)
    const [key, read, revoked] = [await newKey('write'), await newKey('read'), await newKey('write')]
    await keys.revoke(revoked)
    const page = await answering(() => ({ status: 200, type: 'text/html; charset=utf-8', body: '<h1>Welcome</h1>' }))
    const moved = await answering(() => ({ status: 302, type: 'text/html', body: '', headers: { location: url } }))
    const broken = await answering(() => ({ status: 200, type: 'application/json', body: '{"jobs":' }))
    const silent = await answering(() => undefined)
    const endless = await answering(() => 'endless')
    const refusing = { path: 'a', sizeBytes: 1, mediaType: 'text/plain', sha256: '0'.repeat(64), where: 's3://b/a', from: 'sandbox' }
    const artifactsAt = async (link: string) => await answering(() => ({ status: 200, type: 'application/json', body: JSON.stringify({ artifacts: [{ ...refusing, link }], artifactsMissed: [], artifactsMissedMore: 0, tests: null }) }))
    const closed = await answering(() => 'drop')
    const down = `http://127.0.0.1:${nobody}`
    const other = /which is not Switchyard's API; give the address that "switchyard serve" prints$/
    const table: readonly [what: string, url: string, key: string, op: string, args: object, expected: Partial<Record<keyof Raised, unknown>>][] = [
      ['no key', url, '', 'check', {}, { message: /key: is missing; make one with "switchyard keys create"/ }],
      ['a key with a line break', url, `${key}\n`, 'check', {}, { message: /key: holds blanks or characters that no API key has/ }],
      ['a key of nobody’s', url, 'sy_0_0', 'list', { filter: {}, pageSize: 1 }, { status: 401, message: /key/ }],
      ['a key that was revoked', url, revoked, 'list', { filter: {}, pageSize: 1 }, { status: 401, message: /./ }],
      ['a key that may only read', url, read, 'enqueue', { spec: spec() }, { status: 403, message: /write/ }],
      ['no address', '', key, 'check', {}, { message: /url: is missing; give the address/ }],
      ['an address without a scheme', '127.0.0.1:8080', key, 'check', {}, { message: /url: .* is no address of an API/ }],
      ['an address with a key in it', 'http://sy:key@127.0.0.1', key, 'check', {}, { message: /url: holds a user or a password/ }],
      ['a server that is down', down, key, 'list', { filter: {}, pageSize: 1 }, { message: /can't be reached \(.+\); is "switchyard serve" running there, and is the address right\?$/ }],
      ['a server that is down, for a log', down, key, 'logs', { jobId: 'j', follow: true }, { message: /the log of job j broke off and could not be taken up again/ }],
      ['a host that there is not', 'http://nowhere.invalid', key, 'check', {}, { message: /can't be reached/ }],
      ['https where there is http', url.replace('http', 'https'), key, 'check', {}, { message: /can't be reached/ }],
      ['a path beside the API', `${url}api`, key, 'check', {}, { status: 404, message: /there is no such path/ }],
      ['a page of somebody else’s', page.url, key, 'get', { jobId: 'j' }, { message: other }],
      ['a page instead of a log', page.url, key, 'logs', { jobId: 'j', follow: true }, { message: other }],
      ['a redirect', moved.url, key, 'get', { jobId: 'j' }, { message: other }],
      ['JSON that is cut off', broken.url, key, 'list', { filter: {}, pageSize: 1 }, { message: other }],
      ['a server that hangs', silent.url, key, 'get', { jobId: 'j' }, { message: /(did not answer within|no answer within)/ }],
      ['a connection that is closed', closed.url, key, 'get', { jobId: 'j' }, { message: /can't be reached/ }],
      ['a connection that is closed, for a log', closed.url, key, 'logs', { jobId: 'j', follow: true }, { message: /broke off and could not be taken up again/ }],
      ['an answer without an end', endless.url, key, 'get', { jobId: 'j' }, { message: /answered more than 64 MiB|did not answer within|no answer within/ }],
      ['a log in one endless line', endless.url, key, 'logs', { jobId: 'j', follow: true }, { message: /which is not Switchyard's API/ }],
      ['an artifact store that is down', (await artifactsAt(`${down}/a`)).url, key, 'download', { jobId: 'j', path: 'a', to: join(tmpdir(), 'never') }, { message: /the artifact store can't be reached/ }],
      ['an artifact store that breaks off', (await artifactsAt(closed.url)).url, key, 'download', { jobId: 'j', path: 'a', to: join(tmpdir(), 'never') }, { message: /the artifact store can't be reached/ }],
      ['an artifact store that refuses', (await artifactsAt(moved.url)).url, key, 'download', { jobId: 'j', path: 'a', to: join(tmpdir(), 'never') }, { message: /the artifact store answered 302 for/ }],
      ['a key of idempotency that no header holds', url, key, 'enqueue', { spec: spec(), requestKey: 'a\r\nb: c' }, { message: /(request_key|RequestKey): must be 1 to 255 printable ASCII characters/ }],
      ['an address with blanks', 'http://exa mple/', key, 'check', {}, { message: /is no address of an API/ }],
      ['an address with a line end', `${url}\n`, key, 'check', {}, { message: /is no address of an API/ }],
      ['a job that there is not', url, key, 'get', { jobId: 'no ☃/../x' }, { status: 404, code: 'SWY_JOB_UNKNOWN' }],
      ['a log of a job that there is not', url, key, 'logs', { jobId: 'none', follow: true }, { status: 404, code: 'SWY_JOB_UNKNOWN' }],
      ['an id that leads elsewhere', url, key, 'cancel', { jobId: '..' }, { message: /"\.\."|'\.\.'/ }],
      ['no id', url, key, 'logs', { jobId: '', follow: true }, { message: /is no id of a job/ }],
      ['a job that is wrong twice', url, key, 'enqueue', { spec: { repository: '', steps: [] } }, { status: 422, code: 'SWY_INPUT_INVALID', problems: [expect.stringContaining('repository'), expect.stringContaining('steps')] }],
    ]
    for (const [what, where, with_, op, args, expected] of table) {
      let error: Raised
      try {
        // Whoever answers has the time of a busy machine; whoever never does is not waited for.
        await connect(where, with_, { maxRetries: 0, timeoutMs: [silent.url, endless.url].includes(where) || where.includes('nowhere') ? 1_000 : 30_000 })
        error = await raised(op, args)
      } catch (failed) {
        if (!(failed instanceof RaisedError)) throw failed
        error = failed.raised
      }
      const { message, ...rest } = expected
      expect({ what, ...error }).toMatchObject({ what, ...rest, ...(message === undefined ? {} : { message: expect.stringMatching(message as RegExp) as string }) })
      expect(error.kind, what).not.toBe('none')
      // One sentence, without a key.
      expect(error.message.split('\n'), what).toHaveLength(1)
      if (with_.trim() !== '') expect(error.message, what).not.toContain(with_.trim())
    }
  })
})

interface Answer {
  readonly status: number
  readonly type: string
  readonly body: string
  readonly headers?: Readonly<Record<string, string>>
}

/** A server that is none of Switchyard's. @param answer `drop` closes the connection, `endless` sends more and more, undefined never answers. */
async function answering(answer: (request: { readonly headers: NodeJS.Dict<string | string[]> }) => Answer | 'drop' | 'endless' | undefined) {
  let count = 0
  const server = createServer((request, response) => {
    count++
    const given = answer(request)
    if (given === 'drop') request.socket.destroy()
    else if (given === 'endless') {
      response.writeHead(200, { 'content-type': request.headers.accept === 'text/event-stream' ? 'text/event-stream' : 'application/json' })
      const more = () => {
        while (!response.destroyed && response.write(' '.repeat(1 << 20)));
      }
      response.on('drain', more)
      more()
    }
    else if (given !== undefined) response.writeHead(given.status, { 'content-type': given.type, ...given.headers }).end(given.body)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  after(() => {
    server.closeAllConnections()
    server.close()
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, count: () => count }
}

/** A job in hand, whose output is written as its supervisor does. */
async function running(jobId: string) {
  const store = new RunStore(redis.connect(), redis.keys)
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
