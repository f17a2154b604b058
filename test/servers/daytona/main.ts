/** Runs the server alone: `npm run server:daytona -- --port 8200`; `--help` tells the rest. */
import { missingWalls } from '../bubblewrap-places.js'
import { runStandalone } from '../standalone.js'
import { startDaytonaServer } from './server.js'

const options = {
  port: { value: 0, help: 'where it listens; 0 for any free port' },
  cpu: { value: 10, help: 'vCPUs of the organisation’s pool' },
  memoryGib: { value: 10, help: 'memory of the pool' },
  diskGib: { value: 30, help: 'disk of the pool' },
  createsPerMinute: { value: 300, help: 'how many sandboxes may be created in a minute' },
  minuteMs: { value: 60_000, help: 'how long a minute of a sandbox’s lifetime lasts, in milliseconds' },
  apiKey: { value: 'dtn_local', help: 'the key that is let in' },
}

await runStandalone('Daytona', options, async ({ port, cpu, memoryGib, diskGib, createsPerMinute, minuteMs, apiKey }) => {
  const server = await startDaytonaServer({ port, pool: { cpu, memoryGiB: memoryGib, diskGiB: diskGib }, createsPerMinute, minuteMs, apiKey })
  return {
    remarks: await missingWalls(),
    variables: { DAYTONA_API_URL: server.apiUrl, DAYTONA_API_KEY: server.apiKey },
    adminUrl: `${server.url}/admin`,
    close: () => server.close(),
  }
})
