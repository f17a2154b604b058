import type { Logger } from 'pino'
import { createArtifactStore } from '../artifacts/index.js'
import { createGitHost } from '../config/git-host.js'
import { eventTypesOf } from '../config/event-types.js'
import { withKeyFiles } from '../config/key-files.js'
import { createProviders, type ConfiguredProvider } from '../config/providers.js'
import type { Config } from '../config/schema.js'
import { Consumer, secretsFromEnvironment } from '../consumers/index.js'
import { openMeasuring, scrapeOf } from './open-measuring.js'
import { openMonitor } from './open-monitor.js'

export interface RunningConsumer {
  readonly id: string
  readonly providers: readonly ConfiguredProvider[]
  /** Hands its jobs over and closes what it opened. Sandboxes go on. */
  stop(): Promise<void>
}

/**
 * Starts the consumer that a configuration describes.
 * @param parts.signal stops it while it starts; after that `stop` does.
 * @throws InvalidInputError for mistakes in the configuration; otherwise as `Consumer.start`.
 */
export async function startConsumer(
  config: Config,
  parts: { readonly directory: string; readonly environment: NodeJS.ProcessEnv; readonly log: Logger; readonly onLeave?: (() => void) | undefined; readonly signal?: AbortSignal | undefined },
): Promise<RunningConsumer> {
  const { directory, log } = parts
  const environment = withKeyFiles(parts.environment, config.keyFiles, directory)
  const git = createGitHost(config.git, { directory, environment })
  const providers = await createProviders(config.providers, { directory, environment })
  const artifacts = config.artifacts === undefined ? undefined : createArtifactStore(config.artifacts, { directory, environment })
  const { secrets, retentionMs, events, ...settings } = config.consumer
  const measuring = await openMeasuring(config, log, { service: 'switchyard-consumer', environment, always: config.monitor.port !== undefined, stuckLoops: (): number => consumer.stuckLoops().length })
  const consumer: Consumer = new Consumer({
    deployment: config.deployment,
    redis: config.redis,
    queue: config.queue,
    git,
    artifacts,
    providers,
    policy: config.placement.policy,
    costs: config.costs,
    tenants: config.tenants,
    secrets: secretsFromEnvironment(secrets, environment),
    log,
    metrics: measuring.metrics ?? undefined,
    settings,
    retentionMs,
    events,
    eventTypes: eventTypesOf(config),
    onLeave: parts.onLeave,
    webhooks: config.webhooks.deliver ? { ...config.webhooks, signingSecrets: (name) => environment[name] } : undefined,
  })
  const monitor = await openMonitor(config, log, {
    metrics: scrapeOf(measuring),
    stuck: () => consumer.stuckLoops().map(({ loop, quietMs }) => `${loop}: stuck for ${Math.round(quietMs / 1000)} s`),
    unready: async () => (await consumer.readiness()).problems,
  })
  const closeProviders = () => Promise.all(providers.map(({ provider }) => provider.close()))
  const stopNow = () => void consumer.stop()
  try {
    parts.signal?.addEventListener('abort', stopNow)
    if (parts.signal?.aborted !== true) await consumer.start()
  } catch (error) {
    await Promise.all([closeProviders(), monitor?.close(), measuring.close()])
    throw error
  } finally {
    parts.signal?.removeEventListener('abort', stopNow)
  }
  return {
    id: consumer.id,
    providers,
    async stop() {
      await consumer.stop()
      await monitor?.close()
      await measuring.close()
      await closeProviders()
      artifacts?.close()
    },
  }
}
