/**
 * Brings each alert of deploy/prometheus/alerts.yml about by a real fault, in a real Prometheus that scrapes a deployment on this machine, and then asks
 * it every query of the dashboards: `npm run observability`. Windows and thresholds of the rules are shortened to seconds; the queries are the same.
 */
import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Queue } from 'bullmq'
import { parse } from 'yaml'
import { dashboards } from '../../script/write-dashboards.js'
import { subscribe } from '../../src/events/index.js'
import { InfrastructureError } from '../../src/job/errors.js'
import type { GitHost } from '../../src/git/index.js'
import { deploymentFigures, PrometheusMetrics, startMonitorServer } from '../../src/monitor/index.js'
import { sandboxTags, type Provider } from '../../src/providers/provider.js'
import { createRedis } from '../../src/store/index.js'
import type { Consumer } from '../../src/consumers/index.js'
import { makePlace } from '../cli/run-switchyard.js'
import { altered, startDeployment, until } from '../e2e/deployment.js'
import { startPrometheus } from './prometheus.js'

/** For a fault to show; a machine with other work takes long for a job. */
const patienceMs = Number(process.env['PATIENCE_MS'] ?? 180_000)
/** Some of the alerts, with commas; all, and the dashboards, when left out. */
const only = process.env['ALERTS']?.split(',')
const began = Date.now()
const say = (text: string) => process.stdout.write(`${((Date.now() - began) / 1000).toFixed(0).padStart(4)} s  ${text}\n`)

/** Rules whose windows and thresholds are of seconds. */
function hurried(text: string): string {
  return text
    .replaceAll(/for: \d+[mh]/g, 'for: 1s')
    .replaceAll(/\[(?:5m|15m|1h)\]/g, '[20s]')
    .replaceAll(/> (1800|900|3600)\b/g, '> 2')
    .replaceAll(/> 3$/gm, '> 0')
}

const deployment = await startDeployment({ limits: [3, 3] })
await deployment.seed('acme/web', { 'README.md': 'hello\n' })
const place = await makePlace()
const redisUrl = deployment.redis.url
const side = createRedis({ url: redisUrl }, 'producer')
const closers: (() => Promise<unknown>)[] = []

/** What the faults switch on. */
const broken = { creates: false, kills: false, listing: false, writes: false }
const refuse = (message: string, kind: 'provider-down' | 'transient') => new InfrastructureError({ kind, source: 'fault', message })
const faulty = (real: Provider): Provider =>
  altered<Provider>(real, {
    create: async (request, options) => {
      if (broken.creates) throw refuse('the provider is down', 'provider-down')
      return await real.create(request, options)
    },
    kill: async (id, options) => {
      if (broken.kills) throw refuse('the provider does not kill', 'transient')
      await real.kill(id, options)
    },
    async *list(tags, options) {
      if (broken.listing) await new Promise(() => undefined)
      yield* real.list(tags, options)
    },
  })
const git: GitHost = altered<GitHost>(deployment.host, {
  writeAccess: async (...args: Parameters<GitHost['writeAccess']>) => {
    if (broken.writes) throw new InfrastructureError({ kind: 'transient', source: 'git', message: 'the git host is away' })
    return await deployment.host.writeAccess(...args)
  },
})

async function measured(stuck: () => number): Promise<{ metrics: PrometheusMetrics; url: string }> {
  const figures = createRedis({ url: redisUrl }, 'producer')
  const metrics = new PrometheusMetrics({ figures: () => deploymentFigures(figures, { patienceMs: 600 }), figuresForMs: 900, stuckLoops: stuck })
  const server = await startMonitorServer({ host: '127.0.0.1', port: 0, stuck: () => [], unready: () => Promise.resolve([]), metrics: () => metrics.scrape() })
  closers.push(async () => {
    await server.close()
    figures.disconnect()
  })
  return { metrics, url: server.url }
}

let consumer: Consumer | undefined
let second: Consumer | undefined
const [one, two] = [await measured(() => consumer?.stuckLoops().length ?? 0), await measured(() => second?.stuckLoops().length ?? 0)]

// A process of its own, to be frozen.
await writeFile(join(place.folder, 'switchyard.config.json'), JSON.stringify({ redis: { url: redisUrl }, http: { port: 0 }, monitor: { port: 0 } }))
const serve = place.run(['serve'])
await serve.saw(/"address":"http/)
const serveUrl = /"address":"(http[^"]+)"/.exec(serve.stderr())?.[1] ?? ''

