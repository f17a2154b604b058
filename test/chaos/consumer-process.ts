import { readFileSync } from 'node:fs'
import { destination, pino } from 'pino'
import { z } from 'zod'
import { endProcess } from '../../src/cli/end-process.js'
import { createProviders } from '../../src/config/providers.js'
import type { ProviderEntry } from '../../src/config/schema.js'
import { Consumer, secretsFromEnvironment, type ConsumerSettings } from '../../src/consumers/index.js'
import { CodeStorageHost } from '../../src/git/index.js'
import { deploymentFigures, PrometheusMetrics, startMonitorServer } from '../../src/monitor/index.js'
import { createRedis } from '../../src/store/index.js'

/** What a consumer is told, as JSON in its environment. The providers' credentials are in environment variables of their own. */
export interface ConsumerProcessOptions {
  readonly redisUrl: string
  readonly git: { readonly org: string; readonly storageUrl: string; readonly apiUrl: string }
  /** Where the git host's key is read anew for each token. */
  readonly keyFile: string
  readonly providers: readonly ProviderEntry[]
  readonly settings: Partial<ConsumerSettings>
  readonly logFile: string
  /** Its metrics are served, for Prometheus, and its events go to this webhook. */
  readonly watched?: { readonly webhookUrl: string } | undefined
}

/** What the parent may tell: its clock is wrong by so much from now on. What measures time passing is not touched, as by a clock that is set. */
const orders = z.object({ clockByMs: z.number() })
const realNow = Date.now.bind(Date)
let clockByMs = 0
Date.now = () => realNow() + clockByMs
globalThis.Date = new Proxy(Date, {
  construct: (target, args: unknown[]) => Reflect.construct(target, args.length === 0 ? [Date.now()] : args) as object,
})
process.on('message', (message) => {
  clockByMs = orders.parse(message).clockByMs
})

// A consumer in a process of its own, to be killed, frozen and stopped. It says "started" to its parent; SIGTERM stops it.
const told = JSON.parse(process.env['CONSUMER'] ?? '') as ConsumerProcessOptions
const watching = told.watched === undefined ? undefined : await serveMetrics()
const consumer = new Consumer({
  deployment: 'chaos',
  redis: { url: told.redisUrl },
  git: new CodeStorageHost({ ...told.git, privateKey: () => readFileSync(told.keyFile, 'utf8') }),
  providers: await createProviders(told.providers),
  secrets: secretsFromEnvironment([]),
  log: pino({ level: 'debug', base: { pid: process.pid } }, destination({ dest: told.logFile, sync: true })),
  settings: told.settings,
  metrics: watching?.metrics,
  webhooks: told.watched === undefined ? undefined : { endpoints: [{ name: 'chaos', url: told.watched.webhookUrl, secretName: 'S', events: ['completed'] }], allowNetworks: ['127.0.0.0/8'], signingSecrets: () => `whsec_${Buffer.alloc(32, 7).toString('base64')}` },
})
process.once('SIGTERM', () => {
  void consumer.stop().then(() => {
    process.disconnect()
    // As `switchyard consume` does.
    endProcess()
  })
})
await consumer.start()
// The parent may be gone, or may have told it to stop meanwhile.
if (process.connected) process.send?.('started')
if (process.connected && watching !== undefined) process.send?.({ monitor: watching.url })

async function serveMetrics(): Promise<{ readonly metrics: PrometheusMetrics; readonly url: string }> {
  const redis = createRedis({ url: told.redisUrl }, 'commands')
  const metrics = new PrometheusMetrics({ figures: () => deploymentFigures(redis, { patienceMs: 800 }), figuresForMs: 900, stuckLoops: () => consumer.stuckLoops().length })
  const { url } = await startMonitorServer({ host: '127.0.0.1', port: 0, stuck: () => [], unready: () => Promise.resolve([]), metrics: () => metrics.scrape() })
  return { metrics, url }
}
