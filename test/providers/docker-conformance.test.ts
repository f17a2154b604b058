import * as vitest from 'vitest'
import { describeProviderConformance } from '../../src/providers/conformance/index.js'
import { podmanUnavailable } from '../servers/podman.js'
import { clientProgram } from './client-program.js'
import { leftToJobs } from './conformance-in-ci.js'
import { startDocker, type DockerFixture } from './docker-fixture.js'
import { countProcesses } from './e2b-fixture.js'

const unavailable = await podmanUnavailable()
let fixture: DockerFixture

if (unavailable === undefined) {
  describeProviderConformance(
    {
      name: 'docker (podman)',
      git: 'embedded',
      skip: leftToJobs,
      create: async () => {
        fixture = await startDocker()
        return { provider: fixture.provider, another: async () => fixture.another(), countProcesses, cleanup: () => fixture.close() }
      },
      client: () => clientProgram('docker', { socketPath: fixture.engine.socketPath, image: fixture.engine.image, network: 'host' }, {}),
    },
    vitest,
  )
} else {
  vitest.it.skip(`provider conformance: docker: ${unavailable}`, () => undefined)
}
