/** Runs the server alone: `npm run server:e2b -- --port 8100`; `--help` tells the rest. */
import { missingWalls } from '../bubblewrap-places.js'
import { runStandalone } from '../standalone.js'
import { startE2bServer } from './server.js'

const options = {
  port: { value: 0, help: 'where it listens; 0 for any free port' },
  maxConcurrent: { value: 20, help: 'how many sandboxes may run at once' },
  createsPerSecond: { value: 0, help: 'how many may be created in a second; 0 for no limit' },
  maxLifetimeSeconds: { value: 3600, help: 'the plan’s longest lifetime' },
  apiKey: { value: 'e2b_local', help: 'the key that is let in' },
}

await runStandalone('E2B', options, async ({ port, apiKey, ...plan }) => {
  const server = await startE2bServer({ port, apiKeys: [apiKey], plan })
  return {
    remarks: await missingWalls(),
    variables: { E2B_API_URL: server.url, E2B_SANDBOX_URL: server.url, E2B_API_KEY: apiKey },
    adminUrl: `${server.url}/admin`,
    close: () => server.close(),
  }
})
