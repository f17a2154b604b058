import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import type { Consumer } from '../../src/consumers/index.js'
import type { GitHost } from '../../src/git/index.js'
import { InfrastructureError, type InfrastructureErrorKind } from '../../src/job/errors.js'
import { deploymentFigures, PrometheusMetrics, startMonitorServer } from '../../src/monitor/index.js'
import type { Provider } from '../../src/providers/provider.js'
import { createRedis } from '../../src/store/index.js'
import { makePlace, type Run } from '../cli/run-switchyard.js'
import { altered, startDeployment, unanswered, type Deployment } from '../e2e/deployment.js'
import { startPrometheus, type RunningPrometheus } from './prometheus.js'

/** What faults switch on: calls of every provider, and of the git host, that fail as real ones do. */
export interface Switches {
  creates: boolean
  kills: boolean
  listing: boolean
  writes: boolean
}

/** A deployment on this machine that is broken by faults, with what a real Prometheus says of it. */
export interface Trial {
  readonly deployment: Deployment
  readonly prometheus: RunningPrometheus
  readonly broken: Switches
  /** A connection beside those that are measured. */
  readonly side: ReturnType<typeof createRedis>
  /** A process of its own, to be frozen. */
  readonly serve: Run
  /** How long a job may take. */
  readonly patienceMs: number
  /** The consumer; started when it is asked for first. */
  consumer(): Promise<Consumer>
  /** Starts another one, whose metrics are scraped too; jobs that the first has are handed to it. */
  replaceConsumer(): Promise<void>
  onClose(close: () => Promise<unknown>): void
  close(): Promise<void>
}

/** Rules whose windows and thresholds are of seconds; the queries are the same. */
export function hurried(text: string): string {
  return text
    .replaceAll(/for: \d+[mh]/g, 'for: 1s')
    .replaceAll(/\[(?:5m|15m|1h)\]/g, '[20s]')
    .replaceAll(/> (1800|900|3600)\b/g, '> 1')
    .replaceAll(/> 3$/gm, '> 0')
}

const settings = { maxAttempts: 1, stuckAfterMs: 1_000, reapIntervalMs: 1_000, reapGraceMs: 0, callTimeoutMs: 5_000, createTimeoutMs: 20_000 }

/** @param rules the text of the file of alerts, as Prometheus is to have it. */
export async function startTrial(rules: string, patienceMs: number): Promise<Trial> {
  const closers: (() => Promise<unknown>)[] = []
  const close = async () => {
    for (const each of closers.splice(0).reverse()) await each().catch((error: unknown) => process.stderr.write(`closing: ${String(error)}\n`))
  }
  try {
    const deployment = await startDeployment({ limits: [3, 3] })
    closers.push(() => deployment.close())
    await deployment.seed('acme/web', { 'README.md': 'hello\n' })
    const redisUrl = deployment.redis.url
    const side = createRedis({ url: redisUrl }, 'commands')
    closers.push(() => {
      side.disconnect()
      return Promise.resolve()
    })
    const broken: Switches = { creates: false, kills: false, listing: false, writes: false }

    const receiver = createServer((request, response) => void request.resume().on('end', () => response.writeHead(204).end())).listen(0, '127.0.0.1')
    await once(receiver, 'listening')
    const receiverUrl = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/`
    closers.push(() => {
      receiver.closeAllConnections()
      return Promise.resolve(receiver.close())
    })

    // The first consumer, and the one that takes its place; both are there to be scraped from the beginning.
    const consumers: (Consumer | undefined)[] = [undefined, undefined]
    const measured = async (index: number) => {
      const figures = createRedis({ url: redisUrl }, 'commands')
      const metrics = new PrometheusMetrics({ figures: () => deploymentFigures(figures, { patienceMs: 600 }), figuresForMs: 900, stuckLoops: () => consumers[index]?.stuckLoops().length ?? 0 })
      const server = await startMonitorServer({ host: '127.0.0.1', port: 0, stuck: () => [], unready: () => Promise.resolve([]), metrics: () => metrics.scrape() })
      closers.push(async () => {
        await server.close()
        figures.disconnect()
      })
      return { metrics, url: server.url }
    }
    const scraped = [await measured(0), await measured(1)]
    const start = async (index: number) =>
      (consumers[index] ??= await deployment.startConsumer({
        git: faultyGit(deployment.host, broken),
        providers: deployment.providers.map((provider) => ({ provider: faulty(provider, broken), limit: { sandboxes: 3 }, price: { perSandboxHour: 3 } })),
        settings,
        metrics: scraped[index]?.metrics,
        // Little is kept, so that what nobody has read is trimmed soon.
        events: { maxCount: 100_000, maxBytes: 1_024, maxAgeMs: 86_400_000 },
        webhooks: {
          endpoints: [
            { name: 'gone', url: 'http://127.0.0.1:9/hook', secretName: 'HOOK_SECRET', events: ['completed'] },
            { name: 'there', url: receiverUrl, secretName: 'HOOK_SECRET', events: ['completed'] },
          ],
          allowNetworks: ['127.0.0.0/8'],
          signingSecrets: () => `whsec_${Buffer.alloc(32, 7).toString('base64')}`,
          backoffMs: () => 500,
        },
      }))

    const place = await makePlace()
    closers.push(() => place.remove())
    await writeFile(join(place.folder, 'switchyard.config.json'), JSON.stringify({ redis: { url: redisUrl }, http: { port: 0 }, monitor: { port: 0 } }))
    const serve = place.run(['serve'])
    await serve.saw(/"address":"http/)
    const serveUrl = /"address":"(http[^"]+)"/.exec(serve.stderr())?.[1] ?? ''

    const prometheus = await startPrometheus([...scraped.map(({ url }) => url), serveUrl], rules)
    closers.push(() => prometheus.close())
    let current = 0
    return {
      deployment,
      prometheus,
      broken,
      side,
      serve,
      patienceMs,
      consumer: () => start(current),
      async replaceConsumer() {
        const before = await start(current)
        current++
        await start(current)
        await before.stop()
      },
      onClose: (each) => void closers.push(each),
      close,
    }
  } catch (error) {
    await close()
    throw error
  }
}

const refusal = (kind: InfrastructureErrorKind, source: string, message: string) => new InfrastructureError({ kind, source, message: `${source}: ${message}` })

/** A provider that does not work while it is broken, in its own name: whose fault it is goes by that. */
function faulty(real: Provider, broken: Switches): Provider {
  return altered<Provider>(real, {
    create: async (request, options) => {
      if (broken.creates) throw refusal('provider-down', real.name, 'answers 503 to every create')
      return await real.create(request, options)
    },
    kill: async (id, options) => {
      if (broken.kills) throw refusal('transient', real.name, 'answers 500 to every kill')
      await real.kill(id, options)
    },
    async *list(tags, options) {
      // Whatever deadline it was given.
      if (broken.listing) await unanswered(undefined)
      yield* real.list(tags, options)
    },
  })
}

function faultyGit(real: GitHost, broken: Switches): GitHost {
  return altered<GitHost>(real, {
    writeAccess: async (...call: Parameters<GitHost['writeAccess']>) => {
      if (broken.writes) throw refusal('transient', real.name, 'answers nobody who wants to push')
      return await real.writeAccess(...call)
    },
  })
}