const rulesText = readFileSync('deploy/prometheus/alerts.yml', 'utf8')
const all = (parse(rulesText) as { groups: { rules: { alert: string }[] }[] }).groups.flatMap(({ rules }) => rules.map(({ alert }) => alert))
const prometheus = await startPrometheus([one.url, two.url, serveUrl], hurried(rulesText))
closers.push(() => prometheus.close())

const fired = new Set<string>()
const watch = setInterval(() => void prometheus.firing().then((names) => names.forEach((name) => fired.add(name)), () => undefined), 500)
const failures: string[] = []
async function fault(alert: string, what: string, work: () => Promise<unknown>): Promise<void> {
  if (only !== undefined && !only.includes(alert)) return
  try {
    await work()
    await until(`${alert} to fire`, () => fired.has(alert), patienceMs)
    say(`${alert} fired: ${what}`)
  } catch (error) {
    failures.push(`${alert}: ${String(error)}`)
    say(`${alert} DID NOT FIRE (${what}): ${String(error)}`)
  }
}

const spec = (fields: object = {}) => ({ repository: 'acme/web', steps: ['true'], push: false as const, ...fields })
const settings = { maxAttempts: 1, stuckAfterMs: 1_000, reapIntervalMs: 1_000, reapGraceMs: 0, callTimeoutMs: 5_000, createTimeoutMs: 20_000 }
const options = {
  git,
  providers: deployment.providers.map((provider) => ({ provider: faulty(provider), limit: { sandboxes: 3 }, price: { perSandboxHour: 3 } })),
  settings,
  events: { maxCount: 100_000, maxBytes: 1_024, maxAgeMs: 86_400_000 },
  webhooks: { endpoints: [{ name: 'gone', url: 'http://127.0.0.1:9/hook', secretName: 'HOOK_SECRET', events: ['completed' as const] }], allowNetworks: ['127.0.0.0/8'], signingSecrets: () => `whsec_${Buffer.alloc(32, 7).toString('base64')}`, backoffMs: () => 500 },
}
const ended = async (...jobs: { result(options: { timeoutMs: number }): Promise<unknown> }[]) => await Promise.all(jobs.map((job) => job.result({ timeoutMs: patienceMs })))

/** A hand-over, a promotion and checkpoints, for the dashboards. */
async function handOver(): Promise<void> {
  const long = await deployment.queue.enqueue({ repository: 'acme/web', setup: ['true'], steps: ['for n in 1 2 3 4 5 6; do sleep 1; echo $n > x.txt; done', 'true'], promote: { to: 'done', strategy: 'merge' }, checkpoint: { everySeconds: 5 } })
  await until('its step', async () => (await long.status()).step !== null, patienceMs)
  second = await deployment.startConsumer({ ...options, metrics: two.metrics })
  await consumer?.stop()
  await ended(long)
  say('a job was handed over')
}

/** Every query has an answer somewhere in what was scraped. */
async function askDashboards(): Promise<void> {
  const missing: string[] = []
  for (const { title, rows } of dashboards) {
    for (const [, panels] of rows) for (const panel of panels) for (const [legend, expr] of panel.queries) if ((await prometheus.series(expr, 1_800)) === 0) missing.push(`${title} / ${panel.title} / ${legend}`)
  }
  say(missing.length === 0 ? 'every query of the dashboards is answered' : `no answer to: ${missing.join('; ')}`)
  for (const each of missing) failures.push(`no answer: ${each}`)
}

