import { pino } from 'pino'
import { afterEach, expect, it } from 'vitest'
import { inMemoryGitHost } from '../../bench/in-memory/git-host.js'
import { InMemoryProvider } from '../../bench/in-memory/provider.js'
import { Consumer, secretsFromEnvironment } from '../../src/consumers/index.js'
import { startRedis, type EmbeddedRedis } from '../../src/embedded/index.js'
import { InfrastructureError } from '../../src/job/errors.js'
import { AgentQueue } from '../../src/producers/index.js'
import type { CallOptions, ExecResult, ShellCommand } from '../../src/providers/provider.js'
import { until } from './deployment.js'

/** Its sandboxes live, and no call gets into any of them while it is `away`. */
class UnreachableProvider extends InMemoryProvider {
  away = false

  override exec(sandboxId: string, command: ShellCommand, options: CallOptions): Promise<ExecResult> {
    if (!this.away) return super.exec(sandboxId, command, options)
    return Promise.reject(new InfrastructureError({ kind: 'transient', source: this.name, message: `${this.name}: exec: bad gateway (502)` }))
  }
}

let redis: EmbeddedRedis
let queue: AgentQueue
let consumer: Consumer
afterEach(async () => {
  await consumer.stop()
  await queue.close()
  await redis.close()
})

async function start(provider: InMemoryProvider, patienceMs: number): Promise<void> {
  redis = await startRedis()
  queue = new AgentQueue({ redis: { url: redis.url } })
  consumer = new Consumer({
    deployment: 'test',
    redis: { url: redis.url },
    git: inMemoryGitHost,
    providers: [{ provider, limit: { sandboxes: 20 } }],
    secrets: secretsFromEnvironment([]),
    log: pino({ level: 'silent' }),
    settings: { leaseMs: 5_000, stallCheckMs: 2_000, readWaitMs: 400, patienceMs, maxAttempts: 2 },
  })
  await consumer.start()
}

const breakerOf = async () => (await queue.providers()).map(({ breaker, openedBy }) => `${breaker} ${openedBy ?? ''}`.trim())[0]

it('an outage that meets many jobs is one outage: no sandbox is given up, the breaker opens once, and a sandbox that answers closes it', { timeout: 300_000 }, async () => {
  const provider = new UnreachableProvider('a')
  await start(provider, 100_000)
  const handles = await queue.enqueueMany(Array.from({ length: 12 }, () => ({ repository: 'bench/jobs', push: false as const, steps: ['sleep 6', 'sleep 0.5'], timeout: '5m' })))
  await until('all jobs run', () => provider.running === 12)
  provider.away = true
  await until('the breaker is open', async () => (await breakerOf()) === 'open data-plane', 60_000)
  const waiting = await Promise.all(handles.map((handle) => handle.status()))
  for (const { reason } of waiting.filter((status) => status.reason !== null)) expect(reason).toMatch(/^waiting for sandbox \S+ at a, which lives but can't be reached, until \d\d:\d\d:\d\d at most/)
  expect(waiting.some(({ reason }) => reason !== null)).toBe(true)
  provider.away = false
  const results = await Promise.all(handles.map((handle) => handle.result({ timeoutMs: 150_000 })))
  expect(results.map(({ status, attempts }) => `${status} ${attempts.length}`)).toEqual(Array.from({ length: 12 }, () => 'succeeded 1'))
  await until('the breaker is closed', async () => (await breakerOf()) === 'closed')
})

it('patience ends by time: then the sandbox is given up, and after the last one the job says why', { timeout: 300_000 }, async () => {
  const provider = new UnreachableProvider('a')
  await start(provider, 1_500)
  const handle = await queue.enqueue({ repository: 'bench/jobs', push: false, steps: ['sleep 6'], timeout: '5m' })
  await until('it runs', () => provider.running === 1)
  provider.away = true
  const result = await handle.result({ timeoutMs: 150_000 })
  expect(result).toMatchObject({ status: 'failed', error: { kind: 'transient', owner: 'provider-data-plane', code: 'SWY_DATA_PLANE_UNREACHABLE' } })
  expect(result.attempts.map(({ outcome }) => outcome)).toEqual(['lost', 'lost'])
})
