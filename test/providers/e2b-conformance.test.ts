import * as vitest from 'vitest'
import { describeProviderConformance } from '../../src/providers/conformance/index.js'
import { countProcesses, startE2b } from './e2b-fixture.js'

describeProviderConformance(
  {
    name: 'e2b',
    git: 'embedded',
    create: async () => {
      const fixture = await startE2b({ plan: { maxConcurrent: 40 } })
      return { provider: fixture.provider, another: async () => fixture.another(), countProcesses, cleanup: () => fixture.close() }
    },
  },
  vitest,
)
