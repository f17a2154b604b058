import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as vitest from 'vitest'
import { describeProviderConformance } from '../../src/providers/conformance/index.js'
import { LocalProvider } from '../../src/providers/local/index.js'
import { clientProgram } from './client-program.js'
import { processesWith } from './local-sandboxes.js'

/** The conformance suite for the local provider. */
export function describeLocalConformance(isolation: 'bubblewrap' | 'none'): void {
  let stateDir = ''
  describeProviderConformance(
    {
      name: `local, isolation ${isolation}`,
      git: 'embedded',
      create: async () => {
        stateDir = await mkdtemp(join(tmpdir(), 'switchyard-local-'))
        const another = async () => new LocalProvider({ stateDir, isolation })
        return {
          provider: await another(),
          another,
          countProcesses: async (marker) => (await processesWith('sleep', marker)).length,
          cleanup: () => rm(stateDir, { recursive: true, maxRetries: 10 }),
        }
      },
      client: () => clientProgram('local', { stateDir, isolation }, {}),
    },
    vitest,
  )
}
