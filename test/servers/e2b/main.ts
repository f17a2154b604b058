/** Starts the server alone: `npm run server:e2b -- --port 8100 [--max-concurrent 20] [--creates-per-second 1]`. */
import { parseArgs } from 'node:util'
import { startE2bServer } from './server.js'

const { values } = parseArgs({
  options: {
    port: { type: 'string', default: '0' },
    'max-concurrent': { type: 'string', default: '20' },
    'creates-per-second': { type: 'string', default: '0' },
    'api-key': { type: 'string', default: 'e2b_local' },
  },
})
const server = await startE2bServer({
  port: Number(values.port),
  plan: { maxConcurrent: Number(values['max-concurrent']), createsPerSecond: Number(values['creates-per-second']) },
  apiKeys: [values['api-key']],
})
console.log(`E2B's protocol at ${server.url}; E2B_API_URL=${server.url} E2B_SANDBOX_URL=${server.url}`)
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => void server.close())
