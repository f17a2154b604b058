// A consumer in a process of its own, with in-memory providers and git host. It says "started" to its parent, and answers its questions.
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { BatchSpanProcessor, InMemorySpanExporter, NodeTracerProvider } from '@opentelemetry/sdk-trace-node'
import { pino } from 'pino'
import { Consumer, secretsFromEnvironment } from '../../src/consumers/index.js'
import { cpuMs, type Change, type Figures, type ProcessOptions } from './fleet.js'
import { PrometheusMetrics } from '../../src/telemetry/prometheus-metrics.js'
import { inMemoryGitHost } from './git-host.js'
import { InMemoryProvider } from './provider.js'

const told = JSON.parse(process.env['BENCH'] ?? '') as ProcessOptions
const changes: Change[] = []
const delay = monitorEventLoopDelay({ resolution: 1 })
const providers = told.providers.map(({ name, sandboxes }) => ({
  provider: new InMemoryProvider(name, told.recordsChanges ? { onChange: (provider, by) => changes.push({ provider, by, atMs: Date.now() }) } : {}),
  limit: { sandboxes },
}))
const metrics = told.telemetry === 'metrics' ? new PrometheusMetrics() : undefined
if (metrics !== undefined) setInterval(() => void metrics.scrape(), 15_000)
if (told.telemetry === 'traces') {
  const nowhere = new InMemorySpanExporter()
  setInterval(() => nowhere.reset(), 1_000)
  new NodeTracerProvider({ spanProcessors: [new BatchSpanProcessor(nowhere)] }).register()
}
const consumer = new Consumer({
  metrics,
  deployment: 'bench',
  redis: { url: told.redisUrl },
  git: inMemoryGitHost,
  providers,
  secrets: secretsFromEnvironment([]),
  log: pino({ level: 'warn' }),
  settings: { maxJobs: told.maxJobs },
})
await consumer.start()
delay.enable()

process.on('message', (question) => {
  switch (question) {
    case 'changes':
      process.send?.(changes.splice(0))
      return
    case 'cpu':
      process.send?.(cpuMs())
      return
    case 'running':
      process.send?.(providers.reduce((sum, { provider }) => sum + provider.running, 0))
      return
    case 'figures': {
      // Two collections: the first one runs finalizers that let go of more.
      global.gc?.()
      global.gc?.()
      const { heapUsed, external, rss } = process.memoryUsage()
      const figures: Figures = { heapBytes: heapUsed + external, rssBytes: rss, loopDelayP99Ms: delay.percentile(99) / 1e6, loopDelayMaxMs: delay.max / 1e6 }
      process.send?.(figures)
      delay.reset()
      return
    }
    case 'stop':
      void consumer.stop().then(() => process.exit(0))
  }
})
process.send?.('started')
