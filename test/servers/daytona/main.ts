/** Starts the server alone: `npm run server:daytona -- --port 8200 [--cpu 10] [--creates-per-minute 300] [--api-key …]`. */
import { parseArgs } from 'node:util'
import { startDaytonaServer } from './server.js'

const { values } = parseArgs({
  options: {
    port: { type: 'string', default: '0' },
    cpu: { type: 'string', default: '10' },
    'memory-gib': { type: 'string', default: '10' },
    'disk-gib': { type: 'string', default: '30' },
    'creates-per-minute': { type: 'string', default: '300' },
    'api-key': { type: 'string', default: 'dtn_local' },
  },
})
const server = await startDaytonaServer({
  port: Number(values.port),
  pool: { cpu: Number(values.cpu), memoryGiB: Number(values['memory-gib']), diskGiB: Number(values['disk-gib']) },
  createsPerMinute: Number(values['creates-per-minute']),
  apiKey: values['api-key'],
})
console.log(`Daytona's protocol at ${server.url}; DAYTONA_API_URL=${server.apiUrl} DAYTONA_API_KEY=${server.apiKey}`)
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => void server.close())
