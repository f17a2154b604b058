import { existsSync, readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type EmbeddedRedis, startRedis } from '../../src/embedded/index.js'
import { createRedis } from '../../src/store/index.js'
import { call, spec } from '../http/fixture.js'
import { makePlace, type Place } from './run-switchyard.js'

let place: Place
let redis: EmbeddedRedis

/** In one process with the others: what a process of its own shows is for ./commands.test.ts. */
const switchyard = (...args: string[]) => place.command(args)

beforeAll(async () => {
  ;[place, redis] = await Promise.all([makePlace(), startRedis()])
  await writeFile(join(place.folder, 'switchyard.config.json'), JSON.stringify({ redis: { url: redis.url }, http: { port: 0 } }))
})
afterAll(async () => {
  await place.remove()
  await redis.close()
})

it('switchyard keys makes, lists and revokes keys, and switchyard serve takes them until it is stopped', async () => {
  const made = await switchyard('keys', 'create', '--name', 'ci', '--scope', 'write', '--tenant', 'acme', '--expires', '90d')
  expect([made.code, made.stderr]).toEqual([0, expect.stringMatching(/^key [0-9a-f]{16}: write for acme; keep it/)])
  const key = made.stdout.trim()
  expect(key).toMatch(/^sy_[0-9a-f]{16}_[\w-]{43}$/)
  const server = place.run(['serve'])
  await server.saw(/HTTP API: http/)
  const url = /HTTP API: (\S+)/.exec(server.stdout())?.[1] ?? ''
  const job = await call<{ jobId: string }>(url, 'POST', '/v1/jobs', { key, body: spec({ env: { TOKEN: 'canary-in-env' } }) })
  expect(job.status).toBe(201)
  expect((await call(url, 'POST', '/v1/jobs', { key: `${key}x`, body: spec() })).status).toBe(401)
  const listed = await switchyard('keys')
  expect(listed.stdout).toMatch(/ci +write +acme +valid +20\S+Z +20\S+Z/)
  const status = await switchyard('status', job.body.jobId, '--json')
  expect(JSON.parse(status.stdout)).toMatchObject({ jobId: job.body.jobId, tenant: 'acme' })

  // An open stream does not hold it up, and its reader learns that it was cut off.
  const stream = await fetch(`${url}v1/jobs/${job.body.jobId}/logs`, { headers: { authorization: `Bearer ${key}` } })
  const revoked = await switchyard('keys', 'revoke', key.slice(3, 19))
  expect([revoked.code, revoked.stdout]).toEqual([0, 'the key is revoked\n'])
  expect((await call(url, 'GET', '/v1/jobs', { key })).status).toBe(401)
  server.child.kill('SIGTERM')
  expect(await server.ended).toBe(0)
  expect(await stream.text()).not.toContain('event: end')

  // What was done is in the log, and no key or variable of a job's.
  expect(server.stderr()).toContain('createJob by')
  const client = createRedis({ url: redis.url }, 'commands')
  const audit = JSON.stringify(await client.xrange('{switchyard}::audit', '-', '+'))
  const keys = JSON.stringify(await Promise.all((await client.keys('*api-key:*')).map((name) => client.hgetall(name))))
  client.disconnect()
  for (const text of [server.stdout(), server.stderr(), listed.stdout, audit, keys]) {
    expect(text).not.toContain(key.slice(20))
    expect(text).not.toContain('canary-in-env')
  }
})

it('both refuse what can’t be, by a sentence', async () => {
  expect(await switchyard('keys', 'create', '--name', 'a', '--scope', 'root')).toMatchObject({ code: 2, stderr: expect.stringContaining('scope: must be "read", "write" or "admin"') as string })
  expect(await switchyard('keys', 'create', '--name', 'a', '--expires', 'soon')).toMatchObject({ code: 2, stderr: expect.stringContaining('--expires: "soon" is not a duration') as string })
  expect(await switchyard('keys', 'revoke', '0123456789abcdef')).toMatchObject({ code: 2, stderr: expect.stringContaining('there is none with the id') as string })
  expect(await switchyard('serve', '--port', '70000')).toMatchObject({ code: 2, stderr: expect.stringContaining('--port') as string })
  expect(await switchyard('serve', '--host', '192.0.2.1')).toMatchObject({ code: 2, stderr: expect.stringContaining("can't listen on 192.0.2.1:0") as string })
})

it('consumers, producers and the board load nothing of the HTTP API', () => {
  const imports = (file: string): string[] => [...readFileSync(file, 'utf8').matchAll(/^(?:import|export) (?!type )[^;]*?from '([^']+)'/gms)].map(([, from = '']) => from)
  const reached = new Set<string>()
  const packages = new Set<string>()
  const visit = (file: string) => {
    if (reached.has(file)) return
    reached.add(file)
    for (const from of imports(file)) {
      if (from.startsWith('.')) visit([resolve(file, '..', from.replace(/\.js$/, '.ts')), resolve(file, '..', from.replace(/\.js$/, '.tsx'))].find((path) => existsSync(path)) ?? from)
      else packages.add(from)
    }
  }
  for (const file of ['src/index.ts', 'src/consumers/index.ts', 'src/monitor/board.ts', 'src/cli/main.ts', 'src/cli/start-consumer.ts']) visit(resolve(file))
  expect(reached.size).toBeGreaterThan(100)
  expect([...packages].filter((name) => /zod-openapi|rate-limiter/.test(name))).toEqual([])
  // The same look finds them where they are.
  visit(resolve('src/http/index.ts'))
  expect([...packages]).toContain('@hono/zod-openapi')
  expect([...packages]).not.toContain('rate-limiter-flexible')
})
