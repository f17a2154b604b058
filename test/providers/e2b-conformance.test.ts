import * as vitest from 'vitest'
import { describeProviderConformance } from '../../src/providers/conformance/index.js'
import { clientProgram } from './client-program.js'
import { leftToJobs } from './conformance-in-ci.js'
import { countProcesses, startE2b, type E2bFixture } from './e2b-fixture.js'

let fixture: E2bFixture

describeProviderConformance(
  {
    name: 'e2b',
    git: 'embedded',
    skip: leftToJobs,
    create: async () => {
      fixture = await startE2b({ plan: { maxConcurrent: 40 } })
      return { provider: fixture.provider, another: async () => fixture.another(), countProcesses, cleanup: () => fixture.close() }
    },
    client: () => clientProgram('e2b', { apiUrl: fixture.server.url, sandboxUrl: fixture.server.url }, { E2B_API_KEY: fixture.server.apiKey }),
  },
  vitest,
)
