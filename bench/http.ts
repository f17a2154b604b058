// Enqueuing by HTTP beside `AgentQueue`: one after the other, a thousand at once, and a thousand in one call. The server is a process of its own, as
// `switchyard serve` is, with keys, rate limits and the audit log; Redis is real. `ROUNDS=1000` for more of the first.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { startRedis } from '../src/embedded/index.js'
import { ApiKeys } from '../src/http/index.js'
import { AgentQueue } from '../src/producers/index.js'
import { reportTable } from './report.js'

const rounds = Number(process.env['ROUNDS'] ?? 500)
const atOnce = 1_000
/** Node compiles what runs often. */
const warmUp = 200
const spec = { repository: 'bench/jobs', steps: ['true'], push: false as const }

const redis = await startRedis()
const queue = new AgentQueue({ redis: { url: redis.url } })
const { key } = await new ApiKeys(queue).create({ name: 'bench', scope: 'write' })
const server = spawn(resolve('script/switchyard'), ['serve', '--port', '0', '--json'], { env: { ...process.env, SWITCHYARD_REDIS_URL: redis.url, SWITCHYARD_LOG_LEVEL: 'warn' }, stdio: ['ignore', 'pipe', 'inherit'] })
const [line] = (await once(createInterface(server.stdout), 'line')) as [string]
const { url } = JSON.parse(line) as { url: string }

async function post(path: string, body: unknown, more: Readonly<Record<string, string>> = {}): Promise<void> {
  const response = await fetch(`${url}${path}`, { method: 'POST', headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json', ...more }, body: JSON.stringify(body) })
  const text = await response.text()
  if (response.status !== 201) throw new Error(`${response.status}: ${text}`)
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const from = performance.now()
  await work()
  return performance.now() - from
}

function rowOf(what: string, times: readonly number[], wholeMs?: number): Record<string, number | string> {
  const sorted = times.toSorted((a, b) => a - b)
  const at = (share: number) => Number((sorted[Math.ceil(sorted.length * share) - 1] ?? Number.NaN).toFixed(2))
  return { what, calls: sorted.length, p50Ms: at(0.5), p99Ms: at(0.99), ...(wholeMs === undefined ? {} : { wholeMs: Math.round(wholeMs) }) }
}

async function inTurn(what: string, one: (index: number) => Promise<unknown>): Promise<Record<string, number | string>> {
  for (let index = 0; index < warmUp; index++) await one(index)
  const times: number[] = []
  for (let index = 0; index < rounds; index++) times.push(await timed(() => one(warmUp + index)))
  return rowOf(what, times)
}

async function together(what: string, one: () => Promise<unknown>): Promise<Record<string, number | string>> {
  let times: number[] = []
  const wholeMs = await timed(async () => {
    times = await Promise.all(Array.from({ length: atOnce }, () => timed(one)))
  })
  return rowOf(what, times, wholeMs)
}

const many = Array.from({ length: atOnce }, () => spec)
try {
  await reportTable('http', [
    await inTurn('AgentQueue, one after the other', () => queue.enqueue(spec)),
    await inTurn('HTTP, one after the other', () => post('v1/jobs', spec)),
    await inTurn('HTTP with Idempotency-Key', (index) => post('v1/jobs', spec, { 'idempotency-key': `"${index}"` })),
    await together('AgentQueue, 1,000 at once', () => queue.enqueue(spec)),
    await together('HTTP, 1,000 at once', () => post('v1/jobs', spec)),
    await inTurnOnce('AgentQueue, 1,000 in one call', () => queue.enqueueMany(many)),
    await inTurnOnce('HTTP, 1,000 in one request', () => post('v1/jobs/bulk', { jobs: many })),
  ])
} finally {
  server.kill('SIGTERM')
  await once(server, 'exit')
  await queue.close()
  await redis.close()
}

async function inTurnOnce(what: string, one: () => Promise<unknown>): Promise<Record<string, number | string>> {
  const times: number[] = []
  for (let index = 0; index < 10; index++) times.push(await timed(one))
  return rowOf(what, times)
}
