import type { Logger } from 'pino'
import { createArtifactStore } from '../artifacts/index.js'
import { createGitHost } from '../config/git-host.js'
import { eventTypesOf } from '../config/event-types.js'
import { withKeyFiles } from '../config/key-files.js'
import { createProviders, type ConfiguredProvider } from '../config/providers.js'
import type { Config } from '../config/schema.js'
import { Consumer, secretsFromEnvironment } from '../consumers/index.js'

export interface RunningConsumer {
  readonly id: string
  readonly providers: readonly ConfiguredProvider[]
  /** Hands its jobs over and closes what it opened. Sandboxes go on. */
  stop(): Promise<void>
}

/**
 * Starts the consumer that a configuration describes.
 * @throws InvalidInputError for mistakes in the configuration; otherwise as `Consumer.start`.
 */
export async function startConsumer(
  config: Config,
  parts: { readonly directory: string; readonly environment: NodeJS.ProcessEnv; readonly log: Logger; readonly onLeave?: (() => void) | undefined },
): Promise<RunningConsumer> {
  const { directory, log } = parts
  const environment = withKeyFiles(parts.environment, config.keyFiles, directory)
  const git = createGitHost(config.git, { directory, environment })
  const providers = await createProviders(config.providers, { directory, environment })
  const artifacts = config.artifacts === undefined ? undefined : createArtifactStore(config.artifacts, { directory, environment })
  const { secrets, retentionMs, events, ...settings } = config.consumer
  const consumer = new Consumer({
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
    settings,
    retentionMs,
    events,
    eventTypes: eventTypesOf(config),
    onLeave: parts.onLeave,
    webhooks: config.webhooks.deliver ? { ...config.webhooks, signingSecrets: (name) => environment[name] } : undefined,
  })
  const closeProviders = () => Promise.all(providers.map(({ provider }) => provider.close()))
  try {
    await consumer.start()
  } catch (error) {
    await closeProviders()
    throw error
  }
  return {
    id: consumer.id,
    providers,
    async stop() {
      await consumer.stop()
      await closeProviders()
      artifacts?.close()
    },
  }
}
