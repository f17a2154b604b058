import * as vitest from 'vitest'
import { describeProviderConformance } from '../../src/providers/conformance/index.js'
import { startDaytona } from './daytona-fixture.js'

describeProviderConformance(
  {
    name: 'daytona',
    create: async () => {
      const daytona = await startDaytona({ pool: { cpu: 50, memoryGiB: 50, diskGiB: 150 }, startDelayMs: 50 })
      return { provider: daytona.provider, another: async () => daytona.another(), cleanup: daytona.close }
    },
  },
  vitest,
)
