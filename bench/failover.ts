// From a provider's error to the next provider's create call, with 10,000 jobs queued behind. A consumer supervises 20 jobs; the
// provider at which they run goes down under them, the next one has no place for any of them although the ledger thought so,
// and so on through a row of providers, so that errors of running jobs and of creates take turns. A provider that had no place is asked again two seconds later.
// Redis is real, providers and git host are in memory.
import { setTimeout as delay } from 'node:timers/promises'
import { pino } from 'pino'
import { Consumer, secretsFromEnvironment } from '../src/consumers/index.js'
import { startRedis } from '../src/embedded/index.js'
import { AgentQueue } from '../src/producers/index.js'
import { inMemoryGitHost } from './in-memory/git-host.js'
import { InMemoryProvider } from './in-memory/provider.js'
import { median, report } from './report.js'

const queued = 10_000
const running = 20
const outages = 10

/** When each job's last error was thrown. */
const failedAt = new Map<string, { readonly atMs: number; readonly kind: 'down' | 'full' }>()
const took = { down: [] as number[], full: [] as number[] }
const jobOf = (tags: Readonly<Record<string, string>>) => tags['switchyard-job'] ?? ''
const providers = Array.from({ length: 2 * outages + 1 }, (_, index) => {
  const provider: InMemoryProvider = new InMemoryProvider(`p${String(index).padStart(2, '0')}`, {
    onError: (_name, tags) => failedAt.set(jobOf(tags), { atMs: performance.now(), kind: provider.refusesCreates === undefined ? 'down' : 'full' }),
    onCreateCall: (_name, { tags }) => {
      const failed = failedAt.get(jobOf(tags))
      failedAt.delete(jobOf(tags))
      if (failed !== undefined) took[failed.kind].push(performance.now() - failed.atMs)
    },
  })
  if (index % 2 === 1) provider.refusesCreates = 'capacity'
  return provider
})

const redis = await startRedis()
const queue = new AgentQueue({ redis: { url: redis.url } })
const consumer = new Consumer({
  deployment: 'bench',
  redis: { url: redis.url },
  git: inMemoryGitHost,
  providers: providers.map((provider) => ({ provider, limit: { sandboxes: running } })),
  policy: 'priority',
  secrets: secretsFromEnvironment([]),
  log: pino({ level: 'silent' }),
  settings: { maxJobs: running, maxAttempts: 100 },
})
try {
  await queue.enqueueMany(Array.from({ length: queued + running }, () => ({ repository: 'bench/jobs', push: false as const, steps: ['sleep 3600'], timeout: '2h' })))
  await consumer.start()
  for (let index = 0; index < providers.length; index += 2) {
    const provider = providers[index]
    while (provider !== undefined && provider.running < running) await delay(20)
    // What follows the takes and creates before this outage is no part of it.
    await delay(500)
    if (index + 1 < providers.length) provider?.die('provider-down')
  }
  const percentile = (values: readonly number[], share: number) => Number((values.toSorted((a, b) => a - b)[Math.ceil(values.length * share) - 1] ?? Number.NaN).toFixed(1))
  const all = [...took.down, ...took.full]
  if (all.length < 2 * outages * running) throw new Error(`only ${all.length} errors led to a create`)
  await report('failover', {
    queued,
    runningJobs: running,
    errors: all.length,
    p50Ms: Number(median(all).toFixed(1)),
    p99Ms: percentile(all, 0.99),
    ofRunningJobsP50Ms: percentile(took.down, 0.5),
    ofRunningJobsP99Ms: percentile(took.down, 0.99),
    ofCreatesP50Ms: percentile(took.full, 0.5),
    ofCreatesP99Ms: percentile(took.full, 0.99),
  })
} finally {
  await consumer.stop()
  await queue.close()
  await redis.close()
}
