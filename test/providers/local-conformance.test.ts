import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import * as vitest from 'vitest'
import { describeProviderConformance } from '../../src/providers/conformance/index.js'
import { LocalProvider } from '../../src/providers/local/index.js'
import { bubblewrapWorks } from './local-sandboxes.js'

for (const isolation of ['bubblewrap', 'none'] as const) {
  if (isolation === 'bubblewrap' && !bubblewrapWorks) {
    vitest.describe.skip('provider conformance: local with bubblewrap, which does not work here')
    continue
  }
  describeProviderConformance(
    {
      name: `local, isolation ${isolation}`,
      git: 'embedded',
      create: async () => {
        const stateDir = await mkdtemp(join(tmpdir(), 'switchyard-local-'))
        const another = async () => new LocalProvider({ stateDir, isolation })
        return {
          provider: await another(),
          another,
          countProcesses: async (marker) => {
            const { stdout } = await promisify(execFile)('ps', ['-eo', 'stat=,comm=,args='])
            return stdout.split('\n').filter((line) => /^[^Z]\S*\s+sleep\s/.test(line) && line.includes(marker)).length
          },
          cleanup: () => rm(stateDir, { recursive: true }),
        }
      },
    },
    vitest,
  )
}
