import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { parse } from 'yaml'
import { generateDevelopmentKeys, startRedis, type EmbeddedRedis } from '../../src/embedded/index.js'
import { until } from '../store/fixture.js'
import { makePlace, type Place, type Run } from './run-switchyard.js'

let place: Place
let redis: EmbeddedRedis

const limit = { sandboxes: 1 }

// A provider whose listing never comes back, whatever deadline it is given, once a file is there: a loop that waits for it is really stuck.
const provider = `import { existsSync } from 'node:fs'
const nothing = async () => []
export default ({ name, options }) => ({
  name, kind: 'own', capabilities: { network: {}, resources: {}, maxCommandBytes: 1e6 },
  create: nothing, get: nothing, exec: nothing, kill: nothing, extend: nothing, check: nothing, close: nothing,
  async *list() { if (existsSync(options.stuckFile)) await new Promise(() => undefined) },
})`

beforeAll(async () => {
  ;[place, redis] = await Promise.all([makePlace(), startRedis()])
  await writeFile(join(place.folder, 'key.pem'), generateDevelopmentKeys().privateKey)
  await writeFile(join(place.folder, 'own.mjs'), provider)
  const git = { type: 'code-storage', org: 'acme', privateKeyFile: 'key.pem', storageUrl: 'http://127.0.0.1:9', apiUrl: 'http://127.0.0.1:9' }
  const consumer = { stuckAfterMs: 1_000, reapIntervalMs: 1_000, callTimeoutMs: 1_000, leaseMs: 5_000 }
  const providers = [{ name: 'own', type: 'custom', module: './own.mjs', limit, options: { stuckFile: join(place.folder, 'stuck') } }]
  await writeFile(join(place.folder, 'switchyard.config.json'), JSON.stringify({ redis: { url: redis.url }, git, providers, consumer, monitor: { port: 0 }, http: { port: 0 }, board: { port: 0 } }))
})
afterAll(async () => {
  await place.remove()
  await redis.close()
})

async function addressOf(run: Run): Promise<string> {
  await run.saw(/"address":"http/)
  return /"address":"(http[^"]+)"/.exec(run.stderr())?.[1] ?? ''
}

async function probe(url: string, path: string): Promise<[status: number, problems: readonly string[]]> {
  const answer = await fetch(`${url}${path}`, { signal: AbortSignal.timeout(10_000) })
  return [answer.status, ((await answer.json()) as { problems: string[] }).problems]
}

/** The very check of the compose file, at another port. @returns its exit code. */
async function composeCheck(url: string): Promise<number | null> {
  const { services } = parse(readFileSync('docker-compose.yml', 'utf8'), { merge: true }) as { services: Record<string, { healthcheck: { test: string[] } }> }
  const [, command = '', ...args] = services['consumer']?.healthcheck.test ?? []
  expect(args.at(-1)).toContain('http://127.0.0.1:9464/')
  const child = spawn(command, args.map((text) => text.replace('http://127.0.0.1:9464/', url)), { stdio: 'inherit' })
  const [code] = (await once(child, 'exit')) as [number | null]
  return code
}

it('a frozen consumer fails its probe, one that waits for Redis is not ready and alive, and a stuck one says which loop it is', async () => {
  const consumer = place.run(['consume'])
  const url = await addressOf(consumer)
  await until(async () => (await probe(url, 'readyz'))[0] === 200, 'it to be ready')
  expect(await probe(url, 'healthz')).toEqual([200, []])
  expect(await composeCheck(url)).toBe(0)
  expect(await (await fetch(`${url}metrics`)).text()).toMatch(/^cicd_worker_count\{cicd_pipeline_name="agents",cicd_worker_state="available"\} 1$/m)

  consumer.child.kill('SIGSTOP')
  expect(await composeCheck(url)).not.toBe(0)
  consumer.child.kill('SIGCONT')
  expect(await composeCheck(url)).toBe(0)

  // Its Redis stops answering: no restart mends that.
  redis.freeze()
  try {
    const [status, problems] = await probe(url, 'readyz')
    expect([status, problems[0]]).toEqual([503, expect.stringMatching(/^Redis: /)])
    expect(await probe(url, 'healthz')).toEqual([200, []])
  } finally {
    redis.thaw()
  }
  await until(async () => (await probe(url, 'readyz'))[0] === 200, 'it to be ready again')

  await writeFile(join(place.folder, 'stuck'), '')
  await until(async () => (await probe(url, 'healthz'))[0] === 503, 'it to be called stuck', 40_000)
  expect(await probe(url, 'healthz')).toEqual([503, [expect.stringMatching(/^reaper: stuck for \d+ s$/)]])
  expect(await composeCheck(url)).toBe(1)
  // It still takes jobs, until it is restarted.
  expect((await probe(url, 'readyz'))[0]).toBe(200)
})

it('serve and board answer probes at the same address', async () => {
  for (const command of ['serve', 'board']) {
    const run = place.run([command, '--json'])
    const url = await addressOf(run)
    expect(await probe(url, 'healthz')).toEqual([200, []])
    expect(await probe(url, 'readyz')).toEqual([200, []])
    expect((await fetch(`${url}v1/jobs`)).status).toBe(404)
    const scraped = await (await fetch(`${url}metrics`)).text()
    expect(scraped).toMatch(/^switchyard_queue_jobs\{queue="agents",state="waiting",reason="(no-consumer|turn)"\} 0$/m)
    expect(scraped).toMatch(/^switchyard_redis_up 1$/m)
    expect(scraped).toMatch(/^switchyard_redis_command_duration_seconds_count\{command="[a-z]+"\} [1-9]/m)
    // Where others come in, nobody gets it without a key.
    await run.saw(/"url":"http/)
    const own = /"url":"(http[^"]+)"/.exec(run.stdout())?.[1] ?? ''
    expect((await fetch(`${own}metrics`, { redirect: 'manual' })).status).toBe(401)
    expect((await fetch(`${url}healthz`, { method: 'POST' })).status).toBe(405)
    run.child.kill('SIGTERM')
    expect(await run.ended).toBe(0)
  }
})
