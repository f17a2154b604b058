import { DockerProvider, dockerProviderConfigSchema, type DockerProviderConfigInput } from '../../src/providers/docker/index.js'
import { sandboxTags, type SandboxRequest } from '../../src/providers/provider.js'
import { startPodman, type PodmanServer } from '../servers/podman.js'

export const options = { timeoutMs: 30_000 }
let counter = 0

export interface DockerFixture {
  readonly engine: PodmanServer
  readonly provider: DockerProvider
  another(config?: DockerProviderConfigInput): DockerProvider
  request(changes?: Partial<SandboxRequest>): SandboxRequest
  close(): Promise<void>
}

/**
 * Containers on the host's network, so that they reach this machine's loopback.
 * @param programs what their image has besides busybox and git.
 */
export async function startDocker(config: DockerProviderConfigInput = {}, programs: readonly string[] = []): Promise<DockerFixture> {
  const engine = await startPodman(programs)
  const another: DockerFixture['another'] = (changes = {}) =>
    new DockerProvider(dockerProviderConfigSchema.parse({ socketPath: engine.socketPath, image: engine.image, network: 'host', ...config, ...changes }), {})
  return {
    engine,
    provider: another(),
    another,
    request: (changes = {}) => ({
      name: `docker-test-${++counter}`,
      tags: sandboxTags({ deployment: 'test', runId: `job-${counter}`, attempt: 1 }),
      image: undefined,
      resources: {},
      lifetimeMs: 600_000,
      network: 'open',
      gitHosts: [],
      ...changes,
    }),
    close: () => engine.close(),
  }
}