try {
  await fault('SwitchyardNoConsumer', 'a job waits and there is no consumer', () => deployment.queue.enqueue(spec()))
  const queue = new Queue('agents', { prefix: '{switchyard}', connection: side })
  queue.on('error', () => undefined)
  await fault('SwitchyardQueuePaused', 'the queue is paused', () => queue.pause())
  await queue.resume()
  consumer = await deployment.startConsumer({ ...options, metrics: one.metrics })
  await fault('SwitchyardWebhooksFail', 'a webhook’s receiver is gone', async () => await ended(await deployment.queue.enqueue(spec()), await deployment.queue.enqueue(spec({ steps: ['exit 1'] }))))
  await fault('SwitchyardDeadLetters', 'a reader fails as often as it may', async () => {
    const reader = subscribe({ url: redisUrl }, 'failing', () => Promise.reject(new Error('no')), { from: 'start', attempts: 1 })
    closers.push(() => reader.close())
  })
  await fault('SwitchyardEventsNotRead', 'a reader is gone', async () => {
    await subscribe({ url: redisUrl }, 'gone', () => undefined, { from: 'now' }).close()
    const reader = subscribe({ url: redisUrl }, 'gone', () => undefined, { from: 'now' })
    await until('the group to be there', async () => (await deployment.queue.events.list()).some(({ group }) => group === 'gone'), patienceMs)
    await reader.close()
    await ended(await deployment.queue.enqueue(spec()))
  })
  await fault('SwitchyardEventsTrimmed', 'what that reader has not read is trimmed', async () => {
    await ended(...(await deployment.queue.enqueueMany(Array.from({ length: 3 }, () => spec()))))
    const reader = subscribe({ url: redisUrl }, 'gone', () => undefined, { from: 'now' })
    closers.push(() => reader.close())
  })
  let waiting: Awaited<ReturnType<typeof deployment.queue.enqueueMany>> = []
  await fault('SwitchyardJobsWaitLong', 'all places are taken', async () => {
    waiting = await deployment.queue.enqueueMany(Array.from({ length: 25 }, () => spec({ steps: ['sleep 30'] })))
  })
  await Promise.all(waiting.map((job) => job.cancel('seen')))
  await fault('SwitchyardCheckpointsFail', 'the git host takes no push while a step runs', async () => {
    broken.writes = true
    const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['n=0; while [ $n -lt 600 ]; do echo $n > x.txt; n=$((n+1)); sleep 0.5; [ -f done ] && break; done'], checkpoint: { everySeconds: 5 } })
    await until('it to fire', () => fired.has('SwitchyardCheckpointsFail'), patienceMs)
    broken.writes = false
    await job.cancel('seen')
  })
  broken.writes = false
  await fault('SwitchyardWorkLost', 'a sandbox dies in the middle of a step', async () => {
    const job = await deployment.queue.enqueue(spec({ tenant: 'acme', steps: ['sleep 300'] }))
    await until('its step', async () => (await job.status()).step !== null, patienceMs)
    await new Promise((resolve) => setTimeout(resolve, 3_000))
    const { provider, sandboxId } = await job.status()
    await deployment.providers.find(({ name }) => name === provider)?.kill(sandboxId ?? '', { timeoutMs: 10_000 })
    await ended(job)
  })
  await fault('SwitchyardJobsFailByInfrastructure', 'that job had no attempt left', () => Promise.resolve())
  if (only === undefined) await handOver()
  await fault('SwitchyardSandboxLeaked', 'a sandbox that is nobody’s is not killed', async () => {
    broken.kills = true
    const [provider] = deployment.providers
    await provider?.create({ name: 'leaked-1', tags: sandboxTags({ deployment: 'test', runId: 'nobody', attempt: 1 }), image: undefined, resources: {}, lifetimeMs: 600_000, network: 'open', gitHosts: [] }, { timeoutMs: 30_000 })
  })
  broken.kills = false
  if (only === undefined) await until('the sandbox to be reaped', async () => (await prometheus.series('sum by (provider) (increase(switchyard_sandbox_reaped_total[20s])) > 0', 30)) > 0, patienceMs).catch((error: unknown) => failures.push(String(error)))
  await fault('SwitchyardProviderBreakerOpen', 'the providers are down', async () => {
    broken.creates = true
    await deployment.queue.enqueueMany(Array.from({ length: 4 }, () => spec()))
  })
  broken.creates = false
  await fault('SwitchyardRedisSlow', 'Redis holds commands back', async () => {
    for (let each = 0; each < 4; each++) {
      await side.client('PAUSE', 1_500, 'ALL')
      await new Promise((resolve) => setTimeout(resolve, 2_500))
    }
  })
  if (only === undefined) await askDashboards()
  await fault('SwitchyardLoopStuck', 'a provider’s listing never comes back', async () => {
    broken.listing = true
  })
  await fault('SwitchyardProcessDown', 'a process is frozen', () => Promise.resolve(serve.child.kill('SIGSTOP')))
  await fault('SwitchyardRedisUnreachable', 'Redis does not answer', async () => deployment.redis.freeze())
  deployment.redis.thaw()
} finally {
  clearInterval(watch)
  const unseen = all.filter((name) => !fired.has(name) && (only?.includes(name) ?? true))
  say(`${(only ?? all).length - unseen.length} of ${(only ?? all).length} alerts fired${unseen.length === 0 ? '' : `; not: ${unseen.join(', ')}`}`)
  await Promise.all(closers.map((close) => close().catch(() => undefined)))
  side.disconnect()
  await place.remove()
  void deployment.close().then(() => process.exit(failures.length === 0 && unseen.length === 0 ? 0 : 1))
  setTimeout(() => process.exit(failures.length === 0 && unseen.length === 0 ? 0 : 1), 20_000)
}
