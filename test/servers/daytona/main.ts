/** `npm run server:daytona -- --port 4300 --key dtn_test_key`: the Daytona server by itself, until it is interrupted. */
import { parseArgs } from 'node:util'
import { startDaytonaServer } from './server.js'

const { values } = parseArgs({
  options: { port: { type: 'string', default: '4300' }, key: { type: 'string', default: 'dtn_test_key' } },
})
const server = await startDaytonaServer({ port: Number(values.port), apiKey: values.key })
console.log(`Daytona's API: ${server.apiUrl} (key ${server.apiKey}); faults and counters: ${server.url}/admin/state`)
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => void server.close().then(() => process.exit(0)))
}
