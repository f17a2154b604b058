import * as vitest from 'vitest'
import { describeProviderConformance } from '../../src/providers/conformance/index.js'
import { countProcesses, startModal } from './modal-fixture.js'

describeProviderConformance(
  {
    name: 'modal',
    git: 'embedded',
    create: async () => {
      const fixture = await startModal({ pageSize: 7 })
      return { provider: fixture.provider, another: async () => fixture.another(), countProcesses, cleanup: () => fixture.close() }
    },
  },
  vitest,
)
