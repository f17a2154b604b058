import * as vitest from 'vitest'
import { describeProviderConformance } from '../../src/providers/conformance/index.js'
import { clientProgram } from './client-program.js'
import { leftToJobs } from './conformance-in-ci.js'
import { countProcesses, startModal, type ModalFixture } from './modal-fixture.js'

let fixture: ModalFixture

describeProviderConformance(
  {
    name: 'modal',
    git: 'embedded',
    skip: leftToJobs,
    create: async () => {
      fixture = await startModal({ pageSize: 7 })
      return { provider: fixture.provider, another: async () => fixture.another(), countProcesses, cleanup: () => fixture.close() }
    },
    client: () => clientProgram('modal', { serverUrl: fixture.server.url }, { MODAL_TOKEN_ID: fixture.server.tokenId, MODAL_TOKEN_SECRET: fixture.server.tokenSecret }),
  },
  vitest,
)
