/** Runs the server alone: `npm run server:modal -- --port 8810`; `--help` tells the rest. */
import { missingWalls } from '../bubblewrap-places.js'
import { runStandalone } from '../standalone.js'
import { startModalServer } from './server.js'

const options = {
  port: { value: 0, help: 'where the SDK connects; 0 for any free port' },
  adminPort: { value: 0, help: 'where the admin endpoint listens; 0 for any free port' },
  maxSandboxes: { value: 100, help: 'how many sandboxes may run at once' },
  createsPerSecond: { value: 1000, help: 'how many may be created in a second' },
}

await runStandalone('Modal', options, async (values) => {
  const server = await startModalServer(values)
  return {
    // The last one, so that a developer's own ~/.modal.toml has no say.
    remarks: await missingWalls(),
    variables: { MODAL_SERVER_URL: server.url, MODAL_TOKEN_ID: server.tokenId, MODAL_TOKEN_SECRET: server.tokenSecret, MODAL_CONFIG_PATH: '/dev/null' },
    adminUrl: `${server.adminUrl}/admin`,
    close: () => server.close(),
  }
})
