import { readFile, readdir } from 'node:fs/promises'
import * as vitest from 'vitest'
import { describeProviderConformance } from '../../src/providers/conformance/index.js'
import { clientProgram } from './client-program.js'
import { leftToJobs } from './conformance-in-ci.js'
import { startDaytona, type DaytonaFixture } from './daytona-fixture.js'

let daytona: DaytonaFixture

describeProviderConformance(
  {
    name: 'daytona',
    git: 'embedded',
    skip: leftToJobs,
    create: async () => {
      daytona = await startDaytona({ pool: { cpu: 50, memoryGiB: 50, diskGiB: 150 }, startDelayMs: 50 })
      return { provider: daytona.provider, another: async () => daytona.another(), countProcesses, cleanup: daytona.close }
    },
    client: () => clientProgram('daytona', { apiUrl: daytona.server.apiUrl }, { DAYTONA_API_KEY: daytona.server.apiKey }),
  },
  vitest,
)

async function countProcesses(marker: string): Promise<number> {
  const ids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  // A process that ended in between has no arguments to read.
  const lines = await Promise.all(ids.map((id) => readFile(`/proc/${id}/cmdline`, 'utf8').catch(() => '')))
  return lines.filter((line) => line.includes(marker)).length
}
