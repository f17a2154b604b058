import { pino } from 'pino'
import { startRedis } from '../../src/embedded/index.js'
import { Consumer, secretsFromEnvironment } from '../../src/consumers/index.js'
import { AgentQueue } from '../../src/producers/index.js'
import { measureRedis } from '../../src/telemetry/measure-redis.js'
import type { Metrics } from '../../src/telemetry/metrics.js'
import { PrometheusMetrics } from '../../src/telemetry/prometheus-metrics.js'
import { inMemoryGitHost } from './git-host.js'
import { InMemoryProvider } from './provider.js'

/** What measuring one job takes, without the job. */
export interface MetricCalls {
  /** Changes of metrics that a job makes, those by its Redis commands included. */
  readonly changesPerJob: number
  readonly redisCommandsPerJob: number
  /** Processor time of all of them, in microseconds a job. */
  readonly cpuUsPerJob: number
}

type Change = (metrics: Metrics) => void
const redisMetric = 'switchyard.redis.command.duration'

/**
 * Writes down every change of a metric that some jobs make, and makes the same again by themselves, many times: what that takes is not lost among what
 * else the machine does. Redis commands are sent through the same wrapper, to a connection that answers at once, beside one without it.
 */
export async function metricCalls(jobs: number): Promise<MetricCalls> {
  const server = await startRedis()
  const redis = { url: server.url }
  const changes: Change[] = []
  let commands = 0
  const recorder: Metrics = {
    on: true,
    add: (...call) => void changes.push((metrics) => metrics.add(...call)),
    shift: (...call) => void changes.push((metrics) => metrics.shift(...call)),
    declare: () => undefined,
    observe: (...call) => {
      if (call[0] === redisMetric) commands++
      else changes.push((metrics) => metrics.observe(...call))
    },
  }
  const consumer = new Consumer({ metrics: recorder, deployment: 'bench', redis, git: inMemoryGitHost, providers: [{ provider: new InMemoryProvider('a', {}), limit: { sandboxes: 20 } }], secrets: secretsFromEnvironment([]), log: pino({ level: 'silent' }), settings: { maxJobs: 20 } })
  const queue = new AgentQueue({ redis })
  await consumer.start()
  const handles = await queue.enqueueMany(Array.from({ length: jobs }, () => ({ repository: 'bench/jobs', push: false as const, steps: ['true'] })))
  await Promise.all(handles.map((handle) => handle.result()))
  await consumer.stop()
  await queue.close()
  await server.close()

  const metrics = new PrometheusMetrics()
  const changesUs = cpuUs(() => {
    for (const change of changes) change(metrics)
  })
  const send = (connection: object) => cpuUs(() => {
    for (let each = 0; each < commands; each++) (connection as FakeConnection).sendCommand({ name: 'evalsha', args: [`sha-${each % 12}`], resolve: () => undefined, reject: () => undefined })
  })
  const [bare, wrapped] = [fakeConnection(), fakeConnection()]
  measureRedis(wrapped, metrics)
  const commandsUs = Math.max(0, send(wrapped) - send(bare))
  return { changesPerJob: (changes.length + commands) / jobs, redisCommandsPerJob: commands / jobs, cpuUsPerJob: (changesUs + commandsUs) / jobs }
}

interface FakeConnection {
  readonly scriptsSet: Readonly<Record<string, { readonly sha: string }>>
  sendCommand(command: { name: string; args: string[]; resolve: (answer: unknown) => void; reject: (error: Error) => void }): void
}

function fakeConnection(): FakeConnection {
  return { scriptsSet: Object.fromEntries(Array.from({ length: 12 }, (_, index) => [`switchyard:script-${index}`, { sha: `sha-${index}` }])), sendCommand: (command) => command.resolve(null) }
}

/** The median over repetitions of what something takes of the processor, in microseconds; the first ones only warm up. */
function cpuUs(work: () => void): number {
  const taken = Array.from({ length: 60 }, () => {
    const { user } = process.cpuUsage()
    work()
    return process.cpuUsage().user - user
  })
  return taken.slice(20).sort((a, b) => a - b)[20] ?? Number.NaN
}
